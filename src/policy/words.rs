//! A policy in words: what `knockd check` prints.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use crate::model::{Chain, GateName, KnockPort, Lifetime, Proto};

use super::words_run::runs;
use super::{
    BackendChoice, BanRule, Changing, Gate, GateAddress, Hook, Interfaces, Knock, KnockAction,
    LogStyle, OnStop, Policy, Problem, ScanAction, TcpFlags, TimeBased,
};
use super::{border, flags, problem};

/// What there is to say about the whitelist file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhitelistSummary {
    /// The file.
    pub file: PathBuf,
    /// Single addresses.
    pub addresses: usize,
    /// Networks.
    pub networks: usize,
    /// Host names.
    pub names: usize,
    /// Lines that are not understood and skipped.
    pub bad_lines: usize,
}

/// The policy in plain English, with its warnings and the ports to ask for at the site's border.
pub fn describe(
    policy: &Policy,
    warnings: &[Problem],
    whitelist: Option<&WhitelistSummary>,
) -> String {
    check_report(policy, warnings, whitelist, &[])
}

/// The same, with a warning for each knock port of `listening`: those that a program listens on.
pub fn check_report(
    policy: &Policy,
    warnings: &[Problem],
    whitelist: Option<&WhitelistSummary>,
    listening: &[KnockPort],
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut out, policy, warnings, whitelist, listening);
    out
}

fn write_report(
    out: &mut String,
    policy: &Policy,
    warnings: &[Problem],
    whitelist: Option<&WhitelistSummary>,
    listening: &[KnockPort],
) -> fmt::Result {
    out.write_str("Gates\n")?;
    if policy.gates.is_empty() {
        out.write_str("  None: nothing is installed in the firewall.\n")?;
    }
    for gate in &policy.gates {
        write_gate(out, gate)?;
    }
    out.write_str("\nKnocks\n")?;
    if policy.knocks.is_empty() {
        out.write_str("  None: only whitelisted machines get in.\n")?;
    }
    for knock in &policy.knocks {
        writeln!(out, "  {}: {}", knock.name, knock_sentence(policy, knock))?;
    }
    out.write_str("\nBesides\n")?;
    write_settings(out, policy, whitelist)?;
    border::write(out, policy)?;
    write_warnings(out, policy, warnings, listening)
}

fn write_gate(out: &mut String, gate: &Gate) -> fmt::Result {
    let name = &gate.name;
    writeln!(
        out,
        "  {name}: guards {} {}.",
        list(&gate.ports),
        place(gate)
    )?;
    let granted = match gate.accept_timeout {
        Lifetime::For(_) => format!("for {}", gate.accept_timeout),
        Lifetime::Never => String::from("until it is flushed"),
    };
    let ends = if gate.once {
        "its first new connection uses the acceptance up"
    } else {
        "sessions opened meanwhile live on"
    };
    writeln!(out, "    Who is accepted may connect {granted}; {ends}.")?;
    let sessions = if gate.cut_sessions {
        "and ends open sessions"
    } else {
        "and leaves open sessions alone"
    };
    writeln!(
        out,
        "    A ban holds {} {sessions}.",
        ban_time(gate.ban_timeout)
    )?;
    if gate.ipv6_prefix < 128 {
        let bits = gate.ipv6_prefix;
        writeln!(out, "    With IPv6, both cover the sender's whole /{bits}.")?;
    }
    out.write_str(if gate.log_drops {
        "    Refused packets are logged as \"[knockd,drop] \", at a limited rate.\n"
    } else {
        "    Refused packets are not logged.\n"
    })?;
    let members: Vec<String> = Chain::ALL
        .iter()
        .map(|chain| format!("{name}_{}", chain.suffix()))
        .collect();
    let log = if gate.log_drops { " → LOG" } else { "" };
    let members = members.join(" → ");
    writeln!(out, "    Chains: {name}_policy = {members}{log} → DROP.")
}

/// `a, b and c`.
fn list<T: fmt::Display>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().map(ToString::to_string).collect();
    match shown.as_slice() {
        [] => String::from("nothing"),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn place(gate: &Gate) -> String {
    let address = match &gate.address {
        None => None,
        Some(GateAddress::Net(net)) if net.prefix_len() == net.max_prefix_len() => {
            Some(net.addr().to_string())
        }
        Some(GateAddress::Net(net)) => Some(net.to_string()),
        Some(GateAddress::Name(name)) => Some(name.clone()),
    };
    match (gate.hook, address) {
        (Hook::Input, None) => String::from("on every address of this host"),
        (Hook::Input, Some(address)) => format!("on this host's address {address}"),
        (Hook::Forward, Some(address)) => format!("on {address}, behind this host"),
        (Hook::Both, Some(address)) => format!("on {address}, here and behind this host"),
        (Hook::Forward, None) => String::from("behind this host"),
        (Hook::Both, None) => String::from("here and behind this host"),
    }
}

fn ban_time(lifetime: Lifetime) -> String {
    match lifetime {
        Lifetime::For(_) => format!("for {lifetime}"),
        Lifetime::Never => String::from("until lifted"),
    }
}

/// "TCP SYN to 1228 then 1227 within 15s lets the sender in to ssh for 5m."
fn knock_sentence(policy: &Policy, knock: &Knock) -> String {
    let timeout = Lifetime::For(knock.seq_timeout);
    let within = if knock.time_based().is_some() {
        format!(", knocked within {timeout},")
    } else if knock.sequence.len() > 1 {
        format!(" within {timeout}")
    } else {
        String::new()
    };
    format!("{}{within} {}.", sequence(knock), effect(policy, knock))
}

fn sequence(knock: &Knock) -> String {
    let mut text = String::new();
    let mut before = None;
    for port in &knock.sequence {
        if before.is_some() {
            text.push_str(" then ");
        }
        if before != Some(port.proto) {
            match port.proto {
                Proto::Tcp => text.push_str(&tcp(knock.flags)),
                Proto::Udp => text.push_str("UDP to "),
            }
        }
        text.push_str(&port.port.to_string());
        before = Some(port.proto);
    }
    match &knock.changing {
        None => {}
        Some(Changing::OneTime(file)) => text = format!("The next sequence of {}", file.display()),
        Some(Changing::TimeBased(TimeBased { file, shape })) => {
            text = format!(
                "The sequence of {} ports of {} that follows from the secret in {} and the time",
                shape.length(),
                shape.ports(),
                file.display()
            );
        }
    }
    if let Some(target) = knock.target {
        // Writing to a string cannot fail.
        let _ = write!(text, " at {target}");
    }
    text
}

fn tcp(wanted: TcpFlags) -> String {
    if wanted == TcpFlags::OPENING {
        return String::from("TCP SYN to ");
    }
    let names = |bits: u8| {
        let set = flags::NAMES.iter().filter(move |(_, bit)| bits & bit != 0);
        set.map(|(name, _)| name.to_uppercase()).collect::<Vec<_>>()
    };
    let (set, clear) = (names(wanted.set), names(wanted.clear));
    match (set.is_empty(), clear.is_empty()) {
        (false, true) => format!("TCP with {} to ", list(&set)),
        (false, false) => format!("TCP with {} without {} to ", list(&set), clear.join(", ")),
        (true, false) => format!("TCP without {} to ", clear.join(", ")),
        (true, true) => String::from("TCP to "),
    }
}

/// What the knock does; gates whose own time counts are told apart where they differ.
fn effect(policy: &Policy, knock: &Knock) -> String {
    let gates = if policy.gates.len() > 1 && knock.gates.len() == policy.gates.len() {
        String::from("every gate")
    } else {
        list(&knock.gates)
    };
    match &knock.action {
        KnockAction::Run(run) => runs(run, knock.lifetime),
        KnockAction::Accept => {
            format!(
                "lets the sender in to {gates} {}",
                times(policy, knock, accept_time)
            )
        }
        KnockAction::Drop => {
            format!(
                "bans the sender from {gates} {}{}",
                times(policy, knock, ban_time_of),
                ban_rule(policy, knock.ban)
            )
        }
        KnockAction::Trust => format!("lets the sender in to {gates} until the daemon restarts"),
        KnockAction::Flush => format!("ends the sender's own acceptance at {gates}"),
        KnockAction::Open => format!(
            "opens {gates} to everybody but the banned {}",
            times(policy, knock, accept_time)
        ),
        KnockAction::Close => format!("closes {gates} to everybody again"),
    }
}

fn accept_time(gate: &Gate, knock: &Knock) -> String {
    match knock.lifetime.unwrap_or(gate.accept_timeout) {
        Lifetime::Never => String::from("until it is flushed"),
        lifetime @ Lifetime::For(_) => format!("for {lifetime}"),
    }
}

fn ban_time_of(gate: &Gate, knock: &Knock) -> String {
    ban_time(knock.lifetime.unwrap_or(gate.ban_timeout))
}

/// ", the 3rd time within 10m; each further ban lasts twice as long, up to 30d".
fn ban_rule(policy: &Policy, own: Option<BanRule>) -> String {
    let rule = own.unwrap_or(policy.ban);
    let mut text = String::new();
    if rule.after > 1 {
        let what = if own.is_some() { "time" } else { "decoy" };
        let within = Lifetime::For(rule.within);
        text = format!(", at its {} {what} within {within}", ordinal(rule.after));
    }
    if let Some(longest) = rule.longest {
        let longest = Lifetime::For(longest);
        return format!("{text}; each further ban lasts twice as long, up to {longest}");
    }
    text
}

/// `3rd`, of numbers below 100.
fn ordinal(number: u16) -> String {
    let suffix = match (number / 10, number % 10) {
        (1, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

fn times(policy: &Policy, knock: &Knock, time: fn(&Gate, &Knock) -> String) -> String {
    let each: Vec<(&GateName, String)> = knock
        .gates
        .iter()
        .filter_map(|name| policy.gate(name))
        .map(|gate| (&gate.name, time(gate, knock)))
        .collect();
    match each.as_slice() {
        [] => String::new(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, other)| other == first) => first.clone(),
        _ => {
            let parts: Vec<String> = each
                .iter()
                .map(|(gate, time)| format!("{time} ({gate})"))
                .collect();
            list(&parts)
        }
    }
}

fn write_settings(
    out: &mut String,
    policy: &Policy,
    whitelist: Option<&WhitelistSummary>,
) -> fmt::Result {
    match &policy.interfaces {
        Interfaces::Any => out.write_str("  Knocks count on every interface but loopback.\n")?,
        Interfaces::Named(names) => writeln!(out, "  Knocks count on {}.", list(names))?,
    }
    match (whitelist, &policy.trusted) {
        (Some(summary), _) => write_whitelist(out, summary)?,
        (None, Some(file)) => writeln!(out, "  Whitelist: {}.", problem::path(file))?,
        (None, None) if policy.gates.is_empty() => {}
        (None, None) => out.write_str("  There is no whitelist.\n")?,
    }
    if !policy.never_ban.is_empty() {
        writeln!(out, "  Never banned: {}.", list(&policy.never_ban))?;
    }
    write_log(out, policy)?;
    let guard = &policy.scan_guard;
    let also = match guard.action {
        ScanAction::None => String::new(),
        ScanAction::Drop => {
            let rule = ban_rule(policy, None);
            format!(", and it is banned from every gate{rule}")
        }
    };
    writeln!(
        out,
        "  A sender that touches {} within {} is a scanner: its knocks open nothing{also}.",
        counted(
            guard.ports.into(),
            "foreign port or decoy",
            "foreign ports or decoys"
        ),
        Lifetime::For(guard.within)
    )?;
    if guard.nearby > 0 {
        writeln!(
            out,
            "  A foreign port at most {} away from a sequence's ports voids a knock of that sequence.",
            guard.nearby
        )?;
    }
    writeln!(
        out,
        "  What happened is remembered for {} (at most {} entries, and as many by hand).",
        Lifetime::For(policy.history.keep),
        policy.history.rows
    )?;
    if policy.gates.is_empty() {
        return Ok(());
    }
    out.write_str(match policy.firewall.backend {
        BackendChoice::Auto => "  Firewall: whichever fits this machine",
        BackendChoice::Nftables => "  Firewall: nftables",
        BackendChoice::Iptables => "  Firewall: iptables and ipset",
    })?;
    if policy.firewall.owner {
        out.write_str("; nobody else can change its table")?;
    }
    out.write_str(match policy.firewall.on_stop {
        OnStop::Keep => "; it goes on enforcing when the daemon stops.\n",
        OnStop::Closed => "; acceptances are withdrawn when the daemon stops.\n",
    })
}

/// Where the log goes, if the policy says so.
fn write_log(out: &mut String, policy: &Policy) -> fmt::Result {
    let log = &policy.log;
    let mut places = Vec::new();
    places.extend(log.file.as_ref().map(|file| file.display().to_string()));
    if log.syslog {
        places.push(String::from("the system log"));
    }
    let style = match log.style {
        LogStyle::Plain => "",
        LogStyle::Classic => ", in the words of the classic knockd",
    };
    if !places.is_empty() {
        writeln!(out, "  The log goes to {}{style}.", list(&places))?;
    } else if !style.is_empty() {
        writeln!(out, "  The log is{}.", &style[1..])?;
    }
    Ok(())
}

fn write_whitelist(out: &mut String, summary: &WhitelistSummary) -> fmt::Result {
    let WhitelistSummary {
        file,
        addresses,
        networks,
        names,
        bad_lines,
    } = summary;
    write!(
        out,
        "  Whitelist: {}, with {}, {} and {}",
        problem::path(file),
        counted(*addresses, "address", "addresses"),
        counted(*networks, "network", "networks"),
        counted(*names, "host name", "host names"),
    )?;
    if *bad_lines > 0 {
        let bad = counted(*bad_lines, "line", "lines");
        write!(out, "; {bad} not understood")?;
    }
    out.write_str(".\n")
}

fn counted(count: usize, one: &str, many: &str) -> String {
    let noun = if count == 1 { one } else { many };
    format!("{count} {noun}")
}

fn write_warnings(
    out: &mut String,
    policy: &Policy,
    warnings: &[Problem],
    listening: &[KnockPort],
) -> fmt::Result {
    let mut lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for port in listening {
        let users = policy
            .knocks
            .iter()
            .filter(|knock| knock.sequence.contains(port));
        let names: Vec<_> = users.map(|knock| &knock.name).collect();
        if !names.is_empty() {
            lines.push(format!(
                "a program listens on {port}, a port of {}: its clients knock without knowing",
                list(&names)
            ));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    out.write_str("\nWarnings\n")?;
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
