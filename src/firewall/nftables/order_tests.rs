//! An installation may take several batches, and any of them may be the last that succeeds:
//! after each of its groups everybody is treated as before or as he will be.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;

use super::decode::{self, Held, SetInfo, intervals};
use super::encode::Step;
use super::members::Sorted;
use super::names::{Family, Role, set_name};
use super::plan::{Image, Planner, State};
use super::rules::Earlier;
use super::segments::{Segment, flatten_sorted};
use crate::firewall::{Desired, GateRules, Member};
use crate::model::{Chain, GateName, Lifetime};
use crate::policy::{Hook, Verdict};

const FIRST: u32 = 0x0a00_0000;
const ADDRESSES: u32 = 64;

fn gate() -> GateName {
    GateName::new("ssh").unwrap()
}

fn desired(members: Vec<Member>) -> Desired {
    let rules = GateRules {
        name: gate(),
        ports: vec!["22".parse().unwrap()],
        hook: Hook::Input,
        input_addresses: vec![],
        forward_addresses: vec![],
        verdict: Verdict::Accept,
        once: false,
        log_drops: true,
        cut_sessions: false,
        ipv6_prefix: 128,
    };
    Desired {
        gates: vec![rules],
        members,
        sessions: vec![],
    }
}

/// The IPv4 sets of a kernel: keys, and whether they end an interval.
#[derive(Debug, Clone, Default)]
struct Sets(HashMap<String, BTreeSet<(u128, bool)>>);

impl Sets {
    fn holding(desired: &Desired, now: Instant) -> Self {
        let mut sets = Self::default();
        let sorted = Sorted::new(desired, now).unwrap();
        for ((gate, role), keys) in &sorted.keys {
            let set = sets.0.entry(set_name(gate, *role)).or_default();
            set.extend(keys.keys().map(|key| (*key, false)));
        }
        for ((gate, role), nets) in &sorted.nets {
            let set = sets.0.entry(set_name(gate, *role)).or_default();
            for Segment { first, last, .. } in flatten_sorted(nets.iter()) {
                set.extend([(first, false), (last + 1, true)]);
            }
        }
        sets
    }

    /// What the kernel does with a message about elements.
    fn write(&mut self, step: &Step) {
        let kind = u16::from_ne_bytes([step.bytes[4], step.bytes[5]]);
        let mut elements = Vec::new();
        decode::elements(0x0a0c, &step.bytes[16..], &mut elements);
        let set = self.0.entry(step.object.clone()).or_default();
        match kind & 0xff {
            12 => set.extend(elements.iter().map(|held| (held.key, held.is_end))),
            14 if elements.is_empty() => set.clear(),
            14 | 30 => {
                for held in elements {
                    let was_there = set.remove(&(held.key, held.is_end));
                    assert!(was_there || kind & 0xff == 30, "ENOENT");
                }
            }
            _ => {}
        }
    }

    fn held(&self, name: &str) -> Vec<Held> {
        let keys = self.0.get(name).into_iter().flatten();
        let held = |&(key, is_end): &(u128, bool)| Held {
            key,
            is_end,
            left: None,
            comment: "before".to_owned(),
        };
        keys.map(held).collect()
    }

    fn has(&self, chain: Chain, address: u128) -> bool {
        let host = set_name(&gate(), Role::Host(chain, Family::V4));
        let net = set_name(&gate(), Role::Net(chain, Family::V4));
        let is_host = self
            .0
            .get(&host)
            .is_some_and(|s| s.contains(&(address, false)));
        let segments = intervals(Family::V4, self.held(&net), Instant::now());
        is_host
            || segments
                .iter()
                .any(|s| (s.first..=s.last).contains(&address))
    }

    fn lets_in(&self) -> Vec<bool> {
        let lets_in = |address: u32| {
            let has = |chain| self.has(chain, (FIRST + address).into());
            !has(Chain::Banned) && (has(Chain::Trusted) || has(Chain::Filter))
        };
        (0..ADDRESSES).map(lets_in).collect()
    }
}

fn groups(sets: &Sets, wanted: &Desired, can_destroy: bool, now: Instant) -> Vec<Vec<Step>> {
    let image = Image::new(&[(&wanted.gates[0], Earlier::default())]);
    let state = State {
        table: Some(0),
        sets: image
            .sets
            .iter()
            .map(|(.., spec)| SetInfo {
                name: spec.name.clone(),
                flags: spec.flags,
                key_type: spec.key_type,
                key_len: spec.key_len,
                comment: spec.comment.to_owned(),
                count: None,
            })
            .collect(),
        ..State::default()
    };
    let mut held: HashMap<_, _> = image
        .sets
        .iter()
        .map(|(.., spec)| (spec.name.clone(), sets.held(&spec.name)))
        .collect();
    let plan = Planner {
        flags: 0,
        replaces: false,
        state: &state,
        image: &image,
        held: &mut held,
        sorted: &Sorted::new(wanted, now).unwrap(),
        desired: wanted,
        fresh: &HashMap::new(),
        now,
        can_destroy,
    }
    .plan();
    plan.groups().cloned().collect()
}

fn any_member() -> impl Strategy<Value = Member> {
    let chain = prop_oneof![
        Just(Chain::Banned),
        Just(Chain::Trusted),
        Just(Chain::Filter)
    ];
    let reason = prop_oneof![Just("before"), Just("after")];
    (chain, 0..ADDRESSES, 26u8..=32, reason).prop_map(|(chain, host, length, reason)| {
        let length = if chain == Chain::Filter { 32 } else { length };
        Member {
            gate: gate(),
            chain,
            net: IpNet::from(Ipv4Net::new_assert((FIRST + host).into(), length)).trunc(),
            remaining: Lifetime::Never,
            reason: reason.to_owned(),
        }
    })
}

/// Members as the engine wants them: nobody is banned and let in at once.
fn any_members() -> impl Strategy<Value = Vec<Member>> {
    prop::collection::vec(any_member(), 0..12).prop_map(|mut members| {
        let banned: Vec<IpNet> = members
            .iter()
            .filter(|m| m.chain == Chain::Banned)
            .map(|m| m.net)
            .collect();
        let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        members.retain(|m| {
            m.chain == Chain::Banned || !banned.iter().any(|ban| overlaps(ban, &m.net))
        });
        let mut seen = BTreeSet::new();
        members.retain(|m| seen.insert((m.chain, m.net)));
        members
    })
}

proptest! {
    #[test]
    fn nobody_is_shut_out_or_let_in_between_two_batches(
        before in any_members(),
        after in any_members(),
        can_destroy in any::<bool>(),
    ) {
        let now = Instant::now();
        let (before, after) = (desired(before), desired(after));
        let mut sets = Sets::holding(&before, now);
        let first = sets.lets_in();
        let last = Sets::holding(&after, now).lets_in();
        for group in groups(&sets, &after, can_destroy, now) {
            for step in &group {
                sets.write(step);
            }
            for (address, lets_in) in sets.lets_in().into_iter().enumerate() {
                prop_assert!(
                    lets_in == first[address] || lets_in == last[address],
                    "address {address}"
                );
            }
        }
        prop_assert_eq!(sets.lets_in(), last);
    }
}

#[test]
fn networks_that_have_nothing_to_do_with_one_another_need_no_common_batch() {
    let now = Instant::now();
    let ban = |net: String| Member {
        gate: gate(),
        chain: Chain::Banned,
        net: net.parse().unwrap(),
        remaining: Lifetime::Never,
        reason: "before".to_owned(),
    };
    let bans = |second: u8| {
        (0..5_000u32).map(move |i| {
            ban(format!(
                "10.{}.{}.0/24",
                i / 128 + u32::from(second),
                i % 128 * 2
            ))
        })
    };
    let before = desired(bans(0).collect());
    let after = desired(bans(100).collect());
    let sets = Sets::holding(&before, now);
    let groups = groups(&sets, &after, true, now);
    let longest = groups
        .iter()
        .map(|group| group.iter().map(|step| step.bytes.len()).sum::<usize>());
    assert!(longest.max() < Some(65_000));
}
