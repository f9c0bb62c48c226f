use std::net::IpAddr;

use ipnet::IpNet;

use super::{EVERYBODY, Engine, shown};
use crate::model::{
    Chain, GateName, KnockName, Lifetime, Time, canonical, canonical_net, host_net,
};
use crate::policy::KnockAction;

/// Something decided that covers an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Which chain it is a member of.
    pub chain: Chain,
    /// What it covers; length 0 in `Chain::Filter` is an open gate.
    pub net: IpNet,
    /// What is left of it.
    pub remaining: Lifetime,
    /// Why it is there.
    pub reason: String,
}

/// What is decided about one address at one gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// In the order in which a new connection meets the chains; of each chain the narrowest first.
    pub decided: Vec<Decided>,
    /// Whether it is this host itself, which is never gated on the host.
    pub is_own: bool,
    /// Why it would be trusted, if a forced ban had not withdrawn that, and until when it has.
    pub withheld: Option<(String, String)>,
    /// Why a decoy cannot ban it, if that is so.
    pub protection: Option<String>,
    /// The knocks that would let it in now.
    pub knocks: Vec<KnockName>,
}

impl Engine {
    /// What is decided about an address at a gate; `None`: there is no such gate.
    pub fn standing(&self, gate: &GateName, address: IpAddr, now: Time) -> Option<Standing> {
        let index = self.policy.gates.iter().position(|g| g.name == *gate)?;
        let address = canonical(address);
        let host = host_net(address);
        let decided = self.decided(index, host, now);
        let is_banned = decided.iter().any(|it| it.chain == Chain::Banned);
        let lets_in = |action: &KnockAction| {
            matches!(
                action,
                KnockAction::Accept | KnockAction::Trust | KnockAction::Open
            )
        };
        let knocks = self.policy.knocks.iter();
        let knocks = knocks.filter(|k| !is_banned && lets_in(&k.action) && k.gates.contains(gate));
        Some(Standing {
            decided,
            is_own: self.own.contains(&address),
            withheld: self
                .withheld(index, host)
                .map(|(reason, until)| (reason.to_owned(), until)),
            protection: self.protection(index, host),
            knocks: knocks.map(|knock| knock.name.clone()).collect(),
        })
    }

    /// Why something of `net` would be trusted at the gate, if a forced ban had not withdrawn that,
    /// and until when it has.
    pub(super) fn withheld(&self, gate: usize, net: IpNet) -> Option<(&str, String)> {
        let withdrawn = &self.ledgers[gate].withdrawn;
        let entries = self.trusted_entries(gate, net);
        let in_common = entries.map(|(entry, why)| {
            let common = if entry.contains(&net) { net } else { entry };
            (common, why)
        });
        let mut withheld = in_common.filter(|(part, _)| withdrawn.overlapping(*part).is_some());
        let (first, reason) = withheld.next()?;
        let all = withheld.all(|(part, _)| part == first);
        let until = if all {
            format!("until restart or `trust {}`", shown(first))
        } else {
            "until restart or `trust` of each".to_owned()
        };
        Some((reason, until))
    }

    /// Whether something of `net` would be trusted at some gate, if a forced ban had not withdrawn
    /// that.
    pub fn is_withheld(&self, net: IpNet) -> bool {
        let net = canonical_net(net);
        (0..self.ledgers.len()).any(|gate| self.withheld(gate, net).is_some())
    }

    fn decided(&self, gate: usize, host: IpNet, now: Time) -> Vec<Decided> {
        let ledger = &self.ledgers[gate];
        let as_decided = |chain, net, remaining, reason: &str| Decided {
            chain,
            net,
            remaining,
            reason: reason.to_owned(),
        };
        let bans = ledger.banned().covering(host).map(|(net, ban)| {
            let left = ban.grant.deadline.remaining(now);
            as_decided(Chain::Banned, net, left, &ban.grant.reason)
        });
        let mut decided: Vec<Decided> = bans.collect();
        decided.extend(
            self.trusted(gate, host)
                .map(|(net, reason)| as_decided(Chain::Trusted, net, Lifetime::Never, reason)),
        );
        decided.extend(ledger.accepted().covering(host).map(|(net, grant)| {
            let left = grant.deadline.remaining(now);
            as_decided(Chain::Filter, net, left, &grant.reason)
        }));
        decided.extend(ledger.opened().map(|grant| {
            let everybody = EVERYBODY[usize::from(matches!(host, IpNet::V6(_)))];
            let left = grant.deadline.remaining(now);
            as_decided(Chain::Filter, everybody, left, &grant.reason)
        }));
        // What is over is not in the kernel any more, whether or not it was noticed.
        decided.retain(|it| !matches!(it.remaining, Lifetime::For(left) if left.is_zero()));
        decided.sort_by_key(|it| (it.chain, std::cmp::Reverse(it.net.prefix_len())));
        decided
    }
}
