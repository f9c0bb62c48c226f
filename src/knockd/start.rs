//! From nothing to a running daemon: what the kernel holds, what the store remembers and what the
//! files say, put together and installed in one transaction.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::capture::CaptureError;
use crate::control::protocol::ChangeStatus;
use crate::engine::{Engine, Event, Owed, Record, TrustEdit, What};
use crate::firewall::choose::{self, Chosen, Former};
use crate::firewall::{Backend, FirewallError, Observed};
use crate::links::{Links, LinksError};
use crate::matcher::{Matcher, Scope};
use crate::model::{Bucket, Chain, GateName, KnockName, Time};
use crate::policy::{Checked, LoadError, Policy};
use crate::resolver::{self, Resolver};
use crate::store::{KnownName, Readers};
use crate::totp::Used;

use super::awake::Awake;
use super::cli::Options;
use super::commands::Commands;
use super::cut::Cutter;
use super::daemon::{self, Daemon, members_of, now};
use super::drift::Drift;
use super::force::put_in_force;
use super::guard;
use super::lock::LockError;
use super::logging::Lost;
use super::memory::{Memory, Written};
use super::merge::{Held, Merged, Remembered, merge};
use super::pace::Scheduling;
use super::packets::Packets;
use super::policies::{self, Policies};
use super::problems::{FORMER, KEPT, POLICY, Problems, WHITELIST};
use super::recall::{Recalled, Trust, in_words, recall, retention};
use super::rehearsal::Rehearsal;
use super::roster::Roster;
use super::sheets::Sheets;
use super::shelved;
use super::timed::Clockwork;
use super::uncommitted::Uncommitted;
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

/// What is known before anything is decided.
pub(super) struct Basis {
    pub(super) engine: Engine,
    pub(super) firewall: Box<dyn Backend>,
    pub(super) backend_reason: String,
    pub(super) links: Links,
    pub(super) roster: Roster,
    pub(super) memory: Memory,
    known: Vec<KnownName>,
    used: BTreeMap<KnockName, Used>,
    /// What was guarded until now and is no more, in words.
    pub(super) removed: Option<String>,
    problems: Problems,
}

/// Puts together what kernel, store and files hold, and installs it in one transaction; the
/// history has it as started `by` that.
pub(super) fn install(
    policy: Policy,
    state_dir: &Path,
    readers: Readers,
    by: &str,
) -> Result<Basis, StartError> {
    let links = Links::open()?;
    let mut problems = Problems::default();
    let Recalled {
        store,
        backend,
        names: known,
        mut trust,
        mut remembered,
        owed,
        used,
        unread,
    } = recall(state_dir, readers);
    let Chosen {
        backend: mut firewall,
        reason: backend_reason,
        mut former,
    } = choose::choose(policy.firewall.backend, backend)?;
    let memory = Memory::start(state_dir, readers, store, retention(&policy), unread);
    if backend != Some(firewall.kind()) {
        memory.backend(firewall.kind());
    }
    problems.set("state", memory.problem());

    let listed = policy.trusted.as_deref();
    let roster = read_whitelist(listed, state_dir, &known, &mut problems);
    let InKernel {
        held,
        trust: found_trust,
        how,
    } = look(&mut *firewall, &mut former, &roster, &memory)?;
    trust.extend(found_trust);
    remembered.removed = policies::removed_by_trial(state_dir, &policy);
    let mut engine = Engine::new(policy);
    let new = new_gates(engine.policy(), &held.gates);
    let removed = removed_gates(engine.policy(), &held.gates);
    let found = Known {
        own: links.own_addresses().iter().copied().collect(),
        gates: gate_addresses(engine.policy(), &roster),
        whitelist: roster.trusted(),
        trust,
        found: held,
        remembered,
        owed,
    };
    take_over(&mut engine, found, now());
    guard::accept_installers(&mut engine, &new);
    let desired = put_in_force(&mut *firewall, &mut engine)?;
    problems.set_all(FORMER, remove_all(former));
    // Until it was in force, nothing was new.
    engine.forget_news();
    memory.everything(engine.everything());
    let members = desired.members.len();
    let hold = if members == 1 {
        "member holds"
    } else {
        "members hold"
    };
    let how = format!("{how}; {members} {hold}");
    let kind = firewall.kind();
    info!("{kind} ({backend_reason}): {how}");
    let mut note = format!("{kind}: {how}");
    if let Some(removed) = &removed {
        warn!("{removed}");
        note = format!("{note}; {removed}");
    }
    memory.record(Record::new(What::Started, by).saying(note));
    Ok(Basis {
        engine,
        firewall,
        backend_reason,
        links,
        roster,
        memory,
        known,
        used,
        removed,
        problems,
    })
}

/// Reads the whitelist, with the last good addresses of its names.
fn read_whitelist(
    file: Option<&Path>,
    state_dir: &Path,
    known: &[KnownName],
    problems: &mut Problems,
) -> Roster {
    let (mut roster, complaints, listing) = shelved::at_start(file, state_dir);
    problems.set_all(WHITELIST, listing);
    for complaint in complaints {
        warn!("{complaint}");
    }
    for name in known {
        drop(roster.resolved(&name.name, name.addresses()));
    }
    roster
}

/// What the kernel was found to hold.
struct InKernel {
    held: Held,
    /// Whom the original script's chains trust.
    trust: Vec<Trust>,
    /// For the history.
    how: String,
}

/// Looks what the kernel holds, whoever has put it there.
fn look(
    firewall: &mut dyn Backend,
    former: &mut [Former],
    roster: &Roster,
    memory: &Memory,
) -> Result<InKernel, FirewallError> {
    // Who is trusted is for file and store to say, not for the kernel.
    let found = firewall.observe_chains(&[Chain::Filter, Chain::Banned])?;
    let nothing = found.is_none() && former.is_empty();
    let formers: Result<Vec<_>, _> = former.iter_mut().map(Former::observe).collect();
    let (mut held, mut trust) = (Held::default(), Vec::new());
    for found in found.into_iter().chain(formers?) {
        trust.extend(import_trust(&found, roster, memory));
        held.add(found);
    }
    let how = if nothing {
        "installed".to_owned()
    } else {
        format!("found {}", in_words(held.members.len()))
    };
    Ok(InKernel { held, trust, how })
}

/// The gates that are guarded no more since the policy does not have them, in words.
fn removed_gates(policy: &Policy, held: &HashSet<GateName>) -> Option<String> {
    let gone = held.iter().filter(|name| policy.gate(name).is_none());
    let mut gone: Vec<&str> = gone.map(GateName::as_str).collect();
    gone.sort_unstable();
    match gone[..] {
        [] => None,
        [one] => Some(format!(
            "gate {one} is in the policy no more: its rules are removed"
        )),
        _ => Some(format!(
            "gates {} are in the policy no more: their rules are removed",
            gone.join(", ")
        )),
    }
}

/// The gates that are installed for the first time. What the original script has in the place of one
/// guards IPv4 alone, and other ports perhaps.
fn new_gates(policy: &Policy, held: &HashSet<GateName>) -> Vec<GateName> {
    let names = policy.gates.iter().map(|gate| &gate.name);
    names
        .filter(|name| !held.contains(*name))
        .cloned()
        .collect()
}

/// All that is known at a start.
pub(super) struct Known {
    /// The addresses of this host.
    pub(super) own: Vec<IpAddr>,
    /// What the names of gates stand for.
    pub(super) gates: Vec<(GateName, Vec<IpAddr>)>,
    /// What the file says.
    pub(super) whitelist: Vec<(IpNet, String)>,
    /// Trust until reboot.
    pub(super) trust: Vec<Trust>,
    /// What the kernel holds.
    pub(super) found: Held,
    /// What the store remembers.
    pub(super) remembered: Remembered,
    /// Stop commands that are owed.
    pub(super) owed: Vec<Owed>,
}

/// Tells an engine that has decided nothing yet. An installation is to follow, so that only what
/// it believes then matters.
pub(super) fn take_over(engine: &mut Engine, known: Known, now: Time) {
    let once = |name: &GateName| engine.policy().gate(name).is_some_and(|gate| gate.once);
    let Merged { restore, adopt } = merge(known.found, known.remembered, once, now);
    for event in [
        Event::OwnAddresses(known.own),
        Event::GateAddresses(known.gates),
        Event::Whitelist(known.whitelist),
        Event::RuntimeTrust(known.trust),
        Event::Restore(restore),
        Event::Adopt(adopt),
        Event::Owed(known.owed),
    ] {
        drop(engine.handle(event, now));
    }
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
