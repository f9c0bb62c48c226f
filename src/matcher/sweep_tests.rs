//! The scan guard: a sweep never opens a gate, and honest traffic is not punished.
#![allow(clippy::cast_possible_truncation, reason = "small numbers, in a test")]

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{Bench, NONE};
use super::*;
use crate::fixtures::{appliance, gate, knock, packet, policy};
use crate::policy::KnockAction;

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";

/// Sends SYNs to the ports, `gap` milliseconds apart; what they completed.
fn sweep(bench: &mut Bench, from: &str, start: u64, gap: u64, ports: &[u16]) -> Vec<String> {
    let times = (0..).map(|i| start + i * gap);
    ports
        .iter()
        .zip(times)
        .flat_map(|(port, at)| bench.knock(from, &port.to_string(), at))
        .collect()
}

fn opens(done: &[String]) -> bool {
    done.iter().any(|name| name == "opencloseSSH")
}

#[test]
fn a_sweep_never_opens_a_gate_whatever_its_order_and_speed() {
    let ascending: Vec<u16> = (1000..1400).collect();
    let descending: Vec<u16> = ascending.iter().rev().copied().collect();
    // Every port once, far apart: 3 has no factor in common with 400.
    let scattered: Vec<u16> = (0..400).map(|i| 1000 + (i * 3) % 400).collect();
    let backwards: Vec<u16> = scattered.iter().rev().copied().collect();
    // The right knock in the middle of foreign ports.
    let interleaved: Vec<u16> = vec![1, 2, 3, 4, 5, 1228, 6, 1227, 7, 1228, 1227, 8];
    for ports in [ascending, descending, scattered, backwards, interleaved] {
        for gap in [0, 1, 1000, 5000, 10_000, 14_000] {
            let mut bench = Bench::new(&appliance());
            let done = sweep(&mut bench, A, 0, gap, &ports);
            assert!(!opens(&done), "{gap} ms apart, from {}: {done:?}", ports[0]);
        }
    }
}

#[test]
fn a_scanner_has_no_valid_attempt_until_it_has_been_quiet_that_long() {
    let mut bench = Bench::new(&appliance());
    sweep(&mut bench, A, 0, 100, &[1, 2, 3, 4, 5]);
    assert_eq!(sweep(&mut bench, A, 1000, 100, &[1228, 1227]), NONE);
    // 75 s from the last foreign port, which was at 400 ms; knocks do not prolong it.
    assert_eq!(
        sweep(&mut bench, A, 75_300, 100, &[1228, 1227]),
        NONE,
        "1228 was a moment early"
    );
    assert!(opens(&sweep(&mut bench, A, 76_000, 100, &[1228, 1227])));
}

#[test]
fn decoys_go_on_counting_for_a_scanner() {
    let mut bench = Bench::new(&appliance());
    let ports: Vec<u16> = (1000..1400).collect();
    let done = sweep(&mut bench, A, 0, 100, &ports);
    assert_eq!(done, ["banned1", "banned4", "banned2"], "in passing");
}

#[test]
fn another_foreign_port_prolongs_it() {
    let mut bench = Bench::new(&appliance());
    sweep(&mut bench, A, 0, 0, &[1, 2, 3, 4, 5]);
    bench.knock(A, "5", 70_000);
    assert_eq!(sweep(&mut bench, A, 80_000, 100, &[1228, 1227]), NONE);
    assert!(opens(&sweep(&mut bench, A, 146_000, 100, &[1228, 1227])));
}

#[test]
fn an_attempt_that_was_under_way_is_void() {
    let mut bench = Bench::new(&appliance());
    assert_eq!(
        sweep(&mut bench, A, 0, 1, &[1228, 1, 2, 3, 4, 5, 1227]),
        NONE
    );
}

#[test]
fn fewer_ports_are_no_sweep() {
    let mut bench = Bench::new(&appliance());
    assert!(opens(&sweep(
        &mut bench,
        A,
        0,
        100,
        &[1, 2, 3, 4, 1228, 1227]
    )));
    let mut bench = Bench::new(&appliance());
    let same = [9, 9, 9, 9, 9, 9, 9, 9, 1228, 1227];
    assert!(
        opens(&sweep(&mut bench, A, 0, 100, &same)),
        "the same port again is one port"
    );
}

#[test]
fn one_strange_port_near_the_sequence_voids_an_attempt_at_it() {
    // Before and during, above and below.
    for ports in [
        [1229, 1228, 1227],
        [1233, 1228, 1227],
        [1228, 1229, 1227],
        [1228, 1233, 1227],
    ] {
        for gap in [0, 1, 1000, 5000, 7000] {
            let mut bench = Bench::new(&appliance());
            let done = sweep(&mut bench, A, 0, gap, &ports);
            assert!(!opens(&done), "{ports:?}, {gap} ms apart");
        }
    }
    for ports in [
        vec![1234, 1228, 1227],
        vec![1219, 1228, 1227],
        vec![1228, 1234, 1227],
    ] {
        let mut bench = Bench::new(&appliance());
        let done = sweep(&mut bench, A, 0, 100, &ports);
        assert!(opens(&done), "{ports:?} are not near");
    }
    let mut below = appliance();
    below.knocks.truncate(1);
    let mut bench = Bench::new(&below);
    assert_eq!(sweep(&mut bench, A, 0, 100, &[1226, 1228, 1227]), NONE);
}

/// Nobody who was told the knock goes to one, however far it is from the knock.
#[test]
fn one_decoy_voids_an_attempt_and_keeps_it_from_beginning_anew() {
    for decoy in [1220, 1221, 1222, 1223, 1224, 1225, 1226] {
        for ports in [
            vec![decoy, 1228, 1227],
            vec![1228, decoy, 1227],
            vec![1228, decoy, 1228, 1227],
        ] {
            for gap in [0, 1, 1000, 4500] {
                let mut bench = Bench::new(&appliance());
                let done = sweep(&mut bench, A, 0, gap, &ports);
                assert!(!opens(&done), "{ports:?}, {gap} ms apart");
            }
        }
        // Whoever mistypes waits as long as a knock may take.
        let mut bench = Bench::new(&appliance());
        bench.knock(A, &decoy.to_string(), 0);
        assert_eq!(sweep(&mut bench, A, 14_900, 10, &[1228, 1227]), NONE);
        let done = sweep(&mut bench, A, 15_010, 10, &[1228, 1227]);
        assert!(opens(&done), "{decoy}");
    }
    let mut off = appliance();
    off.scan_guard.nearby = 0;
    let mut bench = Bench::new(&off);
    assert!(opens(&sweep(&mut bench, A, 0, 10, &[1226, 1228, 1227])));
}

#[test]
fn a_port_that_is_part_of_a_knock_is_no_decoy_to_the_guard() {
    let mut shared = appliance();
    let both = knock("both", "1228 1223", KnockAction::Drop);
    shared.knocks.push(both);
    shared
        .knocks
        .push(knock("other", "1223 1400", KnockAction::Accept));
    let mut bench = Bench::new(&shared);
    assert!(opens(&sweep(&mut bench, A, 0, 10, &[1223, 1228, 1227])));
}

#[test]
fn after_a_strange_port_nearby_the_sequence_can_be_knocked_again_when_its_time_is_over() {
    let mut bench = Bench::new(&appliance());
    bench.knock(A, "1229", 0);
    assert_eq!(sweep(&mut bench, A, 14_900, 10, &[1228, 1227]), NONE);
    // A hundredth of a second later, as the guard's clock is coarse.
    assert!(opens(&sweep(&mut bench, A, 15_010, 10, &[1228, 1227])));
}

/// A browser, an ssh: each opens a connection or two, whose SYNs go on for two minutes.
#[test]
fn a_strange_port_nearby_counts_once_however_often_its_packet_is_sent_again() {
    // One beside the knock, and a decoy.
    for port in ["1229", "1226"] {
        let mut bench = Bench::new(&appliance());
        let take = |bench: &mut Bench, port: &str, unique: u32, at: u64| {
            bench.take(&packet(A, port, unique), Time::from_secs(1000 + at))
        };
        for (unique, first) in [(1, 0), (2, 1)] {
            for again in [0, 1, 3, 7, 15] {
                let _ = take(&mut bench, port, unique, first + again);
            }
        }
        // 15 s after the first of the second.
        assert_eq!(take(&mut bench, "1228", 3, 17), NONE);
        assert_eq!(take(&mut bench, "1227", 4, 18), ["opencloseSSH"], "{port}");
        for (unique, again) in [(1, 31), (2, 32), (1, 63), (2, 64)] {
            let syn = packet(A, port, unique);
            let heard = bench
                .matcher
                .handle(&syn, true, Time::from_secs(1000 + again));
            assert_eq!(heard.undone, [], "{port}");
        }
        // Another one is another.
        let late = packet(A, port, 5);
        let _ = take(&mut bench, "1228", 6, 70);
        let _ = bench.matcher.handle(&late, true, Time::from_secs(1071));
        assert_eq!(take(&mut bench, "1227", 7, 72), NONE, "{port}");
    }
}

/// A scanner whose source port and sequence number are always the same, as `hping3 --keep --setseq`.
#[test]
fn a_scanner_with_fixed_numbers_opens_nothing_on_a_later_round() {
    let knocks = vec![knock("open", "1228 1227", KnockAction::Accept)];
    let plain = policy(vec![gate("ssh")], knocks);
    let fixed = |port: u16| packet(A, &port.to_string(), 7);
    for (policy, has_decoys) in [(plain, false), (appliance(), true)] {
        // One by one, each longer ago than what it voids, and something else so that all is kept.
        let mut bench = Bench::new(&policy);
        let mut at = Time::from_secs(1000);
        for port in (1222..=1233).rev() {
            let _ = bench.matcher.handle(&fixed(port), true, at);
            at = at.after(Duration::from_secs(24));
        }
        for _ in 0..4 {
            let _ = bench.matcher.handle(&fixed(60_000), true, at);
            at = at.after(Duration::from_secs(60));
        }
        for port in (1222..=1230).rev() {
            assert!(!opens(&bench.take(&fixed(port), at)), "{port}");
            at = at.after(Duration::from_millis(10));
        }
        // Round and round, around the knock.
        for (first, last) in [(1225, 1231), (1223, 1233), (1227, 1234), (1210, 1250)] {
            for gap in [10, 1_000, 10_000] {
                for pause in [1, 70, 80, 140, 150, 300] {
                    let mut bench = Bench::new(&policy);
                    let mut at = Time::from_secs(1000);
                    let mut open = Vec::new();
                    for round in 0..6 {
                        let ports: Vec<u16> = match round % 2 {
                            0 => (first..=last).rev().collect(),
                            _ => (first..=last).collect(),
                        };
                        for port in ports {
                            let heard = bench.matcher.handle(&fixed(port), true, at);
                            let granted = |id: &&SequenceId| !bench.matcher.sequences[**id].is_drop;
                            open.extend(heard.completed.iter().filter(granted).copied());
                            open.retain(|id| !heard.undone.contains(id));
                            at = at.after(Duration::from_millis(gap));
                        }
                        at = at.after(Duration::from_secs(pause));
                    }
                    let what = format!("{first} to {last}, {gap} ms, {pause} s, {has_decoys}");
                    assert_eq!(open, [], "{what}");
                }
            }
        }
    }
}

/// Who goes on with the first port of the knock, as a scanner's second try does.
#[test]
fn a_knock_is_undone_also_where_another_has_begun_since() {
    for again in [&[1228][..], &[1228, 1227], &[1228, 1227, 1228]] {
        let mut bench = Bench::new(&appliance());
        assert_eq!(sweep(&mut bench, A, 0, 10, &[1228, 1227]), ["opencloseSSH"]);
        let _ = sweep(&mut bench, A, 100, 10, again);
        let heard = bench
            .matcher
            .handle(&packet(A, "1229", 99), true, Time::from_secs(1));
        let names: Vec<_> = heard
            .undone
            .iter()
            .map(|&id| bench.matcher.name(id).as_str())
            .collect();
        assert_eq!(names, ["opencloseSSH"], "{again:?}");
    }
    // And that makes no heap of records.
    let mut bench = Bench::new(&appliance());
    for round in 0..100 {
        sweep(&mut bench, A, 100 * round, 10, &[1228, 1227]);
    }
    let (used, _) = bench.matcher.occupancy();
    assert!(used < 60, "{used}");
}

/// What a packet of a source costs grows with its records.
#[test]
fn a_source_that_touches_strange_ports_now_and_then_has_few_records() {
    let mut bench = Bench::new(&appliance());
    let mut at = 0;
    for (number, port) in (0..4_000).zip((1229..1233).cycle()) {
        // Never five within the window, and hardly ever quiet for that long.
        at += if number % 9 == 8 { 80_000 } else { 25_000 };
        bench.knock(A, &port.to_string(), at);
        let (used, _) = bench.matcher.occupancy();
        assert!(used < 24, "{used} after {number}");
    }
}

#[test]
fn who_takes_tcp_for_udp_can_knock_again_at_once() {
    let mut bench = Bench::new(&policy(
        vec![gate("ssh")],
        vec![knock("udp", "2000/udp 2001/udp 2002", KnockAction::Accept)],
    ));
    assert_eq!(sweep(&mut bench, A, 0, 10, &[2000, 2001, 2002]), NONE);
    let mut done = Vec::new();
    for port in ["2000/udp", "2001/udp", "2002"] {
        done.extend(bench.knock(A, port, 100));
    }
    assert_eq!(done, ["udp"]);
}

#[test]
fn nearness_is_what_the_policy_says() {
    for (nearby, voids) in [(0, false), (1, false), (2, true), (1000, true)] {
        let mut policy = appliance();
        policy.scan_guard.nearby = nearby;
        let mut bench = Bench::new(&policy);
        let done = sweep(&mut bench, A, 0, 10, &[1230, 1228, 1227]);
        assert_eq!(opens(&done), !voids, "{nearby}");
    }
}

#[test]
fn a_port_near_one_sequence_does_not_void_an_attempt_at_another() {
    let mut bench = Bench::new(&policy(
        vec![gate("ssh")],
        vec![
            knock("here", "1000 1100", KnockAction::Accept),
            knock("there", "2000 2100", KnockAction::Accept),
        ],
    ));
    assert_eq!(
        sweep(&mut bench, A, 0, 10, &[1000, 2001, 1100]),
        ["here"],
        "2001 is near the other one"
    );
    // Ports of other sequences that grant something are nobody's strange ports.
    let mut bench = Bench::new(&policy(
        vec![gate("ssh")],
        vec![
            knock("low", "1000 1001", KnockAction::Accept),
            knock("high", "1002 1003", KnockAction::Accept),
        ],
    ));
    let done = sweep(&mut bench, A, 0, 10, &[1002, 1003, 1000, 1001]);
    assert_eq!(done, ["high", "low"]);
}

/// Which sequences each packet undoes.
fn undone(bench: &mut Bench, ports: &[(u16, u64)]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    for (i, &(port, at)) in ports.iter().enumerate() {
        let syn = crate::fixtures::packet(A, &port.to_string(), i as u32);
        let heard = bench.matcher.handle(&syn, true, Time(at * 1_000_000));
        let names = heard.undone.iter().map(|&id| bench.matcher.name(id));
        found.extend(names.map(|name| (port, name.to_string())));
    }
    found
}

#[test]
fn a_sweep_that_begins_with_the_knock_is_undone_when_it_shows() {
    let mut bench = Bench::new(&appliance());
    let nearby = [(1228, 0), (1227, 10), (1226, 20), (1225, 30), (1224, 40)];
    let once = vec![(1226, "opencloseSSH".to_owned())];
    assert_eq!(undone(&mut bench, &nearby), once);
    let mut bench = Bench::new(&appliance());
    let far = [1228, 1227, 10, 20, 30, 40, 50, 60].map(|port| (port, 0));
    let once = vec![(50, "opencloseSSH".to_owned())];
    assert_eq!(undone(&mut bench, &far), once);
    // Slowly.
    let mut bench = Bench::new(&appliance());
    let slow = [(1228, 0), (1227, 14_000), (1226, 28_000)];
    assert_eq!(undone(&mut bench, &slow).len(), 1);
}

#[test]
fn what_was_knocked_longer_ago_is_not_undone() {
    let mut bench = Bench::new(&appliance());
    let later = [(1228, 0), (1227, 10), (1229, 15_011), (1230, 20_000)];
    assert_eq!(undone(&mut bench, &later), []);
    let mut bench = Bench::new(&appliance());
    let sweep_later: Vec<_> = [(1228, 0), (1227, 10)]
        .into_iter()
        .chain((1..20).map(|port| (port, 150_011)))
        .collect();
    assert_eq!(undone(&mut bench, &sweep_later), []);
}

#[test]
fn ports_longer_ago_than_the_window_do_not_count() {
    let mut bench = Bench::new(&appliance());
    for (i, port) in (1..=20u16).enumerate() {
        bench.knock(A, &port.to_string(), i as u64 * 20_000);
    }
    assert!(
        opens(&sweep(&mut bench, A, 400_000, 100, &[1228, 1227])),
        "four in 75 s, for minutes"
    );
}

#[test]
fn ports_of_what_is_behind_this_host_are_not_foreign() {
    let mut matcher = Matcher::new(&appliance());
    for port in 1..=100u16 {
        let syn = crate::fixtures::packet(A, &port.to_string(), 1);
        assert!(!matcher.handle(&syn, false, Time::from_secs(1)).swept);
    }
}

#[test]
fn neutral_ports_datagrams_and_other_flags_are_not_foreign() {
    let mut bench = Bench::new(&appliance());
    bench.matcher.set_neutral([22, 80, 443, 8080, 25, 110, 143]);
    sweep(&mut bench, A, 0, 1, &[22, 80, 443, 8080, 25, 110, 143]);
    for port in ["1/udp", "2/udp", "3/udp", "4/udp", "5/udp", "6/udp"] {
        bench.knock(A, port, 100);
    }
    for (i, port) in ["1", "2", "3", "4", "5", "6"].into_iter().enumerate() {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        let answer = Knock {
            flags,
            ..crate::fixtures::packet(A, port, 500 + i as u32)
        };
        bench.take(&answer, Time(200_000_000));
    }
    assert!(opens(&sweep(&mut bench, A, 1000, 100, &[1228, 1227])));
}

#[test]
fn knock_ports_always_count_as_knocks_whoever_listens_on_them() {
    let mut bench = Bench::new(&appliance());
    bench.matcher.set_neutral([1228, 1227]);
    assert!(opens(&sweep(&mut bench, A, 0, 100, &[1228, 1227])));
}

#[test]
fn one_source_sweeping_does_not_disturb_another() {
    let mut bench = Bench::new(&appliance());
    bench.knock(B, "1228", 0);
    sweep(&mut bench, A, 1, 1, &(2000..2400).collect::<Vec<_>>());
    assert_eq!(bench.knock(B, "1227", 1000), ["opencloseSSH"]);
}

#[test]
fn it_is_told_once_when_a_source_becomes_a_scanner() {
    let mut matcher = Matcher::new(&appliance());
    let told: Vec<u16> = (1..=100u16)
        .filter(|port| {
            let syn = crate::fixtures::packet(A, &port.to_string(), 1);
            matcher.handle(&syn, true, Time::from_secs(1)).swept
        })
        .collect();
    assert_eq!(told, [5]);
}

#[test]
fn the_guard_goes_on_over_a_reload() {
    let mut bench = Bench::new(&appliance());
    sweep(&mut bench, A, 0, 0, &[1, 2, 3, 4, 5]);
    bench.matcher.reload(&appliance());
    assert_eq!(sweep(&mut bench, A, 1000, 100, &[1228, 1227]), NONE);
}

/// The guard once more, as plainly as it can be written.
#[derive(Default)]
struct Plain {
    touched: HashMap<u16, u64>,
    last: u64,
    scanner: bool,
}

impl Plain {
    fn touch(&mut self, port: u16, at: u64, ports: usize, within: u64) -> bool {
        if at - self.last > within {
            self.scanner = false;
        }
        self.last = at;
        self.touched.retain(|_, then| at - *then <= within);
        self.touched.insert(port, at);
        let was = self.scanner;
        self.scanner |= self.touched.len() >= ports;
        self.scanner && !was
    }
}

proptest! {
    #[test]
    fn scanners_are_found_exactly_as_the_plain_rules_do(
        limit in 1u16..20,
        touches in prop::collection::vec((0u8..2, 100u16..125, 0u64..40), 0..120),
    ) {
        let mut rules = policy(
            vec![gate("ssh")],
            vec![
                knock("k", "1 2", KnockAction::Accept),
                // Decoys count as other ports do.
                knock("two", "105 110", KnockAction::Drop),
                knock("same", "111 111", KnockAction::Drop),
                knock("one", "120", KnockAction::Drop),
                knock("long", "110 121 105", KnockAction::Drop),
            ],
        );
        rules.scan_guard.ports = limit;
        let mut matcher = Matcher::new(&rules);
        let mut plain = [Plain::default(), Plain::default()];
        let mut at = 1000;
        for (i, (source, port, gap)) in touches.into_iter().enumerate() {
            at += gap;
            let from = format!("192.0.2.{source}");
            let syn = crate::fixtures::packet(&from, &port.to_string(), i as u32);
            let expected = plain[usize::from(source)].touch(port, at, usize::from(limit), 75);
            prop_assert_eq!(matcher.handle(&syn, true, Time::from_secs(at)).swept, expected);
        }
    }
}

#[test]
fn ports_that_come_a_moment_out_of_order_count_all_the_same() {
    let mut bench = Bench::new(&appliance());
    for (port, at) in [(1, 20), (2, 20), (3, 20), (4, 10), (5, 20)] {
        assert_eq!(bench.knock(A, &port.to_string(), at), NONE);
    }
    assert_eq!(sweep(&mut bench, A, 100, 10, &[1228, 1227]), NONE);
}

#[test]
fn what_began_just_after_a_sweep_is_void_if_a_port_of_it_arrives_late() {
    let mut bench = Bench::new(&appliance());
    sweep(&mut bench, A, 0, 100, &[1, 2, 3, 4, 5]);
    // 75 s after the last of them, and a packet that another CPU took a moment before.
    for (port, at) in [("1228", 75_410), ("6", 75_390), ("1227", 75_420)] {
        assert_eq!(bench.knock(A, port, at), NONE, "{port}");
    }
}
