//! From what the kernel holds to what it is to hold, and whether it does.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::ipset::Spec;
use super::members::{Contents, Difference, LONGEST, Shape, Sorted, difference, element};
use super::message::{Element, Header, Key};
use super::names::{Family, Role, policy_chain, set_name};
use super::rules::{Earlier, Wanted};
use super::saved::{Rule, Saved, Standing};
use super::tool::{Ended, LOCKED, Tool};
use super::verify::{Read, read_back, verify_members};
use super::{Iptables, all_chains, all_sets, now};
use crate::firewall::{Desired, FirewallError};
use crate::model::{GateName, Time};

/// Longer than Linux waits before it asks an idle peer whether it is still there
/// (`tcp_keepalive_time`, 7,200 s): by then connection tracking has seen the session.
const EARLIER_LIFETIME: Duration = Duration::from_secs(7500);
/// The rules are written again this often if the lock is held or they change meanwhile.
const TRIES: usize = 2;
/// What was installed last.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) gates: Vec<GateName>,
    pub(super) sets: Vec<Spec>,
    pub(super) families: Vec<(Family, Wanted, Read)>,
}

/// A set as it has to be.
pub(super) fn spec(gate: &GateName, role: Role) -> Spec {
    Spec {
        name: set_name(gate, role),
        kind: role.kind(),
        family: role.family(),
    }
}

/// What there is before an installation.
struct Before {
    saved: Vec<(Family, Saved)>,
    headers: Vec<Header>,
    own: Vec<GateName>,
}

impl Before {
    fn header(&self, set: &str) -> Option<&Header> {
        self.headers.iter().find(|header| header.name == set)
    }

    /// Whether there are chains of the gate already.
    fn is_new(&self, gate: &GateName) -> bool {
        let policy = policy_chain(gate);
        !self.saved.iter().any(|(_, saved)| saved.has_chain(&policy))
    }
}

pub(super) fn install(backend: &mut Iptables, desired: &Desired) -> Result<(), FirewallError> {
    let then = now();
    backend.has_installed = true;
    let sorted = Sorted::new(desired)?;
    let before = Before {
        saved: backend.saved()?,
        headers: backend.ipset.headers()?,
        own: Vec::new(),
    };
    let own = backend.own_gates(&before.saved, &before.headers);
    let before = Before { own, ..before };
    refuse_foreign(backend, desired, &before)?;
    let earlier = earlier(backend, desired, &before)?;
    let sets = specs(desired, &earlier);
    refuse_other_types(&sets, &before)?;

    let removals = fill(backend, desired, &sets, &sorted, &before, then)?;
    let gates: Vec<GateName> = desired.gates.iter().map(|g| g.name.clone()).collect();
    let mut families = Vec::new();
    for (family, _) in &before.saved {
        let with_earlier = |gate| {
            let of_family = |role: Role| sets.iter().any(|(spec, _)| spec.name == name(gate, role));
            let earlier = Earlier {
                session: of_family(Role::Session(*family)),
                grace: of_family(Role::Grace(*family)),
            };
            (gate, earlier)
        };
        let gates: Vec<_> = desired.gates.iter().map(with_earlier).collect();
        let wanted = Wanted::new(*family, &gates);
        let read = write_rules(backend, *family, &wanted, &before)?;
        families.push((*family, wanted, read));
    }
    for (set, keys) in removals {
        backend.ipset.delete_all(&set, &keys)?;
    }
    let wanted: HashSet<&str> = sets.iter().map(|(spec, _)| spec.name.as_str()).collect();
    for gate in before.own.iter().chain(&gates) {
        for set in all_sets(gate).filter(|set| !wanted.contains(set.as_str())) {
            if before.header(&set).is_some() {
                backend.ipset.destroy(&set)?;
            }
        }
    }
    let specs = sets.into_iter().map(|(spec, _)| spec).collect();
    backend.image = Some(Image {
        gates,
        sets: specs,
        families,
    });
    backend.shapes = Some(shapes(desired));
    verify_members(backend, desired, &sorted, then)
}

fn name(gate: &crate::firewall::GateRules, role: Role) -> String {
    set_name(&gate.name, role)
}

fn shapes(desired: &Desired) -> HashMap<GateName, Shape> {
    let shape = |gate: &crate::firewall::GateRules| Shape {
        ipv6_prefix: gate.ipv6_prefix,
        once: gate.once,
    };
    let gates = desired.gates.iter();
    gates.map(|gate| (gate.name.clone(), shape(gate))).collect()
}

fn refuse_foreign(
    backend: &Iptables,
    desired: &Desired,
    before: &Before,
) -> Result<(), FirewallError> {
    for gate in &desired.gates {
        let has_sets = backend.has_sets(&gate.name, &before.headers);
        for (_, saved) in &before.saved {
            if let Standing::Foreign(strange) = saved.standing(&gate.name, has_sets) {
                return Err(FirewallError::Foreign {
                    object: format!("chains of gate {}", gate.name),
                    strange,
                });
            }
        }
    }
    Ok(())
}

fn refuse_other_types(sets: &[(Spec, Role)], before: &Before) -> Result<(), FirewallError> {
    for (spec, _) in sets {
        match before.header(&spec.name) {
            Some(found) if !spec.is_kin(found) => {
                let inet = |family: u8| if family == 10 { "inet6" } else { "inet" };
                return Err(FirewallError::Foreign {
                    object: format!("set {}", spec.name),
                    strange: format!(
                        "it is a {} of family {}, not a {} of family {}",
                        found.kind,
                        inet(found.family),
                        spec.kind.name(),
                        inet(spec.family as u8)
                    ),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Which sets for sessions from before there have to be: new ones for a gate that was not there,
/// and those that still have elements.
fn earlier(
    backend: &mut Iptables,
    desired: &Desired,
    before: &Before,
) -> Result<Vec<(GateName, Role)>, FirewallError> {
    let mut needed = Vec::new();
    for gate in &desired.gates {
        let is_new = before.is_new(&gate.name);
        for family in Family::ALL {
            let of_family = |(g, peer): &(GateName, std::net::SocketAddr)| {
                *g == gate.name && Family::of(peer.ip().to_canonical().into()) == family
            };
            let mut is_used = |role: Role| -> Result<bool, FirewallError> {
                let set = set_name(&gate.name, role);
                Ok(before.header(&set).is_some() && !backend.ipset.elements(&set)?.is_empty())
            };
            let has_peers = is_new && desired.sessions.iter().any(of_family);
            let session = Role::Session(family);
            if gate.hook.input() && (has_peers || is_used(session)?) {
                needed.push((gate.name.clone(), session));
            }
            let grace = Role::Grace(family);
            let is_first = is_new && before.own.is_empty();
            if gate.hook.forward() && (is_first || is_used(grace)?) {
                needed.push((gate.name.clone(), grace));
            }
        }
    }
    Ok(needed)
}

fn specs(desired: &Desired, earlier: &[(GateName, Role)]) -> Vec<(Spec, Role)> {
    let mut specs = Vec::new();
    for gate in &desired.gates {
        let needed = |role: &Role| match role {
            Role::Members(..) => true,
            Role::Open(_) => gate.once,
            Role::Session(_) | Role::Grace(_) => {
                earlier.iter().any(|(g, r)| g == &gate.name && r == role)
            }
        };
        let roles = Role::all().filter(needed);
        specs.extend(roles.map(|role| (spec(&gate.name, role), role)));
    }
    specs
}

/// Makes the sets that are missing and puts in what they lack. What is to be taken out of them is
/// returned: that comes last.
fn fill(
    backend: &mut Iptables,
    desired: &Desired,
    sets: &[(Spec, Role)],
    sorted: &Sorted,
    before: &Before,
    now: Time,
) -> Result<Vec<(String, Vec<Key>)>, FirewallError> {
    let none = Contents::new();
    let mut removals = Vec::new();
    backend.long.clear();
    for (spec, role) in sets {
        let wanted = sorted.sets.get(&spec.name).unwrap_or(&none);
        let found = before.header(&spec.name);
        if let Role::Session(_) | Role::Grace(_) = role {
            if found.is_none() {
                backend.ipset.create(spec)?;
                let elements = earlier_elements(desired, spec, *role, now);
                backend.ipset.add_all(&spec.name, &elements)?;
            }
            continue;
        }
        let held = match found {
            Some(_) => backend.ipset.elements(&spec.name)?,
            None => Vec::new(),
        };
        match found {
            Some(found) if !backend.ipset.fits(spec, found) => {
                let Difference { put, .. } = difference(&[], wanted, now);
                backend.ipset.replace(spec, &put)?;
            }
            found => {
                if found.is_none() {
                    backend.ipset.create(spec)?;
                }
                let Difference { put, remove } = difference(&held, wanted, now);
                backend.ipset.add_all(&spec.name, &put)?;
                if !remove.is_empty() {
                    removals.push((spec.name.clone(), remove));
                }
            }
        }
        for (net, (left, reason)) in wanted {
            let element = element(Key::Net(*net), *left, reason, now);
            if element.timeout == LONGEST {
                // What was found may have been armed long ago.
                let armed = held.iter().find(|e| e.key == element.key);
                let kept = armed.map_or(element.timeout, |e| e.timeout);
                let passed = u64::from(LONGEST - kept.min(LONGEST));
                let at = Time(now.0.saturating_sub(passed * 1_000_000_000));
                backend.remember(&spec.name, *net, &element, at);
            }
        }
    }
    Ok(removals)
}

fn earlier_elements(desired: &Desired, spec: &Spec, role: Role, now: Time) -> Vec<Element> {
    let element = |key| element(key, Some(EARLIER_LIFETIME), "", now);
    if let Role::Grace(family) = role {
        return family.halves().map(|net| element(Key::Net(net))).into();
    }
    let peers = desired.sessions.iter().filter(|(gate, peer)| {
        let family = Family::of(peer.ip().to_canonical().into());
        family == role.family() && set_name(gate, role) == spec.name
    });
    peers
        .map(|(_, peer)| element(Key::Peer(peer.ip().to_canonical(), peer.port())))
        .collect()
}

/// Rules that have to go from chains that are not ours: our own jumps, and those that led to
/// chains of the original script.
fn to_remove(saved: &Saved, gates: &[GateName]) -> Vec<Rule> {
    let chains = all_chains(gates);
    let policies: Vec<String> = gates.iter().map(policy_chain).collect();
    saved
        .rules
        .iter()
        .filter(|rule| !chains.contains(&rule.chain))
        .filter(|rule| rule.is_ours() || rule.target().is_some_and(|t| policies.contains(&t)))
        .cloned()
        .collect()
}

/// Brings the rules of one family to what is wanted, unless they are that already, and reads
/// them back.
fn write_rules(
    backend: &mut Iptables,
    family: Family,
    wanted: &Wanted,
    before: &Before,
) -> Result<Read, FirewallError> {
    let Some((_, tool)) = backend.tools.iter().find(|(f, _)| *f == family) else {
        return Ok(Read::default());
    };
    if let Some(tables) = &mut backend.tables {
        tables.make(family)?;
    }
    let mut failure = None;
    for _ in 0..TRIES {
        let saved = Saved::parse(&tool.read()?);
        let read = Read::of(wanted, &saved);
        let known = backend.image.iter().flat_map(|image| &image.families);
        for (f, was_wanted, was_read) in known {
            let strays = to_remove(&saved, &before.own).len() != wanted.base.len();
            if *f == family && was_wanted == wanted && *was_read == read && !strays {
                return Ok(read);
            }
        }
        let mut gates = before.own.clone();
        gates.extend(saved.gates().into_iter().filter(|gate| {
            wanted.chains.contains(&policy_chain(gate)) && !before.own.contains(gate)
        }));
        let gone: Vec<String> = all_chains(&before.own)
            .into_iter()
            .filter(|chain| saved.has_chain(chain) && !wanted.chains.contains(chain))
            .collect();
        let ended = tool.write(&wanted.input(&to_remove(&saved, &gates), &gone))?;
        if ended.code == Some(0) {
            let saved = Saved::parse(&tool.read()?);
            return read_back(wanted, &saved);
        }
        // Held by somebody else, or somebody has changed what we had read.
        failure = Some(ended);
    }
    let takes_lock = backend.tables.is_none();
    Err(match failure {
        Some(ended) => refused(ended, tool, takes_lock, "write the rules with"),
        None => FirewallError::Unverified("no rules were written".to_owned()),
    })
}

/// Only the legacy programs take the lock; the others have the same code for other things.
fn refused(ended: Ended, tool: &Tool, takes_lock: bool, operation: &'static str) -> FirewallError {
    if takes_lock && ended.code == Some(LOCKED) {
        return FirewallError::Locked {
            program: tool.restore.display().to_string(),
            tries: TRIES,
        };
    }
    ended.into_error(operation, &tool.restore)
}

pub(super) fn remove_rules(backend: &mut Iptables, own: &[GateName]) -> Result<(), FirewallError> {
    for (family, tool) in &backend.tools {
        let mut failure = None;
        for _ in 0..TRIES {
            let saved = Saved::parse(&tool.read()?);
            let gone: Vec<String> = all_chains(own)
                .into_iter()
                .filter(|chain| saved.has_chain(chain))
                .collect();
            let remove = to_remove(&saved, own);
            if gone.is_empty() && remove.is_empty() {
                failure = None;
                break;
            }
            let ended = tool.write(&Wanted::default().input(&remove, &gone))?;
            if ended.code == Some(0) {
                failure = None;
                break;
            }
            failure = Some(ended);
        }
        if let Some(ended) = failure {
            let takes_lock = backend.tables.is_none();
            return Err(refused(ended, tool, takes_lock, "remove the rules with"));
        }
        if let Some(tables) = &mut backend.tables {
            let generation = tables.generation()?;
            if Saved::parse(&tool.read()?).is_bare() {
                tables.delete(*family, generation)?;
            }
        }
    }
    Ok(())
}
