//! Which sources sweep ports: records of strange ports in the table of attempts, so that they
//! share its bound.

use std::time::Duration;

use super::record::{FOREIGN, NEAR, Record};
use super::table::{Sender, Table, WITNESSES};
use crate::model::Time;

/// Whoever has touched so many foreign ports near a sequence is rather a slow scanner than somebody who
/// mistyped a knock, and waits as long as a scanner.
const SEVERAL: usize = 2;

/// What makes a scanner: touching that many strange ports within that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    pub(super) ports: u16,
    pub(super) within: Duration,
    /// How far from a sequence's ports one strange port is enough.
    pub(super) nearby: u16,
}

impl Guard {
    /// So many ticks make the window; a time is kept as 16 bits of ticks, four windows.
    const TICKS: u64 = 1 << 14;

    /// How long a sweep is: the first of the ports that make a scanner was touched in the window,
    /// and what came just before that belongs to it.
    pub(super) fn sweep(&self) -> Duration {
        self.within.saturating_mul(2)
    }

    fn tick(&self, now: Time) -> u16 {
        #[allow(clippy::cast_possible_truncation)] // the lower bits are wanted
        let tick = (now.0 / self.tick_length()) as u16;
        tick
    }

    /// In nanoseconds.
    pub(super) fn tick_length(&self) -> u64 {
        let window = u64::try_from(self.within.as_nanos()).unwrap_or(u64::MAX);
        (window / Self::TICKS).max(1)
    }

    /// Whether a port touched then still counts. Whatever is older than the window is forgotten
    /// at the next touch, or is so old that the whole record is.
    fn counts(&self, touch: u32, now: Time) -> bool {
        // A tick more, since both times were rounded down.
        self.age(touch, now) <= Self::TICKS + 1
    }

    /// In ticks.
    fn age(&self, touch: u32, now: Time) -> u64 {
        let age = self.tick(now).wrapping_sub(low_bits(touch)).into();
        // Two windows at most pass until a touch is forgotten. What seems older is younger than
        // this packet: several CPUs write them, and a moment out of order.
        if age > 3 * Self::TICKS { 0 } else { age }
    }
}

/// A touch of a strange port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touch {
    pub(super) port: u16,
    /// What it is known by when it is sent again, if that is to be told.
    pub(super) print: Option<u32>,
    /// The place of what the same packet began, which may take it.
    pub(super) begun: Option<u32>,
}

/// What a touch of a strange port says of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touched {
    /// It has touched too few ports to be a scanner.
    Few,
    /// It is a scanner since now.
    Swept,
    /// It was a scanner before.
    StillSweeping,
}

impl Table {
    /// Whether the source is a scanner: it was found to be one, and has not been quiet since for
    /// as long as the guard asks.
    pub(super) fn is_scanner(&self, sender: &Sender, guard: &Guard, now: Time) -> bool {
        let mut at = self.first(sender);
        while let Some(record) = self.records.get(at as usize) {
            if record.sequence == FOREIGN && record.stage > 0 {
                return now.since(record.started) <= guard.within;
            }
            at = self.older(at);
        }
        false
    }

    /// How long it still counts for that time that the source touched a port of those, if it did;
    /// no longer than for the guard's.
    pub(super) fn touch_counts_for(
        &self,
        sender: &Sender,
        guard: &Guard,
        now: Time,
        within: Duration,
        is_one: impl Fn(u16) -> bool,
    ) -> Option<Duration> {
        let tick = guard.tick_length();
        // A tick more, since both times were rounded down.
        let ticks = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX) / tick + 1;
        let mut longest = None;
        let mut at = self.first(sender);
        while let Some(record) = self.records.get(at as usize) {
            if let Some(quiet) = guard.within.checked_sub(now.since(record.started)) {
                let touches = record.touches().iter();
                let ages = touches.filter(|touch| is_one(high_bits(**touch)));
                let youngest = ages.map(|touch| guard.age(*touch, now)).min();
                if let Some(left) = youngest.and_then(|age| ticks.checked_sub(age)) {
                    let left = Duration::from_nanos((left + 1).saturating_mul(tick));
                    longest = longest.max(Some(left.min(quiet)));
                }
            }
            at = self.older(at);
        }
        longest
    }

    /// Whether the source has touched several of those ports in the guard's time.
    pub(super) fn touched_several(
        &self,
        sender: &Sender,
        guard: &Guard,
        now: Time,
        is_one: impl Fn(u16) -> bool,
    ) -> bool {
        let mut count = 0;
        let mut at = self.first(sender);
        while let Some(record) = self.records.get(at as usize) {
            if now.since(record.started) <= guard.within {
                let counts = |touch: u32| is_one(high_bits(touch)) && guard.counts(touch, now);
                count += record.touches().iter().filter(|&&it| counts(it)).count();
            }
            at = self.older(at);
        }
        count >= SEVERAL
    }

    /// Notes that the source touched a strange port.
    pub(super) fn touch(
        &mut self,
        sender: &mut Sender,
        touch: Touch,
        guard: &Guard,
        now: Time,
    ) -> Touched {
        let Touch { port, print, begun } = touch;
        let (mut others, mut room, mut known, mut was_scanner) = (0, None, false, false);
        let (mut idle, mut oldest) = (0, None::<(Time, u32)>);
        let mut at = self.first(sender);
        while let Some(record) = self.records.get_mut(at as usize) {
            let is_foreign = record.sequence == FOREIGN;
            if now.since(record.started) > guard.within {
                // Quiet for long enough: nothing from before counts.
                record.clear_touches();
                if is_foreign {
                    record.stage = 0;
                }
            }
            record.retain_touches(|touch| high_bits(touch) != port && guard.counts(touch, now));
            others += record.touches().len();
            known |= is_foreign;
            was_scanner |= is_foreign && record.stage > 0;
            if record.has_room() && (is_foreign || (room.is_none() && begun == Some(at))) {
                room = Some(at);
            }
            if record.sequence == NEAR && record.touches().is_empty() {
                idle += 1;
                if oldest.is_none_or(|(time, _)| record.started < time) {
                    oldest = Some((record.started, at));
                }
            }
            at = self.older(at);
        }
        let enough = others + 1 >= usize::from(guard.ports);
        let touch = (u32::from(port) << 16) | u32::from(guard.tick(now));
        if enough && !known {
            // The port that makes a scanner needs no place of its own, nor any if there is no room, but
            // the scanner does.
            let at = self.turn_foreign(sender);
            self.records[at as usize].push_touch(touch);
        } else if let (false, Some(print)) = (enough, print) {
            let oldest = oldest.filter(|_| idle >= WITNESSES);
            let at = match oldest {
                Some((_, at)) => self.make_newest(sender, at),
                None => self.add(sender),
            };
            let record = &mut self.records[at as usize];
            (record.sequence, record.started) = (NEAR, now);
            record.clear_prints();
            record.push_print(print);
            record.push_touch(touch);
        } else if !enough {
            let at = room.unwrap_or_else(|| self.add_foreign(sender));
            self.records[at as usize].push_touch(touch);
        }
        let is_scanner = was_scanner || enough;
        let mut newest = None;
        self.for_each_foreign(sender, |at, record| {
            record.started = now;
            record.stage = u8::from(is_scanner);
            newest = Some(at);
        });
        // One of them outlives whatever is started before the next touch, and says enough.
        if let Some(at) = newest {
            self.make_newest(sender, at);
        }
        match (was_scanner, is_scanner) {
            (true, _) => Touched::StillSweeping,
            (false, true) => Touched::Swept,
            (false, false) => Touched::Few,
        }
    }

    fn for_each_foreign(&mut self, sender: &Sender, mut f: impl FnMut(u32, &mut Record)) {
        let mut at = self.first(sender);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.sequence == FOREIGN {
                f(at, record);
            }
            at = self.older(at);
        }
    }

    fn add_foreign(&mut self, sender: &mut Sender) -> u32 {
        let at = self.add(sender);
        self.records[at as usize].sequence = FOREIGN;
        at
    }

    /// A record of foreign ports, in the place of something void. That goes on witnessing what was
    /// seen, since a scanner may complete decoys.
    fn turn_foreign(&mut self, sender: &mut Sender) -> u32 {
        let mut at = self.first(sender);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.is_void() {
                record.sequence = FOREIGN;
                return at;
            }
            at = self.older(at);
        }
        self.add_foreign(sender)
    }

    /// Forgets which ports were touched; scanners stay what they are.
    pub(super) fn forget_touches(&mut self) {
        for record in &mut self.records {
            record.clear_touches();
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // the lower bits are wanted
fn low_bits(touch: u32) -> u16 {
    touch as u16
}

#[allow(clippy::cast_possible_truncation)] // 16 bits are left
fn high_bits(touch: u32) -> u16 {
    (touch >> 16) as u16
}
