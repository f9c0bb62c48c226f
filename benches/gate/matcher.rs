//! What the matcher takes for a packet of a source that has no attempt, each of another one, at a
//! table that is full: each takes the place of the oldest record; and whether that depends on how
//! many sources or sequences there are. `benches/core.rs` has more of it; this is what has a target.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::capture::AHEAD;
use portcullis::matcher::{Heard, Matcher};
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
/// How far behind a packet is the one whose source is fetched: as the daemon does it.
#[allow(clippy::cast_possible_truncation)] // some places
const BEHIND: u32 = AHEAD as u32;
/// Sequences, and memory for attempts: a table that the processor's caches hold, the daemon's own
/// default, and that with many sequences.
const TABLES: [(u16, &str); 3] = [(2, "64KiB"), (2, "32MiB"), (200, "32MiB")];
/// How much more a packet may cost with the last table than with the one before: more sequences.
const MORE_SEQUENCES: f64 = 1.25;
/// The same of that one and the first: more sources, which do not fit into the processor's caches.
const MORE_SOURCES: f64 = 1.5;

pub(crate) fn measure() -> Measured {
    let mut tables = Vec::new();
    for (sequences, memory) in TABLES {
        tables.push(Table::full(sequences, &with_sequences(sequences, memory)?));
    }
    let mut kinds = Vec::new();
    for (kind, comes, has_target, port) in KINDS {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); tables.len()];
        for _ in 0..so_many(TURNS, 2) {
            for (table, times) in tables.iter_mut().zip(&mut times) {
                let port = KnockPort::tcp(port(table.sequences));
                for _ in 0..so_many(WARMING, 5) {
                    table.batch(port, comes);
                }
                times.extend((0..so_many(AT_ONCE, 10)).map(|_| table.batch(port, comes)));
            }
        }
        let times = times.into_iter().map(Samples::new).collect();
        kinds.push((kind, comes, has_target, times));
    }
    let mut lines = lines(&tables, &kinds);
    let what = "beside it: a read somewhere in 32 MiB, which one that comes alone takes";
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

/// A kind of packet, how it comes, whether it has the target, and what each of the tables takes for a
/// batch of it.
type Kind = (&'static str, Comes, bool, Vec<Samples>);

/// The port of a packet where there are so many sequences.
type Port = fn(u16) -> u16;

/// Whether others wait behind a packet, so that what is known of their sources is fetched meanwhile. In
/// a flood they do, as long as the daemon has more to do than to wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    InLine,
    Alone,
}
use Comes::{Alone, InLine};

const DECOY: u16 = 4000;

/// Those that are held against the source for a while have no target.
const KINDS: [(&str, Comes, bool, Port); 7] = [
    ("a port that nobody knocks on", InLine, true, |_| 9),
    ("a stray knock", InLine, true, |sequences| {
        2001 + 2 * (sequences - 1)
    }),
    ("a first knock", InLine, true, first_port),
    ("a port beside a knock", InLine, false, |sequences| {
        2000 + 2 * sequences
    }),
    ("a decoy", InLine, false, |_| DECOY),
    ("a port that nobody knocks on, alone", Alone, true, |_| 9),
    ("a first knock, alone", Alone, true, first_port),
];

fn first_port(sequences: u16) -> u16 {
    2000 + 2 * (sequences - 1)
}

fn lines(tables: &[Table], kinds: &[Kind]) -> Vec<Line> {
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(BATCH);
    let mut lines = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let (room, sequences) = (table.room(), table.sequences);
        for (kind, _, has_target, times) in kinds {
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

/// What a packet costs with that table, to the one before: the mean of all kinds that come in line, as
/// one of them alone varies more.
fn compared(what: String, kinds: &[Kind], more: usize, factor: f64) -> Line {
    let in_line = kinds.iter().filter(|(_, comes, ..)| *comes == InLine);
    let medians: Vec<(f64, f64)> = in_line
        .map(|(.., times)| {
            let median = |at: usize| times[at].median().as_secs_f64();
            (median(more), median(more - 1))
        })
        .collect();
    let (all, before): (Vec<f64>, Vec<f64>) = medians.iter().copied().unzip();
    let ratio = all.iter().sum::<f64>() / before.iter().sum::<f64>();
    let each: Vec<String> = medians
        .iter()
        .map(|(more, before)| format!("{:.2}", more / before))
        .collect();
    let figure = format!("{ratio:.2} ({} for each kind in line)", each.join(", "));
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
            let begun = table.packet(first, Alone);
            assert!(begun.completed.is_empty(), "one knock completes nothing");
        }
        table
    }

    /// So many sources are in it at most.
    fn room(&self) -> usize {
        self.matcher.occupancy().1
    }

    fn packet(&mut self, port: KnockPort, comes: Comes) -> Heard {
        self.number = self.number.wrapping_add(1);
        if comes == Comes::InLine {
            let behind = source(self.number.wrapping_add(BEHIND));
            self.matcher.expect(black_box(behind));
        }
        let knock = Knock {
            source: source(self.number),
            destination: Ipv4Addr::new(198, 18, 0, 1).into(),
            port,
            source_port: 40_000,
            flags: TcpFlags::SYN,
            seq: self.number,
        };
        let now = Time::default().after(Duration::from_millis(1));
        self.matcher.handle(black_box(&knock), true, now)
    }

    fn batch(&mut self, port: KnockPort, comes: Comes) -> Duration {
        let started = Instant::now();
        for _ in 0..BATCH {
            drop(black_box(self.packet(port, comes)));
        }
        started.elapsed()
    }
}

fn source(number: u32) -> IpAddr {
    let host = number.wrapping_mul(0x9E37_79B1) & 0x00ff_ffff;
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | host).into()
}
