//! Back to a policy after another one was tried.

use ipnet::IpNet;

use super::out::Out;
use super::{Action, Engine, Kept};
use crate::model::{Chain, Time, host_net};
use crate::policy::Policy;

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
