//! Knocks while forged SYNs hit the first knock port: how many open, how fast, and what it costs.

use std::error::Error;
use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis::control::protocol::{Data, PacketStatus, Status};
use portcullis::control::{Request, Verb};
use portcullis::firewall::BackendKind;
use portcullis::lab::{Daemon, Host, Lab};

use crate::idle::mega;
use crate::peers::{self, Kind, Peer};
use crate::race::{PATIENCE, Plan, race};
use crate::report::{Line, Measured, Samples, ms};
use crate::so_many;
use crate::world::{KNOCK, Server, TRUSTED, backends, cpu_time, resident_kib};

/// Knocks under each flood with each gap, and of each peer.
const KNOCKS: u16 = 100;
const GAPS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(2),
];
/// The one that the peers' clients leave.
const COMPARED: Duration = Duration::from_millis(100);
/// `None`: as many as can be sent.
const RATES: [Option<u32>; 3] = [Some(10_000), Some(50_000), None];
/// Between the first knocks of two clients.
const SPACING: Duration = Duration::from_millis(20);
/// With a peer they are far apart, as its attempts disturb one another.
const PEER_SPACING: Duration = Duration::from_millis(150);
/// The longest median under any flood.
const MEDIAN: Duration = Duration::from_millis(5);
/// SYNs a second, from when on the last of the rates is worth the name.
const MANY: f64 = 180_000.0;
/// 64 MB, in KiB.
const RESIDENT: u64 = 64_000_000 / 1024;
/// In KiB: pages that are touched now and then.
const GROWTH: u64 = 256;
/// For what a packet costs.
const BURDENED: Duration = Duration::from_secs(5);
/// When memory must have ceased to grow, and how long it is watched from then on.
const MINUTE: Duration = Duration::from_secs(60);
const WATCHED: Duration = Duration::from_secs(30);
/// The same on other backends, of which the table of attempts knows nothing: from when it is full.
const SHORTLY: Duration = Duration::from_secs(8);
/// By then it has to be full.
const FULL: Duration = Duration::from_secs(60);

/// What others are compared with: the first backend under a flood.
struct Ours {
    rate: Option<u32>,
    median: Option<Duration>,
    burden: Burden,
}

/// What a flood without knocks costs.
struct Burden {
    /// A second.
    sent: f64,
    /// Seconds of CPU time for a million packets that were sent, where the kernel counts it.
    cpu: Option<f64>,
    resident_kib: u64,
}

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let mut lines = Vec::new();
    let mut compared = Vec::new();
    for (number, backend) in (0..).zip(backends) {
        let server = Server::new(&lab, &clients, (number, backend), knocks())?;
        let mut daemon = server.daemon(&lab, TRUSTED)?;
        daemon.start()?;
        for rate in RATES {
            let (some, median) = ours(&clients, &server, &daemon, rate)?;
            lines.extend(some);
            if backend == BackendKind::Nftables {
                let pid = daemon.pid().ok_or("the daemon does not run")?;
                let burden = burden(&clients, &server, pid, rate)?;
                lines.push(burden.line(&backend.to_string(), rate, None));
                compared.push(Ours {
                    rate,
                    median,
                    burden,
                });
            }
        }
        lines.extend(memory(&clients, &server, &daemon)?);
    }
    lines.extend(missing);
    let all = peers::ALL.map(|kind| compared.iter().map(move |ours| (kind, ours)));
    for (number, (kind, ours)) in (2..).zip(all.into_iter().flatten()) {
        lines.extend(theirs(&lab, &clients, (number, kind), ours)?);
    }
    Ok(lines)
}

fn knocks() -> u16 {
    so_many(KNOCKS, 10)
}

fn target(server: &Server) -> SocketAddrV4 {
    SocketAddrV4::new(server.address, KNOCK[0])
}

fn named(rate: Option<u32>, sent: f64) -> String {
    match rate {
        Some(_) => format!("{sent:.0} SYN/s"),
        None => format!("{sent:.0} SYN/s, all that can be sent"),
    }
}

/// The lines, and the median that others are compared with.
fn ours(
    clients: &Host,
    server: &Server,
    daemon: &Daemon,
    rate: Option<u32>,
) -> Result<(Vec<Line>, Option<Duration>), Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut compared = None;
    for gap in GAPS {
        let closed = daemon.ask(&Request::new(Verb::Flush, ["all"]))?;
        if closed.code != 0 {
            return Err(format!("flush: {:?}", closed.refused).into());
        }
        let plan = Plan {
            from: 0,
            steps: KNOCK.len(),
            gap,
            spacing: SPACING,
        };
        let flood = clients.flood(target(server), rate)?;
        let opened = clients.run(|| {
            race(server, &plan, &mut |prober, client, step| {
                prober.syn(client, server.address, KNOCK[step]).map(drop)
            })
        })?;
        let (_, sent) = flood.stop()?;
        let what = format!(
            "{}: {} ms between the knocks, {}",
            server.backend,
            gap.as_millis(),
            named(rate, sent)
        );
        let opened = opened?;
        let all = usize::from(knocks());
        let (figure, count) = figure(&opened, all);
        let median = Samples::new_or_none(opened).map(|it| it.median());
        let met = count == all && median.is_some_and(|median| median < MEDIAN);
        let wanted = format!("{all} of {all}, median < {}", ms(MEDIAN));
        lines.push(match server.backend {
            BackendKind::Nftables => Line::new(what, figure, wanted, met),
            _ => Line::aside(what, figure),
        });
        if gap == COMPARED {
            compared = median;
        }
    }
    Ok((lines, compared))
}

/// How many opened, in words and as a number.
fn figure(opened: &[Duration], all: usize) -> (String, usize) {
    let count = opened.len();
    let words = match Samples::new_or_none(opened.to_vec()) {
        Some(samples) => format!("{count} of {all} open: {}", samples.summary()),
        None => format!("none of {all} opens within {}", ms(PATIENCE)),
    };
    (words, count)
}

fn theirs(
    lab: &Lab,
    clients: &Host,
    (number, kind): (u8, Kind),
    ours: &Ours,
) -> Result<Vec<Line>, Box<dyn Error>> {
    let Some(peer) = Peer::start(lab, clients, kind, number, knocks())? else {
        return Ok(vec![Line::missing(kind.name())]);
    };
    let server = &peer.server;
    let ready = peer.ready()?;
    let plan = Plan {
        from: peer.fresh_clients().start,
        steps: ready.steps(),
        gap: COMPARED,
        spacing: PEER_SPACING,
    };
    let flood = clients.flood(target(server), ours.rate)?;
    let opened = clients.run(|| {
        race(server, &plan, &mut |prober, client, step| {
            ready.send(prober, client, server.address, step)
        })
    })?;
    let (_, sent) = flood.stop()?;
    peer.must_live()?;
    let name = kind.name();
    let opened = opened?;
    let (mut figure, _) = figure(&opened, usize::from(knocks()));
    let median = Samples::new_or_none(opened).map(|it| it.median());
    if let (Some(theirs), Some(ours)) = (median, ours.median) {
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        figure = format!("{figure}: {ratio:.0} times as long");
    }
    let how = match ready.steps() {
        1 => "one packet each",
        _ => "100 ms between the knocks",
    };
    let what = format!("{name}: {how}, {}", named(ours.rate, sent));
    let burden = burden(clients, server, peer.pid(), ours.rate)?;
    Ok(vec![
        Line::aside(what, figure),
        burden.line(name, ours.rate, Some(&ours.burden)),
    ])
}

/// What a flood costs while nobody knocks.
fn burden(
    clients: &Host,
    server: &Server,
    pid: u32,
    rate: Option<u32>,
) -> Result<Burden, Box<dyn Error>> {
    let before = cpu_time(pid);
    let flood = clients.flood(target(server), rate)?;
    sleep(so_many(BURDENED, Duration::from_secs(1)));
    let (count, sent) = flood.stop()?;
    let used = before.zip(cpu_time(pid));
    Ok(Burden {
        sent,
        cpu: used.map(|(before, after)| per_million(after - before, count)),
        resident_kib: resident_kib(pid)?,
    })
}

impl Burden {
    #[allow(clippy::cast_precision_loss)]
    fn line(&self, name: &str, rate: Option<u32>, ours: Option<&Burden>) -> Line {
        let times = |theirs: f64, ours: Option<f64>| {
            let ratio = ours.filter(|ours| *ours > 0.0).map(|ours| theirs / ours);
            ratio.map_or_else(String::new, |it| format!(" ({it:.2} times as much)"))
        };
        let cpu = self.cpu.map_or_else(
            || "not counted here".to_owned(),
            |cpu| format!("{cpu:.2} s{}", times(cpu, ours.and_then(|ours| ours.cpu))),
        );
        let resident = format!(
            "{:.1} MB{}",
            mega(self.resident_kib * 1024),
            times(
                self.resident_kib as f64,
                ours.map(|ours| ours.resident_kib as f64)
            )
        );
        Line::aside(
            format!(
                "{name}: CPU time for a million packets sent, and resident memory, {}",
                named(rate, self.sent)
            ),
            format!("{cpu}, {resident}"),
        )
    }
}

/// Seconds, from nanoseconds for so many packets.
#[allow(clippy::cast_precision_loss)]
fn per_million(nanos: u64, packets: u64) -> f64 {
    nanos as f64 / 1e9 / (packets.max(1) as f64 / 1e6)
}

fn status(daemon: &Daemon) -> Result<Status, Box<dyn Error>> {
    match daemon.ask(&Request::new(Verb::Status, [""; 0]))?.data {
        Data::Json(value) => Ok(serde_json::from_value(value)?),
        other => Err(format!("no status: {other:?}").into()),
    }
}

/// Of so many that were sent between these two looks at the counters: how many in a hundred the
/// capture never saw, and how many it saw and had no room for. Nobody else sends anything that it
/// would count.
#[allow(clippy::cast_precision_loss)]
fn lost(before: &PacketStatus, after: &PacketStatus, sent: u64) -> (f64, f64) {
    let share = |count: u64| count as f64 / sent.max(1) as f64 * 100.0;
    let missed = sent.saturating_sub(after.seen - before.seen);
    (share(missed), share(after.dropped - before.dropped))
}

/// Memory, and what is lost, under all that can be sent.
fn memory(clients: &Host, server: &Server, daemon: &Daemon) -> Result<Vec<Line>, Box<dyn Error>> {
    let (settled, watched) = match server.backend {
        BackendKind::Nftables => so_many((MINUTE, WATCHED), (SHORTLY, SHORTLY)),
        _ => (Duration::ZERO, SHORTLY),
    };
    let pid = daemon.pid().ok_or("the daemon does not run")?;
    let before = status(daemon)?.packets;
    let flood = clients.flood(target(server), None)?;
    let started = Instant::now();
    let mut attempts = status(daemon)?.attempts;
    while attempts.used < attempts.capacity && started.elapsed() < FULL {
        sleep(Duration::from_millis(200));
        attempts = status(daemon)?.attempts;
    }
    sleep(settled.saturating_sub(started.elapsed()));
    let first = resident_kib(pid)?;
    let since = started.elapsed().as_secs();
    sleep(watched);
    let end = resident_kib(pid)?;
    let total = started.elapsed().as_secs();
    let (sent, rate) = flood.stop()?;
    let (missed, dropped) = lost(&before, &status(daemon)?.packets, sent);
    let backend = server.backend;
    let grown = end.saturating_sub(first);
    let full = attempts.used == attempts.capacity;
    let tracked = server
        .host
        .run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"))??;
    let what = format!("{backend}: {total} s of all that can be sent");
    let figure = format!("{rate:.0} SYN/s, {sent} in all");
    Ok(vec![
        match backend {
            BackendKind::Nftables => {
                let target = format!("≥ {MANY:.0} SYN/s");
                Line::new(what, figure, target, rate >= MANY)
            }
            _ => Line::aside(what, figure),
        },
        Line::aside(
            format!("{backend}: of these lost before they were looked at"),
            format!("{missed:.2} % never came to the capture, {dropped:.2} % found no room there"),
        ),
        Line::new(
            format!("{backend}: resident memory after {total} s"),
            format!(
                "{:.1} MB, {grown} KiB more than after {since} s, {} of {} attempts in the table",
                mega(end * 1024),
                attempts.used,
                attempts.capacity,
            ),
            format!("< 64 MB, growth < {GROWTH} KiB with a full table"),
            end < RESIDENT && grown < GROWTH && full,
        ),
        Line::aside(
            format!("{backend}: connections that are tracked after that"),
            tracked.trim(),
        ),
    ])
}
