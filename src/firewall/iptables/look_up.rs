//! What the sets say about one address, by TEST: the same with one member and with a hundred
//! thousand. The kernel answers with yes or no, and keeps the time that is left to itself.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Iptables;
use super::message::Key;
use super::names::{Family, Role, set_name};
use crate::firewall::{FirewallError, Hit};
use crate::model::{Chain, GateName, canonical, host_net, net_of_prefix};

impl Iptables {
    /// All members of the gate that cover the address, in the order in which they are asked.
    pub(super) fn hits(
        &mut self,
        gate: &GateName,
        address: IpAddr,
    ) -> Result<Vec<Hit>, FirewallError> {
        let host = host_net(canonical(address));
        let family = Family::of(host);
        let mut hits = Vec::new();
        for chain in Chain::ALL {
            let mut roles = vec![Role::Members(chain, family)];
            if chain == Chain::Filter {
                roles.push(Role::Open(family));
            }
            for role in roles {
                let set = set_name(gate, role);
                // Not every gate has all of them, and what is not there has nobody in it. It is not
                // asked for by its header: for that the kernel counts the members one by one.
                if !self.ipset.has(&set, Key::Net(host))? {
                    continue;
                }
                hits.push(Hit {
                    chain,
                    net: self.narrowest(&set, host)?,
                    remaining: None,
                    reason: String::new(),
                });
            }
        }
        Ok(hits)
    }

    /// The member that makes the set match: asked for a network, the kernel looks for just that
    /// one, but asked for an address, for whatever covers it.
    fn narrowest(&mut self, set: &str, host: IpNet) -> Result<IpNet, FirewallError> {
        for length in (1..host.max_prefix_len()).rev() {
            let net = net_of_prefix(host.addr(), length);
            if !self.ipset.has(set, Key::Net(net))? {
                continue;
            }
            // Everybody is kept as two halves.
            let halves = Family::of(host).halves();
            let mut all = length == 1;
            for half in halves {
                all = all && self.ipset.has(set, Key::Net(half))?;
            }
            return Ok(if all {
                Family::of(host).everybody()
            } else {
                net
            });
        }
        Ok(host)
    }
}
