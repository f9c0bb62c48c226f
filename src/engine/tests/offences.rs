//! How often it takes to be banned, how long a ban lasts the next time, and what floods of forged
//! decoys can do about it.

use proptest::prelude::*;

use super::super::offences::{MOST_COUNTED, MOST_PAST};
use super::*;
use crate::engine::ledger::MOST_BANS_BY_KNOCK;
use crate::policy::{BanRule, ScanAction};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The appliance with first bans of a minute.
fn minute() -> Policy {
    let mut policy = appliance();
    policy.gates[0].ban_timeout = Lifetime::For(secs(60));
    policy
}

fn counting(after: u16, within: u64) -> BanRule {
    BanRule {
        after,
        within: secs(within),
        longest: None,
    }
}

fn growing(longest: u64) -> BanRule {
    BanRule {
        longest: Some(secs(longest)),
        ..BanRule::default()
    }
}

fn is_banned(bench: &Bench, who: &str) -> bool {
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

/// A source that nobody has.
fn forged(n: usize) -> IpAddr {
    IpAddr::from(u32::try_from(0x6400_0000 + n).unwrap().to_be_bytes())
}

fn flood(bench: &mut Bench, count: usize, every: Duration) {
    for n in 0..count {
        bench.now = bench.now.after(every);
        bench.handle(Event::Knocked {
            source: forged(n),
            knock: KnockName::new("banned1").unwrap(),
        });
    }
}

#[test]
fn a_flood_of_forged_decoys_neither_fills_the_set_nor_moves_bans_by_hand_nor_bans_the_protected() {
    let mut policy = appliance();
    policy.never_ban = vec![net("100.0.16.0/20")];
    let mut bench = Bench::new(policy);
    bench.handle(Event::OwnAddresses(vec![forged(3)]));
    bench.whitelist(&["100.0.1.0/24"]);
    bench.drop(A, false);
    let protected = 4096 + 256 + 1;
    let most = MOST_BANS_BY_KNOCK;
    // As slowly as the token bucket lets all of them through.
    flood(
        &mut bench,
        most + protected + 1000,
        Duration::from_millis(100),
    );
    let banned = bench.engine.gates(bench.now)[0].banned;
    assert_eq!(banned, most + 1, "those by knock, and the one by hand");
    assert_eq!(bench.engine.evicted_bans(), 1000);
    assert_eq!(bench.engine.refused_bans(), 0);
    assert!(is_banned(&bench, A), "the ban by hand");
    let ledger = bench.engine.ledgers[0].banned();
    for protected in ["100.0.0.3/32", "100.0.1.0/24", "100.0.16.0/20"] {
        assert!(ledger.overlapping(net(protected)).is_none(), "{protected}");
    }
}

#[test]
fn a_fast_flood_is_ten_bans_a_second_and_the_rest_are_counted() {
    let mut bench = Bench::appliance();
    flood(&mut bench, 10_000, Duration::from_micros(100));
    let banned = bench.engine.gates(bench.now)[0].banned;
    assert!((10..=20).contains(&banned), "{banned} in a second");
    let counted = banned as u64 + bench.engine.refused_bans();
    assert_eq!(counted, 10_000);
}

/// A steps on decoys 20 times a second for 10 s, and somebody else every half second; how many of
/// these are banned.
fn beside_a_repeat_offender(bench: &mut Bench) -> usize {
    let mut banned = 0;
    for n in 0..200usize {
        bench.now = bench.now.after(Duration::from_millis(50));
        bench.knocked(A, "banned3");
        if n % 10 == 5 {
            bench.knocked(&forged(n).to_string(), "banned1");
            banned += bench.changes().len();
        }
    }
    banned
}

#[test]
fn whoever_is_banned_for_good_uses_up_nothing_by_stepping_on_more_decoys() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "banned1");
    let before = bench.engine.everything();
    bench.engine.take_news();
    for _ in 0..1000 {
        bench.knocked(A, "banned3");
        assert_eq!(bench.changes(), [""; 0]);
    }
    assert_eq!(bench.engine.take_news(), News::default());
    assert_eq!(bench.engine.everything(), before);
    assert_eq!(bench.engine.refused_bans(), 0);
    assert_eq!(beside_a_repeat_offender(&mut bench), 20);
}

#[test]
fn a_ban_of_a_network_holds_for_all_that_is_in_it() {
    let mut bench = Bench::appliance();
    bench.drop("198.51.100.0/24", false);
    bench.changes();
    bench.engine.take_news();
    for _ in 0..1000 {
        bench.knocked(A, "banned3");
        assert_eq!(bench.changes(), [""; 0]);
    }
    assert_eq!(beside_a_repeat_offender(&mut bench), 20);
}

#[test]
fn a_ban_that_begins_again_takes_nobody_elses_place() {
    let mut bench = Bench::new(minute());
    assert_eq!(beside_a_repeat_offender(&mut bench), 20);
    let of_a = |record: &Record| record.net == Some(net(A)) && record.what == What::Banned;
    let records = bench.engine.take_news().records;
    let times = records.into_iter().filter(of_a).count();
    assert!((9..=11).contains(&times), "{times} records in 10 s");
    assert_eq!(bench.engine.refused_bans(), 0);
    bench.tick_after(59);
    assert!(is_banned(&bench, A), "it lasts a minute since the last");
}

#[test]
fn many_who_are_banned_keep_nobody_from_being_banned() {
    let mut bench = Bench::new(minute());
    flood(&mut bench, 300, Duration::from_millis(100));
    let mut written = 0;
    // All that are banned step on decoys, all the time.
    for n in 0..3000 {
        bench.now = bench.now.after(Duration::from_millis(2));
        bench.knocked(&forged(n % 300).to_string(), "banned1");
        written += bench.changes().len();
    }
    assert!((60..=70).contains(&written), "{written} in 6 s");
    let news = bench.engine.take_news();
    assert!(news.records.len() < 300 + 110, "{}", news.records.len());
    let mut notes: Vec<_> = news.records.iter().map(|it| it.note.as_str()).collect();
    notes.sort_unstable();
    notes.dedup();
    let refused = "the ban does not begin again: more than 10 a second by knock do";
    assert_eq!(notes, ["", refused]);
    bench.knocked(A, "banned1");
    assert!(is_banned(&bench, A));
}

#[test]
fn what_makes_room_is_what_was_banned_first_however_often_it_begins_again() {
    let mut policy = minute();
    policy.gates[0].ban_timeout = Lifetime::For(secs(86_400));
    let mut bench = Bench::new(policy);
    flood(&mut bench, MOST_BANS_BY_KNOCK, Duration::from_millis(100));
    bench.knocked(&forged(0).to_string(), "banned1");
    assert_eq!(bench.changes().len(), 1, "it begins again");
    bench.wait(1);
    bench.knocked(A, "banned1");
    assert!(!is_banned(&bench, &forged(0).to_string()));
}

#[test]
fn a_flood_does_not_grow_what_is_remembered() {
    let mut policy = minute();
    policy.ban = BanRule {
        longest: Some(secs(86_400)),
        ..counting(2, 3600)
    };
    let mut bench = Bench::new(policy);
    flood(&mut bench, MOST_COUNTED + 1000, Duration::ZERO);
    assert_eq!(bench.engine.steps.len(), MOST_COUNTED);
    assert_eq!(bench.members(Chain::Banned), [], "one step each");
}

#[test]
fn a_flood_for_an_hour_and_a_half_pushes_no_past_ban_out() {
    let mut policy = minute();
    policy.ban = growing(86_400);
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned1");
    // As many as there can be in that time.
    flood(&mut bench, 54_000, Duration::from_millis(100));
    assert!(bench.engine.ledgers[0].past.len() <= MOST_PAST);
    bench.knocked(A, "banned1");
    let banned = bench.members(Chain::Banned);
    assert!(banned.contains(&left(A, 120)), "{} bans", banned.len());
}

#[test]
fn a_hole_in_a_ban_lifts_others_where_its_parts_find_no_room() {
    let mut policy = appliance();
    policy.gates[0].ipv6_prefix = 64;
    let mut bench = Bench::new(policy);
    flood(
        &mut bench,
        MOST_BANS_BY_KNOCK - 1,
        Duration::from_millis(100),
    );
    bench.wait(1);
    bench.knocked(SIX, "banned1");
    bench.whitelist(&[SIX]);
    let parts = bench.changes();
    let lifted = parts
        .iter()
        .filter(|change| change.starts_with("-ssh_banned 100."));
    assert_eq!(lifted.count(), 63, "64 parts in the place of one");
    assert_eq!(bench.engine.gates(bench.now)[0].banned, MOST_BANS_BY_KNOCK);
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
