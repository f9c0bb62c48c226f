use ipnet::IpNet;

use super::event::{Action, Log, LogLevel, Outcome, TrustEdit};
use super::ledger::Grant;
use super::words::Words;
use crate::firewall::{Change, Member};
use crate::model::{Chain, GateName, Time};

/// What one event brings about, collected by kind so that the kernel is always told first.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) now: Time,
    changes: Vec<Change>,
    install: bool,
    store: Vec<TrustEdit>,
    logs: Vec<Log>,
    reply: Option<Outcome>,
}

impl Out {
    pub(super) fn new(now: Time) -> Self {
        Self {
            now,
            changes: Vec::new(),
            install: false,
            store: Vec::new(),
            logs: Vec::new(),
            reply: None,
        }
    }

    pub(super) fn put(&mut self, gate: &GateName, chain: Chain, net: IpNet, grant: &Grant) {
        self.changes.push(Change::Put(Member {
            gate: gate.clone(),
            chain,
            net,
            remaining: grant.deadline.remaining(self.now),
            reason: grant.reason.clone(),
        }));
    }

    pub(super) fn remove(&mut self, gate: &GateName, chain: Chain, net: IpNet) {
        self.changes.push(Change::Remove {
            gate: gate.clone(),
            chain,
            net,
        });
    }

    /// Writes what [`super::ledger::Ledger::carve`] has done to bans: the parts before the whole
    /// goes, since not every kernel takes all of it at once.
    pub(super) fn carved(&mut self, gate: &GateName, lifted: &[IpNet], put: &[(IpNet, Grant)]) {
        for (rest, grant) in put {
            self.put(gate, Chain::Banned, *rest, grant);
        }
        for ban in lifted {
            self.remove(gate, Chain::Banned, *ban);
        }
    }

    /// Takes back what was to be written to a chain: it is written in another way.
    pub(super) fn forget(&mut self, of: &GateName, which: Chain) {
        self.changes.retain(|change| match change {
            Change::Put(member) => (&member.gate, member.chain) != (of, which),
            Change::Remove { gate, chain, .. } => (gate, *chain) != (of, which),
        });
    }

    /// So much changed that everything is written anew.
    pub(super) fn install(&mut self) {
        self.install = true;
    }

    pub(super) fn change_count(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn store(&mut self, edit: TrustEdit) {
        self.store.push(edit);
    }

    pub(super) fn info(&mut self, words: impl Into<Words>) {
        self.logs.push(Log {
            level: LogLevel::Info,
            words: words.into(),
        });
    }

    pub(super) fn warn(&mut self, text: String) {
        self.logs.push(Log {
            level: LogLevel::Warning,
            words: text.into(),
        });
    }

    pub(super) fn reply(&mut self, outcome: Outcome) {
        self.reply = Some(outcome);
    }

    pub(super) fn into_actions(self) -> Vec<Action> {
        let mut actions: Vec<Action> = if self.install {
            // The ledger already holds every change, so they need not be written one by one.
            vec![Action::Install]
        } else {
            self.changes.into_iter().map(Action::Firewall).collect()
        };
        actions.extend(self.store.into_iter().map(Action::Store));
        actions.extend(self.logs.into_iter().map(Action::Log));
        actions.extend(self.reply.map(Action::Reply));
        actions
    }
}
