//! A netlink socket: requests, dumps, and nfnetlink batches (netlink(7), linux/netlink.h,
//! linux/netfilter/nfnetlink.h). Knows neither tables nor gates.
#![forbid(unsafe_code)]

pub mod attr;
mod group;
mod message;

pub use self::group::{Group, Heard};
pub use self::message::batch_length;

use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use self::message::{BATCH_BEGIN, BATCH_END, Messages, TYPE_DONE, TYPE_ERROR, frame};

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: what is there already is an error.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

const DUMP_INTR: u16 = 0x10;
/// The kernel makes dumps of up to 32 KiB and single answers of little more.
const RECEIVE: usize = 128 * 1024;
/// What is asked for with `SO_SNDBUFFORCE`; only a limit, nothing is allocated.
const SEND_BUFFER: usize = 256 * 1024 * 1024;
/// A dump that is interrupted this often is given up.
const DUMP_TRIES: usize = 20;

/// Why a conversation with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call failed.
    #[error("cannot {operation} the netlink socket: {source}")]
    Socket {
        /// `open`, `write to`.
        operation: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// The kernel refused a message.
    #[error("{source}{}", text.as_ref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Refused {
        /// Which message of the batch, from 0; `None` is the batch as a whole.
        index: Option<usize>,
        /// The errno.
        source: io::Error,
        /// What the kernel adds to it (extended acknowledgement).
        text: Option<String>,
    },
    /// The batch is longer than the send buffer takes; nothing was sent.
    #[error("a message of {length} bytes does not fit the send buffer of {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The most that fits.
        limit: usize,
    },
    /// No answer, or one that was lost (ENOBUFS).
    #[error("the kernel's answer was lost")]
    Lost,
    /// A dump was interrupted by changes again and again.
    #[error("the kernel's state changes too fast to be read")]
    Unsteady,
}

impl NetlinkError {
    /// The errno, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::TooLong { .. } => Some(libc::EMSGSIZE),
            Self::Lost | Self::Unsteady => None,
        }
    }

    /// As an `io::Error` with the same errno, without the kernel's words.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source,
            Self::TooLong { .. } => io::Error::from_raw_os_error(libc::EMSGSIZE),
            other => io::Error::other(other),
        }
    }
}

/// A netlink socket bound to the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    limit: usize,
    buffer: Vec<u8>,
}

/// What came of reading the answers to one request.
struct Answer {
    error: Option<NetlinkError>,
    interrupted: bool,
    lost: bool,
    /// The end of the dump or the acknowledgement of the last message was seen.
    ended: bool,
}

impl Netlink {
    /// Opens a socket of that netlink family.
    pub fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let failed = |operation| move |source| NetlinkError::Socket { operation, source };
        let mut socket = Socket::new(protocol).map_err(failed("open"))?;
        let address = socket.bind_auto().map_err(failed("bind"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect"))?;
        // Answers are queued before `send` returns, and dumps go on within `recv`.
        socket.set_non_blocking(true).map_err(failed("set up"))?;
        // Both only make errors shorter or clearer.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        // Root may exceed wmem_max; others get what they get, and what they got is read back.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        }
        let limit = getsockopt(&socket, sockopt::SndBuf)
            .map_err(|errno| failed("read the send buffer of")(errno.into()))?;
        Ok(Self {
            socket,
            port: address.port_number(),
            sequence: 0,
            // netlink_sendmsg refuses what exceeds sk_sndbuf - 32.
            limit: limit.saturating_sub(32),
            buffer: vec![0; RECEIVE],
        })
    }

    /// The port that notifications about what this socket changes carry.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The longest batch that can be sent, with its own 40 bytes or so.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Behaves as if the send buffer were smaller; for tests.
    pub fn lower_limit(&mut self, limit: usize) {
        self.limit = self.limit.min(limit);
    }

    /// Sends one request and returns the first answer that `read` understands.
    pub fn ask<T>(
        &mut self,
        mut message: Vec<u8>,
        mut read: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let sequence = self.number(&mut message);
        self.send(&message)?;
        let mut found = None;
        let answer = self.receive(sequence, sequence, &mut |kind, payload| {
            if found.is_none() {
                found = read(kind, payload);
            }
        })?;
        match answer.error {
            Some(error) => Err(error),
            None if found.is_none() && answer.lost => Err(NetlinkError::Lost),
            None => Ok(found),
        }
    }

    /// Sends a dump request and collects what `read` understands; starts over when the kernel
    /// says that its state changed meanwhile.
    pub fn dump<T>(
        &mut self,
        mut message: Vec<u8>,
        mut read: impl FnMut(u16, &[u8], &mut Vec<T>),
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let sequence = self.number(&mut message);
            self.send(&message)?;
            let mut found = Vec::new();
            let answer = self.receive(sequence, sequence, &mut |kind, payload| {
                read(kind, payload, &mut found);
            })?;
            match answer.error {
                // Changed between two parts of the dump, as older kernels say it.
                Some(error) if error.errno() == Some(libc::EINTR) => {}
                Some(error) => return Err(error),
                None if answer.interrupted || answer.lost || !answer.ended => {}
                None => return Ok(found),
            }
        }
        Err(NetlinkError::Unsteady)
    }

    /// Commits all messages or none. With a generation, fails with ERESTART if anything was
    /// changed since it was read.
    pub fn batch<'a>(
        &mut self,
        subsystem: u8,
        generation: Option<u32>,
        messages: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), NetlinkError> {
        let length = batch_length(messages.clone().map(<[u8]>::len));
        if length > self.limit {
            return Err(NetlinkError::TooLong {
                length,
                limit: self.limit,
            });
        }
        let count = messages.len();
        if count == 0 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(length);
        let first = self.next();
        frame(&mut bytes, BATCH_BEGIN, subsystem, first, generation);
        for (index, message) in messages.enumerate() {
            let start = bytes.len();
            bytes.extend_from_slice(message);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let sequence = self.next();
            bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
            if index + 1 == count {
                // Only the last answers success, so that answers always fit their buffer.
                let flags = u16::from_ne_bytes([bytes[start + 6], bytes[start + 7]]) | ACK;
                bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
            }
        }
        let last = self.sequence;
        let end = self.next();
        frame(&mut bytes, BATCH_END, subsystem, end, None);
        self.send(&bytes)?;
        let answer = self.receive_batch(first, last, end)?;
        match answer.error {
            Some(error) => Err(error),
            None if answer.ended => Ok(()),
            None => Err(NetlinkError::Lost),
        }
    }

    fn next(&mut self) -> u32 {
        // 0 is what the kernel uses for its own notifications.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    fn number(&mut self, message: &mut [u8]) -> u32 {
        let sequence = self.next();
        if let Some(field) = message.get_mut(8..12) {
            field.copy_from_slice(&sequence.to_ne_bytes());
        }
        sequence
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NetlinkError> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(NetlinkError::Socket {
                        operation: "write to",
                        source,
                    });
                }
            }
        }
    }

    fn receive_batch(&mut self, first: u32, last: u32, end: u32) -> Result<Answer, NetlinkError> {
        let mut answer = self.receive(first, end, &mut |_, _| {})?;
        if let Some(NetlinkError::Refused { index, .. }) = &mut answer.error {
            // 0 is the frame that begins the batch, and then the batch as a whole.
            *index = index
                .and_then(|index| index.checked_sub(1))
                .filter(|&index| index < last.wrapping_sub(first) as usize);
        }
        Ok(answer)
    }

    /// Reads until there is no more. Of several errors the first counts.
    fn receive(
        &mut self,
        first: u32,
        last: u32,
        visit: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<Answer, NetlinkError> {
        let mut answer = Answer {
            error: None,
            interrupted: false,
            lost: false,
            ended: false,
        };
        loop {
            let received = match self.socket.recv(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok(received) => received,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(answer),
                    Some(libc::EINTR) => continue,
                    Some(libc::ENOBUFS) => {
                        answer.lost = true;
                        continue;
                    }
                    _ => {
                        return Err(NetlinkError::Socket {
                            operation: "read from",
                            source: error,
                        });
                    }
                },
            };
            answer.lost |= received > self.buffer.len();
            let datagram = &self.buffer[..received.min(self.buffer.len())];
            for message in Messages(datagram) {
                // Wrapping: sequence numbers may have started again.
                if message.sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                answer.interrupted |= message.flags & DUMP_INTR != 0;
                let code = message.code();
                match message.kind {
                    TYPE_ERROR | TYPE_DONE if code.is_none_or(|code| code == 0) => {
                        answer.ended = true;
                    }
                    TYPE_ERROR | TYPE_DONE => {
                        let refused = message.refusal(first);
                        answer.error.get_or_insert(refused);
                    }
                    kind => visit(kind, message.payload),
                }
            }
        }
    }
}
