//! Whether a daemon lives: what it must have shown before it may say so, and how long whoever
//! listens waits for that.
//!
//! The worker goes through rounds. In each, every part that can stand still must show that it did
//! something, and only a whole round is worth a beat; so a beat is never just a timer that ran.
//! The other side, be it our supervisor or systemd, restarts a worker that it has not heard for
//! too long.
#![forbid(unsafe_code)]

mod drift;
mod rounds;
mod sleep;
mod vigil;

pub use drift::{Leave, Pace, Repairs};
pub use rounds::{Flow, Part, Rounds};
pub use sleep::Sleep;
pub use vigil::{Verdict, Vigil};

use std::time::Duration;

/// From one round to the next. The supervisor wakes up as often, and an idle machine is to wake
/// up twice a second at most, for everything.
pub const ROUND: Duration = Duration::from_secs(3);

/// How often a round includes the rules: with iptables that takes two processes and some
/// milliseconds, in which no knock is heard.
pub const RULES: Duration = Duration::from_secs(30);

/// How long the supervisor waits for a beat: two rounds, and time for one that is slow. What hangs
/// is replaced within ten seconds. Nothing that the event loop does may take longer than what is
/// left of this after a round: waiting for somebody's lock, say.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// How long it waits for a worker that starts: a whitelist may be long, and a machine slow.
pub const START_PATIENCE: Duration = Duration::from_secs(60);
