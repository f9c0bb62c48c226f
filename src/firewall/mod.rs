//! What the kernel is to hold, as plain data, and the backends that make it so.
#![forbid(unsafe_code)]

pub mod choose;
mod desired;
pub mod foreign;
pub mod iptables;
mod lacking;
pub mod memory;
pub mod nftables;
pub mod watch;

pub use desired::{Change, Desired, GateRules, Member};

use watch::Removed;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Chain, GateName, KnockPort, Lifetime, PortRange, canonical, host_net};

/// Which kernel interface a backend speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// iptables and ip_set.
    Iptables,
    /// `nf_tables` over netlink.
    Nftables,
    /// No kernel at all: tests and dry runs.
    Memory,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::Iptables => "iptables",
            BackendKind::Nftables => "nftables",
            BackendKind::Memory => "memory",
        })
    }
}

/// Why the kernel does not hold what was asked for. Whatever failed, what was wanted before and
/// still is has not gone missing; after `Unseen` and `Full` nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// A system call or a netlink request failed; `hint` says what to do, with its own brackets.
    #[error("cannot {operation} {object}: {source}{hint}")]
    Kernel {
        /// What was tried: `create set`, `open`.
        operation: &'static str,
        /// On what: `ssh_filter4`.
        object: String,
        /// The errno.
        source: std::io::Error,
        /// ` (run as root or with CAP_NET_ADMIN)`, or nothing.
        hint: &'static str,
    },
    /// The kernel answered something that cannot be understood.
    #[error("cannot understand the kernel's answer about {object}: {problem}")]
    Answer {
        /// About what.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A program that changes the rules for us failed.
    #[error("cannot {operation} {program}: {problem}")]
    Program {
        /// What was tried: `write the rules with`.
        operation: &'static str,
        /// Its path.
        program: String,
        /// How it ended and what it said.
        problem: String,
    },
    /// Another program holds the lock that all iptables programs take.
    #[error(
        "cannot write the rules with {program}: another program has held the xtables lock for \
         {tries} s (see who: fuser /run/xtables.lock)"
    )]
    Locked {
        /// Its path.
        program: String,
        /// How often it was tried, for a second each.
        tries: usize,
    },
    /// Something has our name and is not ours.
    #[error(
        "cannot take over the {object}: somebody else made that: {strange} (remove it, or give \
         the gate another name)"
    )]
    Foreign {
        /// `set ssh_filter4`.
        object: String,
        /// What it is instead.
        strange: String,
    },
    /// No backend works.
    #[error("no firewall can be used: iptables: {iptables}; nftables: {nftables}")]
    Neither {
        /// Why not iptables.
        iptables: String,
        /// Why not nftables.
        nftables: String,
    },
    /// Reading back showed something else than was written.
    #[error("the kernel does not hold what was written: {0}")]
    Unverified(String),
    /// The kernel holds members that would have to go and that the caller was never told of:
    /// nothing was changed. Whoever takes them over and installs again decides about them.
    #[error("the kernel holds {} that nobody here has put there", counted(.0))]
    Unseen(Vec<Member>),
    /// More members than the kernel's set takes.
    #[error("cannot add {member} to {set}: the set is full")]
    Full {
        /// The set.
        set: String,
        /// The first member that found no place.
        member: String,
    },
}

fn counted(members: &[Member]) -> String {
    let first = members
        .first()
        .map(|m| format!("{} in {}_{}", m.net, m.gate, m.chain.suffix()));
    match members.len() {
        0 | 1 => first.unwrap_or_default(),
        more => format!("{more} members ({}, …)", first.unwrap_or_default()),
    }
}

/// What the kernel was found to hold under our names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Gates whose chains exist.
    pub gates: Vec<GateName>,
    /// Members of their sets with the time that is left. Overlapping networks come back as the
    /// fewest networks that cover the same addresses.
    pub members: Vec<Member>,
    /// Those of the gates whose chains are the original script's: only there does the trusted
    /// chain say something that no file and no store may know.
    pub originals: Vec<GateName>,
}

/// A member that covers an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The chain that it is a member of.
    pub chain: Chain,
    /// What it covers, as the kernel keeps it: overlapping networks may be one. Length 0 in
    /// `Chain::Filter` is an open gate.
    pub net: IpNet,
    /// What is left of it; `None` where the kernel does not say.
    pub remaining: Option<Lifetime>,
    /// Why it is there; empty where the kernel does not say.
    pub reason: String,
}

/// The part of a look at the rules that takes its time, and needs nobody else's.
pub type Rest = Box<dyn FnOnce() -> Result<Vec<String>, FirewallError> + Send>;

/// A look at the rules: what is missing or altered.
pub enum Look {
    /// All of it.
    Whole(Vec<String>),
    /// So far; the rest asks programs, and may do so on another thread.
    Begun(Vec<String>, Rest),
}

/// A kernel firewall. All calls block, for microseconds.
pub trait Backend {
    /// Which one it is.
    fn kind(&self) -> BackendKind;

    /// What the kernel holds now; `None` if there is nothing of ours. It is read until several
    /// readings in a row bring nothing new, since one may lack members while others expire.
    /// Before the first `install`, whatever is reported counts as taken over by the caller.
    fn observe(&mut self) -> Result<Option<Observed>, FirewallError> {
        self.observe_chains(&Chain::ALL)
    }

    /// The same with the members of these chains alone: each of the others may be long, and takes
    /// its time to read. What the original script's chains hold is all reported.
    fn observe_chains(&mut self, chains: &[Chain]) -> Result<Option<Observed>, FirewallError>;

    /// The members of the gate that cover the address, in the order in which a new connection
    /// meets their chains. Costs the same however many members there are. A gate that the kernel
    /// does not have has none.
    fn look_up(&mut self, gate: &GateName, address: IpAddr) -> Result<Vec<Hit>, FirewallError> {
        let host = host_net(canonical(address));
        let held = self.observe()?.unwrap_or_default().members.into_iter();
        let covers = held.filter(|member| member.gate == *gate && member.net.contains(&host));
        let mut hits: Vec<Hit> = covers
            .map(|member| Hit {
                chain: member.chain,
                net: member.net,
                remaining: Some(member.remaining),
                reason: member.reason,
            })
            .collect();
        hits.sort_by_key(|hit| hit.chain);
        Ok(hits)
    }

    /// The gates, and ports of gates, of `desired` that nothing guards now. Sessions that are
    /// open there belong into `Desired::sessions` before it is installed. Gates whose hook is
    /// `forward` are among them, too.
    fn missing(&mut self, desired: &Desired) -> Result<Vec<(GateName, PortRange)>, FirewallError> {
        let found = self.observe_chains(&[])?.unwrap_or_default().gates;
        let new = desired
            .gates
            .iter()
            .filter(|gate| !found.contains(&gate.name));
        let ports = new.flat_map(|gate| gate.ports.iter().map(|port| (gate.name.clone(), *port)));
        Ok(ports.collect())
    }

    /// Makes the kernel hold exactly `desired`, without a moment in which a gate stands open or
    /// a member that stays is missing; reads it back and verifies it. Members already there with
    /// the same deadline (within a second) are left as they are.
    ///
    /// Bans and acceptances that the kernel holds, that are not desired, and of which the caller
    /// was never told are not deleted, however they came there: an administrator's
    /// `nft add element` while we run, or what `observe` overlooked. The installation then
    /// changes nothing and fails with `FirewallError::Unseen`, which tells the caller, whose
    /// business they are from then on: it adopts them and installs again, and what is not desired
    /// then is deleted. Without gates there is nothing to hold: all of ours is removed.
    ///
    /// The caller knows of what it put or desired, of what `observe` reported
    /// before the first installation, and of what `Unseen` named, as long as these hold. Trusted
    /// members are the caller's alone, and go unasked; so do the members of gates that go.
    fn install(&mut self, desired: &Desired) -> Result<(), FirewallError>;

    /// Carries the changes out in order. Putting a member that is there gives it the new lifetime
    /// and reason; removing one that is not there is no error. A member that somebody else put is
    /// removed like one of ours.
    ///
    /// All or none, where the kernel has transactions. ip_set has none: each change is a message,
    /// and one that fails leaves those before it, which an installation makes whole. So the order
    /// is the caller's to choose: what replaces something else comes before that goes.
    fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError>;

    /// Does what adding a member to its set takes, as far as that changes nothing: soon one may
    /// have to be added, and whoever knocks waits for that.
    fn rehearse(&mut self, _member: &Member) {}

    /// Compares the rules with what `install` wrote and names what is missing or altered.
    fn verify(&mut self) -> Result<Vec<String>, FirewallError>;

    /// Has packets that could open a connection to exactly these ports of this host's own
    /// addresses pass connection tracking by: of TCP the SYNs, of UDP all. Replaces what was said
    /// before, and holds over later installations; what an earlier daemon has left goes. Where it
    /// fails one family may have it and the other not, and it is no more than a pity.
    fn untrack(&mut self, ports: &[KnockPort]) -> Result<(), FirewallError>;

    /// What is not as it should be and no installation mends.
    fn complaints(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// From the next installation on the rules are to be ours alone, so that nobody else's flush
    /// or delete reaches them, or not. Where that cannot be had, `complaints` says so.
    fn own(&mut self, alone: bool) {
        let _ = alone;
    }

    /// As `verify`, but without complaints, and for callers that must not wait: what takes its
    /// time is left to them.
    fn look(&mut self) -> Result<Look, FirewallError> {
        self.verify().map(Look::Whole)
    }

    /// The members of `desired` that somebody else has taken out, a line each and not too many.
    /// Acceptances that a gate with `once` has used up are not missed, nor what ends within
    /// seconds. Where `removed` says who was taken out, nobody else is looked for.
    fn lacking(
        &mut self,
        desired: &Desired,
        removed: &Removed,
    ) -> Result<Vec<String>, FirewallError> {
        let _ = removed;
        let held = self.observe()?.unwrap_or_default().members;
        Ok(lacking::among(desired, &held))
    }

    /// The netlink port from which its changes of nf_tables come, for whoever watches those of
    /// others.
    fn port(&self) -> Option<u32> {
        None
    }

    /// Whether somebody has to `glance` now and then, since the kernel tells nobody of changes.
    fn must_glance(&self) -> bool {
        false
    }

    /// A look that costs microseconds: whether something may have changed since the last one, so
    /// that a closer one is worth it.
    fn glance(&mut self) -> Result<bool, FirewallError> {
        Ok(false)
    }

    /// Removes everything of ours. Nothing there is no error.
    fn teardown(&mut self) -> Result<(), FirewallError>;
}
