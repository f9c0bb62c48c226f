//! At start: which acceptances and bans hold, from what the kernel has and what the store remembers.
//!
//! A gate that is in the kernel was enforced while no daemon ran, so the kernel says which members
//! there are: what somebody has taken out stays out, what somebody has put in is taken over. The
//! store knows why they are there, and who may evict them. Where the kernel has no such gate, or
//! where no daemon of ours has run since the machine was booted, the store says who comes back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ipnet::IpNet;

use crate::engine::Kept;
use crate::firewall::{Member, Observed};
use crate::model::{Chain, Deadline, GateName, NetMap, Time};

use super::answers::{covered, is_host};

/// As far as this, kernel and store mean the same moment: ipset counts whole seconds, rounded up
/// when it was told, which may have been a moment after they were counted.
const DOUBT: Duration = Duration::from_secs(2);

/// The longest that ipset counts; what lasts longer is armed again by the daemon
/// (IPSET_MAX_TIMEOUT in linux/netfilter/ipset/ip_set.h).
const LONGEST_IN_IPSET: Duration = Duration::from_secs(2_147_483);

/// How often the daemon does that. What it had in the kernel when it was last alive holds for as
/// long again at least; what is gone after that may have run out by itself.
const REARMED_IN_IPSET: Duration = Duration::from_secs(2_147_483 / 2);

/// What the kernel was found to hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Gates whose chains are there, and are ours: what else took the place of ours knows nothing
    /// of what they held.
    pub(super) gates: HashSet<GateName>,
    /// Their members, and those of others that guard a gate of that name.
    pub(super) members: Vec<Member>,
}

impl Held {
    /// What one backend was found to hold is held, too.
    pub(super) fn add(&mut self, found: Observed) {
        let Observed {
            gates,
            members,
            originals,
        } = found;
        let ours = gates.into_iter().filter(|gate| !originals.contains(gate));
        self.gates.extend(ours);
        self.members.extend(members);
    }
}

/// What the store remembers.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Acceptances and bans that are not over.
    pub(super) members: Vec<Kept>,
    /// Whether it was written since the machine was booted.
    pub(super) this_boot: bool,
    /// When it was last written, if that was since the machine was booted: from then on nobody of
    /// ours has kept in the kernel what lasts longer than it can count.
    pub(super) noted: Option<Time>,
    /// How long the machine has slept since it was booted. The kernel's timers stand still
    /// meanwhile, and may be late by as much.
    pub(super) slept: Duration,
    /// Gates that a trial had removed which a crash has cut short: who is in there the kernel was
    /// not asked.
    pub(super) removed: HashSet<GateName>,
    /// When all that was read, before the kernel was: what that has told since is as old.
    pub(super) read: Time,
}

/// What holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// Known to the store.
    pub(super) restore: Vec<Kept>,
    /// Known to the kernel alone.
    pub(super) adopt: Vec<Member>,
}

type Key = (GateName, Chain, IpNet);

/// Puts both together. At gates with `once` the kernel alone knows who has not yet connected, unless
/// a trial has kept them out of it.
pub(super) fn merge(
    held: Held,
    remembered: Remembered,
    once: impl Fn(&GateName) -> bool,
    now: Time,
) -> Merged {
    let doubt = DOUBT.saturating_add(now.since(remembered.read));
    let mut stored: HashMap<Key, Kept> = remembered
        .members
        .into_iter()
        .map(|kept| ((kept.gate.clone(), kept.chain, kept.net), kept))
        .collect();
    let mut merged = Merged::default();
    let mut networks: HashMap<GateName, NetMap<()>> = HashMap::new();
    let mut strange = Vec::new();
    // Of a gate whose acceptances covered more of an IPv6 address while another policy was tried.
    let mut wide: HashMap<GateName, NetMap<()>> = HashMap::new();
    for member in held.members {
        if member.chain == Chain::Banned && !is_host(member.net) {
            let of_gate = networks.entry(member.gate.clone()).or_default();
            of_gate.insert(member.net, ());
        }
        let is_part = member.net.addr().is_ipv6() && member.net.prefix_len() != 0;
        if member.chain == Chain::Filter && is_part && !is_host(member.net) {
            let of_gate = wide.entry(member.gate.clone()).or_default();
            of_gate.insert(member.net, ());
        }
        let key = (member.gate.clone(), member.chain, stored_as(&member));
        match stored.remove(&key) {
            Some(kept) => merged.restore.push(Kept {
                deadline: agreed(
                    &member,
                    kept.deadline,
                    remembered.slept.saturating_add(doubt),
                    now,
                ),
                ..kept
            }),
            None => strange.push(member),
        }
    }
    for ((gate, chain, net), kept) in stored {
        let was_out = remembered.this_boot
            && remembered.removed.contains(&gate)
            && !held.gates.contains(&gate);
        let used_up = chain == Chain::Filter && once(&gate) && !was_out;
        let may_have_run_out = chain == Chain::Banned
            && kept.deadline != Deadline::Never
            && remembered
                .noted
                .is_some_and(|then| now.since(then) >= REARMED_IN_IPSET);
        let kernel_says = held.gates.contains(&gate) && remembered.this_boot && !may_have_run_out;
        let parts = networks.get(&gate).filter(|_| chain == Chain::Banned);
        let in_other_pieces = !is_host(net) && parts.is_some_and(|parts| covered(parts, net));
        let wider = wide.get(&gate).filter(|_| chain == Chain::Filter);
        let in_a_wider_one = wider.is_some_and(|wider| wider.covering(net).next().is_some());
        if ((!kernel_says || in_a_wider_one) && !used_up) || in_other_pieces {
            merged.restore.push(kept);
        }
    }
    let explained = networks_of(&merged.restore);
    strange.retain(|member| !same_under_another_name(member, &explained, doubt, now));
    // Both families of an open gate are one to the store.
    strange.retain(|member| {
        let open = (member.chain == Chain::Filter && member.net.prefix_len() == 0)
            .then(|| stored_as(member));
        open.is_none_or(|net| {
            !merged.restore.iter().any(|kept| {
                (&kept.gate, kept.chain, kept.net) == (&member.gate, Chain::Filter, net)
            })
        })
    });
    merged.adopt = strange;
    merged
}

/// The networks that are banned, at each gate.
fn networks_of(restore: &[Kept]) -> HashMap<GateName, NetMap<Deadline>> {
    let mut all: HashMap<GateName, NetMap<Deadline>> = HashMap::new();
    let bans = restore.iter().filter(|kept| kept.chain == Chain::Banned);
    for kept in bans.filter(|kept| !is_host(kept.net)) {
        let of_gate = all.entry(kept.gate.clone()).or_default();
        of_gate.insert(kept.net, kept.deadline);
    }
    all
}

/// Whether the member says nothing that the bans which come back do not: as part of one, or as
/// neighbours that the kernel shows as one. What is only shorter because ipset cannot count
/// further is the same, too.
fn same_under_another_name(
    member: &Member,
    explained: &HashMap<GateName, NetMap<Deadline>>,
    doubt: Duration,
    now: Time,
) -> bool {
    let Some(nets) = explained.get(&member.gate) else {
        return false;
    };
    if member.chain != Chain::Banned || is_host(member.net) {
        return false;
    }
    let ends = member.remaining.deadline(now);
    let lasts = |(_, deadline): &(IpNet, &Deadline)| later(**deadline, doubt) >= ends;
    if nets.covering(member.net).any(|net| lasts(&net)) {
        return true;
    }
    let mut parts = NetMap::new();
    for (part, _) in nets.within(member.net).filter(lasts) {
        parts.insert(part, ());
    }
    covered(&parts, member.net)
}

/// An open gate has a member for each family; the store has one.
fn stored_as(member: &Member) -> IpNet {
    if member.chain == Chain::Filter && member.net.prefix_len() == 0 {
        IpNet::V4(ipnet::Ipv4Net::default())
    } else {
        member.net
    }
}

fn later(deadline: Deadline, doubt: Duration) -> Deadline {
    match deadline {
        Deadline::At(end) => Deadline::At(end.after(doubt)),
        Deadline::Never => Deadline::Never,
    }
}

/// When a member ends of which kernel and store both know. The kernel is right about what changed
/// after the last writing, the store where the kernel cannot count so exactly, or so far, or may be
/// `late`: then its word would put off the end a little with every start.
fn agreed(member: &Member, stored: Deadline, late: Duration, now: Time) -> Deadline {
    let held = member.remaining.deadline(now);
    match (held, stored) {
        (Deadline::At(held), Deadline::At(end)) => {
            let as_exact = end.since(held) <= DOUBT;
            let no_later = held.since(end) <= late;
            let cut = end > held && end.since(now) > LONGEST_IN_IPSET;
            if as_exact && no_later || cut {
                stored
            } else {
                Deadline::At(held)
            }
        }
        // Nobody is accepted for good because a set has lost its time.
        (Deadline::Never, Deadline::At(_)) if member.chain == Chain::Filter => stored,
        _ => held,
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
