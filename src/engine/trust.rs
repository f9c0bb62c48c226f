use ipnet::IpNet;

use super::event::TrustEdit;
use super::ledger::{Grant, without};
use super::out::Out;
use super::{Engine, shown};
use crate::model::{Chain, Deadline, GateName, NetMap, canonical_net, host_net};

/// Trust given at run time.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) reason: String,
    /// Whether it outlives the daemon (a command's), or not (a knock's).
    pub(super) stored: bool,
}

/// So many member changes are written faster all at once.
const MANY: usize = 1000;

impl Engine {
    /// The trusted entries of a gate that have an address in common with `net`, widest layer
    /// first, with their reasons.
    fn trusted_entries(&self, gate: usize, net: IpNet) -> impl Iterator<Item = (IpNet, &str)> {
        let ledger = &self.ledgers[gate];
        let listed = overlapping(&self.whitelist, net).map(|(net, reason)| (net, reason.as_str()));
        let layers = [&self.runtime, &ledger.runtime];
        let given = layers
            .into_iter()
            .flat_map(move |layer| overlapping(layer, net))
            .map(|(net, runtime)| (net, runtime.reason.as_str()));
        listed.chain(given)
    }

    /// A trusted entry of the gate that has an address in common with `net`, and trust in which
    /// was not withdrawn there.
    pub(super) fn trusted(&self, gate: usize, net: IpNet) -> Option<(IpNet, &str)> {
        let ledger = &self.ledgers[gate];
        self.trusted_entries(gate, net).find(|(entry, _)| {
            let common = if entry.contains(&net) { net } else { *entry };
            ledger.withdrawn.lookup(common).is_none()
        })
    }

    /// What keeps a ban of `net` at the gate from being written, in words.
    pub(super) fn protection(&self, gate: usize, net: IpNet) -> Option<String> {
        if let Some(own) = self.own.iter().find(|own| net.contains(*own)) {
            return Some(format!("{own} is an address of this host"));
        }
        if let Some(never) = self
            .policy
            .never_ban
            .iter()
            .find(|never| overlap(**never, net))
        {
            return Some(format!("{never} is in never_ban"));
        }
        self.trusted(gate, net)
            .map(|(entry, reason)| format!("{} is trusted ({reason})", shown(entry)))
    }

    /// The parts of `net` that are neither trusted at the gate nor otherwise protected.
    pub(super) fn outside_trust(&self, gate: usize, net: IpNet) -> Vec<IpNet> {
        let own = self.own.iter().map(|own| host_net(*own));
        let never = self.policy.never_ban.iter().copied();
        let trusted = self.trusted_entries(gate, net).map(|(entry, _)| entry);
        let mut parts = vec![net];
        for hole in own.chain(never).chain(trusted) {
            parts = parts
                .into_iter()
                .flat_map(|part| {
                    if hole.contains(&part) {
                        Vec::new()
                    } else if part.contains(&hole) {
                        without(part, hole)
                    } else {
                        vec![part]
                    }
                })
                .collect();
        }
        parts
    }

    /// The trusted members of a gate as the kernel is to hold them.
    pub(super) fn trusted_members(&self, gate: usize) -> NetMap<&str> {
        let ledger = &self.ledgers[gate];
        let mut members = NetMap::new();
        let given = self.runtime.iter().chain(ledger.runtime.iter());
        let given = given.map(|(net, runtime)| (net, runtime.reason.as_str()));
        for (net, reason) in given.chain(self.whitelist.iter().map(|(n, r)| (n, r.as_str()))) {
            if ledger.withdrawn.lookup(net).is_none() {
                members.insert(net, reason);
            }
        }
        members
    }

    /// Why exactly this network is trusted at the gate.
    pub(super) fn trust_reason(&self, gate: usize, net: IpNet) -> Option<&str> {
        let given = || {
            self.ledgers[gate]
                .runtime
                .get(net)
                .or_else(|| self.runtime.get(net))
        };
        self.whitelist
            .get(net)
            .map(String::as_str)
            .or_else(|| given().map(|runtime| runtime.reason.as_str()))
    }

    /// Takes over a whole new whitelist. What was not on it before ends bans; what is no longer on
    /// it is trusted no more, unless it is so at run time.
    pub(super) fn set_whitelist(&mut self, entries: Vec<(IpNet, String)>, out: &mut Out) {
        let mut new = NetMap::new();
        for (net, reason) in entries {
            new.insert(canonical_net(net), reason);
        }
        let old = std::mem::replace(&mut self.whitelist, new);
        let gone: Vec<IpNet> = old
            .iter()
            .map(|(n, _)| n)
            .filter(|n| self.whitelist.get(*n).is_none())
            .collect();
        let come: Vec<IpNet> = self
            .whitelist
            .iter()
            .map(|(n, _)| n)
            .filter(|n| old.get(*n).is_none())
            .collect();
        for gate in 0..self.ledgers.len() {
            for &net in &gone {
                self.forget_if_untrusted(gate, net, out);
            }
            for &net in &come {
                self.becomes_trusted(gate, net, out);
            }
        }
        if out.change_count() > MANY {
            out.install();
        }
    }

    pub(super) fn relisted(&mut self, nets: &[IpNet], out: &mut Out) {
        for gate in 0..self.ledgers.len() {
            for &net in nets {
                self.becomes_trusted(gate, canonical_net(net), out);
            }
        }
    }

    pub(super) fn restore_runtime(
        &mut self,
        entries: Vec<(Option<GateName>, IpNet, String)>,
        out: &mut Out,
    ) {
        for (gate, net, reason) in entries {
            let runtime = Runtime {
                reason,
                stored: true,
            };
            match gate {
                None => drop(self.runtime.insert(net, runtime)),
                Some(name) => {
                    let Ok(gates) = self.indexes(&[name]) else {
                        continue;
                    };
                    for gate in gates {
                        self.ledgers[gate].runtime.insert(net, runtime.clone());
                    }
                }
            }
        }
        out.install();
    }

    /// Trusts at run time: at the gates, or at every gate if `gates` is `None`.
    pub(super) fn trust_at_runtime(
        &mut self,
        gates: Option<&[usize]>,
        net: IpNet,
        runtime: &Runtime,
        out: &mut Out,
    ) {
        let edit = |name| TrustEdit::Add(name, net, runtime.reason.clone());
        if let Some(gates) = gates {
            for &gate in gates {
                self.ledgers[gate].runtime.insert(net, runtime.clone());
                self.becomes_trusted(gate, net, out);
                if runtime.stored {
                    out.store(edit(Some(self.policy.gates[gate].name.clone())));
                }
            }
        } else {
            self.runtime.insert(net, runtime.clone());
            for gate in 0..self.ledgers.len() {
                self.becomes_trusted(gate, net, out);
            }
            if runtime.stored {
                out.store(edit(None));
            }
        }
    }

    /// Ends trust given at run time; whether there was any.
    pub(super) fn untrust_at_runtime(
        &mut self,
        gates: Option<&[usize]>,
        net: IpNet,
        out: &mut Out,
    ) -> bool {
        let mut found = false;
        if gates.is_none() && self.runtime.remove(net).is_some() {
            out.store(TrustEdit::Remove(None, net));
            found = true;
        }
        let every: Vec<usize> = (0..self.ledgers.len()).collect();
        for &gate in gates.unwrap_or(&every) {
            if self.ledgers[gate].runtime.remove(net).is_some() {
                out.store(TrustEdit::Remove(
                    Some(self.policy.gates[gate].name.clone()),
                    net,
                ));
                found = true;
            }
            self.forget_if_untrusted(gate, net, out);
        }
        found
    }

    /// Makes room for new trust: bans in its way end, and where trust had been withdrawn it holds
    /// again.
    fn becomes_trusted(&mut self, gate: usize, net: IpNet, out: &mut Out) {
        let affected = self.restore_withdrawn(gate, net);
        let name = self.policy.gates[gate].name.clone();
        for (entry, reason) in self.trusted_within(gate, affected) {
            if self.ledgers[gate].withdrawn.lookup(entry).is_none() {
                let grant = Grant {
                    deadline: Deadline::Never,
                    reason,
                };
                out.put(&name, Chain::Trusted, entry, &grant);
            }
        }
        let (lifted, put) = self.ledgers[gate].carve(net);
        for ban in lifted {
            out.remove(&name, Chain::Banned, ban);
            out.info(format!(
                "{name}: the ban of {} ends: {} is trusted",
                shown(ban),
                shown(net)
            ));
        }
        for (rest, grant) in put {
            out.put(&name, Chain::Banned, rest, &grant);
        }
    }

    /// The trusted members that lie within `net`, itself included.
    fn trusted_within(&self, gate: usize, net: IpNet) -> Vec<(IpNet, String)> {
        let ledger = &self.ledgers[gate];
        let mut found = NetMap::new();
        for layer in [&self.runtime, &ledger.runtime] {
            for (entry, runtime) in layer.within(net) {
                found.insert(entry, runtime.reason.clone());
            }
        }
        for (entry, reason) in self.whitelist.within(net) {
            found.insert(entry, reason.clone());
        }
        found
            .iter()
            .map(|(entry, reason)| (entry, reason.clone()))
            .collect()
    }

    /// Ends the withdrawal of trust in `net`; it goes on for the rest of a wider one. Returns the
    /// network whose entries may be members again.
    fn restore_withdrawn(&mut self, gate: usize, net: IpNet) -> IpNet {
        let withdrawn = &mut self.ledgers[gate].withdrawn;
        let within: Vec<IpNet> = withdrawn.within(net).map(|(n, ())| n).collect();
        for gone in within {
            withdrawn.remove(gone);
        }
        let wider: Vec<IpNet> = withdrawn.covering(net).map(|(n, ())| n).collect();
        for &whole in &wider {
            withdrawn.remove(whole);
            for rest in without(whole, net) {
                withdrawn.insert(rest, ());
            }
        }
        wider.last().copied().unwrap_or(net)
    }

    /// Withdraws trust within `net` at the gate until restart, for a forced ban.
    pub(super) fn withdraw_trust(&mut self, gate: usize, net: IpNet, out: &mut Out) {
        if self.trusted(gate, net).is_none() {
            return;
        }
        let name = self.policy.gates[gate].name.clone();
        for (entry, _) in self.trusted_within(gate, net) {
            out.remove(&name, Chain::Trusted, entry);
        }
        self.ledgers[gate].withdrawn.insert(net, ());
        out.warn(format!(
            "{name}: trust in {} is withdrawn until restart",
            shown(net)
        ));
    }

    /// Takes the member out of the kernel, unless another layer still trusts it.
    fn forget_if_untrusted(&mut self, gate: usize, net: IpNet, out: &mut Out) {
        let ledger = &self.ledgers[gate];
        let still = self.whitelist.get(net).is_some()
            || self.runtime.get(net).is_some()
            || ledger.runtime.get(net).is_some();
        if !still {
            out.remove(&self.policy.gates[gate].name, Chain::Trusted, net);
        }
    }
}

fn overlapping<V>(map: &NetMap<V>, net: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
    let inside = map.within(net).filter(move |(entry, _)| *entry != net);
    map.covering(net).chain(inside)
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
