//! How the time of a capture goes, and what depends on it.

use std::fs;

use super::input::Order as ByteOrder;
use super::made_tests::{Bytes, HERE, START, pcap, sll, sll2, syn, udp};
use super::run_tests::{POLICY, Place, shown};
use super::*;

#[test]
fn a_packet_that_came_through_two_interfaces_is_one_knock() {
    let packet = |port| udp("198.51.100.7", HERE, port);
    let frames = |second: u32| {
        let mut frames = vec![(0, sll2(&packet(1301), 0, 1, 2))];
        frames.push((5, sll2(&packet(1302), 0, 1, 2)));
        frames.push((5, sll2(&packet(1302), 0, 1, second)));
        pcap(ByteOrder::Big, true, 276, &frames)
    };
    let (told, summary) = Place::with(&frames(3)).run();
    assert_eq!((told.len(), summary.counts.copies), (0, 1));
    let (told, summary) = Place::with(&frames(2)).run();
    assert_eq!((told.len(), summary.counts.copies), (1, 0));
}

#[test]
fn a_copy_is_one_however_late_its_interface_was_written() {
    let packet = |port| udp("198.51.100.7", HERE, port);
    let written = |late: u64| {
        let mut frames = Vec::new();
        for (interface, late) in [(2, 0), (3, late)] {
            frames.push((0, sll2(&packet(1301), 0, 1, interface)));
            frames.push((5_000_000 + late, sll2(&packet(1302), 0, 1, interface)));
            let others = (0..100).map(|n| 1_500_000_000 + n * 1_000_000);
            frames.extend(others.map(|at| (at, sll2(&packet(80), 0, 1, interface))));
        }
        pcap(ByteOrder::Big, true, 276, &frames)
    };
    let (told, summary) = Place::with(&written(1_000_000)).run();
    assert_eq!((told.len(), summary.counts.copies), (0, 102));
    let (told, summary) = Place::with(&written(1_100_000)).run();
    assert_eq!((told.len(), summary.counts.copies), (1, 101));
}

#[test]
fn a_packet_with_its_vlan_s_tag_and_one_without_are_one_knock() {
    let packet = |port| sll(&udp("198.51.100.7", HERE, port), 0, 1);
    let mut tagged = packet(1302);
    tagged.splice(14..16, [0x81, 0, 0, 7, 8, 0]);
    let frames = |third| {
        let frames = [(0, packet(1301)), (5, packet(1302)), (5, third)];
        pcap(ByteOrder::Big, true, 113, &frames)
    };
    let (told, summary) = Place::with(&frames(tagged)).run();
    assert_eq!((told.len(), summary.counts.copies), (0, 1));
    let (told, summary) = Place::with(&frames(packet(1302))).run();
    assert_eq!((told.len(), summary.counts.copies), (1, 0));
}

#[test]
fn what_is_a_little_late_counts_as_of_the_moment_before() {
    let a = "198.51.100.7";
    let (told, summary) = Place::of(&[
        (9_000, syn(a, HERE, 1228)),
        (8_500, syn(a, HERE, 1227)),
        (9_500, syn(a, HERE, 80)),
    ])
    .run();
    assert_eq!(told, ["0 198.51.100.7 open: accept 198.51.100.7/32 1m"]);
    assert_eq!(summary.counts.out_of_order, 1);
    assert!(
        summary
            .warnings
            .iter()
            .any(|w| w.contains("by up to 500ms"))
    );
}

#[test]
fn time_does_not_race_where_one_of_two_streams_is_late() {
    let (a, web) = ("198.51.100.7", "203.0.113.5");
    // Two interfaces, whose packets were written in turns, one of them 1.2 s late.
    let mut packets = vec![(2_000, syn(a, HERE, 1228))];
    for at in (2_100..5_000).step_by(100) {
        packets.push((at - 1_200, syn(web, HERE, 80)));
        packets.push((at, syn(web, HERE, 80)));
    }
    packets.push((5_000, syn(a, HERE, 1227)));
    packets.push((5_000 - 1_200, syn(web, HERE, 80)));
    let mut place = Place::of(&packets);
    let expected = ["3000 198.51.100.7 open: accept 198.51.100.7/32 1m"];
    let (told, summary) = place.run();
    assert_eq!(told, expected);
    assert_eq!(summary.length.as_secs(), 3);
    assert_eq!(
        (summary.counts.set_back, summary.counts.out_of_order),
        (0, 30)
    );
    let warned = summary.warnings.join("\n");
    assert!(
        warned.contains("30 packets are out of order, by up to 1.2s"),
        "{warned}"
    );
    assert!(!warned.contains("set back in this"), "{warned}");
    // Of what can be read but once, the first that is late is not known for what it is at once.
    place.order.addresses = vec![HERE.parse().unwrap()];
    let (told, summary) = place.run_through_a_pipe();
    assert_eq!(told, expected);
    assert_eq!(summary.length.as_secs(), 3);
    let warned = summary.warnings.join("\n");
    assert!(!warned.contains("set back in this"), "{warned}");
}

#[test]
fn time_goes_on_when_the_clock_is_set_back() {
    let [a, b] = ["198.51.100.7", "198.51.100.8"];
    let place = Place::of(&[
        (7_200_000, syn(a, HERE, 1228)),
        (3_700_000, syn(a, HERE, 1227)),
        (3_710_000, syn(b, HERE, 1228)),
        // Too late, though the old time is not reached yet.
        (3_720_000, syn(b, HERE, 1227)),
        (3_761_000, syn(b, HERE, 80)),
    ]);
    let mut told = Vec::new();
    let summary = run(&place.order, &mut |decision| {
        let seconds = decision.at / 1_000_000_000 - START;
        told.push((seconds, shown(decision)));
        Ok(())
    })
    .unwrap();
    let expected = [
        (3700, "0 198.51.100.7 open: accept 198.51.100.7/32 1m"),
        (3760, "60000 - time: accept-over 198.51.100.7/32"),
    ];
    assert_eq!(told, expected.map(|(at, words)| (at, words.to_owned())));
    let counts = &summary.counts;
    assert_eq!((counts.set_back, counts.out_of_order), (1, 0));
    let span = summary.span.map(|(first, last)| [first, last]);
    let span = span.map(|times| times.map(|at| at / 1_000_000_000 - START));
    assert_eq!(span, Some([7200, 3761]));
    assert_eq!(summary.length.as_secs(), 61);
    let said = "the clock was set back in this capture (times: 1, by up to 3500s)";
    assert!(summary.warnings.iter().any(|w| w.contains(said)));
}

#[test]
fn time_goes_on_when_the_clock_is_set_back_and_all_is_quiet_then() {
    let (a, web) = ("198.51.100.7", "203.0.113.5");
    let hour = 3_600_000;
    let mut packets = vec![(2 * hour, syn(a, HERE, 1228))];
    packets.extend((1..30).map(|n| (hour + n * 1_000, syn(web, HERE, 80))));
    packets.push((hour + 30_000, syn(a, HERE, 1227)));
    for last in [hour + 600_000, 4 * hour] {
        let mut packets = packets.clone();
        packets.push((last, syn(web, HERE, 80)));
        let mut place = Place::of(&packets);
        place.order.addresses = vec![HERE.parse().unwrap()];
        for (told, summary) in [place.run(), place.run_through_a_pipe()] {
            assert_eq!(told, Vec::<String>::new(), "the knock took too long");
            let counts = &summary.counts;
            assert_eq!((counts.set_back, counts.out_of_order), (1, 0));
            let length = (last - hour) / 1_000 - 1;
            assert_eq!(summary.length.as_secs(), length);
        }
    }
}

#[test]
fn where_disorder_may_be_a_clock_that_was_set_back_it_is_said() {
    let (a, web) = ("198.51.100.7", "203.0.113.5");
    let warned = |late: u64| {
        let packets = [
            (5_000, syn(a, HERE, 1228)),
            (5_000 - late, syn(web, HERE, 80)),
            (9_000, syn(web, HERE, 80)),
        ];
        Place::of(&packets).run().1.warnings.join("\n")
    };
    let said = "or the clock was set back";
    let (little, much) = (warned(900), warned(2_000));
    assert!(little.contains("reordercap"), "{little}");
    assert!(!little.contains(said), "{little}");
    assert!(much.contains("reordercap"), "{much}");
    assert!(much.contains(said), "{much}");
}

#[test]
fn a_packet_with_a_senseless_stamp_does_not_stop_the_time() {
    let (a, web) = ("198.51.100.7", "203.0.113.5");
    let mut right = vec![(START, syn(a, HERE, 1228)), (START + 1, syn(a, HERE, 1227))];
    right.extend((0..=600).map(|n| (START + 1 - 3600 + n, syn(web, HERE, 80))));
    for place in [1, 2, 3, 300, right.len()] {
        let mut packets = right.clone();
        packets.insert(place, (0, syn(web, HERE, 80)));
        let mut file = Bytes::new(ByteOrder::Little);
        file.section().interface(101, &[]);
        for (second, packet) in &packets {
            file.packet(0, second * 1_000_000, packet);
        }
        let mut place = Place::with(&file.all);
        place.order.addresses = vec![HERE.parse().unwrap()];
        for (told, summary) in [place.run(), place.run_through_a_pipe()] {
            let expected = [
                "1000 198.51.100.7 open: accept 198.51.100.7/32 1m",
                "61000 - time: accept-over 198.51.100.7/32",
            ];
            assert_eq!(told, expected);
            assert_eq!(summary.length.as_secs(), 601);
            let counts = &summary.counts;
            assert_eq!((counts.set_back, counts.out_of_order), (1, 1));
            assert_eq!(counts.most_set_back.as_secs(), 3600);
        }
    }
}

#[test]
fn packets_without_a_time_at_the_start_count_as_of_the_first_that_has_one() {
    let a = "198.51.100.7";
    let mut file = Bytes::new(ByteOrder::Little);
    file.section().interface(101, &[]);
    file.simple(&syn(a, HERE, 1228)).simple(&syn(a, HERE, 9999));
    let without = file.all.clone();
    file.packet(0, START * 1_000_000, &syn(a, HERE, 1227));
    let (told, summary) = Place::with(&file.all).run();
    assert_eq!(told, ["0 198.51.100.7 open: accept 198.51.100.7/32 1m"]);
    let start = START * 1_000_000_000;
    assert_eq!(summary.span, Some((start, start)));
    assert_eq!((summary.counts.read, summary.counts.untimed), (3, 2));
    let (_, summary) = Place::with(&without).run();
    assert_eq!((summary.counts.read, summary.span), (2, Some((0, 0))));
}

#[test]
fn however_many_have_no_time_at_the_start_they_count_as_of_the_first_that_has_one() {
    let a = "198.51.100.7";
    let mut file = Bytes::new(ByteOrder::Little);
    file.section().interface(101, &[]);
    file.simple(&syn(a, HERE, 1228));
    for _ in 0..1_000 {
        file.simple(&syn(a, HERE, 80));
    }
    let start = START * 1_000_000;
    file.packet(0, start, &syn(a, HERE, 1227));
    file.packet(0, start + 1_000_000, &syn(a, HERE, 80));
    let mut place = Place::with(&file.all);
    let (told, summary) = place.run();
    let expected = ["0 198.51.100.7 open: accept 198.51.100.7/32 1m"];
    assert_eq!(told, expected);
    let seconds = [START, START + 1].map(|second| second * 1_000_000_000);
    assert_eq!(summary.span, Some(seconds.into()));
    // What can be read but once tells too late when it begins; that makes no attempt too old.
    place.order.addresses = vec![HERE.parse().unwrap()];
    let (told, summary) = place.run_through_a_pipe();
    assert_eq!(told, expected);
    assert_eq!(summary.span, Some(seconds.into()));
    assert_eq!(summary.length.as_secs(), 1);
}

#[test]
fn a_time_based_sequence_follows_the_time_of_the_capture() {
    use crate::totp::{Family, Secret, Shape};
    let secret = Secret::new(vec![7; 20]).unwrap();
    let shape = Shape::new("20000-40000".parse().unwrap(), 3).unwrap();
    let step = START / 30;
    let knock = |from: &str, step: u64, at: u64| {
        let ports = shape.sequence(&secret, step, Family::V4);
        let packets = ports
            .iter()
            .zip(at..)
            .map(|(port, at)| (at, syn(from, HERE, port.port)));
        packets.collect::<Vec<_>>()
    };
    let packets = [
        knock("198.51.100.1", step + 1, 0),
        knock("198.51.100.2", step + 1, 1_000),
        knock("198.51.100.3", step + 2, 2_000),
        // The step ends ten seconds after the beginning, and counts half a minute longer.
        knock("198.51.100.4", step, 39_000),
        knock("198.51.100.5", step + 2, 39_100),
        knock("198.51.100.6", step, 41_000),
    ];
    let place = Place::of(&packets.concat());
    let with = POLICY.to_owned()
        + "  travel: { sequence: { totp: s, ports: \"20000-40000\", length: 3 }, action: accept }\n";
    fs::write(place.path("p.yaml"), with).unwrap();
    let (told, summary) = place.run();
    assert_eq!(told, Vec::<String>::new());
    let warned = summary.warnings.join(" ");
    assert!(
        warned.contains("travel: cannot read the secret"),
        "{warned}"
    );
    fs::write(place.path("s"), secret.written()).unwrap();
    let (told, summary) = place.run();
    assert_eq!(
        told,
        [
            "2 198.51.100.1 travel: accept 198.51.100.1/32 1m",
            "39002 198.51.100.4 travel: accept 198.51.100.4/32 1m",
            "39102 198.51.100.5 travel: accept 198.51.100.5/32 1m",
        ]
    );
    let warnings = &summary.warnings;
    assert!(
        warnings.iter().all(|w| !w.contains("secret")),
        "{warnings:?}"
    );
}

#[test]
fn of_two_knocks_with_one_secret_the_second_is_never_knocked() {
    use crate::totp::{Family, Secret, Shape};
    let secret = Secret::new(vec![7; 20]).unwrap();
    let knock = |from: &str, length: u8, at: u64| {
        let shape = Shape::new("20000-40000".parse().unwrap(), length).unwrap();
        let ports = shape.sequence(&secret, START / 30 + 1, Family::V4);
        let packets = ports.iter().zip(at..);
        let packets = packets.map(|(port, at)| (at, syn(from, HERE, port.port)));
        packets.collect::<Vec<_>>()
    };
    let packets = [knock("198.51.100.1", 3, 0), knock("198.51.100.2", 4, 1_000)];
    let place = Place::of(&packets.concat());
    let door = |name: &str, file: &str, length: u8| {
        format!(
            "  {name}: {{ sequence: {{ totp: {file}, ports: \"20000-40000\", length: {length} }}, \
             action: accept }}\n"
        )
    };
    let policy = [POLICY, &door("travel", "s", 3), &door("second", "t", 4)].concat();
    fs::write(place.path("p.yaml"), policy).unwrap();
    for file in ["s", "t"] {
        fs::write(place.path(file), secret.written()).unwrap();
    }
    let (told, summary) = place.run();
    assert_eq!(told, ["2 198.51.100.1 travel: accept 198.51.100.1/32 1m"]);
    let warned = summary.warnings.join("\n");
    assert!(warned.contains("second: the secret in "), "{warned}");
    assert!(warned.contains("t is another knock's"), "{warned}");
    assert!(!warned.contains("travel: "), "{warned}");
}
