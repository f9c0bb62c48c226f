//! Which set and which key a member stands for.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::decode::{Held, intervals};
use super::encode::{fitting_comment, key_bytes_of};
use super::names::{
    Family, MASKED, Role, SetSpec, address_number, net_range, number_address, set_name,
};
use super::reading::Reading;
use super::segments::{Entry, to_nets};
use crate::firewall::{Desired, FirewallError, Member};
use crate::model::{Chain, GateName, Lifetime, NetMap, net_of_prefix};

/// Where a member is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Under this key of a set without intervals.
    Key(Role, Family, u128),
    /// As intervals of this set.
    Net(Role, Family),
}

impl Place {
    /// Finds it; `None` if the chain has no room for such a network.
    pub(super) fn of(chain: Chain, net: IpNet, ipv6_prefix: u8) -> Option<Self> {
        let family = Family::of(net);
        let role = Role::Host(chain, family);
        let is_host = net.prefix_len() == family.bits();
        match chain {
            Chain::Filter if net.prefix_len() == 0 => {
                Some(Place::Key(Role::Open, family, family as u128))
            }
            Chain::Filter if family == Family::V6 && ipv6_prefix == 64 => (net.prefix_len() >= 64)
                .then(|| {
                    let masked = net_of_prefix(net.addr(), 64);
                    Place::Key(role, family, net_range(masked).0)
                }),
            _ if is_host => Some(Place::Key(role, family, address_number(net.addr()))),
            Chain::Filter => None,
            _ => Some(Place::Net(Role::Net(chain, family), family)),
        }
    }

    pub(super) fn role(self) -> Role {
        match self {
            Place::Key(role, ..) | Place::Net(role, _) => role,
        }
    }

    /// The key's bytes as the kernel takes them.
    pub(super) fn key(self) -> Option<Vec<u8>> {
        match self {
            Place::Key(role, family, key) => Some(key_bytes_of(role, family, key)),
            Place::Net(..) => None,
        }
    }
}

/// The network an element stands for.
pub(super) fn net_of(role: Role, masked: bool, key: u128) -> Option<IpNet> {
    match role {
        Role::Host(chain, family) => {
            let narrow = masked && chain == Chain::Filter && family == Family::V6;
            let length = if narrow { 64 } else { family.bits() };
            // Not `net_of_prefix`: a mapped address in an IPv6 set is what it is.
            IpNet::new(number_address(family, key)?, length).ok()
        }
        Role::Open => Family::ALL
            .into_iter()
            .find(|family| *family as u128 == key)
            .and_then(|family| IpNet::new(number_address(family, 0)?, 0).ok()),
        Role::Net(..) | Role::Session(_) | Role::Grace => None,
    }
}

/// A member as its set keeps it; `None` if none of them takes it.
pub(super) fn kept_as(chain: Chain, net: IpNet, ipv6_prefix: u8) -> Option<IpNet> {
    match Place::of(chain, net, ipv6_prefix)? {
        Place::Key(role, _, key) => net_of(role, ipv6_prefix == 64, key),
        Place::Net(..) => Some(net),
    }
}

/// The time left as a set with that role keeps it: trust is kept until it is taken back.
pub(super) fn left(role: Role, lifetime: Lifetime) -> Option<Duration> {
    match (role, lifetime) {
        (Role::Host(Chain::Trusted, _) | Role::Net(Chain::Trusted, _), _)
        | (_, Lifetime::Never) => None,
        (_, Lifetime::For(left)) => Some(left),
    }
}

/// As kept in the copy of a set of networks.
pub(super) fn entry(role: Role, member: &Member, now: Instant) -> Entry {
    Entry {
        // Too far away to be told from never.
        end: left(role, member.remaining).and_then(|left| now.checked_add(left)),
        reason: fitting_comment(&member.reason).into_owned(),
    }
}

/// What a set without intervals is to hold: by key, the time left and the reason.
pub(super) type Keys<'a> = HashMap<u128, (Option<Duration>, Cow<'a, str>)>;

/// All members, by the set they go into.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    pub(super) keys: HashMap<(&'a GateName, Role), Keys<'a>>,
    pub(super) nets: BTreeMap<(GateName, Role), NetMap<Entry>>,
}

impl<'a> Sorted<'a> {
    pub(super) fn new(desired: &'a Desired, now: Instant) -> Result<Self, FirewallError> {
        let mut sorted = Self::default();
        let prefixes: HashMap<&GateName, u8> = desired
            .gates
            .iter()
            .map(|gate| (&gate.name, gate.ipv6_prefix))
            .collect();
        for member in &desired.members {
            let place = prefixes
                .get(&member.gate)
                .and_then(|prefix| Place::of(member.chain, member.net, *prefix))
                .ok_or_else(|| unplaceable(&member.gate, member.chain, member.net))?;
            let role = place.role();
            let left = left(role, member.remaining);
            if left == Some(Duration::ZERO) {
                continue;
            }
            match place {
                Place::Key(_, _, key) => {
                    let keys = sorted.keys.entry((&member.gate, role)).or_default();
                    let new = || (left, fitting_comment(&member.reason));
                    // Two members may share a /64: the one that lasts longer counts.
                    let slot = keys.entry(key).or_insert_with(new);
                    if slot.0.is_some_and(|old| left.is_none_or(|left| left > old)) {
                        *slot = new();
                    }
                }
                Place::Net(..) => {
                    let nets = sorted.nets.entry((member.gate.clone(), role)).or_default();
                    nets.insert(member.net, entry(role, member, now));
                }
            }
        }
        Ok(sorted)
    }
}

/// No set takes it: a network in the filter chain, or a gate that does not exist.
pub(super) fn unplaceable(gate: &GateName, chain: Chain, net: IpNet) -> FirewallError {
    FirewallError::Kernel {
        operation: "put",
        object: format!("{net} into {gate}_{}", chain.suffix()),
        source: std::io::Error::from_raw_os_error(libc::EINVAL),
        hint: " (no set of this gate takes such a network)",
    }
}

/// Whether the set's keys are /64.
pub(super) fn is_masked(comment: &str) -> bool {
    comment == MASKED
}

/// The name of a set for messages and errors.
pub(super) fn name_of(gate: &GateName, place: Place) -> String {
    set_name(gate, place.role())
}

/// What a set holds, as members with the time that is left `now`.
pub(super) fn members(
    gate: &GateName,
    role: Role,
    masked: bool,
    reading: Reading,
    now: Instant,
) -> Vec<Member> {
    let held = reading.counted_from(now);
    let (chain, nets) = match role {
        Role::Host(chain, _) => (chain, hosts(role, masked, held, now)),
        Role::Open => (Chain::Filter, hosts(role, masked, held, now)),
        Role::Net(chain, family) => (chain, to_nets(family, intervals(family, held, now))),
        Role::Session(_) | Role::Grace => return Vec::new(),
    };
    of_entries(gate, chain, nets, now)
}

/// Elements without intervals.
fn hosts(role: Role, masked: bool, held: Vec<Held>, now: Instant) -> Vec<(IpNet, Entry)> {
    let host = |held: Held| {
        let entry = Entry {
            end: held.left.and_then(|left| now.checked_add(left)),
            reason: held.comment,
        };
        Some((net_of(role, masked, held.key)?, entry))
    };
    let starts = held.into_iter().filter(|held| !held.is_end);
    starts.filter_map(host).collect()
}

pub(super) fn of_entries(
    gate: &GateName,
    chain: Chain,
    nets: Vec<(IpNet, Entry)>,
    now: Instant,
) -> Vec<Member> {
    let member = |(net, entry): (IpNet, Entry)| Member {
        gate: gate.clone(),
        chain,
        net,
        remaining: entry.end.map_or(Lifetime::Never, |end| {
            Lifetime::For(end.saturating_duration_since(now))
        }),
        reason: entry.reason,
    };
    nets.into_iter().map(member).collect()
}

/// Whether a set as found is as it has to be.
pub(super) fn fits(spec: &SetSpec, found: &super::decode::SetInfo) -> bool {
    spec.flags == found.flags
        && spec.key_type == found.key_type
        && spec.key_len == found.key_len
        && is_masked(spec.comment) == is_masked(&found.comment)
}
