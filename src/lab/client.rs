use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Host, LabError};
use crate::model::{KnockPort, Proto};

/// Somebody on a host who speaks from one of its addresses.
#[derive(Debug, Clone)]
pub struct Client {
    host: Host,
    source: IpAddr,
}

/// How an attempt to connect ended.
#[derive(Debug)]
pub enum Outcome {
    /// Connected.
    Open(Session),
    /// Answered by a reset or an ICMP error.
    Refused,
    /// Not answered at all.
    Silent,
}

impl Outcome {
    /// Whether it is connected.
    pub fn is_open(&self) -> bool {
        matches!(self, Outcome::Open(_))
    }

    /// Whether there was no answer.
    pub fn is_silent(&self) -> bool {
        matches!(self, Outcome::Silent)
    }

    /// In a word: `open`, `refused`, `silent`.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Open(_) => "open",
            Outcome::Refused => "refused",
            Outcome::Silent => "silent",
        }
    }
}

/// A gate that opened after a knock.
#[derive(Debug)]
pub struct Opened {
    /// From the last knock's `connect(2)` to the first answered SYN.
    pub after: Duration,
    /// How many SYNs were sent in vain before.
    pub unanswered: usize,
    /// The connection that was let in.
    pub session: Session,
}

/// An open connection.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
}

/// How long a session waits for the other side.
const PATIENCE: Duration = Duration::from_secs(2);

impl Session {
    fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Reads the greeting, a line of at most 255 bytes (RFC 4253, section 4.2).
    pub fn banner(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.by_ref().take(255).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Sends a line and whether the same line came back. Read the greeting first.
    pub fn echoes(&mut self, line: &str) -> io::Result<bool> {
        let sent = format!("{line}\n");
        self.stream.get_mut().write_all(sent.as_bytes())?;
        let mut line = String::new();
        let limit = sent.len() as u64 + 1;
        self.stream.by_ref().take(limit).read_line(&mut line)?;
        Ok(line == sent)
    }

    /// Where it comes from.
    pub fn source(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }

    /// Sends this and whether anything at all comes back.
    pub fn answers(&mut self, text: &str) -> io::Result<bool> {
        self.stream.get_mut().write_all(text.as_bytes())?;
        Ok(self.stream.read(&mut [0; 64])? > 0)
    }

    /// Whether the other side closed or reset the connection.
    pub fn is_over(&mut self) -> bool {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        if socket.set_nonblocking(true).is_err() {
            return true;
        }
        let seen = self.stream.get_ref().peek(&mut [0]);
        let _ = socket2::SockRef::from(self.stream.get_ref()).set_nonblocking(false);
        match seen {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl Client {
    pub(super) fn new(host: Host, source: IpAddr) -> Self {
        Self { host, source }
    }

    /// The address it speaks from.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The host it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Tries to connect to `192.0.2.1:22` or `[2001:db8::1]:22`. Below a second of patience, one
    /// SYN is sent and no more.
    pub fn connect(&self, to: &str, patience: Duration) -> Result<Outcome, LabError> {
        let address = parse(to)?;
        self.host
            .with("connect to", to, || connect(self.source, address, patience))
    }

    /// Knocks, in this order and without a pause: ports as `1228`, `1228/tcp` or `1228/udp`.
    /// Whether a port answers, and what, is not looked at.
    pub fn knock(&self, to: &str, ports: &[&str]) -> Result<(), LabError> {
        let (address, ports) = (parse_ip(to)?, parse_ports(ports)?);
        self.host.with("knock on", to, || {
            ports
                .iter()
                .try_for_each(|&port| knock(self.source, address, port))
        })
    }

    /// Knocks and then tries to connect with fresh SYNs in quick succession, as no user does:
    /// that shows when the gate opens to within a tenth of a millisecond.
    pub fn knock_until_open(
        &self,
        to: &str,
        ports: &[&str],
        patience: Duration,
    ) -> Result<Opened, LabError> {
        let (address, ports) = (parse(to)?, parse_ports(ports)?);
        let found = self.host.with("knock and connect to", to, || {
            let mut last = Instant::now();
            for &port in &ports {
                last = Instant::now();
                knock(self.source, address.ip(), port)?;
            }
            until_open(self.source, address, last, patience)
        })?;
        found.ok_or_else(|| LabError::TooLate {
            what: format!("{to} opening to {} after its knock", self.source),
            within: patience,
            detail: String::new(),
        })
    }

    /// Tries until it gets in, with fresh SYNs.
    pub fn await_open(&self, to: &str, patience: Duration) -> Result<Opened, LabError> {
        self.knock_until_open(to, &[], patience)
    }

    /// Tries until nothing answers any more, and says how long that took.
    pub fn await_silent(&self, to: &str, patience: Duration) -> Result<Duration, LabError> {
        let started = Instant::now();
        loop {
            let asked = started.elapsed();
            if self.connect(to, ONE_SYN)?.is_silent() {
                return Ok(asked);
            }
            if asked > patience {
                return Err(LabError::TooLate {
                    what: format!("{to} closing to {}", self.source),
                    within: patience,
                    detail: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn parse(to: &str) -> Result<SocketAddr, LabError> {
    to.parse().map_err(|_| LabError::Malformed {
        text: to.to_owned(),
        expected: "an address with a port, such as 192.0.2.1:22",
    })
}

fn parse_ip(to: &str) -> Result<IpAddr, LabError> {
    to.parse().map_err(|_| LabError::Malformed {
        text: to.to_owned(),
        expected: "an address",
    })
}

fn parse_ports(ports: &[&str]) -> Result<Vec<KnockPort>, LabError> {
    let parse = |port: &&str| {
        port.parse().map_err(|_| LabError::Malformed {
            text: (*port).to_owned(),
            expected: "a knock port, such as 1228 or 1228/udp",
        })
    };
    ports.iter().map(parse).collect()
}

fn tcp_from(source: IpAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(SocketAddr::new(source, 0));
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    Ok(socket)
}

/// Sends a SYN; what comes of it shows later, except that over a veth pair the answer can be
/// there already.
fn start_connect(source: IpAddr, to: SocketAddr) -> io::Result<(Socket, Option<bool>)> {
    let socket = tcp_from(source)?;
    let known = match socket.connect(&to.into()) {
        Ok(()) => Some(true),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EINPROGRESS) => None,
            Some(refusal) if is_refusal(refusal) => Some(false),
            _ => return Err(error),
        },
    };
    Ok((socket, known))
}

fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES
    )
}

/// What became of a connect under way: `None` is nothing yet.
fn verdict(socket: &Socket) -> io::Result<Option<bool>> {
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut waiting, PollTimeout::ZERO)? == 0 {
        return Ok(None);
    }
    match socket.take_error()? {
        None => Ok(Some(true)),
        Some(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(errno) if is_refusal(errno) => Ok(Some(false)),
            _ => Err(error),
        },
    }
}

/// Patience for one SYN of somebody who may be kept out: an answer over a wire takes microseconds.
pub const ONE_SYN: Duration = Duration::from_millis(100);
/// Patience for one SYN of somebody who is to get in: whoever is in by then was let in at the first,
/// however busy the machine is.
pub const BEFORE_A_SECOND_SYN: Duration = Duration::from_millis(900);

/// Patience is counted in as many parts at most, so that a machine that stands still for a while waits
/// for longer instead of taking that for silence.
const SLICES: u128 = 10;
/// The kernel sends a SYN again after that, which is another attempt (RFC 6298, section 2.1).
const SENT_AGAIN: Duration = Duration::from_secs(1);

fn connect(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<Outcome> {
    let started = Instant::now();
    let (socket, mut known) = start_connect(source, to)?;
    if known.is_none() {
        let is_over = || patience < SENT_AGAIN && started.elapsed() >= SENT_AGAIN;
        let millis = patience.as_millis();
        let slices = millis.clamp(1, SLICES);
        let slice = u16::try_from(millis.div_ceil(slices)).unwrap_or(u16::MAX);
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        for _ in 0..slices {
            if is_over() || poll(&mut waiting, slice)? > 0 {
                break;
            }
        }
        // What the second SYN brought about is not what was asked.
        known = verdict(&socket)?.filter(|_| !is_over());
    }
    Ok(match known {
        Some(true) => Outcome::Open(Session::new(socket)?),
        Some(false) => Outcome::Refused,
        None => Outcome::Silent,
    })
}

fn knock(source: IpAddr, to: IpAddr, port: KnockPort) -> io::Result<()> {
    let to = SocketAddr::new(to, port.port);
    match port.proto {
        // Closed while the SYN is under way: no retransmission, and no connection if it is
        // answered.
        Proto::Tcp => start_connect(source, to).map(drop),
        Proto::Udp => {
            let socket = std::net::UdpSocket::bind((source, 0))?;
            socket.send_to(&[0], to).map(drop)
        }
    }
}

/// Attempts under way at most; with the growing gap that is several seconds.
const ATTEMPTS: usize = 600;

fn until_open(
    source: IpAddr,
    to: SocketAddr,
    since: Instant,
    patience: Duration,
) -> io::Result<Option<Opened>> {
    let mut attempts: Vec<Socket> = Vec::new();
    let mut sent = 0;
    let mut next = since;
    let opened = |socket, unanswered| {
        let after = since.elapsed();
        Session::new(socket).map(|session| {
            Some(Opened {
                after,
                unanswered,
                session,
            })
        })
    };
    while since.elapsed() < patience {
        if Instant::now() >= next {
            let (socket, known) = start_connect(source, to)?;
            if known == Some(true) {
                return opened(socket, sent);
            }
            if known.is_none() {
                if attempts.len() == ATTEMPTS {
                    attempts.remove(0);
                }
                attempts.push(socket);
            }
            sent += 1;
            // Every 50 µs at first, then less and less often.
            next = Instant::now() + (since.elapsed() / 50).clamp(GAP_MIN, GAP_MAX);
        }
        // The answer to a SYN that was let in comes within microseconds; older ones were lost.
        for index in (0..attempts.len()).rev().take(4) {
            match verdict(&attempts[index])? {
                Some(true) => return opened(attempts.swap_remove(index), sent.saturating_sub(1)),
                Some(false) => drop(attempts.swap_remove(index)),
                None => {}
            }
        }
        if next.saturating_duration_since(Instant::now()) > GAP_MIN * 4 {
            std::thread::sleep(GAP_MIN * 2);
        }
    }
    Ok(None)
}

const GAP_MIN: Duration = Duration::from_micros(50);
const GAP_MAX: Duration = Duration::from_millis(20);
