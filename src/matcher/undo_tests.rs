//! A sweep that begins with the knock shows what it is afterwards: what it brought about is undone.

use std::collections::HashMap;

use proptest::prelude::*;

use super::sweep_tests::{A, sweep};
use super::tests::Bench;
use super::*;
use crate::fixtures::{appliance, packet};

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

/// Which sequences each packet undoes.
fn undone(bench: &mut Bench, ports: &[(u16, u64)]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    for (unique, &(port, at)) in (0..).zip(ports) {
        let syn = packet(A, &port.to_string(), unique);
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
fn of_two_that_are_complete_the_later_one_can_be_undone() {
    let mut bench = Bench::new(&appliance());
    let knocks = [
        (1228, 0),
        (1227, 10),
        (1228, 1_000),
        (1227, 1_010),
        // The record of the first is that of the third, in its old place.
        (1228, 20_000),
        (1227, 20_010),
        (1228, 21_000),
        (1229, 22_000),
    ];
    let once = vec![(1229, "opencloseSSH".to_owned())];
    assert_eq!(undone(&mut bench, &knocks), once);
}

/// What the guard promises, as plainly as it can be written, for times that are not close to a
/// limit. In milliseconds.
#[derive(Debug, Default)]
struct Promised {
    touches: HashMap<u16, u64>,
    is_scanner: bool,
    last: Option<u64>,
    near: Option<u64>,
    open: Option<u64>,
}

impl Promised {
    /// A strange port is touched.
    fn touch(&mut self, port: u16, is_near: bool, at: u64) {
        if self.last.is_some_and(|last| at - last > 75_000) {
            self.is_scanner = false;
        }
        self.last = Some(at);
        self.touches.retain(|_, then| at - *then <= 75_000);
        self.touches.insert(port, at);
        self.is_scanner |= self.touches.len() >= 5;
        if is_near {
            self.near = Some(at);
        }
    }

    /// Nothing may be opened now.
    fn is_shut_out(&self, at: u64) -> bool {
        let within = |then: Option<u64>, span| then.is_some_and(|then| at - then < span);
        within(self.near, 14_900) || (self.is_scanner && within(self.last, 74_000))
    }

    /// What is open must have been undone with the strange port that was just touched.
    fn is_to_be_undone(&self, is_near: bool, at: u64) -> bool {
        let within = |span| self.open.is_some_and(|then| at - then < span);
        (is_near && within(14_900)) || (self.is_scanner && within(149_000))
    }
}

proptest! {
    #[test]
    fn whatever_the_order_what_a_sweep_has_opened_is_undone(
        steps in prop::collection::vec((0usize..16, 0usize..12), 1..20),
    ) {
        // The knock is likely.
        const PORTS: [u16; 16] = [
            1228, 1227, 1228, 1227, 1228, 1227, 1220, 1221, 1226, 1229, 1231, 1, 2, 3, 4, 5,
        ];
        const GAPS: [u64; 12] = [
            10, 10, 10, 100, 1_000, 3_000, 5_000, 14_000, 16_000, 40_000, 70_000, 80_000,
        ];
        let mut bench = Bench::new(&appliance());
        let mut promised = Promised::default();
        let mut at = 0;
        for (unique, (port, gap)) in (0..).zip(steps) {
            let port = PORTS[port];
            at += GAPS[gap];
            let is_near = port > 1000;
            let is_strange = port != 1228 && port != 1227;
            if is_strange {
                promised.touch(port, is_near, at);
            }
            let syn = packet(A, &port.to_string(), unique);
            let heard = bench.matcher.handle(&syn, true, Time(at * 1_000_000));
            let grants = |id: &SequenceId| !bench.matcher.sequences[*id].is_drop;
            if heard.completed.iter().any(grants) {
                prop_assert!(!promised.is_shut_out(at), "{port} at {at} opens");
                promised.open = Some(at);
            }
            if heard.undone.iter().any(grants) {
                promised.open = None;
            }
            let stays = is_strange && promised.is_to_be_undone(is_near, at);
            prop_assert!(!stays, "{port} at {at} undoes nothing");
        }
    }
}
