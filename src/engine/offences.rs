//! Who has stepped on decoys before: how often, towards a first ban, and how long the last ban
//! was, towards a longer one. Both are remembered in tables of fixed capacity.
//!
//! Sources can be forged, so this is what a flood can do. Steps towards a ban cost it a record
//! each: at R forged decoys a second every step is remembered for at least [`MOST_COUNTED`] ÷ R.
//! Past bans cost it a ban each, of which there are at most 10 a second: each is remembered for at
//! least [`MOST_PAST`] ÷ 10, which is 109 minutes, from when it was first written, or until it no
//! longer counts. One that begins again keeps its place.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use ipnet::IpNet;

use super::ledger::MOST_BANS_BY_KNOCK;
use crate::model::{KnockName, Lifetime, Time};
use crate::policy::BanRule;

/// Sources whose steps on decoys are counted at a time, at all gates together.
pub(super) const MOST_COUNTED: usize = 65_536;

/// Past bans that a gate remembers, those that still hold among them.
pub(super) const MOST_PAST: usize = MOST_BANS_BY_KNOCK;

/// A map of fixed capacity, from which what was set longest ago goes first.
#[derive(Debug, Clone)]
struct Bounded<K, V> {
    entries: HashMap<K, (u64, V)>,
    ages: BTreeMap<u64, K>,
    next: u64,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            ages: BTreeMap::new(),
            next: 0,
            capacity,
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.entries.remove(key)?;
        self.ages.remove(&age);
        Some(value)
    }

    fn set(&mut self, key: K, value: V) {
        self.remove(&key);
        self.next += 1;
        self.ages.insert(self.next, key.clone());
        self.entries.insert(key, (self.next, value));
        if self.entries.len() > self.capacity
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// What counts together: one knock with a rule of its own, or all that go by the policy's.
pub(super) type Scope = Option<KnockName>;

/// The steps that sources have taken towards a ban.
#[derive(Debug, Clone)]
pub(super) struct Steps(Bounded<(Scope, IpNet), VecDeque<Time>>);

impl Default for Steps {
    fn default() -> Self {
        Self(Bounded::new(MOST_COUNTED))
    }
}

impl Steps {
    /// Counts a step; how many there were within the rule's time, at most `rule.after`.
    pub(super) fn take(&mut self, scope: Scope, net: IpNet, rule: &BanRule, now: Time) -> usize {
        let after = usize::from(rule.after);
        let key = (scope, net);
        let mut times = self.0.remove(&key).unwrap_or_default();
        times.retain(|&at| now.since(at) <= rule.within);
        times.push_back(now);
        while times.len() > after {
            times.pop_front();
        }
        let count = times.len();
        self.0.set(key, times);
        count
    }

    /// Begins to count anew: the ban is written.
    pub(super) fn forget(&mut self, scope: Scope, net: IpNet) {
        self.0.remove(&(scope, net));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.entries.len()
    }
}

/// A ban that a decoy brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Past {
    /// How many bans of this source came before, each after the end of the one before it.
    earlier: u32,
    ends: Time,
    /// From then on it no longer counts.
    counts_until: Time,
}

/// The past bans at one gate.
#[derive(Debug, Clone)]
pub(super) struct PastBans(Bounded<IpNet, Past>);

impl Default for PastBans {
    fn default() -> Self {
        Self(Bounded::new(MOST_PAST))
    }
}

impl PastBans {
    /// How long a ban of `net` lasts now: twice as long as the last, if that is over. Whoever goes
    /// on stepping on decoys while it holds only begins it again. A ban counts for `longest` after
    /// its end. It is remembered as written.
    pub(super) fn next(
        &mut self,
        net: IpNet,
        first: Lifetime,
        longest: Duration,
        now: Time,
    ) -> Lifetime {
        let Lifetime::For(first) = first else {
            return first;
        };
        let earlier = self.earlier(net, now);
        let lasts = length(first, earlier, longest);
        let ends = now.after(lasts);
        let past = Past {
            earlier,
            ends,
            counts_until: ends.after(longest),
        };
        match self.0.get_mut(&net) {
            // It goes no later for that: those who are banned could push others out.
            Some(held) if now < held.ends => *held = past,
            _ => self.0.set(net, past),
        }
        Lifetime::For(lasts)
    }

    /// What [`PastBans::next`] would say.
    pub(super) fn length_of_next(
        &self,
        net: IpNet,
        first: Lifetime,
        longest: Duration,
        now: Time,
    ) -> Lifetime {
        match first {
            Lifetime::For(first) => Lifetime::For(length(first, self.earlier(net, now), longest)),
            Lifetime::Never => first,
        }
    }

    /// How many bans came before one that begins now.
    fn earlier(&self, net: IpNet, now: Time) -> u32 {
        match self.0.get(&net) {
            Some(past) if now >= past.counts_until => 0,
            Some(past) if now >= past.ends => past.earlier.saturating_add(1),
            Some(past) => past.earlier,
            None => 0,
        }
    }

    /// Takes up a ban that somebody else has remembered, and that still lasts `left`: as many came
    /// before as such a length takes, at least.
    pub(super) fn recall(
        &mut self,
        net: IpNet,
        (first, left): (Duration, Duration),
        longest: Duration,
        now: Time,
    ) {
        // 32 doublings make more than the longest duration of a policy out of the shortest.
        let is_long_enough = |&earlier: &u32| length(first, earlier, longest) >= left;
        let ends = now.after(left);
        let past = Past {
            earlier: (0..=32).find(is_long_enough).unwrap_or(32),
            ends,
            counts_until: ends.after(longest),
        };
        self.0.set(net, past);
    }

    /// The ban was lifted: the next is a first one.
    pub(super) fn forgive(&mut self, net: IpNet) {
        self.0.remove(&net);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.entries.len()
    }
}

/// How long a ban lasts that so many came before.
fn length(first: Duration, earlier: u32, longest: Duration) -> Duration {
    let factor = 1u32.checked_shl(earlier).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}
