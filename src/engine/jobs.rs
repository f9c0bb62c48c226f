use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Deadline, GateName, KnockName, Lifetime, Time};
use crate::policy::CommandLine;

/// Start commands that run at a time. They may take an hour where a classic file says `sleep`.
pub(super) const STARTS_AT_A_TIME: usize = 256;

/// Stop commands that run at a time, however many start commands do.
pub(super) const STOPS_AT_A_TIME: usize = 16;

/// The most start commands that wait, and the most of one knock and address.
pub(super) const MOST_WAITING: usize = 256;
pub(super) const MOST_WAITING_EACH: usize = 8;

/// The most stop commands that are owed.
pub(super) const MOST_OWED: usize = 4_096;

/// Before a stop command that found no process to run in is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A command that is to run now. [`super::Event::Ended`] says that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// No other has it.
    pub id: u64,
    /// Which knock.
    pub knock: KnockName,
    /// Who knocked; canonical.
    pub source: IpAddr,
    /// The knock's gates.
    pub gates: Vec<GateName>,
    /// With the address in it.
    pub command: CommandLine,
    /// How long it may take.
    pub timeout: Duration,
    /// The stop command that it owes: it must not run before that is remembered.
    pub owes: Option<u64>,
    /// It is a stop command: it runs again if it does not end.
    pub is_stop: bool,
}

/// A stop command that is to run, as it is to be remembered: until it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// No other has it.
    pub id: u64,
    /// Which knock.
    pub knock: KnockName,
    /// Who knocked; canonical.
    pub source: IpAddr,
    /// The knock's gates.
    pub gates: Vec<GateName>,
    /// With the address in it. What the policy says by then does not matter.
    pub command: CommandLine,
    /// How long it may take.
    pub timeout: Duration,
    /// When. Until its start command has ended, when it is to run if we do not live to see that.
    pub due: Deadline,
}

/// What a start command brings with it: its stop command, and how long after its end that is due.
#[derive(Debug)]
pub(super) struct Pledge {
    pub(super) stop: Owed,
    pub(super) after: Lifetime,
}

/// Commands that run, that wait, and that are owed. Of one knock and address only one runs at a
/// time, in the order in which they came, and no stop command before its start command. Stop
/// commands are never refused, and no start command of others keeps them from running.
#[derive(Debug, Clone, Default)]
pub(super) struct Jobs {
    next: u64,
    running: BTreeMap<u64, Job>,
    starts: VecDeque<Job>,
    /// Owed stop commands whose time has come.
    stops: VecDeque<u64>,
    owed: BTreeMap<u64, Owed>,
    /// Those whose time has not.
    due: BTreeSet<(Time, u64)>,
    /// Those whose start command has not ended, and how long after that they are due.
    pledged: BTreeMap<u64, Lifetime>,
    /// What is another since it was last asked for.
    changed: BTreeSet<u64>,
    /// What runs as soon as it is taken.
    pub(super) ready: Vec<Job>,
    /// Nothing starts any more.
    over: bool,
}

impl Owed {
    fn time(&self) -> Time {
        match self.due {
            Deadline::At(time) => time,
            Deadline::Never => Time(u64::MAX),
        }
    }
}

impl Jobs {
    /// Has a start command wait for its turn; what it owes is owed from now on. Says why not, if
    /// there is too much already.
    pub(super) fn ask(&mut self, mut start: Job, stop: Option<Pledge>) -> Result<(), String> {
        let same = |job: &&Job| job.knock == start.knock && job.source == start.source;
        if self.starts.len() >= MOST_WAITING {
            return Err(format!("{MOST_WAITING} commands wait already"));
        }
        if self.starts.iter().filter(same).count() >= MOST_WAITING_EACH {
            return Err(format!(
                "{MOST_WAITING_EACH} commands of this knock and address wait already"
            ));
        }
        if stop.is_some() && self.owed.len() >= MOST_OWED {
            return Err(format!("{MOST_OWED} stop commands are owed already"));
        }
        start.id = self.next;
        self.next += 1;
        start.owes = stop.map(|Pledge { mut stop, after }| {
            stop.id = self.next;
            self.next += 1;
            let id = stop.id;
            self.pledged.insert(id, after);
            self.changed.insert(id);
            self.owed.insert(id, stop);
            id
        });
        self.starts.push_back(start);
        Ok(())
    }

    fn owe(&mut self, owed: Owed) {
        self.due.insert((owed.time(), owed.id));
        self.changed.insert(owed.id);
        self.owed.insert(owed.id, owed);
    }

    /// Takes over what was owed before.
    pub(super) fn restore(&mut self, owed: Vec<Owed>) {
        for owed in owed {
            self.next = self.next.max(owed.id.saturating_add(1));
            self.owe(owed);
        }
    }

    /// Stop commands whose time has come by now, and had not before.
    pub(super) fn fall_due(&mut self, now: Time) -> Vec<&Owed> {
        let mut fallen = Vec::new();
        while let Some(&(time, id)) = self.due.first()
            && time <= now
        {
            self.due.pop_first();
            self.stops.push_back(id);
            fallen.push(id);
        }
        fallen.iter().filter_map(|id| self.owed.get(id)).collect()
    }

    /// The next command that may run. It counts as running from now on.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.over {
            return None;
        }
        let job = match self.next_stop() {
            Some(job) => job,
            None => self.next_start()?,
        };
        self.running.insert(job.id, job.clone());
        Some(job)
    }

    /// How many stop commands run; the rest are start commands.
    fn stopping(&self) -> usize {
        self.running.values().filter(|job| job.is_stop).count()
    }

    fn is_busy(&self, knock: &KnockName, source: IpAddr) -> bool {
        let busy = |job: &Job| job.knock == *knock && job.source == source;
        self.running.values().any(busy)
    }

    fn next_stop(&mut self) -> Option<Job> {
        if self.stopping() >= STOPS_AT_A_TIME {
            return None;
        }
        let may_run = |id: &u64| {
            let Some(owed) = self.owed.get(id) else {
                return false;
            };
            let before = |start: &Job| {
                start.id < *id && start.knock == owed.knock && start.source == owed.source
            };
            !self.is_busy(&owed.knock, owed.source) && !self.starts.iter().any(before)
        };
        let place = self.stops.iter().position(may_run)?;
        let owed = self.owed.get(&self.stops.remove(place)?)?;
        Some(Job {
            id: owed.id,
            knock: owed.knock.clone(),
            source: owed.source,
            gates: owed.gates.clone(),
            command: owed.command.clone(),
            timeout: owed.timeout,
            owes: None,
            is_stop: true,
        })
    }

    fn next_start(&mut self) -> Option<Job> {
        if self.running.len() - self.stopping() >= STARTS_AT_A_TIME {
            return None;
        }
        let may_run = |job: &Job| !self.is_busy(&job.knock, job.source);
        let place = self.starts.iter().position(may_run)?;
        self.starts.remove(place)
    }

    /// A command has ended, or could not be started for want of something that comes back.
    pub(super) fn ended(&mut self, id: u64, again: bool, now: Time) {
        if let Some(stop) = self.running.remove(&id).and_then(|job| job.owes) {
            self.fall_due_after(stop, now);
        }
        let Some(owed) = self.owed.get_mut(&id) else {
            return;
        };
        if again {
            owed.due = Deadline::At(now.after(AGAIN));
            self.due.insert((owed.time(), id));
        } else {
            self.owed.remove(&id);
        }
        self.changed.insert(id);
    }

    /// A start command has ended: the time until what it owes begins.
    fn fall_due_after(&mut self, stop: u64, now: Time) {
        let Some(after) = self.pledged.remove(&stop) else {
            return;
        };
        if let Some(owed) = self.owed.get_mut(&stop) {
            owed.due = after.deadline(now);
            self.due.insert((owed.time(), stop));
            self.changed.insert(stop);
        }
    }

    /// Takes back what the knock of that address brought about last: a start command that waits,
    /// with what it owes, or the time that is left until its stop command. Whether there was any.
    pub(super) fn undo(&mut self, knock: &KnockName, source: IpAddr, now: Time) -> bool {
        let of_it = |job: &Job| job.knock == *knock && job.source == source;
        if let Some(place) = self.starts.iter().rposition(of_it) {
            let owes = self.starts.remove(place).and_then(|start| start.owes);
            if let Some(owed) = owes.and_then(|id| self.owed.remove(&id)) {
                self.pledged.remove(&owed.id);
                self.changed.insert(owed.id);
            }
            return true;
        }
        let mut latest = self.owed.values_mut().rev();
        let of_it = |owed: &&mut Owed| owed.knock == *knock && owed.source == source;
        let Some(owed) = latest.find(of_it) else {
            return false;
        };
        if let Some(after) = self.pledged.get_mut(&owed.id) {
            let at_once = Lifetime::For(Duration::ZERO);
            if std::mem::replace(after, at_once) == at_once {
                return false;
            }
        } else if self.due.remove(&(owed.time(), owed.id)) {
            self.due.insert((now, owed.id));
        } else {
            // Its time has come already.
            return false;
        }
        owed.due = Deadline::At(now);
        self.changed.insert(owed.id);
        true
    }

    /// Starts nothing any more: start commands that wait are forgotten with what they owe, and
    /// returned; stop commands stay owed.
    pub(super) fn end(&mut self) -> VecDeque<Job> {
        self.over = true;
        let dropped = std::mem::take(&mut self.starts);
        for id in dropped.iter().filter_map(|start| start.owes) {
            self.owed.remove(&id);
            self.pledged.remove(&id);
            self.changed.insert(id);
        }
        dropped
    }

    /// When the next stop command is due; at once where something waits to be taken.
    pub(super) fn next_due(&self) -> Option<Time> {
        if self.ready.is_empty() {
            self.due.first().map(|(time, _)| *time)
        } else {
            Some(Time::default())
        }
    }

    /// What has changed about what is owed: all of it, or that it is no longer.
    pub(super) fn take_changed(&mut self) -> Vec<(u64, Option<Owed>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed
            .map(|id| (id, self.owed.get(&id).cloned()))
            .collect()
    }

    /// All that is owed.
    pub(super) fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.owed.values()
    }
}
