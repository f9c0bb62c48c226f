//! What `knockctl --direct` has to make up for where no daemon has written the state since the
//! machine was booted: what the store remembers is to come back, as at the daemon's start, before
//! the store can be taken for what holds in this boot.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::engine::{Engine, Everything};
use crate::firewall::{Change, Member, Observed};
use crate::model::{Chain, GateName, Time};
use crate::store::{Clocks, Store, StoreError};

use crate::knockd::memory::clocks;
use crate::knockd::merge::{Held, Merged, Remembered, merge};

/// What the kernel held before anything was decided.
#[derive(Debug)]
pub(super) struct CatchUp {
    gates: HashSet<GateName>,
    members: HashSet<(GateName, Chain, IpNet)>,
}

impl CatchUp {
    fn new(held: &Observed) -> Self {
        let ours = held.gates.iter().filter(|it| !held.originals.contains(it));
        Self {
            gates: ours.cloned().collect(),
            members: held.members.iter().map(key).collect(),
        }
    }

    /// What there is to make up for, and what comes back with it; nothing where the store is of this
    /// boot.
    pub(super) fn begin(
        held: &Observed,
        store: Option<&Store>,
        engine: &Engine,
    ) -> Result<(Option<Self>, Option<Merged>), StoreError> {
        let noted = store.and_then(|store| store.noted().ok()?);
        let mut of_this_boot = noted.zip(store).into_iter();
        if of_this_boot.any(|(noted, store)| noted.boot_id == store.boot_id()) {
            return Ok((None, None));
        }
        let merged = store.map(|store| Self::merged(held, store, engine, &clocks(store.boot_id())));
        Ok((Some(Self::new(held)), merged.transpose()?))
    }

    /// What comes back.
    fn merged(
        held: &Observed,
        store: &Store,
        engine: &Engine,
        clocks: &Clocks,
    ) -> Result<Merged, StoreError> {
        let members = held.members.iter().filter(|it| it.chain != Chain::Trusted);
        let found = Held {
            gates: held.gates.iter().cloned().collect(),
            members: members.cloned().collect(),
        };
        let remembered = Remembered {
            members: store.members(clocks)?,
            this_boot: false,
        };
        let once = |name: &GateName| engine.policy().gate(name).is_some_and(|gate| gate.once);
        Ok(merge(found, remembered, once, clocks.boot))
    }

    /// What of it the kernel lacks. Gates that it does not have get theirs at the daemon's start.
    pub(super) fn missing(&self, engine: &Engine, now: Time) -> Vec<Change> {
        let members = engine.desired(now).members.into_iter();
        let missing = members.filter(|member| {
            member.chain != Chain::Trusted
                && self.gates.contains(&member.gate)
                && !self.members.contains(&key(member))
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

fn key(member: &Member) -> (GateName, Chain, IpNet) {
    (member.gate.clone(), member.chain, member.net)
}
