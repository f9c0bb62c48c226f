//! The store in a thread of its own, so that a slow disk is never in a packet's way.

use std::net::IpAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::engine::TrustEdit;
use crate::firewall::BackendKind;
use crate::store::{Store, StoreError};

/// The name of the setting that says which backend was last in force.
pub(super) const BACKEND: &str = "backend";

/// What is to be remembered.
#[derive(Debug)]
enum Job {
    Name(String, Vec<IpAddr>),
    Trust(TrustEdit, oneshot::Sender<Result<(), String>>),
    Backend(BackendKind),
}

/// Tells when something is written, or why it is not.
pub(super) type Written = oneshot::Receiver<Result<(), String>>;

/// The running thread; dropping it waits until everything is written.
#[derive(Debug)]
pub(super) struct Memory {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Memory {
    /// Starts the thread, or remembers nothing where there is no store.
    pub(super) fn start(store: Result<Store, StoreError>) -> Self {
        let problem = Arc::new(Mutex::new(None));
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                set(&problem, Some(error.to_string()));
                return Self {
                    jobs: None,
                    thread: None,
                    problem,
                };
            }
        };
        let (jobs, work) = mpsc::channel();
        let seen = problem.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(store, &work, &seen));
        match thread {
            Ok(thread) => Self {
                jobs: Some(jobs),
                thread: Some(thread),
                problem,
            },
            Err(error) => {
                set(
                    &problem,
                    Some(format!("cannot start the store's thread: {error}")),
                );
                Self {
                    jobs: None,
                    thread: None,
                    problem,
                }
            }
        }
    }

    /// Remembers the good addresses of a name.
    pub(super) fn name(&self, name: &str, addresses: &[IpAddr]) {
        self.send(Job::Name(name.to_owned(), addresses.to_vec()));
    }

    /// Remembers or forgets trust that lasts until reboot; whoever asked for it is told when it is
    /// written.
    pub(super) fn trust(&self, edit: TrustEdit) -> Written {
        let (tell, written) = oneshot::channel();
        self.send(Job::Trust(edit, tell));
        written
    }

    /// Remembers which backend is in force.
    pub(super) fn backend(&self, kind: BackendKind) {
        self.send(Job::Backend(kind));
    }

    /// Why nothing is remembered at present.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            set(
                &self.problem,
                Some("the store's thread has ended".to_owned()),
            );
        }
    }
}

fn write_all(mut store: Store, work: &mpsc::Receiver<Job>, problem: &Mutex<Option<String>>) {
    for job in work {
        let (result, tell) = match job {
            Job::Name(name, addresses) => (
                store.remember_name(&name, &addresses, SystemTime::now()),
                None,
            ),
            Job::Trust(edit, tell) => (store.edit_trust(&edit), Some(tell)),
            Job::Backend(kind) => (store.set_setting(BACKEND, &kind.to_string()), None),
        };
        if let Some(tell) = tell {
            // Nobody waits any more if the client has gone.
            let _ = tell.send(result.as_ref().copied().map_err(ToString::to_string));
        }
        if let Err(error) = &result {
            tracing::warn!("{error}");
        }
        set(problem, result.err().map(|error| error.to_string()));
    }
}

fn set(problem: &Mutex<Option<String>>, now: Option<String>) {
    *problem.lock().unwrap_or_else(PoisonError::into_inner) = now;
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
