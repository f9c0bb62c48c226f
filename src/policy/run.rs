//! The keys of `action: run`.

use std::time::Duration;

use crate::model::Lifetime;

use super::command::{ADDRESS_TOKEN, CommandLine, PerFamily, Run};
use super::node::{At, Node, Value};
use super::problem::quote;
use super::reader::{A_DURATION, Fields, Reader};

pub(super) const KEYS: [&str; 6] = ["start", "stop", "start_6", "stop_6", "shell", "timeout"];

/// A day: who wants to run something for longer starts a service.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Longer lines are better kept in a script.
pub(super) const LONGEST_COMMAND: usize = 4096;

const A_COMMAND: &str = "a command such as `/usr/local/sbin/door open %IP%`";

/// The keys of `run` are known, but belong to it alone.
pub(super) fn refuse_keys(reader: &mut Reader, fields: &Fields<'_>) {
    for key in KEYS {
        if let Some(at) = fields.key_at(key) {
            reader.error(at, format!("`{key}`"), "it only with `action: run`");
        }
    }
}

/// Reads the commands, and the time between start and stop.
pub(super) fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &str,
    at: At,
) -> (Run, Option<Lifetime>) {
    let shell = fields.get("shell").and_then(|node| reader.boolean(node));
    let shell = shell.unwrap_or(false);
    if fields.get("start").is_none() && fields.get("start_6").is_none() {
        let found = format!("the knock `{name}` with `action: run` without `start`");
        reader.error(at, found, format!("`start` with {A_COMMAND}"));
    }
    let run = Run {
        start: both(reader, fields, ["start", "start_6"], shell),
        stop: both(reader, fields, ["stop", "stop_6"], shell),
        timeout: timeout(reader, fields).unwrap_or(Run::TIMEOUT),
    };
    let lifetime = lifetime(reader, fields, &run, at);
    (run, lifetime)
}

fn both(
    reader: &mut Reader,
    fields: &Fields<'_>,
    [key, key_6]: [&str; 2],
    shell: bool,
) -> PerFamily {
    let v4 = fields
        .get(key)
        .and_then(|node| command(reader, node, shell));
    let v6 = match fields.get(key_6) {
        Some(node) => command(reader, node, shell),
        None => v4.clone(),
    };
    PerFamily { v4, v6 }
}

fn command(reader: &mut Reader, node: &Node, shell: bool) -> Option<CommandLine> {
    if matches!(&node.value, Value::Text(text) if text.is_empty()) {
        return None;
    }
    let line = reader.text(node, A_COMMAND)?;
    check_line(reader, node.at, line)?;
    if shell {
        return Some(CommandLine::Shell(line.to_owned()));
    }
    match CommandLine::words(line) {
        Ok(command) => {
            without_shell(reader, node.at, &command);
            Some(command)
        }
        Err(error) => {
            let expected = "a program and its arguments, with quotes in pairs";
            reader.error_with(node.at, quote(line), expected, Some(error.to_string()));
            None
        }
    }
}

/// What holds for every command, whoever wrote it down.
pub(super) fn check_line(reader: &mut Reader, at: At, line: &str) -> Option<()> {
    if line.len() > LONGEST_COMMAND {
        let found = format!("a command of {} bytes", line.len());
        let help = Some("put it into a script, and name that".to_owned());
        let expected = format!("at most {LONGEST_COMMAND} bytes");
        reader.error_with(at, found, expected, help);
        return None;
    }
    if line.contains(|c: char| c.is_control() && c != '\t') {
        let help = Some("put it into a script, and name that".to_owned());
        reader.error_with(at, quote(line), "a command on one line", help);
        return None;
    }
    let upper = line.to_ascii_uppercase();
    let odd = upper
        .match_indices(ADDRESS_TOKEN)
        .find_map(|(start, token)| {
            let written = line.get(start..start + token.len())?;
            (written != ADDRESS_TOKEN).then_some(written)
        });
    if let Some(written) = odd {
        let help = "it is left as it is; only `%IP%` becomes the address";
        reader.warn(at, quote(written), "`%IP%`", help);
    }
    Some(())
}

/// What a shell would have taken for its own.
fn without_shell(reader: &mut Reader, at: At, command: &CommandLine) {
    let CommandLine::Words(words) = command else {
        return;
    };
    let special = |word: &&String| {
        matches!(word.as_str(), ";" | "&" | "|" | "||" | "&&")
            || word.ends_with(';')
            || word.starts_with(['>', '<', '$', '`'])
    };
    if let Some(word) = words.iter().find(special) {
        reader.warn(
            at,
            format!("{} in a command without a shell", quote(word)),
            "`shell: true` beside it",
            "it is an argument like any other",
        );
    }
}

fn timeout(reader: &mut Reader, fields: &Fields<'_>) -> Option<Duration> {
    let node = fields.get("timeout")?;
    let timeout = reader.duration(node)?;
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        reader.error(node.at, node.shown(), "a time from `1ms` to `24h`");
        return None;
    }
    Some(timeout)
}

fn lifetime(reader: &mut Reader, fields: &Fields<'_>, run: &Run, at: At) -> Option<Lifetime> {
    let Some(node) = fields.get("for") else {
        if !run.stop.is_empty() {
            let stop_at = fields.key_at("stop").or_else(|| fields.key_at("stop_6"));
            let expected = format!("`for` beside it, with {A_DURATION} until it runs");
            reader.error(stop_at.unwrap_or(at), "`stop` without `for`", expected);
        }
        return None;
    };
    let lifetime = reader.duration(node)?;
    if fields.get("stop").is_none() && fields.get("stop_6").is_none() {
        let at = fields.key_at("for").unwrap_or(at);
        reader.error(
            at,
            "`for` without `stop`",
            "`stop` beside it, with the command that runs when that time is over",
        );
    }
    (!run.stop.is_empty()).then_some(Lifetime::For(lifetime))
}
