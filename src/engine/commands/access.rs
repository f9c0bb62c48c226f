//! Who gets in and who does not: accept, drop, unban, flush.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{FAILED, Report, UNSAFE};
use crate::engine::event::{Flush, Who};
use crate::engine::knocks::until;
use crate::engine::ledger::{Grant, MOST_ACCEPTED};
use crate::engine::out::Out;
use crate::engine::{Engine, Record, What, shown};
use crate::model::{Chain, Lifetime, canonical, host_net, net_of_prefix};

impl Engine {
    #[expect(clippy::too_many_arguments, reason = "the options of one command")]
    pub(super) fn accept_command(
        &mut self,
        who: &Who,
        addresses: &[IpAddr],
        gates: &[usize],
        lifetime: Option<Lifetime>,
        force: bool,
        report: &mut Report,
        out: &mut Out,
    ) {
        for &gate in gates {
            let ledger = &self.ledgers[gate];
            let name = &self.policy.gates[gate].name;
            for &address in addresses {
                let banned = ledger.banned().lookup(host_net(address));
                if let Some((net, ban)) = banned.filter(|_| !force) {
                    let left = until(ban.grant.deadline.remaining(out.now));
                    let reason = &ban.grant.reason;
                    report.refuse(
                        UNSAFE,
                        format!(
                            "{name}: {address} is banned {left} ({}, {reason}); \
                             lift the ban with `unban`, or use --force",
                            shown(net)
                        ),
                    );
                }
            }
            if ledger.accepted().len() + addresses.len() > MOST_ACCEPTED {
                report.refuse(
                    FAILED,
                    format!("{name}: {MOST_ACCEPTED} addresses are accepted, which is the most"),
                );
            }
        }
        if !report.refused.is_empty() {
            return;
        }
        for &gate in gates {
            let rules = self.policy.gates[gate].clone();
            let lifetime = lifetime.unwrap_or(rules.accept_timeout);
            for &address in addresses {
                if self.ledgers[gate]
                    .banned()
                    .lookup(host_net(address))
                    .is_some()
                {
                    self.lift_overlapping(gate, host_net(address), out);
                    let unbanned = Record::new(What::Unbanned, &who.0);
                    let unbanned = unbanned.of(&rules.name, host_net(address));
                    self.record(unbanned.by_hand());
                    report
                        .done
                        .push(format!("{}: the ban of {address} is lifted", rules.name));
                }
                let net = net_of_prefix(address, rules.ipv6_prefix);
                let grant = Grant::lasting(lifetime, out, &who.0);
                out.put(&rules.name, Chain::Filter, net, &grant);
                let accepted = Record::new(What::Accepted, &who.0).of(&rules.name, net);
                self.record(accepted.until(grant.deadline).by_hand());
                self.ledgers[gate].accept(net, grant);
                let time = until(lifetime);
                report
                    .done
                    .push(format!("{}: {} accepted {time}", rules.name, shown(net)));
            }
        }
    }

    fn lift_overlapping(&mut self, gate: usize, net: IpNet, out: &mut Out) {
        let name = self.policy.gates[gate].name.clone();
        let (lifted, put) = self.ledgers[gate].carve(net);
        out.carved(&name, &lifted, &put);
    }

    #[expect(clippy::too_many_arguments, reason = "the options of one command")]
    pub(super) fn drop_command(
        &mut self,
        who: &Who,
        nets: &[IpNet],
        gates: &[usize],
        lifetime: Option<Lifetime>,
        force: bool,
        report: &mut Report,
        out: &mut Out,
    ) {
        for &gate in gates {
            let name = &self.policy.gates[gate].name;
            for &net in nets {
                let own = self.own.iter().any(|own| net.contains(own));
                if let Some(why) = self.protection(gate, net).filter(|_| own || !force) {
                    let way = if own {
                        ""
                    } else {
                        "; use --force to ban it all the same"
                    };
                    report.refuse(
                        UNSAFE,
                        format!("{name}: {} not banned: {why}{way}", shown(net)),
                    );
                }
            }
        }
        if !report.refused.is_empty() {
            return;
        }
        for &gate in gates {
            let rules = self.policy.gates[gate].clone();
            let lifetime = lifetime.unwrap_or(rules.ban_timeout);
            for &net in nets {
                self.withdraw_trust(gate, net, out);
                let grant = Grant::lasting(lifetime, out, &who.0);
                self.ledgers[gate].lift(net);
                let banned = Record::new(What::Banned, &who.0).of(&rules.name, net);
                self.record(banned.until(grant.deadline).by_hand());
                self.ban(gate, net, grant, false, out);
                let time = until(lifetime);
                let mut line = format!("{}: {} banned {time}", rules.name, shown(net));
                if let Some((_, until)) = self.withheld(gate, net) {
                    line = format!("{line}; trust in it is withdrawn {until}");
                }
                report.done.push(line);
            }
        }
    }

    pub(super) fn unban_command(
        &mut self,
        who: &Who,
        nets: &[IpNet],
        gates: &[usize],
        place: &str,
        report: &mut Report,
        out: &mut Out,
    ) {
        for &gate in gates {
            let banned = self.ledgers[gate].banned();
            for &net in nets {
                if banned.get(net).is_some() {
                    continue;
                }
                if let Some((wider, _)) = banned.lookup(net) {
                    let name = &self.policy.gates[gate].name;
                    report.refuse(
                        FAILED,
                        format!(
                            "{name}: {} is banned as part of {wider}; \
                             unban {wider}, or let the address in with `accept --force`",
                            shown(net)
                        ),
                    );
                }
            }
        }
        if !report.refused.is_empty() {
            return;
        }
        for &net in nets {
            if let Some(line) = self.not_banned(net, gates, place) {
                report.unchanged.push((net, line));
            }
        }
        for &gate in gates {
            let name = self.policy.gates[gate].name.clone();
            for &net in nets {
                if self.ledgers[gate].lift(net).is_some() {
                    self.ledgers[gate].past.forgive(net);
                    out.remove(&name, Chain::Banned, net);
                    let unbanned = Record::new(What::Unbanned, &who.0).of(&name, net);
                    self.record(unbanned.by_hand());
                    let mut line = format!("{name}: the ban of {} is lifted", shown(net));
                    if let Some((wider, _)) = self.ledgers[gate].banned().lookup(net) {
                        line = format!("{line}; it is still banned as part of {wider}");
                    }
                    if let Some((_, until)) = self.withheld(gate, net) {
                        line = format!("{line}; trust in it stays withdrawn {until}");
                    }
                    report.done.push(line);
                }
            }
        }
    }

    /// What is said where there is no ban of `net` to lift at any of the gates.
    fn not_banned(&self, net: IpNet, gates: &[usize], place: &str) -> Option<String> {
        let mut bans = gates.iter().map(|&gate| self.ledgers[gate].banned());
        if bans.clone().any(|banned| banned.get(net).is_some()) {
            return None;
        }
        let mut line = format!("{} is not banned{place}", shown(net));
        if let Some((part, _)) = bans.find_map(|banned| banned.within(net).next()) {
            line = format!("{line} as a whole, but {} in it is", shown(part));
        }
        let withheld = gates.iter().find_map(|&gate| self.withheld(gate, net));
        if let Some((_, until)) = withheld {
            line = format!("{line}; trust in it stays withdrawn {until}");
        }
        Some(line)
    }

    pub(super) fn flush_command(
        &mut self,
        who: &Who,
        what: Flush,
        gates: &[usize],
        place: &str,
        report: &mut Report,
        out: &mut Out,
    ) {
        let done = report.done.len();
        for &gate in gates {
            let name = self.policy.gates[gate].name.clone();
            if let Flush::Address(address) = what {
                if let Some(net) = self.withdraw(gate, canonical(address), out) {
                    let withdrawn = Record::new(What::Withdrawn, &who.0).of(&name, net);
                    self.record(withdrawn.by_hand());
                    let line = format!("{name}: the acceptance of {} is withdrawn", shown(net));
                    report.done.push(line);
                }
                continue;
            }
            if what != Flush::Banned {
                let nets: Vec<IpNet> = self.ledgers[gate]
                    .accepted()
                    .iter()
                    .map(|(net, _)| net)
                    .collect();
                for &net in &nets {
                    self.ledgers[gate].withdraw(net);
                    out.remove(&name, Chain::Filter, net);
                }
                let closed = self.close_gate(gate, out);
                if !nets.is_empty() {
                    let line = count(nets.len(), "acceptance withdrawn", "acceptances withdrawn");
                    let flushed = Record::new(What::Flushed, &who.0).at(&name).saying(&line);
                    self.record(flushed.by_hand());
                    report.done.push(format!("{name}: {line}"));
                }
                if closed {
                    self.record(Record::new(What::Closed, &who.0).at(&name).by_hand());
                    report
                        .done
                        .push(format!("{name}: no longer open to everybody"));
                }
            }
            if what != Flush::Filter {
                let nets: Vec<IpNet> = self.ledgers[gate]
                    .banned()
                    .iter()
                    .map(|(net, _)| net)
                    .collect();
                for &net in &nets {
                    self.ledgers[gate].lift(net);
                    self.ledgers[gate].past.forgive(net);
                    out.remove(&name, Chain::Banned, net);
                }
                if !nets.is_empty() {
                    let mut line = count(nets.len(), "ban lifted", "bans lifted");
                    let flushed = Record::new(What::Flushed, &who.0).at(&name).saying(&line);
                    self.record(flushed.by_hand());
                    if nets.iter().any(|net| self.withheld(gate, *net).is_some()) {
                        line.push_str(
                            "; trust that forced bans withdrew stays so until restart or `trust`",
                        );
                    }
                    report.done.push(format!("{name}: {line}"));
                }
            }
        }
        if let (Flush::Address(address), true) = (what, report.done.len() == done) {
            let line = format!("{} is not accepted{place}", canonical(address));
            report.unchanged.push((host_net(canonical(address)), line));
        }
    }
}

/// "1 ban lifted", "2 bans lifted".
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
