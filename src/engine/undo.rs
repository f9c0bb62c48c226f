//! Knocks that turn out to have been part of a sweep.

use std::net::IpAddr;

use super::out::Out;
use super::{Engine, Lost, Record, What};
use crate::model::{KnockName, canonical, host_net, net_of_prefix};
use crate::policy::KnockAction;

impl Engine {
    /// Takes back what the knock granted to the source, unless something else has granted it since.
    /// Flushes and closings stay: they let nobody in. So does a ban. What a command has done ends
    /// with its stop command, now.
    pub(super) fn undone(&mut self, source: IpAddr, name: &KnockName, out: &mut Out) {
        let source = canonical(source);
        let mut rules = self.policy.knocks.iter();
        let Some(knock) = rules.find(|knock| knock.name == *name) else {
            return;
        };
        let action = knock.action.clone();
        if matches!(action, KnockAction::Run(_)) {
            self.undo_run(source, name, out);
            return;
        }
        let Ok(gates) = self.indexes(&knock.gates) else {
            return;
        };
        let everywhere = self.are_all(&gates);
        for gate in gates {
            let here = (!everywhere).then(|| &self.policy.gates[gate].name);
            let lost = Lost::Granted(source, name.clone());
            self.journal.lose(here, lost);
            if !self.take_back(gate, source, name, &action, out) {
                continue;
            }
            self.record_undone(gate, source, name, &action);
            self.log(out, |engine| {
                let gate = &engine.policy.gates[gate].name;
                format!("{source}: {name}: undone at {gate}: it was part of a sweep")
            });
        }
    }

    /// The history has what was granted; that it is gone belongs there too.
    fn record_undone(
        &mut self,
        gate: usize,
        source: IpAddr,
        name: &KnockName,
        action: &KnockAction,
    ) {
        let rules = &self.policy.gates[gate];
        let (what, net) = match action {
            KnockAction::Open => (What::Closed, host_net(source)),
            KnockAction::Trust => (What::Untrusted, host_net(source)),
            _ => (What::Withdrawn, net_of_prefix(source, rules.ipv6_prefix)),
        };
        let record = Record::new(what, name.as_str()).of(&rules.name, net);
        self.record(record.saying("it was part of a sweep"));
    }

    /// Whether there was anything.
    fn take_back(
        &mut self,
        gate: usize,
        source: IpAddr,
        name: &KnockName,
        action: &KnockAction,
        out: &mut Out,
    ) -> bool {
        let ledger = &self.ledgers[gate];
        let by_it = |reason: &str| reason == name.as_str();
        match action {
            KnockAction::Accept => {
                let net = net_of_prefix(source, self.policy.gates[gate].ipv6_prefix);
                let held = ledger.accepted().get(net);
                held.is_some_and(|grant| by_it(&grant.reason))
                    && self.withdraw(gate, source, out).is_some()
            }
            KnockAction::Open => {
                let held = ledger.opened();
                held.is_some_and(|grant| by_it(&grant.reason)) && self.close_gate(gate, out)
            }
            KnockAction::Trust => {
                let net = host_net(source);
                let held = ledger.runtime.get(net);
                held.is_some_and(|trust| !trust.stored && by_it(&trust.reason))
                    && self.untrust_at_runtime(Some(&[gate]), net, out)
            }
            KnockAction::Drop | KnockAction::Flush | KnockAction::Close | KnockAction::Run(_) => {
                false
            }
        }
    }
}
