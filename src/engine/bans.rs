//! Bans that packets bring about, and the writing of any ban.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::knocks::until;
use super::ledger::Grant;
use super::offences::Scope;
use super::out::Out;
use super::{Engine, Lost, Record, SCAN_GUARD, What, shown};
use crate::model::{Chain, Deadline, Lifetime, Time, host_net, net_of_prefix};
use crate::policy::BanRule;

const A_SECOND: Duration = Duration::from_secs(1);

impl Engine {
    /// Bans at the gates what a packet brought about: sources can be forged, so not too often.
    pub(super) fn ban_at(
        &mut self,
        gates: &[usize],
        source: IpAddr,
        why: &str,
        lifetime: Option<Lifetime>,
        out: &mut Out,
    ) {
        let mut bans = Vec::new();
        for &gate in gates {
            match self.bannable(gate, source) {
                Ok(net) => bans.push((gate, net)),
                Err(protection) => {
                    self.record_cheap(out.now, |engine| {
                        let gate = &engine.policy.gates[gate].name;
                        let refused = Record::new(What::Refused, why).of(gate, host_net(source));
                        refused.saying(format!("not banned: {protection}"))
                    });
                    self.log(out, |engine| {
                        let gate = &engine.policy.gates[gate].name;
                        format!("{source}: {why}: not banned at {gate}: {protection}")
                    });
                }
            }
        }
        let (scope, rule) = self.ban_rule(why);
        self.leave_who_may_go_on(&mut bans, source, why, &scope, &rule, out);
        let nets: Vec<IpNet> = bans.iter().map(|&(_, net)| net).collect();
        let everywhere = self.are_all(gates);
        let bans = self.worth_writing(&bans, lifetime, &rule, out.now);
        if bans.is_empty() && !nets.is_empty() {
            if self.stale_lines.take(out.now) {
                out.info(format!("{source}: {why}: banned already"));
            } else {
                self.unlogged.0 += 1;
            }
        }
        if !self.may_write(&bans, out.now) {
            let what = if self.is_any_new(&bans) {
                self.refused.bans += 1;
                "not banned: more than 10 bans a second by knock"
            } else {
                self.refused.renewals += 1;
                "the ban does not begin again: more than 10 a second by knock do"
            };
            self.record_cheap(out.now, |_| {
                let refused = Record::new(What::Refused, why).to(host_net(source));
                refused.saying(what)
            });
            self.log(out, |_| format!("{source}: {why}: {what}"));
            return;
        }
        for net in nets {
            self.steps.forget(scope.clone(), net);
        }
        for (gate, net, first) in bans {
            if everywhere {
                self.journal.lose(None, Lost::Accepted(net));
            }
            let past = &mut self.ledgers[gate].past;
            let lifetime = match rule.longest {
                Some(longest) => past.next(net, first, longest, out.now),
                None => first,
            };
            self.ban_by_knock(gate, net, source, why, lifetime, out);
        }
    }

    /// The bans without those that hold for as long already, to the second, each with how long a
    /// first one lasts. Whoever is banned must not use up the bans of others, nor the history, by
    /// stepping on more decoys.
    fn worth_writing(
        &self,
        bans: &[(usize, IpNet)],
        lifetime: Option<Lifetime>,
        rule: &BanRule,
        now: Time,
    ) -> Vec<(usize, IpNet, Lifetime)> {
        let worth = |&(gate, net): &(usize, IpNet)| {
            let ledger = &self.ledgers[gate];
            let first = lifetime.unwrap_or(self.policy.gates[gate].ban_timeout);
            let lasts = match rule.longest {
                Some(longest) => ledger.past.length_of_next(net, first, longest, now),
                None => first,
            };
            let lasts_longer = |held: Deadline| match held {
                Deadline::Never => false,
                Deadline::At(held) => Deadline::At(held.after(A_SECOND)) <= lasts.deadline(now),
            };
            // Of a network that holds it, too.
            let mut held = ledger.banned().covering(net);
            let gains = held.all(|(_, ban)| lasts_longer(ban.grant.deadline));
            // One that somebody else has put into the kernel.
            let accepted = ledger.accepted().within(net).next().is_some();
            (gains || accepted).then_some((gate, net, first))
        };
        bans.iter().filter_map(worth).collect()
    }

    /// Whether these bans are not too many. Only what is written counts: whoever is protected must
    /// not use up others' bans. Nor must those who are banned: where no ban is new, and the time
    /// of those that hold only begins again, others count.
    fn may_write(&mut self, bans: &[(usize, IpNet, Lifetime)], now: Time) -> bool {
        if self.is_any_new(bans) {
            self.bans.take(now)
        } else {
            bans.is_empty() || self.renewals.take(now)
        }
    }

    /// Whether one of these is more than a ban that begins again: there is none, or it is by hand, or
    /// of a decoy that bans for less.
    fn is_any_new(&self, bans: &[(usize, IpNet, Lifetime)]) -> bool {
        let mut bans = bans.iter();
        bans.any(|&(gate, net, first)| {
            let held = self.ledgers[gate].banned().get(net);
            let by_knock = held.filter(|held| held.order().is_some());
            by_knock.is_none_or(|held| self.first_ban(gate, &held.grant.reason) < first)
        })
    }

    /// How long a first ban at the gate for this reason lasts.
    fn first_ban(&self, gate: usize, why: &str) -> Lifetime {
        let mut knocks = self.policy.knocks.iter();
        let own = knocks.find(|knock| knock.name.as_str() == why);
        let own = own.and_then(|knock| knock.lifetime);
        own.unwrap_or(self.policy.gates[gate].ban_timeout)
    }

    /// The rule that a ban for this reason goes by, and what counts together under it.
    fn ban_rule(&self, why: &str) -> (Scope, BanRule) {
        let mut knocks = self.policy.knocks.iter();
        let own = knocks.find(|knock| knock.name.as_str() == why);
        match own.and_then(|knock| Some((knock, knock.ban?))) {
            Some((knock, rule)) => (Some(knock.name.clone()), rule),
            None => (None, self.policy.ban),
        }
    }

    /// Takes up how long the last ban was, from one that outlived the daemon.
    pub(super) fn recall_ban(
        &mut self,
        gate: usize,
        net: IpNet,
        why: &str,
        deadline: Deadline,
        now: Time,
    ) {
        let knock = self.policy.knocks.iter().find(|k| k.name.as_str() == why);
        if knock.is_none() && why != SCAN_GUARD {
            return;
        }
        let own = knock.and_then(|knock| knock.lifetime);
        let first = own.unwrap_or(self.policy.gates[gate].ban_timeout);
        let left = deadline.remaining(now);
        let (_, rule) = self.ban_rule(why);
        if let (Some(longest), Lifetime::For(first), Lifetime::For(left)) =
            (rule.longest, first, left)
        {
            let past = &mut self.ledgers[gate].past;
            past.recall(net, (first, left), longest, now);
        }
    }

    /// Takes those out who have not stepped on decoys often enough to be banned, and counts.
    fn leave_who_may_go_on(
        &mut self,
        bans: &mut Vec<(usize, IpNet)>,
        source: IpAddr,
        why: &str,
        scope: &Scope,
        rule: &BanRule,
        out: &mut Out,
    ) {
        if rule.after <= 1 {
            return;
        }
        let mut counts: BTreeMap<IpNet, usize> = BTreeMap::new();
        for &(_, net) in &*bans {
            let steps = &mut self.steps;
            let count = || steps.take(scope.clone(), net, rule, out.now);
            counts.entry(net).or_insert_with(count);
        }
        bans.retain(|(_, net)| counts[net] >= usize::from(rule.after));
        if let (true, Some(most)) = (bans.is_empty(), counts.values().max()) {
            let after = rule.after;
            self.log(out, |_| {
                format!("{source}: {why}: {most} of {after} times that ban")
            });
        }
    }

    /// What a ban of the source covers at the gate, or what speaks against it.
    fn bannable(&self, gate: usize, source: IpAddr) -> Result<IpNet, String> {
        let wide = net_of_prefix(source, self.policy.gates[gate].ipv6_prefix);
        if self.protection(gate, wide).is_none() {
            return Ok(wide);
        }
        let alone = host_net(source);
        self.protection(gate, alone).map_or(Ok(alone), Err)
    }

    fn ban_by_knock(
        &mut self,
        gate: usize,
        net: IpNet,
        source: IpAddr,
        why: &str,
        lifetime: Lifetime,
        out: &mut Out,
    ) {
        let mut grant = Grant::lasting(lifetime, out, why);
        let held = self.ledgers[gate].banned().get(net);
        let is_new = held.is_none();
        if let Some(held) = held.filter(|held| held.grant.deadline >= grant.deadline) {
            grant = held.grant.clone();
        }
        let banned = Record::new(What::Banned, why).of(&self.policy.gates[gate].name, net);
        let banned = banned.until(grant.deadline);
        if is_new {
            self.record(banned);
        } else {
            self.record_cheap(out.now, |_| banned);
        }
        self.ban(gate, net, grant, true, out);
        self.log(out, |engine| {
            let gate = &engine.policy.gates[gate].name;
            format!(
                "{source}: {why}: {} banned at {gate}, {}",
                shown(net),
                until(lifetime)
            )
        });
    }

    /// Writes a ban that nothing speaks against. The ban comes before the end of the acceptance,
    /// so that there is no moment between the two.
    pub(super) fn ban(
        &mut self,
        gate: usize,
        net: IpNet,
        grant: Grant,
        by_knock: bool,
        out: &mut Out,
    ) {
        let name = self.policy.gates[gate].name.clone();
        self.journal.lose(Some(&name), Lost::Accepted(net));
        let ledger = &mut self.ledgers[gate];
        out.put(&name, Chain::Banned, net, &grant);
        if let Some(evicted) = ledger.ban(net, grant, by_knock) {
            self.evicted_bans += 1;
            out.remove(&name, Chain::Banned, evicted);
            let evicted = Record::new(What::Evicted, "too many bans by knock").of(&name, evicted);
            self.journal.push(evicted);
        }
        let ended: Vec<IpNet> = ledger
            .accepted()
            .within(net)
            .map(|(inner, _)| inner)
            .collect();
        for inner in ended {
            ledger.withdraw(inner);
            out.remove(&name, Chain::Filter, inner);
            let withdrawn = Record::new(What::Withdrawn, "banned").of(&name, inner);
            self.journal.push(withdrawn);
        }
    }
}
