//! From what the kernel holds and what it is to hold, the messages that lead there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::decode::{ChainInfo, Held, RuleInfo, SetInfo, intervals};
use super::encode::{self, Element, ElementVerb, POLICY_ACCEPT, PRIORITY, Step, fitting_comment};
use super::members::{Keys, Sorted, fits};
use super::names::{
    FORWARD, Family, INPUT, Role, SetSpec, address_number, is_own_chain, key_bytes, member_chain,
    parse_set, policy_chain, set_spec,
};
use super::rules::{Earlier, Rule, rules};
use super::segments::{Difference, Entry, Segment, about_the_same, difference, flatten_sorted};
use crate::firewall::{Desired, GateRules};
use crate::model::{Chain, GateName};

/// Longer than Linux waits before it asks an idle peer whether it is still there
/// (`tcp_keepalive_time`, 7,200 s): by then connection tracking has seen the session.
const EARLIER_LIFETIME: Duration = Duration::from_secs(7500);
/// `NF_INET_LOCAL_IN`.
const LOCAL_IN: u32 = 1;
/// `NF_INET_FORWARD`.
const THROUGH: u32 = 2;
/// How many elements are renewed in one go.
const RENEWALS: usize = 1_000;

/// The skeleton as the kernel has it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) generation: u32,
    /// The table's flags; `None` if there is no table.
    pub(super) table: Option<u32>,
    pub(super) chains: Vec<ChainInfo>,
    pub(super) sets: Vec<SetInfo>,
    pub(super) rules: Vec<RuleInfo>,
}

impl State {
    pub(super) fn chain(&self, name: &str) -> Option<&ChainInfo> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    pub(super) fn set(&self, name: &str) -> Option<&SetInfo> {
        self.sets.iter().find(|set| set.name == name)
    }
}

/// The skeleton as it has to be.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// Name and, of base chains, the hook.
    pub(super) chains: Vec<(String, Option<u32>)>,
    pub(super) sets: Vec<(GateName, Role, SetSpec)>,
    pub(super) rules: Vec<Rule>,
}

impl Image {
    /// `earlier` says, for each gate, which sets for sessions from before it needs.
    pub(super) fn new(gates: &[(&GateRules, Earlier)]) -> Self {
        let mut chains = Vec::new();
        let mut sets = Vec::new();
        if gates.iter().any(|(gate, _)| gate.hook.input()) {
            chains.push((INPUT.to_owned(), Some(LOCAL_IN)));
        }
        if gates.iter().any(|(gate, _)| gate.hook.forward()) {
            chains.push((FORWARD.to_owned(), Some(THROUGH)));
        }
        for (gate, earlier) in gates {
            chains.push((policy_chain(&gate.name), None));
            chains.extend(Chain::ALL.map(|chain| (member_chain(&gate.name, chain), None)));
            sets.extend(
                Role::all()
                    .filter(|role| match role {
                        Role::Session(Family::V4) => earlier.v4,
                        Role::Session(Family::V6) => earlier.v6,
                        Role::Grace => earlier.grace,
                        _ => true,
                    })
                    .map(|role| {
                        let spec = set_spec(&gate.name, role, gate.once, gate.ipv6_prefix);
                        (gate.name.clone(), role, spec)
                    }),
            );
        }
        Self {
            chains,
            sets,
            rules: rules(gates),
        }
    }
}

/// Whether a chain as found is as it has to be, but for its policy, which can be changed.
pub(super) fn chain_fits(hook: Option<u32>, found: &ChainInfo) -> bool {
    match hook {
        None => found.hook.is_none(),
        Some(number) => found.hook == Some((number, PRIORITY)) && found.kind == "filter",
    }
}

/// Whether a chain is wholly as it has to be.
pub(super) fn chain_is_right(hook: Option<u32>, found: &ChainInfo) -> bool {
    chain_fits(hook, found) && (hook.is_none() || found.policy == Some(POLICY_ACCEPT))
}

/// The messages of an installation, in order. All in one batch if they fit; otherwise `before`
/// goes first, in as many batches as needed: it only makes sets and lets them grow, and each
/// of its groups is atomic.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) before: Vec<Vec<Step>>,
    pub(super) commit: Vec<Step>,
}

impl Plan {
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before.iter().flatten().chain(&self.commit)
    }
}

/// What `Planner` needs to know.
pub(super) struct Planner<'a> {
    pub(super) state: &'a State,
    pub(super) image: &'a Image,
    /// The elements of those of our sets that are there as they have to be.
    pub(super) held: &'a mut HashMap<String, Vec<Held>>,
    pub(super) sorted: &'a Sorted<'a>,
    pub(super) desired: &'a Desired,
    pub(super) now: Instant,
    pub(super) can_destroy: bool,
}

impl Planner<'_> {
    pub(super) fn plan(mut self) -> Plan {
        let mut plan = Plan {
            before: vec![vec![encode::new_table()]],
            commit: self.removals(),
        };
        let mut late = Vec::new();
        let image = self.image;
        for (index, (gate, role, spec)) in image.sets.iter().enumerate() {
            let found = self.state.set(&spec.name);
            let is_wrong = found.is_some_and(|found| !fits(spec, found));
            if found.is_none() || is_wrong {
                // Any number will do, as long as they differ.
                let step = encode::new_set(spec, u32::try_from(index + 1).unwrap_or(u32::MAX));
                if is_wrong {
                    late.push(step);
                } else {
                    plan.before[0].push(step);
                }
            }
            let fill = self.fill(gate, *role, &spec.name);
            if is_wrong {
                late.extend(fill.into_iter().flatten());
            } else {
                plan.before.extend(fill);
            }
        }
        plan.commit.extend(late);
        for (name, hook) in &self.image.chains {
            plan.commit.push(encode::new_chain(name, *hook));
        }
        plan.commit
            .extend(self.image.rules.iter().map(encode::new_rule));
        plan
    }

    /// Empties our chains, and deletes those chains and sets of ours that are not wanted or
    /// not as they have to be.
    fn removals(&self) -> Vec<Step> {
        let own = || self.state.chains.iter().filter(|c| is_own_chain(&c.name));
        let mut steps: Vec<Step> = own().map(|c| encode::flush_chain(&c.name)).collect();
        for chain in own() {
            let wanted = self
                .image
                .chains
                .iter()
                .find(|(name, _)| *name == chain.name);
            if !wanted.is_some_and(|(_, hook)| chain_fits(*hook, chain)) {
                steps.push(encode::delete_chain(&chain.name));
            }
        }
        for set in &self.state.sets {
            let wanted = self.image.sets.iter().find(|(.., s)| s.name == set.name);
            if parse_set(&set.name).is_some() && !wanted.is_some_and(|(.., s)| fits(s, set)) {
                steps.push(encode::delete_set(&set.name));
            }
        }
        steps
    }

    /// What brings a set's elements to where they have to be, in atomic groups.
    fn fill(&mut self, gate: &GateName, role: Role, name: &str) -> Vec<Vec<Step>> {
        let held = self.held.remove(name);
        match role {
            Role::Host(_, family) => self.fill_keys(gate, role, name, family, held),
            // Each key is a family in itself.
            Role::Open => self.fill_keys(gate, role, name, Family::V4, held),
            Role::Net(_, family) => self.fill_nets(gate, role, name, family, held),
            Role::Session(family) if held.is_none() => {
                let peers = self.desired.sessions.iter().filter(|(g, _)| g == gate);
                let list = peers
                    .filter_map(|(_, peer)| session(family, *peer))
                    .collect();
                grouped(encode::elements(ElementVerb::Add, name, list))
            }
            Role::Grace if held.is_none() => {
                let list = Family::ALL
                    .map(|family| encode::element(vec![family as u8], Some(EARLIER_LIFETIME), ""));
                grouped(encode::elements(ElementVerb::Add, name, list.into()))
            }
            Role::Session(_) | Role::Grace => Vec::new(),
        }
    }

    fn fill_keys(
        &self,
        gate: &GateName,
        role: Role,
        name: &str,
        family: Family,
        held: Option<Vec<Held>>,
    ) -> Vec<Vec<Step>> {
        let none = Keys::new();
        let wanted = self.sorted.keys.get(&(gate, role)).unwrap_or(&none);
        let held: HashMap<u128, Held> = held
            .into_iter()
            .flatten()
            .map(|held| (held.key, held))
            .collect();
        let bytes = |key| match role {
            Role::Open => vec![u8::try_from(key).unwrap_or_default()],
            _ => key_bytes(family, key),
        };
        let mut add = Vec::new();
        let mut renew = Vec::new();
        for (&key, &(left, reason)) in wanted {
            let element = || encode::element(bytes(key), left, reason);
            match held.get(&key) {
                None => add.push(element()),
                Some(held) if stays(held, left, reason) => {}
                Some(_) => renew.push((key, element())),
            }
        }
        let gone = held.keys().filter(|key| !wanted.contains_key(key));
        let gone: Vec<Vec<u8>> = gone.map(|&key| bytes(key)).collect();

        let mut groups = grouped(encode::elements(ElementVerb::Add, name, add));
        let mut renew = renew.into_iter().peekable();
        while renew.peek().is_some() {
            let some = renew.by_ref().take(RENEWALS);
            let (keys, elements): (Vec<_>, Vec<_>) =
                some.map(|(key, element)| (bytes(key), element)).unzip();
            let mut group = delete_keys(name, keys, self.can_destroy);
            group.extend(encode::elements(ElementVerb::Add, name, elements));
            groups.push(group);
        }
        groups.extend(
            gone.chunks(RENEWALS)
                .map(|keys| delete_keys(name, keys.to_vec(), self.can_destroy)),
        );
        groups
    }

    fn fill_nets(
        &self,
        gate: &GateName,
        role: Role,
        name: &str,
        family: Family,
        held: Option<Vec<Held>>,
    ) -> Vec<Vec<Step>> {
        let before = intervals(family, held.unwrap_or_default(), self.now);
        let mut after = self
            .sorted
            .nets
            .get(&(gate.clone(), role))
            .map(|nets| flatten_sorted(nets.iter()))
            .unwrap_or_default();
        for segment in &mut after {
            // What is there with about the same deadline is left as it is.
            if let Ok(at) = before.binary_search_by_key(&segment.first, |old| old.first)
                && before[at].last == segment.last
                && about_the_same(&before[at].entry, &segment.entry)
            {
                segment.entry = before[at].entry.clone();
            }
        }
        match difference(&before, &after, self.now) {
            Difference::Steps(gone, come) if gone.is_empty() => {
                grouped(add_segments(name, family, &come, self.now))
            }
            Difference::Steps(gone, come) => {
                let mut group = delete_segments(name, family, &gone);
                group.extend(add_segments(name, family, &come, self.now));
                vec![group]
            }
            Difference::Rewrite => vec![rewrite(name, family, &after, self.now)],
        }
    }
}

fn stays(held: &Held, left: Option<Duration>, reason: &str) -> bool {
    let second = Duration::from_secs(1);
    let close = match (held.left, left) {
        (None, None) => true,
        (Some(a), Some(b)) => a.abs_diff(b) <= second,
        _ => false,
    };
    close && held.comment == fitting_comment(reason)
}

fn grouped(steps: Vec<Step>) -> Vec<Vec<Step>> {
    steps.into_iter().map(|step| vec![step]).collect()
}

fn session(family: Family, peer: SocketAddr) -> Option<Element> {
    let address = peer.ip().to_canonical();
    (Family::of_address(address) == family).then(|| {
        let mut key = key_bytes(family, address_number(address));
        key.extend_from_slice(&peer.port().to_be_bytes());
        key.extend_from_slice(&[0; 2]);
        encode::element(key, Some(EARLIER_LIFETIME), "")
    })
}

/// Deletes keys that may or may not be there: where the kernel has no word for it, they are
/// added first, which changes nothing about those that are.
pub(super) fn delete_keys(name: &str, keys: Vec<Vec<u8>>, can_destroy: bool) -> Vec<Step> {
    let list = |keys: Vec<Vec<u8>>| keys.into_iter().map(encode::key_element).collect();
    if can_destroy {
        return encode::elements(ElementVerb::Destroy, name, list(keys));
    }
    let mut steps = encode::elements(ElementVerb::Add, name, list(keys.clone()));
    steps.extend(encode::elements(ElementVerb::Delete, name, list(keys)));
    steps
}

/// Adds segments that have not ended.
pub(super) fn add_segments(
    name: &str,
    family: Family,
    segments: &[Segment],
    now: Instant,
) -> Vec<Step> {
    let list = segments
        .iter()
        .filter(|segment| segment.entry.end.is_none_or(|end| end > now))
        .flat_map(|segment| {
            let left = segment.entry.end.map(|end| end - now);
            encode::interval(family, segment, left)
        })
        .collect();
    encode::elements(ElementVerb::Add, name, list)
}

pub(super) fn delete_segments(name: &str, family: Family, segments: &[Segment]) -> Vec<Step> {
    let list = segments
        .iter()
        .flat_map(|segment| {
            let bare = Segment {
                entry: Entry {
                    end: None,
                    reason: String::new(),
                },
                ..*segment
            };
            encode::interval(family, &bare, None)
        })
        .collect();
    encode::elements(ElementVerb::Delete, name, list)
}

/// Empties the set and fills it anew.
pub(super) fn rewrite(name: &str, family: Family, segments: &[Segment], now: Instant) -> Vec<Step> {
    let mut steps = vec![encode::flush_set(name)];
    steps.extend(add_segments(name, family, segments, now));
    steps
}
