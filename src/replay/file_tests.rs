use proptest::prelude::*;

use super::error::FormatError;
use super::file::{Ending, OpenError, Reader, Record};
use super::input::Order;
use super::interface::Name;
use super::link::Link;
use super::made_tests::{Bytes, START, pcap};

/// What a file holds: for each packet what is said about it and its bytes, and how it ends.
fn read(file: &[u8]) -> (Vec<(Record, Vec<u8>)>, Ending) {
    let mut reader = Reader::open(file).expect("it is a capture");
    let mut packets = Vec::new();
    loop {
        match reader.next().expect("memory can be read") {
            Ok((record, bytes)) => packets.push((record, bytes.to_vec())),
            Err(ending) => return (packets, ending),
        }
    }
}

fn refused(file: &[u8]) -> FormatError {
    match Reader::open(file) {
        Err(OpenError::Format(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn damage(file: &[u8]) -> &'static str {
    match read(file).1 {
        Ending::Damaged { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

const START_NS: u64 = START * 1_000_000_000;

#[test]
fn pcap_is_read_in_both_orders_of_bytes_and_both_units_of_time() {
    let packets = [(1_234_567_891, vec![1, 2, 3]), (2_000_000_000, vec![])];
    for order in [Order::Big, Order::Little] {
        for (nanos, first) in [(true, 1_234_567_891), (false, 1_234_567_000)] {
            let (read, ending) = read(&pcap(order, nanos, 101, &packets));
            let record = |at| Record {
                at: Some(START_NS + at),
                link: Some(Link::Raw),
                interface: None,
                name: None,
            };
            let expected = vec![
                (record(first), vec![1, 2, 3]),
                (record(2_000_000_000), vec![]),
            ];
            assert_eq!((read, ending), (expected, Ending::Whole));
        }
    }
}

#[test]
fn a_frame_check_sequence_in_the_link_type_is_no_other_link() {
    let file = pcap(Order::Little, false, 1 | 0x5400_0000, &[(0, vec![9])]);
    assert_eq!(read(&file).0[0].0.link, Some(Link::Ethernet));
}

#[test]
fn pcapng_with_several_interfaces_sections_and_units_of_time() {
    for order in [Order::Big, Order::Little] {
        let mut offset = Bytes::new(order);
        offset.u64(u64::MAX); // −1 second
        let mut file = Bytes::new(order);
        file.section()
            .interface(1, &[(2, b"eth0"), (9, &[9])])
            .interface(101, &[(9, &[0x8a]), (14, &offset.all), (12, b"Linux")])
            .other(5, b"statistics: skipped")
            .packet(0, START_NS + 5, b"one")
            .packet(1, (START + 1) * 1024 + 512, b"two")
            .simple(b"three")
            .section()
            .interface(276, &[])
            .packet(0, START * 1_000_000 + 7, b"four")
            .other(0x0bad, b"");
        let (packets, ending) = read(&file.all);
        assert_eq!(ending, Ending::Whole);
        let record = |at: Option<u64>, link, interface| Record {
            at,
            link: Some(link),
            interface: Some(interface),
            name: Name::of(b"eth0").filter(|_| interface == 0),
        };
        let expected = [
            (
                record(Some(START_NS + 5), Link::Ethernet, 0),
                b"one".to_vec(),
            ),
            (
                record(Some(START_NS + 500_000_000), Link::Raw, 1),
                b"two".to_vec(),
            ),
            (record(None, Link::Ethernet, 0), b"three".to_vec()),
            (
                record(Some(START_NS + 7_000), Link::Sll2, 2),
                b"four".to_vec(),
            ),
        ];
        assert_eq!(packets, expected);
    }
}

#[test]
fn a_section_may_change_the_order_of_bytes() {
    let mut file = Bytes::new(Order::Big);
    file.section().interface(101, &[]).packet(0, 1, b"big");
    let mut second = Bytes::new(Order::Little);
    second.section().interface(101, &[]).packet(0, 2, b"little");
    file.all.extend(second.all);
    let (packets, ending) = read(&file.all);
    let bytes: Vec<&[u8]> = packets.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(
        (bytes, ending),
        (vec![&b"big"[..], b"little"], Ending::Whole)
    );
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    assert_eq!(refused(b""), FormatError::Empty);
    assert_eq!(refused(b"abc"), FormatError::NotACapture);
    assert_eq!(refused(b"interface: any\n"), FormatError::NotACapture);
    assert_eq!(refused(&[0x1f, 0x8b, 8, 0, 0]), FormatError::Compressed);
    let whole = pcap(Order::Little, false, 1, &[]);
    assert_eq!(refused(&whole[..10]), FormatError::Header);
    let unknown = pcap(Order::Big, false, 105, &[]);
    assert_eq!(refused(&unknown), FormatError::LinkType(105));
    let mut version = whole;
    version[4] = 3;
    assert_eq!(refused(&version), FormatError::Version(3, "pcap"));
    let mut section = Bytes::new(Order::Big);
    section.section();
    assert_eq!(refused(&section.all[..20]), FormatError::Header);
    section.all[13] = 2;
    assert_eq!(refused(&section.all), FormatError::Version(2, "pcapng"));
}

#[test]
fn of_a_capture_that_is_cut_short_the_whole_packets_are_read() {
    let packets = [(0, vec![1; 40]), (1, vec![2; 40])];
    let mut pcapng = Bytes::new(Order::Little);
    pcapng.section().interface(101, &[]);
    pcapng.packet(0, 1, &[1; 40]).packet(0, 2, &[2; 40]);
    for file in [pcap(Order::Little, true, 101, &packets), pcapng.all] {
        for left in 1..56 {
            let (read, ending) = read(&file[..file.len() - left]);
            assert_eq!(
                (read.len(), ending),
                (1, Ending::CutShort),
                "without {left}"
            );
        }
    }
}

#[test]
fn lengths_that_make_no_sense_end_the_reading() {
    let mut file = pcap(Order::Big, false, 1, &[(0, vec![1])]);
    let bad = pcap(Order::Big, false, 1, &[(0, vec![1])]);
    let at = file.len();
    file.extend(&bad[24..]);
    file[at + 8] = 0x7f;
    let (packets, ending) = read(&file);
    assert_eq!(packets.len(), 1);
    assert!(matches!(ending, Ending::Damaged { .. }), "{ending:?}");

    let with = |change: fn(&mut Bytes)| {
        let mut file = Bytes::new(Order::Little);
        file.section().interface(1, &[]);
        change(&mut file);
        damage(&file.all)
    };
    let short = with(|file| {
        let _ = file.u32(6).u32(8);
    });
    assert_eq!(short, "a block that is too short");
    let foreign = with(|file| {
        let _ = file.packet(1, 0, b"x");
    });
    assert_eq!(foreign, "a packet of an interface that is not described");
    let longer = with(|file| {
        file.packet(0, 0, b"x");
        let at = file.all.len() - 16;
        file.all[at] = 200;
    });
    assert_eq!(longer, "a packet that is longer than its block");
    let unlike = with(|file| {
        file.packet(0, 0, b"x");
        *file.all.last_mut().unwrap() = 9;
    });
    assert_eq!(unlike, "a block whose two lengths differ");
    let option = with(|file| {
        let _ = file.other(1, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 99, 0]);
    });
    assert_eq!(option, "an option that is longer than its block");
    let unit = with(|file| {
        let _ = file.interface(1, &[(9, &[39])]);
    });
    assert_eq!(unit, "an impossible unit of time");
}

#[test]
fn a_great_packet_takes_no_more_memory_than_the_greatest_ip_packet() {
    let file = pcap(
        Order::Big,
        false,
        1,
        &[(0, vec![7; 1 << 20]), (1, vec![8; 3])],
    );
    let (packets, ending) = read(&file);
    assert_eq!(ending, Ending::Whole);
    assert!(packets[0].1.len() < 66_000);
    assert_eq!(packets[1].1, [8; 3]);
}

#[test]
fn a_time_beyond_what_can_be_told_is_none() {
    let mut file = Bytes::new(Order::Big);
    file.section()
        .interface(101, &[(9, &[0])])
        .packet(0, u64::MAX, b"")
        .packet(0, 3, b"");
    let times: Vec<_> = read(&file.all).0.iter().map(|(r, _)| r.at).collect();
    assert_eq!(times, [None, Some(3_000_000_000)]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_some_end(
        start in prop::sample::select(vec![0, 1, 2]),
        order in prop::sample::select(vec![Order::Big, Order::Little]),
        noise in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut file = match start {
            0 => pcap(order, true, 1, &[(0, vec![1; 60])]),
            1 => {
                let mut file = Bytes::new(order);
                file.section().interface(1, &[(9, &[9])]).packet(0, 0, &[1; 60]).simple(&[2; 9]);
                file.all
            }
            _ => Vec::new(),
        };
        file.extend(noise);
        for (at, byte) in flips {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] = byte;
            }
        }
        if let Ok(mut reader) = Reader::open(file.as_slice()) {
            // A packet takes at least its header, so that this ends.
            let mut packets = 0;
            while let Ok((record, bytes)) = reader.next().unwrap() {
                let _ = record.link.map(|link| link.strip(bytes));
                packets += 1;
                prop_assert!(packets < 100);
            }
        }
    }
}
