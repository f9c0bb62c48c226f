//! Reading back: does the kernel hold what was written?

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::above::Guarded;
use super::machine::speaks_ipv6;
use super::members::{Held, READ_BACK, Sorted};
use super::message::{Element, Key};
use super::names::{Family, Role, parse_set};
use super::rules::{BASES, Wanted};
use super::saved::{Rule, Saved};
use super::tool::{PATIENCE, Tool};
use super::untracked::Untracked;
use super::{Iptables, now};
use crate::firewall::{Desired, FirewallError, Look};
use crate::model::{Chain, Time};

/// What ends so soon may be gone already when it is looked for.
const DOUBT: Duration = Duration::from_secs(3);
/// Naming more than that helps nobody.
const NAMED: usize = 10;

/// The rules as they were read back: releases of iptables print them in different words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    rules: Vec<Vec<Rule>>,
    base: Vec<Vec<Rule>>,
}

impl Read {
    /// What the table has in place of what is wanted.
    pub(super) fn of(wanted: &Wanted, saved: &Saved) -> Self {
        let rules = |chain: &String| saved.rules_of(chain).cloned().collect();
        let guarded = Guarded::by(wanted);
        let base = BASES.map(|base| {
            let count = wanted.base.iter().filter(|r| r.chain == base).count();
            let counted = saved
                .rules_of(base)
                .filter(|rule| !saved.only_takes_away(rule, &guarded));
            counted.take(count).cloned().collect()
        });
        Self {
            rules: wanted.chains.iter().map(rules).collect(),
            base: base.into(),
        }
    }
}

/// Whether all of it is there, in whatever words.
pub(super) fn read_back(wanted: &Wanted, saved: &Saved) -> Result<Read, FirewallError> {
    let read = Read::of(wanted, saved);
    let differs = |chain: &str, found: &[Rule], written: Vec<&Rule>| {
        let same = found.len() == written.len()
            && found
                .iter()
                .zip(written)
                .all(|(a, b)| a.is_ours() && a.essence() == b.essence());
        (!same).then(|| format!("chain {chain} is not as it was written"))
    };
    let written = |chain: &str| {
        let all = wanted.rules.iter().chain(&wanted.base);
        all.filter(|rule| rule.chain == chain).collect::<Vec<_>>()
    };
    let chains = wanted.chains.iter().map(String::as_str).zip(&read.rules);
    let bases = BASES.into_iter().zip(&read.base);
    let problems: Vec<String> = chains
        .chain(bases)
        .filter_map(|(chain, found)| differs(chain, found, written(chain)))
        .collect();
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(FirewallError::Unverified(problems.join(", ")))
    }
}

/// Compares the members with those that were written `then`.
pub(super) fn verify_members(
    backend: &mut Iptables,
    desired: &Desired,
    sorted: &Sorted,
    then: Time,
) -> Result<(), FirewallError> {
    let mut problems = Vec::new();
    for (set, wanted) in &sorted.sets {
        // Members may be gone because they have been used.
        let used_up = parse_set(set).is_some_and(|(name, role)| {
            matches!(role, Role::Members(Chain::Filter, _))
                && desired
                    .gates
                    .iter()
                    .any(|gate| gate.name == name && gate.once)
        });
        let asked = now();
        let held = backend.ipset.elements(set)?;
        let now = now();
        let passed = now.since(then);
        // The first of a million was read a while ago.
        let doubt = READ_BACK + now.since(asked);
        let held: HashMap<Key, &Element> = held.iter().map(|e| (e.key, e)).collect();
        for (net, (left, _)) in wanted {
            let left = left.map(|left| left.saturating_sub(passed));
            match held.get(&Key::Net(*net)) {
                None if used_up || left.is_some_and(|left| left < DOUBT) => {}
                None => problems.push(format!("{set} lacks {net}")),
                Some(element) if Held::of(element, now).ends_within(doubt, left) => {}
                Some(_) => problems.push(format!("{set} has {net} with another deadline")),
            }
        }
        if held.len() > wanted.len() {
            problems.push(format!(
                "{set} has {} members too many",
                held.len() - wanted.len()
            ));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.truncate(NAMED);
    Err(FirewallError::Unverified(problems.join(", ")))
}

/// Compares rules and sets with what was installed last. Two processes, about 4 ms.
pub(super) fn verify(backend: &mut Iptables) -> Result<Vec<String>, FirewallError> {
    let mut problems = complaints(backend);
    match look(backend)? {
        Look::Whole(found) => problems.extend(found),
        Look::Begun(found, rest) => {
            problems.extend(found);
            problems.extend(rest()?);
        }
    }
    Ok(problems)
}

/// What no installation mends.
pub(super) fn complaints(backend: &mut Iptables) -> Vec<String> {
    let Some(image) = &backend.image else {
        return Vec::new();
    };
    backend
        .leftovers
        .retain(|set| !backend.ipset.try_destroy(set));
    let mut problems = Vec::new();
    if !image.families.iter().any(|(f, ..)| *f == Family::V6) && speaks_ipv6() {
        problems.push("IPv6 has been turned on and is not gated: restart".to_owned());
    }
    let left = backend.leftovers.iter();
    problems
        .extend(left.map(|set| format!("set {set} is left over: somebody else's rule uses it")));
    problems
}

/// What an installation mends; the processes are left to the caller.
pub(super) fn look(backend: &mut Iptables) -> Result<Look, FirewallError> {
    let Some(image) = &backend.image else {
        let begun = backend.has_installed.then_some("nothing is installed");
        return Ok(Look::Whole(begun.into_iter().map(str::to_owned).collect()));
    };
    let headers = backend.ipset.headers()?;
    let mut problems = Vec::new();
    for spec in &image.sets {
        match headers.iter().find(|header| header.name == spec.name) {
            None => problems.push(format!("set {} is missing", spec.name)),
            Some(found) if !backend.ipset.fits(spec, found) => {
                problems.push(format!("set {} is altered", spec.name));
            }
            Some(_) => {}
        }
    }
    let (families, tools) = (Arc::clone(&image.families), backend.tools.clone());
    let untracked = backend.untracked.clone();
    Ok(Look::Begun(
        problems,
        Box::new(move || compare(&families, &untracked, &tools)),
    ))
}

fn compare(
    families: &[(Family, Wanted, Read)],
    untracked: &Untracked,
    tools: &[(Family, Tool)],
) -> Result<Vec<String>, FirewallError> {
    let until = Instant::now() + PATIENCE;
    let mut problems = Vec::new();
    for (family, wanted, written) in families {
        let Some((_, tool)) = tools.iter().find(|(f, _)| f == family) else {
            continue;
        };
        let program = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let text = tool.read(until)?;
        problems.extend(untracked.verify(*family, &text));
        let saved = Saved::parse(&text);
        let read = Read::of(wanted, &saved);
        for (chain, (is, was)) in wanted
            .chains
            .iter()
            .zip(read.rules.iter().zip(&written.rules))
        {
            if !saved.has_chain(chain) {
                problems.push(format!("{program}: chain {chain} is missing"));
            } else if is != was {
                problems.push(format!("{program}: chain {chain} is altered"));
            }
        }
        for (base, (is, was)) in BASES.iter().zip(read.base.iter().zip(&written.base)) {
            if is != was {
                problems.push(format!("{program}: our rules are not the first of {base}"));
            }
        }
    }
    Ok(problems)
}
