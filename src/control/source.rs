//! Where packets come from that a gate looks at, and where not.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Refusal;
use super::refusal::printable;
use crate::model::canonical;

const LOOPBACK: &str = "this machine itself: loopback is never gated";

/// Refuses networks that no packet comes from, or none that a gate looks at.
pub(super) fn check(text: &str, net: IpNet) -> Result<(), Refusal> {
    let address = canonical(net.addr());
    let single = net.prefix_len() == net.max_prefix_len();
    let what = if single && address.is_unspecified() {
        "no address that a packet could come from"
    } else if address.is_loopback() {
        LOOPBACK
    } else if address.is_multicast() {
        "multicast, which no packet comes from"
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        "the broadcast address, which no packet comes from"
    } else {
        return Ok(());
    };
    Err(not_a_source(text, what))
}

/// Refuses the names that always mean loopback (RFC 6761, section 6.3).
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let absolute = name.strip_suffix('.').unwrap_or(name);
    let last = absolute.rsplit('.').next().unwrap_or(absolute);
    if last.eq_ignore_ascii_case("localhost") {
        return Err(not_a_source(name, LOOPBACK));
    }
    Ok(())
}

fn not_a_source(text: &str, what: &'static str) -> Refusal {
    Refusal::NotASource {
        text: printable(text),
        what,
    }
}
