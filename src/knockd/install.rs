//! What the kernel holds, what the store remembers and what the files say, put together and installed
//! in one transaction: a start, and all that `knockd setup` does.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use tracing::{info, warn};

use crate::engine::{Engine, Event, Owed, Record, TrustEdit, What};
use crate::firewall::choose::{self, Chosen, Former};
use crate::firewall::{Backend, FirewallError, Observed};
use crate::links::Links;
use crate::model::{Chain, GateName, KnockName, Time};
use crate::policy::Policy;
use crate::store::{KnownName, Readers};
use crate::totp::Used;

use super::daemon::now;
use super::force::put_in_force;
use super::guard;
use super::memory::Memory;
use super::merge::{Held, Merged, Remembered, merge};
use super::policies;
use super::problems::{FORMER, Problems, WHITELIST};
use super::recall::{Recalled, Trust, in_words, recall, retention};
use super::roster::Roster;
use super::shelved;
use super::start::StartError;
use super::wants::gate_addresses;

/// What is known before anything is decided.
pub(super) struct Basis {
    pub(super) engine: Engine,
    pub(super) firewall: Box<dyn Backend>,
    pub(super) backend_reason: String,
    pub(super) links: Links,
    pub(super) roster: Roster,
    pub(super) memory: Memory,
    pub(super) known: Vec<KnownName>,
    pub(super) used: BTreeMap<KnockName, Used>,
    /// What was guarded until now and is no more, in words.
    pub(super) removed: Option<String>,
    pub(super) problems: Problems,
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
    let hold = match desired.members.len() {
        1 => "1 member holds".to_owned(),
        members => format!("{members} members hold"),
    };
    let how = format!("{how}; {hold}");
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
