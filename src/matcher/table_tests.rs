use super::*;

#[test]
fn a_record_is_small() {
    assert_eq!(size_of::<Record>(), 56);
    assert!(Table::new(32 << 20).capacity() > 500_000);
}

#[test]
fn memory_never_exceeds_its_bound() {
    for memory in [1, 1 << 10, 64 << 10, 1 << 20, 32 << 20] {
        let table = Table::new(memory);
        let used = table.capacity * size_of::<Record>() + table.buckets.len() * 4;
        assert!(used <= memory.max(64), "{used} of {memory}");
    }
}

#[test]
fn when_it_is_full_the_oldest_goes_first() {
    let mut table = Table::new(64 << 10);
    let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
    let capacity = table.capacity();
    for i in 0..3 * capacity {
        table.start(table.key(address(i)), SequenceId(0), 1, Time(i as u64));
        assert!(table.len() <= capacity);
    }
    for i in 0..3 * capacity {
        let mut alive = false;
        table.for_each_attempt(table.key(address(i)), |_| alive = true);
        assert_eq!(alive, i >= 2 * capacity, "{i} of {capacity}");
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
        table.start(table.key(ours), SequenceId(0), 1, Time(0));
        for i in 0..forged {
            let at = Time(i * 1_000_000_000 / RATE);
            table.start(table.key(address(i)), SequenceId(0), 1, at);
        }
        let mut alive = false;
        table.for_each_attempt(table.key(ours), |attempt| {
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
    for i in 0..table.capacity() {
        table.start(table.key(address(i)), SequenceId(0), 1, Time(0));
    }
    table.start(table.key(address(0)), SequenceId(0), 1, Time(1));
    table.start(
        table.key(address(table.capacity())),
        SequenceId(0),
        1,
        Time(2),
    );
    let mut alive = [false; 2];
    table.for_each_attempt(table.key(address(0)), |_| alive[0] = true);
    table.for_each_attempt(table.key(address(1)), |_| alive[1] = true);
    assert_eq!(alive, [true, false]);
}

#[test]
fn another_amount_of_memory_keeps_the_newest() {
    let mut table = Table::new(128 << 10);
    let address = |i: usize| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + index(i)));
    let count = table.capacity();
    for i in 0..count {
        table.start(table.key(address(i)), SequenceId(7), 1, Time(i as u64));
    }
    table.resize(64 << 10);
    assert!(table.capacity() < count && table.len() == table.capacity());
    let mut alive = Vec::new();
    for i in [0, count - 1] {
        table.for_each_attempt(table.key(address(i)), |attempt| alive.push(attempt.started));
    }
    assert_eq!(alive, [Time(count as u64 - 1)]);
}
