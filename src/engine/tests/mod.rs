//! Each sentence of "What the engine decides" and "Start, reload, stop" in the design is a test by
//! name; the promises about trust and bans are properties.

mod changes;
mod commands;
mod floods;
mod found;
mod knocks;
mod memo;
mod offences;
mod properties;
mod run;
mod start;

use std::time::Duration;

use super::*;
use crate::firewall::Change;
use crate::fixtures::{address, appliance, gate, knock, policy};
use crate::model::{Lifetime, net_of_prefix};
use crate::policy::KnockAction;

pub(super) const A: &str = "198.51.100.7";
pub(super) const B: &str = "203.0.113.9";
pub(super) const SIX: &str = "2001:db8:1:2::7";

pub(super) fn net(text: &str) -> IpNet {
    text.parse()
        .unwrap_or_else(|_| net_of_prefix(address(text), 128))
}

/// An engine with a clock, and the last event's actions.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Time,
    pub(super) actions: Vec<Action>,
}

impl Bench {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            engine: Engine::new(policy),
            now: Time::from_secs(1000),
            actions: Vec::new(),
        }
    }

    pub(super) fn appliance() -> Self {
        Self::new(appliance())
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.actions = self.engine.handle(event, self.now);
    }

    pub(super) fn knocked(&mut self, source: &str, knock: &str) {
        let knock = KnockName::new(knock).unwrap();
        self.handle(Event::Knocked {
            source: address(source),
            knock,
        });
    }

    pub(super) fn command(&mut self, command: Command) -> Outcome {
        self.handle(Event::Command {
            who: Who("knockctl by root".into()),
            command,
        });
        let replies: Vec<_> = self
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Reply(outcome) => Some(outcome.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(replies.len(), 1, "a command is answered once");
        replies[0].clone()
    }

    pub(super) fn accept(&mut self, who: &str, force: bool) -> Outcome {
        let addresses = vec![address(who)];
        self.command(Command::Accept {
            addresses,
            gates: vec![],
            lifetime: None,
            force,
        })
    }

    pub(super) fn drop(&mut self, who: &str, force: bool) -> Outcome {
        let nets = vec![net(who)];
        self.command(Command::Drop {
            nets,
            gates: vec![],
            lifetime: None,
            force,
        })
    }

    pub(super) fn whitelist(&mut self, entries: &[&str]) {
        let entries = entries
            .iter()
            .map(|e| (net(e), format!("whitelist: {e}")))
            .collect();
        self.handle(Event::Whitelist(entries));
    }

    pub(super) fn wait(&mut self, secs: u64) {
        self.now = self.now.after(Duration::from_secs(secs));
    }

    pub(super) fn tick_after(&mut self, secs: u64) {
        self.wait(secs);
        self.handle(Event::Tick);
    }

    pub(super) fn lets_in(&self, who: &str) -> bool {
        self.engine.lets_in(0, address(who))
    }

    /// The kernel's changes of the last event, as `+ssh_filter 1.2.3.4/32 300 reason`.
    pub(super) fn changes(&self) -> Vec<String> {
        self.actions
            .iter()
            .filter_map(|action| match action {
                Action::Firewall(Change::Put(m)) => {
                    let left = m
                        .remaining
                        .as_secs()
                        .map_or("never".into(), |s| s.to_string());
                    let chain = m.chain.suffix();
                    Some(format!("+{}_{chain} {} {left} {}", m.gate, m.net, m.reason))
                }
                Action::Firewall(Change::Remove { gate, chain, net }) => {
                    Some(format!("-{gate}_{} {net}", chain.suffix()))
                }
                _ => None,
            })
            .collect()
    }

    pub(super) fn logged(&self, part: &str) -> bool {
        self.actions
            .iter()
            .any(|a| matches!(a, Action::Log(log) if log.words.to_string().contains(part)))
    }

    /// The members of a chain of the first gate, with the seconds that are left.
    pub(super) fn members(&self, chain: Chain) -> Vec<(String, Option<u64>)> {
        let desired = self.engine.desired(self.now);
        let first = &self.engine.policy.gates[0].name;
        desired
            .members
            .iter()
            .filter(|m| m.chain == chain && m.gate == *first)
            .map(|m| (shown(m.net), m.remaining.as_secs()))
            .collect()
    }
}

pub(super) fn left(who: &str, secs: u64) -> (String, Option<u64>) {
    (who.to_owned(), Some(secs))
}

pub(super) fn for_good(who: &str) -> (String, Option<u64>) {
    (who.to_owned(), None)
}
