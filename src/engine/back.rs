//! Back to a policy after another one was tried.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ledger::Ledger;
use super::out::Out;
use super::{Action, Engine, Kept, Memo, TrustEdit};
use crate::model::{Chain, GateName, KnockName, Time, host_net};
use crate::policy::Policy;

/// Something that was taken from somebody, whether or not there was anything: what was decided
/// before a policy that is only tried may have had it in another shape, or at a gate that the trial
/// has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where; `None` is every gate, those that the policy in force does not have, too.
    pub gate: Option<GateName>,
    /// Of what.
    pub of: Lost,
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Acceptances of whatever has an address in common with it.
    Accepted(IpNet),
    /// An acceptance that has ended, with those that it had taken the place of.
    Within(IpNet),
    /// All acceptances, and that the gate is open.
    Filter,
    /// All bans.
    Banned,
    /// That the gate is open.
    Open,
    /// What the knock had granted to the source.
    Granted(IpAddr, KnockName),
    /// Trust given at run time.
    Trust(IpNet),
    /// Bans of what is trusted at every gate from now on, and that trust in it was withdrawn.
    Distrust(IpNet),
}

impl Engine {
    /// Goes back to a policy. Gates that the one in force does not have, and that lost what they
    /// held when it came, get back what `before`, the engine of that moment, knew of them; what
    /// has ended meanwhile stays ended, and who has come to be trusted since is not banned. Gates
    /// whose acceptances covered another part of an IPv6 address get back those that they lost.
    pub fn back_to(&mut self, policy: Policy, before: &Engine, now: Time) -> Vec<Action> {
        let mut out = Out::new(now);
        self.expire(&mut out);
        let here = self.policy.gates.iter().map(|gate| gate.name.clone());
        let here: Vec<_> = here.collect();
        let otherwise = self.accepted_otherwise(before);
        self.set_policy(policy, &mut out);
        let mut restored = Vec::new();
        for (index, gate) in self.policy.gates.iter().enumerate() {
            let old = before.policy.gates.iter().zip(&before.ledgers);
            let mut old = old.filter(|(old, _)| old.name == gate.name);
            if let Some((_, old)) = old.next().filter(|_| !here.contains(&gate.name)) {
                self.ledgers[index] = old.clone();
                restored.push(index);
            }
        }
        self.restore(otherwise, now);
        self.expire(&mut out);
        // Only what has come since: what was banned by force although it was trusted stays banned.
        let own = self.own.difference(&before.own).copied().map(host_net);
        let own: Vec<IpNet> = own.collect();
        let new = |net: &IpNet| {
            before.whitelist.get(*net).is_none() && before.runtime.get(*net).is_none()
        };
        let listed = self.whitelist.iter().map(|(net, _)| net);
        let given = self.runtime.iter().map(|(net, _)| net);
        let come: Vec<IpNet> = listed.chain(given).filter(new).collect();
        self.lift_what_is_protected(&own, &mut out);
        for gate in restored {
            for &net in &come {
                self.becomes_trusted(gate, net, &mut out);
            }
        }
        out.into_actions()
    }

    /// Whether these are all gates: then what is taken there is taken everywhere.
    pub(super) fn are_all(&self, gates: &[usize]) -> bool {
        gates.len() == self.policy.gates.len()
    }

    /// Takes from what was decided before a trial what was lost under it, which is `now` in force:
    /// whoever is taken out meanwhile is not to be let in again when it is taken back, nor whoever is
    /// trusted meanwhile to be banned again. Returns what is to be remembered of it. Of gates that
    /// both have in the same shape `now` knows by itself.
    pub fn lose(&mut self, lost: &[Loss], now: &Engine) -> (Vec<Memo>, Vec<TrustEdit>) {
        let (mut memos, mut edits) = (Vec::new(), Vec::new());
        for index in 0..self.ledgers.len() {
            let gate = &self.policy.gates[index];
            let tried = now.policy.gate(&gate.name);
            if tried.is_some_and(|tried| tried.ipv6_prefix == gate.ipv6_prefix) {
                continue;
            }
            let ledger = &mut self.ledgers[index];
            // What was new before the trial may be another by now.
            drop(ledger.take_changed());
            let here = |loss: &&Loss| loss.gate.as_ref().is_none_or(|at| *at == gate.name);
            for Loss { of, .. } in lost.iter().filter(here) {
                let nets = ledger.acceptances_lost(of).into_iter();
                // All else is where it was.
                for net in nets.filter(|net| tried.is_none() || net.addr().is_ipv6()) {
                    ledger.withdraw(net);
                }
                if tried.is_none() {
                    let edit = |net| TrustEdit::Remove(Some(gate.name.clone()), net);
                    edits.extend(ledger.lose_the_rest(of).map(edit));
                }
            }
            let changed = ledger.take_changed().into_iter();
            memos.extend(changed.map(|(chain, net)| self.memo(index, chain, net)));
        }
        (memos, edits)
    }

    /// What `before` accepted at gates that now cover another part of an IPv6 address and cannot
    /// have it as it was. What was withdrawn since from the network that took its place, or is
    /// banned by now, is not among it; a network that gave way to its addresses says nothing more.
    pub fn accepted_otherwise(&self, before: &Engine) -> Vec<Kept> {
        let mut kept = Vec::new();
        for (index, old) in before.policy.gates.iter().enumerate() {
            let mut here = self.policy.gates.iter().zip(&self.ledgers);
            let here = here.find(|(gate, _)| gate.name == old.name);
            let Some((gate, ledger)) = here.filter(|(gate, _)| gate.ipv6_prefix != old.ipv6_prefix)
            else {
                continue;
            };
            let stands = |net: &IpNet| {
                let is_wider = gate.ipv6_prefix < old.ipv6_prefix;
                net.addr().is_ipv6()
                    && ledger.banned().overlapping(*net).is_none()
                    && (!is_wider || ledger.accepted().covering(*net).next().is_some())
            };
            let accepted = before.ledgers[index].accepted().iter();
            let accepted = accepted.map(|(net, _)| net).filter(stands);
            kept.extend(accepted.filter_map(|net| before.kept(index, Chain::Filter, net)));
        }
        kept
    }
}

impl Ledger {
    /// Whose acceptances are lost with it.
    fn acceptances_lost(&self, of: &Lost) -> Vec<IpNet> {
        let accepted = self.accepted();
        let (inside, around) = match of {
            Lost::Accepted(net) => (Some(*net), Some(*net)),
            Lost::Within(net) => (Some(*net), None),
            Lost::Granted(source, _) => (None, Some(host_net(*source))),
            Lost::Filter => return accepted.iter().map(|(net, _)| net).collect(),
            Lost::Banned | Lost::Open | Lost::Trust(_) | Lost::Distrust(_) => (None, None),
        };
        let inside = inside.into_iter().flat_map(|net| accepted.within(net));
        let around = around.into_iter().flat_map(|net| accepted.covering(net));
        let by_it = |reason: &str| match of {
            Lost::Granted(_, knock) => reason == knock.as_str(),
            _ => true,
        };
        let lost = inside.chain(around);
        lost.filter(|(_, grant)| by_it(&grant.reason))
            .map(|(net, _)| net)
            .collect()
    }

    /// Loses what is no acceptance of somebody; whose trust is to be forgotten.
    fn lose_the_rest(&mut self, of: &Lost) -> Option<IpNet> {
        match of {
            Lost::Filter | Lost::Open => drop(self.close()),
            Lost::Banned => {
                let banned: Vec<IpNet> = self.banned().iter().map(|(net, _)| net).collect();
                for net in banned {
                    self.lift(net);
                    self.past.forgive(net);
                }
            }
            Lost::Granted(source, knock) => {
                let by_it = |reason: &str| reason == knock.as_str();
                if self.opened().is_some_and(|grant| by_it(&grant.reason)) {
                    self.close();
                }
                let net = host_net(*source);
                let held = self.runtime.get(net);
                if held.is_some_and(|it| !it.stored && by_it(&it.reason)) {
                    self.runtime.remove(net);
                }
            }
            Lost::Trust(net) => {
                let held = self.runtime.remove(*net);
                return held.filter(|it| it.stored).map(|_| *net);
            }
            Lost::Distrust(net) => {
                self.restore_withdrawn(*net);
                self.carve(*net);
            }
            Lost::Accepted(_) | Lost::Within(_) => {}
        }
        None
    }
}
