//! Which of the members that should be in the kernel are not.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

use super::{Desired, Member};
use crate::model::{Chain, GateName, Lifetime, NetMap};

/// Naming more than that helps nobody.
const NAMED: usize = 10;
/// What ends so soon may have ended.
const DOUBT: Duration = Duration::from_secs(3);

/// How a member is called where one says that it is missing.
pub(super) fn name(gate: &GateName, chain: Chain, net: IpNet) -> String {
    let whom = if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    };
    format!("{whom} is not in {gate}_{}", chain.suffix())
}

/// Some names, and how many more there are.
pub(super) fn some(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names
}

/// The members that last and are not among those held. Acceptances of gates with `once` may have
/// been used up and are never missed.
pub(super) fn among(desired: &Desired, held: &[Member]) -> Vec<String> {
    let mut found: HashMap<(&GateName, Chain), NetMap<()>> = HashMap::new();
    for member in held {
        let map = found.entry((&member.gate, member.chain)).or_default();
        map.insert(member.net, ());
    }
    let once = |name: &GateName| desired.gates.iter().any(|g| g.name == *name && g.once);
    let is_missing = |member: &&Member| {
        let lasts = match member.remaining {
            Lifetime::Never => true,
            Lifetime::For(left) => left > DOUBT,
        };
        let counts = member.chain != Chain::Filter || !once(&member.gate);
        let parts = found.get(&(&member.gate, member.chain));
        lasts && counts && !parts.is_some_and(|parts| is_held(parts, member.net))
    };
    let missing = desired.members.iter().filter(is_missing);
    some(missing.map(|m| name(&m.gate, m.chain, m.net)).collect())
}

/// Whether it is there, whole or in parts. That a gate is open to everybody says nothing about
/// anybody.
fn is_held(parts: &NetMap<()>, net: IpNet) -> bool {
    let open = |other: IpNet| other.prefix_len() == 0 && net.prefix_len() > 0;
    if parts.covering(net).any(|(other, ())| !open(other)) {
        return true;
    }
    let bits = |net: IpNet| u32::from(net.max_prefix_len() - net.prefix_len());
    let size = |net: IpNet| 1u128.checked_shl(bits(net)).unwrap_or(u128::MAX);
    let within = parts.within(net);
    within.fold(0u128, |sum, (part, ())| sum.saturating_add(size(part))) >= size(net)
}
