//! CPUs that are kept from sleeping for a moment.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::scenarios;
use crate::world::{Family, TRUSTED, Tried, World, long_policy};

scenarios![
    cpus_stay_awake_until_the_knock_is_complete,
    a_knock_that_is_never_complete_keeps_them_awake_for_a_second,
];

/// An address that the clients have.
const KNOCKER: u8 = 12;
const DEVICE: &str = "/dev/cpu_dma_latency";

/// As the kernel has it, the least of all requests; `None` for whoever may make none.
fn latency() -> io::Result<Option<i32>> {
    if OpenOptions::new().write(true).open(DEVICE).is_err() {
        return Ok(None);
    }
    let mut micros = [0; 4];
    File::open(DEVICE)?.read_exact(&mut micros)?;
    Ok(Some(i32::from_ne_bytes(micros)))
}

impl World {
    /// How often and how many milliseconds in all.
    fn awake(&self) -> (u64, u64) {
        let awake = &self.json(&["status"])["awake"];
        let number = |name: &str| awake[name].as_u64();
        match (number("times"), number("total_ms")) {
            (Some(times), Some(total)) => (times, total),
            _ => panic!("{awake}"),
        }
    }

    /// Whether `status` says why not.
    fn never_awake(&self) -> bool {
        let why = self.json(&["status"])["awake"]["why_never"].clone();
        let text = self.expect(0, &["status"]).stdout;
        if let Some(why) = why.as_str() {
            assert!(why.starts_with(&format!("open {DEVICE}: ")), "{why}");
            assert!(text.contains(&format!("awake     never: {why}")), "{text}");
        } else {
            assert!(text.contains("awake     0 times, 0 ms in all"), "{text}");
        }
        !why.is_null()
    }
}

fn cpus_stay_awake_until_the_knock_is_complete() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let person = world.person(Family::V4, KNOCKER)?;
    let may = latency()?.is_some();
    assert_eq!(world.never_awake(), !may);
    person.knocks(&["1228"]);
    let started = Instant::now();
    while may && world.awake().0 == 0 {
        let late = started.elapsed() > Duration::from_secs(10);
        assert!(!late, "CPUs sleep although somebody has begun");
    }
    if may {
        let micros = latency()?;
        let (_, total) = world.awake();
        // On a busy machine the second may be over by now.
        assert!(micros == Some(0) || total >= 900, "{micros:?}, {total} ms");
    }
    person.opens_with(&["1228", "1227"], 22);
    let (times, total) = world.awake();
    // Whoever begins anew is one packet short again, and the first time may be over by then.
    assert!(if may {
        (1..=2).contains(&times)
    } else {
        times == 0
    });
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(world.awake(), (times, total), "it has ended");
    Ok(())
}

fn a_knock_that_is_never_complete_keeps_them_awake_for_a_second() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let person = world.person(Family::V4, KNOCKER)?;
    if latency()?.is_none() {
        assert!(world.never_awake());
        person.knocks(&["1228"]);
        world.all_is_handled()?;
        assert_eq!(world.awake(), (0, 0));
        return Ok(());
    }
    person.knocks(&["1228"]);
    let started = Instant::now();
    let mut before = world.awake();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = world.awake();
        if now == before && now.0 > 0 {
            break;
        }
        let late = started.elapsed() > Duration::from_secs(10);
        assert!(!late, "they are still awake: {now:?}");
        before = now;
    }
    assert_eq!(before.0, 1);
    // And what a busy machine is late.
    assert!((1_000..=3_000).contains(&before.1), "{before:?}");
    Ok(())
}
