//! What a gate guards from now on that nothing guards now: sessions that are open there are not
//! known to connection tracking.

use super::decode::same_expressions;
use super::names::{FORWARD, INPUT};
use super::owner::DORMANT;
use super::plan::{State, chain_fits, hook_of};
use super::rules::entrances;
use crate::firewall::GateRules;
use crate::model::PortRange;
use crate::netlink::attr::emit;

/// Whether a gate guards anything new, to the host or through it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fresh {
    pub(super) input: bool,
    pub(super) forward: bool,
}

impl Fresh {
    pub(super) fn of(gate: &GateRules, state: &State) -> Self {
        Self {
            input: gate.hook.input() && !unguarded(gate, INPUT, state).is_empty(),
            forward: gate.hook.forward() && !unguarded(gate, FORWARD, state).is_empty(),
        }
    }
}

/// The ports of a gate that are not, or not at every address, guarded now.
pub(super) fn missing(gate: &GateRules, state: &State) -> Vec<PortRange> {
    let mut missing = Vec::new();
    if gate.hook.input() {
        missing.extend(unguarded(gate, INPUT, state));
    }
    if gate.hook.forward() {
        missing.extend(unguarded(gate, FORWARD, state));
    }
    gate.ports
        .iter()
        .copied()
        .filter(|port| missing.contains(port))
        .collect()
}

fn unguarded(gate: &GateRules, chain: &str, state: &State) -> Vec<PortRange> {
    // A table that sleeps guards nothing, nor does a chain that hangs elsewhere.
    let works = state.table.is_some_and(|flags| flags & DORMANT == 0)
        && state
            .chain(chain)
            .is_some_and(|found| chain_fits(hook_of(chain), found));
    let found: Vec<_> = state.rules.iter().filter(|r| r.chain == chain).collect();
    let is_there = |expressions: &[u8]| {
        found
            .iter()
            .any(|rule| same_expressions(expressions, &rule.expressions))
    };
    entrances(gate, chain)
        .into_iter()
        .filter(|(_, rules)| !works || !rules.iter().all(|r| is_there(&emit(&r.expressions))))
        .map(|(range, _)| range)
        .collect()
}
