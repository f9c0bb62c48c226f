//! Members come, stay, change, end and go.

use std::time::{Duration, Instant};

use portcullis::firewall::nftables::{Nftables, probe};
use portcullis::firewall::{Backend, Change, FirewallError, Member};
use portcullis::model::{Chain, Lifetime};

use crate::common::{desired, found, gate, lines, member, secs};
use crate::left::{assert_left, left};

pub(crate) fn mixed() -> Vec<Member> {
    vec![
        member(Chain::Banned, "192.0.2.1", Lifetime::Never, "banned1"),
        member(Chain::Banned, "198.51.100.0/24", secs(600), "operator root"),
        member(Chain::Banned, "2001:db8:bad::/48", Lifetime::Never, "é — ü"),
        member(Chain::Trusted, "203.0.113.7", Lifetime::Never, "file"),
        member(Chain::Trusted, "2001:db8:1::/64", Lifetime::Never, "net"),
        member(Chain::Filter, "192.0.2.9", secs(300), "opencloseSSH"),
        member(Chain::Filter, "2001:db8::9", secs(300), "opencloseSSH"),
    ]
}

pub(crate) fn nothing_there_is_none(backend: &mut Nftables) {
    probe().unwrap();
    assert_eq!(backend.observe().unwrap(), None);
    assert!(backend.verify().unwrap().is_empty());
}

pub(crate) fn install_on_empty(backend: &mut Nftables) {
    let wanted = desired(mixed());
    backend.install(&wanted).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    let observed = backend.observe().unwrap().unwrap();
    assert_eq!(observed.gates, [gate("ssh")]);
    let mut expected = lines(&wanted.members);
    let members = found();
    let mut got = lines(&members);
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
    assert_left(&members, "198.51.100.0/24", 600);
    assert_left(&members, "192.0.2.9/32", 300);
    assert_eq!(left(&members, "192.0.2.1/32"), Lifetime::Never);
}

pub(crate) fn installing_again_keeps_times(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    let before = found();
    // The same deadlines within a second, one longer, one reason changed, one gone, one new.
    let mut again = mixed();
    again[1].remaining = Lifetime::For(Duration::from_millis(600_500));
    "renamed".clone_into(&mut again[4].reason);
    again[5].remaining = secs(900);
    again.remove(6);
    again.push(member(Chain::Filter, "2001:db8::10", secs(30), "new"));
    backend.install(&desired(again)).unwrap();
    let after = found();
    let millis = |members: &[Member], net| match left(members, net) {
        Lifetime::For(left) => left.as_millis(),
        Lifetime::Never => u128::MAX,
    };
    assert!(millis(&after, "198.51.100.0/24") <= millis(&before, "198.51.100.0/24"));
    assert_left(&after, "192.0.2.9/32", 900);
    assert_left(&after, "2001:db8::10/128", 30);
    assert_eq!(after.len(), 7);
    assert!(lines(&after).contains(&"ssh_trusted 2001:db8:1::/64 renamed".to_owned()));
}

pub(crate) fn another_process_adopts(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    let before = found();
    let mut other = Nftables::open().unwrap();
    let adopted = other.observe().unwrap().unwrap().members;
    other.install(&desired(adopted)).unwrap();
    assert_eq!(lines(&found()), lines(&before));
    // Both go on, also with networks, without having installed them.
    let mut third = Nftables::open().unwrap();
    third
        .apply(&[
            Change::Remove {
                gate: gate("ssh"),
                chain: Chain::Banned,
                net: "198.51.100.0/24".parse().unwrap(),
            },
            Change::Put(member(Chain::Banned, "198.51.0.0/16", secs(50), "wider")),
        ])
        .unwrap();
    let after = found();
    assert_left(&after, "198.51.0.0/16", 50);
    assert_eq!(after.len(), before.len());
}

pub(crate) fn put_renews_and_remove_removes(backend: &mut Nftables) {
    backend.install(&desired(vec![])).unwrap();
    let put =
        |secs_, reason: &str| Change::Put(member(Chain::Filter, "192.0.2.9", secs(secs_), reason));
    backend.apply(&[put(300, "first")]).unwrap();
    backend.apply(&[put(60, "second")]).unwrap();
    let members = found();
    assert_left(&members, "192.0.2.9/32", 60);
    assert_eq!(lines(&members), ["ssh_filter 192.0.2.9/32 second"]);
    backend
        .apply(&[
            put(10, "third"),
            Change::Put(member(Chain::Banned, "192.0.2.9", Lifetime::Never, "ban")),
            Change::Remove {
                gate: gate("ssh"),
                chain: Chain::Filter,
                net: "192.0.2.9/32".parse().unwrap(),
            },
        ])
        .unwrap();
    assert_eq!(lines(&found()), ["ssh_banned 192.0.2.9/32 ban"]);
    assert_eq!(left(&found(), "192.0.2.9/32"), Lifetime::Never);
    backend.apply(&[]).unwrap();
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn the_kernel_ends_what_is_over(backend: &mut Nftables) {
    let short = Lifetime::For(Duration::from_millis(400));
    let members = vec![
        member(Chain::Filter, "192.0.2.9", short, "short"),
        member(Chain::Banned, "192.0.2.0/24", short, "short"),
        member(Chain::Filter, "::/0", short, "short"),
        member(Chain::Filter, "192.0.2.10", secs(100), "long"),
    ];
    backend.install(&desired(members)).unwrap();
    until("expired", || {
        lines(&found()) == ["ssh_filter 192.0.2.10/32 long"]
    });
    assert!(backend.verify().unwrap().is_empty());
}

pub(crate) fn removing_what_is_over_is_no_error(backend: &mut Nftables) {
    backend.install(&desired(vec![])).unwrap();
    let remove = |chain, net: &str| Change::Remove {
        gate: gate("ssh"),
        chain,
        net: net.parse().unwrap(),
    };
    let short = Lifetime::For(Duration::from_millis(30));
    for _ in 0..3 {
        backend
            .apply(&[
                Change::Put(member(Chain::Filter, "192.0.2.9", short, "")),
                Change::Put(member(Chain::Banned, "10.0.0.0/8", short, "")),
            ])
            .unwrap();
        until("expired", || found().is_empty());
        // The kernel has ended them, and has perhaps not yet collected them.
        backend
            .apply(&[
                remove(Chain::Filter, "192.0.2.9/32"),
                remove(Chain::Filter, "192.0.2.77/32"),
                remove(Chain::Banned, "10.0.0.0/8"),
                remove(Chain::Banned, "172.16.0.0/12"),
                remove(Chain::Filter, "0.0.0.0/0"),
                // No set could hold it.
                remove(Chain::Filter, "192.0.2.0/24"),
            ])
            .unwrap();
    }
    assert!(found().is_empty());
}

pub(crate) fn all_changes_or_none(backend: &mut Nftables) {
    backend.install(&desired(vec![])).unwrap();
    let mut stranger = member(Chain::Filter, "192.0.2.1", secs(5), "");
    stranger.gate = gate("nosuch");
    let error = backend
        .apply(&[
            Change::Put(member(Chain::Banned, "10.0.0.0/8", secs(50), "")),
            Change::Put(member(Chain::Filter, "192.0.2.9", secs(5), "")),
            Change::Put(stranger),
        ])
        .unwrap_err();
    assert!(error.to_string().contains("nosuch_filter4"), "{error}");
    assert!(found().is_empty());
    // The copy of the networks was put back, too: this is an addition, not a change.
    backend
        .apply(&[Change::Put(member(
            Chain::Banned,
            "10.0.0.0/8",
            secs(60),
            "",
        ))])
        .unwrap();
    assert_left(&found(), "10.0.0.0/8", 60);
}

pub(crate) fn an_open_gate(backend: &mut Nftables) {
    backend.install(&desired(vec![])).unwrap();
    backend
        .apply(&[
            Change::Put(member(Chain::Filter, "0.0.0.0/0", secs(60), "open")),
            Change::Put(member(Chain::Filter, "::/0", secs(60), "open")),
        ])
        .unwrap();
    let members = found();
    assert_eq!(
        lines(&members),
        ["ssh_filter 0.0.0.0/0 open", "ssh_filter ::/0 open"]
    );
    assert_left(&members, "::/0", 60);
    backend.install(&desired(members)).unwrap();
    backend
        .apply(&[Change::Remove {
            gate: gate("ssh"),
            chain: Chain::Filter,
            net: "0.0.0.0/0".parse().unwrap(),
        }])
        .unwrap();
    assert_eq!(lines(&found()), ["ssh_filter ::/0 open"]);
}

pub(crate) fn prefixes_of_64(backend: &mut Nftables) {
    let mut wanted = desired(vec![
        member(Chain::Filter, "2001:db8:0:1::/64", secs(100), "a"),
        member(Chain::Filter, "2001:db8:0:2::7", secs(100), "b"),
    ]);
    wanted.gates[0].ipv6_prefix = 64;
    backend.install(&wanted).unwrap();
    let expected = [
        "ssh_filter 2001:db8:0:1::/64 a",
        "ssh_filter 2001:db8:0:2::/64 b",
    ];
    assert_eq!(lines(&found()), expected);
    // Another process finds the length in the kernel.
    let mut other = Nftables::open().unwrap();
    other
        .apply(&[Change::Put(member(
            Chain::Filter,
            "2001:db8:0:1::5",
            secs(9),
            "c",
        ))])
        .unwrap();
    assert_left(&found(), "2001:db8:0:1::/64", 9);
    let mut other = desired(vec![member(Chain::Filter, "2001:db8::7", secs(9), "")]);
    other.gates[0].ipv6_prefix = 128;
    backend.install(&other).unwrap();
    assert_eq!(lines(&found()), ["ssh_filter 2001:db8::7/128 "]);
}

pub(crate) fn impossible_members_are_refused(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    for net in ["192.0.2.0/24", "2001:db8::/64"] {
        let wanted = member(Chain::Filter, net, secs(9), "");
        let error = backend.apply(&[Change::Put(wanted.clone())]).unwrap_err();
        assert!(matches!(error, FirewallError::Kernel { .. }), "{error}");
        backend.install(&desired(vec![wanted])).unwrap_err();
    }
    assert_eq!(found().len(), mixed().len());
}

pub(crate) fn reasons_are_made_to_fit(backend: &mut Nftables) {
    let ban = |net, reason: &str| member(Chain::Banned, net, Lifetime::Never, reason);
    let long = "é".repeat(100);
    let members = vec![
        ban("192.0.2.1", "a \"quoted\" word"),
        ban("192.0.2.2", "two\nlines\t\0and\u{85}more\x1b[31m"),
        ban("192.0.2.3", &long),
        ban("198.51.100.0/24", "net \"of\"\n"),
    ];
    let expected = [
        "ssh_banned 192.0.2.1/32 a 'quoted' word".to_owned(),
        "ssh_banned 192.0.2.2/32 two lines  and more [31m".to_owned(),
        format!("ssh_banned 192.0.2.3/32 {}", "é".repeat(63)),
        "ssh_banned 198.51.100.0/24 net 'of' ".to_owned(),
    ];
    // The second time all is as it has to be.
    for _ in 0..2 {
        backend.install(&desired(members.clone())).unwrap();
        assert_eq!(lines(&found()), expected);
    }
    backend.install(&desired(vec![])).unwrap();
    let put = members.into_iter().map(Change::Put);
    backend.apply(&put.collect::<Vec<_>>()).unwrap();
    assert_eq!(lines(&found()), expected);
}

pub(crate) fn teardown_twice(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    backend.teardown().unwrap();
    backend.teardown().unwrap();
    assert_eq!(backend.observe().unwrap(), None);
    let put = Change::Put(member(Chain::Filter, "192.0.2.9", secs(9), ""));
    assert!(backend.apply(&[put]).is_err());
    backend.install(&desired(mixed())).unwrap();
    assert_eq!(found().len(), mixed().len());
}
