//! The scan guard over a reload, and for what is behind this host.

use std::time::Duration;

use super::tests::{Bench, NONE};
use super::*;
use crate::fixtures::{address, appliance, gate, knock, packet, policy};
use crate::policy::KnockAction;

const A: &str = "198.51.100.7";

#[test]
fn ports_that_were_touched_before_another_window_are_not_misread() {
    let within = |secs| {
        let mut policy = appliance();
        policy.scan_guard.within = Duration::from_secs(secs);
        policy
    };
    for (before, after) in [(75, 10), (10, 75), (75, 76), (75, 3600), (3600, 75)] {
        // Whatever the ticks are at that time.
        for start in (0..200_000).step_by(7001) {
            let mut bench = Bench::new(&within(before));
            for port in ["1", "2", "3", "4"] {
                bench.knock(A, port, start * 1000);
            }
            bench.matcher.reload(&within(after));
            // Long after.
            let later = (start + 2 * before + 2 * after) * 1000;
            bench.knock(A, "5", later);
            bench.knock(A, "1228", later + 10);
            let done = bench.knock(A, "1227", later + 20);
            assert_eq!(
                done,
                ["opencloseSSH"],
                "{before} s, then {after} s at {start}"
            );
        }
    }
    // Who is a scanner stays one.
    let mut bench = Bench::new(&within(75));
    for port in ["1", "2", "3", "4", "5"] {
        bench.knock(A, port, 1000);
    }
    bench.matcher.reload(&within(60));
    bench.knock(A, "1228", 2000);
    assert_eq!(bench.knock(A, "1227", 2010), NONE);
}

/// SYNs to an address behind this host, a tenth of a second apart; what they completed.
fn behind(bench: &mut Bench, ports: impl IntoIterator<Item = u16>) -> Vec<String> {
    let mut done = Vec::new();
    for (port, number) in ports.into_iter().zip(1u32..) {
        let at = Time::from_secs(1000).after(Duration::from_millis(100) * number);
        let heard = bench
            .matcher
            .handle(&packet(A, &port.to_string(), number), false, at);
        done.extend(
            heard
                .completed
                .iter()
                .map(|&id| bench.matcher.name(id).to_string()),
        );
    }
    done
}

fn gateway() -> Policy {
    let knocks = vec![
        knock("open", "700 800 900", KnockAction::Accept),
        knock("decoy", "1000 1001", KnockAction::Drop),
    ];
    policy(vec![gate("ssh")], knocks)
}

#[test]
fn a_sweep_of_what_is_behind_this_host_opens_nothing() {
    // nmap -r, fast enough to meet all three in their time.
    for first in [695, 699, 600] {
        let mut bench = Bench::new(&gateway());
        let ports = (first..=905).filter(|port| port % 100 < 10 || port % 100 > 90);
        assert_eq!(behind(&mut bench, ports), NONE, "{first}");
    }
    let mut bench = Bench::new(&gateway());
    assert_eq!(behind(&mut bench, [1001, 700, 800, 900]), NONE, "a decoy");
    let mut bench = Bench::new(&gateway());
    assert_eq!(behind(&mut bench, [700, 1001, 700, 800, 900]), NONE);
    // One that begins with the very knock is undone when it shows.
    let mut bench = Bench::new(&gateway());
    assert_eq!(behind(&mut bench, [700, 800, 900]), ["open"]);
    let next = packet(A, "901", 50);
    let heard = bench.matcher.handle(&next, false, Time::from_secs(1001));
    assert_eq!(heard.undone.len(), 1);
}

/// No gate is there, and all the same what goes there is heard: nothing else shows that it is swept.
#[test]
fn a_sweep_of_a_target_behind_this_host_opens_nothing() {
    let there = address("198.51.100.1");
    let mut open = knock("open", "1228 1227", KnockAction::Accept);
    open.target = Some(there);
    let policy = policy(vec![gate("ssh")], vec![open]);
    let mut scope = Scope::default();
    scope.set_own([address("192.0.2.1")]);
    scope.set_gates(&policy);
    let swept = |from: u16| {
        let mut matcher = Matcher::new(&policy);
        let (mut completed, mut undone) = (0, 0);
        for (port, number) in (1100..=from).rev().zip(1u32..) {
            let knock = Knock {
                destination: there,
                ..packet(A, &port.to_string(), number)
            };
            assert!(scope.admits(&knock), "{port}");
            let at = Time::from_secs(1000).after(Duration::from_millis(10) * number);
            let heard = matcher.handle(&knock, scope.is_own(there), at);
            completed += heard.completed.len();
            undone += heard.undone.len();
        }
        (completed, undone)
    };
    assert_eq!(swept(1300), (0, 0));
    // One that begins with the very knock.
    assert_eq!(swept(1228), (1, 1));
}

/// Anything may be served there.
#[test]
fn whoever_uses_what_is_behind_this_host_is_no_scanner() {
    let mut bench = Bench::new(&gateway());
    let served = (1..=100).chain([700, 443, 8443, 800, 6667, 900]);
    assert_eq!(behind(&mut bench, served), ["open"]);
    assert!(
        !bench
            .matcher
            .is_sweeping(A.parse().unwrap(), Time::from_secs(1012))
    );
}
