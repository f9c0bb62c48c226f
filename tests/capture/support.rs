//! Packets to knock with, and waiting for what comes of them.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portcullis::capture::{Capture, Drained, FlagMask, Interfaces, Spec};
use portcullis::model::{KnockPort, Time};
use portcullis::packet::{self, Knock};

pub(crate) fn syn(port: u16) -> Vec<u8> {
    built(|out| {
        PacketBuilder::ipv4([192, 0, 2, 7], [198, 51, 100, 1], 64)
            .tcp(40_000, port, 77, 1000)
            .syn()
            .write(out, &[])
            .unwrap();
    })
}

pub(crate) fn syn6(port: u16) -> Vec<u8> {
    built(|out| {
        PacketBuilder::ipv6([0x20; 16], [0x21; 16], 64)
            .tcp(40_000, port, 77, 1000)
            .syn()
            .write(out, &[])
            .unwrap();
    })
}

pub(crate) fn udp(port: u16) -> Vec<u8> {
    built(|out| {
        PacketBuilder::ipv4([192, 0, 2, 7], [198, 51, 100, 1], 64)
            .udp(40_000, port)
            .write(out, b"hello")
            .unwrap();
    })
}

pub(crate) fn built(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = Vec::new();
    write(&mut packet);
    packet
}

pub(crate) const SYN: FlagMask = FlagMask { set: 2, clear: 16 };

pub(crate) fn wants(ports: &[KnockPort]) -> Spec {
    Spec {
        ports: ports.to_vec(),
        flags: vec![SYN],
        openings: Vec::new(),
        interfaces: Interfaces::Any,
    }
}

/// A frame that was captured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) knock: Knock,
    pub(crate) ifindex: u32,
    pub(crate) at: Time,
}

/// Waits until one is readable; panics after ten seconds.
pub(crate) fn wait_for(fds: &[BorrowedFd<'_>], until: Instant) {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    let left = until.saturating_duration_since(Instant::now());
    assert!(!left.is_zero(), "nothing came in time");
    let left = PollTimeout::try_from(left).unwrap();
    poll(&mut fds, left).unwrap();
}

/// Takes out all that has come in, and says how much that was.
pub(crate) fn drain_all(capture: &mut Capture) -> u64 {
    let until = in_ten_seconds();
    let mut count = 0;
    while capture.drain(|_| {
        count += 1;
        ControlFlow::Continue(())
    }) == Drained::More
    {
        assert!(Instant::now() < until, "there is no end to it");
    }
    count
}

pub(crate) fn in_ten_seconds() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Everything that comes in up to and including a knock on `last`.
pub(crate) fn seen_until(capture: &mut Capture, last: KnockPort) -> Vec<Seen> {
    let until = in_ten_seconds();
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        let drained = capture.drain(|frame| {
            seen.push(Seen {
                knock: packet::parse(frame.bytes).unwrap(),
                ifindex: frame.ifindex,
                at: frame.at,
            });
            ControlFlow::Continue(())
        });
        if seen.iter().any(|s| s.knock.port == last) {
            return seen;
        }
        if drained == Drained::All {
            wait_for(&capture.fds(), until);
        }
    }
}

pub(crate) fn ports(seen: &[Seen]) -> Vec<u16> {
    seen.iter().map(|s| s.knock.port.port).collect()
}
