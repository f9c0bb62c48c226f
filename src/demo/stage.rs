use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::kernel::{self, Entry};
use super::service::Guarded;
use super::{DemoError, UNKNOWN_POLICY};
use crate::control::{Request, Verb};
use crate::lab::{Client, Daemon, Host, Lab, LabError, Opened, Program, Programs, Session};

/// The policy as it is shipped.
const POLICY: &str = include_str!("../../policy/knockd.yaml");
const SHIPPED_TIME: &str = "accept_timeout: 300s";
/// Instead of that.
pub(super) const ACCEPT_TIME: Duration = Duration::from_secs(4);

/// The gate, over either family.
pub(super) const GATE: &str = "192.0.2.1:22";
pub(super) const GATE6: &str = "[2001:db8::1]:22";
pub(super) const SERVER: &str = "192.0.2.1";
pub(super) const SERVER6: &str = "2001:db8::1";
pub(super) const KNOCK: [&str; 2] = ["1228", "1227"];
pub(super) const DECOY: [&str; 2] = ["1220", "1221"];

pub(super) const KNOCKER: &str = "192.0.2.10";
pub(super) const KNOCKER6: &str = "2001:db8::10";
pub(super) const SILENT: &str = "192.0.2.20";
pub(super) const GUEST: &str = "192.0.2.30";
pub(super) const TRUSTED: &str = "192.0.2.50";
pub(super) const SCANNER: &str = "192.0.2.66";

/// Who is who: name, addresses, part in the story.
pub(super) const CAST: [(&str, &str, &str); 6] = [
    ("server", "192.0.2.1, 2001:db8::1", "knockd and the service"),
    (
        "knocker",
        "192.0.2.10, 2001:db8::10",
        "knows the knock: 1228, 1227",
    ),
    (
        "silent",
        "192.0.2.20",
        "tries all the time and never knocks",
    ),
    ("guest", "192.0.2.30", "is let in by the administrator"),
    ("trusted", "192.0.2.50", "is on the whitelist"),
    ("scanner", "192.0.2.66", "steps on the decoy: 1220, 1221"),
];

/// Below a second, so one SYN; over a veth pair an answer takes microseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// How long something may take that should come about at once, on a busy machine.
pub(super) const AT_ONCE: Duration = Duration::from_secs(3);

/// Everything the story needs, set up and cleaned up. The fields are dropped in this order.
pub(super) struct Stage {
    silent: Silent,
    /// Sessions that the knocker opened while it could.
    pub(super) sessions: Vec<Session>,
    /// When the knocker's acceptance began.
    pub(super) knocked: Option<Instant>,
    pub(super) daemon: Daemon,
    pub(super) service: Guarded,
    pub(super) client: Host,
    pub(super) server: Host,
    _lab: Lab,
}

impl Stage {
    pub(super) fn set() -> Result<Self, DemoError> {
        let time = format!("accept_timeout: {}", super::humanly(ACCEPT_TIME));
        if !POLICY.contains(SHIPPED_TIME) {
            return Err(DemoError::NotSo(UNKNOWN_POLICY.to_owned()));
        }
        let policy = POLICY.replace(SHIPPED_TIME, &time);
        let lab = Lab::new()?;
        let (server, client) = (lab.host("server")?, lab.host("client")?);
        let own: Vec<String> = [KNOCKER, SILENT, GUEST, TRUSTED, SCANNER]
            .iter()
            .map(|address| format!("{address}/24"))
            .chain([format!("{KNOCKER6}/64")])
            .collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let there = [format!("{SERVER}/24"), format!("{SERVER6}/64")];
        let there = [there[0].as_str(), there[1].as_str()];
        lab.link(&server, "eth0", &there, &client, "eth0", &own)?;
        let service = Guarded::start(&lab, &server)?;
        let programs = Programs {
            knockd: Program::this("knockd"),
            knockctl: None,
        };
        let trusted = format!("{TRUSTED}   a colleague's workstation\n");
        // Everybody gets in before the daemon is there: what comes next is its doing.
        client.client(SILENT)?.await_open(GATE, AT_ONCE)?;
        let daemon = Daemon::launch(&lab, &server, &programs, &policy, &trusted)?;
        let silent = Silent::start(client.client(SILENT)?)?;
        Ok(Self {
            silent,
            sessions: Vec::new(),
            knocked: None,
            daemon,
            service,
            client,
            server,
            _lab: lab,
        })
    }

    pub(super) fn client(&self, address: &str) -> Result<Client, LabError> {
        self.client.client(address)
    }

    /// Tries to connect, once.
    pub(super) fn tries(&self, address: &str) -> Result<&'static str, DemoError> {
        Ok(self
            .client(address)?
            .connect(gate_for(address), PATIENCE)?
            .word())
    }

    /// Fails unless this client gets no answer.
    pub(super) fn refused(&self, name: &str, address: &str) -> Result<String, DemoError> {
        match self.tries(address)? {
            "silent" => Ok(format!("{name} {address} connects: no answer")),
            word => Err(DemoError::NotSo(format!(
                "{name} {address} should get no answer, but found the port {word}"
            ))),
        }
    }

    /// Fails unless this client gets in.
    pub(super) fn let_in(&self, name: &str, address: &str) -> Result<String, DemoError> {
        match self.tries(address)? {
            "open" => Ok(format!("{name} {address} connects: open")),
            word => Err(DemoError::NotSo(format!(
                "{name} {address} should get in, but found the port {word}"
            ))),
        }
    }

    /// Knocks as the knocker and waits for the gate. What it still had is withdrawn first, so it is
    /// this knock that opens; and as knocks are counted in the order in which they arrive, all
    /// earlier ones of the family have had their effect when this returns.
    pub(super) fn knocker_opens(&self, address: &str) -> Result<Opened, DemoError> {
        self.asks(&Request::new(Verb::Flush, [address]))?;
        let opened = self
            .client(address)?
            .knock_until_open(gate_for(address), &KNOCK, AT_ONCE)?;
        Ok(opened)
    }

    /// Asks the daemon for something that it must not refuse.
    pub(super) fn asks(&self, request: &Request) -> Result<(), DemoError> {
        let answer = self.daemon.ask(request)?;
        if answer.code == 0 {
            return Ok(());
        }
        let why = answer.refused.join(", ");
        Err(DemoError::NotSo(format!(
            "{} is refused: {why}",
            request.verb
        )))
    }

    /// Waits until the knocker is shut out again, and checks that it was neither sooner nor
    /// later than it should.
    pub(super) fn ends_on_time(&self, address: &str, since: Instant) -> Result<String, DemoError> {
        let slack = Duration::from_millis(1500);
        let limit = (ACCEPT_TIME + slack).saturating_sub(since.elapsed());
        self.client(address)?
            .await_silent(gate_for(address), limit)?;
        let took = since.elapsed();
        // The last attempt takes a tenth of a second.
        if took + slack / 3 < ACCEPT_TIME {
            return Err(DemoError::NotSo(format!(
                "the acceptance of {address} ended after {:.1} s already",
                took.as_secs_f64()
            )));
        }
        let took = took.as_secs_f64();
        Ok(format!(
            "{took:.1} s after its knock, {address} gets no answer any more"
        ))
    }

    /// The member for this address in this chain; waits for it to come about.
    pub(super) fn member(&self, chain: &str, address: &str) -> Result<Entry, DemoError> {
        let started = Instant::now();
        loop {
            let found = kernel::members(self)?
                .into_iter()
                .find(|entry| entry.chain == chain && entry.address == address);
            if let Some(entry) = found {
                return Ok(entry);
            }
            if started.elapsed() > AT_ONCE {
                let missing = format!("{address} is not in {chain}");
                return Err(DemoError::NotSo(missing));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if the silent client has ever got an answer.
    pub(super) fn silent_so_far(&self) -> Result<String, DemoError> {
        // At least one attempt since the step began.
        let before = self.silent.tally.attempts.load(Ordering::Acquire);
        let started = Instant::now();
        while self.silent.tally.attempts.load(Ordering::Acquire) < before + 2 {
            if started.elapsed() > AT_ONCE {
                let stopped = "the silent client has stopped trying".to_owned();
                return Err(DemoError::NotSo(stopped));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let attempts = self.silent.tally.attempts.load(Ordering::Acquire);
        match self.silent.tally.answers.load(Ordering::Acquire) {
            0 => Ok(format!(
                "silent {SILENT} has tried {attempts} times: no answer"
            )),
            answers => Err(DemoError::NotSo(format!(
                "silent {SILENT} never knocked, and got an answer to {answers} of {attempts} attempts"
            ))),
        }
    }
}

/// The gate's address of the family that this client speaks.
pub(super) fn gate_for(address: &str) -> &'static str {
    if address.contains(':') { GATE6 } else { GATE }
}

/// The one who tries all the time and never knocks.
struct Silent {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    attempts: AtomicUsize,
    answers: AtomicUsize,
}

impl Silent {
    fn start(client: Client) -> Result<Self, LabError> {
        let tally = Arc::new(Tally::default());
        let shared = Arc::clone(&tally);
        let work = move || {
            while !shared.stop.load(Ordering::Acquire) {
                let outcome = client.connect(GATE, Duration::from_millis(50));
                if !outcome.is_ok_and(|outcome| outcome.is_silent()) {
                    shared.answers.fetch_add(1, Ordering::AcqRel);
                }
                shared.attempts.fetch_add(1, Ordering::AcqRel);
            }
        };
        let thread = thread::Builder::new()
            .name("silent".to_owned())
            .spawn(work)
            .map_err(LabError::system("start", "a thread"))?;
        Ok(Self {
            tally,
            thread: Some(thread),
        })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
