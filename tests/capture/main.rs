//! Capturing and following interfaces, with the real kernel, in a network namespace of its own.
#![cfg(target_os = "linux")]

mod flood;
mod links;
mod net;
mod support;

use std::ops::ControlFlow;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use net::Veth;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{getsockopt, sockopt::SocketError};
use portcullis::capture::{Capture, CaptureError, Interfaces, Spec, Statistics};
use portcullis::model::KnockPort;
use portcullis::packet;
use portcullis::sys::clock;
use support::{drain_all, in_ten_seconds, ports, seen_until, syn, syn6, udp, wait_for, wants};

/// Set in a process that is to try it without privileges.
const UNPRIVILEGED: &str = "PORTCULLIS_TEST_UNPRIVILEGED";

/// What that process answers if it was told that it lacks privileges.
const TOLD: u8 = 42;

fn main() -> ExitCode {
    if std::env::var_os(UNPRIVILEGED).is_some() {
        return unprivileged();
    }
    let mut arguments = Arguments::from_args();
    // One after the other: they share the namespace.
    arguments.test_threads = Some(1);
    net::enter_namespace();
    let processors = PROCESSORS.get_or_init(net::processors);
    net::pin(processors, false);
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("a_knock_is_seen_once", a_knock_is_seen_once),
        trial("ipv6_with_extension_headers", ipv6_with_extension_headers),
        trial(
            "what_is_not_wanted_is_not_seen",
            what_is_not_wanted_is_not_seen,
        ),
        trial("only_on_the_interfaces_named", only_on_the_interfaces_named),
        trial(
            "changing_the_filter_loses_nothing",
            changing_the_filter_loses_nothing,
        ),
        trial(
            "the_longest_filter_is_accepted",
            the_longest_filter_is_accepted,
        ),
        trial(
            "little_room_for_filters_will_do",
            little_room_for_filters_will_do,
        ),
        trial(
            "a_vanished_interface_ends_nothing",
            a_vanished_interface_ends_nothing,
        ),
        trial(
            "times_are_those_of_the_boot_clock",
            times_are_those_of_the_boot_clock,
        ),
        trial("an_async_loop_is_woken", an_async_loop_is_woken),
        trial(
            "a_flood_is_received_whole",
            flood::a_flood_is_received_whole,
        ),
        trial(
            "what_a_full_ring_loses_is_counted",
            flood::what_a_full_ring_loses_is_counted,
        ),
        trial("draining_is_bounded", flood::draining_is_bounded),
        trial(
            "what_waits_behind_is_shown_before_its_turn",
            flood::what_waits_behind_is_shown_before_its_turn,
        ),
        trial(
            "without_privileges_it_says_so",
            without_privileges_it_says_so,
        ),
        trial("addresses_are_followed", links::addresses_are_followed),
        trial("interfaces_are_followed", links::interfaces_are_followed),
        trial(
            "lost_notifications_are_made_up_for",
            links::lost_notifications_are_made_up_for,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

static PROCESSORS: OnceLock<Vec<usize>> = OnceLock::new();

fn a_knock_is_seen_once() {
    let veth = Veth::new("once");
    let mut capture = Capture::open(&wants(&[
        KnockPort::tcp(1228),
        KnockPort::udp(9663),
        KnockPort::tcp(9),
    ]))
    .unwrap();
    for (knock, port) in [
        (syn(1228), KnockPort::tcp(1228)),
        (syn6(1228), KnockPort::tcp(1228)),
        (udp(9663), KnockPort::udp(9663)),
    ] {
        let expected = packet::parse(&knock).unwrap();
        assert_eq!(expected.port, port);
        veth.send(&knock);
        // Both families share the order of sending only within themselves: end with its own.
        veth.send(&if knock[0] >> 4 == 6 { syn6(9) } else { syn(9) });
        let seen = seen_until(&mut capture, KnockPort::tcp(9));
        assert_eq!(ports(&seen), [port.port, 9]);
        assert_eq!(seen[0].knock, expected);
        assert_eq!(seen[0].ifindex, veth.index());
    }
    assert_eq!(
        capture.statistics().unwrap(),
        Statistics {
            seen: 6,
            dropped: 0
        }
    );
}

fn ipv6_with_extension_headers() {
    let veth = Veth::new("ext");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228), KnockPort::tcp(9)])).unwrap();
    for extension in [0u8, 43, 44, 60] {
        let plain = syn6(1228);
        let mut packet = plain[..40].to_vec();
        packet[5] += 8;
        packet[6] = extension;
        packet.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(&plain[40..]);
        veth.send(&packet);
    }
    veth.send(&syn6(9));
    let seen = seen_until(&mut capture, KnockPort::tcp(9));
    assert_eq!(ports(&seen), [1228, 1228, 1228, 1228, 9]);
}

fn what_is_not_wanted_is_not_seen() {
    let veth = Veth::new("unwanted");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228), KnockPort::tcp(9)])).unwrap();
    let mut other = veth.mac();
    other[5] ^= 1;
    for mac in [other, [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1]] {
        veth.try_send(mac, &syn(1228)).unwrap();
        veth.try_send(mac, &syn6(1228)).unwrap();
    }
    let mut syn_ack = syn(1228);
    syn_ack[33] |= 16;
    let mut fragment = syn(1228);
    fragment[6..8].copy_from_slice(&[0x20, 0]);
    let mut icmp = syn(1228);
    icmp[9] = 1;
    for packet in [syn_ack, fragment, icmp, syn(1227), syn6(1227), udp(1228)] {
        veth.send(&packet);
    }
    veth.send(&syn(9));
    veth.send(&syn6(9));
    let mut seen = seen_until(&mut capture, KnockPort::tcp(9));
    if seen.len() < 2 {
        seen.extend(seen_until(&mut capture, KnockPort::tcp(9)));
    }
    assert_eq!(ports(&seen), [9, 9]);
    // Refused by the kernel, not by us.
    assert_eq!(capture.statistics().unwrap().seen, 2);
}

fn only_on_the_interfaces_named() {
    let (here, there) = (Veth::new("here"), Veth::new("there"));
    let ports_wanted = [KnockPort::tcp(1228), KnockPort::tcp(9)];
    let on = |index| Spec {
        interfaces: Interfaces::Only(vec![index]),
        ..wants(&ports_wanted)
    };
    let mut capture = Capture::open(&on(here.index())).unwrap();
    there.send(&syn(1228));
    here.send(&syn(9));
    assert_eq!(ports(&seen_until(&mut capture, KnockPort::tcp(9))), [9]);
    assert_eq!(capture.statistics().unwrap().seen, 1);
    // What is still waiting when an interface is no longer wanted is not delivered.
    here.send(&syn(1228));
    wait_for(&capture.fds(), in_ten_seconds());
    capture.set_filter(&on(there.index())).unwrap();
    here.send(&syn(1228));
    there.send(&syn(9));
    let seen = seen_until(&mut capture, KnockPort::tcp(9));
    assert_eq!(ports(&seen), [9]);
    assert_eq!(seen[0].ifindex, there.index());
}

fn changing_the_filter_loses_nothing() {
    let veth = Veth::new("swap");
    let always = [KnockPort::tcp(1228), KnockPort::tcp(9)];
    let few = wants(&always);
    let mut many = wants(&always);
    many.ports
        .extend((2000..6000).step_by(3).map(KnockPort::tcp));
    let mut capture = Capture::open(&few).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            net::pin(PROCESSORS.get().unwrap(), true);
            for _ in 0..3000 {
                veth.send(&syn(1228));
            }
            veth.send(&syn(9));
        });
        let mut swaps = 0;
        let mut seen = Vec::new();
        let until = in_ten_seconds();
        while seen.last() != Some(&9) {
            assert!(Instant::now() < until, "{} seen", seen.len());
            swaps += 1;
            capture
                .set_filter(if swaps % 2 == 0 { &few } else { &many })
                .unwrap();
            let _ = capture.drain(|frame| {
                seen.push(packet::parse(frame.bytes).unwrap().port.port);
                ControlFlow::Continue(())
            });
        }
        assert_eq!(seen.len(), 3001, "after {swaps} swaps");
    });
    assert_eq!(capture.statistics().unwrap().dropped, 0);
    // The filter that came last is in force.
    capture.set_filter(&wants(&[KnockPort::tcp(9)])).unwrap();
    veth.send(&syn(1228));
    veth.send(&syn(9));
    assert_eq!(ports(&seen_until(&mut capture, KnockPort::tcp(9))), [9]);
}

fn the_longest_filter_is_accepted() {
    let veth = Veth::new("long");
    let every_other = |proto: fn(u16) -> KnockPort| (1..=65535).step_by(2).map(proto);
    let all: Vec<_> = every_other(KnockPort::tcp)
        .chain(every_other(KnockPort::udp))
        .collect();
    let exact: Vec<_> = (0..1500).map(|n| KnockPort::tcp(9 + 40 * n)).collect();
    let mut capture = Capture::open(&wants(&all)).unwrap();
    veth.send(&syn(1227));
    veth.send(&syn(9));
    assert_eq!(
        ports(&seen_until(&mut capture, KnockPort::tcp(9))),
        [1227, 9]
    );
    capture.set_filter(&wants(&exact)).unwrap();
    for port in [10, 8, 48, 50, 49] {
        veth.send(&syn(port));
    }
    veth.send(&syn(9));
    assert_eq!(ports(&seen_until(&mut capture, KnockPort::tcp(9))), [49, 9]);
}

/// Before Linux 6.7 a socket had 20 KiB for its filters, also while one replaces another.
fn little_room_for_filters_will_do() {
    const LIMIT: &str = "/proc/sys/net/core/optmem_max";
    // Where it is not the namespace's own, it has the old value.
    if std::path::Path::new(LIMIT).exists() {
        std::fs::write(LIMIT, "20480").unwrap();
    }
    let veth = Veth::new("room");
    let scattered: Vec<_> = (0..3000).map(|n| KnockPort::tcp(9 + 20 * n)).collect();
    let mut capture = Capture::open(&wants(&scattered)).unwrap();
    for _ in 0..3 {
        capture.set_filter(&wants(&scattered)).unwrap();
        veth.send(&syn(49));
        veth.send(&syn(9));
        assert_eq!(ports(&seen_until(&mut capture, KnockPort::tcp(9))), [49, 9]);
    }
}

fn a_vanished_interface_ends_nothing() {
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228), KnockPort::tcp(9)])).unwrap();
    for round in 0..3 {
        let veth = Veth::new("gone");
        let (mac, index) = (veth.mac(), veth.index());
        veth.send(&syn(1228));
        veth.send(&syn6(1228));
        std::thread::scope(|scope| {
            let (sent, was_sent) = std::sync::mpsc::channel();
            let veth = &veth;
            scope.spawn(move || {
                let mut count = 0;
                // Until the interface is gone.
                while veth.try_send(mac, &syn(1228)).is_ok() {
                    count += 1;
                    if count == 100 {
                        sent.send(()).unwrap();
                    }
                }
            });
            was_sent.recv().unwrap();
            net::remove(index);
        });
        drop(veth);
        drain_all(&mut capture);
        for fd in capture.fds() {
            assert_eq!(getsockopt(&fd, SocketError).unwrap(), 0, "round {round}");
        }
    }
    let veth = Veth::new("back");
    veth.send(&syn(9));
    let seen = seen_until(&mut capture, KnockPort::tcp(9));
    assert_eq!(seen.last().unwrap().ifindex, veth.index());
    veth.send(&syn6(9));
    seen_until(&mut capture, KnockPort::tcp(9));
}

fn times_are_those_of_the_boot_clock() {
    let veth = Veth::new("time");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228), KnockPort::tcp(9)])).unwrap();
    let before = clock::boottime();
    veth.send(&syn(1228));
    wait_for(&capture.fds(), in_ten_seconds());
    let between = clock::boottime();
    // The packet's own time counts, not when it is looked at.
    std::thread::sleep(Duration::from_millis(50));
    veth.send(&syn(9));
    let seen = seen_until(&mut capture, KnockPort::tcp(9));
    let after = clock::boottime();
    let slack = 5_000_000;
    let [first, second] = [seen[0].at.0, seen[1].at.0];
    assert!(
        before - slack <= first && first <= between + slack,
        "{before} {first} {between}"
    );
    assert!(
        first + 50_000_000 - slack <= second && second <= after,
        "{first} {second} {after}"
    );
}

fn an_async_loop_is_woken() {
    let veth = Veth::new("async");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228)])).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let watch = capture.watch().unwrap();
        for round in 0..200u32 {
            let mut seen = 0;
            let packet = if round % 2 == 0 {
                syn(1228)
            } else {
                syn6(1228)
            };
            veth.send(&packet);
            while seen == 0 {
                tokio::time::timeout(Duration::from_secs(10), watch.readable())
                    .await
                    .unwrap_or_else(|_| panic!("not woken in round {round}"))
                    .unwrap();
                seen += drain_all(&mut capture);
            }
            assert_eq!(seen, 1);
        }
        // All is drained: it sleeps, apart from one wake-up that may be left over.
        let mut woken = 0;
        while tokio::time::timeout(Duration::from_millis(100), watch.readable())
            .await
            .is_ok()
        {
            woken += 1;
            assert!(woken <= 2, "woken by nothing");
        }
    });
}

fn without_privileges_it_says_so() {
    let status = Command::new("/proc/self/exe")
        .env(UNPRIVILEGED, "1")
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(i32::from(TOLD)));
}

/// In a user namespace of its own, this process has no rights in the network namespace.
fn unprivileged() -> ExitCode {
    unshare(CloneFlags::CLONE_NEWUSER).expect("unshare the user namespace");
    match Capture::open(&wants(&[KnockPort::tcp(1228)])) {
        Err(error @ CaptureError::Privileges { .. })
            if error
                .to_string()
                .contains("needs CAP_NET_ADMIN and CAP_NET_RAW: run as root") =>
        {
            ExitCode::from(TOLD)
        }
        other => {
            eprintln!("{other:?}");
            ExitCode::FAILURE
        }
    }
}
