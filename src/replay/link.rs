//! What stands before the IP header, and what it says about where the packet was going.
//!
//! Link types and their headers: <https://www.tcpdump.org/linktypes.html>. As in the kernel, only
//! what is addressed to this machine on the link may be a knock (`PACKET_HOST`, packet(7)).

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

/// A kind of link header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// None: the packet begins with its IP header.
    Raw,
    /// Four bytes with the address family of BSD, in either order of bytes.
    Null,
    /// Linux "cooked" capture, as of `tcpdump -i any`.
    Sll,
    /// Its second version, which says on which interface.
    Sll2,
}

/// What is below the link header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below<'a> {
    /// An IP packet, as its first byte or the header before it says.
    Ip(Ip<'a>),
    /// Another protocol, such as ARP.
    Other,
    /// Not even the whole link header was captured.
    CutShort,
}

/// An IP packet on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ip<'a> {
    pub(super) bytes: &'a [u8],
    /// False if the link says that it was not sent to this machine: our own, broadcast, multicast,
    /// for another machine, or on the loopback interface.
    pub(super) to_us: bool,
    /// What the link says about who sent it to whom.
    pub(super) way: Way,
    /// On which interface, if the link says so.
    pub(super) device: Option<u32>,
    /// The VLANs that it was tagged for, the outermost first.
    pub(super) vlan: Tags,
}

/// The address of a network card.
pub(super) type Mac = [u8; 6];

/// What a link says about who sent a packet to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Whether it was sent to this machine.
    Said,
    /// Which cards it went between, but not which of them is this machine's.
    Cards {
        /// The sender's.
        from: Mac,
        /// The receiver's, or a group's.
        to: Mac,
    },
    /// Nothing.
    Unsaid,
}

/// The numbers of VLANs, as few as anybody stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tags {
    ids: [u16; MOST_TAGS],
    count: usize,
}

impl Tags {
    pub(super) fn push(&mut self, id: u16) {
        self.ids[self.count] = id;
        self.count += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &u16> {
        self.ids[..self.count].iter()
    }
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad, and what came before that.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// More tags than anybody stacks.
const MOST_TAGS: usize = 4;

/// `PACKET_HOST` (`linux/if_packet.h`).
const TO_HOST: u8 = 0;
/// `ARPHRD_LOOPBACK` (`linux/if_arp.h`).
const LOOPBACK: u16 = 772;

impl Link {
    /// The link type of that number, if it is known here.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 | 108 => Link::Null,
            1 => Link::Ethernet,
            // Raw IP is 101; programs that wrote the number of their own system meant that, too.
            // 228 and 229 are IPv4 and IPv6 only.
            12 | 14 | 101 | 228 | 229 => Link::Raw,
            113 => Link::Sll,
            276 => Link::Sll2,
            _ => return None,
        })
    }

    /// Takes the link header off.
    pub(super) fn strip(self, packet: &[u8]) -> Below<'_> {
        match self {
            Link::Ethernet => ethernet(packet),
            Link::Raw => plain(packet),
            // Which family it is the packet says as well; numbers differ between the BSDs.
            Link::Null => packet.get(4..).map_or(Below::CutShort, plain),
            Link::Sll => sll(packet),
            Link::Sll2 => sll2(packet),
        }
    }
}

fn plain(bytes: &[u8]) -> Below<'_> {
    match bytes.first().map(|first| first >> 4) {
        Some(4 | 6) => ip(bytes, (true, Way::Unsaid), None, Tags::default()),
        Some(_) => Below::Other,
        None => Below::CutShort,
    }
}

fn ip(bytes: &[u8], (to_us, way): (bool, Way), device: Option<u32>, vlan: Tags) -> Below<'_> {
    Below::Ip(Ip {
        bytes,
        to_us,
        way,
        device,
        vlan,
    })
}

fn ethernet(packet: &[u8]) -> Below<'_> {
    let Ok(header) = Ethernet2HeaderSlice::from_slice(packet) else {
        return Below::CutShort;
    };
    let rest = &packet[header.slice().len()..];
    // The lowest bit of the first byte marks groups (IEEE 802): broadcast and multicast.
    let to_us = header.destination()[0] & 1 == 0;
    let (from, to) = (header.source(), header.destination());
    let way = Way::Cards { from, to };
    untagged(header.ether_type().0, rest, (to_us, way), None)
}

/// Takes VLAN tags off, and looks what is below.
fn untagged(
    mut protocol: u16,
    mut rest: &[u8],
    way: (bool, Way),
    device: Option<u32>,
) -> Below<'_> {
    let mut tags = Tags::default();
    for _ in 0..MOST_TAGS {
        if !VLAN.contains(&protocol) {
            break;
        }
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(rest) else {
            return Below::CutShort;
        };
        protocol = tag.ether_type().0;
        // Number 0 is no VLAN, but only a priority (IEEE 802.1Q).
        if tag.vlan_identifier().value() != 0 {
            tags.push(tag.vlan_identifier().value());
        }
        rest = &rest[tag.slice().len()..];
    }
    match protocol {
        IPV4 | IPV6 => ip(rest, way, device, tags),
        _ => Below::Other,
    }
}

/// Packet type, kind of device, length and bytes of the sender's address, protocol.
fn sll(packet: &[u8]) -> Below<'_> {
    let Some((header, rest)) = packet.split_first_chunk::<16>() else {
        return Below::CutShort;
    };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let to_us = word(0) == u16::from(TO_HOST) && word(2) != LOOPBACK;
    untagged(word(14), rest, (to_us, Way::Said), None)
}

/// Protocol, two bytes of nothing, interface, kind of device, packet type, length and bytes of the
/// sender's address.
fn sll2(packet: &[u8]) -> Below<'_> {
    let Some((header, rest)) = packet.split_first_chunk::<20>() else {
        return Below::CutShort;
    };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let device = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let to_us = header[10] == TO_HOST && word(8) != LOOPBACK;
    untagged(word(0), rest, (to_us, Way::Said), Some(device))
}
