//! Somebody who keeps trying to connect, and what became of each attempt.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portcullis::lab::{Host, LabError};
use socket2::{Domain, Protocol, Socket, Type};

/// From one attempt to the next.
const GAP: Duration = Duration::from_millis(4);
/// An attempt that is not answered by then is not answered. Less than the second after which the
/// kernel would send its SYN again, so that each attempt is one SYN.
const PATIENCE: Duration = Duration::from_millis(900);

/// What became of the attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) open: usize,
    pub(crate) refused: usize,
    pub(crate) silent: usize,
}

impl Count {
    pub(crate) fn attempts(self) -> usize {
        self.open + self.refused + self.silent
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            open: self.open + other.open,
            refused: self.refused + other.refused,
            silent: self.silent + other.silent,
        }
    }
}

/// A thread that tries until it is stopped.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<io::Result<Count>, LabError>>>,
}

impl Stream {
    /// Begins at once, from that address of the host.
    pub(crate) fn start(host: &Host, source: IpAddr, to: SocketAddr) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, counted, host) = (Arc::clone(&stop), Arc::clone(&sent), host.clone());
        let work = move || host.run(|| keep_trying(source, to, &stopped, &counted));
        Self {
            stop,
            sent,
            thread: Some(thread::spawn(work)),
        }
    }

    /// How many attempts have been made so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Acquire)
    }

    /// Stops, waits for the last answers and says what became of all.
    pub(crate) fn finish(mut self) -> io::Result<Count> {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Ok(count))) => count,
            Some(Ok(Err(error))) => Err(io::Error::other(error)),
            Some(Err(_)) | None => Err(io::Error::other("a stream of attempts panicked")),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn keep_trying(
    source: IpAddr,
    to: SocketAddr,
    stop: &AtomicBool,
    sent: &AtomicUsize,
) -> io::Result<Count> {
    let mut under_way: VecDeque<(Instant, Socket)> = VecDeque::new();
    let mut count = Count::default();
    let mut next = Instant::now();
    loop {
        let stopping = stop.load(Ordering::Acquire);
        if stopping && under_way.is_empty() {
            return Ok(count);
        }
        if !stopping && Instant::now() >= next {
            under_way.push_back((Instant::now(), attempt(source, to)?));
            sent.fetch_add(1, Ordering::AcqRel);
            next += GAP;
        }
        let mut failed = None;
        under_way.retain(|(since, socket)| match answer(socket) {
            Ok(Some(is_open)) => {
                count.open += usize::from(is_open);
                count.refused += usize::from(!is_open);
                false
            }
            Ok(None) if since.elapsed() > PATIENCE => {
                count.silent += 1;
                false
            }
            Ok(None) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn attempt(source: IpAddr, to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Closed with a reset: thousands of connections that linger would use up all ports.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&to.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Whether it is open; `None` while there is no answer.
fn answer(socket: &Socket) -> io::Result<Option<bool>> {
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut waiting, PollTimeout::ZERO)? == 0 {
        return Ok(None);
    }
    Ok(Some(socket.take_error()?.is_none()))
}
