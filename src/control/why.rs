//! The answer to `why`.

use serde::{Deserialize, Serialize};

/// What happens now to a new connection from one address at one gate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhyEntry {
    /// The address that was asked about.
    pub address: String,
    /// The gate.
    pub gate: String,
    /// `accepted` or `dropped`.
    pub verdict: String,
    /// The chain that decides: `ssh_banned`, `ssh_trusted`, `ssh_filter`, or `ssh_policy` where none
    /// of these has the address; null where no chain is asked.
    pub chain: Option<String>,
    /// The member of that chain that covers the address, an address or a network. `0.0.0.0/0` or
    /// `::/0` in `ssh_filter` is a gate that is open to everybody.
    pub member: Option<String>,
    /// How long the member is still there, in whole seconds; null if there is none, it has no end,
    /// or the kernel does not say.
    pub expires_in_s: Option<u64>,
    /// Why it is so.
    pub reason: String,
    /// Why no ban of the address is written, if that is so.
    pub protected: Option<String>,
    /// The knocks that would let it in now. None while it is banned or sweeps, or is let in.
    pub knocks: Vec<String>,
    /// How far the address is with knocks.
    pub attempts: Vec<WhyAttempt>,
    /// Whether it sweeps ports, so that its knocks open nothing.
    pub sweeps: bool,
    /// Knocks that do not count for a while because it touched a port near them, or a decoy.
    pub kept_from: Vec<WhyKept>,
    /// Where kernel and daemon disagree, and what else makes this answer doubtful.
    pub doubts: Vec<String>,
}

/// A knock that an address may not begin for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhyKept {
    /// Its name.
    pub knock: String,
    /// For how long, in whole seconds, rounded up.
    pub left_s: u64,
}

/// A knock under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhyAttempt {
    /// Its name.
    pub knock: String,
    /// How many ports are matched.
    pub matched: u64,
    /// How many it has.
    pub of: u64,
    /// The time in which the rest must come, in whole seconds, rounded up.
    pub left_s: u64,
}
