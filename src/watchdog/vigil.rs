use std::time::Duration;

use crate::model::Time;

/// A listener that is this late was away itself (stopped, suspended, or starved as the whole
/// machine was), and what it did not hear proves nothing.
const AWAY: Duration = Duration::from_secs(1);

/// The wait for the next sign of life.
#[derive(Debug)]
pub struct Vigil {
    patience: Duration,
    until: Time,
}

/// What silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing yet: listen for that long, and look again.
    Wait(Duration),
    /// It hangs.
    Hung,
}

impl Vigil {
    /// Starts waiting.
    pub fn new(patience: Duration, now: Time) -> Self {
        Self {
            patience,
            until: now.after(patience),
        }
    }

    /// There was a sign.
    pub fn heard(&mut self, now: Time) {
        self.until = now.after(self.patience);
    }

    /// What to think, once all that was said has been heard.
    pub fn look(&mut self, now: Time) -> Verdict {
        if now >= self.until {
            if now.since(self.until) < AWAY {
                return Verdict::Hung;
            }
            self.heard(now);
        }
        Verdict::Wait(self.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    #[test]
    fn silence_is_a_hang_when_the_patience_is_over() {
        let mut vigil = Vigil::new(PATIENCE, at(0));
        assert_eq!(vigil.look(at(3_000)), Verdict::Wait(Duration::from_secs(5)));
        assert_eq!(
            vigil.look(at(7_999)),
            Verdict::Wait(Duration::from_millis(1))
        );
        assert_eq!(vigil.look(at(8_000)), Verdict::Hung);
    }

    #[test]
    fn each_sign_starts_the_wait_anew() {
        let mut vigil = Vigil::new(PATIENCE, at(0));
        for millis in (0..100_000).step_by(3_000) {
            vigil.heard(at(millis));
            assert_eq!(vigil.look(at(millis)), Verdict::Wait(PATIENCE));
        }
    }

    #[test]
    fn whoever_was_away_does_not_judge() {
        let mut vigil = Vigil::new(PATIENCE, at(0));
        // Stopped, or suspended with the machine, and only now back.
        assert_eq!(vigil.look(at(60_000)), Verdict::Wait(PATIENCE));
        assert_eq!(vigil.look(at(68_000)), Verdict::Hung);
    }
}
