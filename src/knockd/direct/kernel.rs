//! What the kernel is told without a daemon: members alone, and all of them or none.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use crate::engine::Kept;
use crate::firewall::{Backend, Change, FirewallError, Member};
use crate::knockd::answers::is_host;
use crate::model::{Chain, GateName, Time};

type Key = (GateName, Chain, IpNet);

fn key(member: &Member) -> Key {
    (member.gate.clone(), member.chain, member.net)
}

fn key_of(change: &Change) -> Key {
    match change {
        Change::Put(member) => key(member),
        Change::Remove { gate, chain, net } => (gate.clone(), *chain, *net),
    }
}

fn remove((gate, chain, net): Key) -> Change {
    Change::Remove { gate, chain, net }
}

/// From one state to another.
pub(super) fn difference(before: &[Member], after: &[Member]) -> Vec<Change> {
    let old: HashMap<Key, &Member> = before.iter().map(|member| (key(member), member)).collect();
    let new: HashSet<Key> = after.iter().map(key).collect();
    let put = after
        .iter()
        .filter(|member| old.get(&key(member)) != Some(member));
    let gone = before.iter().map(key).filter(|key| !new.contains(key));
    let put = put.map(|member| Change::Put(member.clone()));
    put.chain(gone.map(remove)).collect()
}

/// Says in the words of what was decided what the kernel shows in other pieces: nftables takes no
/// overlaps, and a piece of a network cannot be unbanned. Nobody is banned or let in by that.
pub(super) fn retold(
    held: &[Member],
    restore: &[Kept],
    adopt: &[Member],
    now: Time,
) -> Vec<Change> {
    let is_network = |chain: Chain, net: IpNet| chain == Chain::Banned && !is_host(net);
    let pieces = held.iter().filter(|m| is_network(m.chain, m.net));
    let pieces: HashSet<Key> = pieces.map(key).collect();
    let decided = restore.iter().filter(|k| is_network(k.chain, k.net));
    let decided: HashMap<Key, &Kept> = decided
        .map(|kept| ((kept.gate.clone(), kept.chain, kept.net), kept))
        .collect();
    let adopted: HashSet<Key> = adopt.iter().map(key).collect();
    let put = decided.iter().filter(|(key, _)| !pieces.contains(key));
    let put = put.map(|((gate, chain, net), kept)| {
        Change::Put(Member {
            gate: gate.clone(),
            chain: *chain,
            net: *net,
            remaining: kept.deadline.remaining(now),
            reason: kept.reason.clone(),
        })
    });
    let gone = pieces
        .iter()
        .filter(|key| !decided.contains_key(key) && !adopted.contains(key));
    put.chain(gone.cloned().map(remove)).collect()
}

/// Carries all the changes out or none of them: where the kernel has no transactions, what was
/// written before the one that failed is taken back.
pub(super) fn write(
    firewall: &mut dyn Backend,
    changes: &[Change],
    before: &[Member],
) -> Result<(), String> {
    let Err(error) = firewall.apply(changes) else {
        return Ok(());
    };
    let left = take_back(firewall, changes, before);
    Err(match left {
        None => error.to_string(),
        Some((what, why)) => format!(
            "{error}; {what} could not be taken back: {why} (start knockd, which puts all of it right)"
        ),
    })
}

/// The first that could not be, and why. What there was is put back before anything goes.
fn take_back(
    firewall: &mut dyn Backend,
    changes: &[Change],
    before: &[Member],
) -> Option<(IpNet, FirewallError)> {
    let touched: HashSet<Key> = changes.iter().map(key_of).collect();
    let old = before
        .iter()
        .filter(|member| touched.contains(&key(member)));
    let old: HashMap<Key, &Member> = old.map(|member| (key(member), member)).collect();
    let back = old.values().map(|member| Change::Put((*member).clone()));
    let new = touched.iter().filter(|key| !old.contains_key(key));
    let all: Vec<Change> = back.chain(new.cloned().map(remove)).collect();
    let mut failed = None;
    for change in &all {
        // One by one: the others are not to suffer from one that fails.
        if let Err(error) = firewall.apply(std::slice::from_ref(change)) {
            failed.get_or_insert((key_of(change).2, error));
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Engine;
    use crate::firewall::Desired;
    use crate::firewall::memory::Memory;
    use crate::fixtures::appliance;
    use crate::model::{Deadline, Lifetime};

    const NOW: Time = Time::from_secs(1_000);

    fn banned(net: &str, left: Option<u64>) -> Member {
        Member {
            gate: GateName::new("ssh").unwrap(),
            chain: Chain::Banned,
            net: net.parse().unwrap(),
            remaining: left.map_or(Lifetime::Never, |s| Lifetime::For(Duration::from_secs(s))),
            reason: "by hand".into(),
        }
    }

    fn kept(net: &str, left: Option<u64>) -> Kept {
        let member = banned(net, left);
        Kept {
            gate: member.gate,
            chain: member.chain,
            net: member.net,
            deadline: left.map_or(Deadline::Never, |s| {
                Deadline::At(NOW.after(Duration::from_secs(s)))
            }),
            reason: member.reason,
            by_knock: None,
        }
    }

    fn error() -> FirewallError {
        FirewallError::Unverified("no memory".into())
    }

    fn members(firewall: &mut dyn Backend) -> Vec<Member> {
        let mut all = firewall.observe().unwrap().unwrap().members;
        all.sort_by_key(key);
        all
    }

    #[test]
    fn a_change_that_fails_on_the_way_is_taken_back() {
        let gates = Engine::new(appliance()).desired(NOW).gates;
        let before = [
            banned("198.51.100.0/24", Some(60)),
            banned("192.0.2.1/32", None),
        ];
        let changes = [
            Change::Put(banned("198.51.100.128/25", Some(60))),
            Change::Put(banned("192.0.2.1/32", Some(5))),
            Change::Put(banned("198.51.100.0/25", Some(60))),
            remove(key(&before[0])),
        ];
        for done in 0..changes.len() {
            let mut firewall = Memory::new(|| NOW);
            let desired = Desired {
                gates: gates.clone(),
                members: before.to_vec(),
                sessions: Vec::new(),
            };
            firewall.install(&desired).unwrap();
            let old = members(&mut firewall);
            firewall.fail_after(done, error());
            let said = write(&mut firewall, &changes, &before).unwrap_err();
            assert_eq!(said, error().to_string());
            assert_eq!(members(&mut firewall), old, "after {done}");
            assert!(write(&mut firewall, &changes, &before).is_ok());
            assert_eq!(members(&mut firewall).len(), 3);
        }
    }

    #[test]
    fn what_the_kernel_shows_in_pieces_is_told_as_it_was_decided() {
        let held = [
            banned("10.0.0.0/24", Some(60)),
            banned("10.0.1.0/24", None),
            banned("10.0.2.0/23", Some(60)),
            banned("10.9.0.0/16", None),
            banned("192.0.2.1/32", None),
        ];
        let restore = [kept("10.0.0.0/22", Some(60)), kept("10.0.1.0/24", None)];
        let mut changes = retold(&held, &restore, &held[3..4], NOW);
        changes.sort_by_key(key_of);
        let gone = [&held[0], &held[2]].map(|m| remove(key(m)));
        let put = Change::Put(banned("10.0.0.0/22", Some(60)));
        let mut expected = vec![put, gone[0].clone(), gone[1].clone()];
        expected.sort_by_key(key_of);
        assert_eq!(changes, expected);
        assert_eq!(retold(&held[1..2], &restore[1..], &[], NOW), []);
    }
}
