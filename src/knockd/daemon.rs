//! The daemon's state and what it does about each kind of event. The loop that feeds it is in
//! `run`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use crate::capture::{Capture, CaptureError};
use crate::control::Response;
use crate::engine::{Action, Command, Engine, Event, Flush, LogLevel, Outcome, Record, What, Who};
use crate::firewall::choose;
use crate::firewall::foreign::Foreign;
use crate::firewall::memory::Memory as Nowhere;
use crate::firewall::{Backend, Change, FirewallError};
use crate::links::Links;
use crate::matcher::{Matcher, Scope};
use crate::model::{Bucket, Chain, GateName, KnockPort, Time};
use crate::policy::{OnStop, Policy};
use crate::resolver::Resolver;
use crate::sys::clock;

use super::awake::Awake;
use super::commands::{Commands, Ended};
use super::cut::Cutter;
use super::drift::Drift;
use super::force::put_in_force;
use super::logging::Lost;
use super::memory::{Memory, Written};
use super::pace::Scheduling;
use super::packets::{Fired, Packets};
use super::policies::Policies;
use super::problems::{FIREWALL, Problems, RULES};
use super::rehearsal::Rehearsal;
use super::roster::Roster;
use super::sheets::Sheets;
use super::timed::Clockwork;
use super::trial::Trial;
use super::uncommitted::Uncommitted;
use super::untracked::Untracked;
use super::wants::spec;

/// Everything that runs.
pub(super) struct Daemon {
    pub(super) policies: Policies,
    /// A policy that waits to be confirmed.
    pub(super) trial: Option<Trial>,
    /// What a change that is not for good yet has removed.
    pub(super) uncommitted: Uncommitted,
    /// From the command line, in place of the policy's.
    pub(super) interface: Option<String>,
    pub(super) only_ipv4: bool,
    /// Look-ups for the log that may run at a time; none if nobody asked for them.
    pub(super) lookups: Option<Arc<Semaphore>>,
    pub(super) lookup_lines: Bucket,
    pub(super) step_lines: Bucket,
    pub(super) engine: Engine,
    /// The policy with the sequences that count now.
    pub(super) heard: Policy,
    pub(super) sheets: Sheets,
    pub(super) clockwork: Clockwork,
    pub(super) matcher: Matcher,
    pub(super) scope: Scope,
    pub(super) firewall: Box<dyn Backend>,
    /// The gates that it was told of last, each with how much of an IPv6 address a member covers.
    pub(super) told: Vec<(GateName, u8)>,
    pub(super) backend_reason: String,
    /// Who else changes our rules.
    pub(super) drift: Drift,
    /// Looks at the firewalls of others.
    pub(super) foreign: Option<Foreign>,
    pub(super) capture: Capture,
    /// Ends open sessions of the banned.
    pub(super) cutter: Cutter,
    pub(super) links: Links,
    pub(super) resolver: Resolver,
    pub(super) roster: Roster,
    pub(super) memory: Memory,
    /// What knocks have run.
    pub(super) commands: Commands,
    pub(super) problems: Problems,
    pub(super) started: Time,
    pub(super) packets: Packets,
    /// Somebody may complete a knock in a moment.
    pub(super) expects: bool,
    pub(super) awake: Awake,
    pub(super) rehearsal: Rehearsal,
    /// Lines that never reached the log.
    pub(super) lost_lines: Lost,
    /// Names that did not resolve when they were last tried.
    pub(super) unresolved: HashSet<String>,
    /// When what could not be written to the kernel is tried again, and the pause after that.
    pub(super) retry: Option<(Time, Duration)>,
    /// What the command at hand asked to remember.
    pub(super) unwritten: Vec<Written>,
    /// What the packets at hand brought about.
    pub(super) fired: Vec<(IpAddr, Fired)>,
    /// How far they took whom: lines for the log, when the kernel has what is due.
    pub(super) steps: Vec<String>,
    /// TCP ports that something listens on, as of the last look.
    pub(super) listening: Vec<u16>,
    /// All ports that something listens or waits on, if that is known.
    pub(super) served: Option<Vec<KnockPort>>,
    pub(super) untracked: Untracked,
    pub(super) scheduling: Scheduling,
}

/// Pauses before what could not be written to the kernel is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

impl Daemon {
    /// Lets the engine decide and carries out what it decides; a command's outcome is returned.
    pub(super) fn handle(&mut self, event: Event) -> Option<Outcome> {
        let actions = self.engine.handle(event, now());
        self.perform(actions)
    }

    /// Carries actions out: the kernel first, in one transaction.
    pub(super) fn perform(&mut self, actions: Vec<Action>) -> Option<Outcome> {
        let mut changes: Vec<Change> = Vec::new();
        let mut install = false;
        let mut reply = None;
        let mut rest = Vec::new();
        for action in actions {
            match action {
                Action::Firewall(change) => changes.push(change),
                Action::Install => install = true,
                Action::Reply(outcome) => reply = Some(outcome),
                Action::Store(_) | Action::Log(_) => rest.push(action),
            }
        }
        // Where rules are missing, members alone would be no help.
        let mends = !changes.is_empty()
            && self.retry.is_none()
            && self.problems.get(RULES).is_some()
            && self.held_back().is_none();
        if mends {
            self.owe_what_stands();
        }
        install |= mends;
        let written = if install {
            self.install()
        } else if changes.is_empty() {
            Ok(())
        } else {
            self.apply(&changes)
        };
        let mut news = self.engine.take_news();
        let edits = self.uncommitted.withhold(&mut news, &self.engine);
        rest.extend(edits.into_iter().map(Action::Store));
        let to_wait = reply.is_some() && !news.memos.is_empty();
        self.memory.news(news);
        if to_wait {
            self.unwritten.push(self.memory.written());
        }
        self.run_commands();
        self.log_steps();
        for action in rest {
            match action {
                Action::Store(edit) => {
                    let written = self.memory.trust(edit);
                    // Who else would wait for it?
                    if reply.is_some() {
                        self.unwritten.push(written);
                    }
                }
                action => log(&action),
            }
        }
        let problem = written.err().map(|error| error.to_string());
        if let (Some(why), Some(outcome)) = (&problem, &mut reply) {
            // It is decided all the same, and tried again: to say "refused" would be wrong.
            let line = format!("not in the kernel yet, and tried again: {why}");
            outcome.refused.push(line);
            outcome.code = 1;
        }
        match problem {
            Some(why) => {
                // What fails while an installation is due must not put that off, or whoever knocks
                // again and again would do so for ever.
                if install || self.retry.is_none() {
                    self.retry = Some(self.next_retry());
                }
                self.problems.set(FIREWALL, Some(why));
            }
            // What is missing from before is made up for by an installation only.
            None if install => {
                self.retry = None;
                self.problems.set(FIREWALL, None);
                self.mended();
            }
            None => {}
        }
        reply
    }

    /// Has run what is to be run. What a command owes is on its way to the disk already.
    fn run_commands(&mut self) {
        for job in self.engine.take_jobs() {
            let after = job.owes.map(|_| self.memory.written());
            self.commands.run(job, after);
        }
    }

    /// Has all that holds written, in place of what is remembered.
    pub(super) fn remember_everything(&mut self) {
        self.take_over_unread();
        // What is new is part of it; what happened is not.
        let mut news = self.engine.take_news();
        drop(self.uncommitted.withhold(&mut news, &self.engine));
        self.memory.news(news);
        let mut everything = self.engine.everything();
        self.uncommitted.add(&mut everything, &self.engine);
        self.memory.everything(everything);
    }

    /// Writes changes. Somebody may have removed what they belong to; what is desired is known then,
    /// but installing takes its time, so it is not tried again with every packet.
    fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        match self.firewall.apply(changes) {
            Ok(()) => {
                self.cutter.changed(&self.engine, changes);
                Ok(())
            }
            Err(error) if self.retry.is_none() && self.held_back().is_none() => {
                warn!("{error}; installing everything anew");
                let missing = self.firewall.verify().unwrap_or_default();
                self.install()?;
                if !missing.is_empty() {
                    self.repaired(missing.join(", "));
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// When to try again what could not be written: soon, then less and less often.
    pub(super) fn next_retry(&self) -> (Time, Duration) {
        let pause = self
            .retry
            .map_or(FIRST_RETRY, |(_, pause)| (pause * 2).min(LAST_RETRY));
        (now().after(pause), pause)
    }

    /// When something is due, if nothing happens before.
    pub(super) fn due(&self) -> Option<Time> {
        let retry = self.retry.map(|(at, _)| at);
        let deadline = self.engine.next_deadline();
        let clockwork = self.clockwork.due();
        let spent = self.sheets.due();
        [
            deadline,
            retry,
            clockwork,
            spent,
            self.drift.due(),
            self.trial_ends(),
            self.awake.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        self.awake.tick(now());
        self.end_of_trial();
        self.handle(Event::Tick);
        self.mind_clockwork();
        self.forget_spent();
        self.mind_rules();
        match self.retry {
            Some((at, pause)) if at <= now() => {
                if let Some(then) = self.held_back() {
                    self.retry = Some((then, pause));
                } else {
                    // It may come before the look that would put back what stands.
                    self.owe_what_stands();
                    self.perform(vec![Action::Install]);
                }
            }
            _ => {}
        }
    }

    /// Makes the kernel hold all that is decided.
    pub(super) fn install(&mut self) -> Result<(), FirewallError> {
        let _eased = self.scheduling.ease();
        self.notice_used_up()?;
        self.drift.begin_install();
        put_in_force(&mut *self.firewall, &mut self.engine)?;
        self.drift.nothing_stands();
        self.cutter.installed(&self.engine);
        self.told = members_of(self.engine.policy());
        // It has been read back.
        self.problems.set(RULES, None);
        Ok(())
    }

    /// A gate with `once` lets the kernel take a member out: what is used up must not come back.
    /// What the kernel was not told of yet, as at a gate that comes back, nobody has used up.
    pub(super) fn notice_used_up(&mut self) -> Result<(), FirewallError> {
        let once = self.engine.policy().gates.iter().filter(|gate| gate.once);
        let once = once.map(|gate| (gate.name.clone(), gate.ipv6_prefix));
        let gates: Vec<_> = once.filter(|gate| self.told.contains(gate)).collect();
        if gates.is_empty() {
            return Ok(());
        }
        // Where everything is gone nothing says what was used up; then all of it counts as used.
        let held = self.firewall.observe_chains(&[Chain::Filter])?;
        let held = held.unwrap_or_default().members.into_iter();
        let held = held.map(|member| (member.gate, member.chain, member.net));
        let held = Event::Held {
            gates: gates.into_iter().map(|(name, _)| name).collect(),
            members: held.collect(),
        };
        let said = self.engine.handle(held, now());
        said.iter().for_each(log);
        Ok(())
    }

    /// Stops: the kernel goes on enforcing, or acceptances are withdrawn, as the policy says.
    pub(super) fn stop(&mut self) {
        self.end_trial_with_daemon();
        if let Some(event) = self.withdrawal() {
            self.handle(event);
        }
        self.end();
    }

    /// What withdraws the acceptances at the end, where the policy wants that.
    fn withdrawal(&self) -> Option<Event> {
        let closed = self.engine.policy().firewall.on_stop == OnStop::Closed;
        closed.then(|| Event::Command {
            who: Who("on_stop".into()),
            command: Command::Flush {
                what: vec![Flush::Filter],
                gates: Vec::new(),
            },
        })
    }

    /// Comes last, whatever has become of the rules.
    pub(super) fn end(&mut self) {
        self.handle(Event::Ending);
        for Ended { job, again } in self.commands.finish() {
            self.handle(Event::Ended { job, again });
        }
        self.memory.record(Record::new(What::Stopped, "told to"));
        if self.memory.is_incomplete() {
            // The last chance.
            self.remember_everything();
        }
        info!("shutting down");
    }

    /// Removes every rule of ours; [`Daemon::end`] is to follow. Where that fails they are all put
    /// back: half of them would be a gate that stands open, or one that lets nobody in.
    pub(super) fn teardown(&mut self, who: &Who) -> Response {
        // The next start is one with the policy from before.
        let had_trial = self.end_trial_with_daemon();
        let removed = self.firewall.teardown().and_then(|()| choose::teardown());
        let response = match &removed {
            Ok(()) => {
                let line = "every rule of ours is removed";
                info!("{who}: {line}");
                Response::new(0, vec![line.to_owned()], Vec::new())
            }
            Err(error) => {
                error!("{who}: teardown refused: {error}; the rules are put back");
                self.perform(vec![Action::Install]);
                let mut why = vec![error.to_string()];
                if had_trial {
                    why.push("what waited to be confirmed is taken back".to_owned());
                }
                Response::new(1, Vec::new(), why)
            }
        };
        self.record_answer(What::Removed, who, &response);
        if response.code == 0 {
            // The kernel is not to be given anything any more, whatever is decided until the end.
            self.firewall = Box::new(Nowhere::new(now));
            drop(put_in_force(&mut *self.firewall, &mut self.engine));
            if let Some(event) = self.withdrawal() {
                self.handle(event);
            }
            // The answer is due before the end, which is what waits for the disk.
            self.unwritten.clear();
        }
        response
    }
}

/// The gates of a policy, each with how much of an IPv6 address a member covers.
pub(super) fn members_of(policy: &Policy) -> Vec<(GateName, u8)> {
    let gates = policy.gates.iter();
    gates
        .map(|gate| (gate.name.clone(), gate.ipv6_prefix))
        .collect()
}

/// Says what the engine has to say, if it is that.
pub(super) fn log(action: &Action) {
    match action {
        Action::Log(log) if log.level == LogLevel::Warning => warn!("{}", log.words),
        Action::Log(log) => info!("{}", log.words),
        _ => {}
    }
}

/// The time.
pub(super) fn now() -> Time {
    Time(clock::boottime())
}

/// Opens the capture with its first filter.
pub(super) fn open_capture(
    policy: &Policy,
    only: Option<&str>,
    links: &Links,
) -> Result<Capture, CaptureError> {
    Capture::open(&spec(policy, only, &policy.neutral(&[]), links).0)
}
