//! What the store remembers, at start.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use nix::unistd::Group;
use tracing::{info, warn};

use crate::control::GROUP;
use crate::engine::{Event, Everything, Owed};
use crate::firewall::{BackendKind, choose};
use crate::model::{GateName, KnockName};
use crate::policy::Policy;
use crate::store::{self, KnownName, Readers, Retention, Store, StoreError};
use crate::sys::clock;
use crate::totp::Used;

use super::daemon::{Daemon, now};
use super::memory::{BACKEND, USED, clocks, say_if_moved};
use super::merge::Remembered;

/// Trust at run time: where, whom, why.
pub(super) type Trust = (Option<GateName>, IpNet, String);

/// What the store remembers, and the store itself where it can be written.
pub(super) struct Recalled {
    pub(super) store: Result<Store, StoreError>,
    pub(super) backend: Option<BackendKind>,
    pub(super) names: Vec<KnownName>,
    pub(super) trust: Vec<Trust>,
    pub(super) remembered: Remembered,
    pub(super) owed: Vec<Owed>,
    /// Time-based sequences that counted for somebody.
    pub(super) used: BTreeMap<KnockName, Used>,
    /// What it holds and nobody knows.
    pub(super) unread: Unread,
}

/// What could not be read of a store. It is to be read before it is written over; of the rest
/// somebody may have decided otherwise since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) members: bool,
    pub(super) trust: bool,
    pub(super) owed: bool,
}

impl Unread {
    /// Nothing could be read.
    pub(super) const ALL: Self = Self {
        members: true,
        trust: true,
        owed: true,
    };

    /// Whether there is something.
    pub(super) fn is_any(self) -> bool {
        self != Self::default()
    }
}

/// How much of the history the policy lets us keep.
pub(super) fn retention(policy: &Policy) -> Retention {
    Retention {
        keep: policy.history.keep,
        rows: policy.history.rows,
    }
}

/// Who may read the state: members of the group that may read the control socket.
pub(super) fn readers() -> Readers {
    match Group::from_name(GROUP) {
        Ok(Some(group)) => Readers::Group(group.gid.as_raw()),
        Ok(None) => Readers::Nobody,
        Err(error) => {
            warn!("cannot look up the group {GROUP}: {error}; the state is root's alone");
            Readers::Nobody
        }
    }
}

/// What is to be said of damaged state, until somebody has seen to it.
pub(super) fn damaged(state_dir: &Path) -> Vec<String> {
    let aside = store::damaged(state_dir).into_iter();
    let said = aside.map(|path| {
        format!(
            "the state was damaged and is moved aside: what the kernel did not hold is lost, and the \
             history (`knockctl list` says what holds); remove {} when that is seen to",
            path.display()
        )
    });
    said.collect()
}

/// A store that cannot be written is read all the same; one that cannot be read is a store without
/// memories.
pub(super) fn recall(state_dir: &Path, readers: Readers) -> Recalled {
    let store = Store::open(state_dir, readers);
    if let Ok(store) = &store {
        say_if_moved(store);
    }
    let only_read = match &store {
        Ok(_) => None,
        Err(_) => Store::open_to_read(state_dir).ok(),
    };
    let mut recalled = Recalled {
        backend: None,
        names: Vec::new(),
        trust: Vec::new(),
        remembered: Remembered::default(),
        owed: Vec::new(),
        used: BTreeMap::new(),
        unread: Unread::ALL,
        store,
    };
    let Some(store) = recalled.store.as_ref().ok().or(only_read.as_ref()) else {
        return recalled;
    };
    let complain = |error: StoreError| warn!("{error}");
    let backend = store.setting(BACKEND).map_err(complain);
    recalled.backend = backend
        .ok()
        .flatten()
        .as_deref()
        .and_then(choose::parse_kind);
    let used = store.settings(USED).map_err(complain).unwrap_or_default();
    recalled.used = used
        .into_iter()
        .filter_map(|(name, used)| Some((KnockName::new(&name).ok()?, used.parse().ok()?)))
        .collect();
    let names = store.names(SystemTime::now()).map_err(complain);
    recalled.names = names.unwrap_or_default();
    let noted = store.noted().map_err(complain).unwrap_or_default();
    let clocks = clocks(store.boot_id());
    let trust = store.trust().map_err(complain);
    let owed = store.owed(&clocks).map_err(complain);
    let members = store.members(&clocks).map_err(complain);
    recalled.unread = Unread {
        members: members.is_err(),
        trust: trust.is_err(),
        owed: owed.is_err(),
    };
    let trust = trust.unwrap_or_default().into_iter();
    recalled.trust = trust.map(|t| (t.gate, t.net, t.reason)).collect();
    recalled.owed = owed.unwrap_or_default();
    let noted = noted.filter(|noted| noted.boot_id == store.boot_id());
    recalled.remembered = Remembered {
        members: members.unwrap_or_default(),
        this_boot: noted.is_some(),
        noted: noted.map(|noted| noted.boot),
        slept: Duration::from_nanos(clock::boottime().saturating_sub(clock::monotonic())),
        removed: HashSet::new(),
        read: now(),
    };
    recalled
}

/// What a store holds `of` that which could be read only when the daemon ran. Of what was written in
/// this boot the kernel has said at the start who is in.
pub(super) fn unread(store: &Store, of: Unread) -> Result<Everything, StoreError> {
    let clocks = clocks(store.boot_id());
    let noted = store.noted()?;
    let mut found = Everything::default();
    if of.members && noted.is_none_or(|noted| noted.boot_id != store.boot_id()) {
        found.members = store.members(&clocks)?;
    }
    if of.trust {
        let trust = store.trust()?.into_iter();
        found.trust = trust.map(|t| (t.gate, t.net, t.reason)).collect();
    }
    if of.owed {
        found.owed = store.owed(&clocks)?;
    }
    Ok(found)
}

impl Daemon {
    /// Takes over what the store holds that could not be read at the start. What was decided since
    /// counts.
    pub(super) fn take_over_unread(&mut self) {
        let Some(found) = self.memory.take_found() else {
            return;
        };
        if found == Everything::default() {
            return;
        }
        let Everything {
            mut members,
            trust,
            mut owed,
        } = found;
        members.retain(|kept| {
            let known = self.engine.reason(&kept.gate, kept.chain, kept.net);
            known.is_none()
        });
        let number = members.len();
        let come = if number == 1 { "comes" } else { "come" };
        let back = in_words(number);
        info!("the state from before can be read: {back} {come} back");
        // Their numbers may have been given to others since.
        let taken = self.engine.everything().owed;
        let next = taken.iter().map(|owed| owed.id.saturating_add(1)).max();
        let next = next.unwrap_or(0);
        for owed in &mut owed {
            owed.id = owed.id.saturating_add(next);
        }
        for event in [
            Event::RuntimeTrust(trust),
            Event::Restore(members),
            Event::Owed(owed),
        ] {
            self.handle(event);
        }
    }
}

/// So many acceptances and bans.
pub(super) fn in_words(number: usize) -> String {
    match number {
        1 => "1 acceptance or ban".to_owned(),
        _ => format!("{number} acceptances and bans"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Kept;
    use crate::model::{Chain, Deadline};
    use crate::store::Batch;

    #[test]
    fn one_is_not_counted_as_many() {
        assert_eq!(in_words(0), "0 acceptances and bans");
        assert_eq!(in_words(1), "1 acceptance or ban");
        assert_eq!(in_words(2), "2 acceptances and bans");
    }

    #[test]
    fn what_was_read_at_the_start_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open_as(dir.path(), "a boot").unwrap();
        let kept = Kept {
            gate: GateName::new("ssh").unwrap(),
            chain: Chain::Banned,
            net: "192.0.2.1/32".parse().unwrap(),
            deadline: Deadline::Never,
            reason: "by hand".to_owned(),
            by_knock: None,
        };
        let all = Everything {
            members: vec![kept],
            trust: vec![(None, "192.0.2.2/32".parse().unwrap(), "by hand".to_owned())],
            owed: Vec::new(),
        };
        let batch = Batch {
            everything: Some(all.clone()),
            ..Batch::default()
        };
        // What another boot has written.
        store.write(&batch, &clocks("another boot")).unwrap();
        assert_eq!(unread(&store, Unread::ALL).unwrap(), all);
        let of = |members, trust| Unread {
            members,
            trust,
            owed: true,
        };
        let found = unread(&store, of(false, true)).unwrap();
        assert_eq!((found.members.len(), found.trust.len()), (0, 1));
        let found = unread(&store, of(true, false)).unwrap();
        assert_eq!((found.members.len(), found.trust.len()), (1, 0));
    }
}
