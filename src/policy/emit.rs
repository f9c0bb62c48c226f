//! A policy as YAML: what [`parse`](super::parse) reads back as the same policy.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use crate::model::{KnockName, Lifetime, PortRange, Proto};

use super::command::{CommandLine, PerFamily};
use super::flags::NAMES;
use super::history::{KEEP, ROWS};
use super::knocks::SEQ_TIMEOUT;
use super::settings::{MEMORY, SCAN_NEARBY, SCAN_PORTS};
use super::{
    BackendChoice, BanRule, Changing, Firewall, Gate, GateAddress, History, Hook, Interfaces,
    Knock, KnockAction, LogSettings, LogStyle, OnStop, Policy, Run, ScanAction, ScanGuard,
    TcpFlags, TimeBased, Verdict,
};

/// What is said in comments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// At the top, a line each.
    pub head: Vec<String>,
    /// Before a knock.
    pub knocks: Vec<(KnockName, String)>,
    /// At the end.
    pub tail: Vec<String>,
}

/// Writes the policy down; what is as it would be anyway is left out. The paths in it are written
/// as they are.
///
/// What YAML has no words for is lost: `pid_file`, flags that are neither
/// listed nor [`TcpFlags::OPENING`], and `trusted: None` beside gates.
pub fn emit(policy: &Policy, notes: &Notes) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, policy, notes);
    out
}

fn write(out: &mut String, policy: &Policy, notes: &Notes) -> fmt::Result {
    comments(out, "", &notes.head)?;
    write_settings(out, policy)?;
    if !policy.gates.is_empty() {
        out.write_str("gates:\n")?;
    }
    for gate in &policy.gates {
        write_gate(out, gate)?;
    }
    if !policy.knocks.is_empty() {
        out.write_str("knocks:\n")?;
    }
    for knock in &policy.knocks {
        for (_, note) in notes.knocks.iter().filter(|(name, _)| *name == knock.name) {
            comments(out, "  ", std::slice::from_ref(note))?;
        }
        write_knock(out, policy, knock)?;
    }
    comments(out, "", &notes.tail)
}

/// Comments of one line each, whatever is in them.
fn comments(out: &mut String, indent: &str, notes: &[String]) -> fmt::Result {
    for note in notes {
        let printable = note.chars().map(|c| if c.is_control() { ' ' } else { c });
        let line: String = printable.collect();
        writeln!(out, "{}", format!("{indent}# {line}").trim_end())?;
    }
    Ok(())
}

/// Taken apart by name, so that a key that is added and forgotten here does not compile.
fn write_settings(out: &mut String, policy: &Policy) -> fmt::Result {
    let Policy {
        interfaces,
        firewall,
        trusted,
        never_ban,
        scan_guard,
        ban,
        memory,
        history,
        gates: _,
        knocks,
        log,
        pid_file: _,
    } = policy;
    match interfaces {
        Interfaces::Any => out.write_str("interface: any\n")?,
        Interfaces::Named(names) => writeln!(out, "interface: {}", list(names.iter().map(text)))?,
    }
    write_firewall(out, *firewall)?;
    if let Some(file) = trusted {
        writeln!(out, "trusted: {}", text(file.to_string_lossy()))?;
    }
    if !never_ban.is_empty() {
        let nets = never_ban.iter().map(|net| text(net.to_string()));
        writeln!(out, "never_ban: {}", list(nets))?;
    }
    let timeouts = knocks.iter().map(|knock| knock.seq_timeout);
    write_guard(out, *scan_guard, timeouts.max().unwrap_or(SEQ_TIMEOUT))?;
    if *ban != BanRule::default() {
        writeln!(out, "ban: {}", ban_rule(*ban))?;
    }
    if u64::try_from(*memory).unwrap_or(u64::MAX) != MEMORY {
        writeln!(out, "memory: {}KiB", memory / 1024)?;
    }
    let History { keep, rows } = *history;
    if keep != KEEP || rows != ROWS {
        writeln!(out, "history: {{ keep: {}, rows: {rows} }}", span(keep))?;
    }
    write_log(out, log)
}

/// `name: { a, b }`, if there is anything.
fn write_parts(out: &mut String, name: &str, parts: &[String]) -> fmt::Result {
    if parts.is_empty() {
        return Ok(());
    }
    writeln!(out, "{name}: {{ {} }}", parts.join(", "))
}

fn write_firewall(out: &mut String, firewall: Firewall) -> fmt::Result {
    let Firewall {
        backend,
        on_stop,
        owner,
    } = firewall;
    let mut parts = Vec::new();
    match backend {
        BackendChoice::Auto => {}
        BackendChoice::Iptables => parts.push("backend: iptables".to_owned()),
        BackendChoice::Nftables => parts.push("backend: nftables".to_owned()),
    }
    match on_stop {
        OnStop::Keep => {}
        OnStop::Closed => parts.push("on_stop: closed".to_owned()),
    }
    if owner {
        parts.push("owner: true".to_owned());
    }
    write_parts(out, "firewall", &parts)
}

/// `longest` is the longest `seq_timeout`.
fn write_guard(out: &mut String, guard: ScanGuard, longest: Duration) -> fmt::Result {
    let ScanGuard {
        ports,
        within,
        nearby,
        action,
    } = guard;
    let mut parts = Vec::new();
    if ports != SCAN_PORTS {
        parts.push(format!("ports: {ports}"));
    }
    if within != longest.saturating_mul(u32::from(ports)) {
        parts.push(format!("within: {}", span(within)));
    }
    if nearby != SCAN_NEARBY {
        parts.push(format!("nearby: {nearby}"));
    }
    match action {
        ScanAction::None => {}
        ScanAction::Drop => parts.push("action: drop".to_owned()),
    }
    write_parts(out, "scan_guard", &parts)
}

fn ban_rule(rule: BanRule) -> String {
    let BanRule {
        after,
        within,
        longest,
    } = rule;
    let mut parts = vec![format!("after: {after}")];
    if after > 1 {
        parts.push(format!("within: {}", span(within)));
    }
    if let Some(longest) = longest {
        parts.push(format!("escalate: true, max: {}", span(longest)));
    }
    format!("{{ {} }}", parts.join(", "))
}

fn write_log(out: &mut String, log: &LogSettings) -> fmt::Result {
    let mut parts = Vec::new();
    if let Some(file) = &log.file {
        parts.push(format!("file: {}", text(file.to_string_lossy())));
    }
    if log.syslog {
        parts.push("syslog: true".to_owned());
    }
    if log.style == LogStyle::Classic {
        parts.push("style: classic".to_owned());
    }
    write_parts(out, "log", &parts)
}

fn write_gate(out: &mut String, gate: &Gate) -> fmt::Result {
    writeln!(out, "  {}:", text(gate.name.as_str()))?;
    let mut field = |key: &str, value: &dyn Display| writeln!(out, "    {key}: {value}");
    field("ports", &list(gate.ports.iter().copied().map(port_range)))?;
    match &gate.address {
        None => {}
        Some(GateAddress::Net(net)) => field("address", &text(net.to_string()))?,
        Some(GateAddress::Name(name)) => field("address", &text(name))?,
    }
    match gate.hook {
        Hook::Input => {}
        Hook::Forward => field("hook", &"forward")?,
        Hook::Both => field("hook", &"both")?,
    }
    field("accept_timeout", &lifetime(gate.accept_timeout))?;
    if gate.ban_timeout != Lifetime::Never {
        field("ban_timeout", &lifetime(gate.ban_timeout))?;
    }
    if gate.verdict == Verdict::Return {
        field("verdict", &"return")?;
    }
    for (key, value, default) in [
        ("once", gate.once, false),
        ("log_drops", gate.log_drops, true),
        ("cut_sessions", gate.cut_sessions, false),
    ] {
        if value != default {
            field(key, &value)?;
        }
    }
    if gate.ipv6_prefix != 128 {
        field("ipv6_prefix", &gate.ipv6_prefix)?;
    }
    Ok(())
}

fn write_knock(out: &mut String, policy: &Policy, knock: &Knock) -> fmt::Result {
    writeln!(out, "  {}:", text(knock.name.as_str()))?;
    let mut field = |key: &str, value: &dyn Display| writeln!(out, "    {key}: {value}");
    let ports = knock.sequence.iter().map(|port| match port.proto {
        Proto::Tcp => port.port.to_string(),
        Proto::Udp => port.to_string(),
    });
    match &knock.changing {
        Some(Changing::OneTime(file)) => {
            let file = text(file.to_string_lossy());
            field("sequence", &format!("{{ one_time: {file} }}"))?;
        }
        Some(Changing::TimeBased(TimeBased { file, shape })) => {
            let file = text(file.to_string_lossy());
            let (ports, length) = (text(shape.ports().to_string()), shape.length());
            let written = format!("{{ totp: {file}, ports: {ports}, length: {length} }}");
            field("sequence", &written)?;
        }
        None => field("sequence", &list(ports))?,
    }
    field("seq_timeout", &span(knock.seq_timeout))?;
    if knock.flags != TcpFlags::OPENING {
        field("tcpflags", &flags(knock.flags))?;
    }
    if let Some(target) = knock.target {
        field("target", &text(target.to_string()))?;
    }
    field("action", &action(&knock.action))?;
    let every = knock
        .gates
        .iter()
        .eq(policy.gates.iter().map(|gate| &gate.name));
    let left_out = every && (policy.gates.len() < 2 || concerns_all(&knock.action));
    match knock.gates.as_slice() {
        _ if left_out => {}
        _ if every => field("gate", &"all")?,
        [gate] => field("gate", &text(gate.as_str()))?,
        gates => field("gate", &list(gates.iter().map(|gate| text(gate.as_str()))))?,
    }
    if let KnockAction::Run(run) = &knock.action {
        commands(&mut field, &run.start, "start", "start_6")?;
        commands(&mut field, &run.stop, "stop", "stop_6")?;
        let mut all = run.start.each().chain(run.stop.each());
        if all.any(CommandLine::is_shell) {
            field("shell", &true)?;
        }
        if run.timeout != Run::TIMEOUT {
            field("timeout", &span(run.timeout))?;
        }
    }
    if let Some(time) = knock.lifetime {
        field("for", &lifetime(time))?;
    }
    match knock.ban {
        Some(rule) => field("ban", &ban_rule(rule)),
        None => Ok(()),
    }
}

/// Whether the action means every gate unless the knock says otherwise.
fn concerns_all(action: &KnockAction) -> bool {
    matches!(action, KnockAction::Drop | KnockAction::Run(_))
}

fn action(action: &KnockAction) -> &'static str {
    match action {
        KnockAction::Accept => "accept",
        KnockAction::Drop => "drop",
        KnockAction::Trust => "trust",
        KnockAction::Flush => "flush",
        KnockAction::Open => "open",
        KnockAction::Close => "close",
        KnockAction::Run(_) => super::knocks::RUN,
    }
}

/// The commands of both families; where they are the same, once.
fn commands(
    field: &mut impl FnMut(&str, &dyn Display) -> fmt::Result,
    commands: &PerFamily,
    key: &str,
    key_6: &str,
) -> fmt::Result {
    let shown = |command: &Option<CommandLine>| match command {
        Some(command) => text(command.to_string()),
        None => text(""),
    };
    if commands.v4.is_some() || (commands.v6.is_none() && key == "start") {
        field(key, &shown(&commands.v4))?;
    }
    if commands.v6 != commands.v4 {
        field(key_6, &shown(&commands.v6))?;
    }
    Ok(())
}

fn flags(flags: TcpFlags) -> String {
    let named = NAMES.iter().filter_map(|(name, bit)| {
        if flags.set & bit != 0 {
            Some((*name).to_owned())
        } else {
            (flags.clear & bit != 0).then(|| format!("!{name}"))
        }
    });
    text(named.collect::<Vec<_>>().join(","))
}

fn port_range(range: PortRange) -> String {
    match (range.proto, range.first == range.last) {
        (Proto::Tcp, true) => range.first.to_string(),
        _ => text(range.to_string()),
    }
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn lifetime(lifetime: Lifetime) -> String {
    match lifetime {
        Lifetime::Never => "never".to_owned(),
        Lifetime::For(time) => span(time),
    }
}

/// To the millisecond.
fn span(span: Duration) -> String {
    if span.subsec_millis() == 0 {
        Lifetime::For(span).to_string()
    } else {
        format!("{}ms", span.as_millis())
    }
}

/// A scalar: as it is where that is text and nothing else, in double quotes otherwise (YAML 1.2.2,
/// section 7.3.1).
fn text(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            // Writing to a string cannot fail.
            c => drop(write!(quoted, "\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether no reader of YAML can take it for anything but text.
fn is_plain(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_word = matches!(
        lower.as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "any" | "all"
    );
    let starts = |c: char| c.is_ascii_alphabetic() || c == '/';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    !is_word && text.starts_with(starts) && text.chars().all(goes_on)
}
