//! Reading back: does the kernel hold what was written?

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Nftables;
use super::decode::{intervals, same_expressions};
use super::kernel::Failure;
use super::members::{Keys, Sorted, fits};
use super::names::{Family, Role, key_bytes};
use super::owner::DORMANT;
use super::plan::{Image, State, chain_is_right};
use super::reading::Reading;
use super::segments::{DOUBT, Segment, flatten_sorted};
use crate::firewall::Desired;
use crate::model::{Chain, GateName};
use crate::netlink::attr::emit;

/// Somebody may be writing next to us; look again this often.
const LOOKS: usize = 3;
/// Of a set with more members than that, so many are asked for by key instead of reading all:
/// a dump of 100,000 takes longer than writing them.
pub(super) const SAMPLE: usize = 1_000;
pub(super) const LARGE: usize = 10_000;
/// Naming more than that helps nobody.
const NAMED: usize = 10;

/// What differs, by name.
fn compare(image: &Image, state: &State) -> Vec<String> {
    // A table that sleeps (`NFT_TABLE_F_DORMANT`) lets everything through.
    match state.table {
        None => return vec!["table inet knockd is missing".to_owned()],
        Some(flags) if flags & DORMANT != 0 => {
            return vec!["table inet knockd is dormant".to_owned()];
        }
        Some(_) => {}
    }
    let mut problems = Vec::new();
    for (name, hook) in &image.chains {
        match state.chain(name) {
            None => problems.push(format!("chain {name} is missing")),
            Some(found) if !chain_is_right(*hook, found) => {
                problems.push(format!("chain {name} is altered"));
            }
            Some(_) => problems.extend(compare_rules(image, state, name)),
        }
    }
    for (.., spec) in &image.sets {
        match state.set(&spec.name) {
            None => problems.push(format!("set {} is missing", spec.name)),
            Some(found) if !fits(spec, found) => {
                problems.push(format!("set {} is altered", spec.name));
            }
            Some(_) => {}
        }
    }
    problems
}

fn compare_rules(image: &Image, state: &State, chain: &str) -> Option<String> {
    let mut found = state.rules.iter().filter(|rule| rule.chain == chain);
    for (index, rule) in image.rules.iter().filter(|r| r.chain == chain).enumerate() {
        let number = index + 1;
        match found.next() {
            None => return Some(format!("rule {number} of chain {chain} is missing")),
            Some(found) if !same_expressions(&emit(&rule.expressions), &found.expressions) => {
                return Some(format!("rule {number} of chain {chain} is altered"));
            }
            Some(_) => {}
        }
    }
    found
        .next()
        .map(|_| format!("chain {chain} has a rule that is not ours"))
}

impl Nftables {
    /// Compares tables, chains, rules and sets with what was installed last; nothing was
    /// installed, nothing is missing.
    pub(super) fn verify_skeleton(&mut self) -> Result<Vec<String>, Failure> {
        let Some(image) = &self.image else {
            let begun = self.has_installed.then_some("nothing is installed");
            return Ok(begun.into_iter().map(str::to_owned).collect());
        };
        let state = self.kernel.state()?;
        let mut problems = compare(image, &state);
        let untracked = image.untracked.clone();
        if problems.is_empty() && !self.has_untracked(&untracked)? {
            problems.push("the sets of ports that are not tracked are altered".to_owned());
        }
        Ok(problems)
    }

    /// Compares the members with those that were written `then`.
    pub(super) fn verify_members(
        &mut self,
        desired: &Desired,
        sorted: &Sorted<'_>,
        then: Instant,
    ) -> Result<Vec<String>, Failure> {
        let sets: Vec<_> = match &self.image {
            Some(image) => image.sets.clone(),
            None => return Ok(Vec::new()),
        };
        let mut problems = Vec::new();
        for (gate, role, spec) in sets {
            let mut found = match role {
                Role::Session(_) | Role::Grace => continue,
                Role::Net(_, family) => {
                    self.verify_nets(&gate, role, family, &spec.name, sorted)?
                }
                Role::Host(..) | Role::Open => {
                    let used_up = matches!(role, Role::Host(Chain::Filter, _))
                        && desired.gates.iter().any(|g| g.name == gate && g.once);
                    let none = Keys::new();
                    let wanted = sorted.keys.get(&(&gate, role)).unwrap_or(&none);
                    self.verify_keys(role, &spec.name, wanted, used_up, then)?
                }
            };
            found.truncate(NAMED);
            problems.extend(found);
        }
        Ok(problems)
    }

    /// `used_up`: members may be gone because they have been used.
    fn verify_keys(
        &mut self,
        role: Role,
        name: &str,
        wanted: &Keys<'_>,
        used_up: bool,
        then: Instant,
    ) -> Result<Vec<String>, Failure> {
        if wanted.len() > LARGE {
            let sample = wanted.iter().step_by(wanted.len() / SAMPLE);
            return self.verify_presence(role, name, sample, used_up, then);
        }
        let held = self.kernel.elements(name)?;
        let passed = then.elapsed();
        let mut problems = Vec::new();
        for held in &held {
            match wanted.get(&held.key) {
                None => problems.push(format!("{name} has {:x} too much", held.key)),
                Some((left, _)) if !about(held.left, *left, passed) => {
                    problems.push(format!("{name} has {:x} with another deadline", held.key));
                }
                Some(_) => {}
            }
        }
        let held: HashSet<u128> = held.iter().map(|held| held.key).collect();
        let unseen = wanted.iter().filter(|(key, _)| !held.contains(key));
        problems.extend(self.verify_presence(role, name, unseen, used_up, then)?);
        Ok(problems)
    }

    /// Asks for members by key, which proves what a dump does not.
    fn verify_presence<'a>(
        &mut self,
        role: Role,
        name: &str,
        members: impl Iterator<Item = (&'a u128, &'a (Option<Duration>, Cow<'a, str>))>,
        used_up: bool,
        then: Instant,
    ) -> Result<Vec<String>, Failure> {
        let mut problems = Vec::new();
        for (&key, (left, _)) in members {
            let is_over = left.is_some_and(|left| left < then.elapsed() + DOUBT);
            if is_over || used_up {
                continue;
            }
            let bytes = match role {
                Role::Open => vec![u8::try_from(key).unwrap_or_default()],
                Role::Host(_, family) => key_bytes(family, key),
                _ => continue,
            };
            if !self.kernel.has_key(name, bytes)? {
                problems.push(format!("{name} lacks {key:x}"));
            }
        }
        Ok(problems)
    }

    fn verify_nets(
        &mut self,
        gate: &GateName,
        role: Role,
        family: Family,
        name: &str,
        sorted: &Sorted<'_>,
    ) -> Result<Vec<String>, Failure> {
        let wanted = sorted
            .nets
            .get(&(gate.clone(), role))
            .map(|nets| flatten_sorted(nets.iter()))
            .unwrap_or_default();
        let expires = !matches!(role, Role::Net(Chain::Trusted, _));
        for _ in 0..LOOKS {
            let Reading { held, at: now } = self.kernel.read_named(name, expires)?;
            let held = lasting(intervals(family, held, now), now);
            let wanted = lasting(wanted.clone(), now);
            if held.len() == wanted.len() && held.iter().zip(&wanted).all(|(a, b)| same(a, b)) {
                return Ok(Vec::new());
            }
        }
        Ok(vec![format!("{name} has other networks")])
    }
}

/// Those that do not end about now.
pub(super) fn lasting(mut segments: Vec<Segment>, now: Instant) -> Vec<Segment> {
    segments.retain(|segment| segment.entry.end.is_none_or(|end| end > now + DOUBT * 2));
    segments
}

fn same(a: &Segment, b: &Segment) -> bool {
    let close = match (a.entry.end, b.entry.end) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.saturating_duration_since(b) + b.saturating_duration_since(a) <= DOUBT
        }
        _ => false,
    };
    a.first == b.first && a.last == b.last && close
}

/// Whether an element that had `left` has `held` left after that time.
fn about(held: Option<Duration>, left: Option<Duration>, passed: Duration) -> bool {
    match (held, left) {
        (None, None) => true,
        (Some(held), Some(left)) => held.abs_diff(left.saturating_sub(passed)) <= DOUBT,
        _ => false,
    }
}
