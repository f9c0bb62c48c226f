use std::collections::HashSet;
use std::net::IpAddr;

use crate::model::{NetMap, canonical, host_net};
use crate::packet::Knock;
use crate::policy::{GateAddress, Policy};

/// Whose packets count, and to which destinations: knocks go to an address of this host or of a
/// gate behind it, and never come from this host.
#[derive(Debug, Default)]
pub struct Scope {
    own: HashSet<IpAddr>,
    broadcast: HashSet<IpAddr>,
    behind: NetMap<()>,
    /// Addresses that knocks name as their target. All that goes there may tell a sweep.
    targets: HashSet<IpAddr>,
}

impl Scope {
    /// Follows the host's addresses.
    pub fn set_own(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.own = addresses.into_iter().map(canonical).collect();
    }

    /// Follows the broadcast addresses of the networks that the host is in.
    pub fn set_broadcast(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.broadcast = addresses.into_iter().map(canonical).collect();
    }

    /// Follows the policy: a gate for traffic through this host names what lies behind it, and so
    /// does a knock with a target.
    pub fn set_gates(&mut self, policy: &Policy) {
        self.behind = NetMap::new();
        for gate in policy.gates.iter().filter(|gate| gate.hook.forward()) {
            if let Some(GateAddress::Net(net)) = &gate.address {
                self.behind.insert(*net, ());
            }
        }
        let targets = policy.knocks.iter().filter_map(|knock| knock.target);
        self.targets = targets.collect();
    }

    /// Whether this is an address of this host.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// Whether the packet may be a knock.
    pub fn admits(&self, knock: &Knock) -> bool {
        let to_us = self.is_own(knock.destination)
            || (!self.behind.is_empty()
                && self.behind.lookup(host_net(knock.destination)).is_some())
            || self.targets.contains(&knock.destination);
        to_us && !self.is_own(knock.source) && !self.broadcast.contains(&knock.source)
    }
}
