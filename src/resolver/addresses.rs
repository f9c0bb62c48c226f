use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::warn;

use super::{MAX_ADDRESSES, ResolveError};
use crate::model::canonical;

/// Whether a peer can have this address: what a blocking or broken name server answers with
/// (0.0.0.0, 127.0.0.1) must not end up on the whitelist.
pub(super) fn is_useful(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

/// The useful ones among the addresses of `name`, sorted and not too many; the log says what was
/// left out.
pub(super) fn useful(
    name: &str,
    found: impl IntoIterator<Item = IpAddr>,
) -> Result<Vec<IpAddr>, ResolveError> {
    let (good, bad): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = found
        .into_iter()
        .map(canonical)
        .partition(|address| is_useful(*address));
    if !bad.is_empty() {
        warn!(
            "ignored addresses of {name} that no peer can have: {}",
            list(&bad)
        );
    }
    if good.len() > MAX_ADDRESSES {
        warn!(
            "{name} has {} addresses; the first {MAX_ADDRESSES} are used",
            good.len()
        );
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, true) => Err(ResolveError::NoAddresses),
        (true, false) => Err(ResolveError::NoUsefulAddresses(list(&bad))),
        _ => Ok(good.into_iter().take(MAX_ADDRESSES).collect()),
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    let shown: Vec<String> = addresses.iter().take(8).map(IpAddr::to_string).collect();
    let rest = if addresses.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    format!("{}{rest}", shown.join(", "))
}
