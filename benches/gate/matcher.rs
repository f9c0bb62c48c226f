//! What the matcher takes for a packet of a source that has no attempt, each of another one, at a
//! table that is full: each takes the place of the oldest record. `benches/core.rs` has more of it;
//! this is what has a target.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::matcher::Matcher;
use portcullis::model::{KnockPort, Time};
use portcullis::packet::Knock;
use portcullis::policy::{self, Policy, TcpFlags};

use crate::report::{Line, Measured, Samples};
use crate::so_many;

/// Of packets without a look at the clock.
const BATCH: u32 = 10_000;
const BATCHES: usize = 200;
/// In nanoseconds.
const TARGET: f64 = 100.0;
/// Sequences, and memory for attempts: a table that the processor's caches hold, the daemon's own
/// default, and that with many sequences.
const TABLES: [(u16, &str); 3] = [(2, "64KiB"), (2, "32MiB"), (200, "32MiB")];

pub(crate) fn measure() -> Measured {
    let mut lines = Vec::new();
    for (sequences, memory) in TABLES {
        let policy = with_sequences(sequences, memory)?;
        let mut table = Table::full(&policy);
        let (_, room) = table.matcher.occupancy();
        let last = 2001 + 2 * (sequences - 1);
        for (kind, port) in [
            ("a port that nobody knocks on", 9),
            ("a stray knock", last),
            ("a first knock", last - 1),
        ] {
            let port: KnockPort = port.to_string().parse()?;
            let samples = table.sample(port);
            let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(BATCH);
            let (median, p99) = (each(samples.median()), each(samples.percentile(99)));
            lines.push(Line::new(
                format!("{kind}, {room} sources in the table, {sequences} sequences"),
                format!("median {median:.0} ns, p99 {p99:.0} ns (batches of {BATCH} packets)"),
                format!("median < {TARGET:.0} ns"),
                median < TARGET,
            ));
        }
    }
    Ok(lines)
}

fn with_sequences(count: u16, memory: &str) -> Result<Policy, String> {
    let knocks = (0..count).map(|number| {
        let (first, second) = (2000 + 2 * number, 2001 + 2 * number);
        format!(
            "  k{number}: {{ sequence: [{first}, {second}], seq_timeout: 15s, action: accept }}\n"
        )
    });
    let knocks: String = knocks.collect();
    let text = format!("memory: {memory}\ngates:\n  ssh: {{ ports: [22] }}\nknocks:\n{knocks}");
    let checked = policy::parse(&text, Path::new("bench.yaml"));
    Ok(checked.map_err(|error| format!("{error:?}"))?.policy)
}

struct Table {
    matcher: Matcher,
    number: u32,
}

impl Table {
    fn full(policy: &Policy) -> Self {
        let mut table = Self {
            matcher: Matcher::new(policy),
            number: 0,
        };
        let (_, room) = table.matcher.occupancy();
        let first = KnockPort::tcp(2000);
        while table.matcher.occupancy().0 < room {
            let begun = table.packet(first);
            assert!(begun.completed.is_empty(), "one knock completes nothing");
        }
        table
    }

    fn packet(&mut self, port: KnockPort) -> portcullis::matcher::Heard {
        self.number = self.number.wrapping_add(1);
        let host = self.number.wrapping_mul(0x9E37_79B1) & 0x00ff_ffff;
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | host);
        let knock = Knock {
            source: source.into(),
            destination: Ipv4Addr::new(198, 18, 0, 1).into(),
            port,
            source_port: 40_000,
            flags: TcpFlags::SYN,
            seq: self.number,
        };
        let now = Time::default().after(Duration::from_millis(1));
        self.matcher.handle(black_box(&knock), true, now)
    }

    fn sample(&mut self, port: KnockPort) -> Samples {
        let batch = |table: &mut Self| {
            let started = Instant::now();
            for _ in 0..BATCH {
                drop(black_box(table.packet(port)));
            }
            started.elapsed()
        };
        batch(self);
        let batches = (0..so_many(BATCHES, 20)).map(|_| batch(self));
        Samples::new(batches.collect())
    }
}
