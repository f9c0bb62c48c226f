//! What it is when packets are stamped earlier than those before them: disorder, after which the
//! stamps come back to where they were at one leap, or a clock that was set back, after which they
//! stay behind or get there as slowly as time does. What happens again and again is disorder.
//!
//! Stamps leap, too, where all was quiet for a while after the clock was set back. That is what it is
//! where many are behind by more than packets are late, unless they leap by as much as they stepped
//! back: so they do if the clock is set forth again. Of few nobody knows.

/// In nanoseconds. Packets that are stamped earlier than one before them by less are out of order,
/// whatever comes after them.
pub(super) const LEAST_STEP: u64 = 1_000_000_000;
/// How many times farther than the packets behind lie from each other stamps leap that come back
/// from disorder.
const LEAP: u64 = 2;
/// Of the time that passes between three steps back, no clock is set back by so large a part, since
/// none runs as fast as that.
const PART: u64 = 4;
/// In nanoseconds. Packets of one interface are written later than those of another by no more: who
/// captures waits for about a second at most before taking them from the kernel.
const LATE: u64 = 10 * LEAST_STEP;
/// Fewer may be stamped wrongly.
const MANY: u64 = 8;
/// In nanoseconds. Stamps that step back by more, farther than time zones lie apart, are senseless
/// unless they stay there; nothing about others follows from them.
const MOST_LATE: u64 = 24 * 60 * 60 * 1_000_000_000;
/// So many steps back may wait for what comes after them.
const MOST_LEVELS: usize = 64;
/// So often a clock is set back in one capture. What is beyond counts as out of order.
const MOST_SET_BACK: usize = 65_536;

/// A moment at which the clock was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetBack {
    /// Before which packet, counted from 1 among those that have a time.
    pub(super) packet: u64,
    /// By how many nanoseconds.
    pub(super) by: u64,
}

/// Follows the stamps of packets, in the order in which they stand in the capture.
#[derive(Debug)]
pub(super) struct Steps {
    packets: u64,
    /// The lowest first. Each but the first began with a step back from the one below, to which the
    /// stamps have not come back yet.
    levels: Vec<Level>,
    settled: Vec<SetBack>,
    /// Their sum, in nanoseconds.
    sum: u64,
    /// Whoever steps back by no more, in nanoseconds, is out of order.
    limit: u64,
    /// How far the stamps went forward in all.
    forward: u64,
    /// The last two steps back: how far the stamps had gone forward, and by how much they went back.
    recent: [Option<(u64, u64)>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Level {
    began: SetBack,
    /// How many that are in order.
    packets: u64,
    /// The latest stamp.
    high: u64,
    /// How far two that follow each other lie apart at most.
    gap: u64,
}

impl Level {
    /// Whether it is, if the stamps leap so far from there to where they were.
    fn is_disorder(&self, leap: u64) -> bool {
        let by = self.began.by;
        let usual = self.gap.saturating_mul(LEAP);
        let is_silence = self.packets >= MANY
            && (LATE..=MOST_LATE).contains(&by)
            && leap.abs_diff(by) > usual.max(LATE);
        leap > usual && !is_silence
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            packets: 0,
            levels: Vec::new(),
            settled: Vec::new(),
            sum: 0,
            limit: LEAST_STEP,
            forward: 0,
            recent: [None; 2],
        }
    }
}

impl Steps {
    /// Takes the next stamp into account.
    pub(super) fn look_at(&mut self, stamp: u64) {
        self.packets += 1;
        while let [.., below, level] = *self.levels.as_slice() {
            let leap = stamp.saturating_sub(level.high);
            let was_senseless = level.began.by.min(leap) > MOST_LATE;
            if stamp < below.high && !was_senseless {
                break;
            }
            self.levels.pop();
            if !was_senseless && !level.is_disorder(leap) {
                self.settle(level);
            } else if level.packets > 1 {
                // One alone may be anything.
                self.is_disorder(level.began.by);
            }
        }
        let by = match self.levels.last_mut() {
            None => 0,
            Some(level) if stamp >= level.high => {
                let gap = stamp - level.high;
                level.packets += 1;
                level.gap = level.gap.max(gap);
                level.high = stamp;
                self.forward = self.forward.saturating_add(gap);
                return;
            }
            Some(level) => level.high - stamp,
        };
        if self.levels.is_empty() || by > self.limit {
            self.begin(stamp, by);
        }
    }

    /// Packets are out of order by that much, and may be by twice as much.
    fn is_disorder(&mut self, by: u64) {
        let limit = by.saturating_mul(2);
        if limit <= self.limit || by > MOST_LATE {
            return;
        }
        // It grows but seldom, so that nobody can have all that is settled looked at all the time.
        self.limit = limit.checked_next_power_of_two().unwrap_or(u64::MAX);
        self.settled.retain(|it| it.by > self.limit);
        let settled = self.settled.iter().map(|it| it.by);
        self.sum = settled.fold(0, u64::saturating_add);
    }

    fn begin(&mut self, stamp: u64, by: u64) {
        if by <= MOST_LATE {
            let [older, newer] = self.recent;
            self.recent = [newer, Some((self.forward, by))];
            if let (Some((then, first)), Some((_, second))) = (older, newer)
                && self.forward - then <= second.saturating_add(by).saturating_mul(PART)
            {
                self.is_disorder(first.min(second).min(by));
                if by <= self.limit {
                    return;
                }
            }
        }
        if self.levels.len() == MOST_LEVELS {
            self.levels.remove(0);
            let lowest = self.levels[0];
            self.settle(lowest);
        }
        let packet = self.packets;
        self.levels.push(Level {
            began: SetBack { packet, by },
            packets: 1,
            high: stamp,
            gap: 0,
        });
    }

    fn settle(&mut self, level: Level) {
        if self.settled.len() < MOST_SET_BACK && self.counts(&level) {
            self.settled.push(level.began);
            self.sum = self.sum.saturating_add(level.began.by);
        }
    }

    /// Whether the clock was set back where it began, for all that is known until now.
    fn counts(&self, level: &Level) -> bool {
        let by = level.began.by;
        by > self.limit && (by <= MOST_LATE || level.packets > 1)
    }

    /// Where it was, as far as is known, among the steps whose end has not come.
    fn pending(&self) -> impl Iterator<Item = SetBack> {
        let levels = self.levels.iter().skip(1);
        levels
            .filter(|level| self.counts(level))
            .map(|level| level.began)
    }

    /// When the clock was set back, as far as the stamps until now tell, in the capture's order.
    pub(super) fn set_back(&self) -> Vec<SetBack> {
        let all = self.settled.iter().copied().chain(self.pending());
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|it| it.packet);
        all.truncate(MOST_SET_BACK);
        all
    }

    /// By how many nanoseconds it has been set back in all, as far as the stamps until now tell.
    pub(super) fn ahead(&self) -> u64 {
        let pending = self.pending().map(|it| it.by);
        pending.fold(self.sum, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: u64 = LEAST_STEP / 10;

    /// Before which of the packets stamped so the clock was set back, and by how many tenths of a
    /// second. They are in tenths themselves.
    fn set_back(stamps: &[u64]) -> Vec<(u64, u64)> {
        let mut steps = Steps::default();
        for stamp in stamps {
            steps.look_at(stamp * TENTH);
        }
        let set_back = steps.set_back();
        let all: u64 = set_back.iter().map(|it| it.by).sum();
        assert_eq!(all, steps.ahead());
        let set_back = set_back.iter().map(|it| (it.packet, it.by / TENTH));
        set_back.collect()
    }

    /// Streams that are so far behind, written in turns, each time so many packets of each.
    fn in_turns(lags: &[u64], each: u64, step: u64) -> Vec<u64> {
        let mut stamps = Vec::new();
        for turn in 1..=20 {
            for lag in lags {
                let start = 100 + turn * each * step - lag;
                stamps.extend((0..each).map(|n| start + n * step));
            }
        }
        stamps
    }

    #[test]
    fn stamps_that_stay_behind_show_that_the_clock_was_set_back() {
        assert_eq!(set_back(&[500, 501, 400, 401, 402]), [(3, 101)]);
        assert_eq!(set_back(&[500, 501, 400, 401, 300]), [(3, 101), (5, 101)]);
    }

    #[test]
    fn stamps_that_come_back_as_time_does_show_that_the_clock_was_set_back() {
        let mut stamps: Vec<u64> = (200..500).chain(300..900).collect();
        assert_eq!(set_back(&stamps), [(301, 199)]);
        stamps.extend(500..510);
        assert_eq!(set_back(&stamps), [(301, 199), (901, 399)]);
    }

    #[test]
    fn stamps_that_come_back_at_one_leap_show_disorder() {
        assert_eq!(set_back(&[500, 510, 490, 520, 530]), []);
        assert_eq!(set_back(&[500, 510, 490, 491, 492, 520, 530]), []);
    }

    #[test]
    fn a_silence_after_the_clock_was_set_back_is_no_disorder() {
        let hour = 36_000;
        let mut stamps: Vec<u64> = (99_990..100_000).step_by(2).collect();
        stamps.extend((64_000..64_300).step_by(10));
        let set = (6, 35_998);
        assert_eq!(set_back(&stamps), [set]);
        for silence in [1, 15, 21, 38, 200] {
            let mut stamps = stamps.clone();
            stamps.push(64_290 + silence * hour / 20);
            assert_eq!(set_back(&stamps), [set], "{silence}");
        }
    }

    #[test]
    fn a_clock_that_is_set_forth_again_leaves_no_time_behind() {
        let mut stamps: Vec<u64> = (100_000..100_100).collect();
        stamps.extend(64_100..64_400);
        stamps.extend(100_400..100_500);
        assert_eq!(set_back(&stamps), []);
    }

    #[test]
    fn many_that_are_a_little_late_once_are_disorder() {
        let mut stamps: Vec<u64> = (500..600).collect();
        stamps.extend(580..597);
        stamps.extend([9_000, 9_001]);
        assert_eq!(set_back(&stamps), []);
    }

    #[test]
    fn what_happens_again_and_again_is_disorder() {
        for lags in [
            &[0, 12][..],
            &[12, 0],
            &[0, 30, 12],
            &[0, 12, 30],
            &[0, 0],
            &[0, 0, 0],
        ] {
            for (each, step) in [(1, 1), (1, 3), (20, 1), (5, 2), (100, 1)] {
                let stamps = in_turns(lags, each, step);
                assert_eq!(set_back(&stamps), [], "{lags:?} {each} {step}");
                let ends_early = &stamps[..stamps.len() - 1];
                assert_eq!(set_back(ends_early), [], "{lags:?} {each} {step}");
            }
        }
    }

    #[test]
    fn senseless_stamps_hide_no_clock_that_is_set_back() {
        let day = 24 * 60 * 60 * 10;
        let start = 20_000 * day;
        let right = (start..start + 10).chain(start - 36_000..start - 30_000);
        let right: Vec<u64> = right.collect();
        for senseless in [&[0][..], &[0, 0], &[0, 1, 2, 2], &[start - 2 * day]] {
            for place in (0..20).chain([right.len()]) {
                let mut stamps = right.clone();
                stamps.splice(place..place, senseless.iter().copied());
                let before = if place <= 10 { senseless.len() } else { 0 };
                let expected = (11 + before as u64, 36_009);
                let found = set_back(&stamps);
                assert!(found.contains(&expected), "{senseless:?} {place} {found:?}");
                let is_last = place == right.len() && senseless.len() > 1;
                assert_eq!(found.len(), 1 + usize::from(is_last), "{found:?}");
            }
        }
        let mut often = Vec::new();
        for some in right.chunks(5) {
            often.extend(some);
            often.extend([0, 0]);
        }
        let found = set_back(&often);
        assert_eq!(found[0], (15, 36_009), "{found:?}");
    }

    #[test]
    fn one_packet_that_is_late_hides_no_clock_that_is_set_back() {
        let mut stamps = vec![100_000, 100_010, 40_000, 100_020];
        stamps.extend(64_000..64_100);
        assert_eq!(set_back(&stamps), [(5, 36_020)]);
    }

    #[test]
    fn a_clock_that_is_set_back_beside_disorder_is_noticed() {
        let turns = in_turns(&[0, 12], 1, 1);
        let later = turns.iter().map(|stamp| stamp + 1_000);
        let stamps: Vec<u64> = later.chain(turns.iter().copied()).collect();
        assert_eq!(set_back(&stamps), [(41, 1_019)]);
    }

    #[test]
    fn there_is_a_bound_to_what_is_kept() {
        let mut steps = Steps::default();
        for n in 0..2 * MOST_SET_BACK as u64 {
            for second in 0..20 {
                steps.look_at((n * 17 + second) * LEAST_STEP);
            }
        }
        assert_eq!(steps.set_back().len(), MOST_SET_BACK);
        let mut steps = Steps::default();
        for n in 0..1_000 {
            steps.begin(1, 3_u64.saturating_pow(n).saturating_mul(LEAST_STEP));
        }
        assert!(steps.levels.len() <= MOST_LEVELS);
    }
}
