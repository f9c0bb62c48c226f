//! Reading a set of which the kernel's dumps lack members.
//!
//! A dump comes in parts, and each part goes on after as many elements as were seen before. While
//! the kernel collects expired elements or resizes its table, it so passes over others without a
//! word (there is no NLM_F_DUMP_INTR). So a set is read until several dumps add nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::decode::{Held, SetInfo};
use super::kernel::{Failure, Kernel};
use super::names::TIMEOUT;

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
#[derive(Debug)]
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

impl Kernel {
    /// All elements of a set. Where none can expire, one dump has them all.
    pub(super) fn read(&mut self, set: &SetInfo) -> Result<Reading, Failure> {
        self.read_named(&set.name, set.flags & TIMEOUT != 0)
    }

    pub(super) fn read_named(&mut self, name: &str, expires: bool) -> Result<Reading, Failure> {
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
