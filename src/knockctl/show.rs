use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::control::protocol::{ChangeStatus, Status};
use crate::model::{Lifetime, host_net};

/// A member as it came over the socket.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    gate: String,
    chain: String,
    address: String,
    expires_in_s: Option<u64>,
    reason: String,
}

/// Text of others, without what could steer a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// By gate, by chain in the order in which a packet meets them, and by address as a number.
pub(super) fn sort_entries(data: &mut Value) {
    let Some(entries) = data.get_mut("entries").and_then(Value::as_array_mut) else {
        return;
    };
    entries.sort_by_cached_key(|entry| {
        let text = |field| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let chain = text("chain");
        let order = ["_banned", "_trusted", "_filter"]
            .iter()
            .position(|suffix| chain.ends_with(suffix));
        let address = text("address");
        (
            text("gate").to_owned(),
            order.unwrap_or(usize::MAX),
            net(address),
            address.to_owned(),
        )
    });
}

/// Networks that cannot be read come first; `IpNet` sorts IPv4 before IPv6, then by number.
fn net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse().map(host_net).ok())
}

/// The answer to `list`; it was sorted before.
pub(super) fn list(out: &mut impl Write, data: &Value, terminal: bool) -> io::Result<()> {
    let Some(Ok(entries)) = data.get("entries").map(Vec::<Entry>::deserialize) else {
        // From a daemon that says it in another way.
        return writeln!(out, "{data:#}");
    };
    let mut table = new_table(terminal, ["GATE", "CHAIN", "ADDRESS", "EXPIRES", "REASON"]);
    for entry in entries {
        table.add_row([
            clean(&entry.gate),
            clean(&entry.chain),
            clean(&entry.address),
            time_left(entry.expires_in_s),
            clean(&entry.reason),
        ]);
    }
    align_right(&mut table, &[3]);
    print(out, &table)
}

/// The answer to `status`.
pub(super) fn status(out: &mut impl Write, data: &Value, terminal: bool) -> io::Result<()> {
    let Ok(status) = Status::deserialize(data) else {
        return writeln!(out, "{data:#}");
    };
    let mut backend = clean(&status.backend);
    if !status.backend_reason.is_empty() {
        backend = format!("{backend} ({})", clean(&status.backend_reason));
    }
    line(out, "state", clean(&status.state))?;
    for problem in &status.problems {
        line(out, "problem", clean(problem))?;
    }
    line(out, "backend", backend)?;
    line(out, "uptime", time_left(Some(status.uptime_s)))?;
    let repairs = &status.repairs;
    if repairs.total > 0 {
        let ago = time_left(repairs.last_s_ago);
        let last = clean(&repairs.last);
        let all = format!("{} (the last {ago} ago: {last})", repairs.total);
        line(out, "repairs", all)?;
    }
    for (name, value) in [("policy", &status.policy), ("version", &status.version)] {
        if !value.is_empty() {
            line(out, name, clean(value))?;
        }
    }
    if let Some(change) = &status.change {
        show_change(out, change)?;
    }
    writeln!(out)?;
    let header = ["GATE", "PORTS", "ACCEPTED", "BANNED", "TRUSTED", "OPEN"];
    let mut table = new_table(terminal, header);
    for gate in &status.gates {
        let open = match (gate.open, gate.open_expires_in_s) {
            (false, _) => "no".to_owned(),
            (true, None) => "yes".to_owned(),
            (true, left) => format!("for {}", time_left(left)),
        };
        table.add_row([
            clean(&gate.name),
            clean(&gate.ports.join(" ")),
            gate.accepted.to_string(),
            gate.banned.to_string(),
            gate.trusted.to_string(),
            open,
        ]);
    }
    align_right(&mut table, &[2, 3, 4]);
    print(out, &table)?;
    counted(out, &status, terminal)
}

/// What has been knocked, and what came in.
fn counted(out: &mut impl Write, status: &Status, terminal: bool) -> io::Result<()> {
    if status.knocks.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = new_table(terminal, ["KNOCK", "COMPLETED"]);
    for knock in &status.knocks {
        table.add_row([clean(&knock.name), knock.completed.to_string()]);
    }
    align_right(&mut table, &[1]);
    print(out, &table)?;
    writeln!(out)?;
    let mut table = new_table(terminal, ["KNOCK PORT", "ARRIVED"]);
    for port in &status.ports {
        table.add_row([clean(&port.port), port.arrived.to_string()]);
    }
    align_right(&mut table, &[1]);
    print(out, &table)?;
    let packets = &status.packets;
    writeln!(out)?;
    let all = format!(
        "{} seen, {} lost, {} knocks, {} to foreign ports, {} not for us, \
         {} on other interfaces, {} malformed",
        packets.seen,
        packets.dropped,
        packets.knocks,
        packets.foreign,
        packets.not_for_us,
        packets.other_interfaces,
        packets.refused
    );
    line(out, "packets", all)?;
    under_attack(out, status)
}

/// What is only of interest when too much comes in.
fn under_attack(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let (packets, attempts) = (&status.packets, &status.attempts);
    let room = format!(
        "{} of {}, {} gave way to newer ones",
        attempts.used, attempts.capacity, attempts.evicted
    );
    line(out, "attempts", room)?;
    let left_out: Vec<String> = [
        ("bans by knock", packets.refused_bans),
        ("bans that were to begin again", packets.refused_renewals),
        ("acceptances by knock", packets.refused_acceptances),
        ("trust by knock", packets.refused_trust),
        ("commands", packets.refused_commands),
        ("bans that gave way to newer ones", packets.evicted_bans),
        ("log lines", packets.unlogged),
        ("log lines that could not be written", packets.lost_lines),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(what, count)| format!("{what}: {count}"))
    .collect();
    if !left_out.is_empty() {
        line(out, "left out", left_out.join(", "))?;
    }
    line(out, "schedule", clean(&status.scheduling))?;
    let awake = &status.awake;
    let times = if awake.times == 1 { "time" } else { "times" };
    let awake = match &awake.why_never {
        Some(why) => format!("never: {}", clean(why)),
        None => format!("{} {times}, {} ms in all", awake.times, awake.total_ms),
    };
    line(out, "awake", awake)?;
    let untracked = match &status.untracked.why_none {
        Some(why) => format!("none: {}", clean(why)),
        None => clean(&status.untracked.ports.join(" ")),
    };
    line(out, "untracked", untracked)
}

fn show_change(out: &mut impl Write, change: &ChangeStatus) -> io::Result<()> {
    let (file, by) = (clean(&change.file), clean(&change.by));
    let becomes = match change.expires_in_s {
        left @ Some(_) => format!(
            "is taken back in {} unless it is confirmed",
            time_left(left)
        ),
        None => "was taken back".to_owned(),
    };
    line(out, "change", format!("{file}, applied by {by}, {becomes}"))
}

/// What has a name. The longest, `untracked`, is as wide as its column.
fn line(out: &mut impl Write, name: &str, text: impl Display) -> io::Result<()> {
    writeln!(out, "{name:<9} {text}")
}

/// `4m59s`, or `never`.
pub(super) fn time_left(seconds: Option<u64>) -> String {
    seconds
        .map_or(Lifetime::Never, |secs| {
            Lifetime::For(Duration::from_secs(secs))
        })
        .to_string()
}

pub(super) fn new_table<const N: usize>(terminal: bool, header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(if terminal {
        presets::UTF8_HORIZONTAL_ONLY
    } else {
        presets::NOTHING
    });
    table.set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn align_right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(super) fn print(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
