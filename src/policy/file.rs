//! The file as a whole.

use std::path::Path;

use super::changing;
use super::classic::Doors;
use super::knocks::PlacedKnock;
use super::node::{self, At, Node, Value};
use super::problem::{PolicyErrors, Problem};
use super::reader::Reader;
use super::{
    Interfaces, KnockAction, LogSettings, Policy, bans, classic, conflicts, gates, history, knocks,
    settings,
};

/// More is no policy. A thousand knocks of 32 ports take a quarter of it.
pub const MOST_BYTES: usize = 1024 * 1024;

const KEYS: [&str; 11] = [
    "interface",
    "firewall",
    "trusted",
    "never_ban",
    "scan_guard",
    "ban",
    "memory",
    "history",
    "gates",
    "knocks",
    "log",
];

const EXAMPLE: &str = "for example `gates: { ssh: { ports: [22] } }`";

/// A policy and what is unwise about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What is to hold.
    pub policy: Policy,
    /// In the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a policy, in YAML or as a classic knockd.conf: they are told apart by
/// content. `file` is only a name: for messages, and because the whitelist's
/// path is relative to its directory. All errors in what it says are reported at once; one in the
/// YAML itself hides what follows it.
pub fn parse(text: &str, file: &Path) -> Result<Checked, PolicyErrors> {
    let refuse = |problem| Err(PolicyErrors::new(file, vec![problem], 0));
    if let Some(problem) = too_long(text) {
        return refuse(problem);
    }
    if classic::is_classic(text) {
        return classic::parse(text, file, Doors::Run);
    }
    if let Some(problem) = tabs(text) {
        return refuse(problem);
    }
    let root = match node::read(text) {
        Ok(root) => root,
        Err(error) => return refuse(super::syntax::explain(&error, text)),
    };
    let mut reader = Reader::default();
    let policy = read(&mut reader, &root, file);
    match policy {
        Some(policy) if reader.errors.is_empty() => {
            let mut warnings = reader.warnings;
            warnings.sort_by_key(|warning| (warning.line, warning.column));
            Ok(Checked { policy, warnings })
        }
        _ => Err(PolicyErrors::new(file, reader.errors, reader.uncounted)),
    }
}

/// Reads a knockd.conf that a policy is to be made of. What is unwise about its knocks is not told:
/// they may become something else, and parsing that tells.
pub fn parse_to_import(text: &str, file: &Path) -> Result<Checked, PolicyErrors> {
    if let Some(problem) = too_long(text) {
        return Err(PolicyErrors::new(file, vec![problem], 0));
    }
    classic::parse(text, file, Doors::Change)
}

fn read(reader: &mut Reader, root: &Node, file: &Path) -> Option<Policy> {
    if matches!(root.value, Value::Null) {
        reader.error_with(
            At::START,
            "an empty policy",
            "at least one gate",
            Some(EXAMPLE.into()),
        );
        return None;
    }
    let fields = reader.fields(root, "a mapping with `gates` and `knocks`", &KEYS)?;
    let gates_node = fields.get("gates");
    let firewall = settings::firewall(reader, fields.get("firewall"));
    let placed_gates = gates_node.and_then(|node| gates::read(reader, node, firewall.backend));
    let names = gates_node.map(gates::names).unwrap_or_default();
    let placed_knocks = match fields.get("knocks") {
        Some(node) => knocks::read(reader, node, &names, file),
        None => Vec::new(),
    };
    let no_gates = placed_gates.as_ref().is_none_or(Vec::is_empty);
    let only_runs = |placed: &PlacedKnock| matches!(placed.knock.action, KnockAction::Run(_));
    if no_gates && (placed_knocks.is_empty() || !placed_knocks.iter().all(only_runs)) {
        gates::required(reader, gates_node, root.at, EXAMPLE);
    }
    let placed_gates = placed_gates.unwrap_or_default();
    conflicts::check(reader, &placed_gates, &placed_knocks);

    let ban = fields.get("ban").map(|node| bans::read(reader, node));
    let timeouts = placed_knocks.iter().map(|placed| placed.knock.seq_timeout);
    let longest = timeouts.max().unwrap_or(knocks::SEQ_TIMEOUT);
    let interfaces = fields.get("interface");
    let never_ban = fields.get("never_ban");
    let scan_guard = settings::scan_guard(reader, fields.get("scan_guard"), longest);
    changing::check_guard(reader, &placed_knocks, &scan_guard);
    bans::check(
        reader,
        ban.as_ref(),
        &placed_gates,
        &placed_knocks,
        scan_guard.action,
    );
    Some(Policy {
        interfaces: interfaces.map_or(Interfaces::Any, |node| settings::interfaces(reader, node)),
        firewall,
        trusted: match fields.get("trusted") {
            // Nobody is let in anywhere, so nobody need be trusted.
            None if placed_gates.is_empty() => None,
            node => Some(settings::trusted(reader, node, file)),
        },
        never_ban: never_ban.map_or(Vec::new(), |node| settings::never_ban(reader, node)),
        scan_guard,
        ban: ban.map(|placed| placed.rule).unwrap_or_default(),
        memory: settings::memory(reader, fields.get("memory")),
        history: history::read(reader, fields.get("history")),
        gates: placed_gates.into_iter().map(|placed| placed.gate).collect(),
        knocks: placed_knocks
            .into_iter()
            .map(|placed| placed.knock)
            .collect(),
        log: fields
            .get("log")
            .map_or_else(LogSettings::default, |node| settings::log(reader, node)),
        pid_file: None,
    })
}

fn too_long(text: &str) -> Option<Problem> {
    (text.len() > MOST_BYTES).then(|| Problem {
        line: 1,
        column: 1,
        found: format!("a policy of {} bytes", text.len()),
        expected: "at most 1 MiB".to_owned(),
        help: None,
    })
}

/// A tab where YAML demands spaces, which is easier to say before it is read.
fn tabs(text: &str) -> Option<Problem> {
    text.lines().enumerate().find_map(|(number, line)| {
        let body = line.trim_start();
        if body.is_empty() || body.starts_with('#') {
            return None;
        }
        let indent = &line[..line.len() - body.len()];
        let tab = indent.chars().position(|c| c == '\t')?;
        Some(Problem {
            line: number as u64 + 1,
            column: tab as u64 + 1,
            found: "a tab".to_owned(),
            expected: "spaces for indentation".to_owned(),
            help: Some("YAML does not take tabs there".to_owned()),
        })
    })
}
