//! What random operations have found (`knockd/random_tests.rs`), each told by itself.

use super::*;

#[test]
fn a_part_of_a_ban_that_is_banned_for_longer_by_itself_stays_so() {
    let mut bench = Bench::appliance();
    bench.drop("198.51.100.7", false);
    let nets = vec![net("198.51.100.6/31")];
    bench.command(Command::Drop {
        nets,
        gates: vec![],
        lifetime: Some(Lifetime::For(Duration::from_secs(60))),
        force: false,
    });
    bench.whitelist(&["198.51.100.6"]);
    assert_eq!(bench.members(Chain::Banned), [for_good("198.51.100.7")]);
    bench.tick_after(61);
    assert!(!bench.lets_in("198.51.100.7"));
}

/// A policy with a gate more than the appliance.
fn with_web() -> Policy {
    policy(vec![gate("ssh"), gate("web")], appliance().knocks)
}

#[test]
fn a_ban_by_force_stands_when_a_trial_is_taken_back() {
    for never_ban in [false, true] {
        let mut wide = with_web();
        if never_ban {
            wide.never_ban = vec![net("192.0.2.0/24")];
        }
        let mut bench = Bench::new(wide.clone());
        if !never_ban {
            bench.whitelist(&["192.0.2.7"]);
        }
        assert_eq!(bench.drop("192.0.2.7", true).code, 0);
        let before = bench.engine.clone();
        let mut narrow = wide.clone();
        narrow.gates.truncate(1);
        bench.handle(Event::Policy(Box::new(narrow)));
        bench.engine.back_to(wide, &before, bench.now);
        for gate in [0, 1] {
            assert!(!bench.engine.lets_in(gate, address("192.0.2.7")));
            bench.engine.handle(Event::Tick, bench.now);
            let banned = bench.engine.ledgers[gate].banned();
            assert!(banned.get(net("192.0.2.7")).is_some(), "at gate {gate}");
        }
    }
}

#[test]
fn whoever_is_trusted_during_a_trial_is_not_banned_at_a_gate_that_comes_back() {
    let mut bench = Bench::new(with_web());
    bench.drop("192.0.2.0/24", false);
    let before = bench.engine.clone();
    bench.handle(Event::Policy(Box::new(appliance())));
    bench.whitelist(&["192.0.2.7"]);
    bench.engine.back_to(with_web(), &before, bench.now);
    for gate in [0, 1] {
        assert!(bench.engine.lets_in(gate, address("192.0.2.7")));
        assert!(!bench.engine.lets_in(gate, address("192.0.2.8")));
    }
}
