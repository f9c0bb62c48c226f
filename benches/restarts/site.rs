//! A server behind its gate, a stranger and a whitelisted machine who keep trying, and a daemon
//! that ends again and again.

use std::error::Error;
use std::time::{Duration, Instant};

use portcullis::lab::{Daemon, Host, Lab, LabError, Programs, Service, await_some};

use super::stream::{Count, Stream};

/// Attempts of each stream that fall between the end of the daemon and its new start, and again
/// after that.
pub(crate) const EACH: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 60s, ban_timeout: never }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 1s, action: accept }
  decoy: { sequence: [1220, 1221], seq_timeout: 1s, action: drop }
";

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Terminated,
    Killed,
}

impl End {
    pub(crate) const BOTH: [End; 2] = [End::Terminated, End::Killed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            End::Terminated => "restart",
            End::Killed => "kill -9",
        }
    }
}

/// Fields are dropped in this order.
pub(crate) struct Site {
    streams: Vec<(bool, Stream)>,
    pub(crate) daemon: Daemon,
    _service: Service,
    clients: Host,
    _server: Host,
    _lab: Lab,
}

const STRANGERS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
const TRUSTED: [&str; 2] = ["192.0.2.50", "2001:db8::50"];
const SERVER: [&str; 2] = ["192.0.2.1:22", "[2001:db8::1]:22"];

impl Site {
    /// With the daemon running on that backend, and nobody trying yet.
    pub(crate) fn new(programs: &Programs, backend: &str) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        let there = ["192.0.2.1/24", "2001:db8::1/64"];
        let own = [
            "192.0.2.10/24",
            "192.0.2.50/24",
            "2001:db8::10/64",
            "2001:db8::50/64",
        ];
        lab.link(&server, "eth0", &there, &clients, "eth0", &own)?;
        let service = Service::start(&server, 22)?;
        let policy = format!("firewall: {{ backend: {backend} }}\n{POLICY}");
        let trusted = TRUSTED.join("\n");
        let daemon = Daemon::launch(&lab, &server, programs, &policy, &trusted)?;
        Ok(Self {
            streams: Vec::new(),
            daemon,
            _service: service,
            clients,
            _server: server,
            _lab: lab,
        })
    }

    /// Strangers and whitelisted machines, of both families, begin to try.
    pub(crate) fn begin(&mut self) -> Result<(), Box<dyn Error>> {
        for (is_trusted, who) in [(false, STRANGERS), (true, TRUSTED)] {
            for (source, to) in who.into_iter().zip(SERVER) {
                let stream = Stream::start(&self.clients, source.parse()?, to.parse()?);
                self.streams.push((is_trusted, stream));
            }
        }
        Ok(())
    }

    /// Waits until each has tried a few times more.
    pub(crate) fn some_try(&self) -> Result<(), LabError> {
        let before: Vec<usize> = self.streams.iter().map(|(_, s)| s.sent()).collect();
        await_some("more attempts to connect", PATIENCE, || {
            let sent = self.streams.iter().map(|(_, stream)| stream.sent());
            let enough = sent
                .zip(&before)
                .all(|(sent, before)| sent >= before + EACH);
            Ok(enough.then_some(()))
        })
    }

    /// Ends the daemon and starts it again; how long that took until it answered.
    pub(crate) fn restart(&mut self, end: End) -> Result<Duration, LabError> {
        match end {
            End::Terminated => {
                let status = self.daemon.terminate()?;
                assert!(status.success(), "{status}");
            }
            End::Killed => self.daemon.kill_9(),
        }
        self.some_try()?;
        let started = Instant::now();
        self.daemon.start()?;
        let took = started.elapsed();
        self.some_try()?;
        Ok(took)
    }

    /// What became of all attempts: of strangers, and of whitelisted machines.
    pub(crate) fn finish(&mut self) -> Result<[Count; 2], Box<dyn Error>> {
        let mut counts = [Count::default(); 2];
        for (is_trusted, stream) in self.streams.drain(..) {
            let count = &mut counts[usize::from(is_trusted)];
            *count = count.and(stream.finish()?);
        }
        Ok(counts)
    }
}
