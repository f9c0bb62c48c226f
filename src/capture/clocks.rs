//! From the kernel's time stamps, which are of the wall clock, to the time that everything else
//! is measured in.

use crate::model::Time;

/// Both clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clocks {
    /// `CLOCK_BOOTTIME`
    pub(super) boot: u64,
    /// `CLOCK_REALTIME`
    pub(super) real: u64,
}

impl Clocks {
    /// When a packet stamped `real` was received, if it was after `earliest`. Between `earliest`
    /// and now lies the answer even if the wall clock jumped between the stamp and now.
    pub(super) fn received(self, real: u64, earliest: Time) -> Time {
        let age = i128::from(self.real) - i128::from(real);
        let at = u64::try_from((i128::from(self.boot) - age).max(0)).unwrap_or(u64::MAX);
        Time(at.max(earliest.0).min(self.boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const YEAR_2026: u64 = 1_790_000_000 * SECOND;

    #[test]
    fn a_stamp_is_as_long_ago_on_either_clock() {
        let now = Clocks {
            boot: 100 * SECOND,
            real: YEAR_2026,
        };
        assert_eq!(
            now.received(YEAR_2026 - 3 * SECOND, Time(0)),
            Time::from_secs(97)
        );
        assert_eq!(now.received(YEAR_2026, Time(0)), Time::from_secs(100));
    }

    #[test]
    fn a_jump_of_the_wall_clock_cannot_move_a_packet_far() {
        let now = Clocks {
            boot: 100 * SECOND,
            real: YEAR_2026,
        };
        let earliest = Time::from_secs(99);
        for stamp in [
            0,
            YEAR_2026 - 3600 * SECOND,
            YEAR_2026 + 3600 * SECOND,
            u64::MAX,
        ] {
            let at = now.received(stamp, earliest);
            assert!(earliest <= at && at <= Time(now.boot), "{stamp}: {at:?}");
        }
    }
}
