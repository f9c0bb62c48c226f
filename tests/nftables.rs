//! The nftables backend against the real kernel, in namespaces of its own: needs neither root
//! nor the `nft` program.

mod common_nft;

use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use netlink_packet_netfilter::nftables::{NfTablesMessage as Msg, TableFlags};

use common_nft::*;
use portcullis::firewall::nftables::{Nftables, Restraints, probe};
use portcullis::firewall::{Backend, Change, Desired, FirewallError, Member};
use portcullis::model::{Chain, Lifetime};
use portcullis::netlink::{APPEND, CREATE};
use portcullis::policy::Hook;

/// Debug builds encode slowly.
const PATIENCE: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

fn main() {
    let mut arguments = Arguments::from_args();
    // One ruleset, one test at a time; and no thread before the namespaces.
    arguments.test_threads = Some(1);
    enter_namespace();
    let mut trials = Vec::new();
    for (name, test) in TESTS {
        for (suffix, no_destroy) in [("", false), (" on an older kernel", true)] {
            let restraints = Restraints {
                no_destroy,
                batch: None,
            };
            trials.push(Trial::test(format!("{name}{suffix}"), move || {
                let mut backend = Nftables::open_restrained(restraints).unwrap();
                backend.teardown().unwrap();
                test(&mut backend);
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

type Test = fn(&mut Nftables);

const TESTS: &[(&str, Test)] = &[
    ("nothing_there_is_none", nothing_there_is_none),
    ("install_on_empty", install_on_empty),
    ("installing_again_keeps_times", installing_again_keeps_times),
    ("another_process_adopts", another_process_adopts),
    (
        "put_renews_and_remove_removes",
        put_renews_and_remove_removes,
    ),
    ("the_kernel_ends_what_is_over", the_kernel_ends_what_is_over),
    (
        "removing_what_is_over_is_no_error",
        removing_what_is_over_is_no_error,
    ),
    ("all_changes_or_none", all_changes_or_none),
    ("overlapping_networks", overlapping_networks),
    (
        "networks_that_expire_leave_neighbours_alone",
        networks_that_expire_leave_neighbours_alone,
    ),
    (
        "networks_changed_behind_our_back",
        networks_changed_behind_our_back,
    ),
    ("the_last_network_there_is", the_last_network_there_is),
    ("a_removed_gate_goes", a_removed_gate_goes),
    (
        "a_set_of_another_type_is_replaced",
        a_set_of_another_type_is_replaced,
    ),
    (
        "a_base_chain_elsewhere_is_replaced",
        a_base_chain_elsewhere_is_replaced,
    ),
    ("foreign_objects_stay", foreign_objects_stay),
    ("an_open_gate", an_open_gate),
    ("once_can_be_switched", once_can_be_switched),
    ("prefixes_of_64", prefixes_of_64),
    (
        "impossible_members_are_refused",
        impossible_members_are_refused,
    ),
    (
        "earlier_sessions_only_at_first",
        earlier_sessions_only_at_first,
    ),
    (
        "all_kinds_of_rules_are_read_back",
        all_kinds_of_rules_are_read_back,
    ),
    ("more_than_a_batch_takes", more_than_a_batch_takes),
    ("hundred_thousand_trusted", hundred_thousand_trusted),
    ("ten_thousand_networks", ten_thousand_networks),
    ("verify_notices", verify_notices),
    ("teardown_twice", teardown_twice),
];

fn nothing_there_is_none(backend: &mut Nftables) {
    probe().unwrap();
    assert_eq!(backend.observe().unwrap(), None);
    assert!(backend.verify().unwrap().is_empty());
}

fn mixed() -> Vec<Member> {
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

fn install_on_empty(backend: &mut Nftables) {
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

fn installing_again_keeps_times(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    let before = found();
    // The same deadlines within a second, one longer, one reason changed, one gone, one new.
    let mut again = mixed();
    again[1].remaining = Lifetime::For(Duration::from_millis(600_500));
    again[4].reason = "renamed".to_owned();
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

fn another_process_adopts(backend: &mut Nftables) {
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

fn put_renews_and_remove_removes(backend: &mut Nftables) {
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

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn the_kernel_ends_what_is_over(backend: &mut Nftables) {
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

fn removing_what_is_over_is_no_error(backend: &mut Nftables) {
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

fn all_changes_or_none(backend: &mut Nftables) {
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

fn overlapping_networks(backend: &mut Nftables) {
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

fn networks_that_expire_leave_neighbours_alone(backend: &mut Nftables) {
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

fn networks_changed_behind_our_back(backend: &mut Nftables) {
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

fn the_last_network_there_is(backend: &mut Nftables) {
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

fn a_removed_gate_goes(backend: &mut Nftables) {
    let mut two = desired(mixed());
    let mut web = rules("web");
    web.hook = Hook::Both;
    web.addresses = vec!["192.0.2.0/24".parse().unwrap()];
    two.gates.push(web);
    let mut extra = member(Chain::Banned, "192.0.2.200", Lifetime::Never, "");
    extra.gate = gate("web");
    two.members.push(extra);
    backend.install(&two).unwrap();
    assert_eq!(backend.observe().unwrap().unwrap().gates.len(), 2);
    backend.install(&desired(mixed())).unwrap();
    let observed = backend.observe().unwrap().unwrap();
    assert_eq!(observed.gates, [gate("ssh")]);
    assert_eq!(observed.members.len(), mixed().len());
    assert!(backend.verify().unwrap().is_empty());
}

fn a_set_of_another_type_is_replaced(backend: &mut Nftables) {
    meddle(vec![
        (Msg::NewTable(table(Some(TableFlags::Dormant))), CREATE),
        (Msg::NewSet(set("ssh_filter4", 8, 16)), CREATE),
        (Msg::NewSet(set("ssh_banned4", 7, 4)), CREATE),
        (Msg::NewChain(chain("ssh_policy")), CREATE),
    ]);
    backend.install(&desired(mixed())).unwrap();
    assert_eq!(found().len(), mixed().len());
    assert!(backend.verify().unwrap().is_empty());
}

fn a_base_chain_elsewhere_is_replaced(backend: &mut Nftables) {
    // An ordinary chain where the base chain has to be.
    meddle(vec![
        (Msg::NewTable(table(None)), CREATE),
        (Msg::NewChain(chain("input")), CREATE),
    ]);
    backend.install(&desired(mixed())).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    let mut forward = desired(mixed());
    forward.gates[0].hook = Hook::Forward;
    forward.gates[0].addresses = vec!["192.0.2.1/32".parse().unwrap()];
    backend.install(&forward).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    assert_eq!(found().len(), mixed().len());
}

fn foreign_objects_stay(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    meddle(vec![
        (Msg::NewChain(chain("mine")), CREATE),
        (Msg::NewSet(set("mine", 7, 4)), CREATE),
    ]);
    assert!(backend.verify().unwrap().is_empty());
    assert_eq!(found().len(), mixed().len());
    backend.install(&desired(mixed())).unwrap();
    // They are still there to be deleted.
    meddle(vec![
        (Msg::DeleteChain(chain("mine")), 0),
        (Msg::DeleteSet(set("mine", 7, 4)), 0),
    ]);
}

fn an_open_gate(backend: &mut Nftables) {
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

fn once_can_be_switched(backend: &mut Nftables) {
    let mut wanted = desired(mixed());
    for once in [true, false, true] {
        wanted.gates[0].once = once;
        backend.install(&wanted).unwrap();
        assert!(backend.verify().unwrap().is_empty());
        assert_eq!(found().len(), mixed().len());
    }
}

fn prefixes_of_64(backend: &mut Nftables) {
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

fn impossible_members_are_refused(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    for net in ["192.0.2.0/24", "2001:db8::/64"] {
        let wanted = member(Chain::Filter, net, secs(9), "");
        let error = backend.apply(&[Change::Put(wanted.clone())]).unwrap_err();
        assert!(matches!(error, FirewallError::Kernel { .. }), "{error}");
        backend.install(&desired(vec![wanted])).unwrap_err();
    }
    assert_eq!(found().len(), mixed().len());
}

fn earlier_sessions_only_at_first(backend: &mut Nftables) {
    let mut wanted = desired(vec![]);
    wanted.gates[0].hook = Hook::Both;
    wanted.gates[0].addresses = vec!["192.0.2.0/24".parse().unwrap()];
    wanted.sessions = vec![
        (gate("ssh"), "192.0.2.1:40000".parse().unwrap()),
        (gate("ssh"), "[::ffff:192.0.2.2]:40001".parse().unwrap()),
        (gate("ssh"), "[2001:db8::1]:40002".parse().unwrap()),
    ];
    backend.install(&wanted).unwrap();
    let names = ["ssh_session4", "ssh_session6", "ssh_grace"];
    for name in names {
        assert!(has_set(name), "{name}");
    }
    assert!(backend.verify().unwrap().is_empty());
    // They stay while they have elements, whoever installs.
    Nftables::open()
        .unwrap()
        .install(&Desired {
            sessions: vec![],
            ..wanted.clone()
        })
        .unwrap();
    for name in names {
        assert!(has_set(name), "{name}");
    }
    // Emptied, they go, and do not come back: it is not the first time.
    for name in names {
        meddle(vec![(Msg::DeleteSetElement(elements_of(name)), 0)]);
    }
    backend.install(&wanted).unwrap();
    for name in names {
        assert!(!has_set(name), "{name}");
    }
}

fn has_set(name: &str) -> bool {
    use portcullis::netlink::{Netlink, attr};
    let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_NETFILTER).unwrap();
    // GETSET dump, unfiltered: `struct nlmsghdr` and `struct nfgenmsg`.
    let mut request = 20u32.to_ne_bytes().to_vec();
    request.extend_from_slice(&(10u16 << 8 | 10).to_ne_bytes());
    request.extend_from_slice(&0x301u16.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[1, 0, 0, 0]);
    let names: Vec<String> = netlink
        .dump(request, |_, payload, found| {
            let name = payload.get(4..).and_then(|body| attr::find(body, 2));
            found.extend(name.and_then(|name| name.text().map(str::to_owned)));
        })
        .unwrap();
    names.iter().any(|found| found == name)
}

fn all_kinds_of_rules_are_read_back(backend: &mut Nftables) {
    for bits in 0..32u8 {
        let on = |bit: u8| bits >> bit & 1 == 1;
        let mut wanted = desired(mixed());
        let rules = &mut wanted.gates[0];
        rules.once = on(0);
        rules.log_drops = on(1);
        rules.cut_sessions = on(2);
        if on(3) {
            rules.ports = vec![
                "22".parse().unwrap(),
                "60000-61000/udp".parse().unwrap(),
                "443-444".parse().unwrap(),
            ];
            rules.hook = Hook::Both;
        }
        if on(4) {
            rules.addresses = vec![
                "192.0.2.1/32".parse().unwrap(),
                "192.0.2.128/25".parse().unwrap(),
                "2001:db8::1/128".parse().unwrap(),
                "2001:db8::/33".parse().unwrap(),
            ];
        }
        backend.install(&wanted).unwrap();
        assert!(backend.verify().unwrap().is_empty());
    }
}

fn trusted(count: u32) -> Vec<Member> {
    (0..count)
        .map(|i| Member {
            gate: gate("ssh"),
            chain: Chain::Trusted,
            net: std::net::IpAddr::from((0x0a00_0000 + i).to_be_bytes()).into(),
            remaining: Lifetime::Never,
            reason: "knockd.trusted".to_owned(),
        })
        .collect()
}

fn more_than_a_batch_takes(_: &mut Nftables) {
    let mut small = Nftables::open_restrained(Restraints {
        batch: Some(100_000),
        no_destroy: false,
    })
    .unwrap();
    let mut members = trusted(5_000);
    members.extend((0..3_000u32).map(|i| {
        let host = std::net::IpAddr::from((0xc000_0000 + i).to_be_bytes());
        member(Chain::Banned, &host.to_string(), secs(500), "b")
    }));
    small.install(&desired(members.clone())).unwrap();
    assert_eq!(found().len(), 8_000);
    // Renewing, removing and adding at once.
    members.truncate(6_000);
    for member in &mut members[5_000..] {
        member.remaining = secs(900);
    }
    members.remove(0);
    small.install(&desired(members)).unwrap();
    let after = found();
    assert_eq!(after.len(), 5_999);
    assert_left(&after, "192.0.0.0/32", 900);
    assert!(small.verify().unwrap().is_empty());
}

fn timed<T>(what: &str, most: Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    eprintln!("    {what}: {took:?}");
    assert!(took < most * PATIENCE, "{what} took {took:?}");
    result
}

fn hundred_thousand_trusted(backend: &mut Nftables) {
    let wanted = desired(trusted(100_000));
    let second = Duration::from_secs(1);
    timed("install 100,000", second, || backend.install(&wanted)).unwrap();
    let observed = timed("observe 100,000", second, || backend.observe());
    assert_eq!(observed.unwrap().unwrap().members.len(), 100_000);
    timed("install again", second, || backend.install(&wanted)).unwrap();
    timed("verify", second / 10, || backend.verify()).unwrap();
    timed("1,000 puts", second / 5, || {
        for i in 0..1000u32 {
            let host = std::net::IpAddr::from((0xc000_0000 + i).to_be_bytes());
            let put = member(Chain::Filter, &host.to_string(), secs(300), "opencloseSSH");
            backend.apply(&[Change::Put(put)]).unwrap();
        }
    });
}

fn ten_thousand_networks(backend: &mut Nftables) {
    let members = (0..10_000u32).map(|i| {
        let host = std::net::IpAddr::from((0x0a00_0000 + i * 512).to_be_bytes());
        member(Chain::Banned, &format!("{host}/24"), secs(500), "b")
    });
    let wanted = desired(members.collect());
    timed("install 10,000 networks", Duration::from_secs(1), || {
        backend.install(&wanted)
    })
    .unwrap();
    assert_eq!(found().len(), 10_000);
    timed("100 networks put", Duration::from_secs(1), || {
        for i in 0..100u32 {
            let put = member(Chain::Banned, &format!("192.0.{i}.0/24"), secs(300), "");
            backend.apply(&[Change::Put(put)]).unwrap();
        }
    });
}

fn verify_notices(backend: &mut Nftables) {
    let wanted = desired(mixed());
    let flush = |chain| (Msg::DeleteRule(rules_of(chain)), 0);
    let cases: Vec<(&str, Vec<(Msg, u16)>)> = vec![
        (
            "rule 1 of chain ssh_policy is missing",
            vec![flush("ssh_policy")],
        ),
        ("rule 1 of chain input is missing", vec![flush("input")]),
        (
            "chain ssh_banned is missing",
            vec![
                flush("input"),
                flush("ssh_policy"),
                flush("ssh_banned"),
                (Msg::DeleteChain(chain("ssh_banned")), 0),
            ],
        ),
        (
            "set ssh_trusted6net is missing",
            vec![
                flush("ssh_trusted"),
                (Msg::DeleteSet(set("ssh_trusted6net", 8, 16)), 0),
            ],
        ),
        (
            "chain ssh_filter has a rule that is not ours",
            vec![(Msg::NewRule(rules_of("ssh_filter")), CREATE | APPEND)],
        ),
        (
            "table inet knockd is dormant",
            vec![(Msg::NewTable(table(Some(TableFlags::Dormant))), 0)],
        ),
        (
            "table inet knockd is missing",
            vec![(Msg::DeleteTable(table(None)), 0)],
        ),
    ];
    for (expected, deed) in cases {
        backend.install(&wanted).unwrap();
        assert!(backend.verify().unwrap().is_empty(), "before: {expected}");
        meddle(deed);
        let problems = backend.verify().unwrap();
        assert!(
            problems.iter().any(|problem| problem == expected),
            "{problems:?} lacks {expected}"
        );
        // And again: what is wrong is not remembered as right.
        assert_eq!(backend.verify().unwrap(), problems);
    }
    backend.install(&wanted).unwrap();
    assert_eq!(found().len(), mixed().len());
}

fn teardown_twice(backend: &mut Nftables) {
    backend.install(&desired(mixed())).unwrap();
    backend.teardown().unwrap();
    backend.teardown().unwrap();
    assert_eq!(backend.observe().unwrap(), None);
    let put = Change::Put(member(Chain::Filter, "192.0.2.9", secs(9), ""));
    assert!(backend.apply(&[put]).is_err());
    backend.install(&desired(mixed())).unwrap();
    assert_eq!(found().len(), mixed().len());
}
