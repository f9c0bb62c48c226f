//! What should come of it: the rules of the design once more, as short as they can be said, with
//! sets of single addresses where the program has ledgers, and no thought of speed.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::operations::{End, GATES, NEVER_BAN, Operation, Rules, hosts_of, net};

/// Milliseconds since the story began; none is never.
pub(crate) type Until = Option<u64>;

/// What one gate has decided.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    pub(crate) accepted: BTreeMap<IpNet, Until>,
    pub(crate) banned: BTreeMap<IpNet, Until>,
    pub(crate) open: Option<Until>,
    /// Whose trust a forced ban withdrew.
    withdrawn: BTreeSet<IpNet>,
}

/// What becomes of somebody's new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    In,
    Out,
    /// There is no such gate.
    Unguarded,
}

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    now: u64,
    /// How many times as long as the operations say the policy's times are.
    slower: u64,
    pub(crate) rules: Rules,
    pub(crate) gates: BTreeMap<&'static str, Gate>,
    pub(crate) file: BTreeSet<IpNet>,
    runtime: BTreeSet<IpNet>,
    previous: Option<Rules>,
    trial: Option<Trial>,
    /// It was taken back by itself, and nothing was put in force since.
    reverted: bool,
}

#[derive(Debug, Clone)]
struct Trial {
    ends: u64,
    before: Rules,
    gates: BTreeMap<&'static str, Gate>,
}

/// Whether what was asked for is done, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// With this exit code.
    Refused(u8),
    /// Either: the program's answer counts.
    Whatever,
}

fn later(a: Until, b: Until) -> Until {
    a.zip(b).map(|(a, b)| a.max(b))
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// What gates held that a trial has removed. What is taken everywhere is taken there, too.
fn gone(trial: &mut Option<Trial>, now: Rules) -> impl Iterator<Item = &mut Gate> {
    let held = trial.iter_mut().flat_map(|trial| trial.gates.iter_mut());
    let gone = held.filter(move |(name, _)| !now.gates().contains(name));
    gone.map(|(_, gate)| gate)
}

impl Gate {
    fn expire(&mut self, now: u64) {
        let holds = |end: &Until| end.is_none_or(|end| end > now);
        self.accepted.retain(|_, end| holds(end));
        self.banned.retain(|_, end| holds(end));
        self.open = self.open.filter(holds);
    }

    fn is_banned(&self, who: IpNet) -> bool {
        self.banned.keys().any(|net| net.contains(&who))
    }

    /// Whether it is banned for as long, or a network around it is, to the second: then a decoy of
    /// its adds nothing.
    fn holds_as_long(&self, who: IpNet, end: Until) -> bool {
        let holds = |held: Until| match (held, end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(held), Some(end)) => held + 1_000 > end,
        };
        let mut around = self.banned.iter().filter(|(net, _)| net.contains(&who));
        around.any(|(_, held)| holds(*held)) && !self.accepted.contains_key(&who)
    }

    fn ban(&mut self, net: IpNet, end: Until) {
        self.banned.insert(net, end);
        self.accepted.retain(|who, _| !net.contains(who));
    }

    /// Takes an address or a network out of all bans.
    fn carve(&mut self, hole: IpNet) {
        let hit: Vec<IpNet> = self.banned.keys().copied().collect();
        for whole in hit.into_iter().filter(|whole| overlap(*whole, hole)) {
            let end = self.banned.remove(&whole).flatten();
            for part in without(whole, hole) {
                let end = self.banned.get(&part).map_or(end, |held| later(*held, end));
                self.banned.insert(part, end);
            }
        }
    }

    fn ends(&self) -> impl Iterator<Item = u64> {
        let all = self.accepted.values().chain(self.banned.values());
        all.copied().chain(self.open).flatten()
    }
}

/// The largest networks that make up `whole` without `hole`.
fn without(whole: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&whole) {
        return Vec::new();
    }
    if !whole.contains(&hole) {
        return vec![whole];
    }
    let halves = whole.subnets(whole.prefix_len() + 1).expect("two halves");
    halves.flat_map(|half| without(half, hole)).collect()
}

impl Model {
    pub(crate) fn new(rules: Rules, file: &[IpNet]) -> Self {
        let gates = rules.gates().iter().map(|gate| (*gate, Gate::default()));
        Self {
            now: 0,
            slower: 1,
            rules,
            gates: gates.collect(),
            file: file.iter().copied().collect(),
            runtime: BTreeSet::new(),
            previous: None,
            trial: None,
            reverted: false,
        }
    }

    /// The policy's times are so many times as long.
    pub(crate) fn slower(self, slower: u64) -> Self {
        Self { slower, ..self }
    }

    fn trusted(&self, gate: &Gate, who: IpNet) -> bool {
        let mut entries = self.file.union(&self.runtime);
        entries.any(|entry| entry.contains(&who)) && !gate.withdrawn.contains(&who)
    }

    /// Whether the whitelist, or trust given since, has this address there.
    pub(crate) fn trusts(&self, gate: &str, who: IpNet) -> bool {
        let gate = self.gates.get(gate);
        gate.is_some_and(|gate| self.trusted(gate, who))
    }

    pub(crate) fn fate(&self, name: &str, who: IpNet) -> Fate {
        let Some(gate) = self.gates.get(name) else {
            return Fate::Unguarded;
        };
        let granted = self.trusted(gate, who) || gate.accepted.contains_key(&who);
        if !gate.is_banned(who) && (granted || gate.open.is_some()) {
            Fate::In
        } else {
            Fate::Out
        }
    }

    /// When something ends by itself.
    pub(crate) fn ends(&self) -> Vec<u64> {
        let trial = self.trial.iter();
        let kept = trial.clone().flat_map(|trial| trial.gates.values());
        let all = self.gates.values().chain(kept).flat_map(Gate::ends);
        all.chain(trial.map(|trial| trial.ends)).collect()
    }

    /// Time passes until then.
    pub(crate) fn pass(&mut self, now: u64) {
        while let Some(ends) = self.trial.as_ref().map(|t| t.ends).filter(|e| *e <= now) {
            self.now = ends;
            self.expire();
            self.take_back();
            self.reverted = true;
        }
        self.now = now;
        self.expire();
    }

    fn expire(&mut self) {
        let now = self.now;
        let kept = self.trial.iter_mut().flat_map(|t| t.gates.values_mut());
        let all = self.gates.values_mut().chain(kept);
        all.for_each(|gate| gate.expire(now));
    }

    /// The gates that a command is about; none if one of them is unknown.
    fn at(&self, gate: Option<&'static str>) -> Option<Vec<&'static str>> {
        match gate {
            None => Some(self.rules.gates().to_vec()),
            Some(gate) => self.gates.contains_key(gate).then(|| vec![gate]),
        }
    }

    fn end(&self, secs: Option<u64>) -> Until {
        secs.map(|secs| self.now + 1000 * secs)
    }

    fn is_protected(&self, gate: &Gate, what: IpNet) -> bool {
        overlap(what, net(NEVER_BAN)) || hosts_of(what).iter().any(|who| self.trusted(gate, *who))
    }

    /// Takes into account what has happened, at `now`.
    pub(crate) fn happened(&mut self, operation: &Operation) -> Answer {
        match *operation {
            Operation::Knock(who, gate) => self.knock(who, gate),
            Operation::Decoy(who) => self.decoy(who),
            Operation::Accept(who, at, secs, force) => return self.accept(who, at, secs, force),
            Operation::Drop(what, at, secs, force) => return self.drop(what, at, secs, force),
            Operation::Unban(what, at) => return self.unban(what, at),
            Operation::FlushAddress(who) => {
                for gate in self
                    .gates
                    .values_mut()
                    .chain(gone(&mut self.trial, self.rules))
                {
                    gate.accepted.remove(&who);
                }
            }
            Operation::FlushAccepted => self.flush(true, false),
            Operation::FlushBanned => self.flush(false, true),
            Operation::FlushAll => self.flush(true, true),
            Operation::Open(at, secs) => return self.open(at, Some(secs)),
            Operation::Close(at) => return self.open(at, None),
            Operation::Apply(rules, secs) => return self.apply(rules, secs),
            Operation::Confirm => return self.confirm(),
            Operation::Rollback => return self.rollback(),
            Operation::Reload if self.trial.is_some() => return Answer::Refused(4),
            Operation::Restart(how) => self.restart(how),
            // What becomes of the whitelist is said by `trust`, `untrust` and `list`.
            Operation::Trust(_)
            | Operation::TrustForNow(_)
            | Operation::Untrust(_)
            | Operation::Rewrite(_) => return Answer::Whatever,
            Operation::Reload => self.reverted = false,
            Operation::ForeignFlush
            | Operation::ForeignSetFlush(_)
            | Operation::Wait(_)
            | Operation::ClockJump(_) => {}
        }
        Answer::Done
    }

    fn knock(&mut self, who: IpNet, gate: &'static str) {
        let (secs, _) = self.rules.times(gate);
        let end = self.end(Some(self.slower * secs));
        let Some(gate) = self.gates.get_mut(gate) else {
            return;
        };
        if !gate.is_banned(who) {
            let held = gate.accepted.get(&who);
            let end = held.map_or(end, |held| later(*held, end));
            gate.accepted.insert(who, end);
        }
    }

    fn decoy(&mut self, who: IpNet) {
        for name in self.rules.gates() {
            let secs = self.rules.times(name).1;
            let end = self.end(secs.map(|secs| self.slower * secs));
            if self.is_protected(&self.gates[name], who) {
                continue;
            }
            let gate = self.gates.get_mut(name).expect("a gate");
            if !gate.holds_as_long(who, end) {
                let held = gate.banned.get(&who);
                let end = held.map_or(end, |held| later(*held, end));
                gate.ban(who, end);
                self.withdraw_where_gone(who);
            }
        }
    }

    fn accept(
        &mut self,
        who: IpNet,
        at: Option<&'static str>,
        secs: Option<u64>,
        force: bool,
    ) -> Answer {
        let Some(gates) = self.at(at) else {
            return Answer::Refused(2);
        };
        if !force && gates.iter().any(|gate| self.gates[gate].is_banned(who)) {
            return Answer::Refused(4);
        }
        let end = self.end(secs);
        for gate in gates {
            let gate = self.gates.get_mut(gate).expect("a gate");
            gate.carve(who);
            gate.accepted.insert(who, end);
        }
        Answer::Done
    }

    fn drop(
        &mut self,
        what: IpNet,
        at: Option<&'static str>,
        secs: Option<u64>,
        force: bool,
    ) -> Answer {
        let Some(gates) = self.at(at) else {
            return Answer::Refused(2);
        };
        let protected = |gate: &&str| self.is_protected(&self.gates[*gate], what);
        if !force && gates.iter().any(protected) {
            return Answer::Refused(4);
        }
        let end = self.end(secs);
        for name in gates {
            let hosts = hosts_of(what);
            let trusted = hosts.iter().any(|who| self.trusts(name, *who));
            let gate = self.gates.get_mut(name).expect("a gate");
            if trusted {
                gate.withdrawn.extend(hosts);
            }
            gate.ban(what, end);
        }
        if at.is_none() {
            self.withdraw_where_gone(what);
        }
        Answer::Done
    }

    /// Whoever is banned everywhere is let in no more by gates that a trial has removed, though
    /// those ban nobody.
    fn withdraw_where_gone(&mut self, what: IpNet) {
        for gate in gone(&mut self.trial, self.rules) {
            gate.accepted.retain(|who, _| !overlap(*who, what));
        }
    }

    /// A ban of a part of what is banned whole is not lifted.
    fn unban(&mut self, what: IpNet, at: Option<&'static str>) -> Answer {
        let Some(gates) = self.at(at) else {
            return Answer::Refused(2);
        };
        let part = |gate: &&str| {
            let banned = &self.gates[*gate].banned;
            !banned.contains_key(&what) && banned.keys().any(|net| net.contains(&what))
        };
        if gates.iter().any(part) {
            return Answer::Refused(1);
        }
        for gate in gates {
            let gate = self.gates.get_mut(gate).expect("a gate");
            gate.banned.remove(&what);
        }
        Answer::Done
    }

    fn flush(&mut self, accepted: bool, banned: bool) {
        for gate in self
            .gates
            .values_mut()
            .chain(gone(&mut self.trial, self.rules))
        {
            if accepted {
                gate.accepted.clear();
                gate.open = None;
            }
            if banned {
                gate.banned.clear();
            }
        }
    }

    fn open(&mut self, at: Option<&'static str>, secs: Option<u64>) -> Answer {
        let Some(gates) = self.at(at) else {
            return Answer::Refused(2);
        };
        let end = secs.map(|secs| self.end(Some(secs)));
        if at.is_none() && end.is_none() {
            gone(&mut self.trial, self.rules).for_each(|gate| gate.open = None);
        }
        for gate in gates {
            self.gates.get_mut(gate).expect("a gate").open = end;
        }
        Answer::Done
    }

    /// An entry is trusted from now on.
    pub(crate) fn trust(&mut self, what: IpNet, until_reboot: bool) {
        if until_reboot {
            self.runtime.insert(what);
        } else {
            self.file.insert(what);
        }
        self.comes_to_trust(what);
    }

    /// Gates that a trial has removed are to trust it when they come back, and so ban it no more.
    fn comes_to_trust(&mut self, what: IpNet) {
        let gone = gone(&mut self.trial, self.rules);
        for gate in self.gates.values_mut().chain(gone) {
            gate.withdrawn.retain(|who| !what.contains(who));
            gate.carve(what);
        }
    }

    /// An entry is off the whitelist, and trust until reboot is over unless it is part of more.
    pub(crate) fn untrust(&mut self, what: IpNet) {
        self.file.remove(&what);
        let wider = |entry: &&IpNet| **entry != what && entry.contains(&what);
        if self.runtime.iter().find(wider).is_none() {
            self.runtime.remove(&what);
        }
    }

    /// The whitelist is read again, and is this.
    pub(crate) fn reread(&mut self, entries: &[IpNet]) {
        let before = std::mem::replace(&mut self.file, entries.iter().copied().collect());
        for entry in entries.iter().filter(|entry| !before.contains(entry)) {
            self.comes_to_trust(*entry);
        }
    }

    /// Nobody who is protected is banned after this.
    fn protect(&mut self) {
        let entries: Vec<IpNet> = self.file.union(&self.runtime).copied().collect();
        for gate in self.gates.values_mut() {
            gate.carve(net(NEVER_BAN));
            for entry in &entries {
                gate.carve(*entry);
            }
        }
    }

    fn set(&mut self, rules: Rules) {
        let mut old = std::mem::take(&mut self.gates);
        let gate = |name: &&'static str| (*name, old.remove(name).unwrap_or_default());
        self.gates = rules.gates().iter().map(gate).collect();
        self.rules = rules;
    }

    fn apply(&mut self, rules: Rules, secs: Option<u64>) -> Answer {
        if self.trial.is_some() {
            return Answer::Refused(4);
        }
        let before = (self.rules, self.gates.clone());
        self.set(rules);
        self.reverted = false;
        match secs {
            Some(secs) => {
                self.trial = Some(Trial {
                    ends: self.now + 1000 * secs,
                    before: before.0,
                    gates: before.1,
                });
            }
            None => self.keep(before.0),
        }
        Answer::Done
    }

    fn keep(&mut self, before: Rules) {
        if before != self.rules {
            self.previous = Some(before);
        }
    }

    /// Whoever is too late is told.
    fn confirm(&mut self) -> Answer {
        match self.trial.take() {
            Some(trial) => self.keep(trial.before),
            None if self.reverted => return Answer::Refused(1),
            None => {}
        }
        Answer::Done
    }

    /// Whether a change waits to be confirmed.
    pub(crate) fn is_tried(&self) -> bool {
        self.trial.is_some()
    }

    fn rollback(&mut self) -> Answer {
        if self.trial.is_some() {
            self.take_back();
            return Answer::Done;
        }
        let Some(previous) = self.previous else {
            return Answer::Refused(1);
        };
        let now = self.rules;
        self.set(previous);
        self.reverted = false;
        self.keep(now);
        Answer::Done
    }

    /// Gates that the trial removed come back as they were, without what has ended since.
    fn take_back(&mut self) {
        let Some(mut trial) = self.trial.take() else {
            return;
        };
        let here: Vec<&str> = self.gates.keys().copied().collect();
        self.set(trial.before);
        for name in GATES.iter().filter(|name| !here.contains(name)) {
            if let (Some(gate), Some(old)) = (self.gates.get_mut(name), trial.gates.remove(name)) {
                *gate = old;
            }
        }
    }

    fn restart(&mut self, how: End) {
        // It is said once.
        self.reverted = self.trial.is_some();
        self.take_back();
        for gate in self.gates.values_mut() {
            gate.withdrawn.clear();
        }
        if how == End::Rebooted {
            self.runtime.clear();
        }
        self.protect();
    }
}

/// The last of these ends; what never ends is the last of all. None where there is nothing.
pub(crate) fn latest(ends: impl Iterator<Item = Until>) -> Option<u64> {
    ends.map(|end| end.unwrap_or(u64::MAX)).max()
}

/// Fails unless both are there, and end at the same time to within `tolerance`, or neither is.
#[track_caller]
pub(crate) fn same(held: Option<u64>, should: Option<u64>, tolerance: u64, told: &str) {
    let agree = match (held, should) {
        (Some(held), Some(should)) => held.abs_diff(should) <= tolerance,
        (held, should) => held == should,
    };
    assert!(agree, "until {held:?} rather than {should:?}: {told}");
}
