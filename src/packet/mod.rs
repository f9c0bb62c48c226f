//! From the bytes of an IP packet to a knock. Total: any bytes give an answer, nothing panics,
//! nothing is allocated.
//!
//! IPv4 is RFC 791, IPv6 RFC 8200, AH RFC 4302, TCP RFC 9293, UDP RFC 768. Checksums are not
//! looked at: the kernel drops what has a wrong one, and between virtual machines of one host
//! they are not even filled in.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, TcpHeaderSlice, UdpHeaderSlice, err,
};

use crate::model::{KnockPort, Proto, canonical};

/// A TCP packet or UDP datagram that may count as a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Knock {
    /// Canonical. Never unspecified, loopback, broadcast (255.255.255.255) or multicast; whether
    /// it is one of this host's own is the caller's to ask.
    pub source: IpAddr,
    /// Canonical.
    pub destination: IpAddr,
    /// What was knocked on; never port 0.
    pub port: KnockPort,
    /// The port it came from; 0 is possible.
    pub source_port: u16,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128 (RFC 9293, section 3.1);
    /// 0 for UDP.
    pub flags: u8,
    /// The TCP sequence number; 0 for UDP.
    pub seq: u32,
}

/// Why bytes are no knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum NotAKnock {
    /// The bytes end before the transport header does.
    #[error("cut short")]
    Truncated,
    /// Neither IPv4 nor IPv6.
    #[error("not an IP packet")]
    Version,
    /// A length in a header contradicts another, or the packet is a jumbogram (RFC 2675).
    #[error("lengths that contradict each other")]
    BadLength,
    /// A part of a datagram, be it the first. A first fragment shows ports, but nobody knows
    /// whether the rest ever comes or what later, overlapping fragments would make of its header
    /// (RFC 1858, RFC 3128), and no SYN or knocking datagram has a reason to be in parts.
    #[error("a fragment")]
    Fragment,
    /// Extension headers in a chain that is too long or out of order, or a route that goes on
    /// beyond this host.
    #[error("unacceptable IPv6 extension headers")]
    Extension,
    /// Another protocol.
    #[error("neither TCP nor UDP")]
    NotTcpUdp,
    /// Nobody sends from there: unspecified, loopback, broadcast or multicast.
    #[error("an impossible source address")]
    BadSource,
    /// Port 0 cannot be a knock.
    #[error("destination port 0")]
    PortZero,
}

impl NotAKnock {
    /// A word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            NotAKnock::Truncated => "truncated",
            NotAKnock::Version => "version",
            NotAKnock::BadLength => "bad_length",
            NotAKnock::Fragment => "fragment",
            NotAKnock::Extension => "extension",
            NotAKnock::NotTcpUdp => "not_tcp_udp",
            NotAKnock::BadSource => "bad_source",
            NotAKnock::PortZero => "port_zero",
        }
    }
}

/// More extension headers than any sender uses (RFC 8200, section 4.1, knows seven places).
const MOST_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads an IP packet that starts with its IP header. It may be padded beyond the length that its
/// header gives, and cut short anywhere after the transport header.
pub fn parse(bytes: &[u8]) -> Result<Knock, NotAKnock> {
    match bytes.first().ok_or(NotAKnock::Truncated)? >> 4 {
        4 => parse_v4(bytes),
        6 => parse_v6(bytes),
        _ => Err(NotAKnock::Version),
    }
}

/// What [`parse`] would give as the source if the packet were a knock, in less time.
pub fn source(bytes: &[u8]) -> Option<IpAddr> {
    let source: IpAddr = match bytes.first()? >> 4 {
        4 => <[u8; 4]>::try_from(bytes.get(12..16)?).ok()?.into(),
        6 => <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?.into(),
        _ => return None,
    };
    Some(canonical(source))
}

/// What is left of a packet: the bytes that were captured, and how many there were on the wire
/// according to the IP header.
#[derive(Clone, Copy)]
struct Rest<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Rest<'a> {
    /// `claimed` bytes follow, of which `bytes` were captured, padding included.
    fn new(bytes: &'a [u8], claimed: usize) -> Self {
        Self {
            bytes: bytes.get(..claimed).unwrap_or(bytes),
            len: claimed,
        }
    }

    fn skip(self, header: usize) -> Result<Self, NotAKnock> {
        let bytes = self.bytes.get(header..).ok_or(self.too_short())?;
        Ok(Self {
            bytes,
            len: self.len - header,
        })
    }

    /// Why a header does not fit: it was cut off, or the packet itself is too short for it.
    fn too_short(self) -> NotAKnock {
        if self.bytes.len() < self.len {
            NotAKnock::Truncated
        } else {
            NotAKnock::BadLength
        }
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Knock, NotAKnock> {
    use err::ipv4::HeaderSliceError::{Content, Len};
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
        Len(_) => NotAKnock::Truncated,
        Content(_) => NotAKnock::BadLength,
    })?;
    let header_len = header.slice().len();
    let payload_len = usize::from(header.total_len())
        .checked_sub(header_len)
        .ok_or(NotAKnock::BadLength)?;
    if header.is_fragmenting_payload() {
        return Err(NotAKnock::Fragment);
    }
    let rest = Rest::new(&bytes[header_len..], payload_len);
    transport(
        header.protocol().0,
        rest,
        header.source_addr().into(),
        header.destination_addr().into(),
    )
}

fn parse_v6(bytes: &[u8]) -> Result<Knock, NotAKnock> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| NotAKnock::Truncated)?;
    let header_len = header.slice().len();
    let payload_len = usize::from(header.payload_length());
    if payload_len == 0 {
        return Err(NotAKnock::BadLength);
    }
    let rest = Rest::new(&bytes[header_len..], payload_len);
    let (protocol, rest) = skip_extensions(header.next_header().0, rest)?;
    transport(
        protocol,
        rest,
        header.source_addr().into(),
        header.destination_addr().into(),
    )
}

fn skip_extensions(first: u8, packet: Rest<'_>) -> Result<(u8, Rest<'_>), NotAKnock> {
    let (mut next, mut rest) = (first, packet);
    for place in 0..=MOST_EXTENSIONS {
        let (then, len) = match next {
            // Only directly after the IPv6 header (RFC 8200, section 4.1).
            HOP_BY_HOP if place > 0 => return Err(NotAKnock::Extension),
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let header =
                    Ipv6RawExtHeaderSlice::from_slice(rest.bytes).map_err(|_| rest.too_short())?;
                // With segments left this host is but a stage, not the destination.
                if next == ROUTING && header.slice()[3] != 0 {
                    return Err(NotAKnock::Extension);
                }
                (header.next_header().0, header.slice().len())
            }
            FRAGMENT => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest.bytes)
                    .map_err(|_| rest.too_short())?;
                // An atomic fragment is a whole packet (RFC 6946).
                if header.is_fragmenting_payload() {
                    return Err(NotAKnock::Fragment);
                }
                (header.next_header().0, header.slice().len())
            }
            AUTHENTICATION => {
                use err::ip_auth::HeaderSliceError::{Content, Len};
                let header =
                    IpAuthHeaderSlice::from_slice(rest.bytes).map_err(|error| match error {
                        Len(_) => rest.too_short(),
                        Content(_) => NotAKnock::BadLength,
                    })?;
                (header.next_header().0, header.slice().len())
            }
            _ => return Ok((next, rest)),
        };
        next = then;
        rest = rest.skip(len)?;
    }
    Err(NotAKnock::Extension)
}

fn transport(
    protocol: u8,
    rest: Rest<'_>,
    source: IpAddr,
    destination: IpAddr,
) -> Result<Knock, NotAKnock> {
    let (source, destination) = (canonical(source), canonical(destination));
    if !may_be_a_source(source) {
        return Err(NotAKnock::BadSource);
    }
    let knock = if protocol == Proto::Tcp.number() {
        use err::tcp::HeaderSliceError::{Content, Len};
        let tcp = TcpHeaderSlice::from_slice(rest.bytes).map_err(|error| match error {
            Len(_) => rest.too_short(),
            Content(_) => NotAKnock::BadLength,
        })?;
        Knock {
            source,
            destination,
            port: KnockPort::tcp(tcp.destination_port()),
            source_port: tcp.source_port(),
            flags: tcp.slice()[13],
            seq: tcp.sequence_number(),
        }
    } else if protocol == Proto::Udp.number() {
        let udp = UdpHeaderSlice::from_slice(rest.bytes).map_err(|_| rest.too_short())?;
        if !(udp.slice().len()..=rest.len).contains(&usize::from(udp.length())) {
            return Err(NotAKnock::BadLength);
        }
        Knock {
            source,
            destination,
            port: KnockPort::udp(udp.destination_port()),
            source_port: udp.source_port(),
            flags: 0,
            seq: 0,
        }
    } else {
        return Err(NotAKnock::NotTcpUdp);
    };
    if knock.port.port == 0 {
        return Err(NotAKnock::PortZero);
    }
    Ok(knock)
}

/// Whether a packet can come from there: 0.0.0.0/8 is "this network" (RFC 1122, section 3.2.1.3).
fn may_be_a_source(address: IpAddr) -> bool {
    let broadcast = match address {
        IpAddr::V4(v4) => v4 == Ipv4Addr::BROADCAST || v4.octets()[0] == 0,
        IpAddr::V6(_) => false,
    };
    !(broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}
