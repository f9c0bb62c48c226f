//! From `exec` to a whitelist of 100,000 addresses in force.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::lab::{Daemon, Host, Lab};
use portcullis::model::Chain;

use crate::idle::mega;
use crate::report::{Line, Measured, Samples, ms};
use crate::syn::Prober;
use crate::world::{GATE, MANY, Server, cpu_time, lines, resident_kib, some_trusted};

const STARTS: usize = 7;
const TARGET: Duration = Duration::from_secs(1);
/// Between two SYNs that ask whether the gate is shut.
const STEP: Duration = Duration::from_micros(200);

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let server = Server::new(&lab, &clients, 18, 1)?;
    let whitelist = lines(some_trusted(MANY));
    let mut daemon = server.daemon(&lab, &whitelist)?;

    let (mut first, mut shut, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu_first, mut cpu_again) = (Vec::new(), Vec::new());
    let mut resident = 0;
    for _ in 0..STARTS {
        let (complete, stranger) = start_watched(&mut daemon, &server, &clients)?;
        first.push(complete);
        cpu_first.extend(used(&daemon));
        shut.push(stranger);
        all_hold(&server)?;
        // Now the kernel holds the table of one that died.
        daemon.kill_9();
        all_hold(&server)?;
        again.push(start(&mut daemon)?);
        cpu_again.extend(used(&daemon));
        all_hold(&server)?;
        let pid = daemon.pid().ok_or("the daemon is not running")?;
        resident = resident_kib(pid)?;
        daemon.kill_9();
        let gone = daemon.run_knockd(&["teardown"])?;
        if gone.code != Some(0) {
            return Err(format!("knockd teardown: {}", gone.stderr).into());
        }
    }
    let (first, shut, again) = (Samples::new(first), Samples::new(shut), Samples::new(again));
    let line = |what: &str, samples: &Samples| {
        Line::new(
            format!("{what}, {MANY} trusted"),
            figure(samples),
            "median ≤ 1 s",
            samples.median() <= TARGET,
        )
    };
    let mut report = vec![
        line("exec to chains complete and answering", &first),
        line("exec to a stranger shut out", &shut),
        line("exec to answering, over the table of one killed", &again),
    ];
    if cpu_first.len() == STARTS && cpu_again.len() == STARTS {
        let cpu = [("first", cpu_first), ("second", cpu_again)];
        report.extend(cpu.into_iter().map(|(which, samples)| {
            Line::aside(
                format!("CPU time of the {which} start"),
                figure(&Samples::new(samples)),
            )
        }));
    }
    report.push(Line::aside(
        format!("resident memory, {MANY} trusted"),
        format!("{:.1} MB", mega(resident * 1024)),
    ));
    Ok(report)
}

/// The CPU time that the daemon has used since it was started.
fn used(daemon: &Daemon) -> Option<Duration> {
    daemon.pid().and_then(cpu_time).map(Duration::from_nanos)
}

fn figure(samples: &Samples) -> String {
    let (median, max) = (ms(samples.median()), ms(samples.max()));
    format!("median {median}, max {max} ({} starts)", samples.len())
}

/// Until it answers, which it does not before everything is written and read back.
fn start(daemon: &mut Daemon) -> Result<Duration, Box<dyn std::error::Error>> {
    let started = Instant::now();
    daemon.start()?;
    Ok(started.elapsed())
}

/// The same, and how long it took until a stranger's SYN was no longer answered.
fn start_watched(
    daemon: &mut Daemon,
    server: &Server,
    clients: &Host,
) -> Result<(Duration, Duration), Box<dyn std::error::Error>> {
    let stranger = *server.clients.first().ok_or("no clients")?;
    let is_open = clients.run(|| {
        let mut prober = Prober::new(server.address)?;
        prober.ask(stranger, GATE, TARGET)
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

/// When the first SYN was sent that was not answered.
fn until_shut(
    server: Ipv4Addr,
    stranger: Ipv4Addr,
    give_up: &AtomicBool,
) -> io::Result<Option<Instant>> {
    let mut prober = Prober::new(server)?;
    loop {
        let last = give_up.load(Ordering::Relaxed);
        let sent = Instant::now();
        if prober.ask(stranger, GATE, STEP)?.is_none() {
            return Ok(Some(sent));
        }
        if last {
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
}

fn all_hold(server: &Server) -> Result<(), Box<dyn std::error::Error>> {
    let held = server.held(Chain::Trusted)?;
    if held == MANY as usize {
        Ok(())
    } else {
        Err(format!("the kernel holds {held} trusted of {MANY}").into())
    }
}
