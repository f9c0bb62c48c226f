//! Cheap looks, where the kernel tells nobody of changes: ip_set, and the tables of legacy
//! iptables. One member that has to be there is asked for in each set, and small sets are counted;
//! of the rules a number is made.

use super::ipset::Ipset;
use super::message::Key;
use super::names::{Family, Role, parse_set};
use super::told::Told;
use super::{Iptables, now};
use crate::firewall::FirewallError;
use crate::model::{Chain, Time};
use crate::sys::xtables::Filter;

/// The tables of legacy iptables, and the number that was made of each the last time.
#[derive(Debug)]
pub(super) struct Legacy(Vec<(Filter, Option<u64>)>);

impl Legacy {
    pub(super) fn open(families: impl Iterator<Item = Family>) -> Result<Self, FirewallError> {
        let filter = |family| {
            Filter::open(family == Family::V6)
                .map(|filter| (filter, None))
                .map_err(|source| FirewallError::Kernel {
                    operation: "open",
                    object: "a socket".to_owned(),
                    source,
                    hint: "",
                })
        };
        families.map(filter).collect::<Result<_, _>>().map(Self)
    }

    /// They are written anew: what was seen before says nothing any more, even if it is seen again.
    pub(super) fn forget(&mut self) {
        self.0.iter_mut().for_each(|(_, last)| *last = None);
    }

    /// Whether rules are others than the last time. Where it cannot be told they may be.
    fn differ(&mut self) -> bool {
        let mut differ = false;
        for (filter, last) in &mut self.0 {
            let number = filter.fingerprint().ok();
            differ |= number.is_none() || number != *last;
            *last = number;
        }
        differ
    }
}

impl Iptables {
    /// Whether a set lacks a member that it must have, or is not there, or rules have changed.
    pub(super) fn has_drifted(&mut self) -> Result<bool, FirewallError> {
        let Some(image) = &self.image else {
            return Ok(self.has_installed);
        };
        let now = now();
        let mut drifted = self.legacy.as_mut().is_some_and(Legacy::differ);
        for spec in &image.sets {
            let Some((gate, role)) = parse_set(&spec.name) else {
                continue;
            };
            let uses_up = |role| matches!(role, Role::Members(Chain::Filter, _));
            let shape = self.shapes.as_ref().and_then(|shapes| shapes.get(&gate));
            let is_once = uses_up(role) && shape.is_some_and(|shape| shape.once);
            let witness = self.told.witness(&spec.name, now).filter(|_| !is_once);
            // Anything will do to learn whether the set is there.
            let anybody = spec.family.halves()[0].addr();
            let key = match (witness, role) {
                (Some(net), _) => Key::Net(net),
                (None, Role::Session(_)) => Key::Peer(anybody, 1),
                (None, _) => Key::Net(anybody.into()),
            };
            match self.ipset.test(&spec.name, key)? {
                Some(true) => {}
                Some(false) => {
                    if let Some(net) = witness {
                        // Once is enough; another is asked for the next time.
                        self.told.remove(&spec.name, net);
                        drifted = true;
                    }
                }
                None => drifted = true,
            }
            if !is_once {
                drifted |= falls_short(&mut self.told, &mut self.ipset, &spec.name, now)?;
            }
        }
        Ok(drifted)
    }
}

/// Whether somebody has taken a member out of a small set.
fn falls_short(
    told: &mut Told,
    ipset: &mut Ipset,
    set: &str,
    now: Time,
) -> Result<bool, FirewallError> {
    let Some(least) = told.least(set, now).filter(|&least| least > 0) else {
        return Ok(false);
    };
    let held = ipset.header(set)?.map(|header| header.elements);
    Ok(held.is_some_and(|held| told.falls_short(set, least, held)))
}
