//! What brings the elements of sets to where they have to be, and in which order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::decode::{Held, intervals};
use super::encode::{self, Element, ElementVerb, Step, key_bytes_of};
use super::fresh::Fresh;
use super::members::{Keys, Sorted};
use super::names::{Family, Role, address_number, key_bytes};
use super::segments::{
    Difference, Entry, Segment, about_the_same, clusters, difference, flatten_sorted,
};
use crate::model::{Chain, GateName};

/// Longer than Linux waits before it asks an idle peer whether it is still there
/// (`tcp_keepalive_time`, 7,200 s): by then connection tracking has seen the session.
const EARLIER_LIFETIME: Duration = Duration::from_secs(7500);
/// How many elements are renewed or removed in one go: with the longest comments, well below what
/// the smallest send buffer takes.
const GROUP: usize = 250;

/// What has to be done to one set, in atomic groups.
#[derive(Debug, Default)]
pub(super) struct Fill {
    /// Adds members, or gives those that are there another time or reason.
    pub(super) grow: Vec<Vec<Step>>,
    /// Puts networks in the place of others, in which they lie or which lie in them.
    pub(super) swap: Vec<Vec<Step>>,
    /// Takes members out.
    pub(super) shrink: Vec<Vec<Step>>,
}

/// Of all sets, what lets them grow, and what comes after it.
///
/// A member that moves from one set to another, say from an address to the network around it, must
/// be in the new one before it leaves the old one; so everything grows before anything shrinks,
/// and a swap, which may do both, is between. Where somebody is banned and let in at once (the
/// engine sees to it that nobody is, but others write here too), the ban counts until he is let in
/// no more: bans come first and go last.
pub(super) fn in_order(fills: Vec<(Role, Fill)>) -> (Vec<Vec<Step>>, Vec<Vec<Step>>) {
    let is_ban = |role: Role| {
        matches!(
            role,
            Role::Host(Chain::Banned, _) | Role::Net(Chain::Banned, _)
        )
    };
    let (bans, others): (Vec<_>, Vec<_>) = fills.into_iter().partition(|(role, _)| is_ban(*role));
    let mut grow = Vec::new();
    let mut swap = [Vec::new(), Vec::new()];
    let mut shrink = [Vec::new(), Vec::new()];
    for (index, fills) in [bans, others].into_iter().enumerate() {
        for (_, fill) in fills {
            grow.extend(fill.grow);
            swap[index].extend(fill.swap);
            shrink[index].extend(fill.shrink);
        }
    }
    let [swap_bans, swap_others] = swap;
    let [shrink_bans, shrink_others] = shrink;
    let after = [swap_others, shrink_others, swap_bans, shrink_bans].concat();
    (grow, after)
}

/// Fills one set.
pub(super) struct Filler<'a> {
    pub(super) name: &'a str,
    /// What is in it.
    pub(super) held: Vec<Held>,
    pub(super) sorted: &'a Sorted<'a>,
    pub(super) sessions: &'a [(GateName, SocketAddr)],
    pub(super) fresh: &'a HashMap<&'a GateName, Fresh>,
    pub(super) now: Instant,
    pub(super) can_destroy: bool,
}

impl Filler<'_> {
    pub(super) fn fill(self, gate: &GateName, role: Role) -> Fill {
        let fresh = self.fresh.get(gate).copied().unwrap_or_default();
        match role {
            Role::Host(..) | Role::Open => self.keys(gate, role),
            Role::Net(_, family) => self.nets(gate, role, family),
            Role::Session(family) if fresh.input => {
                let peers = self.sessions.iter().filter(|(g, _)| g == gate);
                let keys = peers.filter_map(|(_, peer)| session(family, *peer));
                self.earlier(keys.collect())
            }
            Role::Grace if fresh.forward => {
                self.earlier(Family::ALL.map(|family| vec![family as u8]).into())
            }
            Role::Session(_) | Role::Grace => Fill::default(),
        }
    }

    /// Gives the full time to what may be there from an earlier installation.
    fn earlier(&self, keys: Vec<Vec<u8>>) -> Fill {
        let elements = keys.into_iter().map(|key| {
            (
                key.clone(),
                encode::element(key, Some(EARLIER_LIFETIME), ""),
            )
        });
        Fill {
            grow: self.renew(elements.collect()),
            ..Fill::default()
        }
    }

    fn renew(&self, elements: Vec<(Vec<u8>, Element)>) -> Vec<Vec<Step>> {
        let mut groups = Vec::new();
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let (keys, some): (Vec<_>, Vec<_>) = elements.by_ref().take(GROUP).unzip();
            let mut group = delete_keys(self.name, keys, self.can_destroy);
            group.extend(encode::elements(ElementVerb::Add, self.name, some));
            groups.push(group);
        }
        groups
    }

    fn keys(&self, gate: &GateName, role: Role) -> Fill {
        let none = Keys::new();
        let wanted = self.sorted.keys.get(&(gate, role)).unwrap_or(&none);
        let held: HashMap<u128, &Held> = self.held.iter().map(|held| (held.key, held)).collect();
        let family = match role {
            Role::Host(_, family) => family,
            // Each key is a family in itself, whatever is said here.
            _ => Family::V4,
        };
        let bytes = |key| match role {
            Role::Open => vec![u8::try_from(key).unwrap_or_default()],
            _ => key_bytes_of(role, family, key),
        };
        let mut add = Vec::new();
        let mut renew = Vec::new();
        for (&key, (left, reason)) in wanted {
            let element = || encode::element(bytes(key), *left, reason);
            match held.get(&key) {
                None => add.push(element()),
                Some(held) if stays(held, *left, reason) => {}
                Some(_) => renew.push((bytes(key), element())),
            }
        }
        let gone = held.keys().filter(|key| !wanted.contains_key(key));
        let gone: Vec<Vec<u8>> = gone.map(|&key| bytes(key)).collect();
        let mut grow = grouped(encode::elements(ElementVerb::Add, self.name, add));
        grow.extend(self.renew(renew));
        let shrink = gone
            .chunks(GROUP)
            .map(|keys| delete_keys(self.name, keys.to_vec(), self.can_destroy))
            .collect();
        Fill {
            grow,
            shrink,
            ..Fill::default()
        }
    }

    fn nets(self, gate: &GateName, role: Role, family: Family) -> Fill {
        let (name, now) = (self.name, self.now);
        let before = intervals(family, self.held, now);
        let mut after = self
            .sorted
            .nets
            .get(&(gate.clone(), role))
            .map(|nets| flatten_sorted(nets.iter()))
            .unwrap_or_default();
        for segment in &mut after {
            // What is there with about the same deadline is left as it is.
            if let Ok(at) = before.binary_search_by_key(&segment.first, |old| old.first)
                && before[at].last == segment.last
                && about_the_same(&before[at].entry, &segment.entry)
            {
                segment.entry = before[at].entry.clone();
            }
        }
        let Difference::Steps(gone, come) = difference(&before, &after, now) else {
            return Fill {
                swap: vec![rewrite(name, family, &after, now)],
                ..Fill::default()
            };
        };
        let clusters = clusters(gone, come);
        let swap = clusters.swap.into_iter().map(|(gone, come)| {
            let mut group = delete_segments(name, family, &gone);
            group.extend(add_segments(name, family, &come, now));
            group
        });
        Fill {
            grow: grouped(add_segments(name, family, &clusters.come, now)),
            swap: swap.collect(),
            shrink: grouped(delete_segments(name, family, &clusters.gone)),
        }
    }
}

fn stays(held: &Held, left: Option<Duration>, reason: &str) -> bool {
    let second = Duration::from_secs(1);
    let close = match (held.left, left) {
        (None, None) => true,
        (Some(a), Some(b)) => a.abs_diff(b) <= second,
        _ => false,
    };
    close && held.comment == reason
}

fn grouped(steps: Vec<Step>) -> Vec<Vec<Step>> {
    steps.into_iter().map(|step| vec![step]).collect()
}

fn session(family: Family, peer: SocketAddr) -> Option<Vec<u8>> {
    let address = peer.ip().to_canonical();
    (Family::of_address(address) == family).then(|| {
        let mut key = key_bytes(family, address_number(address));
        key.extend_from_slice(&peer.port().to_be_bytes());
        key.extend_from_slice(&[0; 2]);
        key
    })
}

/// Deletes keys that may or may not be there: where the kernel has no word for it, they are
/// added first, which changes nothing about those that are.
pub(super) fn delete_keys(name: &str, keys: Vec<Vec<u8>>, can_destroy: bool) -> Vec<Step> {
    let list = |keys: Vec<Vec<u8>>| keys.into_iter().map(encode::key_element).collect();
    if can_destroy {
        return encode::elements(ElementVerb::Destroy, name, list(keys));
    }
    let mut steps = encode::elements(ElementVerb::Add, name, list(keys.clone()));
    steps.extend(encode::elements(ElementVerb::Delete, name, list(keys)));
    steps
}

/// Adds segments that have not ended.
pub(super) fn add_segments(
    name: &str,
    family: Family,
    segments: &[Segment],
    now: Instant,
) -> Vec<Step> {
    let list = segments
        .iter()
        .filter(|segment| segment.entry.end.is_none_or(|end| end > now))
        .flat_map(|segment| {
            let left = segment.entry.end.map(|end| end - now);
            encode::interval(family, segment, left)
        })
        .collect();
    encode::elements(ElementVerb::Add, name, list)
}

pub(super) fn delete_segments(name: &str, family: Family, segments: &[Segment]) -> Vec<Step> {
    let list = segments
        .iter()
        .flat_map(|segment| {
            let bare = Segment {
                entry: Entry {
                    end: None,
                    reason: String::new(),
                },
                ..*segment
            };
            encode::interval(family, &bare, None)
        })
        .collect();
    encode::elements(ElementVerb::Delete, name, list)
}

/// Empties the set and fills it anew.
pub(super) fn rewrite(name: &str, family: Family, segments: &[Segment], now: Instant) -> Vec<Step> {
    let mut steps = vec![encode::flush_set(name)];
    steps.extend(add_segments(name, family, segments, now));
    steps
}
