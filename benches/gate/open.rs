//! From the last knock to the first SYN that is answered, on an idle machine and on a busy one.

use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis::firewall::BackendKind;
use portcullis::lab::{Daemon, Host, Lab};
use portcullis::sys::sched::{self, Class};

use crate::peers::{self, Peer};
use crate::report::{Line, Measured, Samples, us};
use crate::so_many;
use crate::syn::Prober;
use crate::world::{
    BACKENDS, FREE, GATE, KNOCK, Server, TRUSTED, backends, cpu_time, stay_on_one_cpu,
};

const SAMPLES: u16 = 300;
/// A sample takes long with these.
const PEER_SAMPLES: u16 = 100;
const BRIEFLY: u16 = 10;
/// An attempt may take that long before the row fails.
const PATIENCE: Duration = Duration::from_secs(3);
/// Everything has gone to sleep again by then, the daemon and the CPU it ran on.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two knocks: the daemon sleeps when the last one comes.
const BETWEEN: Duration = Duration::from_millis(2);
/// What a lone user meets: nothing happens for so long, and then somebody knocks as slowly as a
/// person. Each sample takes all of that, so that there are few.
const REST: Duration = Duration::from_secs(3);
const SLOWLY: Duration = Duration::from_millis(200);
const RESTED_SAMPLES: u16 = 20;
/// The answer to a SYN is there when it has been sent; that long is far more than needed.
pub(crate) const NO_ANSWER: Duration = Duration::from_millis(1);
/// How much longer another backend may take than the first.
const FACTOR: f64 = 1.5;
/// How many times as long the well-known daemon of the same name has to take.
const AHEAD: f64 = 300.0;

/// What else the machine does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Idle,
    /// Each CPU is wanted by another process all the time.
    Busy,
}

pub(crate) fn measure() -> Measured {
    contest(Load::Idle)
}

pub(crate) fn measure_busy() -> Measured {
    contest(Load::Busy)
}

/// Processes that want every CPU; killed when dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    fn of(load: Load, host: &Host) -> Result<Self, Box<dyn std::error::Error>> {
        let mut hogs = Self(Vec::new());
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..if load == Load::Busy { cpus } else { 0 } {
            let mut hog = host.command("/bin/sh")?;
            hog.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            hogs.0.push(hog.spawn()?);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// One opening.
struct Opening {
    /// From before the last knock was sent to before the first answered SYN was sent.
    after: Duration,
    /// From the last SYN in vain to the first answered one: how exact that is.
    step: Duration,
}

/// What others are compared with: the first backend's times to open.
struct First<'a> {
    after: &'a Samples,
    /// After a rest, where that is measured.
    rested: Option<&'a Samples>,
}

/// Clients who knock slowly after a rest. A busy machine has none.
fn rested(load: Load) -> u16 {
    match load {
        Load::Idle => so_many(RESTED_SAMPLES, 2),
        Load::Busy => 0,
    }
}

fn contest(load: Load) -> Measured {
    let count = so_many(SAMPLES, BRIEFLY);
    let rested = rested(load);
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let mut servers = Vec::new();
    let mut daemons = Vec::new();
    for (number, backend) in (0..).zip(backends) {
        let server = Server::new(&lab, &clients, (number, backend), count + rested)?;
        let mut daemon = server.daemon(&lab, TRUSTED)?;
        daemon.start()?;
        daemons.push(daemon);
        servers.push(server);
    }
    let hogs = Hogs::of(load, &clients)?;
    let pids: Vec<u32> = daemons.iter().filter_map(Daemon::pid).collect();
    let used = |pids: &[u32]| -> Vec<Option<u64>> { pids.iter().copied().map(cpu_time).collect() };
    let before = used(&pids);
    let all: Vec<&Server> = servers.iter().collect();
    let openings = clients.run(|| sample(&all, 0..usize::from(count), knock))??;
    let after = used(&pids);
    let slow = |prober: &mut Prober, client, server| {
        sleep(REST);
        knock_slowly(prober, client, server, SLOWLY)
    };
    let range = usize::from(count)..usize::from(count + rested);
    let slow = clients.run(|| sample(&all, range, slow))??;
    drop(daemons);

    let openings: Vec<(Samples, Samples)> = openings.into_iter().map(split).collect();
    let mut lines = ours(&servers, &openings, load);
    for (server, (before, after)) in servers.iter().zip(before.into_iter().zip(after)) {
        if let (Some(before), Some(after)) = (before, after) {
            let each = Duration::from_nanos((after - before) / u64::from(count));
            let what = format!("{}: CPU time of the daemon for a knock", server.backend);
            lines.push(Line::aside(what, us(each)));
        }
    }
    let slow = slow.into_iter().filter(|openings| !openings.is_empty());
    let slow: Vec<Samples> = slow.map(|openings| split(openings).0).collect();
    lines.extend(servers.iter().zip(&slow).map(ours_rested));
    lines.extend(missing);
    drop(servers);
    if let Some((after, _)) = openings.first() {
        let rested = slow.first();
        let first = First { after, rested };
        lines.extend(others(&lab, &clients, load, &first)?);
    }
    drop(hogs);
    Ok(lines)
}

fn ours(servers: &[Server], openings: &[(Samples, Samples)], load: Load) -> Vec<Line> {
    let mut lines = Vec::new();
    for (server, (after, step)) in servers.iter().zip(openings) {
        let what = format!("{}: last knock to first answered SYN", server.backend);
        let (median, p99) = (Duration::from_micros(100), Duration::from_millis(1));
        lines.push(match (server.backend, load) {
            (BackendKind::Nftables, Load::Idle) => {
                let met = after.median() < median && after.percentile(99) < p99;
                Line::new(what, after.summary(), "median < 0.1 ms, p99 < 1 ms", met)
            }
            (BackendKind::Nftables, Load::Busy) => {
                let met = after.percentile(99) < p99;
                Line::new(what, after.summary(), "p99 < 1 ms", met)
            }
            _ => Line::aside(what, after.summary()),
        });
        lines.push(Line::aside(
            format!("{}: between the SYNs that were tried", server.backend),
            format!("median {}, max {}", us(step.median()), us(step.max())),
        ));
    }
    if let ([(first, _), (second, _)], Load::Idle) = (openings, load) {
        let ratio = second.median().as_secs_f64() / first.median().as_secs_f64();
        let [a, b] = BACKENDS;
        let target = format!("≤ {FACTOR}");
        let what = format!("{b} to {a}, medians");
        let figure = format!("{ratio:.2}");
        lines.push(Line::new(what, figure, target, ratio <= FACTOR));
    }
    lines
}

/// After a rest.
fn ours_rested((server, after): (&Server, &Samples)) -> Line {
    let what = format!("{}: {RESTED}", server.backend);
    if server.backend != BackendKind::Nftables {
        return Line::aside(what, after.summary());
    }
    // So few samples have no 99th percentile.
    let met = after.percentile(90) < Duration::from_millis(1);
    Line::new(what, after.summary(), "p90 < 1 ms", met)
}

const RESTED: &str = "after 3 s of nothing, 0.2 s between the knocks";

/// The same with the others' daemons, right after.
fn others(
    lab: &Lab,
    clients: &Host,
    load: Load,
    first: &First,
) -> Result<Vec<Line>, Box<dyn std::error::Error>> {
    let mut lines = Vec::new();
    let count = so_many(PEER_SAMPLES, BRIEFLY);
    for (number, kind) in (6..).zip(peers::ALL) {
        let what = format!("the same with {}", kind.name());
        // Only what there is a target for is worth that much time.
        let rested = match kind {
            peers::Kind::Knockd => rested(load),
            peers::Kind::Fwknopd => 0,
        };
        let Some(peer) = Peer::start(lab, clients, kind, number, count + rested)? else {
            lines.push(Line::missing(what));
            continue;
        };
        let fresh = peer.fresh_clients();
        let middle = fresh.start + usize::from(count);
        let after = theirs(
            &peer,
            clients,
            fresh.start..middle,
            (Duration::ZERO, BETWEEN),
        )?;
        let (figure, ratio) = beside(&after, first.after);
        lines.push(match (kind, load) {
            (peers::Kind::Knockd, Load::Idle) => {
                let target = format!("≥ {AHEAD} times");
                Line::new(what, figure, target, ratio >= AHEAD)
            }
            _ => Line::aside(what, figure),
        });
        if let Some(first) = first.rested.filter(|_| rested > 0) {
            let after = theirs(&peer, clients, middle..fresh.end, (REST, SLOWLY))?;
            let what = format!("{}: {RESTED}", kind.name());
            lines.push(Line::aside(what, beside(&after, first).0));
        }
    }
    Ok(lines)
}

/// What these clients of it have to wait who knock after such a rest, with so much time between
/// their knocks.
fn theirs(
    peer: &Peer,
    clients: &Host,
    range: Range<usize>,
    (rest, between): (Duration, Duration),
) -> Result<Samples, Box<dyn std::error::Error>> {
    let sampled = clients.run(|| {
        sample(&[&peer.server], range, |prober, client, server| {
            sleep(rest);
            peer.knock(prober, client, server, between)
        })
    })?;
    peer.must_live()?;
    let openings = sampled?.pop().ok_or("nobody was asked to knock")?;
    Ok(split(openings).0)
}

/// The figure of a peer, and how many times as long as ours it takes.
fn beside(theirs: &Samples, ours: &Samples) -> (String, f64) {
    let ratio = theirs.median().as_secs_f64() / ours.median().as_secs_f64();
    let figure = format!("{}: {ratio:.0} times as long", theirs.summary());
    (figure, ratio)
}

fn split(openings: Vec<Opening>) -> (Samples, Samples) {
    let (after, step) = openings.into_iter().map(|it| (it.after, it.step)).unzip();
    (Samples::new(after), Samples::new(step))
}

/// These clients of every server knock once, at the servers in turn. To be called on the clients'
/// host.
fn sample(
    servers: &[&Server],
    clients: Range<usize>,
    mut knock: impl FnMut(&mut Prober, Ipv4Addr, Ipv4Addr) -> io::Result<Instant>,
) -> io::Result<Vec<Vec<Opening>>> {
    stay_on_one_cpu()?;
    // It is not to be measured how long we wait for a CPU ourselves.
    sched::set_class(Class::RealTime)?;
    let mut prober = Prober::new()?;
    let mut openings: Vec<Vec<Opening>> = servers.iter().map(|_| Vec::new()).collect();
    for client in clients {
        for turn in 0..servers.len() {
            // Each is the first as often as the others.
            let at = (client + turn) % servers.len();
            let (client, server) = (servers[at].clients[client], servers[at].address);
            prepare(&mut prober, client, server)?;
            let knocked = knock(&mut prober, client, server)?;
            let opening = until_open(&mut prober, client, server, knocked)?;
            openings[at].push(opening.ok_or_else(|| {
                io::Error::other(format!("not open to {client} after its knock"))
            })?);
        }
    }
    Ok(openings)
}

/// Waits until all is calm, and makes sure that the gate is shut.
pub(crate) fn prepare(prober: &mut Prober, client: Ipv4Addr, server: Ipv4Addr) -> io::Result<()> {
    sleep(PAUSE);
    // The way there and back is known from here on, as it is behind a router.
    if prober.ask(client, server, FREE, PATIENCE)?.is_none() {
        return Err(io::Error::other("the server does not answer at all"));
    }
    if prober.ask(client, server, GATE, NO_ANSWER)?.is_some() {
        return Err(io::Error::other("the gate was open before the knock"));
    }
    Ok(())
}

/// Knocks; when the last one was sent.
fn knock(prober: &mut Prober, client: Ipv4Addr, server: Ipv4Addr) -> io::Result<Instant> {
    knock_slowly(prober, client, server, BETWEEN)
}

/// The same with another time between the knocks.
pub(crate) fn knock_slowly(
    prober: &mut Prober,
    client: Ipv4Addr,
    server: Ipv4Addr,
    between: Duration,
) -> io::Result<Instant> {
    let mut knocked = Instant::now();
    for (number, port) in KNOCK.into_iter().enumerate() {
        if number > 0 {
            sleep(between);
        }
        knocked = Instant::now();
        prober.syn(client, server, port)?;
    }
    Ok(knocked)
}

fn until_open(
    prober: &mut Prober,
    client: Ipv4Addr,
    server: Ipv4Addr,
    knocked: Instant,
) -> io::Result<Option<Opening>> {
    let mut sent: Vec<(u16, Instant)> = Vec::with_capacity(4096);
    while knocked.elapsed() < PATIENCE {
        let now = Instant::now();
        sent.push((prober.syn(client, server, GATE)?, now));
        while let Some(answer) = prober.answer()? {
            let tried = sent.iter().position(|&(port, _)| port == answer.asker.1);
            if let Some(tried) = tried
                && answer.asked == (server, GATE)
                && answer.open
            {
                let at = sent[tried].1;
                let before = tried.checked_sub(1).map_or(knocked, |last| sent[last].1);
                return Ok(Some(Opening {
                    after: at - knocked,
                    step: at - before,
                }));
            }
        }
        // As fast as it goes at first; where it takes long, a hundredth of the time is exact
        // enough, and leaves the CPU to whoever opens.
        let next = knocked.elapsed() / 100;
        if next > Duration::from_micros(200) {
            sleep(next);
        }
    }
    Ok(None)
}
