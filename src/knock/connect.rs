//! A connection through a gate that opens just now.
//!
//! A SYN that comes a moment before the gate has opened is dropped, and the system sends it again
//! after a whole second. So further attempts are started meanwhile, soon at first and then less
//! often; the first that is answered stays, and the others are given up before whoever listens has
//! seen them. As in RFC 8305 ("Happy Eyeballs"), the next address has its turn when the one before
//! has not answered for a quarter of a second.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::send::is_sent;

/// What a gate needs to open, and a little more: a first SYN that comes too early costs
/// [`FIRST_GAP`].
const PAUSE: Duration = Duration::from_millis(5);
/// Between the first attempt at an address and the second; each gap is twice the one before.
const FIRST_GAP: Duration = Duration::from_millis(25);
/// The system's own next SYN comes after a second.
const LAST_GAP: Duration = Duration::from_secs(1);
/// "Connection Attempt Delay" (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Where every address refuses, it may yet open: a gate may refuse instead of dropping.
const REFUSED_FOR: Duration = Duration::from_millis(500);
/// How often the attempts are looked at.
const LOOK: Duration = Duration::from_millis(1);

/// How it went.
#[derive(Debug)]
pub(super) enum Reached {
    Open(TcpStream, SocketAddr),
    /// Every address said no.
    Refused,
    Silent,
    /// No address can be reached at all; the last thing that the system said.
    Unreachable(SocketAddr, io::Error),
}

/// Attempts at one address.
#[derive(Debug)]
struct Attempts {
    to: SocketAddr,
    under_way: Vec<Socket>,
    next: Instant,
    gap: Duration,
    refused: bool,
    failure: Option<io::Error>,
}

impl Attempts {
    fn start_if_due(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.gap;
        self.gap = (self.gap * 2).min(LAST_GAP);
        match start(self.to) {
            Ok(socket) => {
                self.failure = None;
                self.under_way.push(socket);
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.refused = true;
        } else {
            self.failure = Some(error);
        }
    }

    /// The connection, if an attempt was answered.
    fn look(&mut self) -> Option<Socket> {
        let mut at = 0;
        while at < self.under_way.len() {
            let socket = &self.under_way[at];
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => {
                    return Some(self.under_way.swap_remove(at));
                }
                Ok(None) => at += 1,
                Ok(Some(error)) | Err(error) => {
                    self.under_way.swap_remove(at);
                    self.failed(error);
                }
            }
        }
        None
    }

    /// Whether nothing is to be expected of it.
    fn is_hopeless(&self) -> bool {
        self.under_way.is_empty() && (self.refused || self.failure.is_some())
    }
}

/// Connects to the port at the first of these addresses that answers, for at most `wait`.
pub(super) fn reach(addresses: &[SocketAddr], port: u16, wait: Duration) -> Reached {
    std::thread::sleep(PAUSE);
    let started = Instant::now();
    let attempts = addresses.iter().zip(0..).map(|(address, place)| {
        let mut to = *address;
        to.set_port(port);
        Attempts {
            to,
            under_way: Vec::new(),
            next: started + NEXT_ADDRESS * place,
            gap: FIRST_GAP,
            refused: false,
            failure: None,
        }
    });
    let mut attempts: Vec<Attempts> = attempts.collect();
    loop {
        let now = Instant::now();
        for at in 0..attempts.len() {
            let one = &mut attempts[at];
            one.start_if_due(now);
            if let Some(socket) = one.look() {
                let to = one.to;
                return stream(socket).map_or_else(
                    |error| Reached::Unreachable(to, error),
                    |stream| Reached::Open(stream, to),
                );
            }
            // Nobody waits for an address that has said no.
            if one.is_hopeless()
                && let Some(following) = attempts.get_mut(at + 1)
            {
                following.next = following.next.min(now);
            }
        }
        let spent = started.elapsed();
        let hopeless = attempts.iter().all(Attempts::is_hopeless);
        if spent >= wait || (hopeless && spent >= REFUSED_FOR.min(wait)) {
            return outcome(attempts);
        }
        std::thread::sleep(LOOK);
    }
}

fn outcome(attempts: Vec<Attempts>) -> Reached {
    if attempts.iter().any(|one| !one.under_way.is_empty()) {
        return Reached::Silent;
    }
    if attempts.iter().any(|one| one.refused) {
        return Reached::Refused;
    }
    let failed = attempts
        .into_iter()
        .filter_map(|one| Some((one.to, one.failure?)));
    failed.last().map_or(Reached::Silent, |(to, error)| {
        Reached::Unreachable(to, error)
    })
}

fn start(to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(error),
        Err(error) if !is_sent(&error) => Err(error),
        _ => Ok(socket),
    }
}

fn stream(socket: Socket) -> io::Result<TcpStream> {
    socket.set_nonblocking(false)?;
    // As ssh has it on sockets of its own, which this one stands for.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    Ok(socket.into())
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
