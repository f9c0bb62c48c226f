//! How gates and knocks get along with one another.

use ipnet::IpNet;

use crate::model::Proto;

use super::changing;
use super::gates::PlacedGate;
use super::knocks::PlacedKnock;
use super::reader::Reader;
use super::risks::risks;
use super::sequences;
use super::{Gate, GateAddress};

/// The first port that kernels hand out to clients by themselves (Linux's
/// `net.ipv4.ip_local_port_range` begins at 32768).
const EPHEMERAL: u16 = 32768;

/// Ports that browsers refuse to open (WHATWG Fetch, section 2.10, "bad port"), sorted.
const BROWSERS_BLOCK: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

/// Whether browsers refuse to contact this TCP port.
pub fn browsers_block(port: u16) -> bool {
    BROWSERS_BLOCK.binary_search(&port).is_ok()
}

/// Checks everything that takes more than one gate or knock to see, and what is unwise.
pub(super) fn check(reader: &mut Reader, gates: &[PlacedGate], knocks: &[PlacedKnock]) {
    for (index, gate) in gates.iter().enumerate() {
        for earlier in &gates[..index] {
            gates_overlap(reader, earlier, gate);
        }
    }
    let whole: Vec<&PlacedKnock> = knocks.iter().filter(|k| !k.ports_at.is_empty()).collect();
    sequences::check(reader, &whole);
    for knock in &whole {
        ports(reader, knock, gates);
    }
    let sound: Vec<&Gate> = gates.iter().map(|gate| &gate.gate).collect();
    changing::check(reader, knocks, &sound);
    sheets(reader, knocks);
    risks(reader, knocks);
}

/// What is unwise about a knockd.conf. Its doors may well have the same sequence, or begin with
/// another's: each runs its own command.
pub(super) fn check_doors(reader: &mut Reader, knocks: &[PlacedKnock]) {
    for knock in knocks {
        if !knock.ports_at.is_empty() {
            ports(reader, knock, &[]);
        }
    }
    risks(reader, knocks);
}

/// Whether two gates' places are the same, overlap, or have nothing in common.
#[derive(PartialEq, Eq)]
enum Places {
    Same,
    Overlapping,
    Apart,
}

fn places(one: &Gate, other: &Gate) -> Places {
    let hooks_meet =
        (one.hook.input() && other.hook.input()) || (one.hook.forward() && other.hook.forward());
    if !hooks_meet {
        return Places::Apart;
    }
    match (&one.address, &other.address) {
        (None, None) => Places::Same,
        (Some(GateAddress::Net(a)), Some(GateAddress::Net(b))) if a == b => Places::Same,
        (Some(GateAddress::Name(a)), Some(GateAddress::Name(b)))
            if a.trim_end_matches('.')
                .eq_ignore_ascii_case(b.trim_end_matches('.')) =>
        {
            Places::Same
        }
        (Some(GateAddress::Net(a)), Some(GateAddress::Net(b))) if !nets_meet(a, b) => Places::Apart,
        (Some(GateAddress::Name(_)), Some(_)) | (Some(_), Some(GateAddress::Name(_))) => {
            Places::Apart
        }
        _ => Places::Overlapping,
    }
}

fn nets_meet(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn gates_overlap(reader: &mut Reader, earlier: &PlacedGate, gate: &PlacedGate) {
    let places = places(&earlier.gate, &gate.gate);
    if places == Places::Apart {
        return;
    }
    for (range, at) in gate.gate.ports.iter().zip(&gate.ports_at) {
        let Some(taken) = earlier
            .gate
            .ports
            .iter()
            .find(|taken| range.overlaps(**taken))
        else {
            continue;
        };
        let (name, line) = (&earlier.gate.name, earlier.at.line);
        let found =
            format!("{range}, where the gate `{name}` of line {line} guards {taken} already");
        if places == Places::Same {
            reader.error(
                *at,
                found,
                "each port in one gate, unless their `hook` or `address` differ",
            );
        } else {
            let help = "a packet that fits both gates meets the first of the file only";
            reader.warn(*at, found, "gates that have no traffic in common", help);
        }
    }
}

fn ports(reader: &mut Reader, knock: &PlacedKnock, gates: &[PlacedGate]) {
    for (index, (port, at)) in knock.knock.sequence.iter().zip(&knock.ports_at).enumerate() {
        if knock.knock.sequence[..index].contains(port) {
            continue;
        }
        if let Some(gate) = gates
            .iter()
            .find(|gate| gate.gate.ports.iter().any(|range| range.contains(*port)))
        {
            let found = format!("{port}, a port of the gate `{}`", gate.gate.name);
            reader.error(*at, found, "a port that no gate guards");
            continue;
        }
        if port.port >= EPHEMERAL {
            reader.warn(
                *at,
                format!("the ephemeral port {port}"),
                "a port up to 32767",
                "kernels give the ports above to clients, so that replies to this host may knock",
            );
        }
        if port.proto == Proto::Tcp && browsers_block(port.port) {
            reader.warn(
                *at,
                format!("the port {port}"),
                "a port that browsers open",
                "browsers block this one, so that nobody can knock with a link",
            );
        }
    }
}

/// A line of a sheet opens once, so it cannot be two knocks'.
pub(super) fn sheets(reader: &mut Reader, knocks: &[PlacedKnock]) {
    for (index, placed) in knocks.iter().enumerate() {
        let sheet = placed.knock.one_time();
        let Some(sheet) = sheet.filter(|sheet| !sheet.as_os_str().is_empty()) else {
            continue;
        };
        let mut earlier = knocks[..index].iter();
        let same = |other: &&PlacedKnock| other.knock.one_time() == Some(sheet);
        if let Some(other) = earlier.find(same) {
            let found = format!("the sheet of `{}` a second time", other.knock.name);
            let expected = "a file of one-time sequences for each";
            reader.error(placed.sequence_at, found, expected);
        }
    }
}
