//! SYNs by hand. A raw socket sends one in a few microseconds from any address of the host, with
//! no state to clean up; the kernel itself resets whatever answers, as it knows nothing of them.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Sends SYNs and reads what comes back. One is enough for all hosts, and every other on the same
/// host would be given a copy of each answer, which takes its time.
pub(crate) struct Prober {
    socket: Socket,
    source_port: u16,
    buffer: [u8; 2048],
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The address and port that the SYN came from.
    pub(crate) asker: (Ipv4Addr, u16),
    /// The address and port that it asked for.
    pub(crate) asked: (Ipv4Addr, u16),
    /// A SYN-ACK, not a reset.
    pub(crate) open: bool,
}

/// The next sequence number. No two SYNs of a run have the same one: with the ports it tells one
/// from another, and what was seen before is a retransmission, however long ago.
static NUMBER: AtomicU32 = AtomicU32::new(1);

const HEADERS: usize = 40;
const SYN: u8 = 2;
const ACK: u8 = 16;

impl Prober {
    /// Must be called on the host that asks.
    pub(crate) fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.set_header_included_v4(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            source_port: 0,
            buffer: [0; 2048],
        })
    }

    /// Sends a SYN and returns the port that it came from, a new one each time. Over a veth pair
    /// the answer is there when this returns.
    pub(crate) fn syn(&mut self, from: Ipv4Addr, to: Ipv4Addr, port: u16) -> io::Result<u16> {
        self.source_port = match self.source_port.wrapping_add(1) {
            low @ 0..1024 => low + 1024,
            other => other,
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let packet = packet((from, self.source_port), (to, port), number);
        let to = SocketAddrV4::new(to, 0);
        self.socket.send_to(&packet, &to.into())?;
        Ok(self.source_port)
    }

    /// The next answer that has arrived.
    pub(crate) fn answer(&mut self) -> io::Result<Option<Answer>> {
        loop {
            let length = match (&self.socket).read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            if let Some(answer) = understand(&self.buffer[..length]) {
                return Ok(Some(answer));
            }
        }
    }

    /// Forgets what has arrived.
    pub(crate) fn forget(&mut self) -> io::Result<()> {
        while self.answer()?.is_some() {}
        Ok(())
    }

    /// Sends one SYN and waits for its answer: whether it was a SYN-ACK, and how long it took.
    pub(crate) fn ask(
        &mut self,
        from: Ipv4Addr,
        to: Ipv4Addr,
        port: u16,
        patience: Duration,
    ) -> io::Result<Option<(bool, Duration)>> {
        self.forget()?;
        let started = Instant::now();
        let asker = (from, self.syn(from, to, port)?);
        loop {
            if let Some(answer) = self.answer()?
                && (answer.asker, answer.asked) == (asker, (to, port))
            {
                return Ok(Some((answer.open, started.elapsed())));
            }
            if started.elapsed() > patience {
                return Ok(None);
            }
        }
    }
}

fn understand(packet: &[u8]) -> Option<Answer> {
    let start = usize::from(packet.first()? & 15) * 4;
    let tcp = packet.get(start..start + 20)?;
    let address = |at: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(bytes.into())
    };
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Some(Answer {
        asker: (address(16)?, port(2)),
        asked: (address(12)?, port(0)),
        open: tcp[13] & (SYN | ACK) == SYN | ACK,
    })
}

/// RFC 791 and RFC 9293, without options. The kernel fills in the IP header's length, number and
/// checksum (`raw(7)`).
fn packet(
    (from, source_port): (Ipv4Addr, u16),
    (to, port): (Ipv4Addr, u16),
    number: u32,
) -> [u8; HEADERS] {
    let mut packet = [0; HEADERS];
    packet[0] = 0x45;
    packet[8] = 64; // TTL
    packet[9] = 6; // TCP
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20..22].copy_from_slice(&source_port.to_be_bytes());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet[32] = 5 << 4; // header length in words
    packet[33] = SYN;
    packet[34..36].copy_from_slice(&64_240_u16.to_be_bytes()); // window
    // The pseudo-header: both addresses, the protocol, the length.
    let checksum = !sum(&packet[12..], 6 + 20);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The sum of RFC 1071.
fn sum(bytes: &[u8], initial: u32) -> u16 {
    let words = bytes.chunks_exact(2);
    let total = words.fold(initial, |total, word| {
        total + u32::from(u16::from_be_bytes([word[0], word[1]]))
    });
    let folded = (total & 0xffff) + (total >> 16);
    // Twice is enough: the first left at most one carry.
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}
