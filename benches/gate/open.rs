//! From the last knock to the first SYN that is answered.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis::firewall::BackendKind;
use portcullis::lab::{Daemon, Host, Lab, Program, run_bounded};

use crate::report::{Line, Measured, Samples, ms, us};
use crate::syn::Prober;
use crate::world::{
    BACKENDS, FREE, GATE, KNOCK, Server, TRUSTED, backends, cpu_time, stay_on_one_cpu,
};

const SAMPLES: u16 = 300;
/// A sample takes long with these.
const PEER_SAMPLES: u16 = 60;
/// An attempt may take that long before the row fails.
const PATIENCE: Duration = Duration::from_secs(3);
/// Everything has gone to sleep again by then, the daemon and the CPU it ran on.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two knocks: the daemon sleeps when the last one comes, which is the slow case.
const BETWEEN: Duration = Duration::from_millis(2);
/// The answer to a SYN is there when it has been sent; that long is far more than needed.
const NO_ANSWER: Duration = Duration::from_millis(1);
/// Debian's package has it there.
const PEER: &str = "/usr/sbin/knockd";

/// One opening.
struct Opening {
    /// From before the last knock was sent to before the first answered SYN was sent.
    after: Duration,
    /// From the last SYN in vain to the first answered one: how exact that is.
    step: Duration,
}

/// How much longer another backend may take than the first.
const FACTOR: f64 = 1.5;

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let mut servers = Vec::new();
    let mut daemons = Vec::new();
    for (number, backend) in (0..).zip(backends) {
        let server = Server::new(&lab, &clients, (number, backend), SAMPLES)?;
        let mut daemon = server.daemon(&lab, TRUSTED)?;
        daemon.start()?;
        daemons.push(daemon);
        servers.push(server);
    }
    let pids: Vec<u32> = daemons.iter().filter_map(Daemon::pid).collect();
    let used = |pids: &[u32]| -> Vec<Option<u64>> { pids.iter().copied().map(cpu_time).collect() };
    let before = used(&pids);
    let all: Vec<&Server> = servers.iter().collect();
    let openings = clients.run(|| sample(&all, 0..usize::from(SAMPLES)))??;
    let after = used(&pids);
    drop(daemons);

    let openings: Vec<(Samples, Samples)> = openings.into_iter().map(split).collect();
    let mut lines = Vec::new();
    for (server, (after, step)) in servers.iter().zip(&openings) {
        let target = Duration::from_micros(200);
        let what = format!("{}: last knock to first answered SYN", server.backend);
        lines.push(match server.backend {
            BackendKind::Nftables => {
                let met = after.median() < target;
                Line::new(what, after.summary(), "median < 0.2 ms", met)
            }
            _ => Line::aside(what, after.summary()),
        });
        lines.push(Line::aside(
            format!("{}: between the SYNs that were tried", server.backend),
            format!("median {}, max {}", us(step.median()), us(step.max())),
        ));
    }
    if let [(first, _), (second, _)] = openings.as_slice() {
        let ratio = second.median().as_secs_f64() / first.median().as_secs_f64();
        let [a, b] = BACKENDS;
        let target = format!("≤ {FACTOR}");
        let what = format!("{b} to {a}, medians");
        lines.push(Line::new(
            what,
            format!("{ratio:.2}"),
            target,
            ratio <= FACTOR,
        ));
    }
    for (server, (before, after)) in servers.iter().zip(before.into_iter().zip(after)) {
        if let (Some(before), Some(after)) = (before, after) {
            let each = Duration::from_nanos((after - before) / u64::from(SAMPLES));
            let what = format!("{}: CPU time of the daemon for a knock", server.backend);
            lines.push(Line::aside(what, us(each)));
        }
    }
    lines.extend(missing);
    lines.push(match (peer(&lab, &clients)?, openings.first()) {
        (Some(peer), Some((first, _))) => {
            let ratio = peer.median().as_secs_f64() / first.median().as_secs_f64();
            Line::aside(
                format!("the same with {PEER}, right after"),
                format!("{}: {ratio:.0} times as long", peer.summary()),
            )
        }
        _ => Line::aside(format!("the same with {PEER}"), "not installed"),
    });
    Ok(lines)
}

fn split(openings: Vec<Opening>) -> (Samples, Samples) {
    let (after, step) = openings.into_iter().map(|it| (it.after, it.step)).unzip();
    (Samples::new(after), Samples::new(step))
}

/// These clients of every server knock once, at the servers in turn. To be called on the clients'
/// host.
fn sample(servers: &[&Server], clients: Range<usize>) -> io::Result<Vec<Vec<Opening>>> {
    stay_on_one_cpu()?;
    let mut prober = Prober::new()?;
    let mut openings: Vec<Vec<Opening>> = servers.iter().map(|_| Vec::new()).collect();
    for client in clients {
        for turn in 0..servers.len() {
            // Each is the first as often as the others.
            let at = (client + turn) % servers.len();
            let server = servers[at];
            openings[at].push(one(&mut prober, server.clients[client], server.address)?);
        }
    }
    Ok(openings)
}

fn one(prober: &mut Prober, client: Ipv4Addr, server: Ipv4Addr) -> io::Result<Opening> {
    sleep(PAUSE);
    // The way there and back is known from here on, as it is behind a router.
    if prober.ask(client, server, FREE, PATIENCE)?.is_none() {
        return Err(io::Error::other("the server does not answer at all"));
    }
    if prober.ask(client, server, GATE, NO_ANSWER)?.is_some() {
        return Err(io::Error::other("the gate was open before the knock"));
    }
    knock_until_open(prober, client, server)?
        .ok_or_else(|| io::Error::other(format!("not open to {client} after its knock")))
}

fn knock_until_open(
    prober: &mut Prober,
    client: Ipv4Addr,
    server: Ipv4Addr,
) -> io::Result<Option<Opening>> {
    let mut knocked = Instant::now();
    for (number, port) in KNOCK.into_iter().enumerate() {
        if number > 0 {
            sleep(BETWEEN);
        }
        knocked = Instant::now();
        prober.syn(client, server, port)?;
    }
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

/// The well-known daemon of the same name, set up as its manual has it; `None` where it is not
/// installed.
fn peer(lab: &Lab, clients: &Host) -> Result<Option<Samples>, Box<dyn std::error::Error>> {
    // Ours may have been installed under the same name.
    let version = Command::new(PEER).arg("--version").output();
    if !version.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("Judd Vinet")) {
        return Ok(None);
    }
    let server = Server::new(lab, clients, (7, BackendKind::Iptables), PEER_SAMPLES + 1)?;
    let iptables = Program::at("iptables");
    let mut drop_all = iptables.on(&server.host)?;
    drop_all.args(["-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"]);
    let dropped = run_bounded(&mut drop_all, lab.dir(), PATIENCE)
        .map_err(|error| format!("{PEER} needs iptables: {error}"))?;
    if !dropped.status.success() {
        return Err(format!("iptables: {}", dropped.stderr).into());
    }
    let config = lab.dir().join("peer.conf");
    let pid_file = lab.dir().join("peer.pid");
    fs::write(
        &config,
        "[options]\n\tinterface = eth0\n\
         [open]\n\tsequence = 1228,1227\n\tseq_timeout = 15\n\ttcpflags = syn\n\
         \tstart_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n",
    )?;
    let log = fs::File::create(lab.dir().join("peer.log"))?;
    let mut command = server.host.command(PEER)?;
    command
        .arg("-c")
        .arg(&config)
        .arg("-p")
        .arg(&pid_file)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut peer = Stopped(command.spawn()?);
    let sampled = clients.run(|| {
        await_peer(server.address, server.clients[0])?;
        sample(&[&server], 1..server.clients.len())
    })?;
    if let Some(status) = peer.0.try_wait()? {
        let log = fs::read_to_string(lab.dir().join("peer.log"))?;
        return Err(format!("{PEER} ended ({status}): {log}").into());
    }
    Ok(sampled?.pop().map(|openings| split(openings).0))
}

/// It does not say when it listens: the first client knocks until it is let in.
fn await_peer(server: Ipv4Addr, client: Ipv4Addr) -> io::Result<()> {
    let mut prober = Prober::new()?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        for port in KNOCK {
            prober.syn(client, server, port)?;
        }
        sleep(Duration::from_millis(200));
        if prober.ask(client, server, GATE, NO_ANSWER)?.is_some() {
            return Ok(());
        }
    }
    Err(io::Error::other(format!(
        "{PEER} let nobody in within {}",
        ms(PATIENCE)
    )))
}

/// Killed when dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
