//! Many packets at once.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use portcullis::capture::{AHEAD, Capture, Drained, Statistics};
use portcullis::model::KnockPort;
use portcullis::packet;

use crate::net::Veth;
use crate::support::{drain_all, in_ten_seconds, ports, seen_until, syn, syn6, wants};

/// Sends `count` knocks and sees to it that each has reached the sockets.
pub(crate) fn flood(
    veth: &Veth,
    capture: &mut Capture,
    count: u64,
    mut each_batch: impl FnMut(&mut Capture),
) {
    let already = capture.statistics().unwrap().seen;
    let (v4, v6) = (syn(1228), syn6(1228));
    let until = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    while sent < count {
        // Fewer than the kernel queues between interfaces (net.core.netdev_max_backlog).
        let batch = (count - sent).min(200);
        for n in 0..batch {
            veth.send(if n % 4 == 3 { &v6 } else { &v4 });
        }
        sent += batch;
        while capture.statistics().unwrap().seen < already + sent {
            assert!(Instant::now() < until, "lost before the sockets");
        }
        each_batch(capture);
    }
}

pub(crate) fn a_flood_is_received_whole() {
    let veth = Veth::new("flood");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228)])).unwrap();
    let mut received = 0u64;
    flood(&veth, &mut capture, 100_000, |capture| {
        received += drain_all(capture);
    });
    let statistics = capture.statistics().unwrap();
    assert_eq!(
        statistics,
        Statistics {
            seen: 100_000,
            dropped: 0
        }
    );
    assert_eq!(received, 100_000);
}

pub(crate) fn what_a_full_ring_loses_is_counted() {
    let veth = Veth::new("full");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228), KnockPort::tcp(9)])).unwrap();
    flood(&veth, &mut capture, 20_000, |_| ());
    let received = drain_all(&mut capture);
    let statistics = capture.statistics().unwrap();
    assert_eq!(statistics.seen, 20_000);
    assert_eq!(statistics.dropped, 20_000 - received);
    assert_eq!(capture.taken(), received);
    // The rings' sizes: 4096 of 15,000 and 2048 of 5,000.
    assert_eq!(received, 4096 + 2048);
    veth.send(&syn(9));
    assert_eq!(ports(&seen_until(&mut capture, KnockPort::tcp(9))), [9]);
}

pub(crate) fn draining_is_bounded() {
    let veth = Veth::new("bounded");
    let mut capture = Capture::open(&wants(&[KnockPort::tcp(1228)])).unwrap();
    flood(&veth, &mut capture, 2000, |_| ());
    let mut received = 0;
    assert_eq!(
        capture.drain(|_| {
            received += 1;
            ControlFlow::Continue(())
        }),
        Drained::More
    );
    assert!((1..=512).contains(&received), "{received}");
    received += drain_all(&mut capture);
    assert_eq!(received, 2000);
}

/// Also where the ring begins again.
pub(crate) fn what_waits_behind_is_shown_before_its_turn() {
    const TOGETHER: u16 = 20;
    let veth = Veth::new("behind");
    let wanted: Vec<_> = (2000..2000 + TOGETHER).map(KnockPort::tcp).collect();
    let mut capture = Capture::open(&wants(&wanted)).unwrap();
    let port = |bytes: &[u8]| packet::parse(bytes).unwrap().port.port;
    for round in 1..=4200 / u64::from(TOGETHER) {
        for port in 2000..2000 + TOGETHER {
            veth.send(&syn(port));
        }
        let until = in_ten_seconds();
        while capture.statistics().unwrap().seen < round * u64::from(TOGETHER) {
            assert!(Instant::now() < until, "lost before the sockets");
        }
        let mut seen = Vec::new();
        let drained = capture.drain(|frame| {
            seen.push((port(frame.bytes), frame.coming.map(port)));
            ControlFlow::Continue(())
        });
        assert_eq!(drained, Drained::All);
        let ports: Vec<_> = seen.iter().map(|(port, _)| *port).collect();
        assert_eq!(ports.len(), usize::from(TOGETHER));
        for (place, (_, coming)) in seen.iter().enumerate() {
            assert_eq!(*coming, ports.get(place + AHEAD).copied(), "{place}");
        }
    }
}
