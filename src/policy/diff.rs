//! What differs between two policies, key by key, as `knockctl diff` says it.
//!
//! Every structure is taken apart by name, so that a key that is added to one and forgotten here
//! does not compile.

use std::fmt;
use std::path::PathBuf;

use crate::model::Lifetime;

use super::{
    BackendChoice, Changing, CommandLine, Firewall, Gate, GateAddress, History, Hook, Interfaces,
    Knock, KnockAction, LogSettings, LogStyle, OnStop, Policy, Run, ScanAction, ScanGuard,
    TimeBased, Verdict, flags,
};

/// A difference between two policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about: `gate ssh`, `knock opencloseSSH`, or nothing for the policy's own keys.
    pub of: String,
    /// Which key; `None` is the whole gate or knock, which one of the two does not have.
    pub key: Option<&'static str>,
    /// What the first policy says; `None` if it has no such thing.
    pub from: Option<String>,
    /// What the second one says.
    pub to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { of, key, from, to } = self;
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
        match (key, from, to) {
            (None, None, Some(to)) => write!(f, "{of}: new, {to}"),
            (None, Some(from), None) => write!(f, "{of}: gone, was {from}"),
            (None, ..) => f.write_str(of),
            (Some(key), ..) if of.is_empty() => {
                write!(f, "{key}: {} → {}", shown(from), shown(to))
            }
            (Some(key), ..) => write!(f, "{of}: {key} {} → {}", shown(from), shown(to)),
        }
    }
}

/// What differs, in the order of the file: the policy's own keys, then gates, then knocks. Empty
/// exactly if the policies are equal.
pub fn diff(old: &Policy, new: &Policy) -> Vec<Difference> {
    let mut found = Vec::new();
    keys(&mut found, "", &settings(old), &settings(new));
    let gates = |policy: &Policy| {
        let gates = policy.gates.iter();
        gates
            .map(|it| (it.name.to_string(), gate(it)))
            .collect::<Vec<_>>()
    };
    named(&mut found, "gate", &gates(old), &gates(new));
    let knocks = |policy: &Policy| {
        let knocks = policy.knocks.iter();
        knocks
            .map(|it| (it.name.to_string(), knock(it)))
            .collect::<Vec<_>>()
    };
    named(&mut found, "knock", &knocks(old), &knocks(new));
    found
}

type Keys = Vec<(&'static str, String)>;

fn keys(found: &mut Vec<Difference>, of: &str, old: &Keys, new: &Keys) {
    for ((key, from), (_, to)) in old.iter().zip(new) {
        if from != to {
            found.push(Difference {
                of: of.to_owned(),
                key: Some(key),
                from: Some(from.clone()),
                to: Some(to.clone()),
            });
        }
    }
}

fn named(found: &mut Vec<Difference>, what: &str, old: &[(String, Keys)], new: &[(String, Keys)]) {
    let has = |all: &[(String, Keys)], name: &str| all.iter().any(|(known, _)| known == name);
    // What it is, in a line: its first key.
    let whole = |keys: &Keys| keys.first().map(|(key, value)| format!("{key} {value}"));
    for (name, before) in old {
        let of = format!("{what} {name}");
        match new.iter().find(|(known, _)| known == name) {
            Some((_, after)) => keys(found, &of, before, after),
            None => found.push(Difference {
                of,
                key: None,
                from: whole(before),
                to: None,
            }),
        }
    }
    for (name, after) in new.iter().filter(|(name, _)| !has(old, name)) {
        found.push(Difference {
            of: format!("{what} {name}"),
            key: None,
            from: None,
            to: whole(after),
        });
    }
    // Packets meet gates in their order, and two knocks that end on one packet fire in theirs.
    let common = |all: &[(String, Keys)], other: &[(String, Keys)]| {
        let names = all.iter().map(|(name, _)| name.as_str());
        let names = names.filter(|name| has(other, name));
        names.collect::<Vec<_>>().join(", ")
    };
    let (from, to) = (common(old, new), common(new, old));
    if from != to {
        found.push(Difference {
            of: format!("{what}s"),
            key: Some("order"),
            from: Some(from),
            to: Some(to),
        });
    }
}

fn settings(policy: &Policy) -> Keys {
    let Policy {
        interfaces,
        firewall: Firewall {
            backend,
            on_stop,
            owner,
        },
        trusted,
        never_ban,
        scan_guard:
            ScanGuard {
                ports,
                within,
                nearby,
                action,
            },
        ban,
        memory,
        history: History { keep, rows },
        gates: _,
        knocks: _,
        log:
            LogSettings {
                file: log_file,
                syslog,
                style,
            },
        pid_file,
    } = policy;
    let interfaces = match interfaces {
        Interfaces::Any => "any".to_owned(),
        Interfaces::Named(names) => format!("[{}]", names.join(", ")),
    };
    let backend = match backend {
        BackendChoice::Auto => "auto",
        BackendChoice::Iptables => "iptables",
        BackendChoice::Nftables => "nftables",
    };
    let on_stop = match on_stop {
        OnStop::Keep => "keep",
        OnStop::Closed => "closed",
    };
    let action = match action {
        ScanAction::None => "none",
        ScanAction::Drop => "drop",
    };
    let style = match style {
        LogStyle::Plain => "plain",
        LogStyle::Classic => "classic",
    };
    let path = |path: &Option<PathBuf>| {
        let shown = path.as_ref().map(|path| path.display().to_string());
        shown.unwrap_or_else(|| "nothing".to_owned())
    };
    vec![
        ("interface", interfaces),
        ("firewall.backend", backend.to_owned()),
        ("firewall.on_stop", on_stop.to_owned()),
        ("firewall.owner", owner.to_string()),
        ("trusted", path(trusted)),
        ("never_ban", list(never_ban)),
        ("scan_guard.ports", ports.to_string()),
        ("scan_guard.within", Lifetime::For(*within).to_string()),
        ("scan_guard.nearby", nearby.to_string()),
        ("scan_guard.action", action.to_owned()),
        ("ban", ban.to_string()),
        ("memory", format!("{memory} bytes")),
        ("history.keep", Lifetime::For(*keep).to_string()),
        ("history.rows", rows.to_string()),
        ("log.file", path(log_file)),
        ("log.syslog", syslog.to_string()),
        ("log.style", style.to_owned()),
        ("pid file", path(pid_file)),
    ]
}

fn gate(gate: &Gate) -> Keys {
    let Gate {
        name: _,
        ports,
        address,
        hook,
        accept_timeout,
        ban_timeout,
        verdict,
        once,
        log_drops,
        cut_sessions,
        ipv6_prefix,
    } = gate;
    let address = match address {
        None => "everywhere".to_owned(),
        Some(GateAddress::Net(net)) => net.to_string(),
        Some(GateAddress::Name(name)) => name.clone(),
    };
    let hook = match hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Both => "both",
    };
    let verdict = match verdict {
        Verdict::Accept => "accept",
        Verdict::Return => "return",
    };
    vec![
        ("ports", list(ports)),
        ("address", address),
        ("hook", hook.to_owned()),
        ("accept_timeout", accept_timeout.to_string()),
        ("ban_timeout", ban_timeout.to_string()),
        ("verdict", verdict.to_owned()),
        ("once", once.to_string()),
        ("log_drops", log_drops.to_string()),
        ("cut_sessions", cut_sessions.to_string()),
        ("ipv6_prefix", ipv6_prefix.to_string()),
    ]
}

fn knock(knock: &Knock) -> Keys {
    let Knock {
        name: _,
        sequence,
        changing,
        seq_timeout,
        flags,
        target,
        action,
        gates,
        lifetime,
        ban,
    } = knock;
    let names = flags::NAMES.iter();
    let flags = names.filter_map(|(name, bit)| match (flags.set & bit, flags.clear & bit) {
        (0, 0) => None,
        (0, _) => Some(format!("!{name}")),
        _ => Some((*name).to_owned()),
    });
    let flags: Vec<String> = flags.collect();
    let none = Run::default();
    let (action, run) = match action {
        KnockAction::Run(run) => (word(action), &**run),
        other => (word(other), &none),
    };
    let sequence = match changing {
        Some(Changing::OneTime(file)) => file.display().to_string(),
        Some(Changing::TimeBased(TimeBased { file, shape })) => format!(
            "{} of {} by the secret in {}",
            shape.length(),
            shape.ports(),
            file.display()
        ),
        None => list(sequence),
    };
    let target = target.map_or_else(|| "this host".to_owned(), |target| target.to_string());
    let lifetime = lifetime.map(|lifetime| lifetime.to_string());
    vec![
        ("sequence", sequence),
        ("seq_timeout", Lifetime::For(*seq_timeout).to_string()),
        ("tcpflags", flags.join(",")),
        ("target", target),
        ("action", action.to_owned()),
        ("gate", list(gates)),
        (
            "for",
            lifetime.unwrap_or_else(|| "the gate's time".to_owned()),
        ),
        (
            "ban",
            ban.map_or_else(|| "the policy's".to_owned(), |rule| rule.to_string()),
        ),
        ("start", command(run.start.v4.as_ref())),
        ("start_6", command(run.start.v6.as_ref())),
        ("stop", command(run.stop.v4.as_ref())),
        ("stop_6", command(run.stop.v6.as_ref())),
        ("timeout", Lifetime::For(run.timeout).to_string()),
    ]
}

/// As it is written, and who reads it.
fn command(command: Option<&CommandLine>) -> String {
    match command {
        None => "nothing".to_owned(),
        Some(command) if command.is_shell() => format!("sh -c {command}"),
        Some(command) => command.to_string(),
    }
}

fn word(action: &KnockAction) -> &'static str {
    match action {
        KnockAction::Accept => "accept",
        KnockAction::Drop => "drop",
        KnockAction::Trust => "trust",
        KnockAction::Flush => "flush",
        KnockAction::Open => "open",
        KnockAction::Close => "close",
        KnockAction::Run(_) => "run",
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().map(ToString::to_string).collect();
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
