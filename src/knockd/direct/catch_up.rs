//! What `knockctl --direct` has to make up for where no daemon has written the state since the
//! machine was booted: what the store remembers is to come back, as at the daemon's start, before
//! the store can be taken for what holds in this boot.

use std::collections::HashSet;

use super::kernel::{self, Key, key};
use crate::engine::{Engine, Everything};
use crate::firewall::{Change, Member, Observed};
use crate::model::{Chain, GateName, Time};
use crate::store::{Clocks, Store, StoreError};

/// What the kernel holds.
#[derive(Debug)]
pub(super) struct CatchUp {
    gates: HashSet<GateName>,
    members: HashSet<Key>,
}

impl CatchUp {
    pub(super) fn new(held: &Observed) -> Self {
        Self {
            gates: kernel::ours(held),
            members: held.members.iter().map(key).collect(),
        }
    }

    /// The kernel was told of this.
    pub(super) fn told(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(member) => drop(self.members.insert(key(member))),
                Change::Remove { gate, chain, net } => {
                    self.members.remove(&(gate.clone(), *chain, *net));
                }
            }
        }
    }

    pub(super) fn holds(&self, member: &Member) -> bool {
        self.members.contains(&key(member))
    }

    /// What of all that is decided the kernel lacks. Gates that it does not have get theirs at the
    /// daemon's start.
    pub(super) fn missing(&self, engine: &Engine, now: Time) -> Vec<Change> {
        let members = engine.desired(now).members.into_iter();
        let missing = members.filter(|member| {
            member.chain != Chain::Trusted
                && self.gates.contains(&member.gate)
                && !self.holds(member)
        });
        missing.map(Change::Put).collect()
    }

    /// All that the store is to have then; trust and what is owed are as they were.
    pub(super) fn everything(
        store: &Store,
        engine: &Engine,
        clocks: &Clocks,
    ) -> Result<Everything, StoreError> {
        let trust = store.trust()?.into_iter();
        Ok(Everything {
            members: engine.everything().members,
            trust: trust.map(|it| (it.gate, it.net, it.reason)).collect(),
            owed: store.owed(clocks)?,
        })
    }
}
