//! Whether the machine has slept: the timers of kernel sets stand still meanwhile, deadlines do not.

use std::time::Duration;

/// A machine that slept for less is no concern of anybody's: deadlines are kept to the second.
const NOTABLE: Duration = Duration::from_secs(1);

/// Notices by two clocks, one of which stands still in suspend.
#[derive(Debug, Default)]
pub struct Sleep {
    /// By how much one was ahead of the other when it was last noticed.
    ahead: Option<Duration>,
    unsettled: bool,
}

impl Sleep {
    /// Looks at both clocks, each since boot: with suspend, and without. Whether the machine has
    /// slept since the last time, or since the first look.
    #[must_use]
    pub fn look(&mut self, boot: Duration, awake: Duration) -> bool {
        let ahead = boot.saturating_sub(awake);
        match self.ahead {
            // A little at a time adds up.
            Some(before) if ahead.saturating_sub(before) <= NOTABLE => false,
            before => {
                self.ahead = Some(ahead);
                self.unsettled |= before.is_some();
                before.is_some()
            }
        }
    }

    /// Whether it has slept and nobody has done anything about it yet.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Somebody has.
    pub fn settle(&mut self) {
        self.unsettled = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_slept_if_one_clock_got_ahead_of_the_other() {
        let ms = Duration::from_millis;
        // (since boot, of that awake, whether it has slept since)
        let looks = [
            // It had slept before we were started, which is not our business.
            (7_200_000, 3_600_000, false),
            (7_201_000, 3_601_000, false),
            // Read one after the other, the clocks never agree quite.
            (7_260_003, 3_660_000, false),
            (10_860_000, 3_661_000, true),
            (10_861_000, 3_662_000, false),
            (10_862_600, 3_662_900, false),
            (10_864_100, 3_663_600, true),
            (10_865_000, 3_664_500, false),
            (10_865_000, 3_664_510, false),
            (20_000_000, 3_664_600, true),
        ];
        let mut sleep = Sleep::default();
        for (boot, awake, expected) in looks {
            assert_eq!(sleep.look(ms(boot), ms(awake)), expected, "at {boot}");
            assert_eq!(sleep.is_unsettled(), expected, "at {boot}");
            sleep.settle();
        }
    }
}
