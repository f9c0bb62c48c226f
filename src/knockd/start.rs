//! From nothing to a running daemon: what the kernel holds, what the store remembers and what the
//! files say, put together and installed in one transaction.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::capture::CaptureError;
use crate::engine::{Engine, Event, TrustEdit};
use crate::firewall::choose::{self, Chosen, Former};
use crate::firewall::{Backend, BackendKind, FirewallError, Observed};
use crate::links::{Links, LinksError};
use crate::matcher::{Matcher, Scope};
use crate::model::{Bucket, Chain, GateName};
use crate::policy::{self, Checked, LoadError, Policy};
use crate::resolver::{self, Known, Resolver};
use crate::store::{KnownName, RuntimeTrust, Store};

use super::cli::Options;
use super::daemon::{self, Daemon, Packets, now};
use super::force::put_in_force;
use super::lock::LockError;
use super::logging::LogError;
use super::memory::{BACKEND, Memory};
use super::pace::Scheduling;
use super::problems::{FORMER, Problems, WHITELIST};
use super::roster::Roster;
use super::untracked::Untracked;
use super::wants::gate_addresses;

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
    /// The runtime directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
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

/// Reads the policy, and says in the log what is doubtful about it.
pub(super) fn load_policy(path: &Path) -> Result<Policy, StartError> {
    let Checked {
        policy, warnings, ..
    } = policy::load(path)?;
    for warning in warnings {
        warn!("{}", warning.in_file(path));
    }
    Ok(policy)
}

/// What is known before anything is decided.
pub(super) struct Basis {
    pub(super) engine: Engine,
    pub(super) firewall: Box<dyn Backend>,
    pub(super) backend_reason: String,
    pub(super) links: Links,
    pub(super) roster: Roster,
    pub(super) memory: Memory,
    known: Vec<KnownName>,
    problems: Problems,
}

/// Puts together what kernel, store and files hold, and installs it in one transaction.
pub(super) fn install(policy: Policy, state_dir: &Path) -> Result<Basis, StartError> {
    let links = Links::open()?;
    let mut problems = Problems::default();
    let (store, known, trust) = recall(state_dir);
    let Chosen {
        backend: mut firewall,
        reason: backend_reason,
        mut former,
    } = choose::choose(policy.firewall.backend, remembered_backend(&store))?;
    remember_backend(&store, firewall.kind());
    let memory = Memory::start(store);
    problems.set("state", memory.problem());

    let (mut roster, complaints, problem) = Roster::at_start(policy.trusted.as_deref());
    problems.set(WHITELIST, problem);
    for complaint in complaints {
        warn!("{complaint}");
    }
    for name in &known {
        drop(roster.resolved(&name.name, name.addresses.clone()));
    }
    // Who is trusted is for file and store to say, not for the kernel.
    let held = firewall.observe_chains(&[Chain::Filter, Chain::Banned])?;
    let first = held.is_none() && former.is_empty();
    let mut engine = Engine::new(policy);
    let gates = gate_addresses(engine.policy(), &roster);
    let trust: Vec<_> = trust
        .into_iter()
        .map(|t| (t.gate, t.net, t.reason))
        .collect();
    let held = held.unwrap_or_default();
    let mut trust = [trust, import_trust(&held, &roster, &memory)].concat();
    let Observed { mut members, .. } = held;
    for former in &mut former {
        let held = former.observe()?;
        trust.extend(import_trust(&held, &roster, &memory));
        members.extend(held.members);
    }
    let found = members.len();
    for event in [
        Event::OwnAddresses(links.own_addresses().iter().copied().collect()),
        Event::GateAddresses(gates),
        Event::Whitelist(roster.trusted()),
        Event::RuntimeTrust(trust),
        Event::Adopt(members),
    ] {
        // One installation follows, so that only what the engine believes matters.
        drop(engine.handle(event, now()));
    }
    let desired = put_in_force(&mut *firewall, &mut engine)?;
    problems.set_all(FORMER, remove_all(former));
    let how = if first {
        "installed".to_owned()
    } else {
        format!("found {found} acceptances and bans")
    };
    info!(
        "{} ({backend_reason}): {how}; {} members hold",
        firewall.kind(),
        desired.members.len()
    );
    Ok(Basis {
        engine,
        firewall,
        backend_reason,
        links,
        roster,
        memory,
        known,
        problems,
    })
}

/// Removes what other backends hold, now that the new one is in force; what could not be removed
/// still denies, and is to be known.
pub(super) fn remove_all(former: Vec<Former>) -> Vec<String> {
    let mut left = Vec::new();
    for former in former {
        let kind = former.kind();
        match former.remove() {
            Ok(()) => info!("{kind}: the rules from before are removed"),
            Err(error) => left.push(format!(
                "{kind}: the rules from before are still there: {error}"
            )),
        }
    }
    left
}

/// Trust at run time: where, whom, why.
type Trust = (Option<GateName>, IpNet, String);

/// Whom the original script trusted and the whitelist does not have: trusted until reboot.
fn import_trust(held: &Observed, roster: &Roster, memory: &Memory) -> Vec<Trust> {
    let listed: HashSet<IpNet> = roster.trusted().into_iter().map(|(net, _)| net).collect();
    let found = held.members.iter().filter(|member| {
        member.chain == Chain::Trusted
            && held.originals.contains(&member.gate)
            && !listed.contains(&member.net)
    });
    let trust = found.map(|member| {
        let reason = format!("found in the original {}_trusted", member.gate);
        (Some(member.gate.clone()), member.net, reason)
    });
    let trust: Vec<Trust> = trust.collect();
    for (gate, net, reason) in &trust {
        info!("{net} was trusted by the original script, and stays so until reboot");
        drop(memory.trust(TrustEdit::Add(gate.clone(), *net, reason.clone())));
    }
    trust
}

fn remembered_backend(store: &Result<Store, crate::store::StoreError>) -> Option<BackendKind> {
    remembered_backend_of(store.as_ref().ok()?)
}

fn remembered_backend_of(store: &Store) -> Option<BackendKind> {
    // What cannot be read is complained about where the rest is read.
    choose::parse_kind(&store.setting(BACKEND).ok()??)
}

fn remember_backend(store: &Result<Store, crate::store::StoreError>, kind: BackendKind) {
    if let Ok(store) = store
        && remembered_backend_of(store) != Some(kind)
        && let Err(error) = store.set_setting(BACKEND, &kind.to_string())
    {
        warn!("{error}");
    }
}

type Recalled = (
    Result<Store, crate::store::StoreError>,
    Vec<KnownName>,
    Vec<RuntimeTrust>,
);

/// What the store remembers; a store that cannot be read is a store without memories.
fn recall(state_dir: &Path) -> Recalled {
    let store = match Store::open(state_dir) {
        Ok(store) => store,
        Err(error) => return (Err(error), Vec::new(), Vec::new()),
    };
    if let Some(aside) = store.moved_aside() {
        warn!(
            "the state was damaged and is moved aside, to {}",
            aside.display()
        );
    }
    let mut complain = |error: crate::store::StoreError| warn!("{error}");
    let names = store
        .names(SystemTime::now())
        .map_err(&mut complain)
        .unwrap_or_default();
    let trust = store.trust().map_err(&mut complain).unwrap_or_default();
    (Ok(store), names, trust)
}

/// Starts listening. Must be called within a tokio runtime.
pub(super) fn listen(
    basis: Basis,
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
        problems,
    } = basis;
    let capture = daemon::open_capture(engine.policy(), options.interface.as_deref(), &links)?;
    let known = known
        .into_iter()
        .map(
            |KnownName {
                 name,
                 addresses,
                 age,
             }| Known {
                name,
                addresses,
                age,
            },
        )
        .collect();
    let (resolver, names) = Resolver::start(resolver::Config::default(), known);
    let mut daemon = Daemon {
        policy_path: options.policy_path(),
        interface: options.interface.clone(),
        only_ipv4: options.only_ipv4,
        lookup_lines: Bucket::new(1, 20),
        lookups: options.lookup.then(|| Arc::new(Semaphore::new(LOOKUPS))),
        matcher: Matcher::new(engine.policy()),
        engine,
        scope: Scope::default(),
        backend_reason,
        firewall,
        foreign: None,
        capture,
        links,
        resolver,
        roster,
        memory,
        problems,
        started: now(),
        packets: Packets::default(),
        unresolved: HashSet::new(),
        retry: None,
        unwritten: Vec::new(),
        fired: Vec::new(),
        listening: Vec::new(),
        served: None,
        untracked: Untracked::default(),
        scheduling: Scheduling::Ordinary,
    };
    daemon.follow_addresses();
    daemon.look_for_listeners();
    daemon.follow_interfaces();
    daemon.follow_names();
    daemon.look_around();
    daemon.scheduling = Scheduling::take();
    Ok((daemon, names))
}
