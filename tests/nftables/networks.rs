//! Networks that overlap, in sets of intervals that must not.

use std::time::{Duration, Instant};

use netlink_packet_netfilter::nftables::NfTablesMessage as Msg;
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Change};
use portcullis::model::{Chain, Lifetime};

use crate::common::{desired, found, gate, lines, member, secs};
use crate::left::{assert_left, left};
use crate::meddle::{elements_of, meddle};
use crate::members::until;

pub(crate) fn overlapping_networks(backend: &mut Nftables) {
    let ban = |net, remaining, reason| member(Chain::Banned, net, remaining, reason);
    backend
        .install(&desired(vec![
            ban("10.0.0.0/8", secs(100), "wide"),
            ban("10.1.0.0/16", secs(1000), "narrow"),
            ban("10.1.1.0/24", secs(10), "short"),
            ban("11.0.0.0/8", secs(100), "next"),
        ]))
        .unwrap();
    let members = found();
    assert_left(&members, "10.1.0.0/16", 1000);
    assert_left(&members, "10.128.0.0/9", 100);
    // 10/8 without one /16 is eight networks.
    assert_eq!(members.len(), 8 + 1 + 1);
    let narrow = "10.1.0.0/16".parse().unwrap();
    backend
        .apply(&[Change::Remove {
            gate: gate("ssh"),
            chain: Chain::Banned,
            net: narrow,
        }])
        .unwrap();
    assert_eq!(
        lines(&found()),
        ["ssh_banned 10.0.0.0/8 wide", "ssh_banned 11.0.0.0/8 next"]
    );
    backend
        .apply(&[
            Change::Put(ban("10.0.0.0/8", Lifetime::Never, "for ever")),
            Change::Put(ban("8.0.0.0/6", secs(500), "all")),
        ])
        .unwrap();
    let members = found();
    assert_eq!(left(&members, "10.0.0.0/8"), Lifetime::Never);
    assert_left(&members, "8.0.0.0/7", 500);
    assert_left(&members, "11.0.0.0/8", 500);
    assert_eq!(members.len(), 3);
    // Trust does not expire: what lies within another network adds nothing.
    let trust = |net| member(Chain::Trusted, net, Lifetime::Never, "");
    backend
        .install(&desired(vec![
            trust("10.0.0.0/8"),
            trust("10.1.0.0/16"),
            trust("11.0.0.0/8"),
        ]))
        .unwrap();
    assert_eq!(lines(&found()), ["ssh_trusted 10.0.0.0/7 "]);
}

pub(crate) fn networks_that_expire_leave_neighbours_alone(backend: &mut Nftables) {
    let ban = |net: &str, millis| {
        let remaining = Lifetime::For(Duration::from_millis(millis));
        Change::Put(member(Chain::Banned, net, remaining, ""))
    };
    backend.install(&desired(vec![])).unwrap();
    // The second ends the first at about the time it ends by itself, wherever that finds the
    // kernel's collector.
    for millis in [1, 20, 500, 1500] {
        backend
            .apply(&[
                ban("10.0.0.0/8", millis),
                ban("12.0.0.0/8", 100_000),
                ban("14.0.0.0/8", 100_000),
            ])
            .unwrap();
        std::thread::sleep(Duration::from_millis(15));
        backend
            .apply(&[ban("10.0.0.0/9", 50_000), ban("9.0.0.0/8", 60_000)])
            .unwrap();
        backend
            .apply(&[Change::Remove {
                gate: gate("ssh"),
                chain: Chain::Banned,
                net: "10.0.0.0/9".parse().unwrap(),
            }])
            .unwrap();
        until("collected", || found().len() == 3);
        // Longer than the kernel's collector takes to come by.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1300) {
            let members = found();
            assert_eq!(members.len(), 3, "{:?}", lines(&members));
            for (net, least) in [("12.0.0.0/8", 90), ("14.0.0.0/8", 90), ("9.0.0.0/8", 50)] {
                assert!(left(&members, net) > secs(least), "{net}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) fn networks_changed_behind_our_back(backend: &mut Nftables) {
    let ban = |net, remaining| member(Chain::Banned, net, remaining, "");
    backend
        .install(&desired(vec![
            ban("10.0.0.0/8", secs(100)),
            ban("12.0.0.0/8", secs(100)),
        ]))
        .unwrap();
    meddle(vec![(
        Msg::DeleteSetElement(elements_of("ssh_banned4net")),
        0,
    )]);
    assert!(found().is_empty());
    backend
        .apply(&[Change::Put(ban("10.0.0.0/8", secs(200)))])
        .unwrap();
    assert_left(&found(), "10.0.0.0/8", 200);
    assert_left(&found(), "12.0.0.0/8", 100);
}

pub(crate) fn the_last_network_there_is(backend: &mut Nftables) {
    let ban = |net| member(Chain::Banned, net, secs(100), "");
    backend
        .install(&desired(vec![
            ban("0.0.0.0/1"),
            ban("224.0.0.0/3"),
            ban("::/0"),
            ban("ff00::/8"),
        ]))
        .unwrap();
    assert_eq!(
        lines(&found()),
        [
            "ssh_banned 0.0.0.0/1 ",
            "ssh_banned 224.0.0.0/3 ",
            "ssh_banned ::/0 "
        ]
    );
    for net in ["224.0.0.0/3", "::/0"] {
        backend
            .apply(&[Change::Remove {
                gate: gate("ssh"),
                chain: Chain::Banned,
                net: net.parse().unwrap(),
            }])
            .unwrap();
    }
    assert_eq!(
        lines(&found()),
        ["ssh_banned 0.0.0.0/1 ", "ssh_banned ff00::/8 "]
    );
}
