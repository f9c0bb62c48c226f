//! What holds whatever is sent: the plain rules as an oracle, independence, bounds.
#![allow(clippy::cast_possible_truncation, reason = "small numbers, in a test")]

use proptest::prelude::*;

use super::tests::Bench;
use super::*;
use crate::fixtures::packet;

/// The rules once more, as slowly and plainly as they can be written: for one sequence and one
/// source, over everything that was ever sent.
fn plain(ports: &[u16], timeout: u64, sent: &[(u16, u64)], all: &[u16]) -> usize {
    let (mut stage, mut started, mut fired) = (0, 0, 0);
    for &(port, at) in sent {
        if !all.contains(&port) {
            continue;
        }
        if stage > 0 && at.saturating_sub(started) > timeout {
            stage = 0;
        }
        if stage > 0 && port == ports[stage] {
            stage += 1;
        } else if stage > 1 && port == ports[stage - 1] {
            continue;
        } else if port == ports[0] {
            (stage, started) = (1, at);
        } else {
            stage = 0;
        }
        if stage == ports.len() {
            (stage, fired) = (0, fired + 1);
        }
    }
    fired
}

fn sequences() -> impl Strategy<Value = Vec<Vec<u16>>> {
    prop::collection::vec(prop::collection::vec(1u16..6, 1..5), 1..5)
}

/// (source, port, milliseconds since the one before)
fn traffic() -> impl Strategy<Value = Vec<(u8, u16, u64)>> {
    prop::collection::vec((0u8..3, 1u16..8, 0u64..8000), 0..60)
}

fn bench_of(sequences: &[Vec<u16>]) -> Bench {
    let texts: Vec<String> = sequences
        .iter()
        .map(|ports| {
            ports
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    Bench::of(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn run(bench: &mut Bench, traffic: &[(u8, u16, u64)], only: Option<u8>) -> Vec<(u8, String)> {
    let (mut at, mut fired) = (0, Vec::new());
    for &(source, port, gap) in traffic {
        at += gap;
        if only.is_none_or(|only| only == source) {
            let done = bench.knock(&format!("192.0.2.{source}"), &port.to_string(), at);
            fired.extend(done.into_iter().map(|name| (source, name)));
        }
    }
    fired
}

proptest! {
    #[test]
    fn fires_exactly_as_the_plain_rules_do(seqs in sequences(), traffic in traffic()) {
        let mut bench = bench_of(&seqs);
        let fired = run(&mut bench, &traffic, None);
        let all: Vec<u16> = seqs.iter().flatten().copied().collect();
        for source in 0..3 {
            let mut at = 0;
            let mut sent = Vec::new();
            for &(from, port, gap) in &traffic {
                at += gap;
                if from == source {
                    sent.push((port, at));
                }
            }
            for (i, ports) in seqs.iter().enumerate() {
                let name = format!("s{i}");
                let count = fired.iter().filter(|f| **f == (source, name.clone())).count();
                prop_assert_eq!(count, plain(ports, 15_000, &sent, &all), "{} {:?}", name, ports);
            }
        }
    }

    #[test]
    fn one_source_never_changes_anothers_state(seqs in sequences(), traffic in traffic()) {
        let together = run(&mut bench_of(&seqs), &traffic, None);
        for source in 0..3 {
            let alone = run(&mut bench_of(&seqs), &traffic, Some(source));
            let of_it: Vec<_> = together.iter().filter(|f| f.0 == source).cloned().collect();
            prop_assert_eq!(alone, of_it);
        }
    }

    #[test]
    fn retransmissions_anywhere_change_nothing(
        seqs in sequences(),
        traffic in traffic(),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let (mut plainly, mut noisily) = (bench_of(&seqs), bench_of(&seqs));
        let mut at = 0;
        let mut sent: Vec<Knock> = Vec::new();
        for (i, &(source, port, gap)) in traffic.iter().enumerate() {
            at += gap;
            let knock = packet(&format!("192.0.2.{source}"), &port.to_string(), i as u32);
            let now = Time(at * 1_000_000);
            prop_assert_eq!(plainly.take(&knock, now), noisily.take(&knock, now));
            sent.push(knock);
            if let Some(index) = again.get(i) {
                // A few packets back, as retransmissions are.
                let recent = &sent[sent.len().saturating_sub(8)..];
                prop_assert_eq!(noisily.take(index.get(recent), now), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn memory_never_exceeds_its_bound_whatever_is_sent(
        packets in prop::collection::vec((any::<u16>(), 1u16..8, any::<u32>(), any::<u64>()), 0..3000),
    ) {
        let mut bench = Bench::of(&["1 2 3", "2 3 4", "1 5"]);
        let (_, capacity) = bench.matcher.occupancy();
        for (source, port, unique, at) in packets {
            let source = format!("10.0.{}.{}", source >> 8, source & 255);
            bench.take(&packet(&source, &port.to_string(), unique), Time(at));
            prop_assert!(bench.matcher.occupancy().0 <= capacity);
        }
    }
}
