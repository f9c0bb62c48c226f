//! How the thread that handles packets is scheduled, and what keeps it from taking a CPU whole.
//!
//! Whoever has knocked waits for this thread to get a CPU, and nothing else takes as long. So it
//! comes before all ordinary threads, as a real-time one where that may be had, and else with the
//! best nice value. It gives the CPU back by itself: after each turn it pauses once it has had more
//! than half of one, and what is not about packets is done as an ordinary thread. Plain packets
//! thus take half of a CPU in the long run. A flood of complete decoys, a turn of which costs more
//! than a pause pays for, takes two thirds: longer pauses would lose the knocks among them.

use std::time::Duration;

use tracing::debug;

use crate::model::Time;
use crate::sys::sched::{self, Class};

/// As the scheduler calls it.
const BEST_NICE: i32 = -20;

/// What was to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheduling {
    /// `SCHED_FIFO`.
    RealTime,
    /// A nice value of −20.
    Nice,
    /// As everybody else.
    Ordinary,
}

impl Scheduling {
    /// Takes what is to be had, for the calling thread.
    pub(super) fn take() -> Self {
        let is_nice = sched::set_nice(BEST_NICE)
            .inspect_err(|error| debug!("no nice value of {BEST_NICE}: {error}"))
            .is_ok();
        match sched::set_class(Class::RealTime) {
            Ok(()) => return Scheduling::RealTime,
            Err(error) => debug!("no real-time scheduling: {error}"),
        }
        // So that what is started does not inherit the nice value.
        drop(sched::set_class(Class::Ordinary));
        if is_nice {
            Scheduling::Nice
        } else {
            Scheduling::Ordinary
        }
    }

    /// As `status` says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Scheduling::RealTime => "fifo",
            Scheduling::Nice => "nice",
            Scheduling::Ordinary => "ordinary",
        }
    }

    /// Until the guard is dropped this thread is an ordinary one: what may take long must not keep
    /// others from their turn.
    pub(super) fn ease(self) -> Eased {
        let is_first = self == Scheduling::RealTime
            && sched::class().is_ok_and(|class| class == Class::RealTime);
        Eased(is_first && sched::set_class(Class::Ordinary).is_ok())
    }
}

/// See [`Scheduling::ease`].
#[must_use]
pub(super) struct Eased(bool);

impl Drop for Eased {
    fn drop(&mut self) {
        if self.0
            && let Err(error) = sched::set_class(Class::RealTime)
        {
            debug!("no real-time scheduling any more: {error}");
        }
    }
}

/// So much CPU time at once is not made up for.
const FREE: Duration = Duration::from_millis(1);
/// Whatever came before, no more than that is made up for.
const MOST: Duration = Duration::from_millis(2);
/// How long a pause is. The ring holds what 200,000 packets a second bring in a hundred of them.
pub(super) const PAUSE: Duration = Duration::from_micros(200);

/// Says when it is time for a pause: work adds to a debt, and half of the time that passes pays
/// it back.
#[derive(Debug, Default)]
pub(super) struct Pace {
    debt: Duration,
    worked: Duration,
    at: Time,
}

impl Pace {
    /// Whether it is: this thread has used so much CPU time up to now.
    pub(super) fn is_over(&mut self, worked: Duration, now: Time) -> bool {
        let work = worked.saturating_sub(self.worked);
        let paid = now.since(self.at) / 2;
        (self.worked, self.at) = (worked, now);
        self.debt = (self.debt + work).saturating_sub(paid).min(MOST);
        self.debt > FREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works whenever it may, for so many turns of that length; the share of the time.
    fn share(turn: Duration, turns: u32) -> f64 {
        let (mut pace, mut now, mut worked) = (Pace::default(), Time(0), Duration::ZERO);
        for _ in 0..turns {
            now = now.after(turn);
            worked += turn;
            while pace.is_over(worked, now) {
                now = now.after(PAUSE);
            }
        }
        worked.as_secs_f64() / now.since(Time(0)).as_secs_f64()
    }

    #[test]
    fn whoever_never_stops_working_gets_half_of_a_cpu() {
        for micros in [10, 100, 1_000] {
            let share = share(Duration::from_micros(micros), 10_000);
            assert!((0.4..=0.51).contains(&share), "{micros} µs: {share}");
        }
    }

    #[test]
    fn a_little_work_now_and_then_is_never_paused() {
        let (mut pace, mut now, mut worked) = (Pace::default(), Time(0), Duration::ZERO);
        for _ in 0..10_000 {
            now = now.after(Duration::from_micros(100));
            worked += Duration::from_micros(40);
            assert!(!pace.is_over(worked, now));
        }
    }

    #[test]
    fn one_long_piece_of_work_costs_few_pauses() {
        let mut pace = Pace::default();
        let (mut now, worked) = (Time::from_secs(1), Duration::from_secs(1));
        let mut pauses = 0;
        while pace.is_over(worked, now) {
            now = now.after(PAUSE);
            pauses += 1;
        }
        assert!((1..=20).contains(&pauses), "{pauses}");
    }
}
