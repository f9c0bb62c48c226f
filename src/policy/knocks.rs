//! The `knocks` section, knock by knock; how they get along is `conflicts`' business.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::model::{GateName, KnockName, KnockPort, Lifetime, PortError, canonical};

use super::bans::{self, PlacedBan};
use super::changing;
use super::flags;
use super::node::{At, Node, Value};
use super::problem::{did_you_mean, one_of, quote};
use super::reader::{Fields, Reader};
use super::{Knock, KnockAction, TcpFlags, run};

pub(super) const MOST_KNOCKS: usize = 1024;
pub(super) const LONGEST_SEQUENCE: usize = 32;
pub(super) const SEQ_TIMEOUT: Duration = Duration::from_secs(15);

const KEYS: [&str; 14] = [
    "sequence",
    "seq_timeout",
    "tcpflags",
    "target",
    "action",
    "gate",
    "for",
    "ban",
    "start",
    "stop",
    "start_6",
    "stop_6",
    "shell",
    "timeout",
];

const SEQUENCE: &str = "a list of 1 to 32 ports such as `[1228, 1227]`";

/// The word of the action that has keys of its own.
pub(super) const RUN: &str = "run";

/// The words of `action`.
pub(super) const ACTIONS: [&str; 7] = ["accept", "drop", "trust", "flush", "open", "close", RUN];

/// A knock with the places that later checks point at.
pub(super) struct PlacedKnock {
    pub(super) knock: Knock,
    /// The place of each port; empty if the sequence could not be read whole.
    pub(super) ports_at: Vec<At>,
    pub(super) sequence_at: At,
    pub(super) action_at: At,
    /// `ban`, if it is given.
    pub(super) ban: Option<PlacedBan>,
    /// Where `tcpflags` is, if it is given.
    pub(super) flags_at: Option<At>,
}

/// Reads all knocks. `gates` are the names under `gates`, whether those gates are sound or not.
pub(super) fn read(
    reader: &mut Reader,
    node: &Node,
    gates: &[GateName],
    file: &Path,
) -> Vec<PlacedKnock> {
    let Some(entries) = reader.entries(node, "a mapping of knock names to knocks") else {
        return Vec::new();
    };
    if let Some((name, at, _)) = entries.get(MOST_KNOCKS) {
        let found = format!("{} as the {}th knock", quote(name), MOST_KNOCKS + 1);
        reader.error(*at, found, format!("at most {MOST_KNOCKS} knocks"));
        return Vec::new();
    }
    let by_name: HashMap<&str, &GateName> =
        gates.iter().map(|name| (name.as_str(), name)).collect();
    let mut knocks = Vec::with_capacity(entries.len());
    for (name, at, body) in entries {
        let Ok(name) = KnockName::new(name) else {
            let expected = "a knock name: 1 to 64 letters, digits, `_`, `-`, `.` or `:`";
            reader.error(at, quote(name), expected);
            continue;
        };
        let scope = Scope {
            gates,
            by_name: &by_name,
            file,
        };
        knocks.extend(knock(reader, name, at, body, &scope));
    }
    knocks
}

struct Scope<'a> {
    gates: &'a [GateName],
    by_name: &'a HashMap<&'a str, &'a GateName>,
    /// The policy's own name.
    file: &'a Path,
}

fn knock(
    reader: &mut Reader,
    name: KnockName,
    at: At,
    body: &Node,
    scope: &Scope<'_>,
) -> Option<PlacedKnock> {
    let fields = reader.fields(body, "a mapping with `sequence` and `action`", &KEYS)?;
    let changing = changing::read(reader, &fields, scope.file);
    let read = match changing {
        Some(_) => None,
        None => sequence(reader, &fields, &name, at),
    };
    let sequence_at = fields.get("sequence").map_or(at, |node| node.at);
    let (sequence, ports_at) = read.unwrap_or_default();
    let seq_timeout = fields
        .get("seq_timeout")
        .and_then(|node| reader.duration(node));
    let flags = fields
        .get("tcpflags")
        .and_then(|node| flags::read(reader, node));
    let (action, lifetime) = action(reader, &fields, &name, at).unzip();
    // What an unknown action would want is unknown too.
    let gates = match &action {
        Some(action) => knock_gates(reader, &fields, &name, at, action, scope),
        None => Vec::new(),
    };
    let ban = ban(reader, &fields, action.as_ref());
    let knock = Knock {
        name,
        sequence,
        seq_timeout: seq_timeout.unwrap_or(SEQ_TIMEOUT),
        flags: flags.unwrap_or(TcpFlags::OPENING),
        changing,
        target: fields.get("target").and_then(|node| target(reader, node)),
        action: action?,
        gates,
        lifetime: lifetime.flatten(),
        ban: ban.as_ref().map(|placed| placed.rule),
    };
    Some(PlacedKnock {
        knock,
        ports_at,
        sequence_at,
        action_at: fields.get("action").map_or(at, |node| node.at),
        ban,
        flags_at: fields.get("tcpflags").map(|node| node.at),
    })
}

fn sequence(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &KnockName,
    at: At,
) -> Option<(Vec<KnockPort>, Vec<At>)> {
    let Some(node) = fields.get("sequence") else {
        reader.error(
            at,
            format!("the knock `{name}` without `sequence`"),
            SEQUENCE,
        );
        return None;
    };
    let items = reader.items(node, SEQUENCE)?;
    if items.is_empty() {
        reader.error(node.at, "an empty sequence", SEQUENCE);
        return None;
    }
    if items.len() > LONGEST_SEQUENCE {
        reader.error(
            node.at,
            format!("a sequence of {} ports", items.len()),
            SEQUENCE,
        );
        return None;
    }
    let ports: Vec<Option<KnockPort>> = items.iter().map(|item| port(reader, item)).collect();
    let ports = ports.into_iter().collect::<Option<Vec<_>>>()?;
    Some((ports, items.iter().map(|item| item.at).collect()))
}

fn port(reader: &mut Reader, item: &Node) -> Option<KnockPort> {
    let expected = "a port from 1 to 65535, such as `1228`, `\"1228:udp\"` or `1228/udp`";
    let word = reader.text(item, expected)?;
    match word.parse() {
        Ok(port) => Some(port),
        Err(PortError::Proto(_)) => {
            reader.error(item.at, item.shown(), "`tcp` or `udp` after the port");
            None
        }
        Err(PortError::Number(_) | PortError::Empty(..)) => {
            reader.wrong(item, expected);
            None
        }
    }
}

fn target(reader: &mut Reader, node: &Node) -> Option<IpAddr> {
    let expected = "an IPv4 or IPv6 address";
    let word = reader.text(node, expected)?;
    if let Ok(address) = word.parse() {
        return Some(canonical(address));
    }
    reader.wrong(node, expected);
    None
}

/// The action, and how long what it does lasts.
fn action(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &KnockName,
    at: At,
) -> Option<(KnockAction, Option<Lifetime>)> {
    let words = ACTIONS.map(|word| (word, word));
    let word = if let Some(node) = fields.get("action") {
        reader.choice(node, &words)
    } else {
        let found = format!("the knock `{name}` without `action`");
        reader.error(at, found, one_of(ACTIONS));
        None
    };
    if word == Some(RUN) {
        let (run, lifetime) = run::read(reader, fields, name.as_str(), at);
        return Some((KnockAction::Run(Box::new(run)), lifetime));
    }
    run::refuse_keys(reader, fields);
    let action = match word? {
        "accept" => KnockAction::Accept,
        "drop" => KnockAction::Drop,
        "trust" => KnockAction::Trust,
        "flush" => KnockAction::Flush,
        "open" => KnockAction::Open,
        _ => KnockAction::Close,
    };
    let lifetime = lifetime(reader, fields, &action);
    Some((action, lifetime))
}

fn lifetime(reader: &mut Reader, fields: &Fields<'_>, action: &KnockAction) -> Option<Lifetime> {
    let node = fields.get("for")?;
    let lifetime = reader.lifetime(node)?;
    let word = match action {
        KnockAction::Accept | KnockAction::Open => {
            if lifetime == Lifetime::Never {
                reader.warn(
                    node.at,
                    "`for: never`",
                    "a time such as `300s`",
                    "what the knock grants stays until somebody takes it back",
                );
            }
            return Some(lifetime);
        }
        KnockAction::Drop => return Some(lifetime),
        KnockAction::Trust => "trust",
        KnockAction::Flush => "flush",
        KnockAction::Close | KnockAction::Run(_) => "close",
    };
    let at = fields.key_at("for").unwrap_or(node.at);
    reader.error(
        at,
        format!("`for` with `action: {word}`"),
        "`for` only with `accept`, `drop` or `open`",
    );
    None
}

fn ban(
    reader: &mut Reader,
    fields: &Fields<'_>,
    action: Option<&KnockAction>,
) -> Option<PlacedBan> {
    let node = fields.get("ban")?;
    let ban = bans::read(reader, node);
    if action.is_none_or(|action| *action == KnockAction::Drop) {
        return Some(ban);
    }
    let at = fields.key_at("ban").unwrap_or(node.at);
    reader.error(at, "`ban`", "it only with `action: drop`");
    None
}

fn knock_gates(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &KnockName,
    at: At,
    action: &KnockAction,
    scope: &Scope<'_>,
) -> Vec<GateName> {
    if let (KnockAction::Run(_), true, Some(at)) =
        (action, scope.gates.is_empty(), fields.key_at("gate"))
    {
        reader.error(at, "`gate` in a policy without gates", "no `gate`");
        return Vec::new();
    }
    // Where another action needs a gate, that there is none is said already.
    if scope.gates.is_empty() {
        return Vec::new();
    }
    let expected = || {
        let names = scope.gates.iter().map(GateName::as_str).take(8);
        one_of(names.chain(["all"]))
    };
    let Some(node) = fields.get("gate") else {
        let concerns_all = matches!(action, KnockAction::Drop | KnockAction::Run(_));
        if scope.gates.len() > 1 && !concerns_all {
            let found = format!("the knock `{name}` without `gate` where there are several");
            reader.error(at, found, format!("`gate` with {}", expected()));
            return Vec::new();
        }
        return scope.gates.to_vec();
    };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ if node.word() == Some("all") => return scope.gates.to_vec(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.wrong(node, expected());
    }
    let mut gates: Vec<GateName> = Vec::new();
    for item in items {
        let known = item.word().and_then(|word| scope.by_name.get(word));
        match known {
            Some(gate) if gates.contains(gate) => {
                reader.error(
                    item.at,
                    format!("the gate `{gate}` a second time"),
                    "each gate once",
                );
            }
            Some(gate) => gates.push((*gate).clone()),
            None => {
                let names = scope.gates.iter().map(GateName::as_str);
                let help = item.word().and_then(|word| did_you_mean(word, names));
                let found = match item.word() {
                    Some("all") => String::from("`all` inside a list"),
                    Some(_) => format!("the unknown gate {}", item.shown()),
                    None => item.shown(),
                };
                reader.error_with(item.at, found, expected(), help);
            }
        }
    }
    gates
}
