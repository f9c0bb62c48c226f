//! Knocks while forged SYNs hit the first knock port: how many open, how fast, and what it costs.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use portcullis::control::protocol::{Data, Status};
use portcullis::control::{Request, Verb};
use portcullis::firewall::BackendKind;
use portcullis::lab::{Daemon, Host, Lab};
use portcullis::sys::sched::{self, Class};

use crate::idle::mega;
use crate::peers::{Kind, Peer};
use crate::report::{Line, Measured, Samples, ms};
use crate::syn::Prober;
use crate::world::{
    FREE, GATE, KNOCK, Server, TRUSTED, backends, cpu_time, resident_kib, stay_on_one_cpu,
};

/// Knocks under each flood with each gap.
const KNOCKS: u16 = 50;
/// With a peer: they are far apart, as its attempts disturb one another.
const PEER_KNOCKS: u16 = 20;
const GAPS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(2),
];
/// `None`: as many as can be sent.
const RATES: [Option<u32>; 3] = [Some(10_000), Some(50_000), None];
/// Between the first knocks of two clients.
const SPACING: Duration = Duration::from_millis(20);
const PEER_SPACING: Duration = Duration::from_millis(150);
/// What has not opened by then is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest median under any flood.
const MEDIAN: Duration = Duration::from_millis(5);
/// 64 MB, in KiB.
const RESIDENT: u64 = 64_000_000 / 1024;
/// How long memory is watched once the table of attempts is full, which takes as many forged
/// sources as it has places.
const SHORT: Duration = Duration::from_secs(8);
/// The same with `--long`.
const LONG: Duration = Duration::from_secs(120);
/// By then it has to be full.
const FULL: Duration = Duration::from_secs(60);

pub(crate) fn measure(long: bool) -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let mut lines = Vec::new();
    for (number, backend) in (0..).zip(backends) {
        let server = Server::new(&lab, &clients, (number, backend), KNOCKS)?;
        let mut daemon = server.daemon(&lab, TRUSTED)?;
        daemon.start()?;
        for rate in RATES {
            lines.extend(ours(&clients, &server, &daemon, rate)?);
        }
        lines.extend(cost(
            &clients,
            &server,
            &daemon,
            if long { LONG } else { SHORT },
        )?);
    }
    lines.extend(missing);
    for (number, rate) in (4..).zip([Some(10_000), Some(50_000)]) {
        lines.extend(theirs(&lab, &clients, number, rate)?);
    }
    Ok(lines)
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

fn ours(
    clients: &Host,
    server: &Server,
    daemon: &Daemon,
    rate: Option<u32>,
) -> Result<Vec<Line>, Box<dyn Error>> {
    let mut lines = Vec::new();
    for gap in GAPS {
        let closed = daemon.ask(&Request::new(Verb::Flush, ["all"]))?;
        if closed.code != 0 {
            return Err(format!("flush: {:?}", closed.refused).into());
        }
        let flood = clients.flood(target(server), rate)?;
        let opened = clients.run(|| Race::new(server, 0, gap, SPACING)?.run())?;
        let (_, sent) = flood.stop()?;
        let what = format!(
            "{}: {} ms between the knocks, {}",
            server.backend,
            gap.as_millis(),
            named(rate, sent)
        );
        let opened = opened?;
        let all = usize::from(KNOCKS);
        let figure = figure(&opened, all);
        let median = Samples::new_or_none(opened).map(|it| it.median());
        let met = figure.1 == all && median.is_some_and(|median| median < MEDIAN);
        let wanted = format!("{all} of {all}, median < {}", ms(MEDIAN));
        lines.push(match server.backend {
            BackendKind::Nftables => Line::new(what, figure.0, wanted, met),
            _ => Line::aside(what, figure.0),
        });
    }
    Ok(lines)
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
    number: u8,
    rate: Option<u32>,
) -> Result<Vec<Line>, Box<dyn Error>> {
    let kind = Kind::Knockd;
    let Some(peer) = Peer::start(lab, clients, kind, number, PEER_KNOCKS)? else {
        return Ok(vec![Line::aside(kind.name(), "not installed")]);
    };
    let gap = Duration::from_millis(100);
    let (pid, server) = (peer.pid(), &peer.server);
    let before = cpu_time(pid);
    let flood = clients.flood(target(server), rate)?;
    let opened = clients.run(|| Race::new(server, 1, gap, PEER_SPACING)?.run())?;
    let (count, sent) = flood.stop()?;
    let name = kind.name();
    let all = usize::from(PEER_KNOCKS);
    let mut lines = vec![Line::aside(
        format!("{name}: 100 ms between the knocks, {}", named(rate, sent)),
        figure(&opened?, all).0,
    )];
    if let (Some(before), Some(after)) = (before, cpu_time(pid)) {
        lines.push(Line::aside(
            format!("{name}: CPU time for a million packets sent, resident memory"),
            format!(
                "{:.2} s, {:.1} MB",
                per_million(after - before, count),
                mega(resident_kib(pid)? * 1024)
            ),
        ));
    }
    Ok(lines)
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

/// CPU time and memory under all that can be sent.
fn cost(
    clients: &Host,
    server: &Server,
    daemon: &Daemon,
    watched: Duration,
) -> Result<Vec<Line>, Box<dyn Error>> {
    let pid = daemon.pid().ok_or("the daemon does not run")?;
    let (packets, cpu) = (status(daemon)?.packets, cpu_time(pid));
    let flood = clients.flood(target(server), None)?;
    let started = Instant::now();
    let mut attempts = status(daemon)?.attempts;
    while attempts.used < attempts.capacity && started.elapsed() < FULL {
        std::thread::sleep(Duration::from_millis(200));
        attempts = status(daemon)?.attempts;
    }
    let filling = started.elapsed();
    let first = resident_kib(pid)?;
    std::thread::sleep(watched);
    let end = resident_kib(pid)?;
    let total = started.elapsed().as_secs();
    let (sent, rate) = flood.stop()?;
    let (after, used) = (status(daemon)?.packets, cpu_time(pid));
    let backend = server.backend;
    let lost = after.dropped - packets.dropped;
    #[allow(clippy::cast_precision_loss)]
    let share = lost as f64 / sent.max(1) as f64 * 100.0;
    let mut lines = vec![Line::aside(
        format!("{backend}: {total} s of all that can be sent"),
        format!("{rate:.0} SYN/s, {sent} in all, {share:.2} % lost before they were looked at"),
    )];
    if let (Some(before), Some(used)) = (cpu, used) {
        let seen = after.seen - packets.seen - lost;
        lines.push(Line::aside(
            format!("{backend}: CPU time of the daemon for a million packets"),
            format!("{:.2} s", per_million(used - before, seen)),
        ));
    }
    let grown = end.saturating_sub(first);
    lines.push(Line::new(
        format!("{backend}: resident memory after {total} s"),
        format!(
            "{:.1} MB, {grown} KiB more than after {} s, when the table was full",
            mega(end * 1024),
            filling.as_secs()
        ),
        "< 64 MB, growth < 256 KiB",
        end < RESIDENT && grown < 256 && attempts.used == attempts.capacity,
    ));
    let tracked = server
        .host
        .run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"))??;
    lines.push(Line::aside(
        format!("{backend}: connections that are tracked after that"),
        tracked.trim(),
    ));
    Ok(lines)
}

/// Many clients who knock one after the other, whether or not those before have got in.
struct Race<'a> {
    server: &'a Server,
    prober: Prober,
    /// Who knocks which port when.
    knocks: VecDeque<(Instant, Ipv4Addr, u16)>,
    waiting: Vec<Waiting>,
    opened: Vec<Duration>,
}

struct Waiting {
    client: Ipv4Addr,
    knocked: Instant,
    /// By their source ports.
    sent: Vec<(u16, Instant)>,
}

impl Waiting {
    /// As exact as it need be, and no more.
    fn next(&self) -> Instant {
        let last = self.sent.last().map_or(self.knocked, |(_, at)| *at);
        last + (self.knocked.elapsed() / 50).max(Duration::from_micros(50))
    }
}

impl<'a> Race<'a> {
    /// To be made and run on the clients' host; the first clients may be left out.
    fn new(server: &'a Server, from: usize, gap: Duration, spacing: Duration) -> io::Result<Self> {
        stay_on_one_cpu()?;
        // How long we wait for a CPU ourselves is not to be measured.
        sched::set_class(Class::RealTime)?;
        let start = Instant::now() + Duration::from_millis(500);
        let clients = (0..).zip(&server.clients[from..]);
        let mut knocks: Vec<_> = clients
            .flat_map(|(number, client)| {
                let first = start + spacing * number;
                [(first, *client, KNOCK[0]), (first + gap, *client, KNOCK[1])]
            })
            .collect();
        knocks.sort_by_key(|(at, ..)| *at);
        let mut prober = Prober::new()?;
        // So that nobody has to be looked for later.
        for client in &server.clients[from..] {
            prober.syn(*client, server.address, FREE)?;
        }
        Ok(Self {
            server,
            prober,
            knocks: knocks.into(),
            waiting: Vec::new(),
            opened: Vec::new(),
        })
    }

    /// How long it took each of those who got in.
    fn run(mut self) -> io::Result<Vec<Duration>> {
        while !(self.knocks.is_empty() && self.waiting.is_empty()) {
            self.knock()?;
            self.try_the_gate()?;
            self.read_answers()?;
            self.waiting.retain(|one| one.knocked.elapsed() < PATIENCE);
            let due = self.waiting.iter().map(Waiting::next);
            let due = due.chain(self.knocks.front().map(|(at, ..)| *at)).min();
            if let Some(due) = due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        Ok(self.opened)
    }

    fn knock(&mut self) -> io::Result<()> {
        while let Some(&(at, client, port)) = self.knocks.front()
            && at <= Instant::now()
        {
            self.knocks.pop_front();
            let knocked = Instant::now();
            self.prober.syn(client, self.server.address, port)?;
            if port == KNOCK[1] {
                self.waiting.push(Waiting {
                    client,
                    knocked,
                    sent: Vec::new(),
                });
            }
        }
        Ok(())
    }

    fn try_the_gate(&mut self) -> io::Result<()> {
        for one in &mut self.waiting {
            let now = Instant::now();
            if one.next() <= now {
                let port = self.prober.syn(one.client, self.server.address, GATE)?;
                one.sent.push((port, now));
            }
        }
        Ok(())
    }

    fn read_answers(&mut self) -> io::Result<()> {
        while let Some(answer) = self.prober.answer()? {
            if !answer.open || answer.asked != (self.server.address, GATE) {
                continue;
            }
            let Some(at) = self
                .waiting
                .iter()
                .position(|it| it.client == answer.asker.0)
            else {
                continue;
            };
            let tried = self.waiting[at].sent.iter();
            if let Some((_, sent)) = tried.rev().find(|(port, _)| *port == answer.asker.1) {
                self.opened.push(*sent - self.waiting[at].knocked);
                self.waiting.swap_remove(at);
            }
        }
        Ok(())
    }
}
