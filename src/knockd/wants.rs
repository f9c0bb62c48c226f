//! What a policy wants of the capture and of the resolver.

use std::net::IpAddr;

use crate::capture::{self, FlagMask, Spec};
use crate::links::Links;
use crate::model::{GateName, Proto};
use crate::policy::{GateAddress, Interfaces, Policy, TcpFlags, unlabelled};

use super::roster::Roster;

/// What the kernel's filter is to let through, and which interfaces do not exist: knocks, and
/// connections to ports that nobody has a reason to connect to.
pub(super) fn spec(
    policy: &Policy,
    only: Option<&str>,
    neutral: &[u16],
    links: &Links,
) -> (Spec, Vec<String>) {
    let mut spec = packets(policy, neutral);
    let wanted = match (only, &policy.interfaces) {
        (Some("any"), _) | (None, Interfaces::Any) => return (spec, Vec::new()),
        (Some(name), _) => vec![unlabelled(name).to_owned()],
        (None, Interfaces::Named(names)) => names.clone(),
    };
    let found = links.find(&wanted);
    spec.interfaces = capture::Interfaces::Only(found.indexes);
    (spec, found.missing)
}

/// On any interface.
fn packets(policy: &Policy, neutral: &[u16]) -> Spec {
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
        openings: Vec::new(),
        interfaces: capture::Interfaces::Any,
    };
    // Connection attempts alone: where knocks need not be any, all that others send to this host's
    // own connections would wake us up.
    if !policy.knocks.is_empty() {
        let foreign = (1..=u16::MAX).filter(|port| neutral.binary_search(port).is_err());
        spec.openings.extend(foreign);
    }
    spec.ports.sort_unstable();
    spec.ports.dedup();
    spec.flags
        .sort_unstable_by_key(|mask| (mask.set, mask.clear));
    spec.flags.dedup();
    spec
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{knock, policy};
    use crate::model::KnockPort;
    use crate::policy::KnockAction;

    /// A classic file's knock without TCPFlags has any.
    #[test]
    fn sweeps_are_looked_for_at_every_port_whatever_flags_a_knock_has() {
        let mut any_flags = knock("door", "40000 50000 60000", KnockAction::Accept);
        any_flags.flags = TcpFlags { set: 0, clear: 0 };
        let neutral = [22, 40_001];
        let spec = packets(&policy(Vec::new(), vec![any_flags]), &neutral);
        let knocks = [40_000, 50_000, 60_000].map(KnockPort::tcp);
        assert_eq!(spec.ports, knocks, "with any flags");
        for port in 1..=u16::MAX {
            let is_looked_at = spec.openings.binary_search(&port).is_ok();
            assert_eq!(is_looked_at, !neutral.contains(&port), "{port}");
        }
    }
}
