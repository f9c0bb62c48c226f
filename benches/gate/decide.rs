//! How long a SYN of a whitelisted client takes to be answered, by a server with few members and
//! by one with many, in turns.

use std::error::Error;
use std::io;
use std::time::Duration;

use portcullis::firewall::BackendKind;
use portcullis::lab::{Daemon, Host, Lab};
use portcullis::model::Chain;

use crate::report::{Line, Measured, Samples, us};
use crate::so_many;
use crate::syn::Prober;
use crate::world::{GATE, MANY, Server, backends, ban_many, lines, some_trusted, stay_on_one_cpu};

/// Clients that ask in turn, so that not one bucket of the kernel's hash table is used alone. All
/// namespaces share the kernel's table of neighbours, which takes 1,024 (`gc_thresh3`).
const CLIENTS: u16 = 64;
/// Pairs of questions. 20,000 samples for each server.
const PAIRS: usize = 20_000;
/// The pairs are also looked at in so many parts, to see how much the result varies.
const PARTS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(1);
/// How much longer a decision may take among many.
const FACTOR: f64 = 1.10;

/// Two servers on the same backend.
struct Contest {
    few: Server,
    many: Server,
    _daemons: [Daemon; 2],
}

impl Contest {
    fn new(
        lab: &Lab,
        clients: &Host,
        (number, backend): (u8, BackendKind),
    ) -> Result<Self, Box<dyn Error>> {
        let few = Server::new(lab, clients, (2 * number, backend), CLIENTS)?;
        let many = Server::new(lab, clients, (2 * number + 1, backend), CLIENTS)?;
        let mut few_daemon = few.daemon(lab, &lines(few.clients.clone()))?;
        few_daemon.start()?;
        let own = many.clients.iter().copied();
        let mut many_daemon = many.daemon(lab, &lines(own.chain(some_trusted(MANY))))?;
        many_daemon.start()?;
        ban_many(&many_daemon)?;
        let own = usize::from(CLIENTS);
        few.must_hold(Chain::Trusted, own)?;
        few.must_hold(Chain::Banned, 0)?;
        many.must_hold(Chain::Trusted, own + MANY as usize)?;
        many.must_hold(Chain::Banned, MANY as usize)?;
        Ok(Self {
            few,
            many,
            _daemons: [few_daemon, many_daemon],
        })
    }

    fn lines(&self, pairs: &[Pair]) -> [Line; 3] {
        let backend = self.few.backend;
        let parts = pairs.chunks(pairs.len() / PARTS).map(|part| {
            let (few, many) = split(part);
            ratio(&few, &many)
        });
        let (least, most) = parts.fold((f64::MAX, 0_f64), |(least, most), ratio| {
            (least.min(ratio), most.max(ratio))
        });
        let (few, many) = split(pairs);
        let ratio = ratio(&few, &many);
        let figure = |samples: &Samples| {
            let (median, p99) = (us(samples.median()), us(samples.percentile(99)));
            format!("median {median}, p99 {p99} ({} samples)", samples.len())
        };
        [
            Line::aside(
                format!("{backend}: SYN to SYN-ACK, nobody else trusted"),
                figure(&few),
            ),
            Line::aside(
                format!("{backend}: SYN to SYN-ACK, {MANY} trusted and {MANY} banned"),
                figure(&many),
            ),
            Line::new(
                format!("{backend}: the second to the first"),
                format!("{ratio:.3} ({least:.3} to {most:.3} in {PARTS} parts)"),
                format!("≤ {FACTOR:.2}"),
                ratio <= FACTOR,
            ),
        ]
    }
}

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let contests = (0..).zip(backends);
    let contests = contests.map(|which| Contest::new(&lab, &clients, which));
    let contests = contests.collect::<Result<Vec<_>, _>>()?;
    let pairs = clients.run(|| sample(&contests))??;
    let lines = contests.iter().zip(&pairs);
    let lines = lines.flat_map(|(contest, pairs)| contest.lines(pairs));
    Ok(lines.chain(missing).collect())
}

type Pair = (Duration, Duration);

impl Contest {
    /// Both servers, either as the first as often as the other.
    fn pair(&self, prober: &mut Prober, number: usize) -> io::Result<Option<Pair>> {
        let client = number % usize::from(CLIENTS);
        let mut ask = |server: &Server| -> io::Result<Option<Duration>> {
            let client = server.clients[client];
            let answer = prober.ask(client, server.address, GATE, PATIENCE)?;
            Ok(answer.and_then(|(open, took)| open.then_some(took)))
        };
        let (few, many) = if number.is_multiple_of(2) {
            let few = ask(&self.few)?;
            (few, ask(&self.many)?)
        } else {
            let many = ask(&self.many)?;
            (ask(&self.few)?, many)
        };
        Ok(few.zip(many))
    }
}

/// To be called on the clients' host.
fn sample(contests: &[Contest]) -> io::Result<Vec<Vec<Pair>>> {
    stay_on_one_cpu()?;
    let mut prober = Prober::new()?;
    let mut pairs: Vec<Vec<Pair>> = contests.iter().map(|_| Vec::with_capacity(PAIRS)).collect();
    for number in 0..so_many(PAIRS, 1_000) + usize::from(CLIENTS) {
        for (contest, pairs) in contests.iter().zip(&mut pairs) {
            let pair = contest.pair(&mut prober, number)?;
            // In the first round neighbours are looked up.
            if number >= usize::from(CLIENTS) {
                let backend = contest.few.backend;
                let missing = || format!("{backend}: SYN {number} was not answered");
                pairs.push(pair.ok_or_else(|| io::Error::other(missing()))?);
            }
        }
    }
    Ok(pairs)
}

fn split(pairs: &[Pair]) -> (Samples, Samples) {
    let (few, many) = pairs.iter().copied().unzip();
    (Samples::new(few), Samples::new(many))
}

fn ratio(few: &Samples, many: &Samples) -> f64 {
    many.median().as_secs_f64() / few.median().as_secs_f64()
}
