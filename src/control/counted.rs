//! What `status` tells of packets: what came in, what was dropped, what is kept of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What came in, since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PacketStatus {
    /// Passed the kernel's filter.
    pub seen: u64,
    /// Of these, lost because they came faster than they were looked at.
    pub dropped: u64,
    /// Knocks to this host or a gate behind it.
    pub knocks: u64,
    /// First packets of connections to ports that nobody knocks on or listens on.
    pub foreign: u64,
    /// To or from addresses that do not count.
    pub not_for_us: u64,
    /// On interfaces where knocks do not count.
    pub other_interfaces: u64,
    /// Malformed, fragments, impossible sources.
    pub refused: u64,
    /// The same by kind: `fragment`, `bad_source` and so on; what did not occur is left out.
    pub refused_kinds: BTreeMap<String, u64>,
    /// Bans by knock that were not written because there were too many at once.
    pub refused_bans: u64,
    /// Bans by knock that did not begin again because there were too many at once.
    pub refused_renewals: u64,
    /// Acceptances by knock that were refused because as many as a gate holds were held.
    pub refused_acceptances: u64,
    /// Trust by knock that was refused because as much as a gate holds was held.
    pub refused_trust: u64,
    /// Commands that were not run because too many were waiting or owed.
    pub refused_commands: u64,
    /// Bans by knock that gave way to newer ones, as there were too many.
    pub evicted_bans: u64,
    /// Log lines about packets that were left out because there were too many at once.
    pub unlogged: u64,
    /// Log lines, of any kind, that were to be written and are not: the log stood still or is full.
    pub lost_lines: u64,
}

/// What connection tracking is spared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UntrackedStatus {
    /// Knock ports, `1228/tcp`.
    pub ports: Vec<String>,
    /// Why there are none.
    pub why_none: Option<String>,
}

/// How CPUs were kept from sleeping for those who were one packet short of the end of a knock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AwakeStatus {
    /// How often, since the daemon started.
    pub times: u64,
    /// Milliseconds in all.
    pub total_ms: u64,
    /// Why they never are.
    pub why_never: Option<String>,
}

/// Records of what sources have knocked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptStatus {
    /// In use.
    pub used: u64,
    /// There may be; the oldest goes first.
    pub capacity: u64,
    /// Had to go before their time, since the daemon started.
    pub evicted: u64,
}
