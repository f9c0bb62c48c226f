//! How long a SYN of a whitelisted client takes to be answered, by a server with few members and
//! by one with many, in turns.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use portcullis::control::{Request, Verb};
use portcullis::lab::{Daemon, Lab};
use portcullis::model::Chain;

use crate::report::{Line, Measured, Samples, us};
use crate::syn::Prober;
use crate::world::{GATE, MANY, Server, lines, some_banned, some_trusted, stay_on_one_cpu};

/// Clients that ask in turn, so that not one bucket of the kernel's hash table is used alone.
const CLIENTS: u16 = 256;
/// Pairs of questions. 20,000 samples for each server.
const PAIRS: usize = 20_000;
/// The pairs are also looked at in so many parts, to see how much the result varies.
const PARTS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(1);
/// Addresses in a request; all of it must fit into 64 KiB.
const AT_A_TIME: usize = 2_000;

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let few = Server::new(&lab, &clients, 18, CLIENTS)?;
    let many = Server::new(&lab, &clients, 19, CLIENTS)?;

    let mut few_daemon = few.daemon(&lab, &lines(few.clients.clone()))?;
    few_daemon.start()?;
    let own = many.clients.iter().copied();
    let mut many_daemon = many.daemon(&lab, &lines(own.chain(some_trusted(MANY))))?;
    many_daemon.start()?;
    ban(&many_daemon)?;
    let expected = usize::from(CLIENTS) + MANY as usize;
    for (server, chain, expected) in [
        (&few, Chain::Trusted, usize::from(CLIENTS)),
        (&few, Chain::Banned, 0),
        (&many, Chain::Trusted, expected),
        (&many, Chain::Banned, MANY as usize),
    ] {
        let held = server.held(chain)?;
        if held != expected {
            return Err(format!("the kernel holds {held} in {chain:?}, not {expected}").into());
        }
    }

    let pairs = clients.run(|| sample(&few, &many))??;
    let parts = pairs.chunks(PAIRS / PARTS).map(|part| {
        let (few, many) = split(part);
        ratio(&few, &many)
    });
    let (least, most) = parts.fold((f64::MAX, 0_f64), |(least, most), ratio| {
        (least.min(ratio), most.max(ratio))
    });
    let (few, many) = split(&pairs);
    let ratio = ratio(&few, &many);
    let figure = |samples: &Samples| {
        let (median, p99) = (us(samples.median()), us(samples.percentile(99)));
        format!("median {median}, p99 {p99} ({} samples)", samples.len())
    };
    Ok(vec![
        Line::aside("SYN to SYN-ACK, nobody else trusted", figure(&few)),
        Line::aside(
            format!("SYN to SYN-ACK, {MANY} trusted and {MANY} banned"),
            figure(&many),
        ),
        Line::new(
            "the second to the first",
            format!("{ratio:.3} ({least:.3} to {most:.3} in {PARTS} parts)"),
            "≤ 1.10",
            ratio <= 1.10,
        ),
    ])
}

fn ban(daemon: &Daemon) -> Result<(), Box<dyn std::error::Error>> {
    let all: Vec<String> = some_banned(MANY).map(|it| it.to_string()).collect();
    for some in all.chunks(AT_A_TIME) {
        let response = daemon.ask(&Request::new(Verb::Drop, some))?;
        if response.code != 0 {
            return Err(format!("drop: {:?}", response.refused.first()).into());
        }
    }
    Ok(())
}

type Pair = (Duration, Duration);

/// To be called on the clients' host.
fn sample(few: &Server, many: &Server) -> io::Result<Vec<Pair>> {
    stay_on_one_cpu()?;
    let mut few_prober = Prober::new(few.address)?;
    let mut many_prober = Prober::new(many.address)?;
    let mut pairs = Vec::with_capacity(PAIRS);
    let mut failed = 0;
    for number in 0..PAIRS + usize::from(CLIENTS) {
        let client = number % usize::from(CLIENTS);
        let ask_few = |prober: &mut Prober| ask(prober, few.clients[client]);
        let ask_many = |prober: &mut Prober| ask(prober, many.clients[client]);
        // Either is first as often as the other.
        let (a, b) = if number % 2 == 0 {
            let a = ask_few(&mut few_prober)?;
            (a, ask_many(&mut many_prober)?)
        } else {
            let b = ask_many(&mut many_prober)?;
            (ask_few(&mut few_prober)?, b)
        };
        // In the first round neighbours are looked up.
        if number >= usize::from(CLIENTS) {
            match (a, b) {
                (Some(a), Some(b)) => pairs.push((a, b)),
                _ => failed += 1,
            }
        }
    }
    if failed > 0 {
        return Err(io::Error::other(format!("{failed} SYNs were not answered")));
    }
    Ok(pairs)
}

fn ask(prober: &mut Prober, client: Ipv4Addr) -> io::Result<Option<Duration>> {
    let answer = prober.ask(client, GATE, PATIENCE)?;
    Ok(answer.and_then(|(open, took)| open.then_some(took)))
}

fn split(pairs: &[Pair]) -> (Samples, Samples) {
    let (few, many) = pairs.iter().copied().unzip();
    (Samples::new(few), Samples::new(many))
}

fn ratio(few: &Samples, many: &Samples) -> f64 {
    many.median().as_secs_f64() / few.median().as_secs_f64()
}
