//! What the store remembers, at start.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use nix::unistd::Group;
use tracing::warn;

use crate::control::GROUP;
use crate::engine::Owed;
use crate::firewall::{BackendKind, choose};
use crate::model::GateName;
use crate::policy::Policy;
use crate::store::{KnownName, Readers, Retention, Store, StoreError};
use crate::sys::clock;

use super::memory::{BACKEND, clocks, say_if_moved};
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
    let names = store.names(SystemTime::now()).map_err(complain);
    recalled.names = names.unwrap_or_default();
    let trust = store.trust().map_err(complain).unwrap_or_default();
    let trust = trust.into_iter().map(|t| (t.gate, t.net, t.reason));
    recalled.trust = trust.collect();
    let noted = store.noted().map_err(complain).unwrap_or_default();
    let clocks = clocks(store.boot_id());
    recalled.owed = store.owed(&clocks).map_err(complain).unwrap_or_default();
    let members = store.members(&clocks).map_err(complain);
    let noted = noted.filter(|noted| noted.boot_id == store.boot_id());
    recalled.remembered = Remembered {
        members: members.unwrap_or_default(),
        this_boot: noted.is_some(),
        noted: noted.map(|noted| noted.boot),
        slept: Duration::from_nanos(clock::boottime().saturating_sub(clock::monotonic())),
    };
    recalled
}
