//! Reading a set of which the kernel's dumps lack members.
//!
//! A dump comes in parts, and each part goes on after as many elements as were seen before. While
//! the kernel collects expired elements or resizes its table, it so passes over others without a
//! word (there is no NLM_F_DUMP_INTR). So a set is read until several dumps add nothing, or there
//! are as many elements as the kernel said when it listed the set, and nobody has changed anything since.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::decode::{Held, SetInfo};
use super::kernel::{Failure, Kernel};
use super::names::{Role, TIMEOUT};
use super::verify::LARGE;

/// So many dumps in a row have to add nothing.
const QUIET: usize = 2;
/// A dump lacks a tenth at worst, so that few are needed; but there has to be an end.
const MOST: usize = 30;

/// What several dumps of one set came to.
#[derive(Debug, Default)]
struct Union {
    found: HashMap<(u128, bool), (Held, Instant)>,
}

impl Union {
    /// Adds a dump that was made then; whether there was anything new in it.
    fn add(&mut self, dump: Vec<Held>, then: Instant) -> bool {
        let before = self.found.len();
        for held in dump {
            self.found.insert((held.key, held.is_end), (held, then));
        }
        self.found.len() > before
    }

    /// What holds now, with the time that is left of it.
    fn at(self, now: Instant) -> Vec<Held> {
        let elements = self.found.into_values();
        elements
            .filter_map(|(mut held, then)| {
                let passed = now.saturating_duration_since(then);
                if let Some(left) = &mut held.left {
                    *left = left.checked_sub(passed).filter(|left| !left.is_zero())?;
                }
                Some(held)
            })
            .collect()
    }
}

/// The elements of a set, as they were at a time.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) held: Vec<Held>,
    pub(super) at: Instant,
}

impl Reading {
    /// The same with times that are left counted from another time.
    pub(super) fn counted_from(mut self, now: Instant) -> Vec<Held> {
        let later = self.at.saturating_duration_since(now);
        let earlier = now.saturating_duration_since(self.at);
        for held in &mut self.held {
            if let Some(left) = &mut held.left {
                *left = left.saturating_add(later).saturating_sub(earlier);
            }
        }
        let is_over = |held: &Held| held.left == Some(Duration::ZERO);
        self.held.retain(|held| !is_over(held));
        self.held
    }
}

/// Readings of long sets, which take a second each, kept for the installation that follows if
/// nobody changes anything meanwhile. Elements that end by themselves do so here, too; what the
/// kernel has used up is still wanted and not written again; and what was overlooked is not
/// deleted, since only keys that were read are.
#[derive(Debug, Default)]
pub(super) struct Kept {
    generation: u32,
    readings: HashMap<String, Reading>,
}

impl Kept {
    /// Nothing yet, of that generation of the ruleset.
    pub(super) fn at(generation: u32) -> Self {
        Self {
            generation,
            readings: HashMap::new(),
        }
    }

    /// Keeps a reading if that is worth it: shorter ones are read back after writing, which must
    /// not bring up anything new, and networks may be written anew as a whole.
    pub(super) fn keep(&mut self, name: &str, role: Role, reading: &Reading) {
        if matches!(role, Role::Host(..)) && reading.held.len() > LARGE {
            self.readings.insert(name.to_owned(), reading.clone());
        }
    }

    /// What was read of that set, if the ruleset is of the same generation.
    pub(super) fn take(&mut self, name: &str, generation: u32) -> Option<Reading> {
        let reading = self.readings.remove(name);
        reading.filter(|_| self.generation == generation)
    }
}

impl Kernel {
    /// All elements of a set. Where none can expire, one dump has them all.
    pub(super) fn read(&mut self, set: &SetInfo) -> Result<Reading, Failure> {
        self.read_named(&set.name, set.flags & TIMEOUT != 0)
    }

    pub(super) fn read_named(&mut self, name: &str, expires: bool) -> Result<Reading, Failure> {
        self.read_whole(name, expires, |_, _| Ok(false))
    }

    /// The same of a set that was listed when the ruleset was of that generation, or later.
    pub(super) fn read_listed(
        &mut self,
        set: &SetInfo,
        generation: u32,
    ) -> Result<Reading, Failure> {
        // Of networks the count is of something else, and what packets use up changes on its own.
        let count = set.count.filter(|_| set.flags == TIMEOUT);
        self.read_whole(&set.name, set.flags & TIMEOUT != 0, |kernel, found| {
            let are_all = count.is_some_and(|count| found >= count as usize);
            Ok(are_all && kernel.generation()? == generation)
        })
    }

    fn read_whole(
        &mut self,
        name: &str,
        expires: bool,
        mut are_all: impl FnMut(&mut Self, usize) -> Result<bool, Failure>,
    ) -> Result<Reading, Failure> {
        if !expires {
            let held = self.elements(name)?;
            let at = Instant::now();
            return Ok(Reading { held, at });
        }
        let mut union = Union::default();
        let mut quiet = 0;
        for _ in 0..MOST {
            let dump = self.elements(name)?;
            // Rather a moment too little left than too much.
            let then = Instant::now();
            quiet = if union.add(dump, then) { 0 } else { quiet + 1 };
            if are_all(self, union.found.len())? {
                break;
            }
            // Of an empty set the first dump adds nothing either.
            if quiet > QUIET || (quiet == QUIET && !union.found.is_empty()) {
                break;
            }
        }
        let at = Instant::now();
        Ok(Reading {
            held: union.at(at),
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::nftables::names::Family;
    use crate::model::Chain;

    fn held(key: u128, left: Option<u64>) -> Held {
        Held {
            key,
            is_end: false,
            left: left.map(Duration::from_secs),
            comment: String::new(),
        }
    }

    fn keys(held: Vec<Held>) -> Vec<(u128, Option<u64>)> {
        let short = |held: Held| (held.key, held.left.map(|left| left.as_secs()));
        let mut keys: Vec<_> = held.into_iter().map(short).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn dumps_make_up_for_one_another() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut union = Union::default();
        assert!(union.add(
            vec![held(1, None), held(2, Some(9)), held(3, Some(2))],
            start
        ));
        assert!(!union.add(vec![held(1, None)], after(1)));
        assert!(union.add(vec![held(4, Some(9)), held(2, Some(8))], after(1)));
        let expected = [(1, None), (2, Some(7)), (4, Some(8))];
        assert_eq!(keys(union.at(after(2))), expected, "3 is over");
    }

    #[test]
    fn a_long_reading_is_kept_for_its_generation_alone() {
        let at = Instant::now();
        let reading = |length: usize| Reading {
            held: (0..length).map(|key| held(key as u128, None)).collect(),
            at,
        };
        let hosts = Role::Host(Chain::Banned, Family::V4);
        let mut kept = Kept::at(7);
        let long = reading(LARGE + 1);
        kept.keep("long", hosts, &long);
        kept.keep("other", hosts, &long);
        kept.keep("short", hosts, &reading(LARGE));
        kept.keep("nets", Role::Net(Chain::Banned, Family::V4), &long);
        let length = |kept: &mut Kept, name, generation| {
            let taken = kept.take(name, generation);
            taken.map(|reading| reading.held.len())
        };
        assert_eq!(length(&mut kept, "long", 7), Some(LARGE + 1));
        assert_eq!(length(&mut kept, "long", 7), None, "once");
        assert_eq!(length(&mut kept, "other", 8), None);
        assert_eq!(length(&mut kept, "short", 7), None);
        assert_eq!(length(&mut kept, "nets", 7), None);
    }

    #[test]
    fn times_are_counted_from_where_it_is_asked() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let reading = || Reading {
            held: vec![held(1, None), held(2, Some(9)), held(3, Some(2))],
            at: after(5),
        };
        let earlier = [(1, None), (2, Some(10)), (3, Some(3))];
        assert_eq!(keys(reading().counted_from(after(4))), earlier);
        let later = [(1, None), (2, Some(7))];
        assert_eq!(keys(reading().counted_from(after(7))), later);
    }
}
