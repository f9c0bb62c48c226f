//! From nothing to a running daemon: what it needs to be allowed, the policy, and what it listens to.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::warn;

use crate::capture::CaptureError;
use crate::control::protocol::ChangeStatus;
use crate::engine::{Record, What};
use crate::firewall::FirewallError;
use crate::links::LinksError;
use crate::matcher::{Matcher, Scope};
use crate::model::Bucket;
use crate::policy::{Checked, LoadError, Policy};
use crate::resolver::{self, Resolver};
use crate::store::KnownName;

use super::awake::Awake;
use super::cli::Options;
use super::commands::Commands;
use super::cut::Cutter;
use super::daemon::{self, Daemon, members_of, now};
use super::drift::Drift;
use super::install::Basis;
use super::lock::LockError;
use super::logging::Lost;
use super::memory::{Memory, Written};
use super::pace::Scheduling;
use super::packets::Packets;
use super::policies::{self, Policies};
use super::problems::{KEPT, POLICY};
use super::rehearsal::Rehearsal;
use super::sheets::Sheets;
use super::timed::Clockwork;
use super::uncommitted::Uncommitted;
use super::untracked::Untracked;

/// Look-ups for the log at a time.
const LOOKUPS: usize = 8;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// No CAP_NET_ADMIN or no CAP_NET_RAW.
    #[error("needs CAP_NET_ADMIN and CAP_NET_RAW: run as root")]
    Privileges,
    /// The policy.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// The runtime directory, or the state directory.
    #[error("{0}{advice}", advice = .0.what_to_do())]
    Lock(#[from] LockError),
    /// The kernel's rules.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The packet sockets.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Interfaces and addresses.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] crate::control::ControlError),
    /// Anything else that the system says.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The errno.
        source: std::io::Error,
    },
}

impl StartError {
    /// The exit code: a bad policy is bad input.
    pub(super) fn code(&self) -> u8 {
        if matches!(self, StartError::Policy(_)) {
            2
        } else {
            1
        }
    }
}

/// Bits of `CapEff` in /proc/PID/status (capabilities(7), linux/capability.h).
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_NET_RAW: u64 = 1 << 13;

/// Fails unless this process may change the firewall and read packets.
pub(super) fn check_privileges() -> Result<(), StartError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // Without /proc nobody knows; what fails later says so.
    let needed = CAP_NET_ADMIN | CAP_NET_RAW;
    match effective {
        Some(held) if held & needed != needed => Err(StartError::Privileges),
        _ => Ok(()),
    }
}

/// Reads the policy, or takes the last good one; says in the log what is doubtful about it.
pub(super) fn load_policy(options: &Options) -> Result<(Policies, Policy), StartError> {
    let policies::Start {
        policies,
        checked: Checked { policy, warnings },
    } = policies::at_start(&options.policy_path(), &options.state_dir)?;
    for warning in warnings {
        warn!("{}", warning.in_file(&policies.running().file));
    }
    if let Some(change) = &policies.reverted {
        warn!("{}", never_confirmed(change));
    }
    Ok((policies, policy))
}

fn never_confirmed(ChangeStatus { file, by, .. }: &ChangeStatus) -> String {
    format!("{file}, applied by {by}, was never confirmed: the policy from before is in force")
}

/// Takes down in the history that a crash or a reboot has taken a change back, if it does not have
/// that yet. The note that says so is to be marked when this is on the disk.
pub(super) fn record_reverted(memory: &Memory, policies: &Policies) -> Option<Written> {
    let change = policies.unrecorded()?;
    let record = Record::new(What::RolledBack, &change.by).by_hand();
    memory.record(record.saying(never_confirmed(&change)));
    Some(memory.written())
}

fn known_to_resolver(known: KnownName) -> resolver::Known {
    let KnownName { name, addresses } = known;
    resolver::Known { name, addresses }
}

/// Starts listening. Must be called within a tokio runtime.
pub(super) fn listen(
    basis: Basis,
    policies: Policies,
    options: &Options,
) -> Result<(Daemon, tokio::sync::mpsc::Receiver<resolver::Event>), StartError> {
    let Basis {
        engine,
        firewall,
        backend_reason,
        links,
        roster,
        memory,
        known,
        used,
        removed: _,
        mut problems,
    } = basis;
    problems.set(POLICY, policies.problem.clone());
    let kept = policies.keep().err();
    problems.set(KEPT, kept.map(|error| error.to_string()));
    let capture = daemon::open_capture(engine.policy(), options.interface.as_deref(), &links)?;
    let known = known.into_iter().map(known_to_resolver).collect();
    let commands = Commands::start().map_err(|source| StartError::Io {
        operation: "start the thread that runs commands",
        source,
    })?;
    let (resolver, names) = Resolver::start(resolver::Config::default(), known);
    let mut daemon = Daemon {
        policies,
        trial: None,
        uncommitted: Uncommitted::default(),
        interface: options.interface.clone(),
        only_ipv4: options.only_ipv4,
        lookup_lines: Bucket::new(1, 20),
        step_lines: Bucket::new(10, 200),
        lookups: options.lookup.then(|| Arc::new(Semaphore::new(LOOKUPS))),
        heard: engine.policy().clone(),
        sheets: Sheets::default(),
        clockwork: Clockwork::new(used),
        matcher: Matcher::new(engine.policy()),
        expects: false,
        awake: Awake::new(),
        rehearsal: Rehearsal::new(&engine),
        told: members_of(engine.policy()),
        engine,
        scope: Scope::default(),
        backend_reason,
        drift: Drift::new(&*firewall),
        firewall,
        foreign: None,
        capture,
        cutter: Cutter::default(),
        links,
        resolver,
        roster,
        memory,
        commands,
        problems,
        started: now(),
        packets: Packets::default(),
        lost_lines: Lost::default(),
        unresolved: HashSet::new(),
        retry: None,
        unwritten: Vec::new(),
        fired: Vec::new(),
        steps: Vec::new(),
        listening: Vec::new(),
        served: None,
        untracked: Untracked::default(),
        scheduling: Scheduling::Ordinary,
    };
    daemon.read_secrets();
    daemon.read_sheets();
    daemon.follow_addresses();
    daemon.look_for_listeners();
    daemon.follow_interfaces();
    daemon.follow_names();
    daemon.look_around();
    daemon.cutter.installed(&daemon.engine);
    daemon.scheduling = Scheduling::take();
    Ok((daemon, names))
}
