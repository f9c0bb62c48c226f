//! Runs the commands that the engine asks for, in a thread of its own: starting a program takes
//! longer than a packet may wait. Which command runs when is for the engine to say.

mod child;
mod output;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::engine::Job;
use crate::model::Bucket;

use super::daemon::now;
use super::memory::Written;
use child::Ending;

/// How long a start command waits until it is written down what it owes.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long commands that run when the daemon ends have until they are given up.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// What commands leave behind and still print may do so, up to so many of them.
const LEFT_BEHIND: usize = 64;

/// A command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Which.
    pub(super) job: u64,
    /// It did not start, for want of something that comes back.
    pub(super) again: bool,
}

/// A command, and what to wait for before it.
type Order = (Job, Option<Written>);

/// The running thread.
#[derive(Debug)]
pub(super) struct Commands {
    orders: Option<mpsc::UnboundedSender<Order>>,
    ended: mpsc::UnboundedReceiver<Ended>,
    thread: Option<JoinHandle<()>>,
}

/// What all commands share.
#[derive(Debug)]
struct Shared {
    /// Lines that commands print: packets bring them about.
    lines: Mutex<Bucket>,
    left_behind: Arc<Semaphore>,
    /// Whether the daemon ends now.
    over: watch::Receiver<bool>,
}

impl Shared {
    /// Whether another line may be logged.
    fn may_log(&self) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.take(now())
    }

    /// Returns when the daemon ends.
    async fn over(&self) {
        // Fails where nobody is left who could say so.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }
}

impl Commands {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, ended) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("commands".into())
            .spawn(move || runtime.block_on(serve(ordered, tell)))?;
        Ok(Self {
            orders: Some(orders),
            ended,
            thread: Some(thread),
        })
    }

    /// Runs a command, when `after` has come about. The engine sees to it that they are few.
    pub(super) fn run(&self, job: Job, after: Option<Written>) {
        if let Some(orders) = &self.orders {
            // Fails only where the thread has panicked, which has been logged.
            let _ = orders.send((job, after));
        }
    }

    /// The next command that has ended.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        self.ended.recv().await
    }

    /// Takes no more commands, and waits a moment for those that run. Stop commands that go on are
    /// killed, start commands are left to themselves. Which have ended is returned; the others have
    /// not.
    pub(super) fn finish(&mut self) -> Vec<Ended> {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        std::iter::from_fn(|| self.ended.try_recv().ok()).collect()
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

/// The thread.
async fn serve(mut orders: mpsc::UnboundedReceiver<Order>, tell: mpsc::UnboundedSender<Ended>) {
    let (end, over) = watch::channel(false);
    let shared = Arc::new(Shared {
        lines: Mutex::new(Bucket::new(20, 200)),
        left_behind: Arc::new(Semaphore::new(LEFT_BEHIND)),
        over,
    });
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((job, after)) = order else { break };
                running.spawn(run(job, after, tell.clone(), Arc::clone(&shared)));
            }
            Some(_) = running.join_next() => {}
        }
    }
    if all(&mut running).await {
        return;
    }
    warn!(
        "{} commands still run: start commands are left to themselves, stop commands are killed \
         and run again",
        running.len()
    );
    end.send_replace(true);
    all(&mut running).await;
    // What a command is dropped with kills it.
    running.shutdown().await;
}

/// Waits a moment for all of them; whether they have ended.
async fn all(running: &mut JoinSet<()>) -> bool {
    let all = async { while running.join_next().await.is_some() {} };
    tokio::time::timeout(LAST_CHANCE, all).await.is_ok()
}

async fn run(
    job: Job,
    after: Option<Written>,
    tell: mpsc::UnboundedSender<Ended>,
    shared: Arc<Shared>,
) {
    if let Some(after) = after {
        let unsure = match tokio::time::timeout(PATIENCE, after.told).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(why))) => Some(why),
            Ok(Err(_)) => Some("there is no store".to_owned()),
            Err(_) => Some("the disk is slow".to_owned()),
        };
        if let Some(why) = unsure {
            let knock = &job.knock;
            warn!("{knock}: what stops the command is not written to the disk: {why}");
        }
    }
    let knock = &job.knock;
    let ending = child::run(&job, &shared).await;
    match &ending {
        // It has not ended.
        Ok(Ending::Left) => return,
        Ok(Ending::Code(0)) => {}
        Ok(Ending::Code(code)) => {
            info!("{knock}: command returned non-zero status code ({code})");
        }
        Ok(Ending::Signal(signal)) => info!("{knock}: command was ended by signal {signal}"),
        Ok(Ending::Killed) => warn!(
            "{knock}: command is killed: it took longer than {}",
            crate::model::Lifetime::For(job.timeout)
        ),
        Err(error) => warn!("{knock}: {error}"),
    }
    let again = ending.is_err_and(|error| error.passes());
    // The daemon may be ending.
    let _ = tell.send(Ended { job: job.id, again });
}
