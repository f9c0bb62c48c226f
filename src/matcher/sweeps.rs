//! Which sources sweep ports: records of foreign ports in the table of attempts, so that they
//! share its bound.

use std::net::IpAddr;
use std::time::Duration;

use super::table::{FOREIGN, PRINTS, Record, Source, Table};
use crate::model::Time;

/// What makes a scanner: touching that many foreign ports within that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    pub(super) ports: u16,
    pub(super) within: Duration,
}

impl Guard {
    /// So many ticks make the window; a time is kept as 16 bits of ticks, four windows.
    const TICKS: u64 = 1 << 14;

    fn tick(&self, now: Time) -> u16 {
        let window = u64::try_from(self.within.as_nanos()).unwrap_or(u64::MAX);
        #[allow(clippy::cast_possible_truncation)] // the lower bits are wanted
        let tick = (now.0 / (window / Self::TICKS).max(1)) as u16;
        tick
    }

    /// Whether a port touched then still counts. Whatever is older than the window is forgotten
    /// at the next touch, or is so old that the whole record is.
    fn counts(&self, print: u32, now: Time) -> bool {
        let age = self.tick(now).wrapping_sub(low_bits(print));
        // A tick more, since both times were rounded down.
        u64::from(age) <= Self::TICKS + 1
    }
}

impl Table {
    /// Whether the source is a scanner: it was found to be one, and has not been quiet since for
    /// as long as the guard asks.
    pub(super) fn is_scanner(&self, source: IpAddr, guard: &Guard, now: Time) -> bool {
        let source = source.into();
        let mut at = self.first(source);
        while let Some(record) = self.records.get(at as usize) {
            if record.source == source && record.sequence == FOREIGN && record.stage > 0 {
                return now.since(record.started) <= guard.within;
            }
            at = record.next_in_bucket;
        }
        false
    }

    /// Notes that the source touched a foreign port; whether it is a scanner since now.
    pub(super) fn touch(&mut self, source: IpAddr, port: u16, guard: &Guard, now: Time) -> bool {
        let source = source.into();
        let (mut others, mut room, mut known, mut was_scanner) = (0, None, false, false);
        self.for_each_foreign(source, |at, record| {
            if now.since(record.started) > guard.within {
                // Quiet for long enough: nothing from before counts.
                (record.stage, record.print_count) = (0, 0);
            }
            record
                .retain_prints(|print| print >> 16 != u32::from(port) && guard.counts(print, now));
            others += record.prints().len();
            was_scanner |= record.stage > 0;
            known = true;
            if record.prints().len() < PRINTS {
                room = Some(at);
            }
        });
        let enough = others + 1 >= usize::from(guard.ports);
        // The port that makes a scanner needs no place of its own.
        if !enough || !known {
            let at = room.unwrap_or_else(|| self.add_foreign(source));
            let print = (u32::from(port) << 16) | u32::from(guard.tick(now));
            self.records[at as usize].push_print(print);
        }
        let is_scanner = was_scanner || enough;
        let mut newest = None;
        self.for_each_foreign(source, |at, record| {
            record.started = now;
            record.stage = u8::from(is_scanner);
            newest = Some(at);
        });
        // One of them outlives whatever is started before the next touch, and says enough.
        if let Some(at) = newest {
            self.make_newest(at);
        }
        is_scanner && !was_scanner
    }

    fn for_each_foreign(&mut self, source: Source, mut f: impl FnMut(u32, &mut Record)) {
        let mut at = self.first(source);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.source == source && record.sequence == FOREIGN {
                f(at, record);
            }
            at = record.next_in_bucket;
        }
    }

    fn add_foreign(&mut self, source: Source) -> u32 {
        let at = self.add(source);
        self.records[at as usize].sequence = FOREIGN;
        at
    }
}

impl Record {
    fn retain_prints(&mut self, keep: impl Fn(u32) -> bool) {
        let mut kept = 0;
        for place in 0..self.print_count {
            let print = self.prints[usize::from(place)];
            if keep(print) {
                self.prints[usize::from(kept)] = print;
                kept += 1;
            }
        }
        self.print_count = kept;
    }
}

#[allow(clippy::cast_possible_truncation)] // the lower bits are wanted
fn low_bits(print: u32) -> u16 {
    print as u16
}
