//! From rule to rule: whether a base chain lets the packet through.

use std::collections::HashMap;

use super::packet::Packet;
use super::read::Rule;
use super::rule::{Effect, Fits, Sets, judge};

/// Where a packet ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// The policy of the base chain.
    Policy,
    /// A rule: its chain, its number in it from 1, its handle.
    Rule(String, usize, u64),
}

/// What may become of a packet in a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) accepted: bool,
    /// It came to the end, or was sent back.
    pub(super) onward: bool,
    /// Dropped for certain.
    pub(super) dropped: Option<Place>,
    /// Dropped perhaps.
    pub(super) endangered: Option<Place>,
}

impl Outcome {
    fn take(&mut self, other: Outcome, when: Fits) {
        self.accepted |= other.accepted;
        let (certain, perhaps) = if when == Fits::Yes {
            (other.dropped, other.endangered)
        } else {
            (None, other.dropped.or(other.endangered))
        };
        self.dropped = self.dropped.take().or(certain);
        self.endangered = self.endangered.take().or(perhaps);
    }
}

/// Our own chains in somebody else's table, and whether what they accept is accepted there.
pub(super) type Ours = HashMap<String, bool>;

/// A walk through one table.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a HashMap<String, Vec<Rule>>,
    pub(super) packet: &'a Packet,
    pub(super) ours: &'a Ours,
    pub(super) sets: Sets<'a>,
    /// Chains that were walked through; `None` while they are.
    pub(super) known: HashMap<String, Option<Outcome>>,
}

impl Walk<'_> {
    /// Whether a base chain with this policy lets it through; if not, where it ends.
    pub(super) fn base(&mut self, chain: &str, drops: bool) -> Option<Place> {
        let outcome = self.chain(chain);
        if outcome.accepted || (outcome.onward && !drops) {
            return None;
        }
        let policy = outcome.onward.then_some(Place::Policy);
        outcome
            .dropped
            .or(policy)
            .or(outcome.endangered)
            .or(Some(Place::Policy))
    }

    fn chain(&mut self, name: &str) -> Outcome {
        match self.known.get(name) {
            Some(Some(outcome)) => return outcome.clone(),
            // The kernel forbids loops.
            Some(None) => return Outcome::default(),
            None => {}
        }
        self.known.insert(name.to_owned(), None);
        let outcome = self.rules(name);
        self.known.insert(name.to_owned(), Some(outcome.clone()));
        outcome
    }

    fn rules(&mut self, name: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let rules = self.rules.get(name).map_or(&[][..], Vec::as_slice);
        for (index, rule) in rules.iter().enumerate() {
            let effects = judge(&rule.expressions, self.packet, self.sets);
            for (when, effect) in effects {
                let place = || Place::Rule(name.to_owned(), index + 1, rule.handle);
                if self.follow(&mut outcome, effect, when, place) {
                    return outcome;
                }
            }
        }
        outcome.onward = true;
        outcome
    }

    /// Whether the packet goes no further for certain.
    fn follow(
        &mut self,
        outcome: &mut Outcome,
        effect: Effect,
        when: Fits,
        place: impl Fn() -> Place,
    ) -> bool {
        let dropped = |place| Outcome {
            dropped: Some(place),
            ..Outcome::default()
        };
        match effect {
            Effect::GoesOn => return false,
            Effect::Accepts => outcome.accepted = true,
            Effect::Drops => outcome.take(dropped(place()), when),
            Effect::Asks => {
                outcome.accepted = true;
                outcome.take(dropped(place()), Fits::Maybe);
            }
            Effect::Returns => outcome.onward = true,
            Effect::Jumps(chain) | Effect::GoesTo(chain) if self.ours.contains_key(&chain) => {
                let ends_there = self.ours.get(&chain) == Some(&true);
                outcome.accepted |= ends_there;
                return ends_there && when == Fits::Yes;
            }
            Effect::Jumps(chain) => {
                let inner = self.chain(&chain);
                let comes_back = inner.onward;
                outcome.take(inner, when);
                return when == Fits::Yes && !comes_back;
            }
            Effect::GoesTo(chain) => {
                let inner = self.chain(&chain);
                outcome.onward |= inner.onward;
                outcome.take(inner, when);
            }
        }
        when == Fits::Yes
    }
}
