//! What a policy wants of the capture and of the resolver.

use std::net::IpAddr;

use crate::capture::{self, FlagMask, Spec};
use crate::links::Links;
use crate::model::{GateName, KnockPort, Proto};
use crate::policy::{GateAddress, Interfaces, Policy, TcpFlags};

use super::roster::Roster;

/// What the kernel's filter is to let through, and which interfaces do not exist: knocks, and
/// connections to ports that nobody has a reason to connect to.
pub(super) fn spec(
    policy: &Policy,
    only: Option<&str>,
    neutral: &[u16],
    links: &Links,
) -> (Spec, Vec<String>) {
    let mut spec = Spec {
        ports: policy
            .knocks
            .iter()
            .flat_map(|knock| knock.sequence.iter().copied())
            .collect(),
        flags: policy
            .knocks
            .iter()
            .filter(|knock| knock.sequence.iter().any(|port| port.proto == Proto::Tcp))
            .map(|knock| knock.flags)
            .chain([TcpFlags::OPENING])
            .map(|flags| FlagMask {
                set: flags.set,
                clear: flags.clear,
            })
            .collect(),
        interfaces: capture::Interfaces::Any,
    };
    if !policy.knocks.is_empty() {
        let last = last_foreign(&spec.flags);
        let foreign = (1..=last).filter(|port| neutral.binary_search(port).is_err());
        spec.ports.extend(foreign.map(KnockPort::tcp));
    }
    spec.ports.sort_unstable();
    spec.ports.dedup();
    spec.flags
        .sort_unstable_by_key(|mask| (mask.set, mask.clear));
    spec.flags.dedup();
    let wanted = match (only, &policy.interfaces) {
        (Some("any"), _) | (None, Interfaces::Any) => return (spec, Vec::new()),
        (Some(name), _) => vec![unlabelled(name).to_owned()],
        (None, Interfaces::Named(names)) => names.clone(),
    };
    let found = links.find(&wanted);
    spec.interfaces = capture::Interfaces::Only(found.indexes);
    (spec, found.missing)
}

/// `eth0` of `eth0:1`, which is the label of an address and no interface: no name of one has a colon.
pub(super) fn unlabelled(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// The last port at which sweeps are looked for. Where knocks need not be connection attempts, all
/// that others send to this host's own connections would wake us up; their ports are left out
/// (Linux's `net.ipv4.ip_local_port_range` begins at 32768).
fn last_foreign(flags: &[FlagMask]) -> u16 {
    if flags.iter().all(|mask| mask.set & TcpFlags::SYN != 0) {
        u16::MAX
    } else {
        32_767
    }
}

/// The names that whitelist and policy have.
pub(super) fn names(policy: &Policy, roster: &Roster) -> Vec<String> {
    let gates = policy.gates.iter().filter_map(|gate| match &gate.address {
        Some(GateAddress::Name(name)) => Some(name.as_str()),
        _ => None,
    });
    roster.names().chain(gates).map(str::to_lowercase).collect()
}

/// The addresses of gates that are given by name.
pub(super) fn gate_addresses(policy: &Policy, roster: &Roster) -> Vec<(GateName, Vec<IpAddr>)> {
    let named = policy.gates.iter().filter_map(|gate| match &gate.address {
        Some(GateAddress::Name(name)) => Some((gate.name.clone(), roster.addresses(name).to_vec())),
        _ => None,
    });
    named.collect()
}
