//! From what the kernel holds to what it is to hold, and whether it does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::ipset::Spec;
use super::members::{
    Contents, Difference, LONGEST, Put, Shape, Sorted, difference, element, members,
};
use super::message::{Element, Header, Key};
use super::names::{Family, Role, parse_set, policy_chain, set_name};
use super::rules::{Earlier, Wanted};
use super::saved::{Saved, Standing};
use super::told::Told;
use super::tool::PATIENCE;
use super::verify::{Read, verify_members};
use super::write::{Made, write_rules};
use super::{Iptables, all_sets, now};
use crate::firewall::{Desired, FirewallError};
use crate::model::{Chain, GateName, Time};

/// Longer than Linux waits before it asks an idle peer whether it is still there
/// (`tcp_keepalive_time`, 7,200 s): by then connection tracking has seen the session.
const EARLIER_LIFETIME: Duration = Duration::from_secs(7500);
/// What was installed last.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) gates: Vec<GateName>,
    pub(super) sets: Vec<Spec>,
    pub(super) families: Arc<Vec<(Family, Wanted, Read)>>,
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
pub(super) struct Before {
    saved: Vec<(Family, Saved)>,
    headers: Vec<Header>,
    pub(super) own: Vec<GateName>,
    nothing: Saved,
}

impl Before {
    fn read(backend: &mut Iptables, until: Instant) -> Result<Self, FirewallError> {
        let saved = backend.saved(until)?;
        let headers = backend.ipset.headers()?;
        Ok(Self {
            own: backend.own_gates(&saved, &headers),
            saved,
            headers,
            nothing: Saved::default(),
        })
    }

    fn header(&self, set: &str) -> Option<&Header> {
        self.headers.iter().find(|header| header.name == set)
    }

    pub(super) fn saved(&self, family: Family) -> &Saved {
        let of_family = self.saved.iter().find(|(f, _)| *f == family);
        of_family.map_or(&self.nothing, |(_, saved)| saved)
    }

    /// Whether nothing has guarded the gate in that family: the original script knew IPv4 alone.
    fn is_new(&self, gate: &GateName, family: Family) -> bool {
        !self.saved(family).has_chain(&policy_chain(gate))
    }

    /// Whether no gate of ours was there in that family, so that nobody has tracked connections.
    fn is_first(&self, family: Family) -> bool {
        self.own.iter().all(|gate| self.is_new(gate, family))
    }
}

pub(super) fn install(backend: &mut Iptables, desired: &Desired) -> Result<(), FirewallError> {
    let then = now();
    backend.has_installed = true;
    if let Some(legacy) = &mut backend.legacy {
        legacy.forget();
    }
    let sorted = Sorted::new(desired)?;
    let until = Instant::now() + PATIENCE;
    let before = Before::read(backend, until)?;
    let left = until.saturating_duration_since(Instant::now());
    refuse_foreign(backend, desired, &before)?;
    let earlier = earlier(backend, desired, &before)?;
    let sets = specs(desired, &earlier);
    refuse_other_sets(backend, &sets, &before)?;
    ask_about_unseen(backend, desired, &sorted, &before)?;
    let knew = !backend.told.is_empty();
    // Even if it fails on the way.
    backend.told.desired(&sorted, then);

    let gates: Vec<GateName> = desired.gates.iter().map(|g| g.name.clone()).collect();
    let mut made = Made::default();
    let mut write = || -> Result<_, FirewallError> {
        let removals = fill(backend, desired, &sets, &sorted, &before, then, &mut made)?;
        // A million members are filled in for seconds, which are none of the programs'.
        let until = Instant::now() + left;
        let mut families = Vec::new();
        for (family, _) in &before.saved {
            let wanted = wanted(*family, desired, &sets);
            let read = write_rules(backend, (*family, &wanted), &before, &mut made, until)?;
            families.push((*family, wanted, read));
        }
        Ok((removals, families))
    };
    let (removals, families) = match write() {
        Ok(written) => written,
        Err(error) => {
            // Where the same rules were there and somebody has taken them out, half of them are
            // better than none.
            let is_repair = backend.image.as_ref().is_some_and(|image| {
                image
                    .families
                    .iter()
                    .all(|(family, was, _)| *was == wanted(*family, desired, &sets))
            });
            if !is_repair {
                made.undo(backend, &before, &gates);
            }
            return Err(error);
        }
    };
    backend.image = Some(Image {
        gates: gates.clone(),
        sets: sets.iter().map(|(spec, _)| spec.clone()).collect(),
        families: Arc::new(families),
    });
    backend.shapes = Some(shapes(desired));
    for (set, keys) in removals {
        backend.ipset.delete_all(&set, &keys)?;
    }
    if knew {
        backend.told = Told::default();
        backend.told.desired(&sorted, then);
    }
    let is_wanted = |set: &String, net: &IpNet| {
        let contents = sorted.sets.get(set);
        contents.is_some_and(|contents| contents.contains_key(net))
    };
    backend.long.retain(|(set, net), _| is_wanted(set, net));
    let wanted: HashSet<&str> = sets.iter().map(|(spec, _)| spec.name.as_str()).collect();
    let all = before.own.iter().chain(&gates).flat_map(all_sets);
    let over = all.filter(|set| !wanted.contains(set.as_str()) && before.header(set).is_some());
    let mut over: Vec<String> = over.collect();
    over.dedup();
    // Somebody else's rule may refer to one: that is for `verify` to say.
    let left = backend.ipset.destroy_all(&over);
    backend.leftovers = left.into_iter().map(|(set, _)| set).collect();
    verify_members(backend, desired, &sorted, then)
}

fn wanted(family: Family, desired: &Desired, sets: &[(Spec, Role)]) -> Wanted {
    let with_earlier = |gate| {
        let of_family = |role: Role| sets.iter().any(|(spec, _)| spec.name == name(gate, role));
        let earlier = Earlier {
            session: of_family(Role::Session(family)),
            grace: of_family(Role::Grace(family)),
        };
        (gate, earlier)
    };
    let gates: Vec<_> = desired.gates.iter().map(with_earlier).collect();
    Wanted::new(family, &gates)
}

/// Fails if a set of a gate that stays holds a ban or an acceptance that would have to go and of
/// which the caller does not know; it does then.
fn ask_about_unseen(
    backend: &mut Iptables,
    desired: &Desired,
    sorted: &Sorted,
    before: &Before,
) -> Result<(), FirewallError> {
    let mut unseen = Vec::new();
    for header in &before.headers {
        let set = &header.name;
        let Some((gate, role)) = parse_set(set) else {
            continue;
        };
        let chain = match role {
            Role::Members(chain @ (Chain::Banned | Chain::Filter), _) => chain,
            Role::Open(_) => Chain::Filter,
            _ => continue,
        };
        let stays = desired.gates.iter().any(|rules| rules.name == gate);
        if !stays || !spec(&gate, role).is_kin(header) {
            continue;
        }
        let wanted = sorted.sets.get(set);
        let mut held = backend.ipset.elements(set)?;
        let now = now();
        held.retain(|element| match element.key {
            Key::Net(net) if wanted.is_some_and(|wanted| wanted.contains_key(&net)) => false,
            key => !backend.told.has(set, key, now),
        });
        backend.told.found(set, &held, now);
        unseen.extend(members(&gate, chain, role.family(), &held, now));
    }
    if unseen.is_empty() {
        return Ok(());
    }
    Err(FirewallError::Unseen(unseen))
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

/// A set with our name and somebody else's content is none of ours; one with other settings may
/// be, if chains of ours are there with it.
fn refuse_other_sets(
    backend: &Iptables,
    sets: &[(Spec, Role)],
    before: &Before,
) -> Result<(), FirewallError> {
    for (spec, _) in sets {
        let Some(found) = before.header(&spec.name) else {
            continue;
        };
        let inet = |family: u8| if family == 10 { "inet6" } else { "inet" };
        let strange = if !spec.is_kin(found) {
            format!(
                "it is a {} of family {}, not a {} of family {}",
                found.kind,
                inet(found.family),
                spec.kind.name(),
                inet(spec.family as u8)
            )
        } else if !backend.ipset.has_our_shape(spec, found) && !has_our_chains(spec, before) {
            "it has other extensions than timeout and comment, and no chain of ours uses it".into()
        } else {
            continue;
        };
        return Err(FirewallError::Foreign {
            object: format!("set {}", spec.name),
            strange,
        });
    }
    Ok(())
}

fn has_our_chains(spec: &Spec, before: &Before) -> bool {
    parse_set(&spec.name).is_some_and(|(gate, _)| {
        let mut saved = before.saved.iter();
        saved.any(|(_, saved)| saved.standing(&gate, false) == Standing::Ours)
    })
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
        for family in Family::ALL {
            let is_new = before.is_new(&gate.name, family);
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
            let is_first = is_new && before.is_first(family);
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
    then: Time,
    made: &mut Made,
) -> Result<Vec<(String, Vec<Key>)>, FirewallError> {
    let none = Contents::new();
    let mut removals = Vec::new();
    for (spec, role) in sets {
        let found = before.header(&spec.name);
        if found.is_none() {
            backend.ipset.create(spec)?;
            made.sets.push(spec.name.clone());
        }
        if let Role::Session(_) | Role::Grace(_) = role {
            if found.is_none() {
                let elements = earlier_elements(desired, spec, *role, now());
                backend.ipset.add_all(&spec.name, elements)?;
            }
            continue;
        }
        let wanted = sorted.sets.get(&spec.name).unwrap_or(&none);
        let held = backend.ipset.elements(&spec.name)?;
        // Programs may have taken their time, and a million members take some.
        let looked = now();
        let element = |put: &Put| put.element(then, now());
        if found.is_some_and(|found| !backend.ipset.fits(spec, found)) {
            let Difference { put, .. } = difference(&[], wanted, then, looked);
            backend
                .ipset
                .replace(spec, put.iter().filter_map(element))?;
        } else {
            let Difference { put, mut remove } = difference(&held, wanted, then, looked);
            backend
                .ipset
                .add_all(&spec.name, put.iter().filter_map(element))?;
            // What has come since we asked is asked about the next time.
            remove.retain(|key| backend.told.has(&spec.name, *key, looked));
            if !remove.is_empty() {
                removals.push((spec.name.clone(), remove));
            }
        }
        remember_long(backend, &spec.name, wanted, &held, then, looked);
    }
    Ok(removals)
}

/// Keeps in mind which members last longer than the kernel can count.
fn remember_long(
    backend: &mut Iptables,
    set: &str,
    wanted: &Contents,
    held: &[Element],
    then: Time,
    now: Time,
) {
    for (net, (left, reason)) in wanted {
        let left = left.map(|left| left.saturating_sub(now.since(then)));
        let element = element(Key::Net(*net), left, reason, now);
        if element.timeout != LONGEST {
            backend.long.remove(&(set.to_owned(), *net));
            continue;
        }
        // What was found may have been armed long ago.
        let armed = held.iter().find(|e| e.key == element.key);
        let kept = armed.map_or(element.timeout, |e| e.timeout);
        let passed = u64::from(LONGEST - kept.min(LONGEST));
        let at = Time(now.0.saturating_sub(passed * 1_000_000_000));
        backend.remember(set, *net, &element, at);
    }
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
