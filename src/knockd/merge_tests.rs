use super::*;
use crate::model::Lifetime;

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
        noted: this_boot.then_some(NOW),
        read: NOW,
        ..Remembered::default()
    };
    told(&merge(held, remembered, |_| false, NOW))
}

fn told(merged: &Merged) -> (Vec<(String, Option<u64>)>, Vec<String>) {
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

/// Somebody has removed our rules and run the original script.
#[test]
fn the_original_scripts_chains_take_nobody_out_that_ours_had() {
    let other = GateName::new("web").unwrap();
    let mut held = Held::default();
    held.add(Observed {
        gates: vec![gate(), other.clone()],
        members: vec![member(Chain::Banned, "192.0.2.2/32", None)],
        originals: vec![gate()],
    });
    let elsewhere = |kept: Kept| Kept {
        gate: other.clone(),
        ..kept
    };
    let remembered = Remembered {
        members: vec![
            kept(Chain::Banned, "192.0.2.3/32", None),
            kept(Chain::Filter, "192.0.2.4/32", Some(60)),
            elsewhere(kept(Chain::Banned, "192.0.2.5/32", None)),
        ],
        this_boot: true,
        noted: Some(NOW),
        read: NOW,
        ..Remembered::default()
    };
    let (restore, adopt) = told(&merge(held, remembered, |_| false, NOW));
    let both = [("192.0.2.3/32", None), ("192.0.2.4/32", Some(60))];
    assert_eq!(restore, some(&both));
    assert_eq!(adopt, ["192.0.2.2/32"]);
    // Where ours are there as well, they say.
    let mut held = Held::default();
    for originals in [vec![], vec![gate()]] {
        held.add(Observed {
            gates: vec![gate()],
            members: Vec::new(),
            originals,
        });
    }
    assert_eq!(held.gates, [gate()].into());
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

/// It is set right by the daemon when it wakes up; but none may have been there.
#[test]
fn what_the_kernel_gives_for_the_time_that_the_machine_slept_does_not_count() {
    let cases = [
        // (slept, kernel, store, which)
        (3_600, 7_200, 3_600, 3_600),
        (3_600, 3_700, 3_600, 3_600),
        // Renewed, and not yet written.
        (3_600, 7_300, 3_600, 7_300),
        (0, 7_200, 3_600, 7_200),
        // Sleep does not make anybody's time shorter.
        (3_600, 10, 3_600, 10),
    ];
    for (slept, kernel, store, which) in cases {
        for chain in [Chain::Filter, Chain::Banned] {
            let member = member(chain, "192.0.2.1/32", Some(kernel));
            let stored = kept(chain, "192.0.2.1/32", Some(store)).deadline;
            let late = DOUBT + Duration::from_secs(slept);
            let found = agreed(&member, stored, late, NOW);
            let left = found.remaining(NOW).as_secs();
            assert_eq!(left, Some(which), "{chain:?} {slept} {kernel} {store}");
        }
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
        read: NOW,
        ..Remembered::default()
    };
    let merged = merge(Held::default(), remembered, |_| true, NOW);
    assert_eq!(merged, Merged::default());
}

#[test]
fn what_a_trial_removed_nobody_has_used_up() {
    let removed = [gate()].into_iter().collect();
    let remembered = |this_boot| Remembered {
        members: vec![kept(Chain::Filter, "192.0.2.1/32", Some(60))],
        this_boot,
        read: NOW,
        removed: HashSet::clone(&removed),
        ..Remembered::default()
    };
    let restored = |held, this_boot| merge(held, remembered(this_boot), |_| true, NOW).restore;
    assert_eq!(restored(Held::default(), true).len(), 1);
    // After a reboot nobody is, wherever; and the kernel says so itself where it has the gate.
    assert!(restored(Held::default(), false).is_empty());
    let held = Held {
        gates: removed.clone(),
        members: Vec::new(),
    };
    assert!(restored(held, true).is_empty());
}

/// Between two messages of a change that takes somebody out of a banned network, on a kernel
/// without transactions: the store does not know of it yet.
#[test]
fn a_hole_in_a_banned_network_that_was_half_written_leaves_the_rest_banned() {
    use Chain::Banned;
    let stored = [kept(Banned, "198.51.100.0/24", None)];
    let whole = member(Banned, "198.51.100.0/24", None);
    let parts = ["198.51.100.0/25", "198.51.100.192/26", "198.51.100.128/27"];
    let parts = parts.map(|net| member(Banned, net, None));
    for written in 0..=parts.len() {
        let held = [std::slice::from_ref(&whole), &parts[..written]].concat();
        let (restore, adopt) = merged(Some(&held), &stored, true);
        assert_eq!(restore, some(&[("198.51.100.0/24", None)]), "{written}");
        assert!(adopt.is_empty(), "{adopt:?}");
    }
    let (restore, adopt) = merged(Some(&parts), &stored, true);
    assert!(restore.is_empty(), "the whole of it is gone");
    assert_eq!(adopt, parts.map(|part| part.net.to_string()));
}

#[test]
fn neighbours_that_the_kernel_shows_as_one_come_back_as_they_were_decided() {
    use Chain::Banned;
    let stored = [
        kept(Banned, "10.0.2.0/24", Some(60)),
        kept(Banned, "10.0.3.0/24", Some(60)),
    ];
    let held = [member(Banned, "10.0.2.0/23", Some(60))];
    let (restore, adopt) = merged(Some(&held), &stored, true);
    let both = [("10.0.2.0/24", Some(60)), ("10.0.3.0/24", Some(60))];
    assert_eq!(restore, some(&both));
    assert!(adopt.is_empty(), "{adopt:?}");
    let longer = [member(Banned, "10.0.2.0/23", Some(600))];
    let (_, adopt) = merged(Some(&longer), &stored, true);
    assert_eq!(adopt, ["10.0.2.0/23"], "that is somebody else's");
}

#[test]
fn a_ban_that_may_have_run_out_in_the_kernel_before_its_time_comes_back() {
    use Chain::{Banned, Filter};
    const DAY: u64 = 86_400;
    let stored = [
        kept(Banned, "192.0.2.1/32", Some(30 * DAY)),
        kept(Banned, "10.0.0.0/16", Some(30 * DAY)),
        kept(Banned, "192.0.2.3/32", None),
        kept(Filter, "192.0.2.4/32", Some(30 * DAY)),
    ];
    let now = Time(NOW.0 + 40 * DAY * 1_000_000_000);
    // (since when nobody has kept it there, who comes back)
    let cases: [(u64, &[&str]); 3] = [
        (12 * DAY, &[]),
        (13 * DAY, &["10.0.0.0/16", "192.0.2.1/32"]),
        (40 * DAY, &["10.0.0.0/16", "192.0.2.1/32"]),
    ];
    for (dead, expected) in cases {
        let held = Held {
            gates: [gate()].into(),
            members: vec![],
        };
        let members = stored.iter().cloned().map(|kept| Kept {
            deadline: kept.deadline.remaining(NOW).deadline(now),
            ..kept
        });
        let remembered = Remembered {
            members: members.collect(),
            this_boot: true,
            noted: Some(Time(now.0 - dead * 1_000_000_000)),
            slept: Duration::ZERO,
            removed: HashSet::new(),
            read: now,
        };
        let (restore, _) = told(&merge(held, remembered, |_| false, now));
        let back: Vec<String> = restore.into_iter().map(|(net, _)| net).collect();
        assert_eq!(back, expected, "dead for {} days", dead / DAY);
    }
}

/// ipset takes whole seconds, rounded up, and tells whole seconds, rounded down but for the last.
#[test]
fn a_deadline_stays_what_it_is_however_often_the_daemon_starts_and_however_long_it_reads() {
    let milli = |ms: u64| Duration::from_millis(ms);
    for took in [0, 300, 700, 900, 1_600, 4_000].map(milli) {
        for first in [60_000, 60_001, 60_400, 60_999].map(milli) {
            let decided = NOW.after(first);
            let (mut now, mut deadline, mut kernel) = (NOW, decided, NOW.after(rounded_up(first)));
            for start in 0..10 {
                let read = now.after(milli(310));
                let left = Duration::from_secs(kernel.since(read).as_secs().max(1));
                now = read.after(took);
                let mut held = member(Chain::Filter, "192.0.2.1/32", None);
                held.remaining = Lifetime::For(left);
                let stored = Kept {
                    deadline: Deadline::At(deadline),
                    ..kept(Chain::Filter, "192.0.2.1/32", None)
                };
                let remembered = Remembered {
                    members: vec![stored],
                    this_boot: true,
                    noted: Some(read),
                    read,
                    ..Remembered::default()
                };
                let found = Held {
                    gates: [gate()].into(),
                    members: vec![held],
                };
                let restore = merge(found, remembered, |_| false, now).restore;
                let Deadline::At(end) = restore[0].deadline else {
                    panic!("for ever");
                };
                assert_eq!(
                    end, decided,
                    "start {start}, which took {took:?}, of {first:?}"
                );
                // At worst it is written anew, and that takes its time, too.
                deadline = end;
                kernel = now.after(milli(400)).after(rounded_up(end.since(now)));
            }
        }
    }
}

fn rounded_up(left: Duration) -> Duration {
    Duration::from_secs(u64::try_from(left.as_millis()).unwrap().div_ceil(1_000))
}

#[test]
fn whom_the_kernel_accepts_as_part_of_a_wider_network_comes_back() {
    use Chain::Filter;
    let held = [
        member(Filter, "2001:db8::/64", Some(100)),
        member(Filter, "192.0.2.0/24", Some(100)),
    ];
    let stored = [
        kept(Filter, "2001:db8::/64", Some(100)),
        kept(Filter, "2001:db8::1/128", Some(60)),
        kept(Filter, "2001:db8:1::1/128", Some(60)),
        kept(Filter, "192.0.2.1/32", Some(60)),
    ];
    let (restore, adopt) = merged(Some(&held), &stored, true);
    let expected = [("2001:db8::/64", Some(100)), ("2001:db8::1/128", Some(60))];
    let mut expected = some(&expected);
    expected.sort();
    assert_eq!(restore, expected);
    assert_eq!(adopt, ["192.0.2.0/24"]);
}
