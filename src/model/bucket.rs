use super::Time;

/// A token bucket: `rate` a second, `burst` at once.
#[derive(Debug, Clone)]
pub struct Bucket {
    nanos_per_token: u64,
    capacity: u64,
    /// In nanoseconds' worth of tokens.
    filled: u64,
    last: Time,
}

impl Bucket {
    /// Full at first.
    pub fn new(rate: u64, burst: u64) -> Self {
        let nanos_per_token = 1_000_000_000 / rate;
        let capacity = burst * nanos_per_token;
        Self {
            nanos_per_token,
            capacity,
            filled: capacity,
            last: Time::default(),
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Time) -> bool {
        let passed = now.0.saturating_sub(self.last.0);
        self.last = self.last.max(now);
        self.filled = self.filled.saturating_add(passed).min(self.capacity);
        let enough = self.filled >= self.nanos_per_token;
        if enough {
            self.filled -= self.nanos_per_token;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_then_the_rate() {
        let mut bucket = Bucket::new(10, 5);
        let mut taken = |millis: u64| bucket.take(Time(millis * 1_000_000));
        assert_eq!((0..10).filter(|_| taken(1000)).count(), 5);
        assert!(!taken(1099));
        assert!(taken(1100) && !taken(1100));
        assert!(!taken(50), "a time that runs back gives nothing");
        assert_eq!((0..10).filter(|_| taken(100_000)).count(), 5);
    }
}
