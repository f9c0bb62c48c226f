//! Who is trusted: the whitelist and, above it, trust given at run time at every gate or at one.
//! A forced ban withdraws trust in a network until restart or `trust`; what is left of an entry is a
//! member.

use ipnet::IpNet;

use super::event::TrustEdit;
use super::ledger::{Grant, Ledger, without};
use super::out::Out;
use super::{Engine, Lost, Record, What, shown};
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
    /// The trusted entries of a gate that have an address in common with `net`, with their
    /// reasons.
    pub(super) fn trusted_entries(
        &self,
        gate: usize,
        net: IpNet,
    ) -> impl Iterator<Item = (IpNet, &str)> {
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
            !pieces(&ledger.withdrawn, common).is_empty()
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
        without_all(net, own.chain(never).chain(trusted))
    }

    /// The trusted members of a gate as the kernel is to hold them.
    pub(super) fn trusted_members(&self, gate: usize) -> NetMap<&str> {
        let ledger = &self.ledgers[gate];
        let mut members = NetMap::new();
        let given = self.runtime.iter().chain(ledger.runtime.iter());
        let given = given.map(|(net, runtime)| (net, runtime.reason.as_str()));
        let listed = self
            .whitelist
            .iter()
            .map(|(net, reason)| (net, reason.as_str()));
        for (net, reason) in given.chain(listed) {
            for piece in pieces(&ledger.withdrawn, net) {
                members.insert(piece, reason);
            }
        }
        members
    }

    /// How many entries a gate trusts.
    pub(super) fn trusted_count(&self, gate: usize) -> usize {
        let ledger = &self.ledgers[gate];
        let given = self.runtime.iter().map(|(net, _)| net);
        let given = given
            .filter(|net| self.whitelist.get(*net).is_none())
            .count();
        let here = ledger.runtime.iter().map(|(net, _)| net);
        let here = here
            .filter(|net| self.whitelist.get(*net).is_none() && self.runtime.get(*net).is_none());
        self.whitelist.len() + given + here.count()
    }

    /// Why the member is trusted at the gate: as an entry, or as a piece of one.
    pub(super) fn trust_reason(&self, gate: usize, net: IpNet) -> Option<&str> {
        let whole = self.entry_reason(gate, net);
        whole.or_else(|| self.trusted(gate, net).map(|(_, reason)| reason))
    }

    /// Why exactly this network is an entry.
    fn entry_reason(&self, gate: usize, net: IpNet) -> Option<&str> {
        let given = || {
            self.ledgers[gate]
                .runtime
                .get(net)
                .or_else(|| self.runtime.get(net))
        };
        let listed = self.whitelist.get(net).map(String::as_str);
        listed.or_else(|| given().map(|runtime| runtime.reason.as_str()))
    }

    /// Takes over a whole new whitelist.
    pub(super) fn set_whitelist(&mut self, entries: Vec<(IpNet, String)>, out: &mut Out) {
        let mut new = NetMap::new();
        for (net, reason) in entries {
            new.insert(canonical_net(net), reason);
        }
        let gone = self
            .whitelist
            .iter()
            .map(|(net, _)| net)
            .filter(|net| new.get(*net).is_none());
        let gone: Vec<IpNet> = gone.collect();
        let come = new
            .iter()
            .filter(|(net, _)| self.whitelist.get(*net).is_none());
        let come: Vec<(IpNet, String)> = come.map(|(net, why)| (net, why.clone())).collect();
        for (net, why) in &come {
            self.record(Record::new(What::Trusted, why).to(*net).by_hand());
        }
        for net in &gone {
            self.record(Record::new(What::Untrusted, "whitelist").to(*net).by_hand());
        }
        // A change's own whitelist goes with it, if it is taken back.
        drop(self.change_whitelist(come, &gone, out));
        // The reasons of entries that stay may be others.
        self.whitelist = new;
    }

    /// Takes over changes to the whitelist. What was not on it before ends bans; what is no longer
    /// on it is trusted no more, unless it is so at run time.
    pub(super) fn edit_whitelist(
        &mut self,
        add: Vec<(IpNet, String)>,
        remove: &[IpNet],
        out: &mut Out,
    ) {
        for net in self.change_whitelist(add, remove, out) {
            self.journal.lose(None, Lost::Distrust(net));
        }
    }

    /// The same; who was not on it before.
    fn change_whitelist(
        &mut self,
        add: Vec<(IpNet, String)>,
        remove: &[IpNet],
        out: &mut Out,
    ) -> Vec<IpNet> {
        let before = self.withheld_members();
        for &net in remove {
            self.whitelist.remove(net);
        }
        let mut come = Vec::with_capacity(add.len());
        for (net, reason) in add {
            let net = canonical_net(net);
            if self.whitelist.insert(net, reason).is_none() {
                come.push(net);
            }
        }
        for gate in 0..self.ledgers.len() {
            // In this order: what comes may be in the place of what goes.
            for &net in &come {
                self.becomes_trusted(gate, net, out);
            }
            for &net in remove {
                self.forget_if_untrusted(gate, net, out);
            }
        }
        self.settle_withheld(&before, out);
        if out.change_count() > MANY {
            out.install();
        }
        come
    }

    /// Trust in these holds again where a forced ban had withdrawn it.
    pub(super) fn relisted(&mut self, nets: &[IpNet], out: &mut Out) {
        let before = self.withheld_members();
        for net in nets.iter().copied().map(canonical_net) {
            let given = self.runtime.covering(net).next().is_some();
            if given || self.whitelist.covering(net).next().is_some() {
                self.journal.lose(None, Lost::Distrust(net));
            }
        }
        for gate in 0..self.ledgers.len() {
            for net in nets.iter().copied().map(canonical_net) {
                if self
                    .trusted_entries(gate, net)
                    .any(|(entry, _)| entry.contains(&net))
                {
                    self.becomes_trusted(gate, net, out);
                }
            }
        }
        self.settle_withheld(&before, out);
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
        let before = self.withheld_members();
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
            self.journal.lose(None, Lost::Distrust(net));
            for gate in 0..self.ledgers.len() {
                self.becomes_trusted(gate, net, out);
            }
            if runtime.stored {
                out.store(edit(None));
            }
        }
        self.settle_withheld(&before, out);
    }

    /// Ends trust given at run time; whether there was any.
    pub(super) fn untrust_at_runtime(
        &mut self,
        gates: Option<&[usize]>,
        net: IpNet,
        out: &mut Out,
    ) -> bool {
        let before = self.withheld_members();
        let mut found = false;
        if gates.is_none()
            && let Some(removed) = self.runtime.remove(net)
        {
            if removed.stored {
                out.store(TrustEdit::Remove(None, net));
            }
            found = true;
        }
        let every: Vec<usize> = (0..self.ledgers.len()).collect();
        for &gate in gates.unwrap_or(&every) {
            if let Some(removed) = self.ledgers[gate].runtime.remove(net) {
                if removed.stored {
                    let name = self.policy.gates[gate].name.clone();
                    out.store(TrustEdit::Remove(Some(name), net));
                }
                found = true;
            }
            self.forget_if_untrusted(gate, net, out);
        }
        self.settle_withheld(&before, out);
        found
    }

    /// Why `untrust_at_runtime` of `net` would leave it trusted at run time all the same.
    pub(super) fn trusted_elsewhere(&self, gates: Option<&[usize]>, net: IpNet) -> Option<String> {
        if gates.is_some() && self.runtime.get(net).is_some() {
            return Some(format!(
                "{} is trusted at every gate: untrust it without --gate",
                shown(net)
            ));
        }
        let every: Vec<usize> = (0..self.ledgers.len()).collect();
        let here = gates
            .unwrap_or(&every)
            .iter()
            .map(|&gate| &self.ledgers[gate].runtime);
        let wider = here
            .chain([&self.runtime])
            .flat_map(|layer| layer.covering(net))
            .map(|(entry, _)| entry)
            .find(|entry| *entry != net)?;
        Some(format!(
            "{} is trusted as part of {wider}: untrust that",
            shown(net)
        ))
    }

    /// Makes room for new trust: bans in its way end, and where trust had been withdrawn it holds
    /// again.
    pub(super) fn becomes_trusted(&mut self, gate: usize, net: IpNet, out: &mut Out) {
        self.ledgers[gate].restore_withdrawn(net);
        let name = self.policy.gates[gate].name.clone();
        if let Some(reason) = self.entry_reason(gate, net) {
            let grant = Grant {
                deadline: Deadline::Never,
                reason: reason.to_owned(),
            };
            out.put(&name, Chain::Trusted, net, &grant);
        }
        let (lifted, put) = self.ledgers[gate].carve(net);
        out.carved(&name, &lifted, &put);
        for ban in lifted {
            let unbanned = Record::new(What::Unbanned, "trusted").of(&name, ban);
            self.journal.push(unbanned);
            out.info(format!(
                "{name}: the ban of {} ends: {} is trusted",
                shown(ban),
                shown(net)
            ));
        }
    }

    /// Withdraws trust within `net` at the gate until restart or `trust`, for a forced ban.
    pub(super) fn withdraw_trust(&mut self, gate: usize, net: IpNet, out: &mut Out) {
        if self.trusted(gate, net).is_none() {
            return;
        }
        let before = vec![(gate, owned(&self.trusted_members(gate)))];
        self.ledgers[gate].withdrawn.insert(net, ());
        self.settle_withheld(&before, out);
        let name = &self.policy.gates[gate].name;
        let untrusted = Record::new(What::Untrusted, "banned by force").of(name, net);
        self.journal
            .push(untrusted.saying("until restart or `trust`").by_hand());
        out.warn(format!(
            "{name}: trust in {} is withdrawn until restart or `trust`",
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

    /// The members of those gates where forced bans have made pieces of entries. There, changes
    /// are found by comparison; everywhere else an entry is a member.
    fn withheld_members(&self) -> Vec<(usize, NetMap<String>)> {
        let pieces = |gate: &usize| !self.ledgers[*gate].withdrawn.is_empty();
        let gates = (0..self.ledgers.len()).filter(pieces);
        gates
            .map(|gate| (gate, owned(&self.trusted_members(gate))))
            .collect()
    }

    /// Writes what has changed at those gates since.
    fn settle_withheld(&self, before: &[(usize, NetMap<String>)], out: &mut Out) {
        for (gate, before) in before {
            let name = &self.policy.gates[*gate].name;
            let after = self.trusted_members(*gate);
            out.forget(name, Chain::Trusted);
            for (net, reason) in after.iter().filter(|(net, _)| before.get(*net).is_none()) {
                let grant = Grant {
                    deadline: Deadline::Never,
                    reason: (*reason).to_owned(),
                };
                out.put(name, Chain::Trusted, net, &grant);
            }
            for (net, _) in before.iter().filter(|(net, _)| after.get(*net).is_none()) {
                out.remove(name, Chain::Trusted, net);
            }
        }
    }
}

impl Ledger {
    /// Ends the withdrawal of trust in `net`; it goes on for the rest of a wider one.
    pub(super) fn restore_withdrawn(&mut self, net: IpNet) {
        let withdrawn = &mut self.withdrawn;
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
    }
}

/// What is left of a trusted entry after forced bans.
fn pieces(withdrawn: &NetMap<()>, entry: IpNet) -> Vec<IpNet> {
    if withdrawn.is_empty() {
        return vec![entry];
    }
    let holes = withdrawn.covering(entry).chain(withdrawn.within(entry));
    without_all(entry, holes.map(|(hole, ())| hole))
}

fn owned(members: &NetMap<&str>) -> NetMap<String> {
    let mut all = NetMap::new();
    for (net, reason) in members.iter() {
        all.insert(net, (*reason).to_owned());
    }
    all
}

/// `net` without everything that the holes have of it.
fn without_all(net: IpNet, holes: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let mut parts = vec![net];
    for hole in holes {
        if !overlap(net, hole) {
            continue;
        }
        let part_without = |part: IpNet| {
            if hole.contains(&part) {
                Vec::new()
            } else if part.contains(&hole) {
                without(part, hole)
            } else {
                vec![part]
            }
        };
        parts = parts.into_iter().flat_map(part_without).collect();
    }
    parts
}

fn overlapping<V>(map: &NetMap<V>, net: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
    let inside = map.within(net).filter(move |(entry, _)| *entry != net);
    map.covering(net).chain(inside)
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
