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
use crate::firewall::Member;
use crate::model::{Chain, Deadline, GateName, Lifetime, NetMap, Time};

use super::answers::{covered, is_host};

/// As far as this, kernel and store mean the same moment: ipset counts whole seconds.
const DOUBT: Duration = Duration::from_millis(1_500);

/// The longest that ipset counts; what lasts longer is armed again by the daemon
/// (IPSET_MAX_TIMEOUT in linux/netfilter/ipset/ip_set.h).
const LONGEST_IN_IPSET: Duration = Duration::from_secs(2_147_483);

/// What the kernel was found to hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Gates whose chains are there.
    pub(super) gates: HashSet<GateName>,
    /// Their members.
    pub(super) members: Vec<Member>,
}

/// What the store remembers.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Acceptances and bans that are not over.
    pub(super) members: Vec<Kept>,
    /// Whether it was written since the machine was booted.
    pub(super) this_boot: bool,
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

/// Puts both together. At gates with `once` the kernel alone knows who has not yet connected.
pub(super) fn merge(
    held: Held,
    remembered: Remembered,
    once: impl Fn(&GateName) -> bool,
    now: Time,
) -> Merged {
    let mut stored: HashMap<Key, Kept> = remembered
        .members
        .into_iter()
        .map(|kept| ((kept.gate.clone(), kept.chain, kept.net), kept))
        .collect();
    let mut merged = Merged::default();
    let mut networks: HashMap<GateName, NetMap<()>> = HashMap::new();
    let mut strange = Vec::new();
    for member in held.members {
        if member.chain == Chain::Banned && !is_host(member.net) {
            let of_gate = networks.entry(member.gate.clone()).or_default();
            of_gate.insert(member.net, ());
        }
        let key = (member.gate.clone(), member.chain, stored_as(&member));
        match stored.remove(&key) {
            Some(kept) => merged.restore.push(Kept {
                deadline: agreed(member.chain, member.remaining, kept.deadline, now),
                ..kept
            }),
            None => strange.push(member),
        }
    }
    for ((gate, chain, net), kept) in stored {
        let used_up = chain == Chain::Filter && once(&gate);
        let kernel_says = held.gates.contains(&gate) && remembered.this_boot;
        let parts = networks.get(&gate).filter(|_| chain == Chain::Banned);
        let in_other_pieces = !is_host(net) && parts.is_some_and(|parts| covered(parts, net));
        if (!kernel_says && !used_up) || in_other_pieces {
            merged.restore.push(kept);
        }
    }
    let mut explained: HashMap<&GateName, NetMap<Deadline>> = HashMap::new();
    for kept in merged.restore.iter().filter(|k| k.chain == Chain::Banned) {
        let of_gate = explained.entry(&kept.gate).or_default();
        if !is_host(kept.net) {
            of_gate.insert(kept.net, kept.deadline);
        }
    }
    let same_under_another_name = |member: &Member| {
        let ends = member.remaining.deadline(now);
        let whole = explained.get(&member.gate);
        let mut wider = whole.into_iter().flat_map(|nets| nets.covering(member.net));
        // What is only shorter because ipset cannot count further is the same, too.
        member.chain == Chain::Banned
            && !is_host(member.net)
            && wider.any(|(_, deadline)| later(*deadline) >= ends)
    };
    strange.retain(|member| !same_under_another_name(member));
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

/// An open gate has a member for each family; the store has one.
fn stored_as(member: &Member) -> IpNet {
    if member.chain == Chain::Filter && member.net.prefix_len() == 0 {
        IpNet::V4(ipnet::Ipv4Net::default())
    } else {
        member.net
    }
}

fn later(deadline: Deadline) -> Deadline {
    match deadline {
        Deadline::At(end) => Deadline::At(end.after(DOUBT)),
        Deadline::Never => Deadline::Never,
    }
}

/// When a member ends of which kernel and store both know. The kernel is right about what changed
/// after the last writing, the store where the kernel cannot count so exactly, or so far.
fn agreed(chain: Chain, kernel: Lifetime, stored: Deadline, now: Time) -> Deadline {
    let held = kernel.deadline(now);
    match (held, stored) {
        (Deadline::At(held), Deadline::At(end)) => {
            let apart = held.since(end).max(end.since(held));
            let cut = end > held && end.since(now) > LONGEST_IN_IPSET;
            if apart <= DOUBT || cut {
                stored
            } else {
                Deadline::At(held)
            }
        }
        // Nobody is accepted for good because a set has lost its time.
        (Deadline::Never, Deadline::At(_)) if chain == Chain::Filter => stored,
        _ => held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_000);

    fn gate() -> GateName {
        GateName::new("ssh").unwrap()
    }

    fn member(chain: Chain, net: &str, left: Option<u64>) -> Member {
        Member {
            gate: gate(),
            chain,
            net: net.parse().unwrap(),
            remaining: left.map_or(Lifetime::Never, |s| Lifetime::For(Duration::from_secs(s))),
            reason: "comment".into(),
        }
    }

    fn kept(chain: Chain, net: &str, left: Option<u64>) -> Kept {
        Kept {
            gate: gate(),
            chain,
            net: net.parse().unwrap(),
            deadline: left.map_or(Deadline::Never, |s| {
                Deadline::At(NOW.after(Duration::from_secs(s)))
            }),
            reason: "the store's".into(),
            by_knock: None,
        }
    }

    /// (what is restored, with the seconds that are left; what is adopted)
    fn merged(
        in_kernel: Option<&[Member]>,
        stored: &[Kept],
        this_boot: bool,
    ) -> (Vec<(String, Option<u64>)>, Vec<String>) {
        let held = Held {
            gates: in_kernel.iter().map(|_| gate()).collect(),
            members: in_kernel.unwrap_or_default().to_vec(),
        };
        let remembered = Remembered {
            members: stored.to_vec(),
            this_boot,
        };
        let merged = merge(held, remembered, |_| false, NOW);
        let mut restore: Vec<_> = merged
            .restore
            .iter()
            .map(|kept| {
                assert_eq!(kept.reason, "the store's");
                let left = kept.deadline.remaining(NOW).as_secs();
                (kept.net.to_string(), left)
            })
            .collect();
        restore.sort();
        let adopt = merged.adopt.iter().map(|m| m.net.to_string()).collect();
        (restore, adopt)
    }

    fn some(nets: &[(&str, Option<u64>)]) -> Vec<(String, Option<u64>)> {
        nets.iter()
            .map(|(net, left)| ((*net).to_owned(), *left))
            .collect()
    }

    #[test]
    fn the_kernel_says_which_members_there_are_and_the_store_why() {
        use Chain::{Banned, Filter};
        let held = [
            member(Filter, "192.0.2.1/32", Some(100)),
            member(Banned, "192.0.2.2/32", None),
            member(Banned, "192.0.2.9/32", None),
        ];
        let stored = [
            kept(Filter, "192.0.2.1/32", Some(101)),
            kept(Banned, "192.0.2.2/32", None),
            kept(Banned, "192.0.2.3/32", None),
        ];
        let (restore, adopt) = merged(Some(&held), &stored, true);
        let both = [("192.0.2.1/32", Some(101)), ("192.0.2.2/32", None)];
        assert_eq!(restore, some(&both));
        assert_eq!(adopt, ["192.0.2.9/32"]);
    }

    #[test]
    fn where_the_kernel_has_no_such_gate_the_store_says_who_comes_back() {
        let stored = [
            kept(Chain::Filter, "192.0.2.1/32", Some(100)),
            kept(Chain::Banned, "192.0.2.3/32", None),
        ];
        for this_boot in [true, false] {
            let (restore, adopt) = merged(None, &stored, this_boot);
            assert_eq!(restore.len(), 2);
            assert!(adopt.is_empty());
        }
    }

    #[test]
    fn rules_that_something_else_loaded_after_a_reboot_take_nobody_out() {
        let held = [member(Chain::Banned, "192.0.2.2/32", None)];
        let stored = [kept(Chain::Banned, "192.0.2.3/32", None)];
        let (restore, adopt) = merged(Some(&held), &stored, false);
        assert_eq!(restore, some(&[("192.0.2.3/32", None)]));
        assert_eq!(adopt, ["192.0.2.2/32"]);
    }

    #[test]
    fn of_two_deadlines_the_one_that_is_known_better_counts() {
        use Chain::{Banned, Filter};
        let day = 86_400;
        let cases = [
            // (chain, kernel, store, which)
            (Filter, Some(100), Some(101), Some(101)),
            // Renewed, and not yet written; shortened, and not yet written.
            (Filter, Some(300), Some(100), Some(300)),
            (Filter, Some(10), Some(100), Some(10)),
            // As far as ipset can count.
            (Banned, Some(20 * day), Some(100 * day), Some(100 * day)),
            (Banned, Some(20 * day), Some(21 * day), Some(20 * day)),
            (Banned, None, Some(100), None),
            (Banned, Some(100), None, Some(100)),
            (Filter, None, Some(100), Some(100)),
            (Filter, None, None, None),
        ];
        for (chain, kernel, store, which) in cases {
            let held = [member(chain, "192.0.2.1/32", kernel)];
            let stored = [kept(chain, "192.0.2.1/32", store)];
            let (restore, _) = merged(Some(&held), &stored, true);
            assert_eq!(
                restore,
                some(&[("192.0.2.1/32", which)]),
                "{chain:?} {kernel:?} {store:?}"
            );
        }
    }

    #[test]
    fn networks_that_the_kernel_has_in_other_pieces_come_back_as_they_were_decided() {
        use Chain::Banned;
        let stored = [
            kept(Banned, "10.0.0.0/16", None),
            kept(Banned, "10.0.1.0/24", None),
            kept(Banned, "10.9.0.0/16", None),
        ];
        let held = [
            member(Banned, "10.0.0.0/17", None),
            member(Banned, "10.0.128.0/17", None),
            member(Banned, "10.9.0.0/17", None),
        ];
        let (restore, adopt) = merged(Some(&held), &stored, true);
        let decided = [("10.0.0.0/16", None), ("10.0.1.0/24", None)];
        assert_eq!(restore, some(&decided));
        assert_eq!(
            adopt,
            ["10.9.0.0/17"],
            "half of it was taken out by somebody"
        );
    }

    #[test]
    fn an_open_gate_is_one_thing() {
        let stored = [kept(Chain::Filter, "0.0.0.0/0", Some(60))];
        let held = [
            member(Chain::Filter, "0.0.0.0/0", Some(60)),
            member(Chain::Filter, "::/0", Some(60)),
        ];
        let (restore, adopt) = merged(Some(&held), &stored, true);
        assert_eq!(restore, some(&[("0.0.0.0/0", Some(60))]));
        assert!(adopt.is_empty());
    }

    #[test]
    fn an_acceptance_for_one_connection_does_not_come_back_unless_the_kernel_has_it() {
        let stored = vec![kept(Chain::Filter, "192.0.2.1/32", Some(60))];
        let remembered = Remembered {
            members: stored,
            this_boot: false,
        };
        let merged = merge(Held::default(), remembered, |_| true, NOW);
        assert_eq!(merged, Merged::default());
    }
}
