//! What a decision and loading cost with more and more members, beside a rule for each.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::engine::{Engine, Event};
use portcullis::firewall::{BackendKind, Desired, Member};
use portcullis::lab::{Host, Lab, Program, run_bounded};
use portcullis::model::{Chain, Lifetime, Time};
use portcullis::policy;

use crate::report::{Line, Measured, Samples, ms, us};
use crate::so_many;
use crate::syn::Prober;
use crate::world::{
    self, BACKENDS, GATE, Server, backends, some_accepted, some_banned, some_trusted,
    stay_on_one_cpu,
};

/// In the chain of the trusted, as many in that of the banned, and as many in that of the accepted.
const SIZES: [u32; 5] = [0, 1_000, 10_000, 100_000, 1_000_000];
/// With so many rules a decision takes a millisecond already.
const MOST_RULES: u32 = 100_000;
/// Clients of each kind, who ask in turn. All namespaces share the kernel's table of neighbours,
/// which takes 1,024 (`gc_thresh3`).
const EACH: u16 = 32;
const ROUNDS: u16 = 100;
const ROUNDS_OF_RULES: u16 = 10;
const PATIENCE: Duration = Duration::from_secs(1);
const LOADING: Duration = Duration::from_secs(30);
/// So many members are asked for.
const SAMPLE: usize = 10_000;
/// How much longer a decision may take among many.
const FACTOR: f64 = 1.10;
/// The same of a stranger, whose part of each set is in no cache of the processor.
const STRANGERS: f64 = 1.25;

/// Who asks: all of a kind are next to one another among a server's clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    Trusted,
    Accepted,
    /// In no chain: looked for in each of them, and dropped. A new one each time.
    Stranger,
}

const ASKERS: [Asker; 3] = [Asker::Trusted, Asker::Accepted, Asker::Stranger];
const CLIENTS: u16 = 3 * EACH;

impl Asker {
    fn words(self) -> &'static str {
        match self {
            Asker::Trusted => "SYN to SYN-ACK of a trusted client",
            Asker::Accepted => "SYN to SYN-ACK of an accepted client",
            Asker::Stranger => "SYN of a stranger until it is dropped",
        }
    }

    fn of(self, server: &Server) -> &[Ipv4Addr] {
        let each = usize::from(EACH);
        let start = self as usize * each;
        &server.clients[start..start + each]
    }
}

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let mut lines = Vec::new();
    for (number, backend) in (0..).zip(backends) {
        let mut servers = Vec::new();
        for side in 0..2 {
            let which = (2 * number + side, backend);
            servers.push(Server::new(&lab, &clients, which, CLIENTS)?);
        }
        let [few, many] = &servers[..] else {
            return Err("two servers were made".into());
        };
        load(few, 0)?;
        for &size in so_many(&SIZES[..], &SIZES[..2]) {
            eprintln!("sizes: {backend}, {size} in each chain …");
            // What cannot be had of one size is no reason to lose the others.
            match lines_of(&clients, few, many, size) {
                Ok(some) => lines.extend(some),
                Err(error) => {
                    let what = format!("{backend}: {size} in each chain");
                    lines.push(Line::failed(what, error.as_ref()));
                }
            }
        }
    }
    lines.extend(missing);
    lines.extend(rules(&lab, &clients)?);
    Ok(lines)
}

fn lines_of(clients: &Host, few: &Server, many: &Server, size: u32) -> Measured {
    let backend = many.backend;
    let took = load(many, size)?;
    let mut lines = Vec::new();
    for asker in ASKERS {
        let times = clients.run(|| sample(&[few, many], asker, ROUNDS))??;
        let [base, times] = &times[..] else {
            return Err("two servers were asked".into());
        };
        lines.push(report(backend, size, asker, base, times));
    }
    lines.push(Line::aside(
        format!("{backend}: to load {size} in each chain"),
        ms(took),
    ));
    Ok(lines)
}

fn report(backend: BackendKind, size: u32, asker: Asker, base: &Samples, times: &Samples) -> Line {
    let ratio = times.median().as_secs_f64() / base.median().as_secs_f64();
    let what = format!("{backend}: {}, {size} in each chain", asker.words());
    let figure = format!(
        "median {}, p99 {}, {ratio:.2} of that with none",
        us(times.median()),
        us(times.percentile(99))
    );
    let factor = match asker {
        Asker::Stranger => STRANGERS,
        _ => FACTOR,
    };
    let target = format!("≤ {factor:.2} of that with none");
    Line::new(what, figure, target, ratio <= factor)
}

/// Makes the kernel hold so many, and the clients; how long that took, reading back included.
fn load(server: &Server, size: u32) -> Result<Duration, Box<dyn Error>> {
    let desired = desired(server, size)?;
    let took = server.with_backend(|backend| {
        backend.teardown()?;
        let started = Instant::now();
        backend.install(&desired)?;
        Ok(started.elapsed())
    })?;
    must_hold(server, &desired)?;
    Ok(took)
}

/// Fails unless the kernel holds every one of a sample of these members. All are not read back: the
/// kernel goes through a set from its beginning for each part of a dump.
fn must_hold(server: &Server, desired: &Desired) -> Result<(), Box<dyn Error>> {
    let sample = desired.members.iter();
    let sample = sample.step_by((desired.members.len() / SAMPLE).max(1));
    let missing = server.with_backend(|backend| {
        for member in sample {
            let hits = backend.look_up(&member.gate, member.net.addr())?;
            if !hits.iter().any(|hit| hit.chain == member.chain) {
                return Ok(Some(member));
            }
        }
        Ok(None)
    })?;
    match missing {
        None => Ok(()),
        Some(Member { chain, net, .. }) => {
            let backend = server.backend;
            Err(format!("{backend}: the kernel does not hold {net} in {chain:?}").into())
        }
    }
}

fn desired(server: &Server, size: u32) -> Result<Desired, Box<dyn Error>> {
    let policy = policy::parse(&world::policy(server.backend), Path::new("knockd.yaml"));
    let policy = policy.map_err(|_| "the shipped policy is wrong")?.policy;
    let gate = policy.gates[0].name.clone();
    let now = Time::default();
    let mut engine = Engine::new(policy);
    let of = |asker: Asker| asker.of(server).iter().copied();
    let trusted = of(Asker::Trusted).chain(some_trusted(size));
    let trusted = trusted.map(|it| (IpAddr::from(it).into(), "whitelist".to_owned()));
    drop(engine.handle(Event::Whitelist(trusted.collect()), now));
    let member = |chain, it: Ipv4Addr, remaining| Member {
        gate: gate.clone(),
        chain,
        net: IpAddr::from(it).into(),
        remaining,
        // Bans by knock are at most 65,536.
        reason: "by hand".to_owned(),
    };
    let banned = some_banned(size).map(|it| member(Chain::Banned, it, Lifetime::Never));
    let accepted = of(Asker::Accepted).chain(some_accepted(size));
    let accepted = accepted.map(|it| member(Chain::Filter, it, Lifetime::For(ACCEPTED)));
    drop(engine.handle(Event::Adopt(banned.chain(accepted).collect()), now));
    Ok(engine.desired(now))
}

/// Longer than anything here takes.
const ACCEPTED: Duration = Duration::from_secs(6 * 3600);

/// Every client of a kind asks each server so often, the servers in turn. To be called on the
/// clients' host.
fn sample(servers: &[&Server], asker: Asker, rounds: u16) -> io::Result<Vec<Samples>> {
    stay_on_one_cpu()?;
    let mut prober = Prober::new()?;
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); servers.len()];
    // In the first round neighbours are looked up.
    for round in 0..=rounds {
        for client in 0..EACH {
            for turn in 0..servers.len() {
                let at = (usize::from(client + round) + turn) % servers.len();
                let took = ask(&mut prober, servers[at], asker, (round, client))?;
                if round > 0 {
                    times[at].push(took);
                }
            }
        }
    }
    Ok(times.into_iter().map(Samples::new).collect())
}

/// How long the decision took. Of a SYN that is dropped nobody hears: over a veth pair all that the
/// other side does with it is done when it has been sent.
fn ask(
    prober: &mut Prober,
    server: &Server,
    asker: Asker,
    (round, client): (u16, u16),
) -> io::Result<Duration> {
    let own = asker.of(server)[usize::from(client)];
    if asker != Asker::Stranger {
        return match prober.ask(own, server.address, GATE, PATIENCE)? {
            Some((true, took)) => Ok(took),
            _ => Err(io::Error::other("a client was not let in")),
        };
    }
    // Somebody who hears an answer asks in the first round. From then on each is another one, so
    // that what the kernel looks for is in no cache.
    let stranger = match round {
        0 => own,
        _ => server.nobody(round * EACH + client),
    };
    let started = Instant::now();
    prober.syn(stranger, server.address, GATE)?;
    let took = started.elapsed();
    match prober.answer()? {
        None => Ok(took),
        Some(_) => Err(io::Error::other("a stranger was answered")),
    }
}

/// The same with a rule for each, as scripts around iptables have it.
fn rules(lab: &Lab, clients: &Host) -> Result<Vec<Line>, Box<dyn Error>> {
    let mut lines = Vec::new();
    let server = Server::new(lab, clients, (6, BACKENDS[1]), CLIENTS)?;
    let sizes = so_many(&SIZES[..], &SIZES[..2]).iter();
    for &size in sizes.filter(|size| **size <= MOST_RULES) {
        let took = load_rules(lab, &server, size)?;
        let times = clients.run(|| sample(&[&server], Asker::Trusted, ROUNDS_OF_RULES))??;
        let what = format!("iptables with {size} rules for as many addresses: SYN to SYN-ACK");
        lines.push(Line::aside(what, us(times[0].median())));
        let what = format!("iptables-restore of {size} rules for as many addresses");
        lines.push(Line::aside(what, ms(took)));
    }
    Ok(lines)
}

fn load_rules(lab: &Lab, server: &Server, size: u32) -> Result<Duration, Box<dyn Error>> {
    let rule = |address: Ipv4Addr| format!("-A many -s {address} -j ACCEPT\n");
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:many - [0:0]\n");
    text.push_str("-A INPUT -p tcp --dport 22 -j many\n");
    let all = some_trusted(size).chain(server.clients.iter().copied());
    text.extend(all.map(rule));
    text.push_str("-A many -j DROP\nCOMMIT\n");
    let path = lab.dir().join("many.rules");
    std::fs::write(&path, text)?;
    let mut restore = Program::at("iptables-restore").on(&server.host)?;
    restore.arg(&path);
    let started = Instant::now();
    let ended = run_bounded(&mut restore, lab.dir(), LOADING)
        .map_err(|error| format!("iptables-restore: {error}"))?;
    if !ended.status.success() {
        return Err(format!("iptables-restore: {}", ended.stderr).into());
    }
    Ok(started.elapsed())
}
