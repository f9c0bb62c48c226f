//! A packet that nobody has sent yet: the first one of a connection from somebody who has
//! knocked. What is known of it beforehand, and what a rule of somebody else's reads from it.

use std::net::IpAddr;

use crate::model::Proto;

/// Traffic through a chain at this hook (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
}

/// What is known of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Byte {
    Known(u8),
    /// Of the source address: a knocker comes from anywhere, so it is none that a rule names.
    Stranger,
    /// Of an address of this host: it may be the one a rule names, but it is no multicast.
    Own,
    Unknown,
}

/// What is known of several.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Known(Vec<u8>),
    Stranger,
    Own,
    Unknown,
}

impl Value {
    pub(super) fn of(bytes: &[Byte]) -> Self {
        let known = bytes.iter().map(|byte| match byte {
            Byte::Known(byte) => Some(*byte),
            _ => None,
        });
        if let Some(known) = known.collect() {
            Value::Known(known)
        } else if bytes.contains(&Byte::Stranger) {
            Value::Stranger
        } else if bytes.contains(&Byte::Unknown) {
            Value::Unknown
        } else {
            Value::Own
        }
    }
}

/// The packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) hook: Hook,
    pub(super) is_v6: bool,
    pub(super) proto: Proto,
    /// As the gate sees it.
    pub(super) port: u16,
    /// Where it is addressed to, if that is known.
    pub(super) to: Option<IpAddr>,
    /// The interface that it comes in by: name and index.
    pub(super) interface: (String, u32),
}

/// The first port that IANA leaves to clients (RFC 6335, section 6).
pub(super) const CLIENT_PORT: u16 = 49152;
pub(super) const SYN: u8 = 2;

impl Packet {
    /// Whether the port may still be another one: before DNAT.
    pub(super) fn port_is_known(&self) -> bool {
        self.hook != Hook::Prerouting || self.to.is_none()
    }

    /// Part of the IP header.
    pub(super) fn network(&self, offset: usize, length: usize) -> Vec<Byte> {
        let (proto_at, source, destination) = if self.is_v6 {
            (6, 8..24, 24..40)
        } else {
            (9, 12..16, 16..20)
        };
        let byte = |at: usize| {
            if at == proto_at {
                Byte::Known(self.proto.number())
            } else if source.contains(&at) {
                Byte::Stranger
            } else if destination.contains(&at) {
                self.destination(at - destination.start)
            } else if !self.is_v6 && (6..8).contains(&at) {
                // No fragment.
                Byte::Known(0)
            } else {
                Byte::Unknown
            }
        };
        (offset..offset.saturating_add(length)).map(byte).collect()
    }

    fn destination(&self, index: usize) -> Byte {
        match (self.hook, self.to) {
            // DNAT may come later.
            (Hook::Prerouting, Some(_)) | (Hook::Forward, None) => Byte::Unknown,
            (_, None) => Byte::Own,
            (_, Some(IpAddr::V4(to))) => known(&to.octets(), index),
            (_, Some(IpAddr::V6(to))) => known(&to.octets(), index),
        }
    }

    /// Part of the TCP or UDP header.
    pub(super) fn transport(&self, offset: usize, length: usize) -> Vec<Byte> {
        let from = CLIENT_PORT.to_be_bytes();
        let to = self.port.to_be_bytes();
        let byte = |at: usize| match at {
            0 | 1 => Byte::Known(from[at]),
            2 | 3 if self.port_is_known() => Byte::Known(to[at - 2]),
            13 if self.proto == Proto::Tcp => Byte::Known(SYN),
            _ => Byte::Unknown,
        };
        (offset..offset.saturating_add(length)).map(byte).collect()
    }
}

fn known(bytes: &[u8], index: usize) -> Byte {
    bytes.get(index).map_or(Byte::Unknown, |b| Byte::Known(*b))
}
