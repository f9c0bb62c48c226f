//! The scan guard: a sweep never opens a gate, and honest traffic is not punished.

use std::collections::HashMap;

use proptest::prelude::*;

use super::tests::{Bench, NONE};
use super::*;
use crate::fixtures::{address, appliance, gate, knock, packet, policy};
use crate::policy::KnockAction;

pub(super) const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";

/// Sends SYNs to the ports, `gap` milliseconds apart; what they completed.
pub(super) fn sweep(
    bench: &mut Bench,
    from: &str,
    start: u64,
    gap: u64,
    ports: &[u16],
) -> Vec<String> {
    let times = (0..).map(|i| start + i * gap);
    ports
        .iter()
        .zip(times)
        .flat_map(|(port, at)| bench.knock(from, &port.to_string(), at))
        .collect()
}

pub(super) fn opens(done: &[String]) -> bool {
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
fn what_makes_a_scanner_completes_no_decoy_when_it_is_sent_again() {
    let mut bench = Bench::new(&appliance());
    sweep(&mut bench, A, 0, 1, &[1220, 1221, 1226, 1224]);
    // By now nothing of that is under way, and there is a record that may be another.
    sweep(&mut bench, A, 31_000, 1, &[1227, 1228]);
    let fifth = packet(A, "1222", 77);
    for secs in [32, 33, 35] {
        assert_eq!(bench.take(&fifth, Time::from_secs(secs)), NONE);
        let found = bench.matcher.is_sweeping(address(A), Time::from_secs(secs));
        assert!(found, "it is the fifth");
    }
    assert_eq!(bench.knock(A, "1222", 39_000), ["banned5"]);
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
        let syn = packet(A, &port.to_string(), 1);
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
    for (unique, port) in (500..).zip(["1", "2", "3", "4", "5", "6"]) {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        let answer = Knock {
            flags,
            ..packet(A, port, unique)
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
            let syn = packet(A, &port.to_string(), 1);
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
        for (unique, (source, port, gap)) in (0..).zip(touches) {
            at += gap;
            let from = format!("192.0.2.{source}");
            let syn = packet(&from, &port.to_string(), unique);
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
