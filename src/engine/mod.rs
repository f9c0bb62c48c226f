//! What is decided: events in, actions out, with the time as an argument. Knows neither
//! nftables nor iptables, neither files nor sockets nor clocks.
//!
//! The rules are those of "What the engine decides" and "Start, reload, stop" in the design. For
//! each gate there is a `Ledger` of acceptances and bans; the whitelist and trust given at
//! run time lie above them. Precedence is the kernel's: banned, trusted, filter; but no ban is
//! ever written for a trusted address, so that trust wins wherever it is known.
#![forbid(unsafe_code)]

mod back;
mod bans;
mod commands;
mod event;
mod jobs;
mod knocks;
mod ledger;
mod memo;
mod offences;
mod out;
mod run;
mod shut_out;
mod standing;
#[cfg(test)]
mod tests;
mod trust;
mod undo;
mod views;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::firewall::Member;
use crate::model::{Bucket, Chain, Deadline, GateName, KnockName, NetMap, Time, host_net};
use crate::policy::Policy;

pub use back::{Loss, Lost};
pub use event::{Action, Command, Event, Flush, Log, LogLevel, Outcome, TrustEdit, Who};
use jobs::Jobs;
pub use jobs::{Job, Owed};
use ledger::{Grant, Ledger};
use memo::Journal;
pub use memo::{Everything, Kept, Memo, News, Record, What};
use offences::Steps;
use out::Out;
pub use shut_out::{ShutOut, shut_out};
pub use standing::{Decided, Standing};
use trust::Runtime;
pub use views::{GateView, KnockView, Refused};
pub use words::Words;

/// A deadline that is noticed within this time has been noticed by the kernel as well.
const IN_TIME: Duration = Duration::from_secs(1);

/// The reason of a ban for sweeping ports.
pub const SCAN_GUARD: &str = "scan_guard";

/// The reason of a member that nobody remembers.
pub const FOUND_IN_KERNEL: &str = "found in kernel";

/// Everything that has been decided and still holds.
#[derive(Debug, Clone)]
pub struct Engine {
    policy: Arc<Policy>,
    /// One for each gate of the policy, in its order.
    ledgers: Vec<Ledger>,
    whitelist: NetMap<String>,
    /// Trust given at run time at every gate.
    runtime: NetMap<Runtime>,
    own: BTreeSet<IpAddr>,
    gate_addresses: HashMap<GateName, Vec<IpAddr>>,
    fired: HashMap<KnockName, u64>,
    bans: Bucket,
    /// Bans that only begin again.
    renewals: Bucket,
    /// Towards bans that need more than one step on a decoy.
    steps: Steps,
    lines: Bucket,
    /// Of what can be forged more cheaply than anything else, and decides nothing.
    cheap_lines: Bucket,
    /// That somebody is banned already: whoever is can bring it about.
    stale_lines: Bucket,
    refused: Refused,
    evicted_bans: u64,
    /// Since the last line that said so, and before that.
    unlogged: (u64, u64),
    journal: Journal,
    jobs: Jobs,
}

impl Engine {
    /// Nothing decided yet.
    pub fn new(policy: Policy) -> Self {
        Self::with(Arc::new(policy))
    }

    fn with(policy: Arc<Policy>) -> Self {
        Self {
            ledgers: policy.gates.iter().map(|_| Ledger::default()).collect(),
            policy,
            whitelist: NetMap::new(),
            runtime: NetMap::new(),
            own: BTreeSet::new(),
            gate_addresses: HashMap::new(),
            fired: HashMap::new(),
            bans: Bucket::new(10, 10),
            renewals: Bucket::new(10, 10),
            steps: Steps::default(),
            lines: Bucket::new(20, 100),
            cheap_lines: Bucket::new(1, 20),
            stale_lines: Bucket::new(1, 20),
            refused: Refused::default(),
            evicted_bans: 0,
            unlogged: (0, 0),
            journal: Journal::new(),
            jobs: Jobs::default(),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// One with the same policy that has decided nothing.
    #[must_use]
    pub fn understudy(&self) -> Self {
        Self::with(Arc::clone(&self.policy))
    }

    /// Whether that is still so of another's policy.
    pub fn has_policy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy)
    }

    /// Takes an event into account. The firewall's actions come first.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut out = Out::new(now);
        self.expire(&mut out);
        match event {
            Event::Knocked { source, knock } => self.knocked(source, &knock, &mut out),
            Event::Swept { source } => self.swept(source, &mut out),
            Event::Undone { source, knock } => self.undone(source, &knock, &mut out),
            Event::Command { who, command } => self.command(&who, command, &mut out),
            Event::Whitelist(entries) => self.set_whitelist(entries, &mut out),
            Event::WhitelistEdit { add, remove } => self.edit_whitelist(add, &remove, &mut out),
            Event::Relisted(nets) => self.relisted(&nets, &mut out),
            Event::RuntimeTrust(entries) => self.restore_runtime(entries, &mut out),
            Event::Adopt(members) => self.adopt(members, &mut out),
            Event::Restore(kept) => {
                self.restore(kept, now);
                out.install();
            }
            Event::Held { gates, members } => self.forget_used_up(&gates, &members),
            Event::OwnAddresses(addresses) => self.set_own(addresses, &mut out),
            Event::GateAddresses(addresses) => {
                let addresses = addresses.into_iter().collect();
                if self.gate_addresses != addresses {
                    self.gate_addresses = addresses;
                    out.install();
                }
            }
            Event::Policy(policy) => self.set_policy(*policy, &mut out),
            Event::Owed(owed) => self.jobs.restore(owed),
            Event::Ended { job, again } => self.jobs.ended(job, again, now),
            Event::Ending => self.end_jobs(&mut out),
            Event::Tick => {}
        }
        self.mind_jobs(&mut out);
        out.into_actions()
    }

    /// When the next deadline passes, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let ledgers = self.ledgers.iter().filter_map(Ledger::next_deadline);
        ledgers.chain(self.jobs.next_due()).min()
    }

    /// Forgets what is over. The kernel has let go of it by itself, unless the machine slept: its
    /// timers stand still meanwhile. Whoever is told late tells the kernel too.
    fn expire(&mut self, out: &mut Out) {
        let mut over = Vec::new();
        for (gate, ledger) in self.policy.gates.iter().zip(&mut self.ledgers) {
            for (at, chain, net) in ledger.expire(out.now) {
                if out.now.since(at) > IN_TIME {
                    for net in both_families_if_open(chain, net) {
                        out.remove(&gate.name, chain, net);
                    }
                }
                over.push((gate.name.clone(), chain, net));
            }
        }
        for (gate, chain, net) in over {
            if chain == Chain::Filter && net.prefix_len() != 0 {
                self.journal.lose(Some(&gate), Lost::Within(net));
            }
            self.record(Record::new(What::Expired, chain.suffix()).of(&gate, net));
            self.log(out, |_| match chain {
                Chain::Banned => format!("{gate}: the ban of {} is over", shown(net)),
                _ if net.prefix_len() == 0 => {
                    format!("{gate}: closed again to those who have not knocked")
                }
                _ => format!("{gate}: the acceptance of {} is over", shown(net)),
            });
        }
    }

    fn set_own(&mut self, addresses: Vec<IpAddr>, out: &mut Out) {
        let own: BTreeSet<IpAddr> = addresses.into_iter().map(|a| a.to_canonical()).collect();
        if own == self.own {
            return;
        }
        // Whether a gate's address is ours decides what the gate covers.
        let before: Vec<_> = self
            .policy
            .gates
            .iter()
            .map(|gate| self.covers(gate))
            .collect();
        let before_own = std::mem::replace(&mut self.own, own);
        let after: Vec<_> = self
            .policy
            .gates
            .iter()
            .map(|gate| self.covers(gate))
            .collect();
        if before != after {
            out.install();
        }
        let new: Vec<IpNet> = self
            .own
            .difference(&before_own)
            .copied()
            .map(host_net)
            .collect();
        self.lift_what_is_protected(&new, out);
    }

    /// Takes what is protected from now on out of the bans.
    fn lift_what_is_protected(&mut self, holes: &[IpNet], out: &mut Out) {
        for (gate, ledger) in self.policy.gates.iter().zip(&mut self.ledgers) {
            for &hole in holes {
                let (lifted, put) = ledger.carve(hole);
                out.carved(&gate.name, &lifted, &put);
                for net in lifted {
                    let unbanned = Record::new(What::Unbanned, "protected").of(&gate.name, net);
                    self.journal.push(unbanned);
                }
            }
        }
    }

    /// Takes over what the kernel held when the daemon started. Trusted members are not taken:
    /// those are the file's and the store's to say.
    fn adopt(&mut self, members: Vec<Member>, out: &mut Out) {
        for member in members {
            let Some(index) = self.policy.gates.iter().position(|g| g.name == member.gate) else {
                continue;
            };
            let gate = &self.policy.gates[index];
            let reason = if member.reason.is_empty() {
                FOUND_IN_KERNEL
            } else {
                &member.reason
            };
            let mut deadline = member.remaining.deadline(out.now);
            if member.chain != Chain::Trusted {
                let adopted = Record::new(What::Adopted, reason).of(&gate.name, member.net);
                let adopted = adopted.saying(member.chain.suffix()).until(deadline);
                self.journal.push(adopted);
            }
            match member.chain {
                Chain::Trusted => {}
                Chain::Filter => {
                    if deadline == Deadline::Never {
                        deadline = gate.accept_timeout.deadline(out.now);
                    }
                    let grant = Grant {
                        deadline,
                        reason: reason.to_owned(),
                    };
                    self.ledgers[index].adopt_acceptance(member.net, gate.ipv6_prefix, grant);
                }
                Chain::Banned => {
                    let by_knock = self.is_knock(reason);
                    let grant = Grant {
                        deadline,
                        reason: reason.to_owned(),
                    };
                    self.recall_ban(index, member.net, reason, deadline, out.now);
                    for net in self.outside_trust(index, member.net) {
                        let held = self.ledgers[index].banned().get(net);
                        if held.is_none_or(|ban| ban.grant.deadline < grant.deadline) {
                            self.ledgers[index].ban(net, grant.clone(), by_knock);
                        }
                    }
                }
            }
        }
        out.install();
    }

    fn forget_used_up(&mut self, gates: &[GateName], held: &[(GateName, Chain, IpNet)]) {
        for (gate, ledger) in self.policy.gates.iter().zip(&mut self.ledgers) {
            if !gate.once || !gates.contains(&gate.name) {
                continue;
            }
            let at_gate = |(name, chain, _): &&(GateName, Chain, IpNet)| {
                *name == gate.name && *chain == Chain::Filter
            };
            let held: BTreeSet<IpNet> =
                held.iter().filter(at_gate).map(|member| member.2).collect();
            let used: Vec<IpNet> = ledger.accepted().iter().map(|(net, _)| net).collect();
            for net in used.into_iter().filter(|net| !held.contains(net)) {
                ledger.withdraw(net);
                self.journal.lose(Some(&gate.name), Lost::Within(net));
                let record = Record::new(What::UsedUp, "once").of(&gate.name, net);
                self.journal.push(record);
            }
        }
    }

    /// Goes on under another policy: gates that stay keep their members and deadlines, gates that
    /// are gone lose theirs.
    fn set_policy(&mut self, policy: Policy, out: &mut Out) {
        let mut old: HashMap<GateName, (u8, Ledger)> = self
            .policy
            .gates
            .iter()
            .zip(self.ledgers.drain(..))
            .map(|(gate, ledger)| (gate.name.clone(), (gate.ipv6_prefix, ledger)))
            .collect();
        self.ledgers = policy
            .gates
            .iter()
            .map(|gate| match old.remove(&gate.name) {
                Some((prefix, ledger)) if prefix == gate.ipv6_prefix => ledger,
                Some((_, ledger)) => ledger.with_prefix(gate.ipv6_prefix),
                None => Ledger::default(),
            })
            .collect();
        for gone in old.into_keys() {
            self.journal.gate_is_gone(gone);
        }
        self.fired
            .retain(|name, _| policy.knocks.iter().any(|knock| knock.name == *name));
        let old_policy = std::mem::replace(&mut self.policy, Arc::new(policy));
        let never = self.policy.never_ban.iter().copied();
        let new: Vec<IpNet> = never
            .filter(|net| !old_policy.never_ban.contains(net))
            .collect();
        self.lift_what_is_protected(&new, out);
        out.install();
    }

    /// The gates of these names, or every gate if there are none; the first unknown name fails.
    fn indexes(&self, names: &[GateName]) -> Result<Vec<usize>, GateName> {
        if names.is_empty() {
            return Ok((0..self.policy.gates.len()).collect());
        }
        let place = |name: &GateName| {
            self.policy
                .gates
                .iter()
                .position(|gate| gate.name == *name)
                .ok_or_else(|| name.clone())
        };
        let mut found = names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// A single address without its prefix length, a network with it.
fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// An open gate is a member for each family; everything else is itself.
fn both_families_if_open(chain: Chain, net: IpNet) -> Vec<IpNet> {
    if chain == Chain::Filter && net.prefix_len() == 0 {
        EVERYBODY.to_vec()
    } else {
        vec![net]
    }
}

/// The members of an open gate.
const EVERYBODY: [IpNet; 2] = [
    IpNet::V4(ipnet::Ipv4Net::new_assert(
        std::net::Ipv4Addr::UNSPECIFIED,
        0,
    )),
    IpNet::V6(ipnet::Ipv6Net::new_assert(
        std::net::Ipv6Addr::UNSPECIFIED,
        0,
    )),
];
