//! The store in a thread of its own, so that a slow disk is never in a packet's way.
//!
//! What is decided waits in a queue that cannot grow without bound, and is written in batches.
//! Where that fails the gate goes on, `status` says so, and it is tried again; once the disk is
//! well, all that holds is written anew.

mod pending;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use crate::engine::{Everything, News, Record, TrustEdit};
use crate::firewall::BackendKind;
use crate::model::{Deadline, KnockName};
use crate::store::{
    Batch, Clocks, Happened, Readers, Retention, Store, StoreError, forget_damaged,
};
use crate::totp::Used;

use super::daemon::now;
use super::recall::{self, Unread};
use pending::{Pending, Tell};

/// The name of the setting that says which backend was last in force.
pub(super) const BACKEND: &str = "backend";

/// What the names of settings begin with that say what was used of a knock's time-based sequences.
pub(super) const USED: &str = "used ";

/// Between two transactions that nobody waits for: what comes meanwhile is written together.
const PAUSE: Duration = Duration::from_millis(20);

/// How often both clocks are noted although nothing happens: a machine that loses power restores
/// no more than was left then.
const NOTE: Duration = Duration::from_secs(600);

/// Before what could not be written is tried again; doubled each time, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(15);

/// The history is pruned after so many entries, and now and then.
const PRUNE_AFTER: usize = 1_000;
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// Tells when something is written, or why it is not.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) told: oneshot::Receiver<Result<(), String>>,
    /// Whether that it outlives the daemon is what was asked for.
    pub(super) promised: bool,
}

/// The running thread; dropping it waits until everything is written.
#[derive(Debug)]
pub(super) struct Memory {
    shared: Arc<Shared>,
    dir: PathBuf,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// Something waits.
    work: Condvar,
    /// All that holds is wanted.
    wanted: Arc<Notify>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Starts the thread. Without a store it tries again and again to open it. What is `unread`
    /// is read then, before it is written over.
    pub(super) fn start(
        dir: &Path,
        readers: Readers,
        store: Result<Store, StoreError>,
        retention: Retention,
        unread: Unread,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let store = store.map_err(|error| {
            let mut pending = shared.lock();
            pending.problem = Some(error.to_string());
            pending.incomplete = true;
        });
        shared.lock().retention = Some(retention);
        let writer = Writer {
            shared: Arc::clone(&shared),
            dir: dir.to_owned(),
            readers,
            store: store.ok(),
            unread,
            unpruned: 0,
            pruned: Instant::now(),
            retention: None,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run());
        if let Err(error) = &thread {
            let why = format!("cannot start the store's thread: {error}");
            shared.lock().problem = Some(why);
        }
        Self {
            shared,
            dir: dir.to_owned(),
            thread: thread.ok(),
        }
    }

    /// The state directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Remembers the addresses of a name: all are good now, but for those that are only kept, with
    /// how long ago they were.
    pub(super) fn name(&self, name: &str, addresses: &[IpAddr], kept: &[(IpAddr, Duration)]) {
        let age = |address: &IpAddr| {
            let mut kept = kept.iter();
            let kept = kept.find(|(other, _)| other == address);
            kept.map_or(Duration::ZERO, |(_, age)| *age)
        };
        let good = addresses.iter().map(|address| (*address, age(address)));
        self.queue(|pending| pending.name(name, good.collect()));
    }

    /// Remembers or forgets trust that lasts until reboot; whoever asked for it is told when it is
    /// written.
    pub(super) fn trust(&self, edit: TrustEdit) -> Written {
        self.queue(|pending| pending.trust(edit));
        Written {
            promised: true,
            ..self.written()
        }
    }

    /// Remembers which backend is in force.
    pub(super) fn backend(&self, kind: BackendKind) {
        self.queue(|pending| pending.setting(BACKEND, kind.to_string()));
    }

    /// Remembers what was used of a knock's time-based sequences.
    pub(super) fn used(&self, knock: &KnockName, used: &Used) {
        self.queue(|pending| pending.setting(&format!("{USED}{knock}"), used.to_string()));
    }

    /// Remembers what the engine says is new.
    pub(super) fn news(&self, news: News) {
        if news == News::default() {
            return;
        }
        let clocks = clocks("");
        self.queue(|pending| {
            pending.left_out += news.unrecorded;
            news.memos.into_iter().for_each(|memo| pending.memo(memo));
            for record in news.records {
                pending.happened(happened(record, &clocks));
            }
        });
    }

    /// Remembers that something happened.
    pub(super) fn record(&self, record: Record) {
        self.queue(|pending| pending.happened(happened(record, &clocks(""))));
    }

    /// Remembers exactly these members and this trust.
    pub(super) fn everything(&self, everything: Everything) {
        self.queue(|pending| pending.everything(everything));
    }

    /// What could not be read at the start. It is to be part of `everything` from now on.
    pub(super) fn take_found(&self) -> Option<Everything> {
        self.shared.lock().found.take()
    }

    /// Rings when `everything` is wanted.
    pub(super) fn wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.wanted)
    }

    /// Whether what is written lacks something that nobody will write by itself.
    pub(super) fn is_incomplete(&self) -> bool {
        self.shared.lock().incomplete
    }

    /// How much of the history is kept from now on.
    pub(super) fn keep(&self, retention: Retention) {
        self.queue(|pending| pending.retention = Some(retention));
    }

    /// Tells when all that waits now is written.
    pub(super) fn written(&self) -> Written {
        let (tell, told) = oneshot::channel();
        let mut pending = self.shared.lock();
        match &pending.problem {
            // It is tried again, but whoever waits is not to wait for that.
            Some(why) => drop(tell.send(Err(why.clone()))),
            None => pending.queue.tell.push(tell),
        }
        drop(pending);
        self.shared.work.notify_one();
        Written {
            told,
            promised: false,
        }
    }

    /// Why nothing is remembered at present.
    pub(super) fn problem(&self) -> Option<String> {
        self.shared.lock().problem.clone()
    }

    /// How many things that happened are in no history, because they were too many at once.
    pub(super) fn left_out(&self) -> u64 {
        self.shared.lock().left_out
    }

    fn queue(&self, put: impl FnOnce(&mut Pending)) {
        put(&mut self.shared.lock());
        self.shared.work.notify_one();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.queue(|pending| pending.over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Both clocks now.
pub(super) fn clocks(boot_id: &str) -> Clocks {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    };
    Clocks {
        boot_id: boot_id.to_owned(),
        boot: now(),
        wall_ms,
    }
}

/// When it happened, and until when it holds, by the wall clock.
pub(super) fn happened(record: Record, now: &Clocks) -> Happened {
    let until_ms = match record.until {
        Some(Deadline::At(end)) => {
            let left = i64::try_from(end.since(now.boot).as_millis()).unwrap_or(i64::MAX);
            Some(now.wall_ms.saturating_add(left))
        }
        _ => None,
    };
    Happened {
        at_ms: now.wall_ms,
        record,
        until_ms,
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    readers: Readers,
    store: Option<Store>,
    /// What it holds and nobody knows.
    unread: Unread,
    /// Entries written since the history was last pruned.
    unpruned: usize,
    pruned: Instant,
    /// What it was pruned to.
    retention: Option<Retention>,
}

impl Writer {
    fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            let failing = self.shared.lock().problem.is_some();
            if failing {
                self.rest(retry, |_| true);
                retry = (retry * 2).min(LAST_RETRY);
            } else {
                retry = FIRST_RETRY;
                // Whoever has all of it is asked again if need be.
                let incomplete = self.shared.lock().incomplete;
                self.rest(
                    if incomplete { FIRST_RETRY } else { NOTE },
                    Pending::is_empty,
                );
            }
            let (queue, over) = {
                let mut pending = self.shared.lock();
                (pending.take(), pending.over)
            };
            let (mut batch, tell) = queue.into_batch();
            let written = self.write(&mut batch);
            self.report(written, batch, tell);
            if over {
                return;
            }
            self.rest(PAUSE, |pending| pending.queue.tell.is_empty());
        }
    }

    /// Waits, for that long at most, while this is so and the daemon goes on.
    fn rest(&self, time: Duration, so: impl Fn(&Pending) -> bool) {
        let pending = self.shared.lock();
        let wait = |pending: &mut Pending| so(pending) && !pending.over;
        let work = &self.shared.work;
        drop(work.wait_timeout_while(pending, time, wait));
    }

    fn write(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        if self
            .store
            .as_ref()
            .is_some_and(|store| !store.is_in_place())
        {
            // Somebody has taken the file away: a new one is to hold all that is known.
            self.store = None;
            self.shared.lock().incomplete = true;
        }
        let store = match &mut self.store {
            Some(store) => store,
            none => {
                let store = Store::open(&self.dir, self.readers)?;
                say_if_moved(&store);
                none.insert(store)
            }
        };
        if self.unread.is_any() {
            let found = recall::unread(store, self.unread)?;
            self.unread = Unread::default();
            batch.everything = None;
            batch.memos.clear();
            self.shared.lock().found(found);
        }
        self.unpruned += batch.happened.len();
        let retention = self.shared.lock().retention;
        let due = self.unpruned >= PRUNE_AFTER || self.pruned.elapsed() > PRUNE_EVERY;
        if due || retention != self.retention {
            batch.prune = retention;
        }
        let clocks = clocks(store.boot_id());
        store.write(batch, &clocks)?;
        if let Some(retention) = batch.prune {
            forget_damaged(&self.dir, retention.keep, SystemTime::now());
            self.unpruned = 0;
            self.pruned = Instant::now();
            self.retention = Some(retention);
        }
        Ok(())
    }

    fn report(&mut self, written: Result<(), StoreError>, batch: Batch, mut tell: Vec<Tell>) {
        let mut pending = self.shared.lock();
        let answer = match written {
            Ok(()) => {
                if pending.problem.take().is_some() {
                    info!("the state can be written again");
                }
                if pending.incomplete {
                    self.shared.wanted.notify_one();
                }
                Ok(())
            }
            Err(error) => {
                // Opened anew, a damaged one is moved aside and one that was replaced is found.
                self.store = None;
                pending.give_back(batch);
                // Whatever file is found next, it is to hold all of them.
                pending.incomplete = true;
                let why = error.to_string();
                if pending.problem.as_ref() != Some(&why) {
                    warn!("{why}; the gate goes on, and it is tried again");
                }
                pending.problem = Some(why.clone());
                tell.append(&mut pending.queue.tell);
                Err(why)
            }
        };
        for tell in tell {
            // Nobody waits any more if the client has gone.
            let _ = tell.send(answer.clone());
        }
    }
}

/// Says in the log that a damaged store was moved aside.
pub(super) fn say_if_moved(store: &Store) {
    if let Some(aside) = store.moved_aside() {
        warn!(
            "the state was damaged and is moved aside, to {}",
            aside.display()
        );
    }
}
