use std::time::Duration;

use super::*;
use crate::policy::{Hook, Verdict};

fn gate() -> GateName {
    GateName::new("ssh").unwrap()
}

fn rules(ipv6_prefix: u8) -> GateRules {
    GateRules {
        name: gate(),
        ports: vec!["22".parse().unwrap()],
        hook: Hook::Input,
        input_addresses: vec![],
        forward_addresses: vec![],
        verdict: Verdict::Accept,
        once: false,
        log_drops: true,
        cut_sessions: false,
        ipv6_prefix,
    }
}

fn member(chain: Chain, net: &str, secs: Option<u64>) -> Member {
    Member {
        gate: gate(),
        chain,
        net: net.parse().unwrap(),
        remaining: secs.map_or(Lifetime::Never, |s| Lifetime::For(Duration::from_secs(s))),
        reason: "test".to_owned(),
    }
}

fn installed(members: Vec<Member>, prefix: u8) -> (Memory<impl Fn() -> Time>, ManualClock) {
    let clock = ManualClock::default();
    let shown = clock.clone();
    let mut memory = Memory::new(move || shown.now());
    let desired = Desired {
        gates: vec![rules(prefix)],
        members,
        sessions: vec![],
    };
    memory.install(&desired).unwrap();
    (memory, clock)
}

#[test]
fn members_expire_by_themselves_but_trust_does_not() {
    let (mut memory, clock) = installed(
        vec![
            member(Chain::Filter, "192.0.2.1/32", Some(300)),
            member(Chain::Trusted, "192.0.2.2/32", Some(300)),
        ],
        128,
    );
    let fate = |memory: &Memory<_>, host: &str| memory.fate(&gate(), host.parse().unwrap());
    assert_eq!(
        fate(&memory, "192.0.2.1"),
        Some(Fate::Accepted(Chain::Filter))
    );
    clock.set(Time::from_secs(300));
    assert_eq!(fate(&memory, "192.0.2.1"), Some(Fate::Dropped(None)));
    assert_eq!(
        fate(&memory, "192.0.2.2"),
        Some(Fate::Accepted(Chain::Trusted))
    );
    assert_eq!(memory.observe().unwrap().unwrap().members.len(), 1);
}

#[test]
fn an_open_gate_lets_all_but_the_banned_in() {
    let (mut memory, _) = installed(
        vec![
            member(Chain::Filter, "0.0.0.0/0", Some(60)),
            member(Chain::Banned, "192.0.2.0/24", None),
        ],
        128,
    );
    let fate = |memory: &Memory<_>, host: &str| memory.fate(&gate(), host.parse().unwrap());
    assert_eq!(
        fate(&memory, "198.51.100.1"),
        Some(Fate::Accepted(Chain::Filter))
    );
    assert_eq!(
        fate(&memory, "192.0.2.9"),
        Some(Fate::Dropped(Some(Chain::Banned)))
    );
    assert_eq!(fate(&memory, "2001:db8::1"), Some(Fate::Dropped(None)));
    memory.teardown().unwrap();
    assert_eq!(fate(&memory, "192.0.2.9"), None);
    assert_eq!(memory.observe().unwrap(), None);
}

#[test]
fn a_refused_change_changes_nothing() {
    let (mut memory, _) = installed(vec![], 128);
    let good = Change::Put(member(Chain::Filter, "192.0.2.1/32", None));
    let bad = Change::Put(member(Chain::Filter, "192.0.2.0/24", None));
    assert!(memory.apply(&[good.clone(), bad]).is_err());
    assert!(memory.observe().unwrap().unwrap().members.is_empty());
    memory.apply(&[good]).unwrap();
    assert_eq!(memory.observe().unwrap().unwrap().members.len(), 1);
}

#[test]
fn members_of_some_chains_can_be_observed_alone() {
    let members = vec![
        member(Chain::Filter, "192.0.2.1/32", None),
        member(Chain::Trusted, "192.0.2.2/32", None),
    ];
    let (mut memory, _) = installed(members, 128);
    let observed = memory.observe_chains(&[Chain::Trusted]).unwrap().unwrap();
    assert_eq!(observed.gates, [gate()]);
    assert_eq!(observed.members.len(), 1);
    assert_eq!(observed.members[0].chain, Chain::Trusted);
}

#[test]
fn a_gate_for_prefixes_keeps_prefixes() {
    let (mut memory, _) = installed(vec![], 64);
    memory
        .apply(&[Change::Put(member(Chain::Filter, "2001:db8::1/128", None))])
        .unwrap();
    let observed = memory.observe().unwrap().unwrap();
    assert_eq!(observed.members[0].net.to_string(), "2001:db8::/64");
}

#[test]
fn what_somebody_else_adds_is_not_deleted_unseen() {
    let (mut memory, _) = installed(vec![], 128);
    let foreign = member(Chain::Banned, "192.0.2.1/32", None);
    memory.meddle(&foreign).unwrap();
    let desired = Desired {
        gates: vec![rules(128)],
        ..Desired::default()
    };
    let error = memory.install(&desired).unwrap_err();
    assert!(matches!(error, FirewallError::Unseen(unseen) if unseen == [foreign]));
    assert_eq!(memory.observe().unwrap().unwrap().members.len(), 1);
    memory.install(&desired).unwrap();
    assert!(memory.observe().unwrap().unwrap().members.is_empty());
}

#[test]
fn new_gates_and_ports_are_missing() {
    let (mut memory, _) = installed(vec![], 128);
    let mut more = rules(128);
    more.ports.push("23".parse().unwrap());
    let desired = Desired {
        gates: vec![more],
        ..Desired::default()
    };
    let missing = memory.missing(&desired).unwrap();
    assert_eq!(missing, [(gate(), "23".parse().unwrap())]);
    memory.vanish();
    assert_eq!(memory.missing(&desired).unwrap().len(), 2);
}

#[test]
fn a_flush_by_somebody_else_is_noticed() {
    let (mut memory, _) = installed(vec![], 128);
    assert!(memory.verify().unwrap().is_empty());
    memory.vanish();
    assert_eq!(memory.verify().unwrap().len(), 1);
}
