//! Engine, store, the merge of a start and a kernel in memory, against a model of what the design
//! promises, through random operations and restarts of every kind: no stranger is let in, nobody
//! who is trusted is refused, and no deadline moves.
//!
//! `PORTCULLIS_SEED=N` repeats a story; `PROPTEST_CASES` is how many operations there are.
//! tests/faults plays the same ones with the programs, on real firewalls.

#[path = "../../tests/faults/model.rs"]
#[allow(dead_code, reason = "what the real firewalls need besides")]
mod model;
#[path = "../../tests/faults/operations.rs"]
#[allow(dead_code, reason = "what the real firewalls need besides")]
mod operations;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tempfile::TempDir;

use self::model::{Answer, Fate, Model, latest, same};
use self::operations::{Chance, End, GATES, NEVER_BAN, Operation, Rules, net, universe};
use super::force::put_in_force_at;
use super::install::{Known, take_over};
use super::merge::{Held, Remembered};
use super::uncommitted::Uncommitted;
use crate::engine::{Action, Command, Engine, Event, Flush, Outcome, Who};
use crate::firewall::memory::{self, ManualClock, Memory};
use crate::firewall::{Backend, Change};
use crate::fixtures;
use crate::model::{Chain, Deadline, GateName, KnockName, Lifetime, Time};
use crate::policy::{KnockAction, Policy};
use crate::store::{Batch, Clocks, Store};

/// Between two operations, so that no bucket is ever empty.
const STEP: u64 = 150;
/// As near as this to its end, something may be over or not, as long as the store has it all.
const DOUBT: u64 = 50;
/// What a member may have lost or won, over all restarts, and by what less a ban may end than if it had
/// begun again with a decoy.
const TOLERANCE: u64 = 2_000;
/// How long a reboot takes.
const REBOOT: u64 = 10_000;
/// Noon, some day.
const WALL: i64 = 1_800_000_000_000;
const MILLI: u64 = 1_000_000;

type Kernel = Memory<Box<dyn Fn() -> Time>>;

/// A policy that only waits to be confirmed.
struct Trial {
    ends: u64,
    rules: Rules,
}

/// The daemon without its sockets, on a machine without a kernel.
struct Site {
    dir: TempDir,
    clock: ManualClock,
    kernel: Kernel,
    engine: Engine,
    store: Store,
    rules: Rules,
    trial: Option<Trial>,
    uncommitted: Uncommitted,
    file: Vec<IpNet>,
    /// What is not on the disk yet.
    unwritten: Option<Batch>,
    now: u64,
    boot: u32,
    booted: u64,
    wall: i64,
}

fn gate(name: &str) -> GateName {
    GateName::new(name).unwrap()
}

fn secs(secs: Option<u64>) -> Lifetime {
    secs.map_or(Lifetime::Never, |s| Lifetime::For(Duration::from_secs(s)))
}

fn policy(rules: Rules) -> Policy {
    let of = |name: &&str| {
        let (accept, ban) = rules.times(name);
        let mut gate = fixtures::gate(name);
        gate.accept_timeout = secs(Some(accept));
        gate.ban_timeout = secs(ban);
        gate
    };
    let gates = rules.gates().iter();
    let mut knocks: Vec<_> = gates
        .clone()
        .zip(["1 2", "3 4"])
        .map(|(name, ports)| {
            let mut knock = fixtures::knock(name, ports, KnockAction::Accept);
            knock.gates = vec![gate(name)];
            knock
        })
        .collect();
    let mut decoy = fixtures::knock("decoy", "5 6", KnockAction::Drop);
    decoy.gates = Vec::new();
    knocks.push(decoy);
    let mut policy = fixtures::policy(gates.map(of).collect(), knocks);
    policy.never_ban = vec![net(NEVER_BAN)];
    policy
}

fn kernel(clock: &ManualClock) -> Kernel {
    let clock = clock.clone();
    Memory::new(Box::new(move || clock.now()))
}

impl Site {
    fn new(rules: Rules, file: &[IpNet]) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let mut site = Self {
            kernel: kernel(&clock),
            engine: Engine::new(policy(rules)),
            store: Store::open_as(dir.path(), "0").unwrap(),
            dir,
            clock,
            rules,
            trial: None,
            uncommitted: Uncommitted::default(),
            file: file.to_vec(),
            unwritten: None,
            now: 0,
            boot: 0,
            booted: 0,
            wall: WALL,
        };
        site.pass(0);
        site.start();
        site
    }

    fn time(&self) -> Time {
        Time((self.now - self.booted) * MILLI).after(Duration::from_secs(1_000))
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            boot_id: self.boot.to_string(),
            boot: self.time(),
            wall_ms: self.wall + i64::try_from(self.now).unwrap(),
        }
    }

    /// What there is at a start, as `install::install` puts it together.
    fn start(&mut self) {
        let boot = self.boot.to_string();
        self.store = Store::open_as(self.dir.path(), &boot).unwrap();
        let clocks = self.clocks();
        let noted = self.store.noted().unwrap();
        let remembered = Remembered {
            members: self.store.members(&clocks).unwrap(),
            this_boot: noted.as_ref().is_some_and(|noted| noted.boot_id == boot),
            noted: noted
                .filter(|noted| noted.boot_id == boot)
                .map(|noted| noted.boot),
            slept: Duration::ZERO,
            removed: HashSet::new(),
            read: self.time(),
        };
        let trust = self.store.trust().unwrap().into_iter();
        let held = self.kernel.observe_chains(&[Chain::Filter, Chain::Banned]);
        let held = held.unwrap().unwrap_or_default();
        self.engine = Engine::new(policy(self.rules));
        let known = Known {
            own: Vec::new(),
            gates: Vec::new(),
            whitelist: self.listed(),
            trust: trust.map(|t| (t.gate, t.net, t.reason)).collect(),
            found: Held {
                gates: held.gates.into_iter().collect(),
                members: held.members,
            },
            remembered,
            owed: Vec::new(),
        };
        let now = self.time();
        take_over(&mut self.engine, known, now);
        self.install();
        drop(self.engine.take_news());
        self.remember_everything();
    }

    fn listed(&self) -> Vec<(IpNet, String)> {
        self.file.iter().map(|net| (*net, "file".into())).collect()
    }

    fn install(&mut self) {
        let now = self.time();
        put_in_force_at(&mut self.kernel, &mut self.engine, || now).unwrap();
    }

    fn write(&mut self, batch: &Batch) {
        let clocks = self.clocks();
        self.store.write(batch, &clocks).unwrap();
    }

    fn settle(&mut self) {
        if let Some(batch) = self.unwritten.take() {
            self.write(&batch);
        }
    }

    /// As `Daemon::remember_everything`.
    fn remember_everything(&mut self) {
        drop(self.engine.take_news());
        let mut everything = self.engine.everything();
        self.uncommitted.add(&mut everything, &self.engine);
        let batch = Batch {
            everything: Some(everything),
            ..Batch::default()
        };
        self.write(&batch);
    }

    /// Lets the engine decide, and does what it says, as `Daemon::perform`.
    fn handle(&mut self, event: Event) -> Option<Outcome> {
        self.settle();
        let (mut changes, mut install, mut reply) = (Vec::<Change>::new(), false, None);
        let mut batch = Batch::default();
        for action in self.engine.handle(event, self.time()) {
            match action {
                Action::Firewall(change) => changes.push(change),
                Action::Install => install = true,
                Action::Store(edit) => batch.trust.push(edit),
                Action::Reply(outcome) => reply = Some(outcome),
                Action::Log(_) => {}
            }
        }
        if install {
            self.install();
        } else {
            self.kernel.apply(&changes).unwrap();
        }
        let mut news = self.engine.take_news();
        let edits = self.uncommitted.withhold(&mut news, &self.engine);
        batch.trust.extend(edits);
        batch.memos = news.memos;
        self.unwritten = Some(batch);
        reply
    }

    fn command(&mut self, command: Command) -> u8 {
        let who = Who("somebody".into());
        let code = self.handle(Event::Command { who, command }).unwrap().code;
        // Whoever asks waits until it is written.
        self.settle();
        code
    }

    fn knocked(&mut self, who: IpNet, knock: &str) {
        let (source, knock) = (who.addr(), KnockName::new(knock).unwrap());
        self.handle(Event::Knocked { source, knock });
    }

    /// As `Daemon::switch`.
    fn switch(&mut self, rules: Rules) {
        self.settle();
        self.uncommitted.begin(Arc::new(self.engine.clone()));
        self.put_into_force(rules, None);
    }

    /// As `Daemon::go_back`.
    fn go_back(&mut self, trial: &Trial) {
        self.settle();
        let before = self.uncommitted.before();
        self.put_into_force(trial.rules, before.as_deref());
        self.settled();
    }

    fn settled(&mut self) {
        self.uncommitted.end();
        self.remember_everything();
    }

    /// As `Daemon::put_into_force` and `Daemon::follow_policy`.
    fn put_into_force(&mut self, rules: Rules, before: Option<&Engine>) {
        let now = self.time();
        drop(match before {
            Some(before) => self.engine.back_to(policy(rules), before, now),
            None => self
                .engine
                .handle(Event::Policy(Box::new(policy(rules))), now),
        });
        let listed = Event::Whitelist(self.listed());
        drop(self.engine.handle(listed, now));
        self.install();
        self.rules = rules;
        // The names of gates are followed, and what is new by then may be on the disk at once.
        self.handle(Event::GateAddresses(Vec::new()));
        self.settle();
    }

    fn take_back(&mut self) -> bool {
        let Some(trial) = self.trial.take() else {
            return false;
        };
        self.go_back(&trial);
        true
    }

    fn pass(&mut self, now: u64) {
        if let Some(ends) = self.trial.as_ref().map(|t| t.ends).filter(|e| *e <= now) {
            self.pass(ends - 1);
            self.now = ends;
            self.clock.set(self.time());
            self.take_back();
        }
        self.now = now;
        self.clock.set(self.time());
        if now > self.booted {
            self.handle(Event::Tick);
        }
    }

    fn restart(&mut self, how: End) {
        match how {
            End::KilledEarly => drop(self.unwritten.take()),
            _ => self.settle(),
        }
        // What was tried is in no file.
        if let Some(trial) = self.trial.take() {
            self.rules = trial.rules;
        }
        self.uncommitted.end();
        match how {
            End::KilledAndFlushed => self.kernel.vanish(),
            End::Rebooted => {
                self.boot += 1;
                self.now += REBOOT;
                self.booted = self.now;
                self.clock.set(self.time());
                self.kernel = kernel(&self.clock);
            }
            End::Killed | End::KilledEarly | End::Stopped => {}
        }
        self.start();
    }

    /// Somebody else takes all members out of a chain's sets.
    fn empty(&mut self, chain: Chain) {
        let held = self.kernel.observe_chains(&[chain]).unwrap();
        let held = held.unwrap_or_default().members.into_iter();
        let changes: Vec<_> = held
            .map(|m| Change::Remove {
                gate: m.gate,
                chain: m.chain,
                net: m.net,
            })
            .collect();
        self.kernel.apply(&changes).unwrap();
        self.install();
    }
}

fn at(gates: Option<&str>) -> Vec<GateName> {
    gates.iter().map(|name| gate(name)).collect()
}

/// Site and model side by side.
struct Story {
    site: Site,
    model: Model,
    previous: Option<Rules>,
    /// As near as this to its end, something may be over or not. Where the disk lacks that it was
    /// put off, a start takes the store's word for it if the kernel's is about the same.
    doubt: u64,
}

impl Story {
    fn new(rules: Rules, file: &[IpNet]) -> Self {
        Self {
            site: Site::new(rules, file),
            model: Model::new(rules, file),
            previous: None,
            doubt: DOUBT,
        }
    }

    /// Until nothing is about to end.
    fn come_to_rest(&mut self) {
        while let Some(end) = self
            .model
            .ends()
            .into_iter()
            .filter(|end| end.abs_diff(self.site.now) <= self.doubt)
            .max()
        {
            self.site.pass(end + self.doubt + 1);
            self.model.pass(self.site.now);
        }
    }

    fn wait(&mut self, millis: u64) {
        self.site.pass(self.site.now + millis);
        self.model.pass(self.site.now);
        self.come_to_rest();
    }

    /// The exit code.
    fn carry_out(&mut self, operation: &Operation) -> u8 {
        let site = &mut self.site;
        let lifetime = |time: Option<u64>| Some(secs(time));
        let command = match operation.clone() {
            Operation::Knock(who, gate) => {
                site.knocked(who, gate);
                return 0;
            }
            Operation::Decoy(who) => {
                site.knocked(who, "decoy");
                return 0;
            }
            Operation::Accept(who, gates, time, force) => Command::Accept {
                addresses: vec![who.addr()],
                gates: at(gates),
                lifetime: lifetime(time),
                force,
            },
            Operation::Drop(what, gates, time, force) => Command::Drop {
                nets: vec![what],
                gates: at(gates),
                lifetime: lifetime(time),
                force,
            },
            Operation::Unban(what, gates) => Command::Unban {
                nets: vec![what],
                gates: at(gates),
            },
            Operation::FlushAddress(who) => flush(Flush::Address(who.addr())),
            Operation::FlushAccepted => flush(Flush::Filter),
            Operation::FlushBanned => flush(Flush::Banned),
            Operation::FlushAll => flush(Flush::All),
            Operation::Open(gates, time) => Command::Open {
                gates: at(gates),
                lifetime: lifetime(Some(time)),
            },
            Operation::Close(gates) => Command::Close { gates: at(gates) },
            Operation::TrustForNow(what) => Command::Trust {
                nets: vec![what],
                gates: Vec::new(),
            },
            Operation::Untrust(what) => {
                site.file.retain(|entry| *entry != what);
                site.handle(Event::WhitelistEdit {
                    add: Vec::new(),
                    remove: vec![what],
                });
                Command::Untrust {
                    nets: vec![what],
                    gates: Vec::new(),
                }
            }
            other => return self.change(&other),
        };
        let code = site.command(command);
        match operation {
            Operation::TrustForNow(what) => self.model.trust(*what, true),
            Operation::Untrust(what) => self.model.untrust(*what),
            _ => {}
        }
        code
    }

    /// What is no command of the engine's.
    fn change(&mut self, operation: &Operation) -> u8 {
        let site = &mut self.site;
        match *operation {
            Operation::Trust(what) => {
                if !site.file.contains(&what) {
                    site.file.push(what);
                }
                let add = vec![(what, "file".into())];
                site.handle(Event::WhitelistEdit {
                    add,
                    remove: Vec::new(),
                });
                site.handle(Event::Relisted(vec![what]));
                self.model.trust(what, false);
            }
            Operation::Rewrite(ref entries) => {
                site.file.clone_from(entries);
                site.switch(site.rules);
                site.settled();
                self.model.reread(entries);
            }
            Operation::Reload | Operation::Apply(..) if site.trial.is_some() => return 4,
            Operation::Reload => {
                site.switch(site.rules);
                site.settled();
            }
            Operation::Apply(rules, time) => {
                let old = site.rules;
                site.switch(rules);
                site.trial = time.map(|secs| Trial {
                    ends: site.now + 1000 * secs,
                    rules: old,
                });
                if time.is_none() {
                    site.settled();
                    self.keep(old);
                } else {
                    site.remember_everything();
                }
            }
            Operation::Confirm => {
                if let Some(trial) = site.trial.take() {
                    site.settled();
                    self.keep(trial.rules);
                }
            }
            Operation::Rollback => {
                if !site.take_back() {
                    let Some(previous) = self.previous else {
                        return 1;
                    };
                    let old = site.rules;
                    site.switch(previous);
                    site.settled();
                    self.keep(old);
                }
            }
            Operation::Restart(how) => site.restart(how),
            Operation::ForeignFlush => {
                site.kernel.vanish();
                assert!(!site.kernel.verify().unwrap().is_empty(), "it is noticed");
                site.install();
            }
            Operation::ForeignSetFlush(chain) => site.empty(match chain {
                "filter" => Chain::Filter,
                "banned" => Chain::Banned,
                _ => Chain::Trusted,
            }),
            Operation::ClockJump(by) => {
                site.wall += 1000 * by;
                site.settle();
                site.write(&Batch::default());
            }
            Operation::Wait(secs) => self.wait(1000 * secs),
            ref other => panic!("{other:?} is a command"),
        }
        0
    }

    fn keep(&mut self, old: Rules) {
        if old != self.site.rules {
            self.previous = Some(old);
        }
    }

    /// Who gets in where, and when what ends, in the kernel and in the model.
    fn compare(&mut self, told: &str) {
        let now = self.site.now;
        let held = self.site.kernel.observe().unwrap().unwrap_or_default();
        let time = self.site.time();
        let mut ends: BTreeMap<(GateName, Chain, IpNet), Option<u64>> = BTreeMap::new();
        for member in held.members {
            let end = match member.remaining.deadline(time) {
                Deadline::At(end) => Some(now + (end.0 - time.0) / MILLI),
                Deadline::Never => None,
            };
            ends.insert((member.gate, member.chain, member.net), end);
        }
        for name in GATES {
            for who in universe() {
                let fate = match self.site.kernel.fate(&gate(name), who.addr()) {
                    None => Fate::Unguarded,
                    Some(memory::Fate::Accepted(_)) => Fate::In,
                    Some(memory::Fate::Dropped(_)) => Fate::Out,
                };
                let should = self.model.fate(name, who);
                assert_eq!(fate, should, "{} at {name} {told}", who.addr());
                let Some(model) = self.model.gates.get(name) else {
                    continue;
                };
                let accepted = ends.get(&(gate(name), Chain::Filter, who)).copied();
                let told = format!("{who} at {name} {told}");
                let should = model.accepted.get(&who).copied();
                let should = latest(should.into_iter());
                same(latest(accepted.into_iter()), should, TOLERANCE, &told);
                let bans = ends
                    .iter()
                    .filter(|((at, chain, net), _)| {
                        *at == gate(name) && *chain == Chain::Banned && net.contains(&who)
                    })
                    .map(|(_, end)| *end);
                let should = model.banned.iter().filter(|(net, _)| net.contains(&who));
                let should = latest(should.map(|(_, end)| *end));
                same(latest(bans), should, TOLERANCE, &told);
            }
        }
    }
}

fn flush(what: Flush) -> Command {
    Command::Flush {
        what: vec![what],
        gates: Vec::new(),
    }
}

/// Plays a story, which begins with a policy and a whitelist.
fn play(seed: u64, operations: usize) -> usize {
    let mut chance = Chance::new(seed);
    let rules = chance.one_of(&[Rules::Both, Rules::Alone]);
    let file = [net("192.0.2.50"), net("2001:db8::50")];
    let mut story = Story::new(rules, &file);
    let mut restarts = 0;
    let mut past: Vec<String> = Vec::new();
    for number in 0..operations {
        let operation = Operation::any(&mut chance);
        // With time, what a packet has brought about gets to the disk. What it took from a gate that
        // a trial has removed is nowhere else.
        let is_early = operation == Operation::Restart(End::KilledEarly);
        if is_early && !story.model.is_tried() {
            story.doubt = TOLERANCE;
        } else {
            story.wait(STEP);
        }
        // What a file says that nobody may read again is another story.
        if matches!(operation, Operation::Rewrite(_)) && story.model.is_tried() {
            continue;
        }
        restarts += usize::from(matches!(operation, Operation::Restart(_)));
        past.push(format!("{:>8} {operation:?}", story.site.now));
        let tail = past.len().saturating_sub(12);
        let told = format!(
            "after operation {number} of PORTCULLIS_SEED={seed}:\n{}",
            past[tail..].join("\n")
        );
        let answer = story.model.happened(&operation);
        let code = story.carry_out(&operation);
        match answer {
            Answer::Done => assert_eq!(code, 0, "{told}"),
            // Whoever is too late is told so by what carries out changes, which is not here.
            Answer::Refused(_) if operation == Operation::Confirm => {}
            Answer::Refused(with) => assert_eq!(code, with, "{told}"),
            Answer::Whatever => {}
        }
        story.model.pass(story.site.now);
        story.come_to_rest();
        story.compare(&told);
    }
    restarts
}

#[test]
fn a_change_that_is_cut_short_takes_nothing_from_the_gates_that_it_removes() {
    for how in [End::Killed, End::KilledAndFlushed, End::Rebooted] {
        let mut site = Site::new(Rules::Both, &[]);
        let who = net("192.0.2.10");
        site.command(Command::Drop {
            nets: vec![who],
            gates: at(Some("web")),
            lifetime: Some(Lifetime::Never),
            force: false,
        });
        site.switch(Rules::Alone);
        let gone = site.kernel.fate(&gate("web"), who.addr());
        assert!(gone.is_none(), "{gone:?}");
        // What it says is in no file yet.
        site.rules = Rules::Both;
        site.restart(how);
        let fate = site.kernel.fate(&gate("web"), who.addr());
        assert!(
            matches!(fate, Some(memory::Fate::Dropped(_))),
            "{how:?}: {fate:?}"
        );
        let held = site.kernel.observe_chains(&[Chain::Banned]).unwrap();
        assert_eq!(held.unwrap().members.len(), 1, "{how:?}");
    }
}

#[test]
fn trust_given_in_a_trial_ends_bans_at_the_gates_that_it_removes_however_the_trial_ends() {
    let (who, rest) = (net("192.0.2.10"), net("192.0.2.11"));
    let whole = net("192.0.2.10/31");
    let trusts = [
        vec![Operation::TrustForNow(who)],
        vec![Operation::TrustForNow(who), Operation::Untrust(who)],
        vec![Operation::Trust(who), Operation::Untrust(who)],
    ];
    let ends = [
        Operation::Rollback,
        Operation::Restart(End::Killed),
        Operation::Restart(End::KilledAndFlushed),
        Operation::Restart(End::Rebooted),
        Operation::Restart(End::Stopped),
        // It is over by itself.
        Operation::Wait(400),
    ];
    for (trust, end) in trusts
        .iter()
        .flat_map(|it| ends.iter().map(move |end| (it, end)))
    {
        let mut story = Story::new(Rules::Both, &[]);
        let before = [
            Operation::Drop(whole, Some("web"), None, false),
            Operation::Apply(Rules::Alone, Some(300)),
        ];
        for operation in before.iter().chain(trust).chain([end]) {
            story.wait(STEP);
            story.model.happened(operation);
            story.carry_out(operation);
        }
        let told = format!("{trust:?}, {end:?}");
        story.compare(&told);
        let gate = &story.model.gates["web"];
        assert!(!gate.banned.contains_key(&who), "{told}");
        assert!(gate.banned.contains_key(&rest), "{told}");
    }
}

#[test]
fn whatever_happens_the_gate_is_as_the_design_says() {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    let operations: usize = wanted.and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let seed = Chance::seed("random operations in memory");
    let stories = operations.div_ceil(100);
    let restarts: usize = (0..stories as u64).map(|n| play(seed + n, 100)).sum();
    println!("{} operations, {restarts} restarts", stories * 100);
    assert!(restarts > 0);
}
