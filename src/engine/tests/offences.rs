//! How often it takes to be banned, and how long a ban lasts the next time.

use proptest::prelude::*;

use super::*;
use crate::policy::{BanRule, ScanAction};

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The appliance with first bans of a minute.
pub(super) fn minute() -> Policy {
    let mut policy = appliance();
    policy.gates[0].ban_timeout = Lifetime::For(secs(60));
    policy
}

pub(super) fn counting(after: u16, within: u64) -> BanRule {
    BanRule {
        after,
        within: secs(within),
        longest: None,
    }
}

pub(super) fn growing(longest: u64) -> BanRule {
    BanRule {
        longest: Some(secs(longest)),
        ..BanRule::default()
    }
}

pub(super) fn is_banned(bench: &Bench, who: &str) -> bool {
    let banned = bench.members(Chain::Banned);
    banned.iter().any(|(net, _)| net == who)
}

#[test]
fn the_nth_step_within_the_time_bans() {
    // Seconds at which A steps on a decoy, and after which of these it is banned.
    let cases: [(u16, u64, &[u64], Option<usize>); 7] = [
        (1, 0, &[0], Some(0)),
        (2, 10, &[0, 10], Some(1)),
        (2, 10, &[0, 11], None),
        (3, 10, &[0, 5, 10], Some(2)),
        (3, 10, &[0, 5, 11], None),
        (3, 10, &[0, 6, 11, 12], Some(3)),
        (3, 10, &[0, 100, 200, 205, 210], Some(4)),
    ];
    for (after, within, steps, banned_at) in cases {
        let mut policy = appliance();
        policy.ban = counting(after, within);
        let mut bench = Bench::new(policy);
        let mut found = None;
        let mut before = 0;
        for (index, &at) in steps.iter().enumerate() {
            bench.wait(at - before);
            before = at;
            // Whichever of them it is.
            bench.knocked(A, ["banned1", "banned2"][index % 2]);
            if found.is_none() && is_banned(&bench, A) {
                found = Some(index);
            }
        }
        assert_eq!(found, banned_at, "{after} within {within}: {steps:?}");
    }
}

#[test]
fn one_source_does_not_count_for_another() {
    let mut policy = appliance();
    policy.ban = counting(2, 60);
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned1");
    assert!(bench.logged("1 of 2"));
    bench.knocked(B, "banned1");
    assert_eq!(bench.members(Chain::Banned), []);
    bench.knocked(A, "banned3");
    assert_eq!(bench.members(Chain::Banned), [for_good(A)]);
}

#[test]
fn a_rule_of_a_knocks_own_counts_that_knock_alone() {
    let mut policy = appliance();
    policy.ban = counting(2, 60);
    policy.knocks[1].ban = Some(counting(3, 60));
    let mut bench = Bench::new(policy);
    for _ in 0..2 {
        bench.knocked(A, "banned1");
    }
    bench.knocked(A, "banned2");
    assert!(!is_banned(&bench, A), "2 of 3, and 1 of 2");
    bench.knocked(A, "banned1");
    assert!(is_banned(&bench, A));
}

#[test]
fn ipv6_steps_count_by_the_gates_prefix() {
    let mut policy = appliance();
    policy.ban = counting(2, 60);
    for (prefix, banned) in [(128, false), (64, true)] {
        policy.gates[0].ipv6_prefix = prefix;
        let mut bench = Bench::new(policy.clone());
        bench.knocked("2001:db8:1:2::7", "banned1");
        bench.knocked("2001:db8:1:2::8", "banned1");
        assert_eq!(
            !bench.members(Chain::Banned).is_empty(),
            banned,
            "/{prefix}"
        );
    }
}

#[test]
fn after_a_ban_counting_begins_anew() {
    let mut policy = minute();
    policy.ban = counting(2, 600);
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned1");
    bench.knocked(A, "banned1");
    assert!(is_banned(&bench, A));
    bench.tick_after(61);
    bench.knocked(A, "banned1");
    assert!(!is_banned(&bench, A));
    bench.knocked(A, "banned1");
    assert!(is_banned(&bench, A));
}

#[test]
fn the_scan_guard_goes_by_the_policys_rule() {
    let mut policy = appliance();
    policy.scan_guard.action = ScanAction::Drop;
    policy.ban = counting(2, 60);
    let mut bench = Bench::new(policy);
    bench.handle(Event::Swept { source: address(A) });
    assert!(!is_banned(&bench, A));
    bench.knocked(A, "banned1");
    assert!(is_banned(&bench, A));
}

#[test]
fn each_further_ban_lasts_twice_as_long_up_to_the_longest() {
    let mut policy = minute();
    policy.ban = growing(400);
    let mut bench = Bench::new(policy);
    for expected in [60, 120, 240, 400, 400] {
        bench.knocked(A, "banned1");
        assert_eq!(bench.members(Chain::Banned), [left(A, expected)]);
        bench.wait(10);
        bench.knocked(A, "banned2");
        let still = bench.members(Chain::Banned);
        assert_eq!(
            still,
            [left(A, expected)],
            "it begins again, as long as it was"
        );
        bench.tick_after(expected);
        assert_eq!(bench.members(Chain::Banned), []);
    }
    bench.knocked(B, "banned1");
    assert_eq!(
        bench.members(Chain::Banned),
        [left(B, 60)],
        "others begin at the beginning"
    );
}

#[test]
fn a_ban_counts_for_the_longest_time_after_its_end() {
    for (pause, expected) in [(399, 120), (400, 60)] {
        let mut policy = minute();
        policy.ban = growing(400);
        let mut bench = Bench::new(policy);
        bench.knocked(A, "banned1");
        bench.tick_after(60 + pause);
        bench.knocked(A, "banned1");
        assert_eq!(bench.members(Chain::Banned), [left(A, expected)]);
    }
}

#[test]
fn whoever_lifts_a_ban_forgives_it() {
    type Lift = fn(&mut Bench);
    let lifts: [(&str, Lift); 4] = [
        ("unban", |bench| {
            bench.command(Command::Unban {
                nets: vec![net(A)],
                gates: vec![],
            });
        }),
        ("flush banned", |bench| {
            bench.command(Command::Flush {
                what: vec![Flush::Banned],
                gates: vec![],
            });
        }),
        ("accept --force", |bench| drop(bench.accept(A, true))),
        ("trust for a while", |bench| {
            bench.whitelist(&[A]);
            bench.whitelist(&[]);
        }),
    ];
    for (what, lift) in lifts {
        let mut policy = minute();
        policy.ban = growing(400);
        let mut bench = Bench::new(policy);
        bench.knocked(A, "banned1");
        lift(&mut bench);
        bench.knocked(A, "banned1");
        assert_eq!(bench.members(Chain::Banned), [left(A, 60)], "{what}");
    }
}

#[test]
fn a_ban_found_in_the_kernel_counts_as_many_as_its_length_takes() {
    for (remaining, then) in [(50, 120), (60, 120), (61, 240), (200, 480), (90_000, 1000)] {
        let mut policy = minute();
        policy.ban = growing(1000);
        let mut bench = Bench::new(policy);
        bench.handle(Event::Adopt(vec![Member {
            gate: GateName::new("ssh").unwrap(),
            chain: Chain::Banned,
            net: net(A),
            remaining: Lifetime::For(secs(remaining)),
            reason: "banned1".into(),
        }]));
        bench.tick_after(remaining);
        bench.knocked(A, "banned1");
        assert_eq!(bench.members(Chain::Banned), [left(A, then)], "{remaining}");
    }
}

#[test]
fn at_reload_what_was_counted_stays() {
    let mut policy = minute();
    policy.ban = BanRule {
        longest: Some(secs(400)),
        ..counting(2, 600)
    };
    let mut bench = Bench::new(policy.clone());
    bench.knocked(A, "banned1");
    bench.handle(Event::Policy(Box::new(policy.clone())));
    bench.knocked(A, "banned1");
    assert_eq!(bench.members(Chain::Banned), [left(A, 60)]);
    bench.handle(Event::Policy(Box::new(policy)));
    bench.tick_after(60);
    bench.knocked(A, "banned1");
    bench.knocked(A, "banned1");
    assert_eq!(bench.members(Chain::Banned), [left(A, 120)]);
}

proptest! {
    #[test]
    fn no_ban_by_knock_outlasts_the_longest(
        first in 1u64..100,
        more in 0u64..1000,
        waits in prop::collection::vec((0u64..500, 0u8..3), 1..60),
    ) {
        let longest = first + more;
        let mut policy = appliance();
        policy.gates[0].ban_timeout = Lifetime::For(secs(first));
        policy.ban = growing(longest);
        policy.never_ban = vec![net("10.0.0.2/32")];
        let mut bench = Bench::new(policy);
        for (wait, who) in waits {
            bench.wait(wait);
            bench.knocked(&format!("10.0.0.{who}"), "banned1");
            for (banned, left) in bench.members(Chain::Banned) {
                let left = left.unwrap();
                prop_assert!(banned != "10.0.0.2" && left <= longest, "{} {}", banned, left);
            }
            let key = format!("10.0.0.{who}");
            let held = bench.members(Chain::Banned).into_iter().find(|(net, _)| *net == key);
            prop_assert!(who == 2 || held.is_some_and(|(_, left)| left >= Some(first)));
        }
    }

    #[test]
    fn fewer_steps_than_the_rule_asks_for_never_ban(
        after in 2u16..6,
        within in 1u64..50,
        waits in prop::collection::vec(0u64..30, 1..60),
    ) {
        let mut policy = minute();
        policy.ban = counting(after, within);
        let mut bench = Bench::new(policy);
        let mut times: Vec<Time> = Vec::new();
        let mut last = None;
        for wait in waits {
            bench.tick_after(wait);
            bench.knocked(A, "banned1");
            times.push(bench.now);
            times.retain(|at| bench.now.since(*at) <= secs(within));
            let bans = bench.changes().iter().any(|change| change.starts_with("+ssh_banned"));
            let enough = times.len() >= usize::from(after);
            // What holds as long already is not written again.
            prop_assert_eq!(bans, enough && last != Some(bench.now));
            if enough {
                last = Some(bench.now);
                times.clear();
            }
        }
    }
}
