//! A server behind the gate, four people on a wire with it, and the programs they use.

use std::cell::RefCell;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis::lab::{
    Daemon, Finished, Host, Lab, LabError, ONE_SYN, Program, Programs, Reply, Service, Wire,
    run_bounded,
};
use serde_json::Value;

use crate::programs;

pub(crate) type Tried = Result<(), Box<dyn Error>>;

/// The policy as it is shipped.
pub(crate) const SHIPPED: &str = include_str!("../../policy/knockd.yaml");

/// What should come about at once may take that long on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);
/// No program may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shipped policy with a shorter time to open a session.
#[track_caller]
pub(crate) fn shipped_with_accept_timeout(time: &str) -> String {
    let shorter = SHIPPED.replace("accept_timeout: 300s", &format!("accept_timeout: {time}"));
    assert_ne!(shorter, SHIPPED, "the shipped policy has changed");
    shorter
}

thread_local! {
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The log of the last world that ended on this thread, for the report of a failure.
pub(crate) fn last_log() -> String {
    LOG.take()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn server(self) -> &'static str {
        match self {
            Family::V4 => "192.0.2.1",
            Family::V6 => "2001:db8::1",
        }
    }

    /// What `knock`, `nc` and `ssh` call it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }

    pub(crate) fn port(self, port: u16) -> String {
        match self {
            Family::V4 => format!("{}:{port}", self.server()),
            Family::V6 => format!("[{}]:{port}", self.server()),
        }
    }
}

/// Somebody on a host of their own, with one address of each family.
pub(crate) struct Person {
    pub(crate) host: Host,
    number: u8,
}

impl Person {
    pub(crate) fn address(&self, family: Family) -> String {
        match family {
            Family::V4 => format!("192.0.2.{}", self.number),
            Family::V6 => format!("2001:db8::{}", self.number),
        }
    }

    /// `open`, `refused` or `silent`.
    #[track_caller]
    pub(crate) fn finds(&self, family: Family, port: u16) -> &'static str {
        let client = self.host.client(&self.address(family)).expect("a client");
        let outcome = client.connect(&family.port(port), ONE_SYN);
        outcome.expect("a SYN can be sent").word()
    }

    /// Finds port 22 so, before long.
    #[track_caller]
    pub(crate) fn soon_finds(&self, family: Family, word: &str) {
        let started = Instant::now();
        loop {
            let found = self.finds(family, 22);
            if found == word {
                return;
            }
            let late = started.elapsed() > AT_ONCE;
            assert!(!late, "{} finds 22 {found}", self.address(family));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A command of Debian's on this person's host.
    pub(crate) fn command(&self, program: &str) -> Result<Command, LabError> {
        self.host.command(programs::path(program))
    }
}

/// The server and the people. Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    _service: Option<Service>,
    pub(crate) server: Host,
    /// Somebody who knows the knock.
    pub(crate) knocker: Person,
    /// Somebody who does not.
    pub(crate) stranger: Person,
    /// Somebody up to no good.
    pub(crate) scanner: Person,
    /// Somebody on the whitelist.
    pub(crate) colleague: Person,
    /// What joins them, as long as it is there.
    _wire: Wire,
    pub(crate) lab: Lab,
}

impl Drop for World {
    fn drop(&mut self) {
        LOG.set(self.daemon.log_tail(40));
    }
}

/// The colleague.
pub(crate) const TRUSTED: &str = "192.0.2.50 # a colleague\n2001:db8::50\n";

impl World {
    /// With the shipped policy and a small service on port 22.
    pub(crate) fn new() -> Result<Self, LabError> {
        Self::with(SHIPPED)
    }

    pub(crate) fn with(policy: &str) -> Result<Self, LabError> {
        let mut world = Self::before(policy, TRUSTED, Some(22))?;
        world.daemon.start()?;
        Ok(world)
    }

    /// Before the daemon is started.
    pub(crate) fn before(
        policy: &str,
        trusted: &str,
        service: Option<u16>,
    ) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let wire = lab.wire("campus")?;
        let server = lab.host("server")?;
        wire.plug(&server, "eth0", &["192.0.2.1/24", "2001:db8::1/64"])?;
        let person = |name: &str, number: u8| -> Result<Person, LabError> {
            let host = lab.host(name)?;
            let addresses = [
                format!("192.0.2.{number}/24"),
                format!("2001:db8::{number}/64"),
            ];
            wire.plug(&host, "eth0", &[&addresses[0], &addresses[1]])?;
            Ok(Person { host, number })
        };
        let service = service.map(|port| Service::start(&server, port));
        let programs = Programs {
            knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
            knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
        };
        Ok(Self {
            daemon: Daemon::prepare(&lab, &server, &programs, policy, trusted)?,
            _service: service.transpose()?,
            knocker: person("knocker", 10)?,
            stranger: person("stranger", 20)?,
            scanner: person("scanner", 66)?,
            colleague: person("colleague", 50)?,
            server,
            _wire: wire,
            lab,
        })
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn run(&self, command: &mut Command) -> Result<Finished, LabError> {
        run_bounded(command, self.lab.dir(), PATIENCE)
    }

    /// Runs a program of Debian's, which must succeed, and returns what it printed.
    #[track_caller]
    pub(crate) fn succeeds(&self, on: &Host, program: &str, arguments: &[&str]) -> String {
        let mut command = on.command(programs::path(program)).expect("a command");
        let finished = self.run(command.args(arguments)).expect("it runs and ends");
        assert!(
            finished.status.success(),
            "{program} {arguments:?}: {finished:?}"
        );
        finished.stdout
    }

    /// `nft` on the server.
    #[track_caller]
    pub(crate) fn nft(&self, arguments: &[&str]) -> String {
        self.succeeds(&self.server, "nft", arguments)
    }

    /// Runs `knockctl`, which must end with this code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> Reply {
        let reply = self.daemon.ctl(arguments).expect("knockctl runs and ends");
        assert_eq!(reply.code, Some(code), "knockctl {arguments:?}: {reply:?}");
        reply
    }

    /// What `knockctl list -o json` shows of an address: (chain, seconds left, reason).
    #[track_caller]
    pub(crate) fn listed(&self, address: &str) -> Vec<(String, Option<u64>, String)> {
        let reply = self.expect(0, &["list", "-o", "json"]);
        let list: Value = serde_json::from_str(&reply.stdout).expect("it prints JSON");
        let entries = list["entries"].as_array().expect("entries is a list");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        entries
            .iter()
            .filter(|entry| entry["address"] == address)
            .map(|entry| {
                assert_eq!(entry["gate"], "ssh");
                let left = entry.get("expires_in_s").expect("it says how long");
                (text(&entry["chain"]), left.as_u64(), text(&entry["reason"]))
            })
            .collect()
    }

    /// Waits until exactly one chain has the address: (seconds left, reason).
    #[track_caller]
    pub(crate) fn soon_in(&self, chain: &str, address: &str) -> (Option<u64>, String) {
        self.soon_in_or(chain, address, &String::new)
    }

    /// The same, with more to say where it does not come about.
    #[track_caller]
    pub(crate) fn soon_in_or(
        &self,
        chain: &str,
        address: &str,
        more: &dyn Fn() -> String,
    ) -> (Option<u64>, String) {
        let started = Instant::now();
        loop {
            let listed = self.listed(address);
            if let [(found, left, reason)] = &listed[..]
                && found == chain
            {
                return (*left, reason.clone());
            }
            let late = started.elapsed() > AT_ONCE;
            assert!(
                !late,
                "{address} is in {listed:?}, not in {chain} {}",
                more()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes a file that lives as long as this world.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> std::io::Result<std::path::PathBuf> {
        let path = self.lab.dir().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}
