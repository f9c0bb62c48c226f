//! From `exec` to a daemon that takes knocks, with the shipped policy and nobody to let in, and the
//! same with the others' daemons.

use std::error::Error;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use portcullis::lab::{Host, Lab};

use crate::peers::{self, Kind, Peer};
use crate::report::{Line, Samples};
use crate::so_many;
use crate::start::{figure, start};
use crate::world::{Server, TRUSTED, backends};

const STARTS: usize = 20;
/// Between two looks at whether it listens.
const STEP: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn lines(lab: &Lab, clients: &Host) -> Result<Vec<Line>, Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut first = None;
    let starts = so_many(STARTS, 2);
    // Those that are missing were told of already.
    for (number, backend) in (2..).zip(backends().0) {
        let server = Server::new(lab, clients, (number, backend), 1)?;
        let mut daemon = server.daemon(lab, TRUSTED)?;
        let mut took = Vec::new();
        for _ in 0..starts {
            took.push(start(&mut daemon)?);
            daemon.kill_9();
            let gone = daemon.run_knockd(&["teardown"])?;
            if gone.code != Some(0) {
                return Err(format!("knockd teardown: {}", gone.stderr).into());
            }
        }
        let took = Samples::new(took);
        let what = format!("{backend}: exec to the rules complete and to its first answer");
        lines.push(Line::aside(what, figure(&took)));
        first.get_or_insert(took.median());
    }
    for (number, kind) in (4..).zip(peers::ALL) {
        lines.push(theirs(lab, clients, (number, kind), first)?);
    }
    Ok(lines)
}

fn theirs(
    lab: &Lab,
    clients: &Host,
    (number, kind): (u8, Kind),
    ours: Option<Duration>,
) -> Result<Line, Box<dyn Error>> {
    let name = kind.name();
    let what = format!("{name}: exec to a packet socket, without rules of its own");
    if !kind.is_installed() {
        return Ok(Line::missing(what));
    }
    let server = Peer::shut(lab, clients, kind, number, 1)?;
    let mut took = Vec::new();
    for _ in 0..so_many(STARTS, 2) {
        // The one before has gone, and its socket with it.
        server.host.run(|| await_sockets(false))??;
        let started = Instant::now();
        let child = peers::spawn(lab, &server, kind)?;
        server.host.run(|| await_sockets(true))??;
        took.push(started.elapsed());
        drop(child);
    }
    let took = Samples::new(took);
    let ratio = ours.map_or_else(String::new, |ours| {
        let ratio = took.median().as_secs_f64() / ours.as_secs_f64();
        format!(": {ratio:.2} times as long")
    });
    Ok(Line::aside(what, format!("{}{ratio}", figure(&took))))
}

/// Waits until somebody on this host listens with a packet socket (`packet(7)`), or nobody does.
fn await_sockets(wanted: bool) -> io::Result<()> {
    let started = Instant::now();
    loop {
        // A line of headings, then one for each.
        let listed = fs::read_to_string("/proc/thread-self/net/packet")?;
        if (listed.lines().count() > 1) == wanted {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(io::Error::other("it does not listen, or does not cease to"));
        }
        std::thread::sleep(STEP);
    }
}
