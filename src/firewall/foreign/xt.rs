//! Matches of iptables inside nf_tables (`match` and `target` expressions), as far as they matter
//! here. Their data are structures of the kernel's headers, in host order.

use super::packet::{Hook, Packet};
use super::rule::Fits;
use crate::model::Proto;

/// What a target does that is neither a verdict nor a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Drops,
    Accepts,
    /// Hands it to a program.
    Asks,
    GoesOn,
}

pub(super) fn target(name: &str) -> Target {
    match name {
        "REJECT" | "TARPIT" | "DELUDE" => Target::Drops,
        "DNAT" | "REDIRECT" | "MASQUERADE" | "SNAT" | "NETMAP" | "TPROXY" => Target::Accepts,
        "NFQUEUE" => Target::Asks,
        _ => Target::GoesOn,
    }
}

/// Whether a match fits the packet.
pub(super) fn fits(name: &str, revision: u32, info: &[u8], packet: &Packet) -> Fits {
    match name {
        // A limit is for floods; one connection is within it.
        "comment" | "limit" | "standard" => Fits::Yes,
        "conntrack" => conntrack(revision, info, packet).unwrap_or(Fits::Maybe),
        "state" => u32_at(info, 0).map_or(Fits::Maybe, |states| Fits::known(states & NEW != 0)),
        "addrtype" => addrtype(revision, info, packet).unwrap_or(Fits::Maybe),
        "multiport" => multiport(revision, info, packet).unwrap_or(Fits::Maybe),
        "tcp" => ports(info, Proto::Tcp, packet).unwrap_or(Fits::Maybe),
        "udp" => ports(info, Proto::Udp, packet).unwrap_or(Fits::Maybe),
        // linux/netfilter/xt_set.h, since revision 1: `struct xt_set_info`, whose last byte has
        // IPSET_INV_MATCH as its lowest bit. A knocker is in no set of somebody else's.
        "set" => info
            .get(3)
            .map_or(Fits::Maybe, |flags| Fits::known(flags & 1 != 0)),
        // Whom they name is not a stranger; inverted ones are beyond us.
        "recent" | "mac" | "policy" | "string" | "socket" | "owner" => Fits::No,
        _ => Fits::Maybe,
    }
}

fn u16_at(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?))
}

fn u32_at(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?))
}

/// `XT_CONNTRACK_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 1 << 3;
/// `XT_CONNTRACK_STATE_DNAT`.
const DNAT: u32 = 1 << 7;
/// `XT_CONNTRACK_STATE`.
const STATE: u16 = 1;

/// `struct xt_conntrack_mtinfo1`, `2` and `3`: eight addresses, two times, a protocol, four
/// ports, then flags and states, of one byte each in the first revision.
fn conntrack(revision: u32, info: &[u8], packet: &Packet) -> Option<Fits> {
    let (flags, inverted) = (u16_at(info, 146)?, u16_at(info, 148)?);
    let states = match revision {
        1 => u32::from(*info.get(150)?),
        2 | 3 => u32::from(u16_at(info, 150)?),
        _ => return None,
    };
    if flags & STATE == 0 {
        return None;
    }
    let has_it = if states & NEW != 0 {
        Fits::Yes
    } else if states & DNAT != 0 && packet.hook == Hook::Forward {
        Fits::Maybe
    } else {
        Fits::No
    };
    let has_it = if inverted & STATE == 0 {
        has_it
    } else {
        has_it.inverted()
    };
    Some(if flags == STATE {
        has_it
    } else {
        has_it.and(Fits::Maybe)
    })
}

/// `struct xt_addrtype_info_v1`: types of source and destination, flags.
fn addrtype(revision: u32, info: &[u8], packet: &Packet) -> Option<Fits> {
    const UNICAST: u16 = 1 << 1;
    const LOCAL: u16 = 1 << 2;
    const INVERT_SOURCE: u32 = 1;
    const INVERT_DESTINATION: u32 = 2;
    if revision != 1 {
        return None;
    }
    let (source, destination) = (u16_at(info, 0)?, u16_at(info, 2)?);
    let flags = u32_at(info, 4)?;
    let is = |types: u16, is: u16, invert: u32| match (types, flags & invert != 0) {
        (0, _) => Fits::Yes,
        (_, inverted) => Fits::known((types & is != 0) != inverted),
    };
    let to = match packet.hook {
        Hook::Input => is(destination, LOCAL, INVERT_DESTINATION),
        Hook::Forward => is(destination, UNICAST, INVERT_DESTINATION),
        Hook::Prerouting if packet.to.is_none() => is(destination, LOCAL, INVERT_DESTINATION),
        Hook::Prerouting => Fits::Maybe,
    };
    Some(is(source, UNICAST, INVERT_SOURCE).and(to))
}

/// `struct xt_multiport_v1`: what is meant, how many, 15 ports, whether each begins a range, and
/// whether all of it is inverted.
fn multiport(revision: u32, info: &[u8], packet: &Packet) -> Option<Fits> {
    const SOURCE: u8 = 0;
    if revision != 1 {
        return None;
    }
    let (&what, &count) = (info.first()?, info.get(1)?);
    if what == SOURCE || !packet.port_is_known() {
        return None;
    }
    let mut is_listed = false;
    let mut index = 0;
    while index < usize::from(count).min(15) {
        let first = u16_at(info, 2 + 2 * index)?;
        let mut last = first;
        if *info.get(32 + index)? != 0 {
            index += 1;
            last = u16_at(info, 2 + 2 * index)?;
        }
        is_listed |= (first..=last).contains(&packet.port);
        index += 1;
    }
    Some(Fits::known(is_listed != (*info.get(47)? != 0)))
}

/// `struct xt_tcp` and `struct xt_udp`: source ports, destination ports; then, of TCP, an option
/// and flags; last what is inverted.
fn ports(info: &[u8], proto: Proto, packet: &Packet) -> Option<Fits> {
    const INVERT_SOURCE: u8 = 1;
    const INVERT_DESTINATION: u8 = 2;
    const INVERT_FLAGS: u8 = 4;
    if packet.proto != proto {
        return Some(Fits::No);
    }
    let range = |at: usize| Some((u16_at(info, at)?, u16_at(info, at + 2)?));
    let inverted = *info.get(if proto == Proto::Tcp { 11 } else { 8 })?;
    let within = |(first, last): (u16, u16), port: u16, invert: u8| {
        Fits::known((first..=last).contains(&port) != (inverted & invert != 0))
    };
    let mut fits = within(range(0)?, super::packet::CLIENT_PORT, INVERT_SOURCE);
    fits = fits.and(if packet.port_is_known() {
        within(range(4)?, packet.port, INVERT_DESTINATION)
    } else {
        Fits::Maybe
    });
    if proto == Proto::Tcp {
        let (option, mask, flags) = (*info.get(8)?, *info.get(9)?, *info.get(10)?);
        let has_flags = (super::packet::SYN & mask == flags) != (inverted & INVERT_FLAGS != 0);
        fits = fits.and(Fits::known(has_flags));
        if option != 0 {
            fits = fits.and(Fits::Maybe);
        }
    }
    Some(fits)
}
