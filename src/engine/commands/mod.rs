//! What `knockctl` asks of the engine: carried out, or refused whole.

mod access;

use std::net::IpAddr;

use ipnet::IpNet;

use super::event::{Command, Outcome, Who};
use super::knocks::until;
use super::out::Out;
use super::trust::Runtime;
use super::{Engine, Flush, Lost, Record, What, shown};
use crate::model::{GateName, Lifetime, canonical, canonical_net, host_net};

/// Exit codes of the contract; 0 is done, or nothing to do.
const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
const UNSAFE: u8 = 4;

/// Collects what a command did. A command that is refused for one of its addresses does nothing
/// for the others either.
#[derive(Debug, Default)]
struct Report {
    done: Vec<String>,
    unchanged: Vec<(IpNet, String)>,
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
        let names = command.gates();
        let every = names.is_empty();
        match self.indexes(names) {
            Ok(gates) if gates.is_empty() => {
                report.refuse(BAD_INPUT, "this policy has no gates".to_owned());
            }
            Ok(gates) => self.carry_out(who, command, &gates, every, &mut report, out),
            Err(unknown) => report.refuse(BAD_INPUT, self.no_such_gate(&unknown)),
        }
        for line in &report.done {
            out.info(format!("{who}: {line}"));
        }
        for line in &report.refused {
            let refused = Record::new(What::Refused, &who.0).saying(line).by_hand();
            self.record(refused);
            out.warn(format!("{who}: refused: {line}"));
        }
        let Report {
            done,
            unchanged,
            refused,
            code,
        } = report;
        out.reply(Outcome {
            code,
            done,
            unchanged,
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
        let place = self.place(at);
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
                if every && report.refused.is_empty() {
                    for net in nets {
                        self.journal.lose(None, Lost::Accepted(net));
                    }
                }
            }
            Command::Trust { nets, .. } => self.trust_command(who, nets, at, report, out),
            Command::Untrust { nets, .. } => self.untrust_command(who, nets, at, report, out),
            Command::Unban { nets, .. } => {
                let nets: Vec<IpNet> = nets.into_iter().map(canonical_net).collect();
                self.unban_command(who, &nets, gates, &place, report, out);
            }
            Command::Flush { what, .. } => {
                for what in what {
                    self.lose_what_is_flushed(what, at);
                    self.flush_command(who, what, gates, &place, report, out);
                }
            }
            Command::Open { lifetime, .. } => {
                self.open_command(who, gates, lifetime, report, out);
            }
            Command::Close { .. } => {
                if every {
                    self.journal.lose(None, Lost::Open);
                }
                for &gate in gates {
                    if self.close_gate(gate, out) {
                        let name = &self.policy.gates[gate].name;
                        let closed = Record::new(What::Closed, &who.0).at(name);
                        self.journal.push(closed.by_hand());
                        report
                            .done
                            .push(format!("{name}: no longer open to everybody"));
                    }
                }
            }
        }
    }

    /// A flush is one of what was held before, too, if another policy is only tried.
    fn lose_what_is_flushed(&mut self, what: Flush, at: Option<&[usize]>) {
        let lost: &[Lost] = match what {
            Flush::Address(address) => &[Lost::Accepted(host_net(canonical(address)))],
            Flush::Filter => &[Lost::Filter],
            Flush::Banned => &[Lost::Banned],
            Flush::All => &[Lost::Filter, Lost::Banned],
        };
        for lost in lost {
            let Some(gates) = at else {
                self.journal.lose(None, lost.clone());
                continue;
            };
            for &gate in gates {
                let name = &self.policy.gates[gate].name;
                self.journal.lose(Some(name), lost.clone());
            }
        }
    }

    fn open_command(
        &mut self,
        who: &Who,
        gates: &[usize],
        lifetime: Option<Lifetime>,
        report: &mut Report,
        out: &mut Out,
    ) {
        for &gate in gates {
            self.open_gate(gate, &who.0, lifetime, out);
            let rules = &self.policy.gates[gate];
            let lifetime = lifetime.unwrap_or(rules.accept_timeout);
            let time = until(lifetime);
            let opened = Record::new(What::Opened, &who.0).at(&rules.name);
            let opened = opened.until(lifetime.deadline(out.now));
            self.journal.push(opened.by_hand());
            report
                .done
                .push(format!("{}: open to everybody {time}", rules.name));
        }
    }

    fn trust_command(
        &mut self,
        who: &Who,
        nets: Vec<IpNet>,
        at: Option<&[usize]>,
        report: &mut Report,
        out: &mut Out,
    ) {
        let runtime = Runtime {
            reason: who.to_string(),
            stored: true,
        };
        let place = self.place(at);
        for net in nets.into_iter().map(canonical_net) {
            self.trust_at_runtime(at, net, &runtime, out);
            let trusted = Record::new(What::Trusted, &who.0).to(net);
            self.record(trusted.saying(format!("until reboot{place}")).by_hand());
            report
                .done
                .push(format!("{} trusted{place} until reboot", shown(net)));
        }
    }

    fn untrust_command(
        &mut self,
        who: &Who,
        nets: Vec<IpNet>,
        at: Option<&[usize]>,
        report: &mut Report,
        out: &mut Out,
    ) {
        let nets: Vec<IpNet> = nets.into_iter().map(canonical_net).collect();
        for &net in &nets {
            if let Some(elsewhere) = self.trusted_elsewhere(at, net) {
                report.refuse(FAILED, elsewhere);
            }
        }
        if !report.refused.is_empty() {
            return;
        }
        let place = self.place(at);
        for net in nets {
            if at.is_none() {
                self.journal.lose(None, Lost::Trust(net));
            }
            if self.untrust_at_runtime(at, net, out) {
                let untrusted = Record::new(What::Untrusted, &who.0).to(net);
                self.record(untrusted.saying(place.trim()).by_hand());
                report
                    .done
                    .push(format!("{} no longer trusted{place}", shown(net)));
            } else {
                let mut line = format!("{} is not trusted{place}", shown(net));
                if self.whitelist.lookup(net).is_some() {
                    line.push_str(
                        " at run time, but by the whitelist: untrust it without --runtime",
                    );
                }
                report.unchanged.push((net, line));
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
}
