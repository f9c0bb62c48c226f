//! Which bans and acceptances in the kernel the caller knows of.
//!
//! An installation may take out only these: what a dump lacked at start, and what somebody else
//! adds while we run, is for the engine to decide about, not to be lost without a word.

use std::collections::HashMap;
use std::time::Instant;

use ipnet::IpNet;

use super::members::kept_as;
use super::names::{Family, net_range};
use super::segments::{DOUBT, Entry, Segment, to_nets};
use crate::firewall::{Change, Desired, Member};
use crate::model::{Chain, GateName, Lifetime, NetMap};

/// Fewer than that are not worth looking through for expired ones.
const FEW: usize = 4_096;

/// When it ends; `None` is never.
type End = Option<Instant>;

/// The members, as the kernel's sets keep them.
#[derive(Debug, Default)]
pub(super) struct Told {
    members: HashMap<(GateName, Chain), Known>,
}

#[derive(Debug, Default)]
struct Known {
    nets: NetMap<End>,
    /// There were so many after the expired ones were last taken out.
    lasting: usize,
}

fn is_over(end: End, now: Instant) -> bool {
    end.is_some_and(|end| end + DOUBT < now)
}

impl Told {
    /// Whether there is nothing of which the caller knows.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The caller knows of it, with the network that its set keeps.
    fn put(&mut self, gate: &GateName, chain: Chain, net: IpNet, end: End, now: Instant) {
        let known = self.members.entry((gate.clone(), chain)).or_default();
        known.nets.insert(net, end);
        if known.nets.len() > 2 * known.lasting.max(FEW) {
            let over = known.nets.iter().filter(|(_, end)| is_over(**end, now));
            let over: Vec<IpNet> = over.map(|(net, _)| net).collect();
            for net in over {
                known.nets.remove(net);
            }
            known.lasting = known.nets.len();
        }
    }

    /// The caller knows of this member, of a gate with prefixes of that length.
    pub(super) fn member(&mut self, member: &Member, ipv6_prefix: u8, now: Instant) {
        if member.chain == Chain::Trusted {
            return;
        }
        let end = match member.remaining {
            Lifetime::Never => None,
            Lifetime::For(left) => now.checked_add(left),
        };
        if let Some(net) = kept_as(member.chain, member.net, ipv6_prefix) {
            self.put(&member.gate, member.chain, net, end, now);
        }
    }

    /// The caller knows of these, which the kernel holds.
    pub(super) fn found(&mut self, members: &[Member], now: Instant) {
        for member in members {
            let prefix = member.net.prefix_len();
            // A network of the filter chain is already as its set keeps it.
            let prefix = if prefix == 64 { 64 } else { 128 };
            self.member(member, prefix, now);
        }
    }

    /// The caller knows of all that it wants.
    pub(super) fn desired(&mut self, desired: &Desired, now: Instant) {
        let prefixes: HashMap<&GateName, u8> = desired
            .gates
            .iter()
            .map(|gate| (&gate.name, gate.ipv6_prefix))
            .collect();
        for member in &desired.members {
            if let Some(&prefix) = prefixes.get(&member.gate) {
                self.member(member, prefix, now);
            }
        }
    }

    /// The kernel was made to hold it, or not to hold it any more.
    pub(super) fn change(&mut self, change: &Change, ipv6_prefix: u8) {
        match change {
            Change::Put(member) => self.member(member, ipv6_prefix, Instant::now()),
            Change::Remove { gate, chain, net } => {
                let known = self.members.get_mut(&(gate.clone(), *chain));
                let net = kept_as(*chain, *net, ipv6_prefix);
                if let (Some(known), Some(net)) = (known, net) {
                    known.nets.remove(net);
                }
            }
        }
    }

    /// Whether the caller knows of exactly this one.
    pub(super) fn has(&self, gate: &GateName, chain: Chain, net: IpNet, now: Instant) -> bool {
        let known = self.members.get(&(gate.clone(), chain));
        known
            .and_then(|known| known.nets.get(net))
            .is_some_and(|end| !is_over(*end, now))
    }

    /// Whether the kernel may hold the member already, as far as the caller knows. Of who is
    /// trusted nothing is known here.
    pub(super) fn may_have(&self, member: &Member, ipv6_prefix: u8) -> bool {
        if member.chain == Chain::Trusted {
            return true;
        }
        let net = kept_as(member.chain, member.net, ipv6_prefix);
        net.is_none_or(|net| self.has(&member.gate, member.chain, net, Instant::now()))
    }

    /// The parts of segments of one family that no network covers of which the caller knows.
    pub(super) fn unknown(
        &self,
        gate: &GateName,
        chain: Chain,
        family: Family,
        segments: Vec<Segment>,
        now: Instant,
    ) -> Vec<Segment> {
        match self.members.get(&(gate.clone(), chain)) {
            None => segments,
            Some(known) => outside(family, segments, &known.nets, |end, _| !is_over(*end, now)),
        }
    }
}

/// The parts of segments that none of those networks covers which count for what is there.
pub(super) fn outside<V>(
    family: Family,
    segments: Vec<Segment>,
    nets: &NetMap<V>,
    counts: impl Fn(&V, &Entry) -> bool,
) -> Vec<Segment> {
    let mut rest = Vec::new();
    for (net, entry) in to_nets(family, segments) {
        if nets.covering(net).any(|(_, value)| counts(value, &entry)) {
            continue;
        }
        let mut part = |first, last| {
            rest.push(Segment {
                first,
                last,
                entry: entry.clone(),
            });
        };
        let (first, last) = net_range(net);
        let mut next = Some(first);
        for (inner, _) in nets.within(net).filter(|(_, value)| counts(value, &entry)) {
            let (from, to) = net_range(inner);
            if let Some(first) = next.filter(|first| *first < from) {
                part(first, from - 1);
            }
            // What lies within the one before ends before it.
            next = next.and_then(|next| to.checked_add(1).map(|after| after.max(next)));
        }
        if let Some(first) = next.filter(|first| *first <= last) {
            part(first, last);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate() -> GateName {
        GateName::new("ssh").unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn segment(text: &str) -> Segment {
        let (first, last) = net_range(net(text));
        Segment {
            first,
            last,
            entry: Entry {
                end: None,
                reason: String::new(),
            },
        }
    }

    fn rest(family: Family, segments: &[&str], nets: &[&str]) -> Vec<String> {
        let mut map = NetMap::new();
        for text in nets {
            map.insert(net(text), ());
        }
        let segments = segments.iter().map(|text| segment(text)).collect();
        let rest = outside(family, segments, &map, |(), _| true);
        let nets = to_nets(family, rest).into_iter();
        nets.map(|(net, _)| net.to_string()).collect()
    }

    #[test]
    fn what_is_outside_of_networks_remains() {
        let v4 = |segments: &[&str], nets: &[&str]| rest(Family::V4, segments, nets);
        assert_eq!(v4(&["10.0.0.0/24"], &[]), ["10.0.0.0/24"]);
        assert!(v4(&["10.0.0.0/24"], &["10.0.0.0/8"]).is_empty());
        assert!(v4(&["10.0.0.0/24"], &["10.0.0.0/25", "10.0.0.128/25"]).is_empty());
        assert_eq!(
            v4(
                &["10.0.0.0/24"],
                &["10.0.0.0/26", "10.0.0.0/32", "10.0.0.128/26"]
            ),
            ["10.0.0.64/26", "10.0.0.192/26"]
        );
        assert_eq!(
            v4(&["10.0.0.0/24", "10.0.1.0/24"], &["10.0.0.0/24"]),
            ["10.0.1.0/24"]
        );
        assert!(rest(Family::V6, &["ff00::/8"], &["ff00::/9", "ff80::/9"]).is_empty());
        assert_eq!(rest(Family::V6, &["::/0"], &["8000::/1"]), ["::/1"]);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let mut told = Told::default();
        for host in 0..100_000u32 {
            let end = Some(now + Duration::from_secs(u64::from(host) / 1000));
            let at = now + Duration::from_secs(u64::from(host) / 100);
            let net = std::net::IpAddr::from(host.to_be_bytes()).into();
            told.put(&gate(), Chain::Banned, net, end, at);
        }
        told.put(&gate(), Chain::Banned, net("10.0.0.1/32"), None, now);
        let known = &told.members[&(gate(), Chain::Banned)];
        assert!(known.nets.len() <= 2 * FEW + 1, "{}", known.nets.len());
        let has = |text| told.has(&gate(), Chain::Banned, net(text), later);
        assert!(has("10.0.0.1/32"));
        assert!(!has("0.1.134.159/32"), "over, and not yet forgotten");
    }
}
