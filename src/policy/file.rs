//! The file as a whole.

use std::path::Path;

use super::node::{self, At, Node, Value};
use super::problem::{PolicyErrors, Problem, quote};
use super::reader::Reader;
use super::{Interfaces, Policy, conflicts, gates, history, knocks, settings};

/// More is no policy. A thousand knocks of 32 ports take a quarter of it.
pub const MOST_BYTES: usize = 1024 * 1024;

const KEYS: [&str; 9] = [
    "interface",
    "firewall",
    "trusted",
    "never_ban",
    "scan_guard",
    "memory",
    "history",
    "gates",
    "knocks",
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

/// Reads and checks a policy. `file` is only a name: for messages, and because the whitelist's
/// path is relative to its directory. All errors in what it says are reported at once; one in the
/// YAML itself hides what follows it.
pub fn parse(text: &str, file: &Path) -> Result<Checked, PolicyErrors> {
    let refuse = |problem| Err(PolicyErrors::new(file, vec![problem], 0));
    if let Some(problem) = not_yaml(text) {
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
    if gates_node.is_none() {
        settings::required(reader, root.at, "gates", EXAMPLE);
    }
    let firewall = settings::firewall(reader, fields.get("firewall"));
    let placed_gates = gates_node.and_then(|node| gates::read(reader, node, firewall.backend));
    let names = gates_node.map(gates::names).unwrap_or_default();
    let placed_knocks = match fields.get("knocks") {
        Some(node) => knocks::read(reader, node, &names),
        None => Vec::new(),
    };
    let placed_gates = placed_gates.unwrap_or_default();
    conflicts::check(reader, &placed_gates, &placed_knocks);

    let timeouts = placed_knocks.iter().map(|placed| placed.knock.seq_timeout);
    let longest = timeouts.max().unwrap_or(knocks::SEQ_TIMEOUT);
    let interfaces = fields.get("interface");
    let never_ban = fields.get("never_ban");
    Some(Policy {
        interfaces: interfaces.map_or(Interfaces::Any, |node| settings::interfaces(reader, node)),
        firewall,
        trusted: Some(settings::trusted(reader, fields.get("trusted"), file)),
        never_ban: never_ban.map_or(Vec::new(), |node| settings::never_ban(reader, node)),
        scan_guard: settings::scan_guard(reader, fields.get("scan_guard"), longest),
        memory: settings::memory(reader, fields.get("memory")),
        history: history::read(reader, fields.get("history")),
        gates: placed_gates.into_iter().map(|placed| placed.gate).collect(),
        knocks: placed_knocks
            .into_iter()
            .map(|placed| placed.knock)
            .collect(),
    })
}

/// What can be told without reading YAML.
fn not_yaml(text: &str) -> Option<Problem> {
    let at = |line: usize, column: usize, found: String, expected: &str, help: &str| Problem {
        line: line as u64 + 1,
        column: column as u64 + 1,
        found,
        expected: expected.to_owned(),
        help: (!help.is_empty()).then(|| help.to_owned()),
    };
    if text.len() > MOST_BYTES {
        let found = format!("a policy of {} bytes", text.len());
        return Some(at(0, 0, found, "at most 1 MiB", ""));
    }
    if let Some((line, section)) = classic_section(text) {
        return Some(at(
            line,
            0,
            format!("{}, a section of a classic knockd.conf", quote(section)),
            "a policy in YAML",
            "classic files are not read yet; write the knock as `knocks: { openSSH: { sequence: \
             [7000, 8000], seq_timeout: 15s, action: accept } }` beside `gates: { ssh: { ports: \
             [22] } }`",
        ));
    }
    for (number, line) in text.lines().enumerate() {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        if let Some(tab) = indent.chars().position(|c| c == '\t') {
            let help = "YAML does not take tabs there";
            return Some(at(
                number,
                tab,
                "a tab".into(),
                "spaces for indentation",
                help,
            ));
        }
    }
    None
}

/// The first line of substance, if it is a section header: `[options]`.
fn classic_section(text: &str) -> Option<(usize, &str)> {
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .enumerate();
    let (number, line) =
        lines.find(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';']))?;
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let header = !name.is_empty() && !name.contains(['[', ']', ',', ':', '{', '"', '\'']);
    header.then_some((number, line))
}
