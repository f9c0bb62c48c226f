//! A netlink socket that listens to what the kernel tells a multicast group.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use socket2::{SockFilter, SockRef};

use super::NetlinkError;
use super::message::Messages;

/// The kernel makes no notification longer (`NLMSG_GOODSIZE`), but for one that is a single long
/// message: what does not fit is cut off, and then does not parse.
const LONGEST: usize = 64 * 1024;
/// Where `nlmsg_pid` is in `struct nlmsghdr`.
const PORT: u32 = 12;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (linux/filter.h).
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// The socket.
#[derive(Debug)]
pub struct Group {
    socket: Socket,
    number: u32,
    buffer: Vec<u8>,
    ignored: Option<u32>,
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A notification.
    Some,
    /// Notifications came faster than they were read, and some were dropped (ENOBUFS).
    Lost,
    /// No more at present.
    Nothing,
}

impl Group {
    /// Opens a socket of that netlink family and joins the group.
    pub fn join(protocol: isize, group: u32) -> Result<Self, NetlinkError> {
        let failed = |operation| move |source| NetlinkError::Socket { operation, source };
        let mut socket = Socket::new(protocol).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket
            .add_membership(group)
            .map_err(failed("subscribe to changes on"))?;
        socket.set_non_blocking(true).map_err(failed("set up"))?;
        Ok(Self {
            socket,
            number: group,
            buffer: vec![0; LONGEST],
            ignored: None,
        })
    }

    /// Leaves the group. What was told before can still be heard.
    pub fn leave(&mut self) -> Result<(), NetlinkError> {
        let left = self.socket.drop_membership(self.number);
        left.map_err(|source| NetlinkError::Socket {
            operation: "stop listening to changes on",
            source,
        })
    }

    /// Joins it again.
    pub fn return_to(&mut self) -> Result<(), NetlinkError> {
        let joined = self.socket.add_membership(self.number);
        joined.map_err(|source| NetlinkError::Socket {
            operation: "subscribe to changes on",
            source,
        })
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Does not hear any more what the socket with that port brings about. The kernel sorts it
    /// out where it can, so that nobody is woken for it: all messages of one notification are of
    /// one sender.
    pub fn ignore(&mut self, port: Option<u32>) {
        self.ignored = port;
        // A comparison with no port is one that never holds: 0 is the kernel's own.
        let Some(port) = port else {
            let _ = SockRef::from(&self.socket).attach_filter(&[op(RETURN, 0, 0, u32::MAX)]);
            return;
        };
        let filter = [
            // Loaded as big endian, and written in host order.
            op(LOAD, 0, 0, PORT),
            op(IF_EQUAL, 0, 1, port.to_be()),
            op(RETURN, 0, 0, 0),
            op(RETURN, 0, 0, u32::MAX),
        ];
        // Without it they are left out below.
        let _ = SockRef::from(&self.socket).attach_filter(&filter);
    }

    /// Reads one notification, if there is one: type and payload of each message in it.
    pub fn hear(&mut self, mut visit: impl FnMut(u16, &[u8])) -> Result<Heard, NetlinkError> {
        loop {
            match self.socket.recv_from(&mut &mut self.buffer[..], 0) {
                // Only the kernel speaks for the kernel.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((length, _)) => {
                    let datagram = &self.buffer[..length.min(self.buffer.len())];
                    Messages(datagram)
                        .filter(|message| self.ignored != Some(message.port))
                        .for_each(|message| visit(message.kind, message.payload));
                    return Ok(Heard::Some);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => return Ok(Heard::Lost),
                    _ if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
                    _ => {
                        return Err(NetlinkError::Socket {
                            operation: "read changes from",
                            source: error,
                        });
                    }
                },
            }
        }
    }
}

fn op(code: u16, if_true: u8, if_false: u8, value: u32) -> SockFilter {
    SockFilter::new(code, if_true, if_false, value)
}
