use std::net::IpAddr;

use ipnet::IpNet;

use super::event::{Command, Flush, Outcome, Who};
use super::knocks::until;
use super::ledger::{Grant, MOST_ACCEPTED};
use super::out::Out;
use super::trust::Runtime;
use super::{Engine, shown};
use crate::model::{Chain, GateName, Lifetime, canonical, canonical_net, host_net, net_of_prefix};

/// Exit codes of the contract; 0 is done, or nothing to do.
const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
const UNSAFE: u8 = 4;

/// Collects what a command did. A command that is refused for one of its addresses does nothing
/// for the others either.
#[derive(Debug, Default)]
struct Report {
    done: Vec<String>,
    refused: Vec<String>,
    code: u8,
}

impl Report {
    fn refuse(&mut self, code: u8, text: String) {
        self.code = self.code.max(code);
        self.refused.push(text);
    }
}

impl Engine {
    /// Carries a command out, or refuses it whole.
    pub(super) fn command(&mut self, who: &Who, command: Command, out: &mut Out) {
        let mut report = Report::default();
        let names = match &command {
            Command::Accept { gates, .. }
            | Command::Drop { gates, .. }
            | Command::Trust { gates, .. }
            | Command::Untrust { gates, .. }
            | Command::Unban { gates, .. }
            | Command::Flush { gates, .. }
            | Command::Open { gates, .. }
            | Command::Close { gates } => gates,
        };
        let every = names.is_empty();
        match self.indexes(names) {
            Ok(gates) => self.carry_out(who, command, &gates, every, &mut report, out),
            Err(unknown) => report.refuse(BAD_INPUT, self.no_such_gate(&unknown)),
        }
        for line in &report.done {
            out.info(format!("{who}: {line}"));
        }
        for line in &report.refused {
            out.warn(format!("{who}: refused: {line}"));
        }
        if report.done.is_empty() && report.refused.is_empty() {
            report.done.push("nothing to do".to_owned());
        }
        let Report {
            done,
            refused,
            code,
        } = report;
        out.reply(Outcome {
            code,
            done,
            refused,
        });
    }

    fn no_such_gate(&self, unknown: &GateName) -> String {
        let names: Vec<&str> = self
            .policy
            .gates
            .iter()
            .map(|gate| gate.name.as_str())
            .collect();
        format!(
            "there is no gate `{unknown}`; the policy has: {}",
            names.join(", ")
        )
    }

    fn carry_out(
        &mut self,
        who: &Who,
        command: Command,
        gates: &[usize],
        every: bool,
        report: &mut Report,
        out: &mut Out,
    ) {
        let at = (!every).then_some(gates);
        match command {
            Command::Accept {
                addresses,
                lifetime,
                force,
                ..
            } => {
                let addresses: Vec<IpAddr> = addresses.into_iter().map(canonical).collect();
                self.accept_command(who, &addresses, gates, lifetime, force, report, out);
            }
            Command::Drop {
                nets,
                lifetime,
                force,
                ..
            } => {
                let nets: Vec<IpNet> = nets.into_iter().map(canonical_net).collect();
                self.drop_command(who, &nets, gates, lifetime, force, report, out);
            }
            Command::Trust { nets, .. } => {
                for net in nets.into_iter().map(canonical_net) {
                    let runtime = Runtime {
                        reason: who.to_string(),
                        stored: true,
                    };
                    self.trust_at_runtime(at, net, &runtime, out);
                    let place = self.place(at);
                    report
                        .done
                        .push(format!("{} trusted{place} until reboot", shown(net)));
                }
            }
            Command::Untrust { nets, .. } => {
                for net in nets.into_iter().map(canonical_net) {
                    if self.untrust_at_runtime(at, net, out) {
                        let place = self.place(at);
                        report
                            .done
                            .push(format!("{} no longer trusted{place}", shown(net)));
                    }
                }
            }
            Command::Unban { nets, .. } => {
                let nets: Vec<IpNet> = nets.into_iter().map(canonical_net).collect();
                self.unban_command(&nets, gates, report, out);
            }
            Command::Flush { what, .. } => {
                for what in what {
                    self.flush_command(what, gates, report, out);
                }
            }
            Command::Open { lifetime, .. } => {
                for &gate in gates {
                    self.open_gate(gate, &who.0, lifetime, out);
                    let rules = &self.policy.gates[gate];
                    let time = until(lifetime.unwrap_or(rules.accept_timeout));
                    report
                        .done
                        .push(format!("{}: open to everybody {time}", rules.name));
                }
            }
            Command::Close { .. } => {
                for &gate in gates {
                    if self.close_gate(gate, out) {
                        let name = &self.policy.gates[gate].name;
                        report
                            .done
                            .push(format!("{name}: no longer open to everybody"));
                    }
                }
            }
        }
    }

    /// ` at ssh, vpn`, or nothing for every gate.
    fn place(&self, gates: Option<&[usize]>) -> String {
        let Some(gates) = gates else {
            return String::new();
        };
        let names: Vec<&str> = gates
            .iter()
            .map(|&gate| self.policy.gates[gate].name.as_str())
            .collect();
        format!(" at {}", names.join(", "))
    }

    #[expect(clippy::too_many_arguments, reason = "the options of one command")]
    fn accept_command(
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
                    report
                        .done
                        .push(format!("{}: the ban of {address} is lifted", rules.name));
                }
                let net = net_of_prefix(address, rules.ipv6_prefix);
                let grant = Grant::lasting(lifetime, out, &who.0);
                out.put(&rules.name, Chain::Filter, net, &grant);
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
        for ban in lifted {
            out.remove(&name, Chain::Banned, ban);
        }
        for (rest, grant) in put {
            out.put(&name, Chain::Banned, rest, &grant);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the options of one command")]
    fn drop_command(
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
                self.ban(gate, net, grant, false, out);
                let time = until(lifetime);
                report
                    .done
                    .push(format!("{}: {} banned {time}", rules.name, shown(net)));
            }
        }
    }

    fn unban_command(
        &mut self,
        nets: &[IpNet],
        gates: &[usize],
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
        for &gate in gates {
            let name = self.policy.gates[gate].name.clone();
            for &net in nets {
                if self.ledgers[gate].lift(net).is_some() {
                    out.remove(&name, Chain::Banned, net);
                    report
                        .done
                        .push(format!("{name}: the ban of {} is lifted", shown(net)));
                }
            }
        }
    }

    fn flush_command(&mut self, what: Flush, gates: &[usize], report: &mut Report, out: &mut Out) {
        for &gate in gates {
            let name = self.policy.gates[gate].name.clone();
            if let Flush::Address(address) = what {
                if let Some(net) = self.withdraw(gate, canonical(address), out) {
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
                if closed || !nets.is_empty() {
                    let also = if closed {
                        ", and it is no longer open to everybody"
                    } else {
                        ""
                    };
                    let count = nets.len();
                    report
                        .done
                        .push(format!("{name}: {count} acceptances withdrawn{also}"));
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
                    out.remove(&name, Chain::Banned, net);
                }
                if !nets.is_empty() {
                    report
                        .done
                        .push(format!("{name}: {} bans lifted", nets.len()));
                }
            }
        }
    }
}
