//! A firewall that holds its members in memory: for tests and dry runs.
//!
//! It behaves as the kernel does: members expire by themselves on the clock it is given, trust
//! is kept until it is taken back, and what it holds can be read at any time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::{Backend, BackendKind, Change, Desired, FirewallError, GateRules, Member, Observed};
use crate::model::{
    Chain, Deadline, GateName, KnockPort, Lifetime, NetMap, PortRange, Time, canonical, host_net,
    net_of_prefix,
};

/// A clock that is set by hand. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<Mutex<Time>>);

impl ManualClock {
    /// What it shows.
    pub fn now(&self) -> Time {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it.
    pub fn set(&self, now: Time) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is dropped, by the chain named, or by none in particular.
    Dropped(Option<Chain>),
    /// It is accepted by that chain.
    Accepted(Chain),
}

#[derive(Debug, Clone)]
struct Kept {
    end: Deadline,
    reason: String,
    /// Somebody else put it, and nobody was told.
    is_foreign: bool,
}

type Nets = NetMap<Kept>;
type Members = BTreeMap<(GateName, Chain), Nets>;

fn member(gate: &GateName, chain: Chain, net: IpNet, kept: &Kept, now: Time) -> Member {
    Member {
        gate: gate.clone(),
        chain,
        net,
        remaining: kept.end.remaining(now),
        reason: kept.reason.clone(),
    }
}

/// The backend. `clock` tells it the time.
pub struct Memory<C> {
    clock: C,
    /// `None` is no table at all.
    gates: Option<Vec<GateRules>>,
    installed: Vec<GateName>,
    members: Members,
    installs: usize,
    refusal: Option<FirewallError>,
    /// After so many changes of the next call `apply` fails.
    half: Option<(usize, FirewallError)>,
}

impl<C> std::fmt::Debug for Memory<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("gates", &self.gates)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl<C: Fn() -> Time> Memory<C> {
    /// A kernel without a table.
    pub fn new(clock: C) -> Self {
        Self {
            clock,
            gates: None,
            installed: Vec::new(),
            members: BTreeMap::new(),
            installs: 0,
            refusal: None,
            half: None,
        }
    }

    /// How often something was installed.
    pub fn installs(&self) -> usize {
        self.installs
    }

    /// Makes the next call that changes something fail with this, and change nothing.
    pub fn refuse_next(&mut self, error: FirewallError) {
        self.refusal = Some(error);
    }

    /// Makes the next `apply` that has more changes than that fail with this after so many, which
    /// stay: a kernel without transactions does that.
    pub fn fail_after(&mut self, changes: usize, error: FirewallError) {
        self.half = Some((changes, error));
    }

    /// What somebody else's `nft flush ruleset` does.
    pub fn vanish(&mut self) {
        self.gates = None;
        self.members.clear();
    }

    /// What somebody else's `nft add element` does.
    pub fn meddle(&mut self, member: &Member) -> Result<(), FirewallError> {
        let gates = self.gates.as_deref().unwrap_or_default();
        put(&mut self.members, gates, member, (self.clock)())?;
        let nets = self.members.get_mut(&(member.gate.clone(), member.chain));
        let net = kept_as(gates, &member.gate, member.chain, member.net);
        if let (Some(nets), Some(net)) = (nets, net)
            && let Some(kept) = nets.get_mut(net)
        {
            kept.is_foreign = member.chain != Chain::Trusted;
        }
        Ok(())
    }

    /// What the kernel holds that nobody was told of and that `wanted` lacks. Whoever asks is
    /// told.
    fn unseen(&mut self, gates: &[GateRules], wanted: &Members) -> Vec<Member> {
        let now = (self.clock)();
        let mut unseen = Vec::new();
        for ((gate, chain), nets) in &mut self.members {
            let wanted = wanted.get(&(gate.clone(), *chain));
            let is_wanted = |net| wanted.is_some_and(|nets| nets.get(net).is_some());
            let foreign: Vec<IpNet> = nets
                .iter()
                .filter(|(net, kept)| kept.is_foreign && !kept.end.is_over(now) && !is_wanted(*net))
                .map(|(net, _)| net)
                .collect();
            if !gates.iter().any(|rules| rules.name == *gate) {
                continue;
            }
            for net in foreign {
                if let Some(kept) = nets.get_mut(net) {
                    kept.is_foreign = false;
                    unseen.push(member(gate, *chain, net, kept, now));
                }
            }
        }
        unseen
    }

    /// What becomes of a new connection from there through that gate; a gate that does not
    /// exist drops nothing, and `None` says so.
    pub fn fate(&self, gate: &GateName, source: IpAddr) -> Option<Fate> {
        self.rules(gate)?;
        let now = (self.clock)();
        let holds = |chain: Chain, net: IpNet| {
            self.members
                .get(&(gate.clone(), chain))
                .is_some_and(|nets| nets.covering(net).any(|(_, kept)| !kept.end.is_over(now)))
        };
        let host = host_net(canonical(source));
        Some(if holds(Chain::Banned, host) {
            Fate::Dropped(Some(Chain::Banned))
        } else if holds(Chain::Trusted, host) {
            Fate::Accepted(Chain::Trusted)
        } else if holds(Chain::Filter, host) {
            Fate::Accepted(Chain::Filter)
        } else {
            Fate::Dropped(None)
        })
    }

    /// What becomes of a new connection that is really made: where the gate says so, it uses the
    /// acceptance up that let it in.
    pub fn connect(&mut self, gate: &GateName, source: IpAddr) -> Option<Fate> {
        let fate = self.fate(gate, source);
        let rules = self.rules(gate).filter(|rules| rules.once);
        if let (Some(rules), Some(Fate::Accepted(Chain::Filter))) = (rules, fate) {
            let length = match canonical(source) {
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => rules.ipv6_prefix,
            };
            if let Some(nets) = self.members.get_mut(&(gate.clone(), Chain::Filter)) {
                nets.remove(net_of_prefix(source, length));
            }
        }
        fate
    }

    fn rules(&self, gate: &GateName) -> Option<&GateRules> {
        self.gates.as_ref()?.iter().find(|g| g.name == *gate)
    }

    fn refused(&mut self) -> Result<(), FirewallError> {
        self.refusal.take().map_or(Ok(()), Err)
    }
}

/// The network as the gate's sets keep it; `None` if none of them takes it.
fn kept_as(gates: &[GateRules], gate: &GateName, chain: Chain, net: IpNet) -> Option<IpNet> {
    let gate = gates.iter().find(|g| g.name == *gate)?;
    let bits = net.max_prefix_len();
    match chain {
        Chain::Filter if net.prefix_len() == 0 => Some(net),
        Chain::Filter if bits == 128 && gate.ipv6_prefix == 64 => {
            (net.prefix_len() >= 64).then(|| net_of_prefix(net.addr(), 64))
        }
        Chain::Filter => (net.prefix_len() == bits).then_some(net),
        Chain::Banned | Chain::Trusted => Some(net),
    }
}

fn unplaceable(gate: &GateName, chain: Chain, net: IpNet) -> FirewallError {
    FirewallError::Kernel {
        operation: "put",
        object: format!("{net} into {gate}_{}", chain.suffix()),
        source: std::io::Error::from_raw_os_error(libc::EINVAL),
        hint: " (no set of this gate takes such a network)",
    }
}

fn put(
    members: &mut Members,
    gates: &[GateRules],
    member: &Member,
    now: Time,
) -> Result<(), FirewallError> {
    let net = kept_as(gates, &member.gate, member.chain, member.net)
        .ok_or_else(|| unplaceable(&member.gate, member.chain, member.net))?;
    let lifetime = match member.chain {
        Chain::Trusted => Lifetime::Never,
        Chain::Banned | Chain::Filter => member.remaining,
    };
    let kept = Kept {
        end: lifetime.deadline(now),
        reason: member.reason.clone(),
        is_foreign: false,
    };
    members
        .entry((member.gate.clone(), member.chain))
        .or_default()
        .insert(net, kept);
    Ok(())
}

impl<C: Fn() -> Time> Backend for Memory<C> {
    fn kind(&self) -> BackendKind {
        BackendKind::Memory
    }

    fn observe_chains(&mut self, chains: &[Chain]) -> Result<Option<Observed>, FirewallError> {
        let now = (self.clock)();
        let Some(gates) = &self.gates else {
            return Ok(None);
        };
        let sets = self.members.iter();
        let wanted = sets.filter(|((_, chain), _)| chains.contains(chain));
        let members = wanted.flat_map(|((gate, chain), nets)| {
            nets.iter()
                .filter(|(_, kept)| !kept.end.is_over(now))
                .map(|(net, kept)| member(gate, *chain, net, kept, now))
        });
        Ok(Some(Observed {
            gates: gates.iter().map(|gate| gate.name.clone()).collect(),
            members: members.collect(),
            originals: Vec::new(),
        }))
    }

    fn missing(&mut self, desired: &Desired) -> Result<Vec<(GateName, PortRange)>, FirewallError> {
        let guarded = |gate: &GateRules, port: &PortRange| {
            self.rules(&gate.name)
                .is_some_and(|found| found.ports.contains(port))
        };
        let ports = desired.gates.iter().flat_map(|gate| {
            let new = gate.ports.iter().filter(|port| !guarded(gate, port));
            new.map(|port| (gate.name.clone(), *port))
        });
        Ok(ports.collect())
    }

    fn install(&mut self, desired: &Desired) -> Result<(), FirewallError> {
        self.refused()?;
        let now = (self.clock)();
        let mut members = BTreeMap::new();
        for member in &desired.members {
            put(&mut members, &desired.gates, member, now)?;
        }
        let unseen = self.unseen(&desired.gates, &members);
        if !unseen.is_empty() {
            return Err(FirewallError::Unseen(unseen));
        }
        self.members = members;
        self.installed = desired.gates.iter().map(|g| g.name.clone()).collect();
        self.gates = (!desired.gates.is_empty()).then(|| desired.gates.clone());
        self.installs += 1;
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        self.refused()?;
        let now = (self.clock)();
        let half = self.half.take_if(|(most, _)| *most < changes.len());
        let changes = &changes[..half.as_ref().map_or(changes.len(), |(most, _)| *most)];
        let gates = self.gates.as_deref().unwrap_or_default();
        // A copy, so that all or nothing happens.
        let mut members = self.members.clone();
        for change in changes {
            match change {
                Change::Put(member) => put(&mut members, gates, member, now)?,
                Change::Remove { gate, chain, net } => {
                    let nets = members.get_mut(&(gate.clone(), *chain));
                    if let (Some(nets), Some(net)) = (nets, kept_as(gates, gate, *chain, *net)) {
                        nets.remove(net);
                    }
                }
            }
        }
        self.members = members;
        half.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn verify(&mut self) -> Result<Vec<String>, FirewallError> {
        Ok(match self.gates {
            None if !self.installed.is_empty() => vec!["the table is missing".to_owned()],
            _ => Vec::new(),
        })
    }

    fn untrack(&mut self, _: &[KnockPort]) -> Result<(), FirewallError> {
        self.refused()
    }

    fn teardown(&mut self) -> Result<(), FirewallError> {
        self.refused()?;
        self.vanish();
        self.installed.clear();
        Ok(())
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
