//! How much time members have left.

use std::time::Duration;

use ipnet::IpNet;

use portcullis::firewall::Member;
use portcullis::model::Lifetime;

pub(crate) fn left(members: &[Member], net: &str) -> Lifetime {
    let net: IpNet = net.parse().unwrap();
    let member = members.iter().find(|m| m.net == net);
    member
        .unwrap_or_else(|| panic!("{net} is missing"))
        .remaining
}

/// Asserts that about so much is left: at most two seconds less.
pub(crate) fn assert_left(members: &[Member], net: &str, secs: u64) {
    let Lifetime::For(left) = left(members, net) else {
        panic!("{net} stays for ever");
    };
    let most = Duration::from_secs(secs) + Duration::from_millis(50);
    assert!(
        left <= most && left + Duration::from_secs(2) >= most,
        "{net} has {left:?}, not {secs} s"
    );
}
