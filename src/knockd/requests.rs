//! What is asked on the control socket.

use std::collections::BTreeMap;

use crate::control::protocol::{
    AttemptStatus, Data, GateStatus, KnockStatus, PacketStatus, PortStatus, Status, UntrackedStatus,
};
use crate::control::{Asked, Entry, Response};
use crate::engine::{Command, Event, GateView, KnockView, Outcome, Who};
use crate::firewall::Member;
use crate::model::{Chain, KnockPort, Lifetime};
use crate::packet::NotAKnock;

use super::answers::{self, is_host};
use super::daemon::{Daemon, now};
use super::guard::Prepared;
use super::problems::DAMAGED;
use super::recall;
use super::whitelisting::Whitelisting;

impl Daemon {
    /// Carries out a request and answers it. `Teardown` is the loop's to finish.
    pub(super) fn answer(&mut self, asked: Asked, who: &Who, prepared: Prepared) -> Response {
        let Prepared { operators, checked } = prepared;
        let operators = &operators;
        if let Some(refusal) = self.guard(&asked, who, operators) {
            return refusal;
        }
        match asked {
            Asked::Engine(command) => self.command(who, command),
            Asked::Trust {
                entries,
                runtime: true,
                gates,
                ..
            } => self.command(
                who,
                Command::Trust {
                    nets: nets(&entries),
                    gates,
                },
            ),
            Asked::Trust {
                entries,
                comment,
                force,
                ..
            } => self.trust(&entries, comment.as_deref(), force, who),
            Asked::Untrust {
                entries,
                runtime: true,
                gates,
                ..
            } => self.command(
                who,
                Command::Untrust {
                    nets: nets(&entries),
                    gates,
                },
            ),
            Asked::Untrust { entries, .. } => self.untrust(&entries, who),
            Asked::Status => self.status(),
            Asked::List { chains, gates } => {
                answers::list(&self.engine, &mut *self.firewall, &chains, &gates, now())
            }
            Asked::Why { addresses, gates } => self.why(&addresses, &gates),
            Asked::History { .. } => Response::refused(1, "the history is read elsewhere"),
            Asked::Ping => Response::new(0, vec!["knockd is running".into()], Vec::new()),
            Asked::Reload { force } => self.reload(force, who, operators),
            Asked::Diff(policy) => self.diff(&policy, checked),
            Asked::Apply {
                policy,
                confirm,
                force,
            } => self.apply_policy(policy, checked, confirm, force, who, operators),
            Asked::Confirm => self.confirm(who),
            Asked::Rollback { force } => self.rollback(force, who, operators),
            Asked::Teardown => self.teardown(who),
        }
    }

    fn command(&mut self, who: &Who, command: Command) -> Response {
        if matches!(command, Command::Flush { .. } | Command::Unban { .. }) {
            self.adopt_strangers();
        }
        let outcome = self.handle(Event::Command {
            who: who.clone(),
            command,
        });
        match outcome {
            Some(outcome) => told(outcome),
            None => Response::refused(1, "the daemon gave no answer; its log may say why"),
        }
    }

    /// Takes over members that somebody else has put into the kernel, so that what empties a
    /// chain empties it of them too.
    fn adopt_strangers(&mut self) {
        let held = match self
            .firewall
            .observe_chains(&[Chain::Banned, Chain::Filter])
        {
            Ok(held) => held.unwrap_or_default().members,
            Err(error) => {
                tracing::warn!("{error}");
                return;
            }
        };
        let stranger = |member: &Member| {
            let known = self.engine.reason(&member.gate, member.chain, member.net);
            member.chain != Chain::Trusted && is_host(member.net) && known.is_none()
        };
        let strangers: Vec<Member> = held.into_iter().filter(stranger).collect();
        if !strangers.is_empty() {
            self.handle(Event::Adopt(strangers));
        }
    }

    fn status(&mut self) -> Response {
        self.problems.set("state", self.memory.problem());
        self.problems
            .set_all(DAMAGED, recall::damaged(self.memory.dir()));
        let mut problems: Vec<String> = self.problems.lines().map(ToOwned::to_owned).collect();
        // The log has said it of each when it was tried.
        problems.extend(self.roster.not_resolved(&self.unresolved));
        let now = now();
        let gates = self.engine.gates(now);
        // And this of each knock that was refused.
        problems.extend(gates.iter().filter(|gate| gate.is_full).map(full));
        let degraded = !problems.is_empty();
        let gates = gates.into_iter().map(|view| GateStatus {
            ports: self
                .engine
                .policy()
                .gate(&view.name)
                .map(|gate| gate.ports.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            name: view.name.to_string(),
            accepted: view.accepted as u64,
            banned: view.banned as u64,
            trusted: view.trusted as u64,
            open: view.open.is_some(),
            open_expires_in_s: view.open.and_then(Lifetime::as_secs),
        });
        let status = Status {
            gates: gates.collect(),
            backend: self.firewall.kind().to_string(),
            backend_reason: self.backend_reason.clone(),
            state: if degraded { "degraded" } else { "running" }.to_owned(),
            problems,
            uptime_s: now.since(self.started).as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policy: self.policies.path().display().to_string(),
            change: self.change_status(),
            knocks: self.engine.knocks().iter().map(knock_status).collect(),
            ports: self
                .matcher
                .arrivals()
                .filter(|(port, _)| !self.clockwork.timed.may_have(*port))
                .map(port_status)
                .collect(),
            repairs: self.drift.status(now),
            packets: self.packet_status(),
            attempts: self.attempt_status(),
            scheduling: self.scheduling.name().to_owned(),
            awake: self.awake.status(now),
            untracked: self.untracked_status(),
            history_left_out: self.memory.left_out(),
        };
        Response::with_data(if degraded { 5 } else { 0 }, Data::Status(Box::new(status)))
    }

    fn packet_status(&mut self) -> PacketStatus {
        let counted = self.capture.statistics();
        self.problems.set(
            "statistics",
            counted.as_ref().err().map(ToString::to_string),
        );
        let counted = counted.unwrap_or_default();
        let refused = self.engine.refused();
        PacketStatus {
            seen: counted.seen,
            dropped: counted.dropped,
            knocks: self.packets.knocks,
            foreign: self.packets.others,
            not_for_us: self.packets.not_for_us,
            refused: self.packets.refused.values().sum(),
            refused_kinds: refused_kinds(&self.packets.refused),
            other_interfaces: self.packets.other_interfaces(self.capture.taken()),
            refused_bans: refused.bans,
            refused_renewals: refused.renewals,
            refused_acceptances: refused.acceptances,
            refused_trust: refused.trust,
            refused_commands: refused.commands,
            evicted_bans: self.engine.evicted_bans(),
            unlogged: self.engine.unlogged() + self.packets.unlogged,
            lost_lines: self.lost_lines.count(),
        }
    }

    fn attempt_status(&self) -> AttemptStatus {
        let (used, capacity) = self.matcher.occupancy();
        AttemptStatus {
            used: used as u64,
            capacity: capacity as u64,
            evicted: self.matcher.evicted(),
        }
    }

    fn untracked_status(&self) -> UntrackedStatus {
        let (ports, why_none) = self.untracked.parts();
        UntrackedStatus {
            ports: ports.iter().map(ToString::to_string).collect(),
            why_none: why_none.map(str::to_owned),
        }
    }
}

fn refused_kinds(counted: &BTreeMap<NotAKnock, u64>) -> BTreeMap<String, u64> {
    let kinds = counted.iter();
    kinds
        .map(|(kind, count)| (kind.name().to_owned(), *count))
        .collect()
}

fn full(gate: &GateView) -> String {
    let GateView { name, accepted, .. } = gate;
    format!(
        "gate {name} accepts {accepted} addresses, which is the most: knocks of others are refused until \
         some are over, or until `knockctl flush`"
    )
}

fn knock_status(view: &KnockView) -> KnockStatus {
    KnockStatus {
        name: view.name.to_string(),
        completed: view.completed,
    }
}

fn port_status((port, arrived): (KnockPort, u64)) -> PortStatus {
    PortStatus {
        port: port.to_string(),
        arrived,
    }
}

/// The answer to a command that the engine has carried out.
pub(super) fn told(outcome: Outcome) -> Response {
    let mut done = outcome.done;
    done.extend(outcome.unchanged.into_iter().map(|(_, line)| line));
    answer(outcome.code, done, outcome.refused)
}

/// The answer to a command; where nothing changed it says so.
pub(super) fn answer(code: u8, mut done: Vec<String>, refused: Vec<String>) -> Response {
    if done.is_empty() && refused.is_empty() {
        done.push("nothing to do".to_owned());
    }
    Response::new(code, done, refused)
}

/// The addresses and networks among the entries.
pub(super) fn nets(entries: &[Entry]) -> Vec<ipnet::IpNet> {
    let net = |entry: &Entry| match entry {
        Entry::Net(net) => Some(*net),
        Entry::Name(_) => None,
    };
    entries.iter().filter_map(net).collect()
}
