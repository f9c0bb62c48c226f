//! Each sentence of "What a knock is" in the design is a test by name.
#![allow(clippy::cast_possible_truncation, reason = "small numbers, in a test")]

use std::time::Duration;

use super::*;
use crate::fixtures::{address, appliance, gate, knock, packet, policy};
use crate::policy::{GateAddress, Hook, KnockAction, TcpFlags};

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";

/// A matcher and a counter that makes every packet a new one.
pub(super) struct Bench {
    pub(super) matcher: Matcher,
    sent: u32,
}

impl Bench {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            matcher: Matcher::new(policy),
            sent: 0,
        }
    }

    pub(super) fn of(sequences: &[&str]) -> Self {
        let knocks = sequences
            .iter()
            .enumerate()
            .map(|(i, ports)| knock(&format!("s{i}"), ports, KnockAction::Accept))
            .collect();
        let mut policy = policy(vec![gate("ssh")], knocks);
        // The guard has tests of its own.
        policy.scan_guard.ports = 100;
        policy.scan_guard.nearby = 0;
        Self::new(&policy)
    }

    pub(super) fn take(&mut self, knock: &Knock, at: Time) -> Vec<String> {
        let done = self.matcher.handle(knock, true, at).completed;
        done.into_iter()
            .map(|id| self.matcher.name(id).to_string())
            .collect()
    }

    /// A fresh packet at a time in milliseconds.
    pub(super) fn knock(&mut self, source: &str, port: &str, millis: u64) -> Vec<String> {
        self.sent += 1;
        self.take(&packet(source, port, self.sent), Time(millis * 1_000_000))
    }

    /// Fresh packets a tenth of a second apart; all that they completed.
    fn knocks(&mut self, source: &str, ports: &str) -> Vec<String> {
        let ports: Vec<_> = ports.split_whitespace().collect();
        let start = u64::from(self.sent) * 100;
        ports
            .iter()
            .zip(1..)
            .flat_map(|(p, i)| self.knock(source, p, start + i * 100))
            .collect()
    }
}

pub(super) const NONE: [&str; 0] = [];

#[test]
fn the_expected_port_advances() {
    let mut bench = Bench::of(&["7000 8000 9000"]);
    assert_eq!(bench.knocks(A, "7000 8000"), NONE);
    assert_eq!(bench.knocks(A, "9000"), ["s0"]);
    assert_eq!(bench.knocks(A, "9000"), NONE, "it is over");
    assert_eq!(bench.knocks(A, "8000 7000 9000"), NONE, "another order");
}

#[test]
fn a_repeat_of_the_port_just_matched_is_ignored() {
    let mut bench = Bench::of(&["7000 8000 9000"]);
    assert_eq!(bench.knocks(A, "7000 7000 8000 8000 8000 9000"), ["s0"]);
}

#[test]
fn unless_the_sequence_asks_for_it() {
    let mut bench = Bench::of(&["1226 1226", "5000 5000 6000"]);
    assert_eq!(bench.knocks(A, "1226"), NONE);
    assert_eq!(bench.knocks(A, "1226"), ["s0"]);
    assert_eq!(bench.knocks(A, "1226"), NONE, "the third begins anew");
    assert_eq!(bench.knocks(A, "5000 6000"), NONE);
    assert_eq!(bench.knocks(A, "5000 5000 5000 6000"), ["s1"]);
}

#[test]
fn any_other_knock_port_voids_the_attempt() {
    let mut bench = Bench::of(&["7000 8000 9000", "100 200"]);
    assert_eq!(bench.knocks(A, "7000 200 8000 9000"), NONE);
    assert_eq!(bench.knocks(A, "7000 9000 8000 9000"), NONE);
    assert_eq!(
        bench.knocks(A, "7000 8000 7000 9000"),
        NONE,
        "an earlier port is another port"
    );
    assert_eq!(
        bench.knocks(A, "7000 12345 8000 9000"),
        ["s0"],
        "12345 is no knock port"
    );
}

#[test]
fn and_may_then_start_it_anew() {
    let mut bench = Bench::of(&["7000 8000 9000"]);
    assert_eq!(bench.knocks(A, "7000 8000 7000 8000 9000"), ["s0"]);
}

#[test]
fn without_backtracking() {
    let mut bench = Bench::of(&["10 20 10 30"]);
    assert_eq!(bench.knocks(A, "10 20 10 20 10 30"), NONE);
    assert_eq!(bench.knocks(A, "10 20 10 30"), ["s0"]);
}

#[test]
fn a_retransmission_is_nothing_at_all() {
    let mut bench = Bench::of(&["1226 1226", "7000 8000 9000"]);
    let first = packet(A, "1226", 1);
    assert_eq!(bench.take(&first, Time::from_secs(1)), NONE);
    assert_eq!(
        bench.take(&first, Time::from_secs(2)),
        NONE,
        "SYN, sent again after a second"
    );
    assert_eq!(
        bench.take(&packet(A, "1226", 2), Time::from_secs(3)),
        ["s0"]
    );
    assert_eq!(bench.take(&first, Time::from_secs(4)), NONE);
    assert_eq!(
        bench.take(&packet(A, "1226", 2), Time::from_secs(5)),
        NONE,
        "starts nothing"
    );

    // Two connections to each port, all of them retransmitted while the later ones arrive.
    let knocks: Vec<_> = (0..6)
        .map(|i| packet(A, ["7000", "8000", "9000"][i / 2], 10 + i as u32))
        .collect();
    let mut done = Vec::new();
    for i in 0..6 {
        done.extend(bench.take(&knocks[i], Time::from_secs(10 + i as u64)));
        for old in &knocks[..i] {
            assert_eq!(bench.take(old, Time::from_secs(10 + i as u64)), NONE);
        }
    }
    assert_eq!(done, ["s1"]);
}

#[test]
fn a_retransmission_of_a_knock_that_started_nothing_voids_nothing() {
    let mut bench = Bench::of(&["7000 8000"]);
    let stray = packet(A, "8000", 1);
    assert_eq!(bench.take(&stray, Time::from_secs(1)), NONE);
    assert_eq!(bench.take(&packet(A, "7000", 2), Time::from_secs(2)), NONE);
    assert_eq!(
        bench.take(&stray, Time::from_secs(2)),
        NONE,
        "neither completes nor voids"
    );
    assert_eq!(
        bench.take(&packet(A, "8000", 3), Time::from_secs(2)),
        ["s0"]
    );
}

#[test]
fn the_same_ports_with_another_sequence_number_are_a_new_knock() {
    let mut bench = Bench::of(&["1226 1226"]);
    assert_eq!(bench.take(&packet(A, "1226", 1), Time(1)), NONE);
    assert_eq!(bench.take(&packet(A, "1226", 2), Time(2)), ["s0"]);
}

#[test]
fn datagrams_have_no_sequence_number_so_a_second_one_is_a_repeat() {
    let mut bench = Bench::of(&["53/udp 53/udp", "60/udp 61/udp"]);
    assert_eq!(bench.knocks(A, "60/udp 60/udp 61/udp"), ["s1"]);
    assert_eq!(bench.knocks(A, "53/udp 53/udp"), ["s0"]);
}

#[test]
fn protocols_are_told_apart() {
    let mut bench = Bench::of(&["666 9663/udp 2355"]);
    assert_eq!(bench.knocks(A, "666 9663 2355"), NONE);
    assert_eq!(bench.knocks(A, "666 9663/udp 2355"), ["s0"]);
}

#[test]
fn one_source_never_disturbs_another() {
    let mut bench = Bench::of(&["7000 8000 9000"]);
    bench.knocks(A, "7000 8000");
    bench.knocks(B, "7000 9000 8000");
    assert_eq!(bench.knocks(A, "9000"), ["s0"]);
}

#[test]
fn attempts_of_one_source_at_different_sequences_run_side_by_side() {
    let mut bench = Bench::of(&["7000 8000 9000", "7000 8000 9001"]);
    bench.knocks(A, "7000 8000");
    assert_eq!(bench.knocks(A, "9001"), ["s1"]);
    let mut bench = Bench::of(&["10 20 30", "20 30 40"]);
    assert_eq!(
        bench.knocks(A, "10 20 30 40"),
        ["s0", "s1"],
        "overlapping in time"
    );
}

#[test]
fn a_packet_that_completes_one_sequence_may_start_another() {
    let mut bench = Bench::of(&["10 20", "20 30"]);
    assert_eq!(bench.knocks(A, "10 20"), ["s0"]);
    assert_eq!(bench.knocks(A, "30"), ["s1"]);
}

#[test]
fn two_that_end_on_one_packet_both_fire_drops_first() {
    let knocks = vec![
        knock("open", "10 20 30", KnockAction::Accept),
        knock("decoy", "20 30", KnockAction::Drop),
    ];
    let mut bench = Bench::new(&policy(vec![gate("ssh")], knocks));
    assert_eq!(bench.knocks(A, "10 20 30"), ["decoy", "open"]);
}

#[test]
fn seq_timeout_runs_from_the_first_knock_to_the_last_inclusive() {
    let mut bench = Bench::of(&["7000 8000 9000"]);
    bench.knock(A, "7000", 1000);
    bench.knock(A, "8000", 15_000);
    assert_eq!(bench.knock(A, "9000", 16_000), ["s0"], "15 s exactly");
    bench.knock(A, "7000", 20_000);
    bench.knock(A, "8000", 34_000);
    assert_eq!(bench.knock(A, "9000", 35_001), NONE, "one millisecond late");
}

#[test]
fn a_late_knock_may_start_the_sequence_anew() {
    let mut bench = Bench::of(&["10 20 10"]);
    bench.knock(A, "10", 0);
    bench.knock(A, "20", 1000);
    assert_eq!(bench.knock(A, "10", 16_000), NONE);
    bench.knock(A, "20", 17_000);
    assert_eq!(bench.knock(A, "10", 18_000), ["s0"]);
}

#[test]
fn repeating_the_first_port_while_it_alone_is_matched_starts_it_again() {
    let mut bench = Bench::of(&["7000 8000 9000"]);
    bench.knock(A, "7000", 0);
    bench.knock(A, "7000", 10_000);
    bench.knock(A, "8000", 20_000);
    assert_eq!(
        bench.knock(A, "9000", 25_000),
        ["s0"],
        "15 s from the second 7000"
    );
    bench.knock(A, "7000", 30_000);
    bench.knock(A, "8000", 40_000);
    bench.knock(A, "8000", 44_000);
    assert_eq!(
        bench.knock(A, "9000", 46_000),
        NONE,
        "a later repeat does not"
    );
}

#[test]
fn packets_out_of_order_in_time_are_no_danger() {
    let mut bench = Bench::of(&["7000 8000"]);
    bench.knock(A, "7000", 10_000);
    assert_eq!(bench.knock(A, "8000", 9_999), ["s0"]);
}

#[test]
fn a_tcp_packet_whose_flags_do_not_match_is_nothing() {
    let mut bench = Bench::of(&["7000 8000"]);
    let mut flagged = |port: &str, unique: u32, flags: u8| {
        let knock = Knock {
            flags,
            ..packet(A, port, unique)
        };
        bench.take(&knock, Time::from_secs(1))
    };
    flagged("7000", 1, TcpFlags::SYN);
    for (unique, flags) in [
        (2, TcpFlags::ACK),
        (3, TcpFlags::SYN | TcpFlags::ACK),
        (4, 0),
        (5, TcpFlags::RST),
    ] {
        assert_eq!(flagged("8000", unique, flags), NONE);
        assert_eq!(
            flagged("7000", unique + 10, flags),
            NONE,
            "nor does it void"
        );
    }
    assert_eq!(flagged("8000", 6, TcpFlags::SYN), ["s0"]);
}

#[test]
fn other_flags_may_be_asked_for() {
    let mut fin = knock("fin", "7000 8000", KnockAction::Accept);
    fin.flags = TcpFlags {
        set: TcpFlags::FIN,
        clear: TcpFlags::ACK,
    };
    let syn = knock("syn", "7000 8000 9000", KnockAction::Accept);
    let mut bench = Bench::new(&policy(vec![gate("ssh")], vec![fin, syn]));
    let fin = |port: &str, unique| Knock {
        flags: TcpFlags::FIN,
        ..packet(A, port, unique)
    };
    bench.take(&packet(A, "7000", 1), Time(1));
    bench.take(&fin("7000", 2), Time(2));
    assert_eq!(
        bench.take(&fin("8000", 3), Time(3)),
        ["fin"],
        "side by side"
    );
    bench.take(&packet(A, "8000", 4), Time(4));
    assert_eq!(bench.take(&packet(A, "9000", 5), Time(5)), ["syn"]);
}

#[test]
fn a_target_has_its_own_knocks_and_nobody_elses() {
    let mut there = knock("there", "7000 8000", KnockAction::Accept);
    there.target = Some(address("198.51.100.1"));
    let here = knock("here", "7000 8000", KnockAction::Accept);
    let policy = policy(vec![gate("ssh")], vec![there, here]);
    let mut matcher = Matcher::new(&policy);
    let mut scope = Scope::default();
    scope.set_own([address("192.0.2.1")]);
    scope.set_gates(&policy);
    let mut names = |to: &str, ports: [&str; 2], unique| -> Vec<String> {
        let mut done = Vec::new();
        for (port, unique) in ports.iter().zip(unique..) {
            let packet = Knock {
                destination: address(to),
                ..packet(A, port, unique)
            };
            if scope.admits(&packet) {
                let ours = scope.is_own(packet.destination);
                done.extend(matcher.handle(&packet, ours, Time(unique.into())).completed);
            }
        }
        done.into_iter()
            .map(|id| matcher.name(id).to_string())
            .collect()
    };
    assert_eq!(names("192.0.2.1", ["7000", "8000"], 1), ["here"]);
    assert_eq!(names("198.51.100.1", ["7000", "8000"], 10), ["there"]);
    assert_eq!(names("198.51.100.2", ["7000", "8000"], 20), NONE);
    assert_eq!(names("192.0.2.1", ["7000", "9000"], 30), NONE);
    assert_eq!(
        names("198.51.100.1", ["8000", "8000"], 40),
        NONE,
        "two halves are no whole"
    );
}

#[test]
fn a_sequence_of_one_port_completes_at_once() {
    let mut bench = Bench::of(&["7000"]);
    assert_eq!(bench.knocks(A, "7000 7000"), ["s0", "s0"]);
    let again = packet(A, "7000", 99);
    assert_eq!(bench.take(&again, Time(1)), ["s0"]);
    assert_eq!(bench.take(&again, Time(2)), NONE, "retransmitted");
}

#[test]
fn the_appliance_opens_and_bans() {
    let mut bench = Bench::new(&appliance());
    assert_eq!(bench.knocks(A, "1228 1227"), ["opencloseSSH"]);
    for (name, ports) in [
        ("banned1", "1220 1221"),
        ("banned2", "1224 1225"),
        ("banned3", "1226 1226"),
        ("banned4", "1223 1224"),
        ("banned5", "1222 1222"),
    ] {
        assert_eq!(bench.knocks(B, ports), [name]);
    }
}

#[test]
fn at_reload_unchanged_sequences_keep_their_attempts() {
    let old = policy(
        vec![gate("ssh")],
        vec![
            knock("a", "10 20", KnockAction::Accept),
            knock("b", "30 40", KnockAction::Accept),
            knock("c", "50 60", KnockAction::Accept),
        ],
    );
    let mut shorter = knock("b", "30 40", KnockAction::Accept);
    shorter.seq_timeout = Duration::from_secs(5);
    let mut new = policy(
        vec![gate("ssh")],
        vec![
            knock("z", "70 80", KnockAction::Accept),
            knock("c", "50 60", KnockAction::Accept),
            shorter,
        ],
    );
    new.memory = 128 << 10;
    let mut bench = Bench::new(&old);
    bench.knock("192.0.2.10", "10", 0);
    bench.knock("192.0.2.30", "30", 0);
    bench.knock("192.0.2.50", "50", 0);
    bench.matcher.reload(&new);
    assert_eq!(
        bench.knock("192.0.2.50", "60", 1000),
        ["c"],
        "unchanged, though it moved"
    );
    assert_eq!(bench.knock("192.0.2.30", "40", 1000), NONE, "changed");
    assert_eq!(bench.knock("192.0.2.10", "20", 1000), NONE, "gone");
}

#[test]
fn what_has_arrived_is_counted_per_knock_port() {
    let mut bench = Bench::of(&["7000 8000"]);
    bench.knocks(A, "7000 7000 8000 12345");
    let arrived: Vec<_> = bench
        .matcher
        .arrivals()
        .map(|(port, n)| (port.port, n))
        .collect();
    assert_eq!(arrived, [(7000, 2), (8000, 1)]);
}

#[test]
fn knocks_go_to_an_address_of_this_host_or_of_the_gate_when_forwarding() {
    let mut scope = Scope::default();
    let mut inner = gate("ssh");
    inner.hook = Hook::Forward;
    inner.address = Some(GateAddress::Net("10.0.0.0/24".parse().unwrap()));
    scope.set_own([address("192.0.2.1"), address("2001:db8::1")]);
    scope.set_gates(&policy(vec![inner], vec![]));
    for (to, meant) in [
        ("192.0.2.1", true),
        ("2001:db8::1", true),
        ("10.0.0.5", true),
        ("192.0.2.2", false),
        ("10.0.1.5", false),
    ] {
        let knock = Knock {
            destination: address(to),
            ..packet(A, "7000", 1)
        };
        assert_eq!(scope.admits(&knock), meant, "{to}");
    }
    scope.set_gates(&policy(vec![gate("ssh")], vec![]));
    let knock = Knock {
        destination: address("10.0.0.5"),
        ..packet(A, "7000", 1)
    };
    assert!(!scope.admits(&knock), "not forwarding");
}

#[test]
fn own_and_broadcast_sources_never_knock() {
    let mut scope = Scope::default();
    scope.set_own([address("192.0.2.1")]);
    scope.set_broadcast([address("192.0.2.255")]);
    assert!(!scope.admits(&packet("192.0.2.255", "7000", 1)));
    assert!(!scope.admits(&packet("192.0.2.1", "7000", 1)));
    assert!(scope.admits(&packet(A, "7000", 1)));
}
