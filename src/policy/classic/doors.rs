//! The section of a door.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::lines::{Entry, KeyNames, Keys, Section};
use super::options;
use crate::model::{KnockName, KnockPort, Lifetime, PortError, canonical};
use crate::policy::command::{CommandLine, PerFamily, Run};
use crate::policy::flags::NAMES;
use crate::policy::knocks::{LONGEST_SEQUENCE, PlacedKnock};
use crate::policy::node::At;
use crate::policy::problem::{did_you_mean, quote};
use crate::policy::reader::Reader;
use crate::policy::run::check_line;
use crate::policy::{Changing, Knock, KnockAction, TcpFlags};

pub(super) const KEYS: [KeyNames; 10] = [
    ("Sequence", &[]),
    ("One_Time_Sequences", &[]),
    ("Seq_Timeout", &["Timeout"]),
    ("TCPFlags", &[]),
    ("Target", &[]),
    ("Start_Command", &["Command"]),
    ("Start_Command_6", &["Command_6"]),
    ("Stop_Command", &[]),
    ("Stop_Command_6", &[]),
    ("Cmd_Timeout", &[]),
];

/// The manual page does not say so; the program does (knockd.c, `parseconfig`).
const SEQ_TIMEOUT: u32 = 25;
const CMD_TIMEOUT: u32 = 10;
/// The classic daemon lets a command take as long as it likes, and published files have
/// `…; sleep 60; …` in theirs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3_600);
/// A year.
const LONGEST: u32 = 31_536_000;

const PORTS: &str = "1 to 32 ports such as `7000,8000:udp,9000`";

pub(super) fn read(reader: &mut Reader, door: &Section<'_>) -> Option<PlacedKnock> {
    let elsewhere = (options::KEYS.as_slice(), "`[options]`");
    let keys = Keys::read(reader, door.entries.iter(), &KEYS, elsewhere);
    let name = name(reader, door);
    let (sequence, one_time) = sequences(reader, door, &keys);
    let (sequence, ports_at): (Vec<_>, Vec<_>) = sequence.into_iter().unzip();
    let seq_timeout = seconds(reader, &keys, "Seq_Timeout", 1).unwrap_or(SEQ_TIMEOUT);
    let flags = keys
        .value(reader, "TCPFlags")
        .and_then(|(value, at)| flags(reader, value, at));
    let target = keys
        .value(reader, "Target")
        .and_then(|(value, at)| target(reader, value, at));
    let run = Run {
        start: commands(reader, &keys, "Start_Command", "Start_Command_6"),
        stop: commands(reader, &keys, "Stop_Command", "Stop_Command_6"),
        timeout: COMMAND_TIMEOUT,
    };
    let lifetime = stop_after(reader, &keys, &run);
    if run.start.is_empty() {
        let at = keys
            .get("Start_Command")
            .map_or(door.at, |entry| entry.key_at);
        let found = format!("the door {} without a command to start", quote(door.name));
        reader.warn(at, found, "`Start_Command`", "it only says so in the log");
    }
    let sequence_at = keys.get("Sequence").map_or(door.at, |entry| entry.value_at);
    let knock = Knock {
        name: name?,
        sequence,
        changing: one_time.map(Changing::OneTime),
        seq_timeout: Duration::from_secs(seq_timeout.into()),
        // What is not listed does not matter, and without the key nothing does.
        flags: flags.unwrap_or(TcpFlags { set: 0, clear: 0 }),
        target,
        action: KnockAction::Run(Box::new(run)),
        gates: Vec::new(),
        lifetime,
        ban: None,
    };
    Some(PlacedKnock {
        knock,
        ports_at,
        sequence_at,
        action_at: door.at,
        ban: None,
        flags_at: keys.get("TCPFlags").map(|entry| entry.value_at),
    })
}

/// The door's name, in the letters that the log and `list` take.
fn name(reader: &mut Reader, door: &Section<'_>) -> Option<KnockName> {
    if let Ok(name) = KnockName::new(door.name) {
        return Some(name);
    }
    let fitting = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    let spelt: String = door
        .name
        .chars()
        .map(|c| if fitting(c) { c } else { '_' })
        .collect();
    let expected = "a name of 1 to 64 letters, digits, `_`, `-`, `.` or `:`";
    let Ok(name) = KnockName::new(&spelt) else {
        reader.error(door.at, quote(door.head), expected);
        return None;
    };
    let help = format!("it is called `{name}` here");
    reader.warn(door.at, quote(door.head), expected, help);
    Some(name)
}

type Ports = Vec<(KnockPort, At)>;

/// What is to be knocked, or the file that says so.
fn sequences(
    reader: &mut Reader,
    door: &Section<'_>,
    keys: &Keys<'_, '_>,
) -> (Ports, Option<PathBuf>) {
    let one_time = keys.get("One_Time_Sequences");
    let sequence = keys.get("Sequence");
    let file = keys
        .value(reader, "One_Time_Sequences")
        .and_then(|(value, at)| {
            let expected = "the absolute path of a file of sequences";
            options::absolute(reader, value, at, expected)
        });
    match (sequence, one_time) {
        (Some(_), Some(entry)) => {
            let found = "`One_Time_Sequences` beside `Sequence`";
            reader.error(entry.key_at, found, "one of the two");
            (Vec::new(), None)
        }
        (None, None) => {
            let found = format!("the door {} without `Sequence`", quote(door.name));
            reader.error(door.at, found, format!("`Sequence = …` with {PORTS}"));
            (Vec::new(), None)
        }
        (None, Some(_)) => (Vec::new(), file),
        (Some(entry), None) => (ports(reader, keys, entry), None),
    }
}

fn ports(reader: &mut Reader, keys: &Keys<'_, '_>, entry: &Entry<'_>) -> Ports {
    let Some((value, at)) = keys.value(reader, "Sequence") else {
        return Vec::new();
    };
    if value.is_empty() {
        reader.error(entry.key_at, "an empty sequence", PORTS);
        return Vec::new();
    }
    let count = value.split(',').count();
    if count > LONGEST_SEQUENCE {
        reader.error(at, format!("a sequence of {count} ports"), PORTS);
        return Vec::new();
    }
    let mut column = at.column;
    let mut ports = Vec::with_capacity(count);
    let mut whole = true;
    for part in value.split(',') {
        let blank = part.chars().take_while(|c| c.is_whitespace()).count() as u64;
        let at = At {
            column: column + blank,
            ..at
        };
        match port(reader, part.trim(), at) {
            Some(port) => ports.push((port, at)),
            None => whole = false,
        }
        column += part.chars().count() as u64 + 1;
    }
    if whole { ports } else { Vec::new() }
}

fn port(reader: &mut Reader, text: &str, at: At) -> Option<KnockPort> {
    let expected = "a port from 1 to 65535, such as `7000` or `7000:udp`";
    // `7000 :udp`: it cuts white space off each part.
    let parts: Vec<&str> = text.splitn(2, ':').map(str::trim).collect();
    let small = parts.join(":").to_ascii_lowercase();
    let (found, help) = match small.parse() {
        // `7000/udp` is the policy's spelling, not this file's.
        Ok(port) if !text.contains('/') => return Some(port),
        Ok(_) => (
            quote(text),
            Some(format!("did you mean `{}`?", text.replace('/', ":"))),
        ),
        Err(_) if text.is_empty() => (
            "nothing between commas".to_owned(),
            Some("a comma too many?".to_owned()),
        ),
        Err(PortError::Proto(_)) => {
            let expected = "`tcp` or `udp` after the port";
            reader.error(at, quote(text), expected);
            return None;
        }
        Err(_) => (quote(text), misread_port(text)),
    };
    reader.error_with(at, found, expected, help);
    None
}

/// What may be meant by something that is no port.
fn misread_port(text: &str) -> Option<String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if text.contains('#') {
        return Some("comments stand on lines of their own".into());
    }
    if let Some((first, last)) = text.split_once('-')
        && number(first)
        && number(last)
    {
        return Some("a sequence has no ranges: write the ports one by one".into());
    }
    let parts: Vec<&str> = text
        .split([' ', '\t', ';'])
        .filter(|p| !p.is_empty())
        .collect();
    if parts.len() > 1 && parts.iter().all(|part| number(part)) {
        return Some(format!("did you mean `{}`?", parts.join(",")));
    }
    None
}

/// A number of seconds, if the key is there and right.
fn seconds(reader: &mut Reader, keys: &Keys<'_, '_>, name: &str, least: u32) -> Option<u32> {
    let (value, at) = keys.value(reader, name)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits(value).then(|| value.parse::<u32>().ok()).flatten();
    let number = number.filter(|number| (least..=LONGEST).contains(number));
    if number.is_none() {
        let bare = value.trim_end_matches(|c: char| !c.is_ascii_digit());
        let help = if value.contains('#') {
            Some("comments stand on lines of their own".to_owned())
        } else if bare != value && digits(bare) {
            Some(format!(
                "did you mean `{bare}`? It is in seconds, without a unit"
            ))
        } else {
            None
        };
        let found = if value.is_empty() {
            "nothing".to_owned()
        } else {
            quote(value)
        };
        let expected = format!("a whole number of seconds from {least} to {LONGEST}");
        reader.error_with(at, found, expected, help);
    }
    number
}

fn flags(reader: &mut Reader, value: &str, at: At) -> Option<TcpFlags> {
    let expected = "`fin`, `syn`, `rst`, `psh`, `ack` or `urg`, each alone or after `!`, separated \
                    by commas without spaces";
    let mut flags = TcpFlags { set: 0, clear: 0 };
    for part in value.split(',') {
        let small = part.to_ascii_lowercase();
        let (name, negated) = match small.strip_prefix('!') {
            Some(name) => (name, true),
            None => (small.as_str(), false),
        };
        let Some((_, bit)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let known = NAMES.iter().map(|(name, _)| *name);
            let help = without_spaces(value)
                .map(|flags| format!("did you mean `{flags}`?"))
                .or_else(|| did_you_mean(name, known));
            let found = if part.is_empty() {
                format!("an empty flag in {}", quote(value))
            } else {
                format!("the flag {}", quote(part))
            };
            reader.error_with(at, found, expected, help);
            return None;
        };
        if negated {
            flags.clear |= bit;
        } else {
            flags.set |= bit;
        }
    }
    let both = NAMES
        .iter()
        .find(|(_, bit)| flags.set & flags.clear & bit != 0);
    if let Some((name, _)) = both {
        let found = format!("both `{name}` and `!{name}`");
        reader.error(at, found, "one of the two, since no packet has both");
        return None;
    }
    Some(flags)
}

/// The flags without the spaces between them, if that is all that is wrong.
fn without_spaces(value: &str) -> Option<String> {
    let squeezed: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    let is_known = |part: &str| {
        let name = part.strip_prefix('!').unwrap_or(part);
        let mut known = NAMES.iter();
        known.any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    squeezed.split(',').all(is_known).then_some(squeezed)
}

fn target(reader: &mut Reader, value: &str, at: At) -> Option<IpAddr> {
    let address = value.parse().map(canonical);
    if address.is_err() {
        let found = if value.is_empty() {
            "nothing".to_owned()
        } else {
            quote(value)
        };
        reader.error(at, found, "an IPv4 or IPv6 address");
    }
    address.ok()
}

/// The commands for both families: where there is none for IPv6, IPv4's serves both.
fn commands(reader: &mut Reader, keys: &Keys<'_, '_>, name: &str, name_6: &str) -> PerFamily {
    let v4 = command(reader, keys, name, None);
    let v6 = command(reader, keys, name_6, v4.as_ref());
    PerFamily { v4, v6 }
}

/// Without the key what is there instead; nothing to do if its value is empty.
fn command(
    reader: &mut Reader,
    keys: &Keys<'_, '_>,
    name: &str,
    instead: Option<&CommandLine>,
) -> Option<CommandLine> {
    let Some((value, at)) = keys.value(reader, name) else {
        return instead.cloned();
    };
    if value.is_empty() {
        return None;
    }
    check_line(reader, at, value);
    // Published files are full of `;` and `>`.
    Some(CommandLine::Shell(value.to_owned()))
}

/// How long after the start the stop command is due, if there is one.
fn stop_after(reader: &mut Reader, keys: &Keys<'_, '_>, run: &Run) -> Option<Lifetime> {
    let given = seconds(reader, keys, "Cmd_Timeout", 0);
    if run.stop.is_empty() {
        if let Some(entry) = keys.get("Cmd_Timeout") {
            let found = format!("{} without `Stop_Command`", quote(entry.key));
            reader.warn(
                entry.key_at,
                found,
                "both or neither",
                "nothing is run then",
            );
        }
        return None;
    }
    let span = Duration::from_secs(given.unwrap_or(CMD_TIMEOUT).into());
    Some(Lifetime::For(span))
}
