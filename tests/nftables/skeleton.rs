//! Tables, chains, rules and sets, as they should be and as others leave them.

use netlink_packet_netfilter::nftables::{NfTablesMessage as Msg, TableFlags};
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Desired};
use portcullis::model::{Chain, Lifetime};
use portcullis::netlink::{APPEND, CREATE};
use portcullis::policy::Hook;

use crate::common::{desired, found, gate, member, rules};
use crate::meddle::{chain, elements_of, meddle, rules_of, set, table};
use crate::members::mixed;

pub(crate) fn a_removed_gate_goes(backend: &mut Nftables) {
    let mut two = desired(mixed());
    let mut web = rules("web");
    web.hook = Hook::Both;
    web.forward_addresses = vec!["192.0.2.0/24".parse().unwrap()];
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

pub(crate) fn a_set_of_another_type_is_replaced(backend: &mut Nftables) {
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

pub(crate) fn a_base_chain_elsewhere_is_replaced(backend: &mut Nftables) {
    // An ordinary chain where the base chain has to be.
    meddle(vec![
        (Msg::NewTable(table(None)), CREATE),
        (Msg::NewChain(chain("input")), CREATE),
    ]);
    backend.install(&desired(mixed())).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    let mut forward = desired(mixed());
    forward.gates[0].hook = Hook::Forward;
    forward.gates[0].forward_addresses = vec!["192.0.2.1/32".parse().unwrap()];
    backend.install(&forward).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    assert_eq!(found().len(), mixed().len());
}

pub(crate) fn foreign_objects_stay(backend: &mut Nftables) {
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

pub(crate) fn once_can_be_switched(backend: &mut Nftables) {
    let mut wanted = desired(mixed());
    for once in [true, false, true] {
        wanted.gates[0].once = once;
        backend.install(&wanted).unwrap();
        assert!(backend.verify().unwrap().is_empty());
        assert_eq!(found().len(), mixed().len());
    }
}

pub(crate) fn earlier_sessions_only_at_first(backend: &mut Nftables) {
    let mut wanted = desired(vec![]);
    wanted.gates[0].hook = Hook::Both;
    wanted.gates[0].forward_addresses = vec!["192.0.2.0/24".parse().unwrap()];
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

pub(crate) fn has_set(name: &str) -> bool {
    use portcullis::netlink::{Netlink, attr};
    let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_NETFILTER).unwrap();
    // NFT_MSG_GETSET (10) of subsystem 10, a dump: `struct nlmsghdr` and `struct nfgenmsg`.
    let mut request = 20u32.to_ne_bytes().to_vec();
    request.extend_from_slice(&0x0a0au16.to_ne_bytes());
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

pub(crate) fn all_kinds_of_rules_are_read_back(backend: &mut Nftables) {
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
            rules.input_addresses = vec![
                "192.0.2.1/32".parse().unwrap(),
                "192.0.2.128/25".parse().unwrap(),
                "2001:db8::1/128".parse().unwrap(),
                "2001:db8::/33".parse().unwrap(),
            ];
            rules.forward_addresses = rules.input_addresses[1..].to_vec();
        }
        backend.install(&wanted).unwrap();
        assert!(backend.verify().unwrap().is_empty());
    }
}

pub(crate) fn verify_notices(backend: &mut Nftables) {
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
