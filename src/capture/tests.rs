use proptest::prelude::*;

use super::bpf::{
    AND, INTERFACE, JA, JEQ, JGE, JGT, JSET, LD_ABS, LD_IMM, LDB_ABS, LDB_IND, LDH_ABS, LDH_IND,
    LDX_MSH, PACKET_HOST, PACKET_TYPE, RET, RSH_X, TAX,
};
use super::filter::{EXTENSIONS, FRAGMENT, LOOPBACK, program};
use super::*;
use crate::model::Proto;

/// What the kernel knows of a packet.
#[derive(Debug, Clone)]
struct Arrival {
    bytes: Vec<u8>,
    kind: u32,
    ifindex: u32,
}

/// Runs a program as the kernel does: a load beyond the packet's end refuses it.
fn run(code: &[Instruction], packet: &Arrival) -> u32 {
    let load = |at: usize, len: usize| -> Option<u32> {
        let bytes = packet.bytes.get(at..at + len)?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    };
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    loop {
        let Instruction { code, jt, jf, k } = code[at];
        at += 1;
        let loaded = match code {
            LD_ABS if k == PACKET_TYPE => Some(packet.kind),
            LD_ABS if k == INTERFACE => Some(packet.ifindex),
            LDB_ABS => load(k as usize, 1),
            LDH_ABS => load(k as usize, 2),
            LDB_IND => load((x + k) as usize, 1),
            LDH_IND => load((x + k) as usize, 2),
            LDX_MSH => match load(k as usize, 1) {
                Some(byte) => {
                    x = 4 * (byte & 15);
                    Some(a)
                }
                None => None,
            },
            _ => Some(match code {
                LD_IMM => k,
                AND => a & k,
                RSH_X => a >> x,
                _ => a,
            }),
        };
        let Some(loaded) = loaded else { return 0 };
        a = loaded;
        let holds = match code {
            RET => return k,
            TAX => {
                x = a;
                continue;
            }
            JA => {
                at += k as usize;
                continue;
            }
            JEQ => a == k,
            JGT => a > k,
            JGE => a >= k,
            JSET => a & k != 0,
            _ => continue,
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What the kernel demands before it takes a program (`bpf_check_classic`), and our own codes.
fn check(code: &[Instruction], budget: usize) {
    assert!(!code.is_empty() && code.len() <= budget, "{}", code.len());
    let known = [
        LD_ABS, LDB_ABS, LDH_ABS, LDB_IND, LDH_IND, LD_IMM, LDX_MSH, AND, RSH_X, TAX, JA, JEQ, JGT,
        JGE, JSET, RET,
    ];
    for (at, i) in code.iter().enumerate() {
        assert!(known.contains(&i.code), "{i:?}");
        let farthest = match i.code {
            JA => i.k as usize,
            JEQ | JGT | JGE | JSET => usize::from(i.jt.max(i.jf)),
            _ => continue,
        };
        assert!(at + 1 + farthest < code.len(), "{at}: {i:?}");
    }
    assert_eq!(code.last().unwrap().code, RET);
}

/// What the filter is for, said once more and in another way.
fn wanted(spec: &Spec, family: Family, packet: &Arrival) -> bool {
    let b = &packet.bytes;
    let word = |at: usize| Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]));
    let interface = match &spec.interfaces {
        Interfaces::Any => packet.ifindex != LOOPBACK,
        Interfaces::Only(list) => list.contains(&packet.ifindex),
    };
    let judge = || -> Option<bool> {
        let (protocol, start) = match family {
            Family::V4 => {
                if *b.first()? >> 4 != 4 || word(6)? & 0x3fff != 0 {
                    return None;
                }
                (*b.get(9)?, usize::from(b[0] & 15) * 4)
            }
            Family::V6 => {
                if *b.first()? >> 4 != 6 {
                    return None;
                }
                if EXTENSIONS.contains(&u32::from(*b.get(6)?)) {
                    return Some(true);
                }
                if u32::from(b[6]) == FRAGMENT {
                    return Some(word(42)? & 0xfff9 == 0);
                }
                (b[6], 40)
            }
        };
        let proto = match protocol {
            6 => Proto::Tcp,
            17 => Proto::Udp,
            _ => return None,
        };
        let (mut is_knock, mut is_opening) = (true, false);
        if proto == Proto::Tcp {
            let flags = *b.get(start + 13)?;
            is_knock = spec.flags.iter().any(|mask| mask.fit(flags));
            is_opening = flags & 0b1_0010 == 0b0_0010;
        }
        let port = word(start + 2)?;
        let knock = is_knock && spec.ports.contains(&KnockPort { port, proto });
        Some(knock || (is_opening && spec.openings.contains(&port)))
    };
    packet.kind == PACKET_HOST && interface && judge() == Some(true)
}

const SYN: FlagMask = FlagMask { set: 2, clear: 16 };

fn any_spec(most_ports: usize) -> impl Strategy<Value = Spec> {
    // Dense and sparse, so that there are ranges as well as single ports.
    let port = prop_oneof![1u16..60, any::<u16>()];
    let knock = (port, any::<bool>()).prop_map(|(port, tcp)| {
        if tcp {
            KnockPort::tcp(port)
        } else {
            KnockPort::udp(port)
        }
    });
    let mask = prop_oneof![
        Just(SYN),
        (any::<u8>(), any::<u8>()).prop_map(|(set, clear)| FlagMask {
            set,
            clear: clear & !set
        }),
        (0u8..64).prop_map(|set| FlagMask { set, clear: 0 }),
    ];
    let opening = prop_oneof![1u16..60, any::<u16>()];
    let interfaces = prop_oneof![
        Just(Interfaces::Any),
        prop::collection::vec(1u32..40, 0..20).prop_map(Interfaces::Only),
    ];
    (
        prop::collection::vec(knock, 0..most_ports),
        prop::collection::vec(mask, 0..4),
        prop::collection::vec(opening, 0..most_ports),
        interfaces,
    )
        .prop_map(|(ports, flags, openings, interfaces)| Spec {
            ports,
            flags,
            openings,
            interfaces,
        })
}

/// Packets that look right but for what is left to chance.
fn any_arrival(family: Family) -> impl Strategy<Value = Arrival> {
    let protocol = prop_oneof![4 => Just(6u8), 4 => Just(17u8), 1 => Just(44u8), 1 => any::<u8>()];
    let port = prop_oneof![3 => 0u16..64, 1 => any::<u16>()];
    let kind = prop_oneof![8 => Just(0u32), 1 => 1u32..5];
    let fragment = prop_oneof![4 => Just(0x4000u16), 1 => any::<u16>()];
    (
        (5u8..=15, protocol, port, any::<u8>(), fragment),
        (kind, 1u32..40),
        prop_oneof![8 => Just(None), 1 => (0usize..80).prop_map(Some)],
        prop_oneof![12 => Just(None), 1 => any::<u8>().prop_map(Some)],
    )
        .prop_map(
            move |((ihl, protocol, port, flags, fragment), (kind, ifindex), cut, first)| {
                let start = if family == Family::V4 {
                    usize::from(ihl) * 4
                } else {
                    40
                };
                let mut bytes = vec![0u8; start + 20];
                if family == Family::V4 {
                    bytes[0] = 0x40 | ihl;
                    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
                    bytes[9] = protocol;
                } else {
                    bytes[0] = 0x60;
                    bytes[6] = protocol;
                }
                bytes[start + 2..start + 4].copy_from_slice(&port.to_be_bytes());
                bytes[start + 13] = flags;
                if let Some(first) = first {
                    bytes[0] = first;
                }
                bytes.truncate(cut.unwrap_or(usize::MAX));
                Arrival {
                    bytes,
                    kind,
                    ifindex,
                }
            },
        )
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn family_and_arrivals() -> impl Strategy<Value = (Family, Vec<Arrival>)> {
    any_family().prop_flat_map(|family| {
        (
            Just(family),
            prop::collection::vec(any_arrival(family), 1..60),
        )
    })
}

proptest! {
    #[test]
    fn decides_as_the_predicate_does(spec in any_spec(400), (family, arrivals) in family_and_arrivals()) {
        let code = program(&spec, family, 4096);
        check(&code, 4096);
        for arrival in arrivals {
            prop_assert_eq!(run(&code, &arrival) != 0, wanted(&spec, family, &arrival), "{:?}", arrival);
        }
    }

    #[test]
    fn a_short_program_passes_at_least_what_is_wanted(spec in any_spec(2000), (family, arrivals) in family_and_arrivals()) {
        for budget in BUDGETS {
            let code = program(&spec, family, budget);
            check(&code, budget);
            for arrival in &arrivals {
                prop_assert!(run(&code, arrival) != 0 || !wanted(&spec, family, arrival), "{:?}", arrival);
            }
        }
    }

    #[test]
    fn coarser_ranges_contain_the_finer(numbers in prop::collection::vec(0u32..3000, 1..300), most in 1usize..40) {
        let mut ranges = ranges::Ranges::new(numbers.iter().copied());
        let before = ranges.len();
        ranges.coarsen(most);
        prop_assert!(ranges.len() == most.min(before));
        let mut code = ranges.search();
        code.push(bpf::take());
        for n in numbers {
            let mut load = vec![bpf::op(LD_IMM, n)];
            load.extend(&code);
            let nothing = Arrival { bytes: vec![], kind: 0, ifindex: 0 };
            prop_assert!(run(&load, &nothing) != 0, "{}", n);
        }
    }
}

fn tcp_syn(port: u16) -> Arrival {
    let mut bytes = vec![0; 40];
    bytes[0] = 0x45;
    bytes[9] = 6;
    bytes[22..24].copy_from_slice(&port.to_be_bytes());
    bytes[33] = 2;
    Arrival {
        bytes,
        kind: 0,
        ifindex: 2,
    }
}

fn spec(ports: Vec<KnockPort>) -> Spec {
    Spec {
        ports,
        flags: vec![SYN],
        openings: Vec::new(),
        interfaces: Interfaces::Any,
    }
}

/// The largest policy there can be, each port a range of its own.
#[test]
fn the_most_ports_still_make_a_filter() {
    let every_other = |proto| {
        (1..=65535u16)
            .step_by(2)
            .map(move |port| KnockPort { port, proto })
    };
    let ports: Vec<_> = every_other(Proto::Tcp)
        .chain(every_other(Proto::Udp))
        .collect();
    let interfaces = Interfaces::Only((2..4000).step_by(2).collect());
    let spec = Spec {
        // With others than the knocks, so that there are as many searches as there can be.
        flags: vec![FlagMask { set: 1, clear: 0 }],
        openings: (1..=65535).step_by(2).collect(),
        interfaces,
        ..spec(ports)
    };
    for family in [Family::V4, Family::V6] {
        for budget in BUDGETS {
            check(&program(&spec, family, budget), budget);
        }
    }
    let code = program(&spec, Family::V4, BUDGETS[0]);
    for port in (1..=65535).step_by(2) {
        assert_ne!(run(&code, &tcp_syn(port)), 0, "{port}");
    }
}

#[test]
fn a_thousand_ports_are_still_exact() {
    let ports: Vec<_> = (0..2000).map(|n| KnockPort::tcp(1 + n * 31)).collect();
    let spec = spec(ports.clone());
    let code = program(&spec, Family::V4, BUDGETS[0]);
    check(&code, BUDGETS[0]);
    for port in 0..=65535 {
        let wanted = ports.contains(&KnockPort::tcp(port));
        assert_eq!(run(&code, &tcp_syn(port)) != 0, wanted, "{port}");
    }
}

#[test]
fn of_ipv6_fragments_only_whole_packets_pass() {
    let spec = spec(vec![KnockPort::tcp(1228)]);
    let code = program(&spec, Family::V6, BUDGETS[0]);
    for (offset, passes) in [
        (0, true),
        (1, false),
        (8, false),
        (9, false),
        (0xfff8, false),
    ] {
        let mut bytes = vec![0; 48];
        (bytes[0], bytes[6]) = (0x60, 44);
        bytes[42..44].copy_from_slice(&u16::to_be_bytes(offset));
        let fragment = Arrival {
            bytes,
            kind: 0,
            ifindex: 2,
        };
        assert_eq!(run(&code, &fragment) != 0, passes, "{offset:#x}");
    }
}

/// What others send to this host's own connections is no reason to wake up.
#[test]
fn where_knocks_have_other_flags_only_connection_attempts_pass_elsewhere() {
    let spec = Spec {
        flags: vec![FlagMask { set: 0, clear: 0 }],
        openings: vec![40_000, 40_001],
        ..spec(vec![KnockPort::tcp(40_000)])
    };
    let code = program(&spec, Family::V4, BUDGETS[0]);
    for (port, flags, passes) in [
        (40_000, 0x02, true),
        (40_000, 0x10, true),
        (40_001, 0x02, true),
        (40_001, 0x10, false),
        (40_001, 0x12, false),
        (40_002, 0x02, false),
    ] {
        let mut packet = tcp_syn(port);
        packet.bytes[33] = flags;
        assert_eq!(run(&code, &packet) != 0, passes, "{port}, {flags:#x}");
    }
}

#[test]
fn nothing_wanted_nothing_passed() {
    for spec in [
        spec(vec![]),
        Spec {
            flags: vec![],
            ..spec(vec![KnockPort::tcp(1228)])
        },
        Spec {
            interfaces: Interfaces::Only(vec![]),
            ..spec(vec![KnockPort::tcp(1228)])
        },
        // A flag that must be both.
        Spec {
            flags: vec![FlagMask { set: 2, clear: 2 }],
            ..spec(vec![KnockPort::tcp(1228)])
        },
    ] {
        let code = program(&spec, Family::V4, BUDGETS[0]);
        check(&code, BUDGETS[0]);
        assert_eq!(run(&code, &tcp_syn(1228)), 0, "{spec:?}");
    }
}

/// Before Linux 6.7 the room for filters is small; a coarser filter is better than none.
#[test]
fn a_filter_that_finds_no_room_is_made_coarser() {
    let ports = (0..3000).map(|n| KnockPort::udp(1 + n * 21)).collect();
    let spec = spec(ports);
    let attempt = |room: usize| {
        let mut tried = Vec::new();
        let answer = attach_fitting(&spec, Family::V4, |program| {
            tried.push(program.len());
            if program.len() <= room {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ENOMEM))
            }
        });
        (answer.map_err(|e| e.raw_os_error()), tried)
    };
    let (answer, tried) = attempt(1000);
    assert_eq!(answer, Ok(()));
    assert!(tried.len() == 2 && tried[1] <= 800, "{tried:?}");
    let (answer, tried) = attempt(0);
    assert_eq!(answer, Err(Some(libc::ENOMEM)));
    assert_eq!(tried.len(), BUDGETS.len());
}

#[test]
fn errors_say_what_to_do() {
    let error = |errno| {
        CaptureError::new(
            "open",
            "the packet socket for IPv4",
            io::Error::from_raw_os_error(errno),
        )
        .to_string()
    };
    assert_eq!(
        error(libc::EPERM),
        "cannot open the packet socket for IPv4: needs CAP_NET_ADMIN and CAP_NET_RAW: run as root"
    );
    assert!(error(libc::EAFNOSUPPORT).contains("modprobe af_packet"));
    assert!(
        error(libc::ENODEV).starts_with("cannot open the packet socket for IPv4: No such device")
    );
}
