use ipnet::IpNet;

use super::ledger::MOST_ACCEPTED;
use super::{EVERYBODY, Engine};
use crate::firewall::{Desired, GateRules, Member};
use crate::model::{Chain, GateName, KnockName, Lifetime, Time, host_net};
use crate::policy::{Gate, GateAddress};

/// A gate, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateView {
    /// Which.
    pub name: GateName,
    /// How many acceptances hold.
    pub accepted: usize,
    /// It holds as many as it may, so that a knock of anybody else is refused.
    pub is_full: bool,
    /// How many bans hold.
    pub banned: usize,
    /// How many entries are trusted.
    pub trusted: usize,
    /// How long it is still open to everybody; `None` is not at all.
    pub open: Option<Lifetime>,
}

/// A knock, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnockView {
    /// Which.
    pub name: KnockName,
    /// How often it was completed.
    pub completed: u64,
}

/// What packets asked for in vain because it was too much, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Bans by knock: too many at once.
    pub bans: u64,
    /// Bans by knock that were to begin again: too many at once.
    pub renewals: u64,
    /// Acceptances: as many as a gate holds are held.
    pub acceptances: u64,
    /// Trust by knock: as much as a gate holds is held.
    pub trust: u64,
    /// Commands: too many wait or are owed.
    pub commands: u64,
}

impl Engine {
    /// All that the kernel is to hold.
    pub fn desired(&self, now: Time) -> Desired {
        let mut members = Vec::new();
        for (index, gate) in self.policy.gates.iter().enumerate() {
            let ledger = &self.ledgers[index];
            let mut add = |chain, net, remaining, reason: &str| {
                members.push(Member {
                    gate: gate.name.clone(),
                    chain,
                    net,
                    remaining,
                    reason: reason.to_owned(),
                });
            };
            for (net, ban) in ledger.banned().iter() {
                add(
                    Chain::Banned,
                    net,
                    ban.grant.deadline.remaining(now),
                    &ban.grant.reason,
                );
            }
            for (net, reason) in self.trusted_members(index).iter() {
                add(Chain::Trusted, net, Lifetime::Never, reason);
            }
            for (net, grant) in ledger.accepted().iter() {
                add(
                    Chain::Filter,
                    net,
                    grant.deadline.remaining(now),
                    &grant.reason,
                );
            }
            if let Some(grant) = ledger.opened() {
                for net in EVERYBODY {
                    add(
                        Chain::Filter,
                        net,
                        grant.deadline.remaining(now),
                        &grant.reason,
                    );
                }
            }
        }
        members.retain(|member| !matches!(member.remaining, Lifetime::For(left) if left.is_zero()));
        Desired {
            gates: self.gate_rules(),
            members,
            sessions: Vec::new(),
        }
    }

    /// The rules of all gates.
    pub fn gate_rules(&self) -> Vec<GateRules> {
        self.policy.gates.iter().map(|g| self.rules(g)).collect()
    }

    fn rules(&self, gate: &Gate) -> GateRules {
        let (input_addresses, forward_addresses) = self.covers(gate);
        GateRules {
            name: gate.name.clone(),
            ports: gate.ports.clone(),
            hook: gate.hook,
            input_addresses,
            forward_addresses,
            verdict: gate.verdict,
            once: gate.once,
            log_drops: gate.log_drops,
            cut_sessions: gate.cut_sessions,
            ipv6_prefix: gate.ipv6_prefix,
        }
    }

    /// The destinations a gate guards on the host and behind it; none means all. On the host
    /// itself an address that is not (or not yet) the host's would leave the service unguarded,
    /// so then all are.
    pub(super) fn covers(&self, gate: &Gate) -> (Vec<IpNet>, Vec<IpNet>) {
        let named: Vec<IpNet> = match &gate.address {
            None => Vec::new(),
            Some(GateAddress::Net(net)) => vec![*net],
            Some(GateAddress::Name(_)) => {
                let addresses = self
                    .gate_addresses
                    .get(&gate.name)
                    .map_or(&[][..], Vec::as_slice);
                addresses.iter().copied().map(host_net).collect()
            }
        };
        let ours = |net: &IpNet| {
            // A network behind us is not ours because we have an address in it.
            let is_behind = gate.hook.forward() && net.prefix_len() < net.max_prefix_len();
            !is_behind && self.own.iter().any(|own| net.contains(own))
        };
        let input = if gate.hook.input() && named.iter().all(ours) {
            named.clone()
        } else {
            Vec::new()
        };
        let forward = if gate.hook.forward() {
            named
        } else {
            Vec::new()
        };
        (input, forward)
    }

    /// Whom the gate has banned.
    pub fn banned(&self, gate: &GateName) -> impl Iterator<Item = IpNet> {
        let index = self.policy.gates.iter().position(|g| g.name == *gate);
        let ledger = index.and_then(|index| self.ledgers.get(index));
        let banned = ledger.into_iter().flat_map(|ledger| ledger.banned().iter());
        banned.map(|(net, _)| net)
    }

    /// Whom the gate accepts within a network.
    pub fn accepted_within(&self, gate: &GateName, net: IpNet) -> Vec<IpNet> {
        let index = self.policy.gates.iter().position(|g| g.name == *gate);
        let ledger = index.and_then(|index| self.ledgers.get(index));
        let within = ledger
            .into_iter()
            .flat_map(|ledger| ledger.accepted().within(net));
        within.map(|(net, _)| net).collect()
    }

    /// Why the member is there, if the engine knows of it.
    pub fn reason(&self, gate: &GateName, chain: Chain, net: IpNet) -> Option<String> {
        let index = self
            .policy
            .gates
            .iter()
            .position(|known| known.name == *gate)?;
        let ledger = &self.ledgers[index];
        match chain {
            Chain::Banned => ledger.banned().get(net).map(|ban| ban.grant.reason.clone()),
            Chain::Filter if net.prefix_len() == 0 => {
                ledger.opened().map(|grant| grant.reason.clone())
            }
            Chain::Filter => ledger.accepted().get(net).map(|grant| grant.reason.clone()),
            Chain::Trusted => self.trust_reason(index, net).map(str::to_owned),
        }
    }

    /// The gates, for `status`.
    pub fn gates(&self, now: Time) -> Vec<GateView> {
        let view = |(index, gate): (usize, &Gate)| {
            let ledger = &self.ledgers[index];
            GateView {
                name: gate.name.clone(),
                accepted: ledger.accepted().len(),
                is_full: ledger.accepted().len() >= MOST_ACCEPTED,
                banned: ledger.banned().len(),
                trusted: self.trusted_count(index),
                open: ledger.opened().map(|grant| grant.deadline.remaining(now)),
            }
        };
        self.policy.gates.iter().enumerate().map(view).collect()
    }

    /// The knocks, for `status`.
    pub fn knocks(&self) -> Vec<KnockView> {
        let view = |name: &KnockName| KnockView {
            name: name.clone(),
            completed: self.fired.get(name).copied().unwrap_or(0),
        };
        self.policy
            .knocks
            .iter()
            .map(|knock| view(&knock.name))
            .collect()
    }

    /// Bans by knock that were not written because there were too many at once.
    pub fn refused_bans(&self) -> u64 {
        self.refused.bans
    }

    /// Whatever packets asked for in vain because it was too much.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// Bans by knock that gave way to newer ones since the start.
    pub fn evicted_bans(&self) -> u64 {
        self.evicted_bans
    }

    /// Log lines that were left out since the start.
    pub fn unlogged(&self) -> u64 {
        self.unlogged.0 + self.unlogged.1
    }
}
