//! What waits to be written. It has an end: of members only the latest state waits, and where even
//! that is too much, all of them are asked for anew; of what happened, the surplus is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;

use crate::engine::{Everything, Memo, Owed, TrustEdit};
use crate::model::{Chain, GateName};
use crate::store::{Batch, Happened, Retention};

/// The most members whose change waits.
const MOST_MEMBERS: usize = 50_000;

/// The most that waits of what happened.
const MOST_HAPPENED: usize = 10_000;

/// Tells whoever waits how the writing went.
pub(super) type Tell = oneshot::Sender<Result<(), String>>;

/// What is written together.
#[derive(Debug, Default)]
pub(super) struct Queue {
    everything: Option<Everything>,
    gone: Vec<GateName>,
    members: HashMap<(GateName, Chain, IpNet), Memo>,
    /// Stop commands by their number.
    owed: BTreeMap<u64, Memo>,
    trust: Vec<TrustEdit>,
    names: BTreeMap<String, Vec<(IpAddr, Duration)>>,
    settings: BTreeMap<String, String>,
    happened: VecDeque<Happened>,
    /// Who waits until all of this is written.
    pub(super) tell: Vec<Tell>,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) queue: Queue,
    /// What the store turned out to hold that could not be read at the start.
    pub(super) found: Option<Everything>,
    /// Something about the members is neither written nor here: all of them must be written.
    pub(super) incomplete: bool,
    /// How many things that happened were left out since the daemon started.
    pub(super) left_out: u64,
    /// How much of the history is kept, as of now.
    pub(super) retention: Option<Retention>,
    /// Why nothing can be written at present.
    pub(super) problem: Option<String>,
    /// The last to be written, and then no more.
    pub(super) over: bool,
}

impl Pending {
    pub(super) fn memo(&mut self, memo: Memo) {
        let key = match &memo {
            Memo::Owe(Owed { id, .. }) | Memo::Settled(id) => {
                // Also where all of it will be asked for: a start command waits until what stops it
                // is written. Where nothing can be written it is told so.
                if !self.incomplete || self.problem.is_none() {
                    self.queue.owed.insert(*id, memo);
                }
                return;
            }
            Memo::ForgetGate(name) => {
                self.queue.members.retain(|(gate, ..), _| gate != name);
                self.queue.gone.push(name.clone());
                return;
            }
            Memo::Keep(kept) => (kept.gate.clone(), kept.chain, kept.net),
            Memo::Forget(gate, chain, net) => (gate.clone(), *chain, *net),
        };
        if self.incomplete {
            // All of them will be asked for.
            return;
        }
        self.queue.members.insert(key, memo);
        if self.queue.members.len() > MOST_MEMBERS {
            self.forget_members();
        }
    }

    /// Rather all of them later than so many of them now.
    fn forget_members(&mut self) {
        self.queue.everything = None;
        self.queue.gone = Vec::new();
        self.queue.members = HashMap::new();
        self.incomplete = true;
    }

    pub(super) fn happened(&mut self, happened: Happened) {
        if self.queue.happened.len() < MOST_HAPPENED {
            self.queue.happened.push_back(happened);
        } else {
            self.left_out += 1;
        }
    }

    /// Also where all of it will be asked for: whoever asked is told when it is written, and it is
    /// to be true then.
    pub(super) fn trust(&mut self, edit: TrustEdit) {
        self.queue.trust.push(edit);
    }

    pub(super) fn name(&mut self, name: &str, addresses: Vec<(IpAddr, Duration)>) {
        self.queue.names.insert(name.to_owned(), addresses);
    }

    pub(super) fn setting(&mut self, name: &str, value: String) {
        self.queue.settings.insert(name.to_owned(), value);
    }

    /// In place of all that waits about members.
    pub(super) fn everything(&mut self, everything: Everything) {
        self.forget_members();
        self.queue.owed = BTreeMap::new();
        self.queue.trust = Vec::new();
        self.queue.everything = Some(everything);
        self.incomplete = false;
    }

    /// The store can be read, after all: none of what it holds is written over before it is known.
    pub(super) fn found(&mut self, found: Everything) {
        self.forget_members();
        self.found = Some(found);
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let queue = &self.queue;
        queue.everything.is_none()
            && queue.gone.is_empty()
            && queue.members.is_empty()
            && queue.owed.is_empty()
            && queue.trust.is_empty()
            && queue.names.is_empty()
            && queue.settings.is_empty()
            && queue.happened.is_empty()
            && queue.tell.is_empty()
    }

    /// All that waits. It is sorted out by whoever took it: packets wait for this.
    pub(super) fn take(&mut self) -> Queue {
        std::mem::take(&mut self.queue)
    }

    /// Takes back what could not be written, and is not known elsewhere.
    pub(super) fn give_back(&mut self, batch: Batch) {
        if batch.everything.is_some() || !batch.memos.is_empty() || !batch.trust.is_empty() {
            self.forget_members();
        }
        for (name, addresses) in batch.names {
            self.queue.names.entry(name).or_insert(addresses);
        }
        for (name, value) in batch.settings {
            self.queue.settings.entry(name).or_insert(value);
        }
        let mut happened = VecDeque::from(batch.happened);
        happened.append(&mut self.queue.happened);
        // The latest are the first to go: they tell of the flood rather than of how it began.
        let surplus = happened.len().saturating_sub(MOST_HAPPENED);
        self.left_out += surplus as u64;
        happened.truncate(MOST_HAPPENED);
        self.queue.happened = happened;
    }
}

impl Queue {
    /// What to write, and who waits for it.
    pub(super) fn into_batch(self) -> (Batch, Vec<Tell>) {
        let gone = self.gone.into_iter().map(Memo::ForgetGate);
        let batch = Batch {
            everything: self.everything,
            memos: gone
                .chain(self.members.into_values())
                .chain(self.owed.into_values())
                .collect(),
            trust: self.trust,
            names: self.names.into_iter().collect(),
            settings: self.settings.into_iter().collect(),
            happened: self.happened.into(),
            prune: None,
        };
        (batch, self.tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Kept, Record, What};
    use crate::model::{Deadline, Time};

    fn kept(number: u32, end: u64) -> Memo {
        Memo::Keep(Kept {
            gate: GateName::new("ssh").unwrap(),
            chain: Chain::Filter,
            net: std::net::IpAddr::from(number.to_be_bytes()).into(),
            deadline: Deadline::At(Time(end)),
            reason: "open".into(),
            by_knock: Some(0),
        })
    }

    fn happened(number: u32) -> Happened {
        Happened {
            at_ms: number.into(),
            record: Record::new(What::Swept, "scan_guard"),
            until_ms: None,
        }
    }

    #[test]
    fn of_a_member_only_the_latest_state_waits() {
        let mut pending = Pending::default();
        for end in 0..1000 {
            pending.memo(kept(7, end));
        }
        let (batch, _) = pending.take().into_batch();
        assert_eq!(batch.memos, [kept(7, 999)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_gate_that_goes_takes_what_waits_of_it_along_and_what_comes_later_stays() {
        let mut pending = Pending::default();
        pending.memo(kept(1, 1));
        pending.memo(Memo::ForgetGate(GateName::new("ssh").unwrap()));
        pending.memo(kept(2, 1));
        let (batch, _) = pending.take().into_batch();
        let gone = Memo::ForgetGate(GateName::new("ssh").unwrap());
        assert_eq!(batch.memos, [gone, kept(2, 1)]);
    }

    #[test]
    fn a_flood_does_not_grow_and_is_counted() {
        let mut pending = Pending::default();
        for number in 0..200_000 {
            pending.memo(kept(number, 1));
            pending.happened(happened(number));
        }
        assert!(pending.incomplete);
        assert!(pending.queue.members.len() <= MOST_MEMBERS);
        assert_eq!(pending.queue.happened.len(), MOST_HAPPENED);
        assert_eq!(pending.left_out, 200_000 - MOST_HAPPENED as u64);
        pending.everything(Everything::default());
        assert!(!pending.incomplete);
    }

    #[test]
    fn trust_that_is_promised_is_written_whatever_else_is_too_much() {
        let edit = TrustEdit::Remove(None, std::net::IpAddr::from([192, 0, 2, 1]).into());
        let mut pending = Pending::default();
        pending.trust(edit.clone());
        for number in 0..=50_000 {
            pending.memo(kept(number, 1));
        }
        assert!(pending.incomplete);
        pending.trust(edit.clone());
        let (batch, _) = pending.take().into_batch();
        assert_eq!(batch.trust, [edit.clone(), edit.clone()]);
        pending.trust(edit);
        pending.everything(Everything::default());
        assert!(pending.queue.trust.is_empty(), "it is a part of everything");
    }

    #[test]
    fn a_stop_that_a_start_waits_for_is_written_whatever_else_is_too_much() {
        let flooded = |pending: &mut Pending| {
            (0..=50_000).for_each(|number| pending.memo(kept(number, 1)));
            assert!(pending.incomplete);
        };
        let mut pending = Pending::default();
        pending.memo(Memo::Settled(1));
        flooded(&mut pending);
        pending.memo(Memo::Settled(2));
        let (batch, _) = pending.take().into_batch();
        assert_eq!(batch.memos, [Memo::Settled(1), Memo::Settled(2)]);
        // Who asks while nothing can be written is told so.
        pending.problem = Some("no space left".to_owned());
        pending.memo(Memo::Settled(3));
        assert!(pending.is_empty());
        pending.problem = None;
        pending.memo(Memo::Settled(4));
        pending.everything(Everything::default());
        assert!(pending.queue.owed.is_empty(), "it is a part of everything");
    }

    #[test]
    fn what_could_not_be_written_is_written_later_or_asked_for_anew() {
        let mut pending = Pending::default();
        pending.memo(kept(1, 1));
        pending.name("a.example", Vec::new());
        pending.happened(happened(1));
        let (batch, _) = pending.take().into_batch();
        pending.name(
            "a.example",
            vec![("192.0.2.1".parse().unwrap(), Duration::ZERO)],
        );
        pending.happened(happened(2));
        pending.give_back(batch);
        assert!(pending.incomplete);
        let (batch, _) = pending.take().into_batch();
        assert!(batch.memos.is_empty());
        assert_eq!(batch.names[0].1.len(), 1, "the newer one counts");
        let order: Vec<i64> = batch.happened.iter().map(|h| h.at_ms).collect();
        assert_eq!(order, [1, 2]);
    }
}
