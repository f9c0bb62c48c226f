//! What a capture itself tells about the host that it was made on.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use super::MOST_ADDRESSES;
use super::error::ReplayError;
use super::link::Ip;
use crate::model::{NetMap, Proto, host_net};
use crate::packet::{self, Knock};
use crate::policy::{GateAddress, Policy, TcpFlags};

/// SYN and ACK: the answer of a port that something listens on.
const ANSWER: TcpFlags = TcpFlags {
    set: TcpFlags::SYN | TcpFlags::ACK,
    clear: TcpFlags::RST,
};

/// Ports that answered, of all addresses; whatever is beyond is not noticed.
const MOST_ANSWERS: usize = 65_536;

/// Which addresses are knocked on, and which ports answer.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    policy: &'a Policy,
    behind: NetMap<()>,
    knocked_on: BTreeSet<IpAddr>,
    answers: HashSet<(IpAddr, u16)>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        let mut behind = NetMap::new();
        for gate in policy.gates.iter().filter(|gate| gate.hook.forward()) {
            if let Some(GateAddress::Net(net)) = gate.address {
                behind.insert(net, ());
            }
        }
        Self {
            policy,
            behind,
            knocked_on: BTreeSet::new(),
            answers: HashSet::new(),
        }
    }

    pub(super) fn look_at(&mut self, ip: Ip<'_>) -> Result<(), ReplayError> {
        let Ok(packet) = packet::parse(ip.bytes) else {
            return Ok(());
        };
        if packet.port.proto == Proto::Tcp && ANSWER.fit(packet.flags) {
            if self.answers.len() < MOST_ANSWERS {
                self.answers.insert((packet.source, packet.source_port));
            }
        } else if ip.to_us && self.is_knock(&packet) {
            self.knocked_on.insert(packet.destination);
            if self.knocked_on.len() > MOST_ADDRESSES {
                return Err(ReplayError::TooManyAddresses);
            }
        }
        Ok(())
    }

    /// Whether it goes to a knock port with flags that the knock asks for, and not to a host
    /// behind this one.
    fn is_knock(&self, packet: &Knock) -> bool {
        let mut knocks = self.policy.knocks.iter();
        !packet.destination.is_multicast()
            && self.behind.lookup(host_net(packet.destination)).is_none()
            && knocks.any(|knock| {
                let timed = knock.time_based().map(|it| it.shape.ports());
                (knock.sequence.contains(&packet.port)
                    || timed.is_some_and(|ports| ports.contains(packet.port)))
                    && (packet.port.proto == Proto::Udp || knock.flags.fit(packet.flags))
            })
    }

    /// The addresses that were knocked on.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.knocked_on.iter().copied().collect()
    }

    /// The TCP ports that answered, of these addresses.
    pub(super) fn listening(&self, of: &[IpAddr]) -> Vec<u16> {
        let mut ports = BTreeSet::new();
        for (address, port) in &self.answers {
            if of.contains(address) {
                ports.insert(*port);
            }
        }
        ports.into_iter().collect()
    }
}
