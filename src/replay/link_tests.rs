use super::link::{Below, Ip, Link, Tags, Way};
use super::made_tests::{HERE, HERE_6, UNICAST, ethernet, sll, sll2, syn};

fn found(link: u32, frame: &[u8]) -> Below<'_> {
    Link::of(link).expect("the link type is known").strip(frame)
}

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn between(to: [u8; 6]) -> Way {
    Way::Cards { from: SENDER, to }
}

fn ip(bytes: &[u8], (to_us, way): (bool, Way), device: Option<u32>) -> Below<'_> {
    Below::Ip(Ip {
        bytes,
        to_us,
        way,
        device,
        vlan: Tags::default(),
    })
}

/// With so many tags, all of the same VLAN.
fn in_vlan(bytes: &[u8], way: Way, count: usize, device: Option<u32>) -> Below<'_> {
    let mut vlan = Tags::default();
    (0..count).for_each(|_| vlan.push(7));
    Below::Ip(Ip {
        bytes,
        to_us: true,
        way,
        device,
        vlan,
    })
}

fn packets() -> [Vec<u8>; 2] {
    [
        syn("192.0.2.10", HERE, 1228),
        syn("2001:db8::10", HERE_6, 1228),
    ]
}

#[test]
fn ethernet_with_and_without_vlan_tags() {
    for packet in packets() {
        for tags in [
            &[][..],
            &[0x8100],
            &[0x88a8, 0x8100],
            &[0x9100, 0x8100, 0x8100, 0x8100],
        ] {
            let frame = ethernet(&packet, UNICAST, tags);
            assert_eq!(
                found(1, &frame),
                in_vlan(&packet, between(UNICAST), tags.len(), None),
                "{tags:x?}"
            );
        }
        let deep = ethernet(&packet, UNICAST, &[0x8100; 5]);
        assert_eq!(found(1, &deep), Below::Other);
    }
}

#[test]
fn broadcast_and_multicast_frames_are_not_to_us() {
    let [packet, _] = packets();
    for to in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        let frame = ethernet(&packet, to, &[]);
        assert_eq!(found(1, &frame), ip(&packet, (false, between(to)), None));
    }
}

#[test]
fn raw_ip_and_bsd_loopback() {
    for packet in packets() {
        for link in [12, 14, 101, 228, 229] {
            assert_eq!(found(link, &packet), ip(&packet, (true, Way::Unsaid), None));
        }
        for link in [0, 108] {
            let frame = [&[0, 0, 0, 2], packet.as_slice()].concat();
            assert_eq!(found(link, &frame), ip(&packet, (true, Way::Unsaid), None));
        }
    }
    assert_eq!(found(101, &[0x10; 40]), Below::Other);
}

#[test]
fn cooked_captures_say_what_was_sent_to_us_and_where() {
    const ETHERNET: u16 = 1;
    const LOOPBACK: u16 = 772;
    for packet in packets() {
        for (packet_type, device, to_us) in [
            (0, ETHERNET, true),
            (0, LOOPBACK, false),
            // Broadcast, multicast, for another machine, and our own.
            (1, ETHERNET, false),
            (2, ETHERNET, false),
            (3, ETHERNET, false),
            (4, ETHERNET, false),
        ] {
            let frame = sll(&packet, packet_type.into(), device);
            assert_eq!(found(113, &frame), ip(&packet, (to_us, Way::Said), None));
            let frame = sll2(&packet, packet_type, device, 5);
            assert_eq!(found(276, &frame), ip(&packet, (to_us, Way::Said), Some(5)));
        }
    }
}

#[test]
fn a_tag_below_a_cooked_header_is_taken_off() {
    let [packet, _] = packets();
    let tagged = |mut frame: Vec<u8>, protocol: usize, header: usize| {
        let kind = [frame[protocol], frame[protocol + 1]];
        frame[protocol..protocol + 2].copy_from_slice(&[0x81, 0]);
        frame.splice(header..header, [0, 7, kind[0], kind[1]]);
        frame
    };
    let frame = tagged(sll(&packet, 0, 1), 14, 16);
    assert_eq!(found(113, &frame), in_vlan(&packet, Way::Said, 1, None));
    let frame = tagged(sll2(&packet, 0, 1, 3), 0, 20);
    assert_eq!(found(276, &frame), in_vlan(&packet, Way::Said, 1, Some(3)));
}

#[test]
fn other_protocols_and_cut_headers() {
    let mut arp = ethernet(&[0x45; 28], UNICAST, &[]);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(found(1, &arp), Below::Other);
    for (link, least) in [(1, 14), (113, 16), (276, 20), (0, 5), (101, 1)] {
        for length in 0..least {
            assert_eq!(found(link, &vec![0; length]), Below::CutShort, "{link}");
        }
    }
    let tagged = ethernet(&packets()[0], UNICAST, &[0x8100]);
    assert_eq!(found(1, &tagged[..16]), Below::CutShort);
}

#[test]
fn other_link_types_are_unknown() {
    for link in [105, 127, 147, 192, u32::MAX] {
        assert_eq!(Link::of(link), None);
    }
}
