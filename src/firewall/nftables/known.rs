//! What has to be known to change members, and the messages for one change.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::decode::{Held, intervals};
use super::encode::{self, ElementVerb, Step};
use super::fill;
use super::kernel::{Failure, Kernel};
use super::members::{self, Place, is_masked};
use super::names::{Family, Role, parse_set, set_name};
use super::segments::{
    self, Difference, Entry, difference, flatten, flatten_sorted, to_nets, window,
};
use super::told::outside;
use crate::firewall::{Change, FirewallError};
use crate::model::{Chain, GateName, Lifetime, NetMap};

/// What has to be known to change members.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How long IPv6 members of each gate's filter chain are.
    pub(super) prefixes: HashMap<GateName, u8>,
    /// A copy of the networks: they overlap, and the kernel's intervals do not.
    pub(super) nets: BTreeMap<(GateName, Role), NetMap<Entry>>,
}

/// What is thought to be in the kernel already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// Not the address that is to be added: it need not be taken out before.
    New,
    /// What we know.
    Known,
    /// Nothing of what we know: networks are all written anew.
    Nothing,
}

/// The former entries of networks, to be put back if the kernel refuses, newest last.
pub(super) type Undo = Vec<((GateName, Role), IpNet, Option<Entry>)>;

impl Known {
    /// Reads it from the kernel: what somebody else installed.
    pub(super) fn read(kernel: &mut Kernel) -> Result<Self, Failure> {
        let mut known = Self::default();
        for set in kernel.sets()? {
            let Some((gate, role)) = parse_set(&set.name) else {
                continue;
            };
            match role {
                Role::Host(Chain::Filter, Family::V6) => {
                    let prefix = if is_masked(&set.comment) { 64 } else { 128 };
                    known.prefixes.insert(gate, prefix);
                }
                Role::Net(_, family) => {
                    let reading = kernel.read(&set)?;
                    known.absorb(gate, role, family, reading.held, reading.at);
                }
                _ => {}
            }
        }
        Ok(known)
    }

    /// Takes over networks that somebody else has put into the kernel, so that they stay when all
    /// are written anew.
    pub(super) fn read_foreign(&mut self, kernel: &mut Kernel) -> Result<(), Failure> {
        for set in kernel.sets()? {
            if let Some((gate, role @ Role::Net(_, family))) = parse_set(&set.name) {
                let reading = kernel.read(&set)?;
                self.absorb(gate, role, family, reading.held, reading.at);
            }
        }
        Ok(())
    }

    fn absorb(&mut self, gate: GateName, role: Role, family: Family, held: Vec<Held>, at: Instant) {
        let map = self.nets.entry((gate, role)).or_default();
        // Clocks drift apart, so that deadlines are not compared.
        let is_ours = |ours: &Entry, found: &Entry| {
            ours.reason == found.reason
                && ours.end.is_some() == found.end.is_some()
                && ours.end.is_none_or(|end| end > at)
        };
        let foreign = outside(family, intervals(family, held, at), map, is_ours);
        for (net, entry) in to_nets(family, foreign) {
            map.insert(net, entry);
        }
    }

    /// How long IPv6 members of the gate's filter chain are.
    pub(super) fn prefix(&self, gate: &GateName) -> u8 {
        self.prefixes.get(gate).copied().unwrap_or(128)
    }

    /// The messages for one change; the copy changes with it.
    pub(super) fn steps(
        &mut self,
        change: &Change,
        guess: Guess,
        can_destroy: bool,
        undo: &mut Undo,
    ) -> Result<Vec<Step>, FirewallError> {
        let (gate, chain, net) = match change {
            Change::Put(member) => (&member.gate, member.chain, member.net),
            Change::Remove { gate, chain, net } => (gate, *chain, *net),
        };
        // A gate nobody knows has no sets, which the kernel will say.
        let prefix = self.prefix(gate);
        let Some(place) = Place::of(chain, net, prefix) else {
            return match change {
                Change::Put(_) => Err(members::unplaceable(gate, chain, net)),
                // What cannot be there need not be removed.
                Change::Remove { .. } => Ok(Vec::new()),
            };
        };
        let now = Instant::now();
        let put = match change {
            Change::Put(member) => {
                Some(member).filter(|m| m.remaining != Lifetime::For(Duration::ZERO))
            }
            Change::Remove { .. } => None,
        };
        if let Some(key) = place.key() {
            let name = members::name_of(gate, place);
            let left = put.map(|member| members::left(place.role(), member.remaining));
            if let (Guess::New, Some(member), Some(left)) = (guess, put, left) {
                return Ok(vec![encode::add_new(&name, &key, left, &member.reason)]);
            }
            // Adding what is there would change neither its deadline nor its reason.
            let mut steps = fill::delete_keys(&name, vec![key.clone()], can_destroy);
            if let (Some(member), Some(left)) = (put, left) {
                let element = encode::element(key, left, &member.reason);
                steps.extend(encode::elements(ElementVerb::Add, &name, vec![element]));
            }
            return Ok(steps);
        }
        let entry = put.map(|member| members::entry(place.role(), member, now));
        let rewrite = guess == Guess::Nothing;
        Ok(self.net_steps(gate, place.role(), net, entry, rewrite, now, undo))
    }

    #[allow(clippy::too_many_arguments)]
    fn net_steps(
        &mut self,
        gate: &GateName,
        role: Role,
        net: IpNet,
        entry: Option<Entry>,
        rewrite: bool,
        now: Instant,
        undo: &mut Undo,
    ) -> Vec<Step> {
        let family = Family::of(net);
        let name = set_name(gate, role);
        let set = (gate.clone(), role);
        let map = self.nets.entry(set.clone()).or_default();
        let window = window(map, net);
        // What ended so recently that the kernel may still have it counts as there before.
        let since = now.checked_sub(segments::DOUBT).unwrap_or(now);
        let before = flatten(map, window, since);
        let over: Vec<IpNet> = map
            .within(window)
            .filter(|(_, entry)| entry.end.is_some_and(|end| end <= since))
            .map(|(net, _)| net)
            .collect();
        for net in over {
            map.remove(net);
        }
        let old = match entry {
            Some(entry) => map.insert(net, entry),
            None => map.remove(net),
        };
        undo.push((set, net, old));
        let after = flatten(map, window, now);
        match difference(&before, &after, now) {
            Difference::Steps(gone, come) if !rewrite => {
                let mut steps = fill::delete_segments(&name, family, &gone);
                steps.extend(fill::add_segments(&name, family, &come, now));
                steps
            }
            _ => fill::rewrite(&name, family, &flatten_sorted(map.iter()), now),
        }
    }

    /// Undoes what `steps` did to the copy.
    pub(super) fn put_back(&mut self, undo: Undo) {
        for (set, net, entry) in undo.into_iter().rev() {
            let map = self.nets.entry(set).or_default();
            match entry {
                Some(entry) => map.insert(net, entry),
                None => map.remove(net),
            };
        }
    }
}
