//! A sweep that begins with the knock shows what it is afterwards: what it brought about is undone.

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
