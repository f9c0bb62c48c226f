use super::input::Order as ByteOrder;
use super::interface::{Came, Known, Listening, Name};
use super::link::{Below, Ip, Link};
use super::made_tests::{Bytes, HERE, START, UNICAST, ethernet, pcap, sll2, syn};
use super::*;
use crate::policy::Interfaces;

const CLIENT: &str = "198.51.100.7";

fn policy(interfaces: &str) -> Policy {
    let text = format!(
        "interface: {interfaces}\ngates:\n  ssh: {{ ports: [22] }}\nknocks:\n  open: \
         {{ sequence: [1228, 1227], seq_timeout: 5s, action: accept }}\n"
    );
    let checked = policy::parse(&text, Path::new("p.yaml"));
    checked.expect("the policy is good").policy
}

/// How many were accepted, how many packets did not count, and what it warns of.
fn replayed(capture: &[u8], interfaces: &str, order: &Order) -> (u64, u64, Vec<String>) {
    let order = Order {
        addresses: vec![HERE.parse().unwrap()],
        ..order.clone()
    };
    let summary = run_on(capture, policy(interfaces), &order, &mut |_| Ok(())).unwrap();
    let counts = summary.counts;
    (counts.accepted, counts.not_for_us, summary.warnings)
}

fn on(known: &[(&str, Option<u32>)]) -> Order {
    let known = known.iter().map(|(name, index)| Known {
        name: (*name).to_owned(),
        index: *index,
    });
    Order {
        known: known.collect(),
        ..Order::default()
    }
}

/// Both knocks, on an interface of that name.
fn named(name: &[u8]) -> Vec<u8> {
    let mut file = Bytes::new(ByteOrder::Little);
    file.section().interface(1, &[(2, name)]);
    for (later, port) in [(0, 1228), (1, 1227)] {
        let frame = ethernet(&syn(CLIENT, HERE, port), UNICAST, &[]);
        file.packet(0, START * 1_000_000 + later, &frame);
    }
    file.all
}

/// Both knocks, on an interface of that number.
fn numbered(index: u32) -> Vec<u8> {
    let frames = [(0, 1228), (1, 1227)];
    let frames = frames.map(|(at, port)| (at, sll2(&syn(CLIENT, HERE, port), 0, 1, index)));
    pcap(ByteOrder::Big, true, 276, &frames)
}

#[test]
fn knocks_count_on_the_interfaces_that_the_policy_names() {
    let order = Order::default();
    for name in [&b"eth1"[..], b"eth1\0"] {
        assert_eq!(
            replayed(&named(name), "[eth0, eth1]", &order),
            (1, 0, vec![])
        );
        assert_eq!(replayed(&named(name), "eth0", &order), (0, 2, vec![]));
        assert_eq!(replayed(&named(name), "any", &order), (1, 0, vec![]));
    }
    assert_eq!(replayed(&named(b"lo"), "any", &order), (0, 2, vec![]));
    let all = Order {
        interface: Some("any".to_owned()),
        ..Order::default()
    };
    assert_eq!(replayed(&named(b"eth1"), "eth0", &all), (1, 0, vec![]));
    for name in ["eth1", "eth1:1"] {
        let other = Order {
            interface: Some(name.to_owned()),
            ..Order::default()
        };
        assert_eq!(replayed(&named(b"eth1"), "eth0", &other), (1, 0, vec![]));
        assert_eq!(replayed(&named(b"eth0"), "eth0", &other), (0, 2, vec![]));
    }
}

#[test]
fn a_capture_that_does_not_tell_the_interface_is_warned_of_unless_it_is_said() {
    let frames = [(0, 1228), (1, 1227)];
    let frames = frames.map(|(at, port)| (at, ethernet(&syn(CLIENT, HERE, port), UNICAST, &[])));
    let plain = pcap(ByteOrder::Big, true, 1, &frames);
    for capture in [
        &plain,
        &numbered(2),
        &named(b"any"),
        &named(b"a name that is too long"),
    ] {
        let (accepted, elsewhere, warnings) = replayed(capture, "eth0", &Order::default());
        assert_eq!(
            (accepted, elsewhere, warnings.len()),
            (1, 0, 1),
            "{warnings:?}"
        );
        assert!(
            warnings[0].contains("where 2 packets came in"),
            "{warnings:?}"
        );
        assert_eq!(replayed(capture, "any", &Order::default()).2, [""; 0]);
    }
    assert_eq!(
        replayed(&plain, "eth0", &on(&[("eth0", None)])),
        (1, 0, vec![])
    );
    let (accepted, elsewhere, warnings) = replayed(&plain, "eth0", &on(&[("eth1", None)]));
    assert_eq!((accepted, elsewhere, warnings.len()), (0, 2, 1));
    assert!(
        warnings[0].contains("--on names none of these"),
        "{warnings:?}"
    );
    assert_eq!(
        replayed(&plain, "eth0.7", &on(&[("eth0", None)])),
        (0, 2, vec![])
    );
    let both = on(&[("eth0", Some(2)), ("eth1", Some(3))]);
    assert_eq!(replayed(&numbered(2), "eth0", &both), (1, 0, vec![]));
    assert_eq!(replayed(&numbered(3), "eth0", &both), (0, 2, vec![]));
    assert_eq!(replayed(&numbered(4), "eth0", &both), (0, 2, vec![]));
    assert_eq!(replayed(&numbered(4), "[eth0, eth7]", &both).2.len(), 1);
}

#[test]
fn what_came_elsewhere_is_no_original_of_a_copy() {
    // First below, on eth0, then on the bridge.
    let frame = |index, port| sll2(&syn(CLIENT, HERE, port), 0, 1, index);
    let frames = [(0, 2, 1228), (1, 3, 1228), (2, 2, 1227), (3, 3, 1227)];
    let frames = frames.map(|(at, index, port)| (at, frame(index, port)));
    let capture = pcap(ByteOrder::Big, true, 276, &frames);
    let both = on(&[("eth0", Some(2)), ("br0", Some(3))]);
    assert_eq!(replayed(&capture, "br0", &both), (1, 2, vec![]));
}

#[test]
fn a_tagged_packet_came_in_on_the_interface_of_its_vlan() {
    let listening =
        |name: &str| Listening::on(Interfaces::Named(vec![name.to_owned()]), Vec::new());
    let name = Name::of(b"eth0");
    let packet = syn(CLIENT, HERE, 1228);
    let came = |tags: &[u16], on: &str| {
        let frame = ethernet(&packet, UNICAST, tags);
        let Some(Below::Ip(ip)) = Link::of(1).map(|link| link.strip(&frame)) else {
            panic!("no IP packet");
        };
        let ip: Ip<'_> = ip;
        listening(on).came(name.as_ref(), &ip)
    };
    assert_eq!(came(&[], "eth0"), Came::Here);
    assert_eq!(came(&[0x8100], "eth0"), Came::Elsewhere);
    assert_eq!(came(&[0x8100], "eth0.7"), Came::Here);
    assert_eq!(came(&[0x88a8, 0x8100], "eth0.7"), Came::Elsewhere);
    assert_eq!(came(&[0x88a8, 0x8100], "eth0.7.7"), Came::Here);
}

#[test]
fn nobody_knocks_from_a_broadcast_address() {
    let from = |source: &str| {
        let frames = [(0, 1228), (1, 1227)];
        let frames = frames.map(|(at, port)| (at, syn(source, HERE, port)));
        pcap(ByteOrder::Big, true, 101, &frames)
    };
    let order = Order {
        broadcast: vec!["192.0.2.255".parse().unwrap()],
        ..Order::default()
    };
    assert_eq!(
        replayed(&from("192.0.2.255"), "any", &order),
        (0, 2, vec![])
    );
    assert_eq!(
        replayed(&from("192.0.2.254"), "any", &order),
        (1, 0, vec![])
    );
}
