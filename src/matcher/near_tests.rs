//! One strange port near a sequence, or a decoy, voids an attempt at it; its retransmissions are
//! nothing.

use std::time::Duration;

use super::sweep_tests::{A, opens, sweep};
use super::tests::{Bench, NONE};
use super::*;
use crate::fixtures::{appliance, gate, knock, packet, policy};
use crate::policy::KnockAction;

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

/// A scan that comes back to each port, as nmap does where nobody answers.
#[test]
fn a_slow_scan_that_sends_several_to_each_port_opens_nothing() {
    let doubled = |ports: std::ops::RangeInclusive<u16>, times: usize| {
        let ports = ports.rev();
        ports.flat_map(move |port| std::iter::repeat_n(port, times))
    };
    for times in [2, 3, 5] {
        for between in [
            100, 1_000, 2_000, 8_000, 11_000, 14_000, 15_100, 40_000, 100_000,
        ] {
            for next in [100, 2_000, 7_600, 11_000, 14_000] {
                for far in [1229, 1230, 1234, 1240, 1300] {
                    let mut bench = Bench::new(&appliance());
                    let (mut at, mut last) = (1_000_000, None);
                    for port in doubled(1211..=far, times) {
                        at += if last == Some(port) { between } else { next };
                        last = Some(port);
                        let done = bench.knock(A, &port.to_string(), at);
                        assert!(!opens(&done), "{times} to {port}: {between}, {next}, {far}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_scan_that_comes_back_to_a_few_ports_at_a_time_opens_nothing() {
    for pause in [1_000, 5_000, 8_000, 11_000, 14_000] {
        let mut bench = Bench::new(&appliance());
        let pairs = (1211..=1240)
            .rev()
            .step_by(2)
            .map(|low: u16| [low, low - 1]);
        let ports: Vec<u16> = pairs.flat_map(|[a, b]| [a, b, a, b]).collect();
        assert!(ports.windows(2).any(|pair| pair == [1228, 1227]));
        let done = sweep(&mut bench, A, 1_000_000, pause, &ports);
        assert!(!opens(&done), "{pause} ms apart");
    }
}

#[test]
fn whoever_was_early_at_the_same_port_again_and_again_waits_no_longer() {
    let rule = knock("same", "7000 7000", KnockAction::Accept);
    let mut bench = Bench::new(&policy(vec![gate("ssh")], vec![rule]));
    bench.knock(A, "7001", 0);
    let early = sweep(&mut bench, A, 1_000, 1_000, &[7000, 7000, 7000]);
    assert_eq!(early, NONE);
    let timeout = bench.matcher.sequences[SequenceId(0)].timeout;
    let late = u64::try_from(timeout.as_millis()).unwrap() + 50;
    assert_eq!(sweep(&mut bench, A, late, 10, &[7000, 7000]), ["same"]);
}

/// A whole decoy is one mistake, and two foreign ports are two.
#[test]
fn two_foreign_ports_near_the_sequence_count_for_as_long_as_a_sweep() {
    for (ports, secs) in [([1220, 1221], 15), ([1229, 1230], 75)] {
        let mut bench = Bench::new(&appliance());
        sweep(&mut bench, A, 0, 0, &ports);
        let early = sweep(&mut bench, A, secs * 1000 - 100, 10, &[1228, 1227]);
        assert_eq!(early, NONE, "{ports:?}");
        let late = sweep(&mut bench, A, secs * 1000 + 50, 10, &[1228, 1227]);
        assert!(opens(&late), "{ports:?}");
    }
}

#[test]
fn whoever_was_early_is_let_in_with_the_next_knock() {
    for early in [&[1228, 1227][..], &[1228, 1228, 1227], &[1228]] {
        let mut bench = Bench::new(&appliance());
        bench.knock(A, "1229", 0);
        assert_eq!(sweep(&mut bench, A, 5_000, 10, early), NONE);
        let second = sweep(&mut bench, A, 16_000, 10, &[1228, 1227]);
        // What never went on is taken for a scan once.
        assert_eq!(opens(&second), early.len() > 1, "{early:?}");
        let third = sweep(&mut bench, A, 17_000, 10, &[1228, 1227]);
        assert!(opens(&third), "{early:?}");
    }
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

#[test]
fn what_is_sent_again_does_not_count_however_short_the_times_are_and_whoever_is_beside() {
    for (policy, beside) in [(short(), None), (appliance(), Some("8443"))] {
        for port in ["1229", "1226"] {
            let mut bench = Bench::new(&policy);
            let again = [0, 1, 3, 7, 15, 31, 63].map(|at| (port, 1, at));
            let knocks = [
                ("1228", 2, 25),
                ("1227", 3, 27),
                ("1228", 4, 60),
                ("1227", 5, 64),
            ];
            // Somebody else behind the same address.
            let beside = beside.map(|port| (port, 6, 20));
            let mut packets: Vec<_> = again.into_iter().chain(knocks).chain(beside).collect();
            packets.sort_by_key(|&(_, _, at)| at);
            let mut done = Vec::new();
            for (port, unique, at) in packets {
                let syn = packet(A, port, unique);
                let heard = bench.matcher.handle(&syn, true, Time::from_secs(1000 + at));
                assert_eq!(heard.undone, [], "{port} at {at} s");
                done.extend(heard.completed);
            }
            assert_eq!(done.len(), 2, "{port} beside {beside:?}");
        }
    }
}

/// The appliance with 5 s for a knock.
fn short() -> Policy {
    let mut policy = appliance();
    policy.scan_guard.within = Duration::from_secs(25);
    for knock in &mut policy.knocks {
        knock.seq_timeout = Duration::from_secs(5);
    }
    policy
}

/// A knock and no decoys.
fn plain() -> Policy {
    let knocks = vec![knock("open", "1228 1227", KnockAction::Accept)];
    policy(vec![gate("ssh")], knocks)
}

/// Every packet to a port is the same: a scanner whose source port and sequence number are fixed, as
/// `hping3 --keep --setseq`.
fn fixed(port: u16) -> Knock {
    packet(A, &port.to_string(), 7)
}

/// Whether a scanner with fixed numbers has opened a gate at the end of its rounds, or for longer
/// than a minute: it goes through the ports `gap` milliseconds apart, and waits for `pause` seconds.
fn stays_open(policy: &Policy, (first, last): (u16, u16), gap: u64, pause: u64) -> bool {
    let mut matcher = Matcher::new(policy);
    let mut at = Time::from_secs(1000);
    let mut open: Option<Time> = None;
    for round in 0..12u16 {
        let mut ports: Vec<u16> = (first..=last).rev().collect();
        match round % 4 {
            1 if gap > 10 => ports.reverse(),
            // Somewhere else first.
            3 => ports.rotate_left(1),
            _ => {}
        }
        for port in ports {
            let heard = matcher.handle(&fixed(port), true, at);
            let granted = |id: &SequenceId| !matcher.sequences[*id].is_drop;
            if heard.completed.iter().any(granted) {
                open = Some(at);
            }
            if heard.undone.iter().any(granted) {
                open = None;
            }
            if open.is_some_and(|since| at.since(since) > Duration::from_secs(60)) {
                return true;
            }
            at = at.after(Duration::from_millis(gap));
        }
        at = at.after(Duration::from_secs(pause));
    }
    open.is_some()
}

#[test]
fn a_scanner_with_fixed_numbers_opens_nothing_on_a_later_round() {
    let ranges = [
        (1227, 1229),
        (1226, 1228),
        (1225, 1231),
        (1222, 1233),
        (1210, 1250),
    ];
    for (number, policy) in [plain(), appliance(), short()].iter().enumerate() {
        for ports in ranges {
            for gap in [10, 1_000, 10_000] {
                for pause in (1..200).step_by(7).chain([300]) {
                    let what = format!("policy {number}: {ports:?}, {gap} ms, {pause} s");
                    assert!(!stays_open(policy, ports, gap, pause), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_scanner_with_fixed_numbers_that_is_slow_at_first_opens_nothing() {
    for policy in [plain(), appliance()] {
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
    }
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
