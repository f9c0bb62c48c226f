//! What others do to nf_tables, told by the kernel as it happens (`NFNLGRP_NFTABLES`,
//! linux/netfilter/nfnetlink.h). iptables-nft writes to the same tables. Legacy iptables and ipset
//! tell nobody: there `Backend::glance` looks.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{BackendKind, FirewallError};
use crate::netlink::attr::{Attr, find};
use crate::netlink::{Group, Heard};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const NEWCHAIN: u16 = 3;
const DELRULE: u16 = 8;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const NEWGEN: u16 = 15;
/// `NFPROTO_INET`, `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// What the filter table of iptables is called.
const FILTER: &str = "filter";

/// Notifications read at a time. The kernel keeps about as many by default.
const AT_A_TIME: usize = 64;
/// Keys that are remembered; of more, all members are compared.
const MOST_KEYS: usize = 4_096;

/// Members that somebody else took out of sets, by set and key; empty where only some members of
/// some set may be missing.
pub type Removed = HashMap<String, HashSet<Vec<u8>>>;

/// What others have done since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tables, chains, rules or sets that concern us, or nobody knows what.
    pub rules: bool,
    /// Members went, or may have.
    pub members: bool,
    /// Which, if that is known of all of them.
    pub removed: Removed,
}

impl Changes {
    /// Whether there is anything to look at.
    pub fn any(&self) -> bool {
        self.rules || self.members
    }

    /// Everything may have changed.
    pub fn all() -> Self {
        Self {
            rules: true,
            members: true,
            removed: Removed::new(),
        }
    }

    /// Who is to be looked for: everybody, unless it is known who was taken out, or these, or one
    /// after the other. Where there are many, not all of everybody are looked at, but all of these.
    pub fn suspects(&self) -> impl Iterator<Item = &Removed> {
        static EVERYBODY: LazyLock<Removed> = LazyLock::new(Removed::new);
        let all = self.rules || self.removed.is_empty();
        let everybody = all.then(|| &*EVERYBODY);
        let these = (!self.removed.is_empty()).then_some(&self.removed);
        everybody.into_iter().chain(these)
    }

    /// Adds what happened later.
    pub fn and(&mut self, later: Self) {
        self.rules |= later.rules;
        self.members |= later.members;
        for (set, keys) in later.removed {
            self.removed.entry(set).or_default().extend(keys);
        }
        self.limit();
    }

    fn limit(&mut self) {
        if self.removed.values().map(HashSet::len).sum::<usize>() > MOST_KEYS {
            self.rules = true;
            self.removed.clear();
        }
    }

    fn take(&mut self, kind: BackendKind, message: u16, payload: &[u8]) {
        let (Some(&family), Some(body)) = (payload.first(), payload.get(4..)) else {
            return;
        };
        let what = message & 0xff;
        if message >> 8 != SUBSYSTEM || what == NEWGEN {
            return;
        }
        // Every message that names a table does so in its first attribute. What was too long to
        // be read names none.
        let table = find(body, 1).and_then(Attr::text);
        let concerns = match kind {
            BackendKind::Nftables => family == INET && table == Some(super::nftables::TABLE),
            BackendKind::Iptables => matches!(family, IPV4 | IPV6) && table == Some(FILTER),
            BackendKind::Memory => false,
        };
        match what {
            _ if table.is_some() && !concerns => {}
            // Who was added is found, and taken over, by whoever installs next.
            NEWSETELEM => {}
            DELSETELEM => {
                self.members = true;
                self.remove(body);
            }
            // Chains and rules hold no members.
            NEWCHAIN..=DELRULE => self.rules = true,
            _ => {
                self.rules = true;
                self.members = true;
            }
        }
    }

    /// `NFTA_SET_ELEM_LIST_SET`, `_ELEMENTS`; in each, `NFTA_SET_ELEM_KEY`.
    fn remove(&mut self, body: &[u8]) {
        let (Some(set), Some(list)) = (find(body, 2).and_then(Attr::text), find(body, 3)) else {
            self.rules = true;
            return;
        };
        let key = |element: Attr<'_>| Some(find(find(element.value, 1)?.value, 1)?.value.to_vec());
        let keys = self.removed.entry(set.to_owned()).or_default();
        keys.extend(list.nested().filter_map(key));
    }
}

/// Listens.
#[derive(Debug)]
pub struct Watch {
    group: Group,
    kind: BackendKind,
}

impl Watch {
    /// Subscribes, for a backend of that kind, whose own changes come from that port.
    pub fn open(kind: BackendKind, own: Option<u32>) -> Result<Self, FirewallError> {
        let group =
            Group::join(NETLINK_NETFILTER, GROUP).map_err(|error| FirewallError::Kernel {
                operation: "watch",
                object: "nf_tables".to_owned(),
                source: error.into_io(),
                hint: "",
            })?;
        let mut watch = Self { group, kind };
        watch.follow(kind, own);
        Ok(watch)
    }

    /// Goes on for another backend.
    pub fn follow(&mut self, kind: BackendKind, own: Option<u32>) {
        self.kind = kind;
        self.group.ignore(own);
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.group.fd()
    }

    /// Whether the kernel would tell of each of our own members that is written, if only to have it
    /// left out here. As long as anybody listens it puts a page of memory aside for each.
    pub fn is_told_of_members(&self) -> bool {
        self.kind == BackendKind::Nftables
    }

    /// Listens no more, until it does again. What happens meanwhile has to be looked for.
    pub fn listen(&mut self, on: bool) -> Result<(), FirewallError> {
        let done = if on {
            self.group.return_to()
        } else {
            self.group.leave()
        };
        done.map_err(|error| FirewallError::Kernel {
            operation: "watch",
            object: "nf_tables".to_owned(),
            source: error.into_io(),
            hint: "",
        })
    }

    /// What was told since the last time; whether there may be more, which must be read before
    /// waiting.
    pub fn hear(&mut self) -> (Changes, bool) {
        let mut changes = Changes::default();
        let kind = self.kind;
        for _ in 0..AT_A_TIME {
            let heard = self
                .group
                .hear(|message, payload| changes.take(kind, message, payload));
            match heard {
                Ok(Heard::Some) => {}
                Ok(Heard::Nothing) => {
                    changes.limit();
                    return (changes, false);
                }
                // What cannot be heard has to be looked at.
                Ok(Heard::Lost) => changes = Changes::all(),
                Err(_) => return (Changes::all(), false),
            }
        }
        changes.limit();
        (changes, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn told(kind: BackendKind, what: u16, family: u8, body: &[Vec<u8>]) -> Changes {
        let payload = [vec![family, 0, 0, 0], body.concat()].concat();
        let mut changes = Changes::default();
        changes.take(kind, SUBSYSTEM << 8 | what, &payload);
        changes
    }

    #[test]
    fn only_tables_that_hold_our_rules_concern_us() {
        use BackendKind::{Iptables, Nftables};
        let cases = [
            (Nftables, INET, "knockd", true),
            (Nftables, INET, "knock", false),
            (Nftables, IPV4, "knockd", false),
            (Nftables, IPV4, "filter", false),
            (Iptables, IPV4, "filter", true),
            (Iptables, IPV6, "filter", true),
            (Iptables, INET, "filter", false),
            (Iptables, IPV4, "nat", false),
            (Iptables, INET, "knockd", false),
        ];
        for (kind, family, table, concerns) in cases {
            let name = attr(1, format!("{table}\0").as_bytes());
            for what in [0, 2, 3, 5, 6, 8, 9, 11] {
                let changes = told(kind, what, family, std::slice::from_ref(&name));
                assert_eq!(changes.any(), concerns, "{kind} {family} {table} {what}");
            }
            let added = told(kind, NEWSETELEM, family, &[name]);
            assert!(!added.any());
        }
        assert!(!told(Nftables, NEWGEN, 0, &[attr(1, &[0; 4])]).any());
        assert!(told(Nftables, 5, INET, &[]).any(), "cut off");
    }

    #[test]
    fn who_was_taken_out_of_which_set_is_known() {
        let key = |bytes: &[u8]| attr(1, &attr(1, &attr(1, bytes)));
        let list = attr(3, &[key(&[192, 0, 2, 1]), key(&[192, 0, 2, 2])].concat());
        let body = [attr(1, b"knockd\0"), attr(2, b"ssh_filter4\0"), list];
        let changes = told(BackendKind::Nftables, DELSETELEM, INET, &body);
        assert!(changes.members && !changes.rules);
        let keys = &changes.removed["ssh_filter4"];
        assert_eq!(keys.len(), 2);
        assert!(keys.contains(&vec![192, 0, 2, 2]));
        let unnamed = told(BackendKind::Nftables, DELSETELEM, INET, &body[..1]);
        assert!(unnamed.rules && unnamed.members);
    }

    #[test]
    fn too_many_to_remember_are_forgotten_and_all_is_looked_at() {
        let some = |first: u32| {
            let keys = (first..first + 3_000).map(|n| n.to_be_bytes().to_vec());
            Changes {
                members: true,
                removed: HashMap::from([("ssh_banned4".to_owned(), keys.collect())]),
                ..Changes::default()
            }
        };
        let mut changes = some(0);
        changes.and(some(0));
        assert_eq!(changes.removed["ssh_banned4"].len(), 3_000);
        changes.and(some(3_000));
        assert_eq!(changes, Changes::all());
    }

    #[test]
    fn whoever_was_taken_out_is_looked_for_whatever_else_has_changed() {
        let suspects =
            |changes: &Changes| -> Vec<Removed> { changes.suspects().cloned().collect() };
        let some = HashMap::from([(
            "ssh_banned4".to_owned(),
            HashSet::from([vec![192, 0, 2, 1]]),
        )]);
        let mut changes = Changes {
            members: true,
            removed: some.clone(),
            ..Changes::default()
        };
        assert_eq!(suspects(&changes), vec![some.clone()]);
        // In the same breath rules were altered, or everything was to be looked at anyway.
        changes.and(Changes::all());
        assert_eq!(suspects(&changes), [Removed::new(), some]);
        assert_eq!(suspects(&Changes::all()), [Removed::new()]);
    }
}
