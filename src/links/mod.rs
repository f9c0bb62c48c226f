//! Network interfaces and the addresses of this host, as they come and go (`rtnetlink(7)`).
//!
//! What an interface is called and which addresses are ours decides what counts as a knock, so
//! both are followed rather than looked up: when the kernel drops notifications, everything is
//! asked for again.
#![forbid(unsafe_code)]

mod message;
mod state;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use message::{Dump, News, messages};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use state::State;

pub use state::{Change, Found, Interface};

/// Why interfaces and addresses are not known.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// A system call on a netlink socket failed.
    #[error("cannot {operation} {object}: {source}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// They changed during each of several attempts to list them.
    #[error("cannot list {object}: they keep changing (try again)")]
    Restless {
        /// What was to be listed.
        object: &'static str,
    },
}

fn failed(operation: &'static str, object: &'static str) -> impl FnOnce(io::Error) -> LinksError {
    move |source| LinksError::Kernel {
        operation,
        object,
        source,
    }
}

const SOCKET: &str = "the rtnetlink socket";

/// The kernel makes no message or part of a dump longer (`NLMSG_GOODSIZE`; 32 KiB for dumps).
const LONGEST: usize = 64 * 1024;

/// How often a dump is tried that changes disturb.
const ATTEMPTS: u32 = 20;

/// Follows interfaces and addresses.
#[derive(Debug)]
pub struct Links {
    notifications: Socket,
    /// A socket of its own, so that answers and notifications never mix.
    requests: Socket,
    sequence: u32,
    state: State,
    /// Whether no notification has been lost since `state` was listed.
    complete: bool,
    buffer: Vec<u8>,
}

impl Links {
    /// Subscribes, then lists what there is. Needs no privileges.
    pub fn open() -> Result<Self, LinksError> {
        let socket = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            Ok(socket)
        };
        let notifications: Socket = socket().map_err(failed("open", SOCKET))?;
        for group in [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
        ] {
            notifications
                .add_membership(group)
                .map_err(failed("subscribe to changes on", SOCKET))?;
        }
        notifications
            .set_non_blocking(true)
            .map_err(failed("set up", SOCKET))?;
        let mut links = Self {
            notifications,
            requests: socket().map_err(failed("open", SOCKET))?,
            sequence: 0,
            state: State::default(),
            complete: true,
            buffer: Vec::with_capacity(LONGEST),
        };
        links.state = links.list()?;
        Ok(links)
    }

    /// Readable when there are changes: call `update` then.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }

    /// Takes in all changes that have been notified. After an error what was known before still
    /// stands; call it again.
    pub fn update(&mut self) -> Result<Change, LinksError> {
        let before = self.state.clone();
        let mut after = before.clone();
        // Until all is well again: an error below loses what was read.
        let mut complete = std::mem::replace(&mut self.complete, false);
        loop {
            self.buffer.clear();
            match self.notifications.recv_from(&mut self.buffer, 0) {
                // Only the kernel speaks for the kernel.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok(_) => messages(&self.buffer).for_each(|message| after.take(message.news)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Some were dropped for want of room; the rest can still be read away.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => complete = false,
                Err(e) => return Err(failed("read changes from", SOCKET)(e)),
            }
        }
        if complete {
            after.settle();
        } else {
            after = self.list()?;
        }
        self.state = after;
        self.complete = true;
        Ok(self.state.change_since(&before))
    }

    /// Lists everything anew, whatever was known.
    fn list(&mut self) -> Result<State, LinksError> {
        let mut state = State::default();
        for dump in [Dump::Links, Dump::Addresses] {
            for news in self.dump(dump)? {
                state.take(news);
            }
        }
        state.settle();
        Ok(state)
    }

    fn dump(&mut self, dump: Dump) -> Result<Vec<News>, LinksError> {
        for _ in 0..ATTEMPTS {
            if let Some(news) = self.dump_once(dump)? {
                return Ok(news);
            }
        }
        let object = dump.name();
        Err(LinksError::Restless { object })
    }

    /// `None` if a change disturbed it.
    fn dump_once(&mut self, dump: Dump) -> Result<Option<Vec<News>>, LinksError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.requests
            .send_to(&dump.request(self.sequence), &SocketAddr::new(0, 0), 0)
            .map_err(failed("ask for", dump.name()))?;
        let mut all = Vec::new();
        let mut undisturbed = true;
        loop {
            self.buffer.clear();
            match self.requests.recv_from(&mut self.buffer, 0) {
                Ok((_, from)) if from.port_number() != 0 => continue,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed("list", dump.name())(e)),
            }
            for message in messages(&self.buffer) {
                if message.sequence != self.sequence {
                    continue;
                }
                undisturbed &= !message.interrupted;
                match message.news {
                    News::Done => return Ok(undisturbed.then_some(all)),
                    News::Error(errno) => {
                        let error = io::Error::from_raw_os_error(errno);
                        return Err(failed("list", dump.name())(error));
                    }
                    news => all.push(news),
                }
            }
        }
    }

    /// All interfaces, by index.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.state.interfaces()
    }

    /// The interfaces of these names, alternative names, or labels (`eth0:1` means eth0).
    pub fn find(&self, names: &[String]) -> Found {
        self.state.find(names)
    }

    /// Whether this host has the address.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.state.own().contains(&address.to_canonical())
    }

    /// Whether it is the broadcast address of a network that this host is in.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        self.state.broadcast().contains(&address.to_canonical())
    }

    /// The broadcast addresses of the networks that this host is in.
    pub fn broadcast_addresses(&self) -> &BTreeSet<IpAddr> {
        self.state.broadcast()
    }

    /// The addresses of this host, canonical, those of the loopback interface included.
    pub fn own_addresses(&self) -> &BTreeSet<IpAddr> {
        self.state.own()
    }
}
