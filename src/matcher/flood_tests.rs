//! What a flood can do to whoever knocks at the same time, and to the table.
#![allow(clippy::cast_possible_truncation, reason = "small numbers, in a test")]

use std::net::Ipv4Addr;
use std::time::Duration;

use super::tests::{Bench, NONE};
use super::*;
use crate::fixtures::{appliance, gate, knock, packet, policy};
use crate::policy::KnockAction;

const A: &str = "203.0.113.7";

/// Forged packets a second.
const RATE: u64 = 250_000;

/// A flood from new addresses all the time, or from the same over and over.
#[derive(Clone, Copy)]
enum Sources {
    /// Each sends to all of the ports before the next begins.
    New,
    /// That many; all send to the first port before the first of them sends to the next.
    Same(u64),
}

impl Sources {
    fn packet(self, number: u64, ports: &[u16]) -> Knock {
        let of = ports.len() as u64;
        let (source, port) = match self {
            Sources::New => (number / of, number % of),
            Sources::Same(many) => (number % many, number / many % of),
        };
        let source = Ipv4Addr::from(0x0a00_0000 + source as u32);
        let port = ports[port as usize].to_string();
        packet(&source.to_string(), &port, number as u32)
    }
}

/// So many packets of the flood after the first knock comes the second; whether it opens.
fn opens_after(forged: u64, ports: &[u16], sources: Sources) -> bool {
    let mut policy = appliance();
    policy.memory = 256 << 10;
    let mut bench = Bench::new(&policy);
    // From before: the sources that there are know all that they can know.
    let before = match sources {
        Sources::New => 0,
        Sources::Same(_) => 4 * bench.matcher.occupancy().1 as u64,
    };
    for number in 0..before {
        let at = Time::from_secs(90).after(Duration::from_nanos(number * 1_000_000_000 / RATE));
        let _ = bench
            .matcher
            .handle(&sources.packet(number, ports), true, at);
    }
    let at = |number: u64| {
        Time::from_secs(100).after(Duration::from_nanos(number * 1_000_000_000 / RATE))
    };
    let first = bench.take(&packet(A, "1228", 1), at(0));
    assert_eq!(first, NONE);
    for number in 0..forged {
        let syn = sources.packet(before + number, ports);
        let heard = bench.matcher.handle(&syn, true, at(number));
        let opened = heard
            .completed
            .iter()
            .any(|&id| !bench.matcher.sequences[id].is_drop);
        assert!(!opened, "a forged one");
    }
    let second = bench.take(&packet(A, "1227", 2), at(forged));
    second == ["opencloseSSH"]
}

/// What the README promises, with R packets a second: capacity ÷ R seconds.
#[test]
fn an_attempt_lives_at_least_capacity_over_rate_wherever_the_flood_goes() {
    let mut policy = appliance();
    policy.memory = 256 << 10;
    let capacity = Matcher::new(&policy).occupancy().1 as u64;
    for (what, ports) in [
        ("the first port of the knock", &[1228][..]),
        ("its second", &[1227]),
        ("the first port of a decoy", &[1220]),
        ("the second port of a decoy", &[1221]),
        ("a decoy of the same port twice", &[1226]),
        (
            "the first port of one decoy, the second of another",
            &[1224],
        ),
        ("a foreign port", &[9]),
        ("a foreign port near the knock", &[1229]),
        ("both ports of a decoy", &[1220, 1221]),
        ("two decoys", &[1220, 1224]),
        ("every decoy", &[1220, 1224, 1226, 1223, 1222]),
        ("every second port of a decoy", &[1221, 1225, 1224, 1226]),
        ("a decoy and foreign ports", &[1220, 9, 10, 11, 12, 13]),
        ("the knock after a decoy", &[1220, 1228, 1227]),
    ] {
        // Whoever has knocked takes a place as well.
        assert!(
            opens_after(capacity - 1, ports, Sources::New),
            "{what}: {capacity} packets, {RATE} a second"
        );
        for many in [10, 100, 500, 1_000, 2_000, 4_000, 10_000] {
            // A source that turns out to sweep takes a place more, and does so once.
            let sweeps = if ports.len() > 4 { capacity / 5 } else { 0 };
            assert!(
                opens_after(capacity - sweeps - 1, ports, Sources::Same(many)),
                "{what}: {capacity} packets of {many} sources"
            );
        }
    }
    for ports in [&[1228][..], &[1220], &[9]] {
        assert!(
            !opens_after(2 * capacity, ports, Sources::New),
            "the flood fills the table"
        );
    }
}

/// Who knocks once in a while pushes nobody out.
#[test]
fn records_that_are_of_no_use_any_more_give_way_uncounted() {
    let mut policy = appliance();
    policy.memory = 64 << 10;
    let mut bench = Bench::new(&policy);
    let (_, room) = bench.matcher.occupancy();
    for number in 0..3 * room as u64 {
        let source = Ipv4Addr::from(0x0a00_0000 + number as u32).to_string();
        bench.knock(&source, "1228", 600_000 * number);
    }
    assert_eq!(bench.matcher.evicted(), 0);
}

fn records(bench: &Bench) -> usize {
    bench.matcher.occupancy().0
}

/// What a packet costs grows with the records of its source.
#[test]
fn a_source_that_begins_every_sequence_has_few_records() {
    for action in [KnockAction::Accept, KnockAction::Drop] {
        let knocks = (0..500).map(|number| {
            let ports = format!("{} {}", 2000 + 2 * number, 2001 + 2 * number);
            knock(&format!("k{number}"), &ports, action.clone())
        });
        let mut bench = Bench::new(&policy(vec![gate("ssh")], knocks.collect()));
        for number in 0..500u64 {
            bench.knock(A, &(2000 + 2 * number).to_string(), 10 * number);
        }
        assert!(records(&bench) <= 16, "{action:?}: {}", records(&bench));
        // Completed ones are kept, as they may have to be undone, but not for ever.
        for number in 0..500u64 {
            for port in [2000 + 2 * number, 2001 + 2 * number] {
                bench.knock(A, &port.to_string(), 10_000 + 10 * number);
            }
        }
        let most = if action == KnockAction::Drop { 16 } else { 516 };
        assert!(records(&bench) <= most, "{action:?}: {}", records(&bench));
    }
}

#[test]
fn what_takes_the_place_of_a_void_attempt_knows_what_was_seen() {
    let mut bench = Bench::of(&["10 11", "20 21"]);
    let first = packet(A, "10", 1);
    assert_eq!(bench.take(&first, Time::from_secs(1)), NONE);
    assert_eq!(bench.take(&packet(A, "20", 2), Time::from_secs(2)), NONE);
    assert_eq!(records(&bench), 1);
    assert_eq!(
        bench.take(&first, Time::from_secs(3)),
        NONE,
        "it voids nothing"
    );
    assert_eq!(bench.take(&packet(A, "21", 3), Time::from_secs(4)), ["s1"]);
}

/// A client whose source port and sequence number are fixed sends the same SYN each time.
#[test]
fn the_same_packet_is_a_retransmission_only_as_long_as_one_may_be_sent() {
    let knocks = [packet(A, "7000", 1), packet(A, "8000", 1)];
    let all = |bench: &mut Bench, at: u64| {
        let knocks = knocks.iter().zip(at..);
        let done = knocks.flat_map(|(syn, at)| bench.take(syn, Time::from_secs(at)));
        done.collect::<Vec<_>>()
    };
    let mut bench = Bench::of(&["7000 8000"]);
    for at in [1000, 1600, 5000, 5400] {
        assert_eq!(all(&mut bench, at), ["s0"], "{at}");
        // As Linux sends it again: after 1, 3, 7, 15, 31, 63 s, and gives up after 127 s.
        for later in [1, 3, 7, 15, 31, 63, 100, 127] {
            assert_eq!(all(&mut bench, at + later), NONE, "{at} + {later}");
        }
    }
    // Also where nothing was begun, and however full the records are.
    let mut bench = Bench::of(&["7000 8000"]);
    for number in 0..3 {
        let at = Time::from_secs(1000 * number);
        for unique in 1..=12 {
            let _ = bench.take(&packet(A, "8000", unique), at);
        }
        let _ = bench.take(&packet(A, "7000", 50), at.after(Duration::from_secs(100)));
        for unique in 1..=12 {
            let later = at.after(Duration::from_secs(114));
            let done = bench.take(&packet(A, "8000", unique), later);
            assert_eq!(done, NONE, "{unique}, sent again");
        }
    }
}
