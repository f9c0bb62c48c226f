//! `replay`: a capture of traffic, and what would have happened to whom.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::args::Output;
use super::show::clean;
use crate::model::Lifetime;
use crate::replay::{self, Cause, Decision, Deed, Effect, Known, Order, ReplayError, Summary};

mod json;
mod values;

use values::{Address, Ports, address, known, ports};

/// Run a capture of traffic through the policy, and show what would have happened to whom
///
/// Reads pcap and pcapng; asks no daemon and changes nothing. It begins with nobody accepted or
/// banned; host names on the whitelist are not looked up.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The capture, as of tcpdump -w; `-` is standard input, which does not tell about the host: with
    /// --address, and without --listening nothing is taken to listen
    #[arg(value_name = "FILE.pcap")]
    capture: PathBuf,
    /// The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]
    #[arg(short = 'c', long = "config", value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// The addresses of the host that the capture is of [default: those of the policy's gates, and
    /// whatever is knocked on in the capture]. With a prefix length, nobody knocks from the broadcast
    /// address of that network
    #[arg(long = "address", value_name = "IP[/LENGTH]", value_delimiter = ',', value_parser = address)]
    addresses: Vec<Address>,
    /// The TCP ports that something listens on there, or `none` [default: whatever answers in the
    /// capture]
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    listening: Option<Ports>,
    /// Listen on this interface, whatever the policy says, as `knockd -i` does; `any` is all
    #[arg(short = 'i', long, value_name = "INTERFACE")]
    interface: Option<String>,
    /// What the capture does not tell: the interface that it was made on, or which one a number in it
    /// stands for (`eth0=2`, as `ip link` shows it)
    #[arg(long = "on", value_name = "INTERFACE[=NUMBER]", value_delimiter = ',', value_parser = known)]
    known: Vec<Known>,
    /// Take knocks over IPv4 only, as `knockd -4` does
    #[arg(short = '4', long)]
    only_ipv4: bool,
}

/// Replays, shows and returns the exit code.
pub(super) fn run(arguments: &Arguments, output: Output) -> u8 {
    let order = Order {
        capture: arguments.capture.clone(),
        policy: arguments.policy.clone(),
        addresses: arguments.addresses.iter().map(|it| it.address).collect(),
        listening: arguments.listening.clone().map(|Ports(ports)| ports),
        only_ipv4: arguments.only_ipv4,
        broadcast: arguments
            .addresses
            .iter()
            .filter_map(|it| it.broadcast)
            .collect(),
        interface: arguments.interface.clone(),
        known: arguments.known.clone(),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match output {
        Output::Table => as_lines(&order, &mut out),
        Output::Json => json::write(&order, &mut out),
    };
    let code = match result {
        Ok(code) => out.flush().map(|()| code).map_err(ReplayError::Tell),
        Err(error) => Err(error),
    };
    match code {
        Ok(code) => code,
        // `knockctl replay FILE | head` has seen enough.
        Err(ReplayError::Tell(error)) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = out.flush();
            complain(&error.to_string());
            error.code()
        }
    }
}

fn complain(line: &str) {
    // Nobody is left to be told if that fails.
    let _ = writeln!(io::stderr(), "knockctl: {}", clean(line));
}

fn warn(summary: &Summary) -> u8 {
    for warning in &summary.warnings {
        complain(warning);
    }
    summary.code()
}

fn as_lines(order: &Order, out: &mut impl Write) -> Result<u8, ReplayError> {
    let mut any = false;
    let mut tell = |decision: &Decision| {
        if !any {
            any = true;
            head(out)?;
        }
        lines(out, decision)
    };
    let summary = replay::run(order, &mut tell)?;
    if any {
        writeln!(out).map_err(ReplayError::Tell)?;
    }
    summary_lines(out, &summary).map_err(ReplayError::Tell)?;
    out.flush().map_err(ReplayError::Tell)?;
    Ok(warn(&summary))
}

fn head(out: &mut impl Write) -> io::Result<()> {
    row(
        out,
        [
            "AFTER",
            "TIME",
            "SOURCE",
            "BY",
            "ACTION",
            "GATE",
            "FOR WHOM AND HOW LONG",
        ],
    )
}

fn row(out: &mut impl Write, cells: [&str; 7]) -> io::Result<()> {
    let [after, time, source, by, action, gate, rest] = cells;
    let line =
        format!("{after:>12}  {time:27}  {source:15}  {by:14}  {action:11}  {gate:8}  {rest}");
    writeln!(out, "{}", line.trim_end())
}

/// A line for each thing that changes, or one that says that nothing does and why.
fn lines(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    let after = seconds(decision.after);
    let time = wall(decision.at);
    let source = decision.source.map_or("-".to_owned(), |s| s.to_string());
    let by = cause(&decision.cause);
    if decision.effects.is_empty() && decision.commands.is_empty() {
        let why = if decision.words.is_empty() {
            UNSAID.to_owned()
        } else {
            clean(&decision.words.join("; "))
        };
        return row(out, [&after, &time, &source, &by, "nothing", "-", &why]);
    }
    for effect in &decision.effects {
        let rest = match effect.lifetime {
            Some(Lifetime::Never) => format!("{}, for good", whom(effect)),
            Some(lifetime) => format!(
                "{}, for {lifetime}, until {}",
                whom(effect),
                end(decision, effect).map_or_else(String::new, wall)
            ),
            None => whom(effect),
        };
        let action = effect.deed.word();
        let gate = effect.gate.as_str();
        row(out, [&after, &time, &source, &by, action, gate, &rest])?;
    }
    for command in &decision.commands {
        let command = clean(command);
        row(out, [&after, &time, &source, &by, "run", "-", &command])?;
    }
    // Where some gates refuse and others do not, only the words say which and why.
    for words in decision.words.iter().filter(|it| !is_told(it, decision)) {
        writeln!(out, "{:12}  {}", "", clean(words))?;
    }
    Ok(())
}

/// Why nothing changes where nothing says it: the log has a limit, here as in the daemon.
const UNSAID: &str = "refused, or so already; the daemon's log would not say either";

/// Whether an effect or a command tells what the words do: at a gate something changes or is refused,
/// not both; and what time brings about nobody refuses. Of the words only what comes first is the
/// engine's; behind it may stand what people wrote, such as a comment of the whitelist.
fn is_told(words: &str, decision: &Decision) -> bool {
    let gate = words.split_once(" at ").map(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    });
    let command = words.split_once(": running command: ");
    decision.cause == Cause::Time
        || decision
            .effects
            .iter()
            .any(|it| gate == Some(it.gate.as_str()))
        || command.is_some_and(|(_, rest)| decision.commands.iter().any(|it| it == rest))
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Knock(name) => clean(name.as_str()),
        Cause::Undone(name) => format!("{} (undone)", clean(name.as_str())),
        Cause::Sweep => "(sweep)".to_owned(),
        Cause::Time => "(time)".to_owned(),
    }
}

/// An address without its prefix length; for an open gate, everybody.
fn whom(effect: &Effect) -> String {
    match effect.deed {
        Deed::Opened | Deed::Closed | Deed::OpeningOver => "everybody".to_owned(),
        _ => shown(effect.net),
    }
}

fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// When what begins here ends.
fn end(decision: &Decision, effect: &Effect) -> Option<u64> {
    match effect.lifetime {
        Some(Lifetime::For(span)) => {
            let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            Some(decision.at.saturating_add(span))
        }
        _ => None,
    }
}

fn summary_lines(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let counts = &summary.counts;
    let listed = |items: Vec<String>| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(" ")
        }
    };
    let addresses = listed(summary.addresses.iter().map(ToString::to_string).collect());
    let listening = listed(summary.listening.iter().map(ToString::to_string).collect());
    writeln!(
        out,
        "policy     {}",
        clean(&summary.policy.to_string_lossy())
    )?;
    writeln!(out, "addresses  {addresses}")?;
    writeln!(out, "listening  {listening}")?;
    if let Some((first, last)) = summary.span {
        let (first, last, length) = (wall(first), wall(last), seconds(summary.length));
        writeln!(out, "time       {first} to {last}, {length}")?;
    }
    writeln!(
        out,
        "packets    {} read: {} knocks, {} to other ports, {} not for this host, {} copies, {} not \
         IP, {} refused",
        counts.read,
        counts.knocks,
        counts.others,
        counts.not_for_us,
        counts.copies,
        counts.not_ip + counts.unknown_link,
        counts.refused.values().sum::<u64>()
    )?;
    for (why, count) in &counts.refused {
        writeln!(out, "refused    {count} {why}")?;
    }
    for (knock, count) in &summary.completed {
        writeln!(out, "completed  {count} {}", clean(knock.as_str()))?;
    }
    writeln!(
        out,
        "decided    accepted: {}, banned: {}, sweeps noticed: {}, bans refused as too many at once: {}",
        counts.accepted, counts.banned, counts.sweeps, summary.refused_bans
    )?;
    for holding in &summary.holds {
        writeln!(
            out,
            "at the end {}: {} accepted, {} banned, {}",
            holding.gate,
            holding.accepted,
            holding.banned,
            if holding.open {
                "open to everybody"
            } else {
                "shut"
            }
        )?;
    }
    Ok(())
}

/// Seconds with six digits behind the point.
fn seconds(span: Duration) -> String {
    format!("{}.{:06}s", span.as_secs(), span.subsec_micros())
}

/// RFC 3339, in UTC, to the microsecond.
fn wall(nanos: u64) -> String {
    let (seconds, micros) = (nanos / 1_000_000_000, nanos / 1_000 % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let second = second % 60;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970. Years begin in March, so that a leap day is the last:
/// then five months always have 153 days.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GateName;

    /// A knock that bans at one gate and whatever else.
    fn shown(effects: &[(Deed, &str)], words: &[&str]) -> String {
        let effects = effects.iter().map(|(deed, gate)| Effect {
            deed: *deed,
            gate: GateName::new(gate).unwrap(),
            net: "192.0.2.7/32".parse().unwrap(),
            lifetime: None,
        });
        let decision = Decision {
            at: 0,
            after: Duration::ZERO,
            source: Some("192.0.2.7".parse().unwrap()),
            cause: Cause::Sweep,
            effects: effects.collect(),
            commands: Vec::new(),
            words: words.iter().map(ToString::to_string).collect(),
        };
        let mut out = Vec::new();
        lines(&mut out, &decision).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn words_that_no_effect_tells_are_shown() {
        let both = [(Deed::Banned, "ssh"), (Deed::Withdrawn, "ssh")];
        let refused = "192.0.2.7: bad: not banned at ssh2: it is trusted";
        let lines = shown(&both, &["192.0.2.7: bad: banned at ssh, for good", refused]);
        assert!(
            lines.ends_with(&format!("\n{:14}{refused}\n", "")),
            "{lines}"
        );
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }

    #[test]
    fn what_people_wrote_into_the_whitelist_tells_no_effect() {
        let banned = [(Deed::Banned, "ssh")];
        for comment in ["works at ssh", "running command: /bin/x"] {
            let refused = format!("192.0.2.7: bad: not banned at web: it is trusted ({comment})");
            let lines = shown(&banned, &[&refused]);
            assert!(lines.contains(&refused), "{lines}");
        }
    }

    #[test]
    fn nothing_without_a_word_says_so() {
        assert!(shown(&[], &[]).contains(UNSAID));
        let why = "not banned: more than 10 bans a second";
        assert!(shown(&[], &[why]).trim_end().ends_with(why));
    }

    #[test]
    fn days_have_the_dates_that_calendars_give_them() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(wall(seconds * 1_000_000_000), shown);
        }
        assert!(wall(u64::MAX).starts_with("2554-07-21T23:34:33.7"));
    }
}
