//! A new process takes over what the kernel holds, whatever happens meanwhile.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Change, FirewallError, Member};
use portcullis::model::{Chain, Lifetime};

use crate::common::{desired, found, gate, lines, member};

const FOR_GOOD: u32 = 4_500;
const SHORT: u32 = 7_200;

fn banned(first: u32, count: u32, remaining: Lifetime) -> impl Iterator<Item = Member> {
    (first..first + count).map(move |host| {
        let host = Ipv4Addr::from(host).to_string();
        member(Chain::Banned, &host, remaining, "operator")
    })
}

fn for_good(members: &[Member]) -> usize {
    let stays = |member: &&Member| member.remaining == Lifetime::Never;
    members.iter().filter(stays).count()
}

/// While elements expire and the kernel collects them, its dumps lack others.
pub(crate) fn nothing_is_overlooked_while_others_expire(backend: &mut Nftables) {
    let mut all: Vec<Member> = banned(0x0a00_0000, FOR_GOOD, Lifetime::Never).collect();
    let nets = (0..500u32).map(|i| {
        let net = format!("{}/24", Ipv4Addr::from(0x1400_0000 + i * 512));
        member(Chain::Banned, &net, Lifetime::Never, "operator")
    });
    all.extend(nets);
    let lasting = all.len();
    for round in 0..2u64 {
        let mut wanted = all.clone();
        for part in 0..8u32 {
            // They end one after the other, in any order of place.
            let millis = 300 + round + u64::from(part) * 250;
            let left = Lifetime::For(Duration::from_millis(millis));
            let first = 0x6400_0000 + part * 0x1_0000;
            wanted.extend(banned(first, SHORT / 8, left));
            wanted.extend((0..60u32).map(|i| {
                let net = format!("{}/24", Ipv4Addr::from(0x1400_0100 + (i * 8 + part) * 512));
                member(Chain::Banned, &net, left, "short")
            }));
        }
        backend.install(&desired(wanted)).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(2_500) {
            assert_eq!(for_good(&found()), lasting, "round {round}");
        }
    }
    assert_eq!(found().len(), lasting);
}

/// A process that has overlooked members is told of them, and may not delete them before.
pub(crate) fn what_was_not_seen_is_not_deleted(backend: &mut Nftables) {
    let before = vec![
        member(Chain::Banned, "192.0.2.1", Lifetime::Never, "banned1"),
        member(Chain::Banned, "198.51.100.0/24", Lifetime::Never, "root"),
        member(Chain::Filter, "192.0.2.9", Lifetime::Never, "open"),
        member(Chain::Filter, "::/0", Lifetime::Never, "open"),
        member(Chain::Trusted, "203.0.113.7", Lifetime::Never, "file"),
    ];
    backend.install(&desired(before.clone())).unwrap();
    // As if `observe` had overlooked all: it was not asked.
    let mut other = Nftables::open().unwrap();
    let wanted = desired(vec![before[0].clone()]);
    let error = other.install(&wanted).unwrap_err();
    let FirewallError::Unseen(mut unseen) = error else {
        panic!("{error}");
    };
    unseen.sort_by_key(|m| (m.chain, m.net));
    assert_eq!(
        lines(&unseen),
        [
            "ssh_banned 198.51.100.0/24 root",
            "ssh_filter 192.0.2.9/32 open",
            "ssh_filter ::/0 open",
        ]
    );
    assert_eq!(found().len(), before.len(), "nothing was changed");
    // Told of them, it is its business.
    other.install(&wanted).unwrap();
    assert_eq!(lines(&found()), ["ssh_banned 192.0.2.1/32 banned1"]);
}

/// `nft add element` while we run.
pub(crate) fn what_somebody_else_adds_is_not_deleted_unseen(backend: &mut Nftables) {
    let own = member(Chain::Banned, "192.0.2.1", Lifetime::Never, "banned1");
    backend.install(&desired(vec![own.clone()])).unwrap();
    let foreign = [
        member(Chain::Banned, "192.0.2.77", Lifetime::Never, "by hand"),
        member(Chain::Banned, "100.64.0.0/10", Lifetime::Never, "by hand"),
    ];
    let mut hand = Nftables::open().unwrap();
    let put = foreign.iter().cloned().map(Change::Put);
    hand.apply(&put.collect::<Vec<_>>()).unwrap();
    // Looking is not taking over.
    assert_eq!(backend.observe().unwrap().unwrap().members.len(), 3);
    let error = backend.install(&desired(vec![own.clone()])).unwrap_err();
    let FirewallError::Unseen(mut unseen) = error else {
        panic!("{error}");
    };
    unseen.sort_by_key(|m| m.net);
    assert_eq!(
        lines(&unseen),
        [
            "ssh_banned 100.64.0.0/10 by hand",
            "ssh_banned 192.0.2.77/32 by hand",
        ]
    );
    let mut all = unseen;
    all.push(own);
    backend.install(&desired(all)).unwrap();
    assert_eq!(found().len(), 3);
    // Adopted, they can be flushed.
    let remove = |net: &str| Change::Remove {
        gate: gate("ssh"),
        chain: Chain::Banned,
        net: net.parse().unwrap(),
    };
    backend
        .apply(&[remove("192.0.2.77/32"), remove("100.64.0.0/10")])
        .unwrap();
    assert_eq!(lines(&found()), ["ssh_banned 192.0.2.1/32 banned1"]);
}

/// A network that overlaps with one that somebody else added: both hold. The kernel takes it
/// without a word where the two have an end in common.
pub(crate) fn a_network_in_the_way_is_kept(backend: &mut Nftables) {
    let ban = |net, reason| member(Chain::Banned, net, Lifetime::Never, reason);
    for (theirs, ours) in [
        ("100.64.0.0/10", "100.0.0.0/9"),
        ("100.0.0.0/10", "100.0.0.0/9"),
        ("100.16.0.0/12", "100.0.0.0/9"),
        ("100.0.0.0/9", "100.16.0.0/12"),
        ("100.0.0.0/9", "100.64.0.0/10"),
    ] {
        backend.teardown().unwrap();
        backend.install(&desired(vec![])).unwrap();
        let mut hand = Nftables::open().unwrap();
        hand.apply(&[Change::Put(ban(theirs, "by hand"))]).unwrap();
        backend.apply(&[Change::Put(ban(ours, "ours"))]).unwrap();
        let remove = Change::Remove {
            gate: gate("ssh"),
            chain: Chain::Banned,
            net: ours.parse().unwrap(),
        };
        backend.apply(&[remove]).unwrap();
        assert_eq!(lines(&found()), [format!("ssh_banned {theirs} by hand")]);
        assert!(matches!(
            backend.install(&desired(vec![])),
            Err(FirewallError::Unseen(_))
        ));
    }
}

/// Sets that have to be made anew are no exception.
pub(crate) fn a_set_made_anew_loses_nothing_unseen(backend: &mut Nftables) {
    let mut wanted = desired(vec![]);
    backend.install(&wanted).unwrap();
    let mut hand = Nftables::open().unwrap();
    let guest = member(Chain::Filter, "192.0.2.9", Lifetime::Never, "by hand");
    hand.apply(&[Change::Put(guest)]).unwrap();
    wanted.gates[0].once = true;
    assert!(matches!(
        backend.install(&wanted),
        Err(FirewallError::Unseen(unseen)) if unseen.len() == 1
    ));
    assert_eq!(found().len(), 1);
}

/// Expired and removed members need not be remembered; what somebody else adds under their name
/// is somebody else's.
pub(crate) fn what_is_over_is_not_known_any_more(backend: &mut Nftables) {
    backend.install(&desired(vec![])).unwrap();
    let ban = |net, remaining| member(Chain::Banned, net, remaining, "");
    let short = Lifetime::For(Duration::from_millis(50));
    backend
        .apply(&[
            Change::Put(ban("192.0.2.1", short)),
            Change::Put(ban("10.0.0.0/8", short)),
            Change::Put(ban("192.0.2.2", Lifetime::Never)),
        ])
        .unwrap();
    backend
        .apply(&[Change::Remove {
            gate: gate("ssh"),
            chain: Chain::Banned,
            net: "192.0.2.2/32".parse().unwrap(),
        }])
        .unwrap();
    // Our clock and the kernel's need not agree to the millisecond.
    let over = Instant::now() + Duration::from_millis(2_200);
    crate::members::until("over", || Instant::now() > over && found().is_empty());
    let mut hand = Nftables::open().unwrap();
    let put = ["192.0.2.1", "10.1.0.0/16", "192.0.2.2"];
    hand.apply(&put.map(|net| Change::Put(ban(net, Lifetime::Never))))
        .unwrap();
    assert!(matches!(
        backend.install(&desired(vec![])),
        Err(FirewallError::Unseen(unseen)) if unseen.len() == 3
    ));
}
