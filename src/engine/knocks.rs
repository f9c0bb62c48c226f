use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::ledger::{Grant, MOST_ACCEPTED};
use super::out::Out;
use super::trust::Runtime;
use super::words::Words;
use super::{EVERYBODY, Engine, Lost, Record, SCAN_GUARD, What, shown};
use crate::model::{Chain, Deadline, KnockName, Lifetime, canonical, host_net, net_of_prefix};
use crate::policy::{Knock, KnockAction, LogStyle, ScanAction};

impl Engine {
    /// Does what the knock's action says at each of its gates.
    pub(super) fn knocked(&mut self, source: IpAddr, name: &KnockName, out: &mut Out) {
        let source = canonical(source);
        let policy = Arc::clone(&self.policy);
        // A packet that was matched just before a reload may name a knock that is gone.
        let Some(knock) = policy.knocks.iter().find(|knock| knock.name == *name) else {
            return;
        };
        *self.fired.entry(name.clone()).or_default() += 1;
        if self.policy.log.style == LogStyle::Classic {
            self.log(out, |_| format!("{source}: {name}: OPEN SESAME"));
        }
        let Ok(gates) = self.indexes(&knock.gates) else {
            return;
        };
        if knock.action == KnockAction::Drop {
            self.ban_at(&gates, source, name.as_str(), knock.lifetime, out);
            return;
        }
        if let KnockAction::Run(run) = &knock.action {
            self.run_by_knock(&gates, source, knock, run, out);
            return;
        }
        let everywhere = self.are_all(&gates);
        for gate in gates {
            let ban = self.ledgers[gate].banned().lookup(host_net(source));
            if let Some(ban) = ban.map(|(net, _)| net) {
                self.record_cheap(out.now, |engine| {
                    let gate = &engine.policy.gates[gate].name;
                    let refused = Record::new(What::Refused, name.as_str());
                    refused
                        .of(gate, host_net(source))
                        .saying(format!("{} is banned", shown(ban)))
                });
                self.log(out, |engine| {
                    let gate = &engine.policy.gates[gate].name;
                    let ban = shown(ban);
                    format!("{source}: {name}: nothing granted at {gate}: {ban} is banned")
                });
                continue;
            }
            if everywhere {
                match knock.action {
                    KnockAction::Flush => {
                        let lost = Lost::Accepted(host_net(source));
                        self.journal.lose(None, lost);
                    }
                    KnockAction::Close => self.journal.lose(None, Lost::Open),
                    _ => {}
                }
            }
            self.grant(gate, source, knock, out);
        }
    }

    /// Does at one gate what a knock of somebody who is not banned does.
    fn grant(&mut self, gate: usize, source: IpAddr, knock: &Knock, out: &mut Out) {
        let name = &knock.name;
        match &knock.action {
            KnockAction::Accept => self.accept_by_knock(gate, source, name, knock.lifetime, out),
            KnockAction::Trust => self.trust_by_knock(gate, source, name, out),
            KnockAction::Flush => self.flush_by_knock(gate, source, name, out),
            KnockAction::Open => self.open_by_knock(gate, source, name, knock.lifetime, out),
            KnockAction::Close => {
                if self.close_gate(gate, out) {
                    let closed = Record::new(What::Closed, name.as_str()).to(host_net(source));
                    self.record(closed.at(&self.policy.gates[gate].name.clone()));
                    self.log(out, |engine| {
                        let gate = &engine.policy.gates[gate].name;
                        format!("{source}: {name}: {gate} is no longer open to everybody")
                    });
                }
            }
            // These are not done gate by gate.
            KnockAction::Drop | KnockAction::Run(_) => {}
        }
    }

    /// A source sweeps ports: its knocks do not count any more, and perhaps it is banned.
    pub(super) fn swept(&mut self, source: IpAddr, out: &mut Out) {
        let source = canonical(source);
        self.log_cheap(out, |_| {
            format!("{source}: sweeps ports: its knocks do not count")
        });
        self.record_cheap(out.now, |_| {
            Record::new(What::Swept, SCAN_GUARD).to(host_net(source))
        });
        if self.policy.scan_guard.action == ScanAction::Drop {
            let every: Vec<usize> = (0..self.policy.gates.len()).collect();
            self.ban_at(&every, source, SCAN_GUARD, None, out);
        }
    }

    fn accept_by_knock(
        &mut self,
        gate: usize,
        source: IpAddr,
        name: &KnockName,
        lifetime: Option<Lifetime>,
        out: &mut Out,
    ) {
        let rules = &self.policy.gates[gate];
        let lifetime = lifetime.unwrap_or(rules.accept_timeout);
        let net = net_of_prefix(source, rules.ipv6_prefix);
        let held = self.ledgers[gate].accepted().get(net);
        if held.is_none() && self.ledgers[gate].accepted().len() >= MOST_ACCEPTED {
            self.refused.acceptances += 1;
            self.record_cheap(out.now, |engine| {
                let gate = &engine.policy.gates[gate].name;
                let refused = Record::new(What::Refused, name.as_str()).of(gate, net);
                refused.saying(format!("not accepted: {MOST_ACCEPTED} already are"))
            });
            self.log(out, |engine| {
                let gate = &engine.policy.gates[gate].name;
                format!("{source}: {name}: not accepted at {gate}: {MOST_ACCEPTED} already are")
            });
            return;
        }
        // Knocking again restores the full time; it never shortens one that was given by hand.
        let deadline = lifetime.deadline(out.now);
        let grant = match held {
            Some(held) if held.deadline >= deadline => held.clone(),
            _ => Grant {
                deadline,
                reason: name.to_string(),
            },
        };
        out.put(&rules.name, Chain::Filter, net, &grant);
        let accepted = Record::new(What::Accepted, name.as_str()).of(&rules.name, net);
        self.record(accepted.until(grant.deadline));
        self.ledgers[gate].accept(net, grant);
        self.log(out, |engine| Words::Accepted {
            source,
            knock: name.clone(),
            net,
            gate: engine.policy.gates[gate].name.clone(),
            lifetime,
        });
    }

    fn open_by_knock(
        &mut self,
        gate: usize,
        source: IpAddr,
        name: &KnockName,
        lifetime: Option<Lifetime>,
        out: &mut Out,
    ) {
        let lifetime = lifetime.unwrap_or(self.policy.gates[gate].accept_timeout);
        // As with an acceptance: a knock never shortens what was opened by hand.
        let opened = self.ledgers[gate].opened();
        if opened.is_none_or(|held| held.deadline < lifetime.deadline(out.now)) {
            self.open_gate(gate, name.as_str(), Some(lifetime), out);
        }
        let opened = Record::new(What::Opened, name.as_str()).to(host_net(source));
        let opened = opened.at(&self.policy.gates[gate].name);
        self.record(opened.until(lifetime.deadline(out.now)));
        self.log(out, |engine| {
            let gate = &engine.policy.gates[gate].name;
            format!("{source}: {name}: {gate} is open to everybody for {lifetime}")
        });
    }

    fn trust_by_knock(&mut self, gate: usize, source: IpAddr, name: &KnockName, out: &mut Out) {
        let given = self.ledgers[gate].runtime.get(host_net(source));
        if given.is_none() && self.ledgers[gate].runtime.len() >= MOST_ACCEPTED {
            self.refused.trust += 1;
            self.record_cheap(out.now, |engine| {
                let gate = &engine.policy.gates[gate].name;
                let refused = Record::new(What::Refused, name.as_str());
                let refused = refused.of(gate, host_net(source));
                refused.saying(format!("not trusted: {MOST_ACCEPTED} already are"))
            });
            self.log(out, |engine| {
                let gate = &engine.policy.gates[gate].name;
                format!("{source}: {name}: not trusted at {gate}: {MOST_ACCEPTED} already are")
            });
            return;
        }
        // A knock never takes the place of what was given by hand, which lasts longer.
        let runtime = given.filter(|given| given.stored).cloned();
        let runtime = runtime.unwrap_or_else(|| Runtime {
            reason: name.to_string(),
            stored: false,
        });
        self.trust_at_runtime(Some(&[gate]), host_net(source), &runtime, out);
        let trusted = Record::new(What::Trusted, name.as_str());
        let trusted = trusted.of(&self.policy.gates[gate].name, host_net(source));
        self.record(trusted.saying("until the daemon restarts"));
        self.log(out, |engine| {
            let gate = &engine.policy.gates[gate].name;
            format!("{source}: {name}: trusted at {gate} until the daemon restarts")
        });
    }

    fn flush_by_knock(&mut self, gate: usize, source: IpAddr, name: &KnockName, out: &mut Out) {
        if let Some(net) = self.withdraw(gate, source, out) {
            let withdrawn = Record::new(What::Withdrawn, name.as_str());
            self.record(withdrawn.of(&self.policy.gates[gate].name, net));
            self.log(out, |engine| {
                let gate = &engine.policy.gates[gate].name;
                format!("{source}: {name}: acceptance at {gate} withdrawn")
            });
        }
    }

    /// Withdraws the acceptance of an address, if it has one.
    pub(super) fn withdraw(&mut self, gate: usize, source: IpAddr, out: &mut Out) -> Option<IpNet> {
        let rules = &self.policy.gates[gate];
        let net = net_of_prefix(source, rules.ipv6_prefix);
        self.journal.lose(Some(&rules.name), Lost::Accepted(net));
        self.ledgers[gate].withdraw(net)?;
        out.remove(&rules.name, Chain::Filter, net);
        Some(net)
    }

    pub(super) fn open_gate(
        &mut self,
        gate: usize,
        reason: &str,
        lifetime: Option<Lifetime>,
        out: &mut Out,
    ) {
        let rules = &self.policy.gates[gate];
        let deadline = lifetime.unwrap_or(rules.accept_timeout).deadline(out.now);
        let grant = Grant {
            deadline,
            reason: reason.to_owned(),
        };
        for net in EVERYBODY {
            out.put(&rules.name, Chain::Filter, net, &grant);
        }
        self.ledgers[gate].open(grant);
    }

    /// Whether it was open.
    pub(super) fn close_gate(&mut self, gate: usize, out: &mut Out) -> bool {
        let was_open = self.ledgers[gate].close().is_some();
        if was_open {
            for net in EVERYBODY {
                out.remove(&self.policy.gates[gate].name, Chain::Filter, net);
            }
        }
        was_open
    }

    /// Logs what decides nothing; it must not use up the lines that tell what was decided.
    pub(super) fn log_cheap(&mut self, out: &mut Out, words: impl FnOnce(&Self) -> String) {
        if self.cheap_lines.take(out.now) {
            out.info(words(self));
        } else {
            self.unlogged.0 += 1;
        }
    }

    /// Logs what a packet brought about, at a limited rate: packets can be forged, disks fill.
    pub(super) fn log<W: Into<Words>>(&mut self, out: &mut Out, words: impl FnOnce(&Self) -> W) {
        if !self.lines.take(out.now) {
            self.unlogged.0 += 1;
            return;
        }
        if self.unlogged.0 > 0 {
            out.warn(format!(
                "{} lines were left out: too many at once",
                self.unlogged.0
            ));
            self.unlogged = (0, self.unlogged.1 + self.unlogged.0);
        }
        out.info(words(self));
    }
}

/// "for 5m" or "for good".
pub(super) fn until(lifetime: Lifetime) -> String {
    match lifetime {
        Lifetime::For(_) => format!("for {lifetime}"),
        Lifetime::Never => "for good".to_owned(),
    }
}

impl Grant {
    /// A grant for that long from now.
    pub(super) fn lasting(lifetime: Lifetime, out: &Out, reason: &str) -> Self {
        let deadline: Deadline = lifetime.deadline(out.now);
        Self {
            deadline,
            reason: reason.to_owned(),
        }
    }
}
