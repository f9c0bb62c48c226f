use std::net::SocketAddr;

use ipnet::IpNet;

use crate::model::{Chain, GateName, Lifetime, PortRange};
use crate::policy::{Hook, Verdict};

/// All that the kernel is to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The rules, a gate each.
    pub gates: Vec<GateRules>,
    /// The members of all gates. At most one entry for each gate, chain and network.
    pub members: Vec<Member>,
    /// Sessions that were open before the gate was: (gate, peer). Packets of these peers other
    /// than a SYN pass, until connection tracking knows them. Only used for gates that guard
    /// something that nothing has guarded (`Backend::missing`).
    pub sessions: Vec<(GateName, SocketAddr)>,
}

/// The rules of one gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRules {
    /// The chain prefix.
    pub name: GateName,
    /// What is guarded.
    pub ports: Vec<PortRange>,
    /// Traffic to the host, through it, or both.
    pub hook: Hook,
    /// The destinations that are guarded in traffic to the host; empty means all.
    pub input_addresses: Vec<IpNet>,
    /// The destinations that are guarded in traffic through the host; empty means all.
    pub forward_addresses: Vec<IpNet>,
    /// What becomes of an accepted packet.
    pub verdict: Verdict,
    /// Whether the first new connection uses an acceptance up.
    pub once: bool,
    /// Whether refused packets are logged.
    pub log_drops: bool,
    /// Whether the banned are refused before established traffic is accepted.
    pub cut_sessions: bool,
    /// How long a member of the filter chain's IPv6 set is: 128 or 64 bits.
    pub ipv6_prefix: u8,
}

/// A member of a chain's sets.
///
/// A network of length 0 in `Chain::Filter` is an open gate: it lets that whole family in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The gate.
    pub gate: GateName,
    /// The chain.
    pub chain: Chain,
    /// Canonical: no host bits, no mapped addresses.
    pub net: IpNet,
    /// What is left of it.
    pub remaining: Lifetime,
    /// Why it is there, one short printable line. Empty when read from a set that has none.
    pub reason: String,
}

/// A change to the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add, or renew with this lifetime and reason.
    Put(Member),
    /// Take out exactly this network.
    Remove {
        /// The gate.
        gate: GateName,
        /// The chain.
        chain: Chain,
        /// Canonical.
        net: IpNet,
    },
}
