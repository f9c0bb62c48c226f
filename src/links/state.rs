//! What is known of interfaces and addresses. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::message::News;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it; it stays when the interface is renamed.
    pub index: u32,
    /// As `ip link` shows it.
    pub name: String,
    /// Its alternative names.
    pub alternatives: Vec<String>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) index: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
    pub(super) broadcast: Option<IpAddr>,
}

/// What an update changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Change {
    /// Interfaces came, went, were renamed, or went up or down.
    pub interfaces: bool,
    /// The set of this host's own addresses, or of its broadcast addresses, is another.
    pub addresses: bool,
}

/// Where the names of a policy lead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Indexes of the interfaces that exist, ascending, each once.
    pub indexes: Vec<u32>,
    /// Names that no interface has at present.
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    interfaces: BTreeMap<u32, Interface>,
    /// By interface, address and prefix length, with the broadcast address: an interface can
    /// have an address twice, with different prefix lengths.
    addresses: BTreeMap<(u32, IpAddr, u8), Option<IpAddr>>,
    own: BTreeSet<IpAddr>,
    broadcast: BTreeSet<IpAddr>,
}

impl State {
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    pub(super) fn own(&self) -> &BTreeSet<IpAddr> {
        &self.own
    }

    pub(super) fn broadcast(&self) -> &BTreeSet<IpAddr> {
        &self.broadcast
    }

    /// Takes a message in; the sets of addresses are brought up to date by `settle`.
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Link(interface) => {
                self.interfaces.insert(interface.index, interface);
            }
            News::NoLink(index) => {
                self.interfaces.remove(&index);
                // The kernel says so of most addresses, but not of all.
                self.addresses.retain(|&(on, ..), _| on != index);
            }
            News::Address(new) => {
                let key = (new.index, new.ip, new.prefix);
                self.addresses.insert(key, new.broadcast);
            }
            News::NoAddress(old) => {
                self.addresses.remove(&(old.index, old.ip, old.prefix));
            }
            News::Done | News::Error(_) | News::Other => {}
        }
    }

    /// Works out the sets of addresses.
    pub(super) fn settle(&mut self) {
        self.own = self.addresses.keys().map(|&(_, ip, _)| ip).collect();
        self.broadcast = self.addresses.values().flatten().copied().collect();
    }

    /// How this differs from what was before.
    pub(super) fn change_since(&self, before: &State) -> Change {
        Change {
            interfaces: self.interfaces != before.interfaces,
            addresses: self.own != before.own || self.broadcast != before.broadcast,
        }
    }

    pub(super) fn find(&self, names: &[String]) -> Found {
        let mut found = Found::default();
        for name in names {
            // `eth0:1` is a label of an address on eth0; no interface has a colon in its name.
            let base = name.split_once(':').map_or(name.as_str(), |(base, _)| base);
            let has_name =
                |i: &&Interface| i.name == base || i.alternatives.iter().any(|other| other == base);
            match self.interfaces().find(has_name) {
                Some(interface) => found.indexes.push(interface.index),
                None => found.missing.push(name.clone()),
            }
        }
        found.indexes.sort_unstable();
        found.indexes.dedup();
        found.missing.sort_unstable();
        found.missing.dedup();
        found
    }
}
