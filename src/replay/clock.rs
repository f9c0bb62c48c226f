//! The time of a capture, which does not always go forward, and that of the engine, which does.

use std::time::Duration;

use super::Counts;
use super::steps::{SetBack, Steps};
use crate::model::Time;

/// What a first reading of a capture tells about its time.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The stamp of the first packet that has one.
    pub(super) start: Option<u64>,
    /// In the capture's order.
    pub(super) set_back: Vec<SetBack>,
}

/// What time it is.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When the first packet came, by a clock that is never set back.
    pub(super) first: Time,
    /// When the last one came, by the same; `None` before the first.
    pub(super) now: Option<Time>,
    known: Option<Course>,
    /// Of a capture that is read but once.
    steps: Steps,
    /// How many packets had a time.
    timed: u64,
    /// How much `now` is ahead of the capture's clock, in nanoseconds.
    ahead: u64,
    /// How much it is behind: where those at the start have no time, and when the capture begins is
    /// not known yet, it begins in 1970.
    behind: u64,
}

impl Clock {
    /// For a capture that was read before, if it was.
    pub(super) fn new(known: Option<Course>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// The time of a packet. What was written too late counts as of the moment before, and so does
    /// what follows when the capture's clock is set back: nobody knows how much time passed.
    pub(super) fn follow(&mut self, at: Option<u64>, counts: &mut Counts) -> Time {
        let start = self.known.as_ref().and_then(|known| known.start);
        let before = match self.now {
            Some(before) => before,
            None => Time(start.or(at).unwrap_or_default()),
        };
        if self.now.is_none() {
            self.first = before;
        }
        let mut now = before;
        if let Some(at) = at {
            self.timed += 1;
            self.mind(at);
            if self.timed == 1 {
                self.behind = at.saturating_sub(before.0);
            }
            now = Time(at.saturating_add(self.ahead).saturating_sub(self.behind));
            if now < before {
                let late = before.since(now);
                counts.out_of_order += 1;
                counts.most_out_of_order = counts.most_out_of_order.max(late);
                now = before;
            }
        } else {
            counts.untimed += 1;
        }
        self.now = Some(now);
        now
    }

    /// Whether the clock was set back before this packet.
    fn mind(&mut self, at: u64) {
        let Some(known) = &self.known else {
            self.steps.look_at(at);
            self.ahead = self.steps.ahead();
            return;
        };
        let place = known
            .set_back
            .binary_search_by_key(&self.timed, |it| it.packet);
        if let Ok(place) = place {
            self.ahead = self.ahead.saturating_add(known.set_back[place].by);
        }
    }

    /// What the capture's clock shows then, in nanoseconds since 1970.
    pub(super) fn shown(&self, time: Time) -> u64 {
        time.0
            .saturating_add(self.behind)
            .saturating_sub(self.ahead)
    }

    /// What it showed at the first packet and at the last; `None` before the first.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let last = self.shown(self.now?);
        Some((self.first.0.saturating_add(self.behind), last))
    }

    /// How often the clock was set back until now, and by how much at most.
    pub(super) fn set_back(&self) -> (u64, Duration) {
        let all = match &self.known {
            Some(known) => known.set_back.clone(),
            None => self.steps.set_back(),
        };
        let most = all.iter().map(|it| it.by).max().unwrap_or_default();
        (all.len() as u64, Duration::from_nanos(most))
    }
}
