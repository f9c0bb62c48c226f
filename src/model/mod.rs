//! The words everything else is said in: addresses, ports, names, times. No IO, no clocks, no
//! file formats.
#![forbid(unsafe_code)]

mod addr;
mod bucket;
mod host;
mod name;
mod netmap;
mod port;
mod ssh;
mod time;

pub use addr::{canonical, canonical_net, host_net, net_of_prefix};
pub use bucket::Bucket;
pub use host::is_host_name;
pub use name::{GateName, KnockName, NameError};
pub use netmap::NetMap;
pub use port::{KnockPort, PortError, PortRange, Proto};
pub use ssh::{SshConnection, SshConnectionError};
pub use time::{Deadline, DurationError, Lifetime, Time, parse_duration};

/// One of the three chains of a gate that hold members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chain {
    /// Shut out, whatever else holds.
    Banned,
    /// On the whitelist.
    Trusted,
    /// Accepted for a while, after a knock or by command.
    Filter,
}

impl Chain {
    /// In the order in which a packet meets them.
    pub const ALL: [Chain; 3] = [Chain::Banned, Chain::Trusted, Chain::Filter];

    /// The last part of the chain's name: `banned` in `ssh_banned`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Chain::Banned => "banned",
            Chain::Trusted => "trusted",
            Chain::Filter => "filter",
        }
    }
}
