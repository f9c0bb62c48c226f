//! Changes to the members of sets that are there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use ipnet::IpNet;

use super::ipset::full;
use super::members::{Held, LONGEST, Place, Shape, element, left, unplaceable};
use super::message::{Element, Key};
use super::names::{Family, Role, parse_set, set_name};
use super::{Iptables, now};
use crate::firewall::{Change, FirewallError};
use crate::model::{Chain, GateName, Lifetime, Time};

/// A member that lasts longer than the kernel can count.
#[derive(Debug, Clone)]
pub(super) struct Long {
    until: u64,
    armed: Time,
    reason: String,
}

/// Half of what the kernel can count: then a member is armed again.
const REARM: Duration = Duration::from_secs(LONGEST as u64 / 2);

impl Iptables {
    /// Reads what has to be known, if nothing was installed by us.
    pub(super) fn know(&mut self) -> Result<HashMap<GateName, Shape>, FirewallError> {
        if let Some(shapes) = &self.shapes {
            return Ok(shapes.clone());
        }
        let mut shapes: HashMap<GateName, Shape> = HashMap::new();
        for header in self.ipset.headers()? {
            let Some((gate, role)) = parse_set(&header.name) else {
                continue;
            };
            let shape = shapes.entry(gate).or_insert(Shape {
                ipv6_prefix: 128,
                once: false,
            });
            match role {
                Role::Open(_) => shape.once = true,
                Role::Members(Chain::Filter, Family::V6) => {
                    let held = self.ipset.elements(&header.name)?;
                    let is_wide =
                        |e: &Element| matches!(e.key, Key::Net(net) if net.prefix_len() == 64);
                    if held.iter().any(is_wide) {
                        shape.ipv6_prefix = 64;
                    }
                }
                _ => {}
            }
        }
        self.shapes = Some(shapes.clone());
        Ok(shapes)
    }

    /// Gives members that last longer than the kernel can count more time, before it runs out.
    /// Every call that changes or verifies does it; one in 12 days is enough.
    pub(super) fn rearm(&mut self) -> Result<(), FirewallError> {
        let now = now();
        let due: Vec<_> = self
            .long
            .iter()
            .filter(|(_, long)| now.since(long.armed) >= REARM)
            .map(|(place, long)| (place.clone(), long.clone()))
            .collect();
        for ((set, net), long) in due {
            let seconds = long.until.saturating_sub(now.0 / 1_000_000_000);
            let place = (set, net);
            // What a rule or somebody else has taken out stays out.
            if seconds == 0 || !self.ipset.has(&place.0, Key::Net(net))? {
                self.long.remove(&place);
                continue;
            }
            let left = Some(Duration::from_secs(seconds));
            self.put(&place.0, net, left, &long.reason, now)?;
        }
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        set: &str,
        net: IpNet,
        left: Option<Duration>,
        reason: &str,
        now: Time,
    ) -> Result<(), FirewallError> {
        let element = element(Key::Net(net), left, reason, now);
        // Whatever becomes of it.
        self.told.put(set, net, left, now);
        self.ipset.add(set, &element)?;
        self.remember(set, net, &element, now);
        Ok(())
    }

    pub(super) fn remember(&mut self, set: &str, net: IpNet, element: &Element, now: Time) {
        let held = Held::of(element, now);
        let place = (set.to_owned(), net);
        match held.until {
            Some(until) => {
                let long = Long {
                    until,
                    armed: now,
                    reason: held.reason,
                };
                self.long.insert(place, long);
            }
            None => drop(self.long.remove(&place)),
        }
    }

    pub(super) fn remove(&mut self, set: &str, net: IpNet) -> Result<(), FirewallError> {
        self.long.remove(&(set.to_owned(), net));
        self.ipset.delete(set, Key::Net(net))?;
        self.told.remove(set, net);
        Ok(())
    }

    /// Fails if the sets have no room for that many, as far as can be told before.
    pub(super) fn check_room(&mut self, writes: &[Write]) -> Result<(), FirewallError> {
        let mut wanted: BTreeMap<&str, (u32, IpNet)> = BTreeMap::new();
        for write in writes.iter().filter(|write| write.value.is_some()) {
            wanted.entry(&write.set).or_insert((0, write.net)).0 += 1;
        }
        for (set, (count, first)) in wanted {
            let Some(header) = self.ipset.header(set)? else {
                continue;
            };
            let room = header.maxelem.saturating_sub(header.elements);
            if count <= room {
                continue;
            }
            // Renewing takes no room.
            let held = self.ipset.elements(set)?;
            let held: HashSet<Key> = held.iter().map(|e| e.key).collect();
            let new = writes
                .iter()
                .filter(|w| w.set == set && w.value.is_some() && !held.contains(&Key::Net(w.net)));
            if new.count() > usize::try_from(room).unwrap_or(usize::MAX) {
                return Err(full(set, Key::Net(first)));
            }
        }
        Ok(())
    }
}

/// A change to one set.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) set: String,
    pub(super) net: IpNet,
    /// The time left and the reason; `None` takes it out.
    pub(super) value: Option<(Option<Duration>, String)>,
}

pub(super) fn writes(
    changes: &[Change],
    shapes: &HashMap<GateName, Shape>,
) -> Result<Vec<Write>, FirewallError> {
    let mut writes = Vec::new();
    for change in changes {
        let (gate, chain, net) = match change {
            Change::Put(member) => (&member.gate, member.chain, member.net),
            Change::Remove { gate, chain, net } => (gate, *chain, *net),
        };
        let place = shapes
            .get(gate)
            .and_then(|shape| Place::of(chain, net, *shape));
        let value = match change {
            Change::Put(member) if member.remaining == Lifetime::For(Duration::ZERO) => None,
            Change::Put(member) => Some((left(chain, member.remaining), member.reason.clone())),
            Change::Remove { .. } => None,
        };
        let Some(place) = place else {
            match change {
                Change::Put(_) => return Err(unplaceable(gate, chain, net)),
                // What cannot be there need not be removed.
                Change::Remove { .. } => continue,
            }
        };
        let set = set_name(gate, place.role);
        writes.extend(place.nets.into_iter().map(|net| Write {
            set: set.clone(),
            net,
            value: value.clone(),
        }));
    }
    Ok(writes)
}
