//! From `exec` to 100,000 addresses in force.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::engine::{Engine, Event};
use portcullis::firewall::Member;
use portcullis::lab::{Daemon, Host, Lab};
use portcullis::model::{Chain, Lifetime, Time};
use portcullis::policy;

use crate::idle::mega;
use crate::report::{Line, Measured, Samples, ms};
use crate::syn::Prober;
use crate::world::{
    self, BACKENDS, GATE, MANY, Server, backends, ban_many, cpu_time, lines, resident_kib,
    some_banned, some_trusted,
};
use crate::{so_many, startup};

const STARTS: usize = 7;

fn rounds() -> usize {
    so_many(STARTS, 1)
}

/// With a whitelist.
const TARGET: Duration = Duration::from_secs(1);
/// With as many bans besides, and for backends other than the first.
const LARGE_TARGET: Duration = Duration::from_secs(2);
/// Between two SYNs that ask whether the gate is shut.
const STEP: Duration = Duration::from_micros(200);
/// It is when so many in a row are not answered: one may only have waited for a CPU.
const IN_VAIN: usize = 3;

/// What all starts on one backend took.
#[derive(Default)]
struct Starts {
    first: Vec<Duration>,
    shut: Vec<Duration>,
    again: Vec<Duration>,
    with_bans: Vec<Duration>,
    installed: Vec<Duration>,
    cpu_first: Vec<Duration>,
    cpu_again: Vec<Duration>,
    cpu_with_bans: Vec<Duration>,
    /// In KiB, at the last start.
    resident: u64,
    resident_with_bans: u64,
}

struct Bench {
    server: Server,
    daemon: Daemon,
    starts: Starts,
}

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let whitelist = lines(some_trusted(MANY));
    let mut benches = Vec::new();
    for which in (0..).zip(backends) {
        let server = Server::new(&lab, &clients, which, 1)?;
        benches.push(Bench {
            daemon: server.daemon(&lab, &whitelist)?,
            server,
            starts: Starts::default(),
        });
    }
    for _ in 0..rounds() {
        for bench in &mut benches {
            bench.round(&clients)?;
        }
    }
    let mut lines: Vec<Line> = benches.into_iter().flat_map(Bench::lines).collect();
    lines.extend(missing);
    lines.extend(startup::lines(&lab, &clients)?);
    Ok(lines)
}

impl Bench {
    /// Everything once, from nothing to nothing.
    fn round(&mut self, clients: &Host) -> Result<(), Box<dyn Error>> {
        let Self {
            server,
            daemon,
            starts,
        } = self;
        let many = MANY as usize;
        let (complete, stranger) = start_watched(daemon, server, clients)?;
        starts.first.push(complete);
        starts.cpu_first.extend(used(daemon));
        starts.shut.push(stranger);
        server.must_hold(Chain::Trusted, many)?;
        // Now the kernel holds the chains of one that died.
        daemon.kill_9();
        starts.again.push(start(daemon)?);
        starts.cpu_again.extend(used(daemon));
        server.must_hold(Chain::Trusted, many)?;
        starts.resident = resident_kib(pid(daemon)?)?;

        ban_many(daemon)?;
        daemon.kill_9();
        starts.with_bans.push(start(daemon)?);
        starts.cpu_with_bans.extend(used(daemon));
        server.must_hold_all(&[(Chain::Trusted, many), (Chain::Banned, many)])?;
        starts.resident_with_bans = resident_kib(pid(daemon)?)?;
        daemon.kill_9();
        let gone = daemon.run_knockd(&["teardown"])?;
        if gone.code != Some(0) {
            return Err(format!("knockd teardown: {}", gone.stderr).into());
        }
        starts.installed.push(install(server)?);
        // The next start is the first again: it knows of no ban.
        for entry in fs::read_dir(daemon.state_dir())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    fn lines(self) -> Vec<Line> {
        let (backend, starts) = (self.server.backend, self.starts);
        let line = |what: &str, samples: Vec<Duration>, target: Duration| {
            let samples = Samples::new(samples);
            Line::new(
                format!("{backend}: {what}"),
                figure(&samples),
                format!("median ≤ {} s", target.as_secs()),
                samples.median() <= target,
            )
        };
        let target = if backend == BACKENDS[0] {
            TARGET
        } else {
            LARGE_TARGET
        };
        let mut report = vec![
            line(
                "exec to chains complete, 100000 trusted",
                starts.first,
                target,
            ),
            line(
                "exec to a stranger shut out, 100000 trusted",
                starts.shut,
                target,
            ),
            line(
                "over chains of one killed, 100000 trusted",
                starts.again,
                target,
            ),
            line(
                "over chains of one killed, 100000 trusted and 100000 banned",
                starts.with_bans,
                LARGE_TARGET,
            ),
            line(
                "install 100000 trusted and 100000 banned",
                starts.installed,
                LARGE_TARGET,
            ),
        ];
        for (which, samples) in [
            ("first start", starts.cpu_first),
            ("start over chains", starts.cpu_again),
            ("start over chains with bans", starts.cpu_with_bans),
        ] {
            // Not where the kernel does not count.
            if samples.len() == rounds() {
                report.push(Line::aside(
                    format!("{backend}: CPU time of the {which}"),
                    figure(&Samples::new(samples)),
                ));
            }
        }
        for (what, kib) in [
            ("100000 trusted", starts.resident),
            ("100000 banned as well", starts.resident_with_bans),
        ] {
            report.push(Line::aside(
                format!("{backend}: resident memory, {what}"),
                format!("{:.1} MB", mega(kib * 1024)),
            ));
        }
        report
    }
}

/// The backend alone: from an empty kernel until all is written and read back.
fn install(server: &Server) -> Result<Duration, Box<dyn Error>> {
    let policy = policy::parse(&world::policy(server.backend), Path::new("knockd.yaml"));
    let policy = policy.map_err(|_| "the shipped policy is wrong")?.policy;
    let gate = policy.gates[0].name.clone();
    let now = Time::default();
    let mut engine = Engine::new(policy);
    let trusted = some_trusted(MANY).map(|it| (IpAddr::from(it).into(), "whitelist".to_owned()));
    drop(engine.handle(Event::Whitelist(trusted.collect()), now));
    let banned = some_banned(MANY).map(|it| Member {
        gate: gate.clone(),
        chain: Chain::Banned,
        net: IpAddr::from(it).into(),
        remaining: Lifetime::Never,
        // Bans by knock are at most 65,536.
        reason: "by hand".to_owned(),
    });
    drop(engine.handle(Event::Adopt(banned.collect()), now));
    let desired = engine.desired(now);
    if desired.members.len() != 2 * MANY as usize {
        return Err("the engine wants others than it was told".into());
    }
    server.with_backend(|backend| {
        let started = Instant::now();
        backend.install(&desired)?;
        let took = started.elapsed();
        backend.teardown()?;
        Ok(took)
    })
}

fn pid(daemon: &Daemon) -> Result<u32, &'static str> {
    daemon.pid().ok_or("the daemon is not running")
}

/// The CPU time that the daemon has used since it was started.
fn used(daemon: &Daemon) -> Option<Duration> {
    daemon.pid().and_then(cpu_time).map(Duration::from_nanos)
}

pub(crate) fn figure(samples: &Samples) -> String {
    let (median, max) = (ms(samples.median()), ms(samples.max()));
    format!("median {median}, max {max} ({} times)", samples.len())
}

/// Until it answers, which it does not before everything is written and read back.
pub(crate) fn start(daemon: &mut Daemon) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    daemon.start()?;
    Ok(started.elapsed())
}

/// The same, and how long it took until a stranger's SYNs were no longer answered.
fn start_watched(
    daemon: &mut Daemon,
    server: &Server,
    clients: &Host,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let stranger = *server.clients.first().ok_or("no clients")?;
    let is_open = clients.run(|| {
        let mut prober = Prober::new()?;
        prober.ask(stranger, server.address, GATE, TARGET)
    })??;
    if is_open.is_none() {
        return Err("the gate is shut before there is a daemon".into());
    }
    let give_up = AtomicBool::new(false);
    let started = Instant::now();
    let (complete, shut) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| clients.run(|| until_shut(server.address, stranger, &give_up)));
        let complete = start(daemon);
        // Whatever is not shut now was promised to be.
        give_up.store(true, Ordering::Relaxed);
        (complete, watch.join())
    });
    let last_open = shut.map_err(|_| "the watching thread panicked")???;
    let complete = complete?;
    let last_open = last_open.ok_or("the daemon answers, and a stranger still gets in")?;
    Ok((complete, last_open.saturating_duration_since(started)))
}

/// When the first SYN was sent of those in a row that were not answered.
fn until_shut(
    server: Ipv4Addr,
    stranger: Ipv4Addr,
    give_up: &AtomicBool,
) -> io::Result<Option<Instant>> {
    let mut prober = Prober::new()?;
    let mut in_vain = Vec::with_capacity(IN_VAIN);
    while in_vain.len() < IN_VAIN {
        let last = give_up.load(Ordering::Relaxed);
        let sent = Instant::now();
        if prober.ask(stranger, server, GATE, STEP)?.is_none() {
            in_vain.push(sent);
        } else if last {
            return Ok(None);
        } else {
            in_vain.clear();
        }
        std::thread::sleep(STEP);
    }
    Ok(in_vain.first().copied())
}
