//! The kernel's clocks, in nanoseconds (`clock_gettime(2)`).

/// Nanoseconds of `CLOCK_BOOTTIME`: since boot, suspend included, untouched by clock changes.
pub fn boottime() -> u64 {
    nanoseconds(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the same without suspend. The timeouts of kernel sets run
/// on it.
pub fn monotonic() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of `CLOCK_REALTIME`: since 1970, and it jumps.
pub fn realtime() -> u64 {
    nanoseconds(libc::CLOCK_REALTIME)
}

/// A moment as the machine's clock on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTime {
    /// Of our era.
    pub year: i32,
    /// From 1.
    pub month: i32,
    /// From 1.
    pub day: i32,
    /// From 0.
    pub hour: i32,
    /// From 0.
    pub minute: i32,
}

/// The time here and now, in the machine's time zone (`TZ`, /etc/localtime); `None` if that
/// cannot be told.
pub fn wall_time() -> Option<WallTime> {
    let seconds = realtime() / 1_000_000_000;
    let seconds = libc::time_t::try_from(seconds).ok()?;
    let mut broken = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both point to what they should, for as long as the call lasts; `localtime_r` keeps
    // neither. Nobody in this program changes the environment, which it reads.
    let filled = unsafe { libc::localtime_r(&raw const seconds, broken.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: the call has returned the address of what it has filled in.
    let broken = unsafe { broken.assume_init() };
    Some(WallTime {
        year: broken.tm_year.saturating_add(1900),
        month: broken.tm_mon + 1,
        day: broken.tm_mday,
        hour: broken.tm_hour,
        minute: broken.tm_min,
    })
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to. The call fails only for a clock that does
    // not exist, and all have existed since Linux 2.6.39; `time` would then stay zero.
    unsafe {
        libc::clock_gettime(clock, &raw mut time);
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_never_goes_back_and_the_wall_clock_is_past_2020() {
        let first = boottime();
        assert!(first > 0);
        assert!(boottime() >= first);
        let awake = monotonic();
        assert!((1..=boottime()).contains(&awake));
        assert!(realtime() > 1_577_836_800_000_000_000);
    }

    #[test]
    fn the_wall_clock_shows_a_day_of_this_century() {
        let time = wall_time().unwrap();
        assert!((2020..2100).contains(&time.year));
        assert!((1..=12).contains(&time.month) && (1..=31).contains(&time.day));
        assert!((0..24).contains(&time.hour) && (0..60).contains(&time.minute));
    }
}
