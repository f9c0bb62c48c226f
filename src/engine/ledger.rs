use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::offences::PastBans;
use crate::model::{Chain, Deadline, NetMap, Time, net_of_prefix};

/// The most acceptances a gate holds at a time. Sources can be forged, so there has to be an end;
/// who is in stays in.
pub(super) const MOST_ACCEPTED: usize = 65_536;

/// The most bans by knock a gate holds at a time; then the oldest of them goes.
pub(super) const MOST_BANS_BY_KNOCK: usize = 65_536;

/// Something granted to, or held against, a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) deadline: Deadline,
    pub(super) reason: String,
}

#[derive(Debug, Clone)]
pub(super) struct Ban {
    pub(super) grant: Grant,
    /// Its place among the bans by knock; `None` is a ban by hand, which is never evicted.
    order: Option<u64>,
}

/// What one gate has decided, with an index of the deadlines.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    accepted: NetMap<Grant>,
    banned: NetMap<Ban>,
    open: Option<Grant>,
    /// Trust given at run time at this gate alone.
    pub(super) runtime: NetMap<super::trust::Runtime>,
    /// Where trust was withdrawn by a forced ban, until restart or `trust`.
    pub(super) withdrawn: NetMap<()>,
    /// What decoys have brought about here before.
    pub(super) past: PastBans,
    deadlines: BTreeSet<(Time, Chain, IpNet)>,
    by_knock: BTreeMap<u64, IpNet>,
    next_order: u64,
    /// What is another since it was last asked for.
    changed: BTreeSet<(Chain, IpNet)>,
}

impl Ban {
    /// Its place among the bans by knock; `None` is a ban by hand.
    pub(super) fn order(&self) -> Option<u64> {
        self.order
    }
}

impl Ledger {
    pub(super) fn accepted(&self) -> &NetMap<Grant> {
        &self.accepted
    }

    pub(super) fn banned(&self) -> &NetMap<Ban> {
        &self.banned
    }

    pub(super) fn opened(&self) -> Option<&Grant> {
        self.open.as_ref()
    }

    pub(super) fn accept(&mut self, net: IpNet, grant: Grant) {
        self.withdraw(net);
        self.schedule(grant.deadline, Chain::Filter, net);
        self.changed.insert((Chain::Filter, net));
        self.accepted.insert(net, grant);
    }

    /// Takes over an acceptance found in the kernel, the longest where several become one. A
    /// network does not say which of its addresses had knocked, so one that is wider than what
    /// the gate accepts is left.
    pub(super) fn adopt_acceptance(&mut self, net: IpNet, ipv6_prefix: u8, grant: Grant) {
        if net.prefix_len() == 0 {
            if self
                .open
                .as_ref()
                .is_none_or(|open| open.deadline < grant.deadline)
            {
                self.open(grant);
            }
            return;
        }
        let accepted = net_of_prefix(net.addr(), ipv6_prefix);
        if net.prefix_len() < accepted.prefix_len() {
            return;
        }
        if self
            .accepted
            .get(accepted)
            .is_none_or(|held| held.deadline < grant.deadline)
        {
            self.accept(accepted, grant);
        }
    }

    pub(super) fn withdraw(&mut self, net: IpNet) -> Option<Grant> {
        let old = self.accepted.remove(net)?;
        self.changed.insert((Chain::Filter, net));
        self.unschedule(old.deadline, Chain::Filter, net);
        Some(old)
    }

    pub(super) fn open(&mut self, grant: Grant) {
        self.close();
        self.schedule(grant.deadline, Chain::Filter, super::EVERYBODY[0]);
        self.changed.insert((Chain::Filter, super::EVERYBODY[0]));
        self.open = Some(grant);
    }

    pub(super) fn close(&mut self) -> Option<Grant> {
        let old = self.open.take()?;
        self.changed.insert((Chain::Filter, super::EVERYBODY[0]));
        self.unschedule(old.deadline, Chain::Filter, super::EVERYBODY[0]);
        Some(old)
    }

    /// Bans, and returns the ban by knock that had to make room, if one had to. A ban by hand
    /// stays one, whatever is knocked later. One by knock that begins again keeps its place: else
    /// forged decoys of all that are banned would make the next to come the oldest.
    pub(super) fn ban(&mut self, net: IpNet, grant: Grant, by_knock: bool) -> Option<IpNet> {
        let before = self.lift(net);
        let by_knock = by_knock && before.as_ref().is_none_or(|ban| ban.order.is_some());
        self.schedule(grant.deadline, Chain::Banned, net);
        let order = by_knock.then(|| {
            let order = before.and_then(|ban| ban.order).unwrap_or_else(|| {
                self.next_order += 1;
                self.next_order
            });
            self.by_knock.insert(order, net);
            order
        });
        self.changed.insert((Chain::Banned, net));
        self.banned.insert(net, Ban { grant, order });
        if self.by_knock.len() <= MOST_BANS_BY_KNOCK {
            return None;
        }
        let oldest = *self.by_knock.first_key_value()?.1;
        self.lift(oldest);
        Some(oldest)
    }

    /// Takes a ban over from before the restart, unless a longer one holds. One by knock keeps its
    /// place, so that what is remembered of it stays true.
    pub(super) fn restore_ban(&mut self, net: IpNet, grant: Grant, order: Option<u64>) {
        let held = self.banned.get(net);
        if held.is_some_and(|ban| ban.grant.deadline >= grant.deadline) {
            return;
        }
        if let Some(order) = order.filter(|order| *order > self.next_order) {
            if held.is_some_and(|ban| ban.order.is_some()) {
                self.lift(net);
            }
            self.next_order = order - 1;
        }
        self.ban(net, grant, order.is_some());
    }

    /// What is another since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<(Chain, IpNet)> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn lift(&mut self, net: IpNet) -> Option<Ban> {
        let old = self.banned.remove(net)?;
        self.changed.insert((Chain::Banned, net));
        self.unschedule(old.grant.deadline, Chain::Banned, net);
        if let Some(order) = old.order {
            self.by_knock.remove(&order);
        }
        Some(old)
    }

    /// Takes `hole` out of the bans that overlap it and returns what was lifted and what was put
    /// in its place. A ban of a network goes on for the rest of the network. Where the parts need
    /// room that there is not, others are lifted, as by [`Ledger::ban`].
    pub(super) fn carve(&mut self, hole: IpNet) -> (Vec<IpNet>, Vec<(IpNet, Grant)>) {
        let mut lifted: Vec<IpNet> = self.banned.within(hole).map(|(net, _)| net).collect();
        let wider: Vec<IpNet> = self
            .banned
            .covering(hole)
            .map(|(net, _)| net)
            .filter(|net| *net != hole)
            .collect();
        let mut put = Vec::new();
        for &net in &lifted {
            self.lift(net);
            self.past.forgive(net);
        }
        for net in wider {
            if let Some(old) = self.lift(net) {
                for rest in without(net, hole) {
                    // Banned by itself as well, and for longer.
                    let held = self.banned.get(rest);
                    if held.is_some_and(|ban| ban.grant.deadline >= old.grant.deadline) {
                        continue;
                    }
                    lifted.extend(self.ban(rest, old.grant.clone(), old.order.is_some()));
                    put.push((rest, old.grant.clone()));
                }
                lifted.push(net);
            }
        }
        // What had to make room may have been put, or is put after all.
        lifted.retain(|net| self.banned.get(*net).is_none());
        put.retain(|(net, _)| self.banned.get(*net).is_some());
        (lifted, put)
    }

    /// Forgets what is over and returns it, the longest over first.
    pub(super) fn expire(&mut self, now: Time) -> Vec<(Time, Chain, IpNet)> {
        let mut over = Vec::new();
        while let Some(&(at, chain, net)) = self.deadlines.first() {
            if at > now {
                break;
            }
            match chain {
                Chain::Banned => drop(self.lift(net)),
                _ if net.prefix_len() == 0 => drop(self.close()),
                _ => drop(self.withdraw(net)),
            }
            over.push((at, chain, net));
        }
        over
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(at, ..)| at)
    }

    /// The same ledger for a gate whose acceptances cover another part of an IPv6 address.
    pub(super) fn with_prefix(mut self, prefix: u8) -> Self {
        let old: Vec<(IpNet, Grant)> = self
            .accepted
            .iter()
            .map(|(net, grant)| (net, grant.clone()))
            .collect();
        for (net, _) in &old {
            self.withdraw(*net);
        }
        for (net, grant) in old {
            self.adopt_acceptance(net, prefix, grant);
        }
        self
    }

    fn schedule(&mut self, deadline: Deadline, chain: Chain, net: IpNet) {
        if let Deadline::At(at) = deadline {
            self.deadlines.insert((at, chain, net));
        }
    }

    fn unschedule(&mut self, deadline: Deadline, chain: Chain, net: IpNet) {
        if let Deadline::At(at) = deadline {
            self.deadlines.remove(&(at, chain, net));
        }
    }
}

/// The networks that make up `net` without `hole`, which lies in it.
pub(super) fn without(net: IpNet, hole: IpNet) -> Vec<IpNet> {
    let mut rest = Vec::new();
    let mut left = net;
    while left != hole && left.contains(&hole) {
        let Ok(halves) = left.subnets(left.prefix_len() + 1) else {
            break;
        };
        for half in halves {
            if half.contains(&hole) {
                left = half;
            } else {
                rest.push(half);
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hole_leaves_the_siblings() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(
            without(net("10.0.0.0/30"), net("10.0.0.1/32")),
            [net("10.0.0.2/31"), net("10.0.0.0/32")]
        );
        assert_eq!(without(net("10.0.0.0/24"), net("10.0.0.0/24")), []);
        assert_eq!(without(net("::/0"), net("2001:db8::1/128")).len(), 128);
        assert_eq!(without(net("0.0.0.0/0"), net("10.0.0.1/32")).len(), 32);
    }

    proptest! {
        #[test]
        fn net_and_hole_share_out_every_address(base in any::<u32>(), len in 24u8..=32, longer in 0u8..=8, asked in any::<u8>()) {
            let net = IpNet::from(ipnet::Ipv4Net::new_assert(base.into(), len)).trunc();
            let hole = net_of_prefix(std::net::Ipv4Addr::from(base).into(), (len + longer).min(32));
            let rest = without(net, hole);
            let address = std::net::IpAddr::from(std::net::Ipv4Addr::from(base & !0xff | u32::from(asked)));
            let found = rest.iter().filter(|part| part.contains(&address)).count();
            prop_assert_eq!(found, usize::from(net.contains(&address) && !hole.contains(&address)));
        }
    }
}
