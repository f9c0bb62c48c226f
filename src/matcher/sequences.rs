use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Index;
use std::time::Duration;

use super::ports::{Ports, Ranks};
use super::record::DONE;
use crate::model::{KnockName, KnockPort, Proto};
use crate::packet::Knock;
use crate::policy::{Knock as Rule, KnockAction, TcpFlags};

/// A sequence's place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceId(pub(super) u16);

/// A sequence as the matcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) name: KnockName,
    pub(super) ports: Vec<KnockPort>,
    pub(super) timeout: Duration,
    pub(super) is_drop: bool,
    flags: TcpFlags,
    /// Packets to other addresses do not count.
    target: Option<IpAddr>,
}

impl Sequence {
    /// The stage of an attempt that was completed: nothing is ever undone of a decoy.
    pub(super) fn end(&self) -> u8 {
        if self.is_drop { 0 } else { DONE }
    }

    /// Whether somebody who has come so far is one packet short of what the sequence grants.
    pub(super) fn lacks_one(&self, stage: usize) -> bool {
        !self.is_drop && stage + 1 == self.ports.len()
    }

    /// Whether the packet's flags are what the sequence asks for, and it went where it asks for;
    /// a datagram has no flags. `reserved`: that address is only for sequences that name it.
    pub(super) fn fits(&self, knock: &Knock, reserved: bool) -> bool {
        (knock.port.proto == Proto::Udp || self.flags.fit(knock.flags))
            && match self.target {
                Some(target) => target == knock.destination,
                None => !reserved,
            }
    }

    /// Whether the TCP port is at most so far from one of the sequence's.
    fn is_near(&self, port: u16, distance: u16) -> bool {
        let mut tcp = self.ports.iter().filter(|own| own.proto == Proto::Tcp);
        tcp.any(|own| own.port.abs_diff(port) <= distance)
    }

    /// Whether not all of its ports are the same.
    pub(super) fn has_another_port(&self) -> bool {
        self.ports.iter().any(|port| *port != self.ports[0])
    }

    /// Who takes TCP for UDP may have been told the knock.
    fn has_number(&self, port: u16) -> bool {
        self.ports.iter().any(|own| own.port == port)
    }
}

/// All sequences, and which of them use a port. Finding a port costs the same however many
/// sequences there are.
#[derive(Debug)]
pub(super) struct Sequences {
    all: Vec<Sequence>,
    /// Ascending: first those of TCP, then those of UDP.
    ports: Vec<PortUse>,
    targets: HashSet<IpAddr>,
    tcp: Ranks,
    udp: Ranks,
    tcp_count: usize,
}

#[derive(Debug)]
struct PortUse {
    port: KnockPort,
    /// The different flags that sequences with this port ask for.
    flags: Vec<TcpFlags>,
    /// Sequences whose first port this is.
    first: Vec<SequenceId>,
    /// Whether it is a decoy and nothing else: nobody who was told a knock goes there.
    only_decoy: bool,
    arrived: u64,
}

/// What a packet's port is to the sequences.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrival {
    /// A knock port, with flags that some sequence asks for.
    Knock(PortId),
    /// A knock port, with flags that none asks for.
    OtherFlags,
    /// No knock port.
    Foreign,
}

/// A knock port's place in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortId(usize);

impl Sequences {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let all: Vec<_> = rules
            .iter()
            .take(usize::from(u16::MAX))
            .map(|rule| Sequence {
                name: rule.name.clone(),
                ports: rule.sequence.clone(),
                timeout: rule.seq_timeout,
                is_drop: rule.action == KnockAction::Drop,
                flags: rule.flags,
                target: rule.target,
            })
            .collect();
        let mut ports: Vec<KnockPort> = all.iter().flat_map(|s| s.ports.iter().copied()).collect();
        ports.sort_unstable_by_key(|port| (port.proto == Proto::Udp, port.port));
        ports.dedup();
        let tcp_count = ports.partition_point(|port| port.proto == Proto::Tcp);
        let ranks = |ports: &[KnockPort]| ports.iter().map(|port| port.port).collect();
        let (tcp, udp) = (ranks(&ports[..tcp_count]), ranks(&ports[tcp_count..]));
        let ports = ports
            .into_iter()
            .map(|port| PortUse::of(port, &all))
            .collect();
        let targets = all.iter().filter_map(|sequence| sequence.target).collect();
        Self {
            all,
            ports,
            targets,
            tcp,
            udp,
            tcp_count,
        }
    }

    /// Whether one strange TCP port is enough to void an attempt at that sequence: one that is at
    /// most so far from it, or a decoy, wherever that is. No distance, no such ports.
    pub(super) fn is_spoilt_by(&self, id: SequenceId, port: u16, distance: u16) -> bool {
        let sequence = &self[id];
        !sequence.has_number(port)
            && (sequence.is_near(port, distance) || (distance > 0 && self.is_tcp_decoy(port)))
    }

    /// Whether the port is one of those for its distance, and no decoy: these count for themselves.
    pub(super) fn is_beside(&self, id: SequenceId, port: u16, distance: u16) -> bool {
        let sequence = &self[id];
        !sequence.has_number(port) && sequence.is_near(port, distance) && !self.is_tcp_decoy(port)
    }

    fn is_tcp_decoy(&self, port: u16) -> bool {
        self.tcp
            .of(port)
            .is_some_and(|rank| self.ports[rank].only_decoy)
    }

    fn place(&self, port: KnockPort) -> Option<usize> {
        match port.proto {
            Proto::Tcp => self.tcp.of(port.port),
            Proto::Udp => self.udp.of(port.port).map(|rank| self.tcp_count + rank),
        }
    }

    /// Counts the packet and finds its port, if some sequence has it.
    pub(super) fn arrival(&mut self, knock: &Knock) -> Arrival {
        let Some(place) = self.place(knock.port) else {
            return Arrival::Foreign;
        };
        let entry = &mut self.ports[place];
        let wanted = knock.port.proto == Proto::Udp
            || entry.flags.iter().any(|flags| flags.fit(knock.flags));
        if !wanted {
            return Arrival::OtherFlags;
        }
        entry.arrived += 1;
        Arrival::Knock(PortId(place))
    }

    /// The longest time that an attempt at one of them may take.
    pub(super) fn longest(&self) -> Duration {
        let timeouts = self.all.iter().map(|sequence| sequence.timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Whether some sequence is for packets to this address alone.
    pub(super) fn is_target(&self, address: IpAddr) -> bool {
        self.targets.contains(&address)
    }

    pub(super) fn starting_with(&self, port: PortId) -> &[SequenceId] {
        &self.ports[port.0].first
    }

    /// TCP ports that may spoil an attempt at some sequence that is no decoy.
    pub(super) fn near(&self, distance: u16) -> Ports {
        let own = self.all.iter().filter(|sequence| !sequence.is_drop);
        let own = own.flat_map(|sequence| &sequence.ports);
        let own = own.filter(|port| port.proto == Proto::Tcp);
        let near = own
            .flat_map(|own| own.port.saturating_sub(distance)..=own.port.saturating_add(distance));
        let decoys = self.ports[..self.tcp_count].iter();
        let decoys = decoys.filter(|entry| distance > 0 && entry.only_decoy);
        near.chain(decoys.map(|entry| entry.port.port)).collect()
    }

    pub(super) fn is_only_decoy(&self, port: PortId) -> bool {
        self.ports[port.0].only_decoy
    }

    pub(super) fn arrivals(&self) -> impl Iterator<Item = (KnockPort, u64)> {
        self.ports.iter().map(|entry| (entry.port, entry.arrived))
    }

    /// For each sequence of `old`, its place among these, if it is unchanged. Takes over the
    /// counters of ports that stay.
    pub(super) fn renumbering(&mut self, old: &Sequences) -> Vec<Option<SequenceId>> {
        for entry in &mut self.ports {
            if let Some(place) = old.place(entry.port) {
                entry.arrived = old.ports[place].arrived;
            }
        }
        old.all
            .iter()
            .map(|before| self.ids().find(|&id| self[id] == *before))
            .collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SequenceId> + use<> {
        ids(self.all.len())
    }
}

fn ids(count: usize) -> impl Iterator<Item = SequenceId> {
    (0..count).filter_map(|id| u16::try_from(id).ok().map(SequenceId))
}

impl PortUse {
    fn of(port: KnockPort, all: &[Sequence]) -> Self {
        let mut flags = Vec::new();
        let mut only_decoy = true;
        for sequence in all.iter().filter(|sequence| sequence.ports.contains(&port)) {
            only_decoy &= sequence.is_drop;
            if !flags.contains(&sequence.flags) {
                flags.push(sequence.flags);
            }
        }
        let first = ids(all.len())
            .filter(|id| all[usize::from(id.0)].ports.first() == Some(&port))
            .collect();
        Self {
            port,
            flags,
            first,
            only_decoy,
            arrived: 0,
        }
    }
}

impl Index<SequenceId> for Sequences {
    type Output = Sequence;

    fn index(&self, id: SequenceId) -> &Sequence {
        &self.all[usize::from(id.0)]
    }
}
