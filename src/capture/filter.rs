//! The kernel filter: which packets are worth waking up for.
//!
//! What it passes is a superset of what was asked for: a filter that would be too long lets
//! neighbouring ports through, and IPv6 packets with extension headers are all looked at in user
//! space. Nothing that was asked for is ever refused.

use super::Spec;
use super::bpf::{
    AND, INTERFACE, JA, JEQ, JSET, LD_ABS, LD_IMM, LDB_ABS, LDB_IND, LDH_ABS, LDH_IND, LDX_MSH,
    PACKET_HOST, PACKET_TYPE, RSH_X, TAX, jump, op, refuse, take,
};
use super::ranges::Ranges;
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

/// IPv6 extension headers that may stand before TCP and UDP: hop-by-hop, routing, fragment,
/// authentication, destination options (IANA, "IPv6 Extension Header Types").
pub(super) const EXTENSIONS: [u32; 5] = [0, 43, 44, 51, 60];

/// What is searched for, and may have to become coarser.
struct Sets {
    tcp: Ranges,
    udp: Ranges,
    /// `None`: all but loopback.
    interfaces: Option<Ranges>,
}

/// The program for a family; at most `budget` instructions long, if `budget` is 200 or more.
pub(super) fn program(spec: &Spec, family: Family, budget: usize) -> Vec<Instruction> {
    let ports = |proto| {
        let of_proto = spec.ports.iter().filter(move |port| port.proto == proto);
        Ranges::new(of_proto.map(|port| port.port.into()))
    };
    let mut sets = Sets {
        tcp: ports(Proto::Tcp),
        udp: ports(Proto::Udp),
        interfaces: spec
            .interfaces
            .only()
            .map(|indexes| Ranges::new(indexes.iter().copied())),
    };
    loop {
        let code = assemble(spec, family, &sets);
        if code.len() <= budget || !sets.coarsen() {
            return code;
        }
    }
}

impl Sets {
    /// Makes the largest set a little coarser; false if none can be.
    fn coarsen(&mut self) -> bool {
        let all = [&mut self.tcp, &mut self.udp].into_iter();
        let largest = all
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

fn assemble(spec: &Spec, family: Family, sets: &Sets) -> Vec<Instruction> {
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
            for extension in EXTENSIONS {
                code.extend([jump(JEQ, extension, 0, 1), take()]);
            }
        }
    }
    // A is the transport protocol.
    let tcp = tcp(spec, family, &sets.tcp);
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

fn tcp(spec: &Spec, family: Family, ports: &Ranges) -> Vec<Instruction> {
    let fitting = fitting_flags(spec);
    if ports.is_empty() || fitting == 0 {
        return vec![refuse()];
    }
    let mut code = transport_byte(family, 13);
    // One bit for each combination of the six flags, in two words: whatever the masks are, this
    // is all it takes. The shift counts the lower five flags; URG chooses the word.
    let [low, high] = [fitting, fitting >> 32].map(|word| u32::try_from(word & 0xffff_ffff));
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
    demand(&mut code, JSET, 1);
    code.extend(destination_port(family, ports));
    code
}

/// The combinations of the six flags that fit any of the masks, a bit each.
fn fitting_flags(spec: &Spec) -> u64 {
    (0..64u8)
        .filter(|&flags| spec.flags.iter().any(|mask| mask.fit(flags)))
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
