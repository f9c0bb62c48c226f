//! A mapping in the place of a sequence: one that is not always the same.

use std::path::{Path, PathBuf};

use crate::model::Proto;
use crate::totp::{MOST_PORTS, Shape, ShapeError};

use super::knocks::PlacedKnock;
use super::node::{At, Node, Value};
use super::problem::quote;
use super::reader::{Fields, Reader};
use super::types::{Changing, Gate, ScanAction, ScanGuard, TimeBased};

const EXPECTED: &str = "`{ one_time: FILE }`, `{ totp: FILE, ports: \"20000-40000\" }` or a list of \
                        ports";
const LENGTH: u16 = 4;

/// What the mapping says; nothing where there is none. What is wrong about it is an error, and it
/// is empty then.
pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, policy: &Path) -> Option<Changing> {
    let node = fields.get("sequence")?;
    if !matches!(node.value, Value::Map(_)) {
        return None;
    }
    let nothing = Changing::OneTime(PathBuf::new());
    let Some(keys) = reader.fields(node, EXPECTED, &["one_time", "totp", "ports", "length"]) else {
        return Some(nothing);
    };
    let read = match (keys.get("one_time"), keys.get("totp")) {
        (Some(path), None) => {
            only_with_totp(reader, &keys);
            file(reader, path, policy).map(Changing::OneTime)
        }
        (None, Some(path)) => {
            let file = file(reader, path, policy);
            let shape = shape(reader, &keys, node.at);
            let both = file.zip(shape);
            both.map(|(file, shape)| Changing::TimeBased(TimeBased { file, shape }))
        }
        (Some(_), Some(_)) => {
            let at = keys.key_at("totp").unwrap_or(node.at);
            reader.error(at, "`totp` beside `one_time`", "one of the two");
            None
        }
        (None, None) => {
            reader.error(node.at, "a mapping without `one_time` or `totp`", EXPECTED);
            None
        }
    };
    Some(read.unwrap_or(nothing))
}

fn only_with_totp(reader: &mut Reader, keys: &Fields<'_>) {
    for key in ["ports", "length"] {
        if let Some(at) = keys.key_at(key) {
            reader.error(
                at,
                format!("`{key}` beside `one_time`"),
                "it only beside `totp`",
            );
        }
    }
}

fn file(reader: &mut Reader, node: &Node, policy: &Path) -> Option<PathBuf> {
    let expected = "the path of a file";
    let written = reader.text(node, expected)?;
    if written.is_empty() || written.contains('\0') {
        reader.wrong(node, "a path without NUL");
        return None;
    }
    Some(policy.parent().unwrap_or(Path::new("")).join(written))
}

fn shape(reader: &mut Reader, keys: &Fields<'_>, at: At) -> Option<Shape> {
    let Some(node) = keys.get("ports") else {
        let expected = "`ports` as well, such as `ports: \"20000-40000\"`";
        reader.error(at, "`totp` without `ports`", expected);
        return None;
    };
    let expected = "a range of ports, such as `\"20000-40000\"` or `\"20000-40000/udp\"`";
    let written = reader.text(node, expected);
    let length = match keys.get("length") {
        Some(node) => reader.integer(node, 3..=u16::from(MOST_PORTS)),
        None => Some(LENGTH),
    };
    let written = written?;
    let Ok(ports) = written.parse() else {
        reader.wrong(node, expected);
        return None;
    };
    // It is at most 32.
    let length = u8::try_from(length?).unwrap_or(MOST_PORTS);
    match Shape::new(ports, length) {
        Ok(shape) => Some(shape),
        Err(error) => {
            let expected = match error {
                ShapeError::Length(_) => error.to_string(),
                ShapeError::Few { length, .. } => format!(
                    "a wider range or a longer sequence: {length} ports out of this one make less \
                     than a billion, which can be guessed"
                ),
            };
            reader.error(node.at, quote(written), expected);
            None
        }
    }
}

/// What else is in the range that a sequence may fall on, and who else has the same sequences.
pub(super) fn check(reader: &mut Reader, knocks: &[PlacedKnock], gates: &[&Gate]) {
    for (index, placed) in knocks.iter().enumerate() {
        let Some(time_based) = placed.knock.time_based() else {
            continue;
        };
        let (range, at) = (time_based.shape.ports(), placed.sequence_at);
        let in_range = |gate: &&&Gate| gate.ports.iter().any(|ports| ports.overlaps(range));
        if let Some(gate) = gates.iter().find(in_range) {
            let found = format!("the range {range}, with a port of the gate `{}`", gate.name);
            reader.error(at, found, "a range without ports of gates");
        }
        let others = knocks
            .iter()
            .filter(|other| other.knock.name != placed.knock.name);
        let mut fixed = others.flat_map(|other| {
            let ports = other.knock.sequence.iter().map(move |port| (port, other));
            ports.filter(|(port, _)| range.contains(**port))
        });
        if let Some((port, other)) = fixed.next() {
            let found = format!("the range {range}, with {port} of `{}`", other.knock.name);
            reader.error(at, found, "a range without ports of other knocks");
        }
        // Of another range or length, the ports of one would tell those of the other.
        let same = |earlier: &&PlacedKnock| {
            let earlier = earlier.knock.time_based();
            earlier.is_some_and(|earlier| earlier.file == time_based.file)
        };
        if let Some(earlier) = knocks[..index].iter().find(same) {
            let found = format!("the secret of `{}` a second time", earlier.knock.name);
            reader.error(at, found, "a secret of its own for each knock");
        }
    }
}

/// Whether a clock that is off makes a scanner of somebody at the first attempt: the scan guard
/// then counts every port of the sequence as a foreign one. It does not look at datagrams.
pub(super) fn check_guard(reader: &mut Reader, knocks: &[PlacedKnock], guard: &ScanGuard) {
    for placed in knocks {
        let Some(time_based) = placed.knock.time_based() else {
            continue;
        };
        let length = time_based.shape.length();
        if guard.ports > u16::from(length) || time_based.shape.ports().proto == Proto::Udp {
            continue;
        }
        let found = format!(
            "a sequence of {length} ports, where {} foreign ones make a scanner",
            guard.ports
        );
        let expected = format!("`scan_guard.ports` to be {} or more", length + 1);
        let help = match guard.action {
            ScanAction::None => "one knock with a clock that is off makes the sender a scanner",
            ScanAction::Drop => "one knock with a clock that is off bans the sender as a scanner",
        };
        reader.warn(placed.sequence_at, found, expected, help);
    }
}
