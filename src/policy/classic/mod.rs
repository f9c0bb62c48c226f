//! The classic daemon's knockd.conf (its manual page, knockd(1), release 0.8) as a policy: doors
//! become knocks that run commands, there is no gate, and the firewall is left alone.
//!
//! Read as the classic daemon reads it, but for what it swallows without a word: a port `abc`
//! is 0 to it, `8000-8010` is 8000, and of a key that stands twice one is lost. These are errors
//! here, all of them reported at once.

mod doors;
mod lines;
mod options;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use self::lines::{Section, sections};
use super::knocks::{MOST_KNOCKS, PlacedKnock, SEQ_TIMEOUT};
use super::node::At;
use super::problem::{PolicyErrors, Problem, quote};
use super::reader::Reader;
use super::{BanRule, Checked, LogSettings, LogStyle, Policy, conflicts, history, settings};
use crate::model::KnockName;

/// The section that is no door.
const OPTIONS: &str = "options";

/// Whether this is a knockd.conf rather than YAML: its first line of substance is the head of a
/// section, `[options]`.
pub fn is_classic(text: &str) -> bool {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let name = lines
        .next()
        .and_then(|line| line.strip_prefix('[')?.strip_suffix(']'));
    let in_yaml = |name: &str| {
        name.is_empty() || name.contains(['[', ']', ',', '{', '"', '\'']) || name.contains(": ")
    };
    name.is_some_and(|name| !in_yaml(name))
}

/// What becomes of the doors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doors {
    /// They run their commands.
    Run,
    /// They may become something else, so whether they are wise is not asked yet.
    Change,
}

/// Reads and checks a knockd.conf; `file` is only a name for messages.
pub(super) fn parse(text: &str, file: &Path, doors: Doors) -> Result<Checked, PolicyErrors> {
    let mut reader = Reader::default();
    let sections = sections(&mut reader, text);
    let policy = policy(&mut reader, &sections, doors);
    if reader.errors.is_empty() {
        let mut warnings = reader.warnings;
        warnings.sort_by_key(|warning: &Problem| (warning.line, warning.column));
        return Ok(Checked { policy, warnings });
    }
    Err(PolicyErrors::new(file, reader.errors, reader.uncounted))
}

fn policy(reader: &mut Reader, sections: &[Section<'_>], fate: Doors) -> Policy {
    let is_options = |section: &&Section<'_>| section.name == OPTIONS;
    let options = options::read(reader, sections.iter().filter(is_options));
    let doors: Vec<&Section<'_>> = sections.iter().filter(|s| !is_options(s)).collect();
    let knocks = knocks(reader, &doors);
    conflicts::sheets(reader, &knocks);
    if fate == Doors::Run {
        conflicts::check_doors(reader, &knocks);
    }
    let timeouts = knocks.iter().map(|placed| placed.knock.seq_timeout);
    let longest = timeouts.max().unwrap_or(SEQ_TIMEOUT);
    Policy {
        interfaces: options.interfaces,
        firewall: settings::firewall(reader, None),
        trusted: None,
        never_ban: Vec::new(),
        scan_guard: settings::scan_guard(reader, None, longest),
        ban: BanRule::default(),
        memory: settings::memory(reader, None),
        history: history::read(reader, None),
        gates: Vec::new(),
        knocks: knocks.into_iter().map(|placed| placed.knock).collect(),
        log: LogSettings {
            file: options.log_file,
            syslog: options.syslog,
            style: LogStyle::Classic,
        },
        pid_file: options.pid_file,
    }
}

fn knocks(reader: &mut Reader, doors: &[&Section<'_>]) -> Vec<PlacedKnock> {
    if doors.is_empty() {
        let help = Some("for example `[openSSH]`, with `Sequence` and `Command` below".into());
        reader.error_with(
            At::START,
            "no door",
            "at least one section for a door",
            help,
        );
    }
    if let Some(door) = doors.get(MOST_KNOCKS) {
        let found = format!("{} as the {}th door", quote(door.name), MOST_KNOCKS + 1);
        reader.error(door.at, found, format!("at most {MOST_KNOCKS} doors"));
        return Vec::new();
    }
    let mut lines: HashMap<String, u64> = HashMap::new();
    let mut knocks = Vec::with_capacity(doors.len());
    for door in doors {
        if is_misspelt(door.name) {
            let expected = "`[options]`, in small letters, or a door's name";
            let help = Some(format!("did you mean `{OPTIONS}`?"));
            reader.error_with(door.at, quote(door.head), expected, help);
            continue;
        }
        let Some(mut placed) = doors::read(reader, door) else {
            continue;
        };
        let name = &mut placed.knock.name;
        if let Some(line) = lines.get(name.as_str()) {
            // They are two doors to the classic daemon as well.
            let found = format!("the door `{name}` a second time (line {line})");
            *name = numbered(name, &lines);
            let help = format!("this one is called `{name}` here");
            reader.warn(door.at, found, "a name of its own for each door", help);
        }
        lines.insert(name.to_string(), door.at.line);
        knocks.push(placed);
    }
    knocks
}

/// Whether this is `[options]` but for a letter or its case, and surely no door.
fn is_misspelt(name: &str) -> bool {
    let as_long = name.len().abs_diff(OPTIONS.len()) <= 1;
    as_long && strsim::damerau_levenshtein(&name.to_lowercase(), OPTIONS) <= 1
}

/// `door_2`, or the first number after that which is free.
fn numbered(name: &KnockName, taken: &HashMap<String, u64>) -> KnockName {
    // Names are ASCII, of 64 letters at most; there are at most a thousand doors.
    let stem: String = name.as_str().chars().take(58).collect();
    (2..=MOST_KNOCKS + 1)
        .map(|number| format!("{stem}_{number}"))
        .find(|spelt| !taken.contains_key(spelt))
        .and_then(|spelt| KnockName::new(&spelt).ok())
        .unwrap_or_else(|| name.clone())
}
