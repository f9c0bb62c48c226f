//! What the sets say about one address, asked by key: the same with one member and with a hundred
//! thousand.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Nftables;
use super::decode::Held;
use super::kernel::Failure;
use super::members::{is_masked, net_of};
use super::names::{Family, Role, SetSpec, address_number, key_bytes, net_range, parse_set};
use crate::firewall::Hit;
use crate::model::{GateName, Lifetime, canonical, net_of_prefix};

impl Nftables {
    /// All members of the gate that cover the address, in the order in which they are asked.
    pub(super) fn hits(&mut self, gate: &GateName, address: IpAddr) -> Result<Vec<Hit>, Failure> {
        let address = canonical(address);
        let family = Family::of_address(address);
        let mut hits = Vec::new();
        for (name, role, masked) in self.sets_of(gate)? {
            let hit = match role {
                Role::Host(_, asked) if asked == family => {
                    let narrow = masked && family == Family::V6;
                    let key = if narrow {
                        net_range(net_of_prefix(address, 64)).0
                    } else {
                        address_number(address)
                    };
                    let held = self.kernel.get(&name, key_bytes(family, key), false)?;
                    held.and_then(|held| Some((net_of(role, masked, held.key)?, held)))
                }
                Role::Net(_, asked) if asked == family => {
                    self.interval_around(&name, family, address)?
                }
                Role::Open => {
                    let held = self.kernel.get(&name, vec![family as u8], false)?;
                    held.and_then(|held| Some((net_of(role, masked, held.key)?, held)))
                }
                _ => None,
            };
            if let (Some((net, held)), Some(chain)) = (hit, role.chain()) {
                hits.push(Hit {
                    chain,
                    net,
                    remaining: Some(held.left.map_or(Lifetime::Never, Lifetime::For)),
                    reason: held.comment,
                });
            }
        }
        hits.sort_by_key(|hit| hit.chain);
        Ok(hits)
    }

    /// The sets of a gate, and whether their elements are masked: as installed, or as found.
    fn sets_of(&mut self, gate: &GateName) -> Result<Vec<(String, Role, bool)>, Failure> {
        if let Some(image) = &self.image {
            let own = image.sets.iter().filter(|(of, ..)| of == gate);
            let set = |(_, role, spec): &(_, Role, SetSpec)| {
                (spec.name.clone(), *role, is_masked(spec.comment))
            };
            return Ok(own.map(set).collect());
        }
        let found = self.kernel.sets()?.into_iter().filter_map(|set| {
            let (of, role) = parse_set(&set.name)?;
            (of == *gate).then(|| (set.name, role, is_masked(&set.comment)))
        });
        Ok(found.collect())
    }

    /// The interval of a set of networks in which the address lies, as the widest network around
    /// the address that is all in it.
    fn interval_around(
        &mut self,
        set: &str,
        family: Family,
        address: IpAddr,
    ) -> Result<Option<(IpNet, Held)>, Failure> {
        let key = address_number(address);
        let Some(start) = self.kernel.get(set, key_bytes(family, key), false)? else {
            return Ok(None);
        };
        // The end is the first address after the interval; where there is none, there is no end.
        let after = match key
            .checked_add(1)
            .filter(|key| key >> 1 >> (family.bits() - 1) == 0)
        {
            Some(next) => self.kernel.get(set, key_bytes(family, next), true)?,
            None => None,
        };
        let last = after.map_or(u128::MAX, |end| end.key.saturating_sub(1));
        let around = |length| {
            let net = net_of_prefix(address, length);
            let (from, to) = net_range(net);
            (from >= start.key && to <= last).then_some(net)
        };
        Ok((0..=family.bits()).find_map(around).map(|net| (net, start)))
    }
}
