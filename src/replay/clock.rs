//! The time of a capture, which does not always go forward, and that of the engine, which does.

use std::time::Duration;

use super::Counts;
use crate::model::Time;

/// Packets that are stamped earlier than one before them by less are out of order; by more, somebody
/// has set the clock.
const LEAST_STEP: Duration = Duration::from_secs(1);

/// What time it is.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When the first packet came.
    pub(super) first: Time,
    /// When the last one came, by a clock that is never set back; `None` before the first.
    pub(super) now: Option<Time>,
    /// How much that is ahead of the capture's.
    ahead: Duration,
}

impl Clock {
    /// Says when the first packet came, where that is known before it is taken into account.
    pub(super) fn begin(&mut self, at: Time) {
        self.first = at;
        self.now = Some(at);
    }

    /// The time of a packet. What was written too late counts as of the moment before, and so does
    /// what follows when the capture's clock is set back: nobody knows how much time passed.
    pub(super) fn follow(&mut self, at: Option<u64>, counts: &mut Counts) -> Time {
        let at = at.map(|at| Time(at).after(self.ahead));
        let now = match (self.now, at) {
            (None, at) => {
                self.first = at.unwrap_or_default();
                self.first
            }
            (Some(before), Some(at)) if at < before => {
                let back = before.since(at);
                if back > LEAST_STEP {
                    counts.set_back += 1;
                    counts.most_set_back = counts.most_set_back.max(back);
                    self.ahead = self.ahead.saturating_add(back);
                } else {
                    counts.out_of_order += 1;
                    counts.most_out_of_order = counts.most_out_of_order.max(back);
                }
                before
            }
            (Some(before), at) => at.unwrap_or(before),
        };
        self.now = Some(now);
        now
    }

    /// What the capture's clock shows then, in nanoseconds since 1970.
    pub(super) fn shown(&self, time: Time) -> u64 {
        let ahead = u64::try_from(self.ahead.as_nanos()).unwrap_or(u64::MAX);
        time.0.saturating_sub(ahead)
    }
}
