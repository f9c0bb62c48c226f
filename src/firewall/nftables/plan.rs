//! From what the kernel holds and what it is to hold, the messages that lead there.

use std::collections::HashMap;
use std::time::Instant;

use super::decode::{ChainInfo, Held, RuleInfo, SetInfo};
use super::encode::{self, POLICY_ACCEPT, PRE_ROUTING, Step, priority};
use super::fill::{self, Filler};
use super::fresh::Fresh;
use super::members::{Sorted, fits};
use super::names::{
    FORWARD, Family, INPUT, PREROUTING, Role, SetSpec, TABLE, is_own_chain, member_chain,
    parse_set, policy_chain, set_spec,
};
use super::rules::{Earlier, Rule, rules};
use super::untracked;
use crate::firewall::{Desired, GateRules};
use crate::model::{Chain, GateName, KnockPort};

/// `NF_INET_LOCAL_IN`.
const LOCAL_IN: u32 = 1;
/// `NF_INET_FORWARD`.
const THROUGH: u32 = 2;

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
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    /// Name and, of base chains, the hook.
    pub(super) chains: Vec<(String, Option<u32>)>,
    pub(super) sets: Vec<(GateName, Role, SetSpec)>,
    pub(super) rules: Vec<Rule>,
    /// Ports that are not tracked.
    pub(super) untracked: Vec<KnockPort>,
}

impl Image {
    /// `earlier` says, for each gate, which sets for sessions from before it needs.
    pub(super) fn new(gates: &[(&GateRules, Earlier)]) -> Self {
        let mut chains = Vec::new();
        let mut sets = Vec::new();
        if gates.iter().any(|(gate, _)| gate.hook.input()) {
            chains.push((INPUT.to_owned(), hook_of(INPUT)));
        }
        if gates.iter().any(|(gate, _)| gate.hook.forward()) {
            chains.push((FORWARD.to_owned(), hook_of(FORWARD)));
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
            untracked: Vec::new(),
        }
    }

    /// With these ports not tracked.
    pub(super) fn untrack(&mut self, ports: &[KnockPort]) {
        self.chains.retain(|(name, _)| name != PREROUTING);
        self.rules.retain(|rule| rule.chain != PREROUTING);
        if !ports.is_empty() {
            self.chains
                .push((PREROUTING.to_owned(), hook_of(PREROUTING)));
            self.rules.extend(untracked::rules());
        }
        self.untracked = ports.to_vec();
    }
}

/// The hook of our base chain of that name.
pub(super) fn hook_of(chain: &str) -> Option<u32> {
    match chain {
        INPUT => Some(LOCAL_IN),
        FORWARD => Some(THROUGH),
        PREROUTING => Some(PRE_ROUTING),
        _ => None,
    }
}

/// Whether a chain as found is as it has to be, but for its policy, which can be changed.
pub(super) fn chain_fits(hook: Option<u32>, found: &ChainInfo) -> bool {
    match hook {
        None => found.hook.is_none(),
        Some(number) => found.hook == Some((number, priority(number))) && found.kind == "filter",
    }
}

/// Whether a chain is wholly as it has to be.
pub(super) fn chain_is_right(hook: Option<u32>, found: &ChainInfo) -> bool {
    chain_fits(hook, found) && (hook.is_none() || found.policy == Some(POLICY_ACCEPT))
}

/// The messages of an installation, in atomic groups and in order. All in one batch if they fit;
/// otherwise in as many as needed, and whatever happens between two of them or instead of one,
/// nobody is shut out or let in who would not be both before and after.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Makes sets and lets them grow.
    pub(super) before: Vec<Vec<Step>>,
    /// The rules, and sets that have to be made anew.
    pub(super) commit: Vec<Step>,
    /// Lets sets shrink.
    pub(super) after: Vec<Vec<Step>>,
}

impl Plan {
    pub(super) fn groups(&self) -> impl Iterator<Item = &Vec<Step>> {
        let commit = std::iter::once(&self.commit);
        self.before.iter().chain(commit).chain(&self.after)
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
    /// What each gate guards that was not guarded before.
    pub(super) fresh: &'a HashMap<&'a GateName, Fresh>,
    pub(super) now: Instant,
    pub(super) can_destroy: bool,
    /// The table's flags.
    pub(super) flags: u32,
    /// The table is there with other flags, and must go.
    pub(super) replaces: bool,
}

impl Planner<'_> {
    pub(super) fn plan(self) -> Plan {
        let mut first = Vec::new();
        if self.replaces {
            first.push(encode::delete_table(TABLE));
        }
        first.push(encode::new_table(self.flags));
        let mut commit = self.removals();
        let mut late = Vec::new();
        let mut fills = Vec::new();
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
                    first.push(step);
                }
            }
            let held = self.held.remove(&spec.name);
            let fill = self.filler(&spec.name, held).fill(gate, *role);
            if is_wrong {
                // Nothing is in it yet.
                late.extend(fill.grow.into_iter().flatten());
            } else {
                fills.push((*role, fill));
            }
        }
        commit.extend(late);
        commit.extend(untracked::sets(self.state, &image.untracked));
        for (name, hook) in &image.chains {
            commit.push(encode::new_chain(name, *hook));
        }
        commit.extend(image.rules.iter().map(encode::new_rule));
        let (grow, after) = fill::in_order(fills);
        let mut before = vec![first];
        before.extend(grow);
        Plan {
            before,
            commit,
            after,
        }
    }

    fn filler<'a>(&'a self, name: &'a str, held: Option<Vec<Held>>) -> Filler<'a> {
        Filler {
            name,
            held: held.unwrap_or_default(),
            sorted: self.sorted,
            sessions: &self.desired.sessions,
            fresh: self.fresh,
            now: self.now,
            can_destroy: self.can_destroy,
        }
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
}
