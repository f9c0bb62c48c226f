//! What the pure core costs for each packet, with empty and with full tables:
//! `cargo bench --bench core`, about a minute in all.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipnet::IpNet;
use portcullis::engine::{Command, Engine, Event, Who};
use portcullis::matcher::Matcher;
use portcullis::model::{KnockName, KnockPort, Time};
use portcullis::packet::{self, Knock};
use portcullis::policy::{self, Policy, TcpFlags};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);

/// The shipped policy.
fn shipped() -> Policy {
    checked(include_str!("../policy/knockd.yaml"))
}

/// A policy with so many sequences that all start on a port of their own, and room for half a
/// million attempts.
fn with_sequences(count: u16) -> Policy {
    with_memory(count, "128MiB")
}

fn with_memory(count: u16, memory: &str) -> Policy {
    let knocks = (0..count).map(|number| {
        let (first, second) = (2000 + 2 * number, 2001 + 2 * number);
        format!(
            "  k{number}: {{ sequence: [{first}, {second}], seq_timeout: 15s, action: accept }}\n"
        )
    });
    let knocks: Vec<String> = knocks.collect();
    checked(&format!(
        "memory: {memory}\ngates:\n  ssh: {{ ports: [22] }}\nknocks:\n{}",
        knocks.concat()
    ))
}

fn checked(text: &str) -> Policy {
    let checked = policy::parse(text, Path::new("bench.yaml"));
    checked.expect("the policy is good").policy
}

/// Addresses without order, all different.
fn address(number: u32) -> Ipv4Addr {
    let host = number.wrapping_mul(0x9E37_79B1) & 0x00ff_ffff;
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | host)
}

fn syn(source: Ipv4Addr, port: u16, seq: u32) -> Knock {
    Knock {
        source: source.into(),
        destination: SERVER.into(),
        port: tcp(port),
        source_port: 40_000,
        flags: TcpFlags::SYN,
        seq,
    }
}

fn tcp(port: u16) -> KnockPort {
    port.to_string().parse().expect("a port")
}

fn at(ms: u64) -> Time {
    Time::default().after(Duration::from_millis(ms))
}

/// A SYN as Linux sends it, with 20 bytes of options.
fn syn_v4() -> Vec<u8> {
    let mut bytes = vec![0; 60];
    bytes[0] = 0x45;
    bytes[3] = 60;
    bytes[8] = 64;
    bytes[9] = 6;
    bytes[12..16].copy_from_slice(&CLIENT.octets());
    bytes[16..20].copy_from_slice(&SERVER.octets());
    fill_tcp(&mut bytes[20..]);
    bytes
}

/// The same over IPv6, behind a destination-options header.
fn syn_v6() -> Vec<u8> {
    let mut bytes = vec![0; 88];
    bytes[0] = 0x60;
    bytes[5] = 48;
    bytes[6] = 60;
    bytes[7] = 64;
    bytes[8] = 0x20;
    bytes[9] = 1;
    bytes[23] = 9;
    bytes[24] = 0x20;
    bytes[25] = 1;
    bytes[39] = 1;
    bytes[40] = 6;
    // PadN over the six bytes that are left.
    bytes[42] = 1;
    bytes[43] = 4;
    fill_tcp(&mut bytes[48..]);
    bytes
}

fn fill_tcp(tcp: &mut [u8]) {
    tcp[0..2].copy_from_slice(&40_000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&1228_u16.to_be_bytes());
    tcp[12] = 10 << 4;
    tcp[13] = TcpFlags::SYN;
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet::parse");
    let datagram = {
        let mut bytes = syn_v4();
        bytes[9] = 17;
        bytes[24..26].copy_from_slice(&40_u16.to_be_bytes());
        bytes
    };
    for (name, bytes) in [
        ("SYN, IPv4", syn_v4()),
        ("SYN, IPv6 with an extension header", syn_v6()),
        ("datagram, IPv4", datagram),
    ] {
        packet::parse(&bytes).expect("a knock");
        group.bench_function(name, |bencher| {
            bencher.iter(|| packet::parse(black_box(&bytes)));
        });
    }
    let noise: Vec<u8> = syn_v4()[..30].to_vec();
    packet::parse(&noise).expect_err("cut short");
    group.bench_function("cut short", |bencher| {
        bencher.iter(|| packet::parse(black_box(&noise)));
    });
    group.finish();
}

/// A matcher in which so many sources have begun a sequence.
fn with_attempts(policy: &Policy, sources: u32) -> Matcher {
    let mut matcher = Matcher::new(policy);
    for number in 0..sources {
        let begun = matcher.handle(&syn(address(number), 2000, number), true, at(0));
        assert!(begun.completed.is_empty(), "one knock completes nothing");
    }
    let (held, _) = matcher.occupancy();
    assert!(held >= sources as usize, "{held} of {sources} attempts");
    matcher
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matcher");
    let one = with_sequences(1);
    for sources in [1, 100_000, 500_000] {
        let mut matcher = with_attempts(&one, sources);
        let mut seq = 0_u32;
        // The second port of somebody who never knocked on the first: it changes nothing.
        group.bench_function(
            BenchmarkId::new("a stray knock, attempts in the table", sources),
            |bencher| {
                bencher.iter(|| {
                    seq = seq.wrapping_add(1);
                    matcher.handle(black_box(&syn(CLIENT, 2001, seq)), true, at(1))
                });
            },
        );
        let mut matcher = with_attempts(&one, sources);
        group.bench_function(
            BenchmarkId::new("both knocks of a sequence, attempts in the table", sources),
            |bencher| {
                bencher.iter(|| {
                    seq = seq.wrapping_add(2);
                    let first = matcher.handle(black_box(&syn(CLIENT, 2000, seq)), true, at(1));
                    assert!(first.completed.is_empty());
                    let second =
                        matcher.handle(&syn(CLIENT, 2001, seq.wrapping_add(1)), true, at(2));
                    assert_eq!(second.completed.len(), 1);
                });
            },
        );
    }
    for sequences in [1, 10, 100] {
        let policy = with_sequences(sequences);
        let mut matcher = with_attempts(&policy, 1);
        let mut seq = 0_u32;
        let last = 2000 + 2 * (sequences - 1);
        group.bench_function(
            BenchmarkId::new("both knocks of the last sequence of", sequences),
            |bencher| {
                bencher.iter(|| {
                    seq = seq.wrapping_add(2);
                    let first = matcher.handle(black_box(&syn(CLIENT, last, seq)), true, at(1));
                    assert!(first.completed.is_empty());
                    let second =
                        matcher.handle(&syn(CLIENT, last + 1, seq.wrapping_add(1)), true, at(2));
                    assert_eq!(second.completed.len(), 1);
                });
            },
        );
    }
    group.finish();
}

/// Packets of sources that were never heard of, each of another one, at a table that is full: each
/// takes the place of the oldest record.
fn strangers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matcher, a new source each time");
    for (sequences, memory) in [(2, "64KiB"), (2, "6MiB"), (2, "32MiB"), (200, "32MiB")] {
        let policy = with_memory(sequences, memory);
        let mut matcher = Matcher::new(&policy);
        let (_, room) = matcher.occupancy();
        let mut number = 0;
        while matcher.occupancy().0 < room {
            number += 1;
            let begun = matcher.handle(&syn(address(number), 2000, number), true, at(0));
            assert!(begun.completed.is_empty(), "one knock completes nothing");
        }
        let last = 2001 + 2 * (sequences - 1);
        let what = format!("{room} records, {sequences} sequences");
        for (kind, port) in [
            ("a port that nobody knocks on", 9),
            ("a stray knock", last),
            ("a first knock", last - 1),
        ] {
            group.bench_function(BenchmarkId::new(kind, &what), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_add(1);
                    matcher.handle(black_box(&syn(address(number), port, number)), true, at(1))
                });
            });
        }
    }
    group.finish();
}

fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    let accepts = KnockName::new("opencloseSSH").expect("a name");
    let source: IpAddr = CLIENT.into();
    let mut engine = Engine::new(shipped());
    let mut ms = 0;
    group.bench_function("a knock accepts", |bencher| {
        bencher.iter(|| {
            // More than a tenth of a second between lines: they are limited.
            ms += 200;
            let knock = accepts.clone();
            let actions = engine.handle(Event::Knocked { source, knock }, at(ms));
            assert!(!actions.is_empty());
            actions
        });
    });
    for members in [0, 100_000] {
        let mut engine = Engine::new(shipped());
        let held = (0..members).map(|number| IpNet::from(IpAddr::from(address(number))));
        drop(engine.handle(ban(held.collect()), at(0)));
        let one = vec![IpNet::from(IpAddr::from(address(0x0080_0000)))];
        group.bench_function(
            BenchmarkId::new("a ban by hand and its end, banned already", members),
            |bencher| {
                bencher.iter(|| {
                    let banned = engine.handle(ban(one.clone()), at(1));
                    let freed = engine.handle(unban(one.clone()), at(1));
                    assert!(banned.len() > 1 && freed.len() > 1);
                });
            },
        );
    }
    group.finish();
}

fn ban(nets: Vec<IpNet>) -> Event {
    by_hand(Command::Drop {
        nets,
        gates: Vec::new(),
        lifetime: None,
        force: false,
    })
}

fn unban(nets: Vec<IpNet>) -> Event {
    let gates = Vec::new();
    by_hand(Command::Unban { nets, gates })
}

fn by_hand(command: Command) -> Event {
    let who = Who("bench".into());
    Event::Command { who, command }
}

criterion_group! {
    name = core;
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = parsing, matching, strangers, deciding
}
criterion_main!(core);
