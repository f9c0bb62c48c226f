//! Members that somebody else has taken out of our sets.

use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Nftables;
use super::decode::intervals;
use super::kernel::Failure;
use super::members::{Keys, Sorted, is_masked, net_of};
use super::names::{Family, Role, SetSpec, key_bytes, key_number};
use super::segments::{DOUBT, flatten_sorted, to_nets};
use super::told::outside;
use super::verify::{LARGE, SAMPLE, lasting};
use crate::firewall::watch::Removed;
use crate::firewall::{Desired, lacking};
use crate::model::{Chain, GateName, NetMap};

/// That many missing members of one set are enough to know that it has to be filled again.
const ENOUGH: usize = 20;

impl Nftables {
    /// The members that last and that the kernel does not hold. If it is known which were removed,
    /// only these are looked for.
    pub(super) fn lacking_members(
        &mut self,
        desired: &Desired,
        removed: &Removed,
    ) -> Result<Vec<String>, Failure> {
        let now = Instant::now();
        let sorted = Sorted::new(desired, now)?;
        let sets = self.image.as_ref().map(|image| image.sets.clone());
        let mut missing = Vec::new();
        for (gate, role, spec) in sets.unwrap_or_default() {
            if !removed.is_empty() && !removed.contains_key(&spec.name) {
                continue;
            }
            let is_once = || desired.gates.iter().any(|g| g.name == gate && g.once);
            let chain = match role {
                // What is used up is not missing.
                Role::Host(Chain::Filter, _) if is_once() => continue,
                Role::Session(_) | Role::Grace => continue,
                Role::Net(chain, family) => {
                    let nets = self.lacking_nets(&gate, role, family, &spec.name, &sorted)?;
                    missing.extend(nets.into_iter().map(|net| lacking::name(&gate, chain, net)));
                    continue;
                }
                Role::Host(chain, _) => chain,
                Role::Open => Chain::Filter,
            };
            if let Some(wanted) = sorted.keys.get(&(&gate, role)) {
                let keys = self.lacking_keys(role, &spec, wanted, removed, now)?;
                let masked = is_masked(spec.comment);
                let nets = keys.iter().filter_map(|key| net_of(role, masked, *key));
                missing.extend(nets.map(|net| lacking::name(&gate, chain, net)));
            }
        }
        Ok(lacking::some(missing))
    }

    fn lacking_keys(
        &mut self,
        role: Role,
        spec: &SetSpec,
        wanted: &Keys<'_>,
        removed: &Removed,
        then: Instant,
    ) -> Result<Vec<u128>, Failure> {
        let number = |bytes: &Vec<u8>| match bytes[..] {
            [byte] => Some(u128::from(byte)),
            _ => key_number(bytes),
        };
        let suspects: Vec<u128> = if let Some(removed) = removed.get(&spec.name) {
            removed.iter().filter_map(number).collect()
        } else if wanted.len() > LARGE {
            wanted
                .keys()
                .step_by(wanted.len() / SAMPLE)
                .copied()
                .collect()
        } else {
            let held = self.kernel.elements(&spec.name)?;
            let held = held.into_iter().map(|held| held.key).collect();
            let all: std::collections::HashSet<u128> = wanted.keys().copied().collect();
            all.difference(&held).copied().collect()
        };
        let mut missing = Vec::new();
        for key in suspects {
            let lasts = |left: Option<Duration>| left.is_none_or(|l| l > then.elapsed() + DOUBT);
            if !wanted.get(&key).is_some_and(|(left, _)| lasts(*left)) {
                continue;
            }
            let bytes = match role {
                Role::Host(_, family) => key_bytes(family, key),
                _ => vec![u8::try_from(key).unwrap_or_default()],
            };
            if !self.kernel.has_key(&spec.name, bytes)? {
                missing.push(key);
            }
            if missing.len() >= ENOUGH {
                break;
            }
        }
        Ok(missing)
    }

    fn lacking_nets(
        &mut self,
        gate: &GateName,
        role: Role,
        family: Family,
        set: &str,
        sorted: &Sorted<'_>,
    ) -> Result<Vec<IpNet>, Failure> {
        let Some(wanted) = sorted.nets.get(&(gate.clone(), role)) else {
            return Ok(Vec::new());
        };
        let expires = !matches!(role, Role::Net(Chain::Trusted, _));
        let reading = self.kernel.read_named(set, expires)?;
        let mut held = NetMap::new();
        for (net, _) in to_nets(family, intervals(family, reading.held, reading.at)) {
            held.insert(net, ());
        }
        let wanted = lasting(flatten_sorted(wanted.iter()), reading.at);
        let missing = outside(family, wanted, &held, |(), _| true);
        Ok(to_nets(family, missing)
            .into_iter()
            .map(|(net, _)| net)
            .collect())
    }
}
