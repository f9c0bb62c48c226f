//! What the kernel is told without a daemon: members alone, and all of them or none.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use crate::engine::Engine;
use crate::firewall::{Backend, Change, FirewallError, Member, Observed};
use crate::knockd::answers::{covered, is_host};
use crate::knockd::merge::Held;
use crate::model::{Chain, GateName, NetMap, Time};

pub(super) type Key = (GateName, Chain, IpNet);

pub(super) fn key(member: &Member) -> Key {
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

/// The gates in the kernel that are knockd's: chains of the original script bear their names, and
/// enforce nothing that is decided here.
pub(super) fn ours(held: &Observed) -> HashSet<GateName> {
    let ours = held.gates.iter().filter(|it| !held.originals.contains(it));
    ours.cloned().collect()
}

/// What says which members there are.
pub(super) fn found(held: &Observed) -> Held {
    Held {
        gates: ours(held),
        members: held.members.clone(),
    }
}

/// Says in the words of what was decided what the kernel shows in other pieces: nftables takes no
/// overlaps, and a piece of a network cannot be unbanned. Nobody is banned or let in by that.
pub(super) fn retold(held: &Observed, engine: &Engine, now: Time) -> Vec<Change> {
    let decided = engine.desired(now).members;
    let gates = ours(held).into_iter();
    let retold = gates.flat_map(|gate| retold_at(&gate, &held.members, &decided));
    retold.collect()
}

fn retold_at(gate: &GateName, held: &[Member], decided: &[Member]) -> Vec<Change> {
    let is_network = |m: &&Member| &m.gate == gate && m.chain == Chain::Banned && !is_host(m.net);
    let mut pieces = NetMap::new();
    for piece in held.iter().filter(is_network) {
        pieces.insert(piece.net, ());
    }
    // What the kernel lacks is for catching up, or for the daemon.
    let decided = decided.iter().filter(is_network);
    let decided: Vec<&Member> = decided.filter(|it| covered(&pieces, it.net)).collect();
    let mut known = NetMap::new();
    for member in &decided {
        known.insert(member.net, ());
    }
    // A piece that says more than what was decided stays; its parts would change nothing then.
    let says_more = |piece: IpNet| !covered(&known, piece);
    let shown = |net: IpNet| {
        pieces.get(net).is_some() || pieces.covering(net).any(|(piece, ())| says_more(piece))
    };
    let put = decided.into_iter().filter(|member| !shown(member.net));
    let put = put.map(|member| Change::Put(member.clone()));
    let gone = pieces.iter().map(|(piece, ())| piece);
    let gone = gone.filter(|piece| known.get(*piece).is_none() && !says_more(*piece));
    let gone = gone.map(|piece| remove((gate.clone(), Chain::Banned, piece)));
    put.chain(gone).collect()
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
    use crate::engine::{Event, Kept};
    use crate::firewall::Desired;
    use crate::firewall::memory::Memory;
    use crate::fixtures::appliance;
    use crate::knockd::merge::{Remembered, merge};
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

    fn holding(trusted: &[&str], restore: &[Kept], adopt: &[Member]) -> Engine {
        let mut engine = Engine::new(appliance());
        let trusted = trusted
            .iter()
            .map(|net| (net.parse().unwrap(), String::new()));
        for event in [
            Event::Whitelist(trusted.collect()),
            Event::Restore(restore.to_vec()),
            Event::Adopt(adopt.to_vec()),
        ] {
            drop(engine.handle(event, NOW));
        }
        engine
    }

    fn shown(members: &[Member]) -> Observed {
        Observed {
            gates: vec![GateName::new("ssh").unwrap()],
            members: members.to_vec(),
            originals: Vec::new(),
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
        let engine = holding(&[], &restore, &held[3..]);
        let mut changes = retold(&shown(&held), &engine, NOW);
        changes.sort_by_key(key_of);
        let gone = [&held[0], &held[2]].map(|m| remove(key(m)));
        let put = Change::Put(banned("10.0.0.0/22", Some(60)));
        let mut expected = vec![put, gone[0].clone(), gone[1].clone()];
        expected.sort_by_key(key_of);
        assert_eq!(changes, expected);
        let engine = holding(&[], &restore[1..], &[]);
        assert_eq!(retold(&shown(&held[1..2]), &engine, NOW), []);
    }

    #[test]
    fn what_the_kernel_lacks_is_not_told_as_pieces() {
        let restore = [kept("198.51.100.0/24", None)];
        let engine = holding(&[], &restore, &[]);
        let part = [banned("198.51.100.0/25", None)];
        assert_eq!(retold(&shown(&[]), &engine, NOW), []);
        assert_eq!(retold(&shown(&part), &engine, NOW), []);
        // At a gate without chains of ours.
        let whole = ["198.51.100.0/25", "198.51.100.128/25"].map(|net| banned(net, None));
        let mut held = shown(&whole);
        assert_eq!(retold(&held, &engine, NOW).len(), 3);
        held.originals = held.gates.clone();
        assert_eq!(retold(&held, &engine, NOW), []);
        held = shown(&whole);
        held.gates.clear();
        assert_eq!(retold(&held, &engine, NOW), []);
    }

    #[test]
    fn whoever_is_trusted_by_now_is_not_banned_with_a_network() {
        let restore = [kept("198.51.100.0/24", None)];
        let engine = holding(&["198.51.100.7/32"], &restore, &[]);
        assert_eq!(retold(&shown(&[]), &engine, NOW), []);
        let halves = ["198.51.100.0/25", "198.51.100.128/25"].map(|net| banned(net, None));
        assert_eq!(retold(&shown(&halves), &engine, NOW), []);
        // Nor is anybody let in: the parts that are left are not all of them networks.
        assert_eq!(
            retold(&shown(&[banned("198.51.100.0/24", None)]), &engine, NOW),
            []
        );
    }

    #[test]
    fn chains_of_the_original_script_do_not_say_who_is_in() {
        let mut held = shown(&[]);
        let remembered = || Remembered {
            members: vec![kept("192.0.2.7/32", None)],
            this_boot: true,
            ..Remembered::default()
        };
        let restored = |held: &Observed| merge(found(held), remembered(), |_| false, NOW).restore;
        assert_eq!(restored(&held), []);
        held.originals = held.gates.clone();
        assert_eq!(restored(&held), remembered().members);
    }
}
