//! A capture of all that a host sends and receives, by a packet socket of our own: as a network
//! card would have it, and "cooked" as `tcpdump -i any` does.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use portcullis::lab::Host;
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL` (`linux/if_ether.h`).
const EVERY_PROTOCOL: u16 = 3;
/// `ARPHRD_LOOPBACK` (`linux/if_arp.h`).
const LOOPBACK: u16 = 772;

/// Link types: <https://www.tcpdump.org/linktypes.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Ethernet = 1,
    Sll2 = 276,
}

/// A capture that goes on until it is written to a file.
pub(crate) struct Tap {
    link: Link,
    /// `None`: on all of them.
    index: Option<i32>,
    socket: Socket,
    /// pcap, in this machine's order of bytes, with nanoseconds.
    file: Vec<u8>,
}

impl Tap {
    /// On this interface alone, as a card's driver would have it, or cooked on all.
    pub(crate) fn on(
        host: &Host,
        link: Link,
        index: Option<u32>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let kind = match link {
            Link::Ethernet => Type::RAW,
            Link::Sll2 => Type::DGRAM,
        };
        let socket = host.run(|| -> io::Result<Socket> {
            let every = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
            let socket = Socket::new(Domain::PACKET, kind, Some(every))?;
            setsockopt(&socket, ReceiveTimestampns, &true)?;
            Ok(socket)
        })??;
        let mut file = Vec::new();
        file.extend(0xa1b2_3c4d_u32.to_ne_bytes());
        file.extend(2_u16.to_ne_bytes());
        file.extend(4_u16.to_ne_bytes());
        for word in [0, 0, 65_535, link as u32] {
            file.extend(word.to_ne_bytes());
        }
        Ok(Self {
            link,
            index: index.map(i32::try_from).transpose()?,
            socket,
            file,
        })
    }

    /// Takes what has come by; often enough, or the socket is full.
    pub(crate) fn take(&mut self) -> io::Result<()> {
        let mut place = vec![0; 65_536];
        loop {
            let mut parts = [IoSliceMut::new(&mut place)];
            let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
            let fd = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let message = match recvmsg::<LinkAddr>(fd, &mut parts, Some(&mut space), flags) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(io::Error::from(error)),
            };
            let from = message.address.expect("a packet comes from somewhere");
            let mut said = message.cmsgs().expect("there is room");
            let Some(ControlMessageOwned::ScmTimestampns(at)) = said.next() else {
                panic!("a packet without a time");
            };
            let length = message.bytes;
            if self.link == Link::Ethernet && from.hatype() == LOOPBACK {
                continue;
            }
            if self
                .index
                .is_some_and(|wanted| i32::try_from(from.ifindex()) != Ok(wanted))
            {
                continue;
            }
            let mut header = Vec::new();
            if self.link == Link::Sll2 {
                header.extend(u16::from_be(from.protocol()).to_be_bytes());
                header.extend([0, 0]);
                header.extend(u32::try_from(from.ifindex()).unwrap_or(0).to_be_bytes());
                header.extend(from.hatype().to_be_bytes());
                header.extend([from.pkttype(), 6]);
                header.extend(from.addr().unwrap_or_default());
                header.extend([0, 0]);
            }
            let captured = u32::try_from(header.len() + length).expect("it is short");
            let seconds = u32::try_from(at.tv_sec()).expect("it is before 2106");
            let nanos = u32::try_from(at.tv_nsec()).expect("it is less than a second");
            for word in [seconds, nanos, captured, captured] {
                self.file.extend(word.to_ne_bytes());
            }
            self.file.extend(header);
            self.file.extend(&place[..length]);
        }
    }

    /// The capture as a file's content.
    pub(crate) fn file(&self) -> &[u8] {
        &self.file
    }
}
