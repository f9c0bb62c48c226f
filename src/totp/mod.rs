//! Time-based sequences: which ports are to be knocked on follows from a shared secret and the
//! time, so that who has listened to a knock knows none of the next. As time-based one-time
//! passwords do it (RFC 6238): a step is 30 s of Unix time, the algorithm HMAC-SHA-256.
//!
//! The port at draw `n` of a step, for one family of addresses, is
//!
//! ```text
//! first + uint64(HMAC(secret, uint64(step) ‖ uint8(4 or 6) ‖ uint32(n))) mod (last − first + 1)
//! ```
//!
//! where all numbers are big-endian, and the first eight bytes of the HMAC count. Draws begin at 0;
//! a port that the sequence has already is passed over. IPv4 and IPv6 have sequences of their
//! own, since a host with both is knocked on over both, and each counts for one address.
#![forbid(unsafe_code)]

mod secret;
mod shape;
#[cfg(test)]
mod tests;
mod used;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use secret::{ReadError, Secret, SecretError, Secrets};
pub use shape::{Family, MOST_PORTS, Shape, ShapeError};
pub use used::Used;

/// How long a step lasts (RFC 6238, section 4.1).
pub const STEP: Duration = Duration::from_secs(30);

/// The step of a moment, given as time since the Unix epoch.
pub fn step(since_epoch: Duration) -> u64 {
    since_epoch.as_secs() / STEP.as_secs()
}

/// How long the step of that moment still lasts; more than nothing.
pub fn left(since_epoch: Duration) -> Duration {
    let into = Duration::new(
        since_epoch.as_secs() % STEP.as_secs(),
        since_epoch.subsec_nanos(),
    );
    STEP.saturating_sub(into)
}

/// The steps that count during a step: a clock may be wrong by one, and the way takes its time
/// (RFC 6238, section 6).
pub fn counting(step: u64) -> RangeInclusive<u64> {
    step.saturating_sub(1)..=step.saturating_add(1)
}
