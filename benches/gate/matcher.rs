//! What the matcher takes for a packet of a source that has no attempt, each of another one, at a
//! table that is full: each takes the place of the oldest record; and whether that depends on how
//! many sources or sequences there are. `benches/core.rs` has more of it; this is what has a target.

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
/// The tables take turns with so many batches each, as what the machine does elsewhere drifts.
const AT_ONCE: usize = 50;
const TURNS: usize = 4;
/// Before them come some that do not count, with about as many packets as the largest table has
/// records: the other tables were in the processor's caches last.
const WARMING: usize = 60;
/// In nanoseconds.
const TARGET: f64 = 100.0;
/// Sequences, and memory for attempts: a table that the processor's caches hold, the daemon's own
/// default, and that with many sequences.
const TABLES: [(u16, &str); 3] = [(2, "64KiB"), (2, "32MiB"), (200, "32MiB")];
/// How much more a packet may cost with the last table than with the one before: more sequences.
const MORE_SEQUENCES: f64 = 1.25;
/// The same of that one and the first: more sources. The larger table does not fit into the
/// processor's caches, and memory is that much slower; twice as much would not be that alone.
const MORE_SOURCES: f64 = 2.0;

pub(crate) fn measure() -> Measured {
    let mut tables = Vec::new();
    for (sequences, memory) in TABLES {
        tables.push(Table::full(sequences, &with_sequences(sequences, memory)?));
    }
    let mut kinds = Vec::new();
    for (kind, has_target, port) in KINDS {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); tables.len()];
        for _ in 0..so_many(TURNS, 2) {
            for (table, times) in tables.iter_mut().zip(&mut times) {
                let port = KnockPort::tcp(port(table.sequences));
                for _ in 0..so_many(WARMING, 5) {
                    table.batch(port);
                }
                times.extend((0..so_many(AT_ONCE, 10)).map(|_| table.batch(port)));
            }
        }
        let times = times.into_iter().map(Samples::new).collect();
        kinds.push((kind, has_target, times));
    }
    let mut lines = lines(&tables, &kinds);
    let what = "beside it: a read somewhere in 32 MiB, which a packet at a full table takes two of";
    lines.push(Line::aside(
        what,
        format!("median {:.0} ns", read_anywhere()),
    ));
    Ok(lines)
}

/// What the machine takes for a read from memory that is in no cache, in nanoseconds: each tells where
/// the next one is. Where others use the same cache and memory it may be twice what it is else.
fn read_anywhere() -> f64 {
    const COUNT: usize = (32 << 20) / size_of::<usize>();
    const READS: u32 = 100_000;
    let mut next: Vec<usize> = (0..COUNT).collect();
    let mut random = 1usize;
    // One circle through all (Sattolo, "An algorithm to generate a random cyclic permutation", 1986).
    for last in (1..COUNT).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        next.swap(last, (random >> 33) % last);
    }
    let mut at = 0;
    let times = (0..so_many(20, 5)).map(|_| {
        let started = Instant::now();
        for _ in 0..READS {
            at = next[at];
        }
        black_box(at);
        started.elapsed()
    });
    Samples::new(times.collect()).median().as_secs_f64() * 1e9 / f64::from(READS)
}

/// A kind of packet, whether it has the target, and what each of the tables takes for a batch of it.
type Kind = (&'static str, bool, Vec<Samples>);

/// The port of a packet where there are so many sequences.
type Port = fn(u16) -> u16;

const DECOY: u16 = 4000;

/// Those that are held against the source for a while have no target.
const KINDS: [(&str, bool, Port); 5] = [
    ("a port that nobody knocks on", true, |_| 9),
    ("a stray knock", true, |sequences| {
        2001 + 2 * (sequences - 1)
    }),
    ("a first knock", true, |sequences| {
        2000 + 2 * (sequences - 1)
    }),
    ("a port beside a knock", false, |sequences| {
        2000 + 2 * sequences
    }),
    ("a decoy", false, |_| DECOY),
];

fn lines(tables: &[Table], kinds: &[Kind]) -> Vec<Line> {
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(BATCH);
    let mut lines = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let (room, sequences) = (table.room(), table.sequences);
        for (kind, has_target, times) in kinds {
            let samples = &times[at];
            let (median, p99) = (each(samples.median()), each(samples.percentile(99)));
            let what = format!("{kind}, {room} sources in the table, {sequences} sequences");
            let figure =
                format!("median {median:.0} ns, p99 {p99:.0} ns (batches of {BATCH} packets)");
            lines.push(if *has_target {
                let target = format!("median < {TARGET:.0} ns");
                Line::new(what, figure, target, median < TARGET)
            } else {
                Line::aside(what, figure)
            });
        }
    }
    let [small, large, long] = tables else {
        return lines;
    };
    let (many, few) = (long.sequences, large.sequences);
    let what = format!("{many} sequences to {few}, {} sources", large.room());
    lines.push(compared(what, kinds, 2, MORE_SEQUENCES));
    let what = format!(
        "{} sources to {}, {few} sequences",
        large.room(),
        small.room()
    );
    lines.push(compared(what, kinds, 1, MORE_SOURCES));
    lines
}

/// What a packet costs with that table, to the one before: the mean of all kinds, as one of them
/// alone varies more.
fn compared(what: String, kinds: &[Kind], more: usize, factor: f64) -> Line {
    let median = |times: &[Samples], at: usize| times[at].median().as_secs_f64();
    let total = |at: usize| -> f64 { kinds.iter().map(|(.., times)| median(times, at)).sum() };
    let ratio = total(more) / total(more - 1);
    let each = kinds.iter().map(|(.., times)| {
        let ratio = median(times, more) / median(times, more - 1);
        format!("{ratio:.2}")
    });
    let each: Vec<String> = each.collect();
    let figure = format!("{ratio:.2} ({} for each kind of packet)", each.join(", "));
    Line::new(what, figure, format!("≤ {factor:.2}"), ratio <= factor)
}

fn with_sequences(count: u16, memory: &str) -> Result<Policy, String> {
    let knocks = (0..count).map(|number| {
        let (first, second) = (2000 + 2 * number, 2001 + 2 * number);
        format!(
            "  k{number}: {{ sequence: [{first}, {second}], seq_timeout: 15s, action: accept }}\n"
        )
    });
    let knocks: String = knocks.collect();
    let decoy = format!("  decoy: {{ sequence: [{DECOY}, {DECOY}], action: drop }}\n");
    let text =
        format!("memory: {memory}\ngates:\n  ssh: {{ ports: [22] }}\nknocks:\n{knocks}{decoy}");
    let checked = policy::parse(&text, Path::new("bench.yaml"));
    Ok(checked.map_err(|error| format!("{error:?}"))?.policy)
}

struct Table {
    matcher: Matcher,
    sequences: u16,
    number: u32,
}

impl Table {
    fn full(sequences: u16, policy: &Policy) -> Self {
        let mut table = Self {
            matcher: Matcher::new(policy),
            sequences,
            number: 0,
        };
        let first = KnockPort::tcp(2000);
        while table.matcher.occupancy().0 < table.room() {
            let begun = table.packet(first);
            assert!(begun.completed.is_empty(), "one knock completes nothing");
        }
        table
    }

    /// So many sources are in it at most.
    fn room(&self) -> usize {
        self.matcher.occupancy().1
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

    fn batch(&mut self, port: KnockPort) -> Duration {
        let started = Instant::now();
        for _ in 0..BATCH {
            drop(black_box(self.packet(port)));
        }
        started.elapsed()
    }
}
