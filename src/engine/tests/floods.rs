//! What floods of forged decoys, and those who are banned already, can do about bans.

use super::super::offences::{MOST_COUNTED, MOST_PAST};
use super::offences::{counting, growing, is_banned, minute, secs};
use super::*;
use crate::engine::ledger::MOST_BANS_BY_KNOCK;
use crate::policy::BanRule;

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

/// Forty who are banned step on decoys once more, which is more than may begin again at once.
fn renew_too_many(bench: &mut Bench) {
    for n in 0..40 {
        bench.knocked(&forged(n).to_string(), "banned1");
    }
}

#[test]
fn a_longer_ban_is_more_than_one_that_begins_again() {
    let mut policy = minute();
    for knock in &mut policy.knocks {
        if knock.name.as_str() == "banned3" {
            knock.lifetime = Some(Lifetime::Never);
        }
    }
    let mut bench = Bench::new(policy);
    flood(&mut bench, 40, Duration::from_millis(100));
    bench.wait(1);
    bench.knocked(A, "banned1");
    bench.drop(B, false);
    bench.wait(5);
    renew_too_many(&mut bench);
    // One that was banned for a minute, and one who is banned by hand for longer than that.
    bench.knocked(A, "banned3");
    bench.knocked(B, "banned3");
    bench.tick_after(61);
    assert!(is_banned(&bench, A), "it has stepped on what bans for good");
    assert_eq!(bench.engine.refused_bans(), 0);
}

#[test]
fn bans_that_do_not_begin_again_are_counted_as_such() {
    let mut bench = Bench::new(minute());
    flood(&mut bench, 40, Duration::from_millis(100));
    bench.wait(5);
    renew_too_many(&mut bench);
    let refused = bench.engine.refused();
    assert_eq!((refused.bans, refused.renewals), (0, 30));
}

#[test]
fn whoever_is_banned_hides_no_sweep() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "banned1");
    for _ in 0..100 {
        bench.knocked(A, "banned3");
    }
    assert!(!bench.logged("banned already"), "too many at once");
    bench.handle(Event::Swept { source: address(B) });
    assert!(bench.logged("sweeps ports"));
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
