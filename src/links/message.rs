//! The two kinds of rtnetlink messages that matter, and the few of their attributes that do
//! (`rtnetlink(7)`, `linux/if_link.h`, `linux/if_addr.h`).
//!
//! A link message has some sixty attributes and every kernel brings new ones; what is not looked
//! at cannot be misunderstood, so nothing else of it is decoded.

use std::net::IpAddr;

use netlink_packet_core::{NlaBuffer, NlasIterator};

use super::state::{Address, Interface};

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Link(Interface),
    NoLink(u32),
    Address(Address),
    NoAddress(Address),
    /// The end of a dump.
    Done,
    /// The errno of a refused request; 0 is an acknowledgement.
    Error(i32),
    /// Something else.
    Other,
}

/// A message with what its header says about the dump it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) news: News,
    pub(super) sequence: u32,
    /// `NLM_F_DUMP_INTR`: the dump saw neither the old nor the new state.
    pub(super) interrupted: bool,
}

const NLMSGHDR: usize = 16;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;

const NLM_F_DUMP_INTR: u16 = 16;
const NLM_F_REQUEST_DUMP: u16 = 0x301;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dump {
    Links,
    Addresses,
}

impl Dump {
    pub(super) fn name(self) -> &'static str {
        match self {
            Dump::Links => "the network interfaces",
            Dump::Addresses => "the addresses of this host",
        }
    }

    /// The request for all of them, of every family.
    pub(super) fn request(self, sequence: u32) -> Vec<u8> {
        let (kind, body) = match self {
            Dump::Links => (libc::RTM_GETLINK, IFINFOMSG),
            Dump::Addresses => (libc::RTM_GETADDR, IFADDRMSG),
        };
        let len = u32::try_from(NLMSGHDR + body).unwrap_or(0);
        let mut bytes = Vec::with_capacity(NLMSGHDR + body);
        bytes.extend_from_slice(&len.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.resize(NLMSGHDR + body, 0);
        bytes
    }
}

/// The messages of a datagram. It ends at the first that does not fit.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(rest, 0)?).ok()?;
        let message = rest.get(..len).filter(|m| m.len() >= NLMSGHDR)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        let body = &message[NLMSGHDR..];
        Some(Message {
            news: news(u16_at(message, 4)?, body).unwrap_or(News::Other),
            sequence: u32_at(message, 8)?,
            interrupted: u16_at(message, 6)? & NLM_F_DUMP_INTR != 0,
        })
    })
}

fn news(kind: u16, body: &[u8]) -> Option<News> {
    Some(match kind {
        libc::RTM_NEWLINK => News::Link(interface(body)?),
        libc::RTM_DELLINK => News::NoLink(interface(body)?.index),
        libc::RTM_NEWADDR => News::Address(address(body)?),
        libc::RTM_DELADDR => News::NoAddress(address(body)?),
        kind if i32::from(kind) == libc::NLMSG_DONE => News::Done,
        kind if i32::from(kind) == libc::NLMSG_ERROR => {
            // The kernel sends the negative of an errno.
            News::Error(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?).saturating_neg())
        }
        _ => return None,
    })
}

fn interface(body: &[u8]) -> Option<Interface> {
    // A bridge tells of its ports in messages of its own family: "no longer a port" looks like
    // "no longer there".
    if *body.first()? != AF_UNSPEC {
        return None;
    }
    let flags = u32_at(body, 8)?;
    let mut interface = Interface {
        index: u32_at(body, 4)?,
        name: String::new(),
        alternatives: Vec::new(),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
    };
    for attribute in attributes(body.get(IFINFOMSG..)?) {
        match attribute.kind() {
            IFLA_IFNAME => interface.name = text(attribute.value()),
            IFLA_PROP_LIST => {
                let names = attributes(attribute.value());
                let names = names.filter(|a| a.kind() == IFLA_ALT_IFNAME);
                interface.alternatives = names.map(|a| text(a.value())).collect();
            }
            _ => {}
        }
    }
    Some(interface)
}

fn address(body: &[u8]) -> Option<Address> {
    let family = *body.first()?;
    let (mut local, mut other, mut broadcast) = (None, None, None);
    for attribute in attributes(body.get(IFADDRMSG..)?) {
        match attribute.kind() {
            IFA_LOCAL => local = ip(family, attribute.value()),
            IFA_ADDRESS => other = ip(family, attribute.value()),
            IFA_BROADCAST => broadcast = ip(family, attribute.value()),
            _ => {}
        }
    }
    Some(Address {
        index: u32_at(body, 4)?,
        // Where there is a peer, IFA_ADDRESS is the peer's (linux/if_addr.h).
        ip: local.or(other)?.to_canonical(),
        prefix: *body.get(1)?,
        broadcast,
    })
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        AF_INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A name with the zero byte that ends it. The kernel lets names be any bytes but `/`, `:` and
/// white space.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
