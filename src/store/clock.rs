//! What is left of a deadline that was written down, perhaps in another boot.
//!
//! Within a boot, `CLOCK_BOOTTIME` alone counts, so that a wall clock that jumps changes nothing.
//! Across a reboot only the wall clock can tell how long the machine was down. It is compared with
//! the last moment at which both clocks were noted together, since a wall clock is more often right
//! later (when it has been set) than when the row was written; and whatever it says, nothing lasts
//! longer than was left of it at that moment.

use std::time::Duration;

use crate::model::{Deadline, Time};

/// Both clocks at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clocks {
    /// Which boot this is (random(4)).
    pub boot_id: String,
    /// `CLOCK_BOOTTIME`.
    pub boot: Time,
    /// `CLOCK_REALTIME` in milliseconds since 1970; negative before.
    pub wall_ms: i64,
}

/// A deadline as it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// In which boot.
    pub(super) boot_id: String,
    /// In that boot's `CLOCK_BOOTTIME`; `None` is never.
    pub(super) ends_boot: Option<Time>,
    /// In milliseconds of the wall clock as it was then.
    pub(super) ends_wall_ms: i64,
    /// What was left of it then, in milliseconds.
    pub(super) left_ms: i64,
}

impl Written {
    /// Notes a deadline of this boot.
    pub(super) fn new(deadline: Deadline, now: &Clocks) -> Self {
        let (ends_boot, left_ms) = match deadline {
            Deadline::Never => (None, 0),
            Deadline::At(end) => (Some(end), millis(end.since(now.boot))),
        };
        Self {
            boot_id: now.boot_id.clone(),
            ends_boot,
            ends_wall_ms: now.wall_ms.saturating_add(left_ms),
            left_ms,
        }
    }

    /// When it ends in this boot. `noted` is the last moment at which both clocks were noted.
    pub(super) fn deadline(&self, noted: Option<&Clocks>, now: &Clocks) -> Deadline {
        let Some(end) = self.ends_boot else {
            return Deadline::Never;
        };
        if self.boot_id == now.boot_id {
            return Deadline::At(end);
        }
        let (ends_wall, most) = match noted.filter(|noted| noted.boot_id == self.boot_id) {
            Some(noted) => {
                let left = millis(end.since(noted.boot)).min(self.left_ms);
                (noted.wall_ms.saturating_add(left), left)
            }
            None => (self.ends_wall_ms, self.left_ms),
        };
        let left = ends_wall.saturating_sub(now.wall_ms).clamp(0, most.max(0));
        Deadline::At(now.boot.after(Duration::from_millis(left.unsigned_abs())))
    }
}

/// Rounded down: nothing is prolonged.
fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;
    const NOON: i64 = 1_800_000_000_000;

    fn clocks(boot_id: &str, secs: u64, wall_ms: i64) -> Clocks {
        Clocks {
            boot_id: boot_id.to_owned(),
            boot: Time::from_secs(secs),
            wall_ms,
        }
    }

    fn left(deadline: Deadline, now: &Clocks) -> i64 {
        match deadline {
            Deadline::Never => i64::MAX,
            Deadline::At(end) => millis(end.since(now.boot)),
        }
    }

    #[test]
    fn what_is_left_after_a_reboot_is_what_the_wall_clock_says_and_never_more_than_there_was() {
        // Written at second 100 of boot `a`, to hold for 1000 s.
        let written = clocks("a", 100, NOON);
        let row = Written::new(Deadline::At(Time::from_secs(1100)), &written);
        // Both clocks were last noted 200 s later, when the wall clock had been set right.
        let steady = clocks("a", 300, NOON + 200_000);
        let was_1970 = clocks("a", 300, NOON + 200_000 + 3 * DAY);
        let cases = [
            // (noted, wall clock now, milliseconds left)
            (None, NOON, 1_000_000),
            (None, NOON + 400_000, 600_000),
            (None, NOON + 1_000_000, 0),
            (None, NOON + DAY, 0),
            (None, NOON - DAY, 1_000_000),
            (Some(&steady), NOON + 200_000, 800_000),
            (Some(&steady), NOON + 260_000, 740_000),
            (Some(&steady), NOON + DAY, 0),
            (Some(&steady), NOON - DAY, 800_000),
            (Some(&steady), 0, 800_000),
            (Some(&was_1970), NOON + 3 * DAY + 260_000, 740_000),
            (Some(&was_1970), NOON + 3 * DAY + 1_100_000, 0),
        ];
        for (noted, wall, expected) in cases {
            let now = clocks("b", 7, wall);
            let found = left(row.deadline(noted, &now), &now);
            assert_eq!(found, expected, "noted {noted:?}, now {wall}");
        }
    }

    #[test]
    fn clocks_noted_in_another_boot_say_nothing() {
        let written = clocks("a", 100, NOON);
        let row = Written::new(Deadline::At(Time::from_secs(1100)), &written);
        let noted = clocks("c", 5_000, NOON + 500_000);
        let now = clocks("b", 7, NOON + 600_000);
        assert_eq!(left(row.deadline(Some(&noted), &now), &now), 400_000);
    }

    proptest! {
        #[test]
        fn within_a_boot_the_wall_clock_does_not_matter(
            end in any::<u32>(), at in any::<u32>(), wall in any::<i64>(), later in any::<i64>()
        ) {
            let deadline = Deadline::At(Time::from_secs(end.into()));
            let row = Written::new(deadline, &clocks("a", at.into(), wall));
            let noted = clocks("a", at.into(), later);
            let now = clocks("a", u64::from(at) + 5, later);
            prop_assert_eq!(row.deadline(Some(&noted), &now), deadline);
        }

        #[test]
        fn never_stays_never(wall in any::<i64>(), later in any::<i64>(), same in any::<bool>()) {
            let row = Written::new(Deadline::Never, &clocks("a", 1, wall));
            let now = clocks(if same { "a" } else { "b" }, 2, later);
            prop_assert_eq!(row.deadline(None, &now), Deadline::Never);
        }

        #[test]
        fn nothing_lasts_longer_than_was_left_of_it_when_the_clocks_were_noted(
            span in 0u64..1_000_000_000, heard in 0u64..1_000_000_000,
            wall in any::<i64>(), noted_wall in any::<i64>(), later in any::<i64>(), boot in any::<u32>()
        ) {
            let row = Written::new(Deadline::At(Time::from_secs(100 + span)), &clocks("a", 100, wall));
            let noted = clocks("a", 100 + heard, noted_wall);
            let now = clocks("b", boot.into(), later);
            let most = i64::try_from(span.saturating_sub(heard)).unwrap() * 1000;
            prop_assert!(left(row.deadline(Some(&noted), &now), &now) <= most);
            let most = i64::try_from(span).unwrap() * 1000;
            prop_assert!(left(row.deadline(None, &now), &now) <= most);
        }

        #[test]
        fn with_a_steady_wall_clock_what_is_left_is_true(
            span in 0u64..10_000_000, heard in 0u64..10_000_000, down in 0u64..10_000_000
        ) {
            let secs = |secs: u64| i64::try_from(secs).unwrap() * 1000;
            let row = Written::new(Deadline::At(Time::from_secs(100 + span)), &clocks("a", 100, NOON));
            let noted = clocks("a", 100 + heard, NOON + secs(heard));
            let now = clocks("b", 3, NOON + secs(heard + down));
            let truth = secs(span.saturating_sub(heard + down));
            prop_assert_eq!(left(row.deadline(Some(&noted), &now), &now), truth);
            prop_assert_eq!(left(row.deadline(None, &now), &now), truth);
        }
    }
}
