//! The kernel's clocks, in nanoseconds (`clock_gettime(2)`).

/// Nanoseconds of `CLOCK_BOOTTIME`: since boot, suspend included, untouched by clock changes.
pub fn boottime() -> u64 {
    nanoseconds(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds of `CLOCK_REALTIME`: since 1970, and it jumps.
pub fn realtime() -> u64 {
    nanoseconds(libc::CLOCK_REALTIME)
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to. The call fails only for a clock that does
    // not exist, and both have existed since Linux 2.6.39; `time` would then stay zero.
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
        assert!(realtime() > 1_577_836_800_000_000_000);
    }
}
