use proptest::prelude::*;

use super::super::Matcher;
use super::super::sweeps::{Guard, Touch};
use super::*;

#[test]
fn a_record_is_small() {
    assert_eq!(size_of::<Record>(), 40);
    // What docs/policy.md says.
    assert_eq!(Table::new(32 << 20).capacity(), 677_203);
}

#[test]
fn memory_never_exceeds_its_bound() {
    for memory in [1, 1 << 10, 64 << 10, 1 << 20, 32 << 20] {
        let table = Table::new(memory);
        let used = table.records.capacity() * size_of::<Record>() + table.index.bytes();
        assert!(table.records.capacity() >= table.places as usize);
        assert!(used <= memory.max(256), "{used} of {memory}");
    }
}

#[test]
fn more_memory_than_there_is_is_found_out_before_it_is_taken() {
    assert!(Matcher::has_memory(32 << 20));
    assert!(!Matcher::has_memory(usize::MAX / 2));
}

#[test]
fn when_it_is_full_the_oldest_goes_first() {
    let mut table = Table::new(64 << 10);
    let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
    let (capacity, places) = (table.capacity(), table.places as usize);
    for i in 0..3 * places {
        table.start(
            &mut table.look_up(address(i)),
            SequenceId(0),
            1,
            Time(i as u64),
        );
        assert!(table.len() <= capacity);
    }
    for i in 0..3 * places {
        let mut alive = false;
        table.for_each_attempt(&table.look_up(address(i)), |_| alive = true);
        assert_eq!(alive, i >= 2 * places, "{i} of {places}");
    }
    assert_eq!(table.evicted(), 2 * places as u64);
}

#[test]
fn of_records_that_are_over_hardly_any_are_left_when_sequences_change() {
    let address = |i: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + i));
    // Once round the ring, or not quite.
    for (memory, sources) in [(1 << 20, 5_000), (64 << 10, 5_000)] {
        let mut table = Table::new(memory);
        table.set_times(Duration::from_secs(5), Duration::from_secs(120));
        let start = |table: &mut Table, sources: std::ops::Range<u32>, now| {
            for i in sources {
                table.next_packet(now);
                table.start(&mut table.look_up(address(i)), SequenceId(0), 1, now);
            }
        };
        start(&mut table, 0..sources, Time::from_secs(0));
        let (filled, capacity) = (table.len(), table.capacity());
        start(&mut table, sources..sources + 30, Time::from_secs(140));
        table.renumber(&[Some(SequenceId(1))]);
        assert_eq!(table.len(), capacity.min(filled + 30), "of use to the end");
        start(&mut table, sources + 30..sources + 60, Time::from_secs(141));
        table.renumber(&[Some(SequenceId(0)), Some(SequenceId(2))]);
        assert_eq!(table.len(), 60, "{memory}");
        for i in sources..sources + 60 {
            let attempts = table.attempts(&table.look_up(address(i)));
            let stages: Vec<_> = attempts
                .iter()
                .map(|it| (it.sequence.0, it.stage))
                .collect();
            let expected = if i < sources + 30 { 2 } else { 0 };
            assert_eq!(stages, [(expected, 1)], "{i}");
        }
        assert!(table.is_new(&table.look_up(address(sources - 1))));
        // What comes then finds its place.
        start(&mut table, 0..sources, Time::from_secs(137));
        assert_eq!(table.len(), capacity.min(filled + 60));
    }
}

/// What the README promises of a flood, in time rather than in places.
#[test]
#[allow(clippy::cast_possible_truncation, reason = "small numbers, in a test")]
fn an_attempt_lives_at_least_capacity_over_rate() {
    const RATE: u64 = 100_000;
    let mut table = Table::new(64 << 10);
    let address = |i: u64| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + i as u32));
    let capacity = table.capacity() as u64;
    let ours = IpAddr::from([192, 0, 2, 10]);
    let mut lives = |forged: u64| {
        table.start(&mut table.look_up(ours), SequenceId(0), 1, Time(0));
        for i in 0..forged {
            let at = Time(i * 1_000_000_000 / RATE);
            table.start(&mut table.look_up(address(i)), SequenceId(0), 1, at);
        }
        let mut alive = false;
        table.for_each_attempt(&table.look_up(ours), |attempt| {
            alive |= attempt.started == Time(0);
        });
        alive
    };
    // Whoever has knocked takes a place as well.
    assert!(lives(capacity - 1), "{} s", capacity / RATE);
    assert!(!lives(2 * capacity), "it is not kept at the others' cost");
    assert!(table.evicted() > 0);
}

#[test]
fn starting_anew_makes_an_attempt_young_again() {
    let mut table = Table::new(64 << 10);
    let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
    let places = table.places as usize;
    for i in 0..places {
        table.start(&mut table.look_up(address(i)), SequenceId(0), 1, Time(0));
    }
    table.start(&mut table.look_up(address(0)), SequenceId(0), 1, Time(1));
    // The first took its own old place.
    table.start(
        &mut table.look_up(address(places)),
        SequenceId(0),
        1,
        Time(2),
    );
    let mut alive = [false; 2];
    table.for_each_attempt(&table.look_up(address(0)), |_| alive[0] = true);
    table.for_each_attempt(&table.look_up(address(1)), |_| alive[1] = true);
    assert_eq!(alive, [true, false]);
}

#[test]
fn another_amount_of_memory_keeps_the_newest() {
    let mut table = Table::new(128 << 10);
    let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
    let count = table.capacity();
    for i in 0..count {
        table.start(
            &mut table.look_up(address(i)),
            SequenceId(7),
            1,
            Time(i as u64),
        );
    }
    table.resize(64 << 10);
    assert!(table.capacity() < count && table.len() == table.capacity());
    assert_eq!(table.evicted(), (count - table.places as usize) as u64);
    let mut alive = Vec::new();
    for i in [0, count - 1] {
        table.for_each_attempt(&table.look_up(address(i)), |attempt| {
            alive.push(attempt.started);
        });
    }
    assert_eq!(alive, [Time(count as u64 - 1)]);
}

#[test]
fn what_is_of_no_use_is_not_counted_when_there_is_less_memory() {
    let mut table = Table::new(128 << 10);
    table.set_times(Duration::from_secs(5), Duration::from_secs(120));
    let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
    let mut start = |i: usize, now| {
        table.next_packet(now);
        table.start(&mut table.look_up(address(i)), SequenceId(7), 1, now);
    };
    (0..2_000).for_each(|i| start(i, Time::from_secs(0)));
    (2_000..2_050).for_each(|i| start(i, Time::from_secs(24 * 3600)));
    table.resize(64 << 10);
    assert!(table.capacity() < 2_000);
    assert_eq!(table.evicted(), 0);
}

/// A flood need not be forged.
#[test]
fn one_source_that_starts_over_and_over_pushes_nobody_out() {
    let mut table = Table::new(64 << 10);
    let sender = |table: &Table, last| table.look_up(IpAddr::from([192, 0, 2, last]));
    table.start(&mut sender(&table, 10), SequenceId(0), 1, Time(0));
    let touch = Touch {
        port: 9,
        print: None,
        begun: None,
    };
    for i in 0..10 * u64::from(table.places) {
        let mut flooding = sender(&table, 66);
        table.next_packet(Time(i));
        for id in 0..5 {
            table.start(&mut flooding, SequenceId(id), 1, Time(i));
        }
        table.remember(&mut flooding, low_half(i), Time(i));
        table.touch(&mut flooding, touch, &GUARD, Time(i));
    }
    assert_eq!(table.evicted(), 0);
    let mut alive = false;
    table.for_each_attempt(&sender(&table, 10), |_| alive = true);
    assert!(alive);
}

/// Whoever has begun and begins anew gets the whole time again, whatever comes between.
#[test]
fn an_attempt_that_is_begun_anew_lives_as_long_as_a_new_one() {
    let table = Table::new(64 << 10);
    // From then on the record is old when it is begun anew.
    let edge = (table.places - 2 * table.young) as usize;
    for before in [0, 1, 2, 16, 100, 500, edge, edge + 1, edge + 2] {
        let mut table = Table::new(64 << 10);
        let ours = |table: &Table| table.look_up(IpAddr::from([192, 0, 2, 10]));
        let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
        let capacity = table.capacity();
        assert!(before <= capacity, "it is to be begun anew");
        table.start(&mut ours(&table), SequenceId(0), 1, Time(0));
        for i in 0..before {
            table.start(&mut table.look_up(address(i)), SequenceId(0), 1, Time(1));
        }
        table.start(&mut ours(&table), SequenceId(0), 1, Time(2));
        for i in before..before + capacity - 1 {
            table.start(&mut table.look_up(address(i)), SequenceId(0), 1, Time(3));
        }
        let mut alive = Vec::new();
        table.for_each_attempt(&ours(&table), |attempt| alive.push(attempt.started));
        assert_eq!(alive, [Time(2)], "after {before}");
    }
}

const GUARD: Guard = Guard {
    ports: 5,
    within: std::time::Duration::from_secs(75),
    nearby: 5,
};

/// The records of each source as a list, the newest first, and of all in the order of a ring.
#[derive(Debug, Default)]
struct Plain {
    /// Source, sequence, what makes it recognisable, and when it took its place.
    records: Vec<(u8, u16, u64, u64)>,
    taken: u64,
}

impl Plain {
    fn start(&mut self, table: &Table, source: u8, sequence: u16, tag: u64) {
        let known = |r: &&mut (u8, u16, u64, u64)| (r.0, r.1) == (source, sequence);
        if let Some(record) = self.records.iter_mut().find(known) {
            record.2 = tag;
            if self.taken - record.3 < u64::from(table.young) {
                return;
            }
            // What it has seen it goes on knowing; no source has many such.
            let witnesses = self
                .records
                .iter()
                .filter(|r| (r.0, r.1) == (source, WITNESS));
            if witnesses.count() >= WITNESSES {
                let is_witness = |r: &(u8, u16, u64, u64)| (r.0, r.1) == (source, WITNESS);
                let oldest = self.records.iter().position(is_witness).unwrap();
                self.records.remove(oldest);
            }
            let was = self.records.iter_mut().find(known).unwrap();
            was.1 = WITNESS;
        }
        self.taken += 1;
        let gone = self.taken.saturating_sub(u64::from(table.places));
        self.records.retain(|r| r.3 > gone);
        self.records.push((source, sequence, tag, self.taken));
    }
}

proptest! {
    /// From one place on, which is no ring, up to some hundred.
    #[test]
    fn each_source_has_the_records_that_a_plain_list_would_have(
        memory in prop_oneof![Just(1_usize), Just(200), Just(700), Just(6 << 10), Just(20 << 10)],
        steps in prop::collection::vec((0_u8..40, 0_u16..3), 0..900),
        later in prop::option::of(Just(2_000_usize)),
    ) {
        let mut table = Table::new(memory);
        let mut plain = Plain::default();
        let sender = |table: &Table, source: u8| table.look_up(IpAddr::from([192, 0, 2, source]));
        for (tag, &(source, sequence)) in steps.iter().enumerate() {
            let tag = tag as u64;
            table.start(&mut sender(&table, source), SequenceId(sequence), 1, Time(tag));
            plain.start(&table, source, sequence, tag);
        }
        if let Some(later) = later {
            table.resize(later);
            let excess = plain.records.len().saturating_sub(table.places as usize);
            plain.records.drain(..excess);
        }
        for source in 0..40 {
            let mut found = Vec::new();
            table.for_each_attempt(&sender(&table, source), |attempt| {
                found.push((attempt.sequence.0, attempt.started.0));
            });
            found.reverse();
            let of_it = plain.records.iter();
            let of_it = of_it.filter(|record| record.0 == source && record.1 != WITNESS);
            let of_it: Vec<_> = of_it.map(|record| (record.1, record.2)).collect();
            prop_assert_eq!(found, of_it);
        }
    }
}
