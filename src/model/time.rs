use std::fmt;
use std::time::Duration;

/// A moment: nanoseconds of `CLOCK_BOOTTIME` (`clock_gettime(2)`), which goes on in suspend and
/// which no change of the wall clock touches. The core never reads a clock; it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment that many seconds after boot.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// The moment `span` later; the end of time where that does not fit.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was; nothing if it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How long something is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lifetime {
    /// That long.
    For(Duration),
    /// Until it is taken back.
    Never,
}

impl Lifetime {
    /// When it ends, if it starts now.
    pub fn deadline(self, now: Time) -> Deadline {
        match self {
            Lifetime::For(span) => Deadline::At(now.after(span)),
            Lifetime::Never => Deadline::Never,
        }
    }

    /// Whole seconds, rounded up; `None` is never.
    pub fn as_secs(self) -> Option<u64> {
        match self {
            Lifetime::For(span) => Some(span.as_secs() + u64::from(span.subsec_nanos() > 0)),
            Lifetime::Never => None,
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lifetime::For(span) = self else {
            return f.write_str("never");
        };
        let (secs, millis) = (span.as_secs(), span.subsec_millis());
        if secs == 0 && millis > 0 {
            return write!(f, "{millis}ms");
        }
        let parts = [
            (secs / 86400, "d"),
            (secs / 3600 % 24, "h"),
            (secs / 60 % 60, "m"),
        ];
        for (count, unit) in parts {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        if !secs.is_multiple_of(60) || secs == 0 {
            write!(f, "{}s", secs % 60)?;
        }
        Ok(())
    }
}

/// When something ends. `Never` is later than every moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deadline {
    /// At that moment.
    At(Time),
    /// Not by itself.
    Never,
}

impl Deadline {
    /// Whether it has come.
    pub fn is_over(self, now: Time) -> bool {
        matches!(self, Deadline::At(end) if end <= now)
    }

    /// How long it still holds.
    pub fn remaining(self, now: Time) -> Lifetime {
        match self {
            Deadline::At(end) => Lifetime::For(end.since(now)),
            Deadline::Never => Lifetime::Never,
        }
    }
}

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without a unit.
    #[error("`{0}` has no unit: write `{0}s` for seconds")]
    NoUnit(String),
    /// Not understood.
    #[error("`{0}` is not a duration: expected one such as `300s`, `5m`, `1h30m` or `never`")]
    Malformed(String),
    /// Zero, or more than a hundred years.
    #[error("the duration `{0}` is out of range: expected more than zero and at most 36500d")]
    Range(String),
}

const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Reads `300s`, `5m`, `1h30m`, `100ms`, `2d` or `never`.
pub fn parse_duration(text: &str) -> Result<Lifetime, DurationError> {
    if text == "never" {
        return Ok(Lifetime::Never);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::NoUnit(text.to_owned()));
    }
    let malformed = || DurationError::Malformed(text.to_owned());
    let range = || DurationError::Range(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u32 = match number.parse() {
            Ok(number) => number,
            Err(_) if number.is_empty() => return Err(malformed()),
            Err(_) => return Err(range()),
        };
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return Err(malformed()),
        };
        total = unit
            .checked_mul(number)
            .and_then(|d| total.checked_add(d))
            .ok_or_else(range)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(malformed());
    }
    if total.is_zero() || total > LONGEST {
        return Err(range());
    }
    Ok(Lifetime::For(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        let secs = |s| Ok(Lifetime::For(Duration::from_secs(s)));
        assert_eq!(parse_duration("300s"), secs(300));
        assert_eq!(parse_duration("5m"), secs(300));
        assert_eq!(parse_duration("1h30m"), secs(5400));
        assert_eq!(parse_duration("2d"), secs(172_800));
        assert_eq!(parse_duration("never"), Ok(Lifetime::Never));
        assert_eq!(
            parse_duration("300").unwrap_err().to_string(),
            "`300` has no unit: write `300s` for seconds"
        );
        for bad in [
            "",
            "s",
            "5 m",
            "1.5h",
            "-3s",
            "5x",
            "5m3",
            "0s",
            "99999999999s",
            "9999999d",
            "é",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lifetimes_read_back_as_written() {
        for text in ["300s", "1h30m", "2d", "59s", "100ms", "never"] {
            let lifetime = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&lifetime.to_string()), Ok(lifetime));
        }
        assert_eq!(parse_duration("300s").unwrap().to_string(), "5m");
    }

    #[test]
    fn never_is_later_than_every_moment() {
        assert!(Deadline::Never > Deadline::At(Time(u64::MAX)));
        assert!(!Deadline::Never.is_over(Time(u64::MAX)));
        assert!(Deadline::At(Time(5)).is_over(Time(5)));
    }
}
