//! What is to outlive the daemon: the members as they stand, and the story of how they came about.
//!
//! Both pile up here until [`Engine::take_news`] is called, whichever event brought them about and
//! whatever becomes of its actions, so that nothing that holds is ever forgotten to be remembered.

use ipnet::IpNet;

use super::ledger::Ledger;
use super::{EVERYBODY, Engine, Loss, Lost, Owed, SCAN_GUARD};
use crate::model::{Bucket, Chain, Deadline, GateName, Time};

/// An acceptance or a ban, as it is to be remembered.
///
/// A network of length 0 in `Chain::Filter` is a gate that is open to everybody: 0.0.0.0/0 stands
/// for both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The gate.
    pub gate: GateName,
    /// `Banned` or `Filter`.
    pub chain: Chain,
    /// Canonical.
    pub net: IpNet,
    /// When it ends.
    pub deadline: Deadline,
    /// The knock's name, or who asked for it.
    pub reason: String,
    /// Its place among those that knocks brought about, ascending with time; `None` is by hand.
    pub by_knock: Option<u64>,
}

/// A change to what is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memo {
    /// In place of what was remembered of this gate, chain and network.
    Keep(Kept),
    /// Over.
    Forget(GateName, Chain, IpNet),
    /// The policy has this gate no more.
    ForgetGate(GateName),
    /// A stop command is to run, in place of what was remembered under its number.
    Owe(Owed),
    /// The stop command of this number has run.
    Settled(u64),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An address was let in.
    Accepted,
    /// An address or network was shut out.
    Banned,
    /// An acceptance was taken back.
    Withdrawn,
    /// A ban was lifted.
    Unbanned,
    /// The time of an acceptance, a ban or an `open` was over.
    Expired,
    /// A ban by knock made room for a newer one.
    Evicted,
    /// An acceptance was used up by its first connection.
    UsedUp,
    /// Somebody else had put it into the kernel.
    Adopted,
    /// Somebody is trusted from now on.
    Trusted,
    /// Somebody is trusted no more.
    Untrusted,
    /// A knock or a command was refused.
    Refused,
    /// A source swept ports.
    Swept,
    /// A command was started.
    Ran,
    /// A gate was opened to everybody.
    Opened,
    /// That ended.
    Closed,
    /// Many members were taken back at once.
    Flushed,
    /// Policy and whitelist were read again.
    Reloaded,
    /// A policy was put into force, for good or for a while.
    Applied,
    /// A policy that was in force for a while is kept.
    Confirmed,
    /// A policy was taken back, or the one from before is in force again.
    RolledBack,
    /// Rules that somebody else had removed were put back.
    Repaired,
    /// Every rule of ours was removed, because somebody asked for it.
    Removed,
    /// The daemon has started.
    Started,
    /// The daemon was told to end.
    Stopped,
}

impl What {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            What::Accepted => "accepted",
            What::Banned => "banned",
            What::Withdrawn => "withdrawn",
            What::Unbanned => "unbanned",
            What::Expired => "expired",
            What::Evicted => "evicted",
            What::UsedUp => "used up",
            What::Adopted => "adopted",
            What::Trusted => "trusted",
            What::Untrusted => "untrusted",
            What::Refused => "refused",
            What::Swept => "swept",
            What::Ran => "ran",
            What::Opened => "opened",
            What::Closed => "closed",
            What::Flushed => "flushed",
            What::Reloaded => "reloaded",
            What::Applied => "applied",
            What::Confirmed => "confirmed",
            What::RolledBack => "rolled back",
            What::Repaired => "repaired",
            What::Removed => "removed",
            What::Started => "started",
            What::Stopped => "stopped",
        }
    }
}

/// Something that happened, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What.
    pub what: What,
    /// Where; `None` is everywhere, or nowhere in particular.
    pub gate: Option<GateName>,
    /// To whom.
    pub net: Option<IpNet>,
    /// Because of what: the knock's name, or who asked for it.
    pub why: String,
    /// What else there is to say.
    pub note: String,
    /// How long it holds, where it does.
    pub until: Option<Deadline>,
    /// Whether a person asked for it, rather than a packet, which anybody can send.
    pub by_hand: bool,
}

impl Record {
    /// With nothing but that it happened, and why.
    pub fn new(what: What, why: &str) -> Self {
        Self {
            what,
            gate: None,
            net: None,
            why: why.to_owned(),
            note: String::new(),
            until: None,
            by_hand: false,
        }
    }

    /// At this gate, to this network.
    #[must_use]
    pub fn of(mut self, gate: &GateName, net: IpNet) -> Self {
        self.gate = Some(gate.clone());
        self.net = Some(net);
        self
    }

    /// At this gate.
    #[must_use]
    pub fn at(mut self, gate: &GateName) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// To this network.
    #[must_use]
    pub fn to(mut self, net: IpNet) -> Self {
        self.net = Some(net);
        self
    }

    /// With more words.
    #[must_use]
    pub fn saying(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Holding until then.
    #[must_use]
    pub fn until(mut self, deadline: Deadline) -> Self {
        self.until = Some(deadline);
        self
    }

    /// Asked for by a person.
    #[must_use]
    pub fn by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }
}

/// What there is to remember since it was last taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// What has changed about the members.
    pub memos: Vec<Memo>,
    /// What happened.
    pub records: Vec<Record>,
    /// How many things that happened were left out, because they were too many at once.
    pub unrecorded: u64,
    /// What was taken from whom, for what was decided before a policy that is only tried.
    pub lost: Vec<Loss>,
}

/// All that is to be remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Everything {
    /// Acceptances and bans.
    pub members: Vec<Kept>,
    /// Trust that lasts until reboot: where, whom, why.
    pub trust: Vec<(Option<GateName>, IpNet, String)>,
    /// Stop commands that are to run.
    pub owed: Vec<Owed>,
}

/// What piles up between two calls of [`Engine::take_news`].
#[derive(Debug, Clone)]
pub(super) struct Journal {
    records: Vec<Record>,
    unrecorded: u64,
    gone: Vec<GateName>,
    lost: Vec<Loss>,
    /// Refusals and sweeps cost their sender a packet, and change nothing.
    cheap: Bucket,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            records: Vec::new(),
            unrecorded: 0,
            gone: Vec::new(),
            lost: Vec::new(),
            cheap: Bucket::new(1, 100),
        }
    }

    pub(super) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    pub(super) fn gate_is_gone(&mut self, gate: GateName) {
        self.gone.push(gate);
    }

    /// Something is taken at this gate, or `None`: at every gate, also where there was nothing.
    pub(super) fn lose(&mut self, gate: Option<&GateName>, of: Lost) {
        let gate = gate.cloned();
        self.lost.push(Loss { gate, of });
    }

    /// All but how fast it may go on.
    fn forget(&mut self) {
        self.lost.clear();
        self.records.clear();
        self.gone.clear();
        self.unrecorded = 0;
    }
}

impl Engine {
    /// Records what happened.
    pub(super) fn record(&mut self, record: Record) {
        self.journal.push(record);
    }

    /// Records what anybody can bring about with a packet, and what changes nothing: not too often.
    pub(super) fn record_cheap(&mut self, now: Time, record: impl FnOnce(&Self) -> Record) {
        if self.journal.cheap.take(now) {
            let record = record(self);
            self.journal.records.push(record);
        } else {
            self.journal.unrecorded += 1;
        }
    }

    /// What there is to remember since the last call.
    pub fn take_news(&mut self) -> News {
        let mut memos: Vec<Memo> = std::mem::take(&mut self.journal.gone)
            .into_iter()
            .map(Memo::ForgetGate)
            .collect();
        for index in 0..self.ledgers.len() {
            let changed = self.ledgers[index].take_changed().into_iter();
            memos.extend(changed.map(|(chain, net)| self.memo(index, chain, net)));
        }
        let owed = self.jobs.take_changed().into_iter();
        memos.extend(owed.map(|(id, owed)| owed.map_or(Memo::Settled(id), Memo::Owe)));
        News {
            memos,
            records: std::mem::take(&mut self.journal.records),
            unrecorded: std::mem::take(&mut self.journal.unrecorded),
            lost: std::mem::take(&mut self.journal.lost),
        }
    }

    /// Whatever is new so far is nothing to be remembered by itself: all of it is, or it was
    /// remembered before.
    pub fn forget_news(&mut self) {
        for ledger in &mut self.ledgers {
            drop(ledger.take_changed());
        }
        self.journal.forget();
    }

    /// All that is to be remembered now.
    pub fn everything(&self) -> Everything {
        let mut members = Vec::new();
        let mut trust: Vec<_> = self
            .runtime
            .iter()
            .filter(|(_, runtime)| runtime.stored)
            .map(|(net, runtime)| (None, net, runtime.reason.clone()))
            .collect();
        for (index, ledger) in self.ledgers.iter().enumerate() {
            let open = ledger.opened().map(|_| (Chain::Filter, EVERYBODY[0]));
            let accepted = ledger
                .accepted()
                .iter()
                .map(|(net, _)| (Chain::Filter, net));
            let banned = ledger.banned().iter().map(|(net, _)| (Chain::Banned, net));
            let all = banned.chain(accepted).chain(open);
            members.extend(all.filter_map(|(chain, net)| self.kept(index, chain, net)));
            let here = ledger.runtime.iter().filter(|(_, runtime)| runtime.stored);
            let name = &self.policy.gates[index].name;
            trust.extend(
                here.map(|(net, runtime)| (Some(name.clone()), net, runtime.reason.clone())),
            );
        }
        Everything {
            members,
            trust,
            owed: self.jobs.owed().cloned().collect(),
        }
    }

    /// What is to be remembered where something is another.
    pub(super) fn memo(&self, index: usize, chain: Chain, net: IpNet) -> Memo {
        let forget = || Memo::Forget(self.policy.gates[index].name.clone(), chain, net);
        self.kept(index, chain, net).map_or_else(forget, Memo::Keep)
    }

    pub(super) fn kept(&self, index: usize, chain: Chain, net: IpNet) -> Option<Kept> {
        let ledger: &Ledger = &self.ledgers[index];
        let (grant, by_knock) = match chain {
            Chain::Banned => {
                let ban = ledger.banned().get(net)?;
                (&ban.grant, ban.order())
            }
            Chain::Filter => {
                let grant = if net.prefix_len() == 0 {
                    ledger.opened()?
                } else {
                    ledger.accepted().get(net)?
                };
                (grant, self.is_knock(&grant.reason).then_some(0))
            }
            Chain::Trusted => return None,
        };
        Some(Kept {
            gate: self.policy.gates[index].name.clone(),
            chain,
            net,
            deadline: grant.deadline,
            reason: grant.reason.clone(),
            by_knock,
        })
    }

    /// Whether a reason is something that packets brought about.
    pub(super) fn is_knock(&self, reason: &str) -> bool {
        reason == SCAN_GUARD || self.policy.knocks.iter().any(|k| k.name.as_str() == reason)
    }

    /// Takes over what the store remembered, of gates that there still are. What is trusted or
    /// protected by now is not banned again.
    pub(super) fn restore(&mut self, mut kept: Vec<Kept>, now: Time) {
        // The oldest first, so that it is the first to make room.
        kept.sort_by_key(|kept| kept.by_knock);
        for kept in kept {
            let Ok(gates) = self.indexes(std::slice::from_ref(&kept.gate)) else {
                continue;
            };
            if kept.deadline.is_over(now) {
                continue;
            }
            for index in gates {
                let grant = super::ledger::Grant {
                    deadline: kept.deadline,
                    reason: kept.reason.clone(),
                };
                let prefix = self.policy.gates[index].ipv6_prefix;
                match kept.chain {
                    Chain::Trusted => {}
                    Chain::Filter => self.ledgers[index].adopt_acceptance(kept.net, prefix, grant),
                    Chain::Banned => {
                        if kept.by_knock.is_some() {
                            self.recall_ban(index, kept.net, &kept.reason, kept.deadline, now);
                        }
                        for net in self.outside_trust(index, kept.net) {
                            self.ledgers[index].restore_ban(net, grant.clone(), kept.by_knock);
                        }
                    }
                }
            }
        }
    }
}
