//! The kernel filter: which packets are worth waking up for.
//!
//! What it passes is a superset of what was asked for: a filter that would be too long lets
//! neighbouring ports through, and IPv6 packets with extension headers are looked at in user space,
//! all but fragments. Nothing that was asked for is ever refused.

use super::bpf::{
    AND, INTERFACE, JA, JEQ, JSET, LD_ABS, LD_IMM, LDB_ABS, LDB_IND, LDH_ABS, LDH_IND, LDX_MSH,
    PACKET_HOST, PACKET_TYPE, RSH_X, TAX, jump, op, refuse, take,
};
use super::ranges::Ranges;
use super::{FlagMask, Spec};
use crate::model::Proto;
use crate::sys::packet::Instruction;

/// Longest programs to try, in turn. `BPF_MAXINSNS` is 4096, but before Linux 6.7
/// `net.core.optmem_max` was 20 KiB, of which the filter in use and the one that replaces it each
/// take eight bytes for every instruction of their translation, which is a little longer than the
/// original.
pub(super) const BUDGETS: [usize; 3] = [4096, 800, 200];

/// Which packets a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// `LOOPBACK_IFINDEX`: the same in every network namespace (include/net/flow.h).
pub(super) const LOOPBACK: u32 = 1;

/// IPv6 extension headers that may stand before TCP and UDP, besides the fragment header: hop-by-hop,
/// routing, authentication, destination options (IANA, "IPv6 Extension Header Types").
pub(super) const EXTENSIONS: [u32; 4] = [0, 43, 51, 60];
pub(super) const FRAGMENT: u32 = 44;

/// What is searched for, and may have to become coarser.
struct Sets {
    /// For TCP packets with some flags (a bit for each combination of the six) the ports; no
    /// combination is in two of them.
    tcp: Vec<(u64, Ranges)>,
    udp: Ranges,
    /// `None`: all but loopback.
    interfaces: Option<Ranges>,
}

/// The program for a family; at most `budget` instructions long, if `budget` is 200 or more.
pub(super) fn program(spec: &Spec, family: Family, budget: usize) -> Vec<Instruction> {
    let mut sets = Sets {
        tcp: tcp_sets(spec),
        udp: Ranges::new(ports(spec, Proto::Udp)),
        interfaces: spec
            .interfaces
            .only()
            .map(|indexes| Ranges::new(indexes.iter().copied())),
    };
    loop {
        let code = assemble(family, &sets);
        if code.len() <= budget || !sets.coarsen() {
            return code;
        }
    }
}

fn ports(spec: &Spec, proto: Proto) -> impl Iterator<Item = u32> {
    let of_proto = spec.ports.iter().filter(move |port| port.proto == proto);
    of_proto.map(|port| port.port.into())
}

/// Connection attempts have more ports than other packets, which would wake us up with each packet
/// of a connection.
fn tcp_sets(spec: &Spec) -> Vec<(u64, Ranges)> {
    let (knocks, openings) = (
        fitting_flags(&spec.flags),
        fitting_flags(&[FlagMask::OPENING]),
    );
    let of_knocks = || ports(spec, Proto::Tcp);
    let of_openings = || spec.openings.iter().map(|&port| port.into());
    let mut sets = vec![
        (
            openings & knocks,
            Ranges::new(of_openings().chain(of_knocks())),
        ),
        (openings & !knocks, Ranges::new(of_openings())),
        (knocks & !openings, Ranges::new(of_knocks())),
    ];
    sets.retain(|(flags, ports)| *flags != 0 && !ports.is_empty());
    sets
}

impl Sets {
    /// Makes the largest set a little coarser; false if none can be.
    fn coarsen(&mut self) -> bool {
        let tcp = self.tcp.iter_mut().map(|(_, ports)| ports);
        let largest = tcp
            .chain([&mut self.udp])
            .chain(self.interfaces.as_mut())
            .max_by_key(|set| set.len());
        match largest {
            Some(set) if set.len() > 1 => {
                set.coarsen(set.len() * 7 / 8);
                true
            }
            _ => false,
        }
    }
}

fn assemble(family: Family, sets: &Sets) -> Vec<Instruction> {
    let mut code = vec![op(LD_ABS, PACKET_TYPE)];
    demand(&mut code, JEQ, PACKET_HOST);
    code.push(op(LD_ABS, INTERFACE));
    match &sets.interfaces {
        Some(indexes) => code.extend(indexes.search()),
        None => code.extend([jump(JEQ, LOOPBACK, 0, 1), refuse()]),
    }
    match family {
        Family::V4 => {
            code.extend([op(LDB_ABS, 0), op(AND, 0xf0)]);
            demand(&mut code, JEQ, 0x40);
            // More fragments, or an offset: no fragment is a knock.
            code.extend([op(LDH_ABS, 6), jump(JSET, 0x3fff, 0, 1), refuse()]);
            code.push(op(LDB_ABS, 9));
        }
        Family::V6 => {
            code.extend([op(LDB_ABS, 0), op(AND, 0xf0)]);
            demand(&mut code, JEQ, 0x60);
            code.push(op(LDB_ABS, 6));
            // An offset, or more fragments: no fragment is a knock here either (RFC 8200, section
            // 4.5). One that is the whole packet may be.
            code.extend([
                jump(JEQ, FRAGMENT, 0, 4),
                op(LDH_ABS, 42),
                jump(JSET, 0xfff9, 0, 1),
                refuse(),
                take(),
            ]);
            for extension in EXTENSIONS {
                code.extend([jump(JEQ, extension, 0, 1), take()]);
            }
        }
    }
    // A is the transport protocol.
    let tcp = tcp(family, &sets.tcp);
    code.push(jump(JEQ, Proto::Tcp.number().into(), 1, 0));
    code.push(op(JA, u32::try_from(tcp.len()).unwrap_or(u32::MAX)));
    code.extend(tcp);
    demand(&mut code, JEQ, Proto::Udp.number().into());
    code.extend(destination_port(family, &sets.udp));
    code
}

/// Goes on if the comparison holds, else refuses.
fn demand(code: &mut Vec<Instruction>, comparison: u16, k: u32) {
    code.extend([jump(comparison, k, 1, 0), refuse()]);
}

fn tcp(family: Family, sets: &[(u64, Ranges)]) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (flags, ports) in sets {
        let search = destination_port(family, ports);
        code.extend(has_flags(family, *flags));
        // Else the next.
        code.push(jump(JSET, 1, 1, 0));
        code.push(op(JA, u32::try_from(search.len()).unwrap_or(u32::MAX)));
        code.extend(search);
    }
    code.push(refuse());
    code
}

/// Whether the packet's flags are among those, as the lowest bit of A. One bit for each combination
/// of the six flags, in two words: whatever the masks are, this is all it takes. The shift counts
/// the lower five flags; URG chooses the word.
fn has_flags(family: Family, flags: u64) -> Vec<Instruction> {
    let [low, high] = [flags, flags >> 32].map(|word| u32::try_from(word & 0xffff_ffff));
    let mut code = transport_byte(family, 13);
    code.extend([
        jump(JSET, 32, 4, 0),
        op(AND, 31),
        op(TAX, 0),
        op(LD_IMM, low.unwrap_or(0)),
        op(JA, 3),
        op(AND, 31),
        op(TAX, 0),
        op(LD_IMM, high.unwrap_or(0)),
        op(RSH_X, 0),
    ]);
    code
}

/// The combinations of the six flags that fit any of the masks, a bit each.
fn fitting_flags(masks: &[FlagMask]) -> u64 {
    (0..64u8)
        .filter(|&flags| masks.iter().any(|mask| mask.fit(flags)))
        .fold(0, |bits, flags| bits | 1 << flags)
}

fn destination_port(family: Family, ports: &Ranges) -> Vec<Instruction> {
    if ports.is_empty() {
        return vec![refuse()];
    }
    let mut code = match family {
        Family::V4 => vec![op(LDX_MSH, 0), op(LDH_IND, 2)],
        Family::V6 => vec![op(LDH_ABS, 42)],
    };
    code.extend(ports.search());
    code.push(take());
    code
}

fn transport_byte(family: Family, at: u32) -> Vec<Instruction> {
    match family {
        Family::V4 => vec![op(LDX_MSH, 0), op(LDB_IND, at)],
        Family::V6 => vec![op(LDB_ABS, 40 + at)],
    }
}
