//! Keeps the addresses of host names fresh: those on the whitelist, and those that gates are
//! limited to.
//!
//! A task of its own asks, and asks again as the answers' time to live runs out; what it finds out
//! comes over a channel. It is never in the way of start-up or of a packet, and without names it
//! never wakes up.
#![forbid(unsafe_code)]

mod addresses;
mod hosts;
mod lookup;
mod reverse;
mod schedule;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

pub use reverse::name_of;

/// The most names that are looked after.
pub const MAX_NAMES: usize = 10_000;

/// The most addresses that a name may have.
pub const MAX_ADDRESSES: usize = 64;

/// What was found out about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has these addresses. Sent after each look-up, whether or not anything changed.
    Resolved {
        /// As it was given to [`Resolver::set_names`].
        name: String,
        /// Sorted, unique, canonical; at least one.
        addresses: Vec<IpAddr>,
        /// Those among them that are only the last good ones of a family that was not answered,
        /// and how long ago they were good.
        kept: Vec<(IpAddr, Duration)>,
        /// When it is asked for again.
        valid_for: Duration,
    },
    /// It has none, or nobody answered. It will be tried again.
    Failed {
        /// As it was given to [`Resolver::set_names`].
        name: String,
        /// A line fit for the log.
        why: String,
        /// Whether its last good addresses still count. Once they do not, they must be forgotten.
        keeping: bool,
    },
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Not a name at all.
    #[error("it is not a host name: {0}")]
    Name(String),
    /// There is nobody to ask.
    #[error("cannot read {}: {problem}", path.display())]
    Config {
        /// `/etc/resolv.conf`.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The domain name system says so.
    #[error("there is no such name")]
    NoSuchName,
    /// The name exists for other purposes.
    #[error("it has no addresses")]
    NoAddresses,
    /// Only addresses that nobody can connect from.
    #[error("none of its addresses can be a peer's ({0})")]
    NoUsefulAddresses(String),
    /// Nobody answered.
    #[error("the name servers did not answer in time")]
    Timeout,
    /// Something else went wrong, in the resolver library's words.
    #[error("the look-up failed: {0}")]
    Lookup(String),
}

/// The last good addresses of a name, from an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The name.
    pub name: String,
    /// Its addresses, and how long ago each was good.
    pub addresses: Vec<(IpAddr, Duration)>,
}

/// Where to ask, and how often. The default is the machine's own configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Read at each look-up, so that a change is noticed.
    pub resolv_conf: PathBuf,
    /// Likewise; a name in it is not asked for elsewhere.
    pub hosts: PathBuf,
    /// Ask this server alone, whatever `resolv_conf` says.
    pub name_server: Option<SocketAddr>,
    /// How often.
    pub timing: Timing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            name_server: None,
            timing: Timing::default(),
        }
    }
}

/// How often names are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// An answer counts at least that long, whatever its time to live.
    pub shortest: Duration,
    /// And at most that long.
    pub longest: Duration,
    /// The pause after a first failure; each further one doubles it.
    pub retry_first: Duration,
    /// The longest pause after failures.
    pub retry_longest: Duration,
    /// For all the questions of one look-up.
    pub lookup: Duration,
    /// How long the last good addresses count while a name does not resolve.
    pub keep: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(30),
            longest: Duration::from_secs(3600),
            retry_first: Duration::from_secs(30),
            retry_longest: Duration::from_secs(300),
            lookup: Duration::from_secs(30),
            keep: Duration::from_secs(7 * 86_400),
        }
    }
}

/// The running resolver; it ends when dropped.
#[derive(Debug)]
pub struct Resolver {
    names: watch::Sender<Vec<String>>,
    task: JoinHandle<()>,
}

impl Resolver {
    /// Starts with the machine's configuration, with no names and nothing known. Must be called
    /// within a tokio runtime with IO and time.
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        Self::start(Config::default(), Vec::new())
    }

    /// Starts with this configuration, knowing the good addresses of an earlier run.
    pub fn start(config: Config, known: Vec<Known>) -> (Self, mpsc::Receiver<Event>) {
        let (names, wanted) = watch::channel(Vec::new());
        let (events, receiver) = mpsc::channel(64);
        let task = tokio::spawn(schedule::run(config, known, wanted, events));
        (Self { names, task }, receiver)
    }

    /// Looks after exactly these names from now on. New ones are asked for at once, the others as
    /// planned. Never waits. Names beyond the ten-thousandth are left out, which the log says.
    pub fn set_names(&self, mut names: Vec<String>) {
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_NAMES {
            warn!(
                "there are {} host names to resolve; those after the first {MAX_NAMES} are left out",
                names.len()
            );
            names.truncate(MAX_NAMES);
        }
        self.names.send_replace(names);
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}
