//! Somebody else changes our rules: noticed, put back, said, and not fought over.
//!
//! The kernel tells of changes (`firewall::watch`), or we glance once a second where it does not.
//! What takes time, asking programs and reading the tables of others, is done on another thread,
//! so that knocks are heard meanwhile; what is put back is written here, like everything else.

mod mend;

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::control::Call;
use crate::control::protocol::RepairStatus;
use crate::firewall::foreign::Foreign;
use crate::firewall::watch::{Changes, Removed, Watch};
use crate::firewall::{Backend, BackendKind, FirewallError, Look};
use crate::model::Time;
use crate::sys::ready::Ready;
use crate::watchdog::{Pace, Repairs, Sleep};

use super::daemon::{Daemon, now};
use super::guard::Prepared;
use super::problems::{COMPLAINTS, LISTENERS, RULES};

/// Between two glances, where the kernel tells nobody of changes.
const GLANCE: Duration = Duration::from_secs(1);
/// With iptables, whoever reloads a firewall does so in several transactions, a process each: it
/// is looked at when that is over, which must be well within a second.
const QUIET: Duration = Duration::from_millis(60);
const MOST: Duration = Duration::from_millis(300);
/// A look that takes longer hangs: what it waits for has an end.
const STUCK: Duration = Duration::from_secs(10);
/// With more members than that not all of them are compared without a reason.
const FEW: usize = 1_000;
/// While more members than that are put back nobody listens: the kernel would tell us of each of
/// them, which takes several times as long as writing it, and 4 KiB.
const MANY: usize = 10_000;

/// What is known about the changes of others.
pub(super) struct Drift {
    /// None where the kernel has no nf_tables.
    watch: Option<(Watch, Ready)>,
    /// More may be waiting to be heard.
    unheard: bool,
    heard: Changes,
    pace: Pace,
    glance: Option<Time>,
    pub(super) repairs: Repairs,
    /// A repair that did not succeed yet: when it was begun, and what is missing.
    owed: Option<(Time, String)>,
    /// The same of damage that is left alone, since it has become a fight.
    stands: Option<(Time, String)>,
    /// Whether the machine has slept, so that members have to be given the time that is left.
    sleep: Sleep,
    /// Since when a look is under way on another thread.
    looking: Option<Time>,
    /// Counts installations: a look that began before one has seen the rules of then.
    installed: u64,
    /// A question came after that look had begun.
    again: bool,
    /// The tables of others are being read on another thread.
    pub(super) reading: bool,
    /// Who wants to know how we are.
    calls: Vec<Call>,
    seen: mpsc::Sender<Seen>,
    looks: mpsc::Receiver<Seen>,
}

/// What another thread has found.
pub(super) enum Seen {
    /// What is missing or altered, what was heard before the look, and after how many
    /// installations that was.
    Rules(Result<Vec<String>, FirewallError>, Changes, u64),
    /// What others keep out.
    Foreign(Box<Foreign>, Result<Vec<String>, FirewallError>),
}

/// What there is to do.
pub(super) enum Stir {
    /// The kernel tells of changes.
    News,
    /// Another thread is done.
    Seen(Seen),
}

/// How fast news lead to a look.
fn pace(kind: BackendKind) -> Pace {
    match kind {
        // A look takes microseconds, and nobody else's rules are in that table.
        BackendKind::Nftables | BackendKind::Memory => Pace::new(Duration::ZERO, Duration::ZERO),
        BackendKind::Iptables => Pace::new(QUIET, MOST),
    }
}

impl Drift {
    /// Begins to listen, for this backend. Must be called within a tokio runtime with IO.
    pub(super) fn new(firewall: &dyn Backend) -> Self {
        let opened = Watch::open(firewall.kind(), firewall.port());
        let watch = opened.and_then(|watch| {
            let ready = Ready::new(watch.fd()).map_err(|source| FirewallError::Kernel {
                operation: "watch",
                object: "nf_tables".to_owned(),
                source,
                hint: "",
            })?;
            Ok((watch, ready))
        });
        let watch = match watch {
            Ok(watch) => Some(watch),
            // Legacy iptables does without nf_tables, and is glanced at.
            Err(error) => {
                debug!("{error}");
                None
            }
        };
        let (seen, looks) = mpsc::channel(2);
        let mut drift = Self {
            watch,
            unheard: true,
            heard: Changes::default(),
            pace: pace(firewall.kind()),
            glance: None,
            repairs: Repairs::default(),
            owed: None,
            stands: None,
            sleep: Sleep::default(),
            looking: None,
            installed: 0,
            again: false,
            reading: false,
            calls: Vec::new(),
            seen,
            looks,
        };
        drift.follow(firewall);
        drift
    }

    /// Goes on with another backend. What has happened since it was installed was not heard.
    pub(super) fn follow(&mut self, firewall: &dyn Backend) {
        if let Some((watch, _)) = &mut self.watch {
            watch.follow(firewall.kind(), firewall.port());
        }
        self.pace = pace(firewall.kind());
        self.begin_install();
        self.glance = firewall.must_glance().then(|| now().after(GLANCE));
        self.hear(Changes {
            rules: true,
            ..Changes::default()
        });
    }

    /// The rules are written anew.
    pub(super) fn begin_install(&mut self) {
        self.installed += 1;
    }

    fn hear(&mut self, changes: Changes) {
        if changes.any() {
            self.heard.and(changes);
            self.pace.hear(now());
        }
    }

    /// Waits for something to do. Safe to cancel.
    pub(super) async fn stirs(&mut self) -> io::Result<Stir> {
        let news = async {
            match &self.watch {
                Some((_, ready)) => ready.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = news => heard.map(|()| Stir::News),
            Some(seen) = self.looks.recv() => Ok(Stir::Seen(seen)),
        }
    }

    /// When something is due, if nothing is heard before.
    pub(super) fn due(&self) -> Option<Time> {
        let look = self.pace.due().filter(|_| self.looking.is_none());
        let unheard = self.unheard.then_some(Time(0));
        [look, unheard, self.glance, self.repairs.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes in what the kernel tells.
    fn listen(&mut self) {
        if let Some((watch, _)) = &mut self.watch {
            let (changes, more) = watch.hear();
            self.unheard = more;
            self.hear(changes);
        } else {
            self.unheard = false;
        }
    }

    /// Whether nobody listens from now on.
    fn stop_listening(&mut self) -> bool {
        let watch = self.watch.as_mut().map(|(watch, _)| watch);
        let watch = watch.filter(|watch| watch.is_told_of_members());
        watch.is_some_and(|watch| watch.listen(false).is_ok())
    }

    /// Listens again, and looks for what may have happened meanwhile.
    fn listen_again(&mut self) {
        if let Some((watch, _)) = &mut self.watch
            && let Err(error) = watch.listen(true)
        {
            // The rules are looked at now and then all the same.
            warn!("{error}");
        }
        self.hear(Changes::all());
    }

    /// Where other threads say what they have found.
    pub(super) fn seen(&self) -> mpsc::Sender<Seen> {
        self.seen.clone()
    }

    /// Whatever stood is put back with all else.
    pub(super) fn nothing_stands(&mut self) {
        self.stands = None;
        self.sleep.settle();
    }

    /// For `status`.
    pub(super) fn status(&self, now: Time) -> RepairStatus {
        let last = self.repairs.last();
        RepairStatus {
            total: self.repairs.total(),
            last_s_ago: last.map(|(at, _)| now.since(at).as_secs()),
            last: last.map(|(_, what)| what.to_owned()).unwrap_or_default(),
        }
    }
}

impl Daemon {
    /// Does what there is to do.
    pub(super) fn rules_stir(&mut self, stir: Stir) {
        match stir {
            Stir::News => {
                self.drift.listen();
                self.mind_rules();
            }
            Stir::Seen(Seen::Rules(_, changes, then)) if then != self.drift.installed => {
                self.drift.looking = None;
                self.drift.again = false;
                self.drift.heard.and(changes);
                self.look();
                self.answer_calls();
            }
            Stir::Seen(Seen::Rules(faults, changes, _)) => {
                self.looked(faults, &changes);
                if std::mem::take(&mut self.drift.again) {
                    self.look();
                }
                self.answer_calls();
            }
            Stir::Seen(Seen::Foreign(foreign, found)) => {
                self.foreign = Some(*foreign);
                self.drift.reading = false;
                self.stand_in_the_way(found);
                self.answer_calls();
            }
        }
    }

    /// Does what is due.
    pub(super) fn mind_rules(&mut self) {
        let now = now();
        if self.drift.unheard {
            self.drift.listen();
        }
        self.mind_sleep();
        if self.drift.repairs.pass(now) {
            self.say_fight();
        }
        if self.drift.glance.is_some_and(|at| at <= now) {
            self.drift.glance = Some(now.after(GLANCE));
            // Where that fails a closer look says why.
            if self.firewall.glance().unwrap_or(true) {
                self.drift.hear(Changes::all());
            }
        }
        if self.drift.repairs.may_go_on(now) {
            self.drift.hear(Changes::all());
        }
        let is_due = self.drift.pace.due().is_some_and(|at| at <= now);
        if self.drift.looking.is_none() && is_due {
            self.look();
        }
    }

    /// Looks without having heard anything: what is promised must not depend on what we are told.
    /// Whether the look before that is over.
    pub(super) fn keep_rules(&mut self) -> bool {
        let now = now();
        self.mind_sleep();
        let members = self.members();
        self.drift.heard.and(Changes {
            rules: true,
            members: members <= FEW,
            removed: Removed::new(),
        });
        if self.drift.looking.is_none() {
            self.look();
        }
        self.drift
            .looking
            .is_none_or(|since| now.since(since) < STUCK)
    }

    /// Compares the kernel's rules with what was written.
    fn look(&mut self) {
        let begun = now();
        self.drift.pace.begin(begun);
        let changes = std::mem::take(&mut self.drift.heard);
        match self.firewall.look() {
            Ok(Look::Whole(faults)) => self.looked(Ok(faults), &changes),
            Err(error) => self.looked(Err(error), &changes),
            Ok(Look::Begun(mut faults, rest)) => {
                self.drift.looking = Some(begun);
                let (seen, then) = (self.drift.seen(), self.drift.installed);
                tokio::task::spawn_blocking(move || {
                    let found = rest().map(|more| {
                        faults.extend(more);
                        faults
                    });
                    // The daemon may have ended meanwhile.
                    drop(seen.blocking_send(Seen::Rules(found, changes, then)));
                });
            }
        }
    }

    /// A look is over: puts back what is missing.
    fn looked(&mut self, faults: Result<Vec<String>, FirewallError>, changes: &Changes) {
        self.drift.looking = None;
        let mut repaired = false;
        match faults.and_then(|faults| self.or_members(faults, changes)) {
            Ok(faults) if faults.is_empty() => {
                self.drift.owed = None;
                self.drift.stands = None;
                self.drift.repairs.fine();
                self.problems.set(RULES, None);
            }
            Ok(faults) => repaired = self.mend(&faults),
            Err(error) => {
                self.problems.set(RULES, Some(error.to_string()));
                if self.retry.is_none() {
                    self.retry = Some(self.next_retry());
                }
            }
        }
        let complaints = self.firewall.complaints();
        self.problems.set_all(COMPLAINTS, complaints);
        if repaired {
            self.drift.pace.end_with_repair(now());
        } else {
            self.drift.pace.end(now());
        }
    }

    /// Where the rules are as they should be, the members may not be.
    fn or_members(
        &mut self,
        faults: Vec<String>,
        changes: &Changes,
    ) -> Result<Vec<String>, FirewallError> {
        if !faults.is_empty() || !changes.members {
            return Ok(faults);
        }
        let desired = self.engine.desired(now());
        for removed in changes.suspects() {
            let missing = self.firewall.lacking(&desired, removed)?;
            if !missing.is_empty() {
                return Ok(missing);
            }
        }
        Ok(Vec::new())
    }

    /// Answers a request for `status` as soon as the rules have been looked at.
    pub(super) fn status_asked(&mut self, call: Call) {
        self.drift.calls.push(call);
        if self.drift.looking.is_some() {
            self.drift.again = true;
        } else {
            self.look();
        }
        self.look_around();
        if self.problems.get(LISTENERS).is_some() {
            // Not only after the next minute.
            self.look_for_listeners();
        }
        self.answer_calls();
    }

    fn answer_calls(&mut self) {
        if self.drift.looking.is_some() || self.drift.reading {
            return;
        }
        for call in std::mem::take(&mut self.drift.calls) {
            let response = self.answer(call.asked, &call.who, Prepared::default());
            // Whoever asked may have gone away meanwhile.
            drop(call.reply.send(response));
        }
    }
}
