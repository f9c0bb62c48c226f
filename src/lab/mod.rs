//! Throw-away hosts in network namespaces, joined by wires: where the demo, the tests and the
//! measurements happen. Needs nothing but the kernel, and root only where ordinary users may not
//! make namespaces. Nothing of it ever touches the machine's own network.
//!
//! A program calls [`enter`] first, before it has threads; inside it makes a [`Lab`]:
//!
//! ```no_run
//! use portcullis::lab::{Entered, Lab, Outcome, Service, enter};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     if let Entered::Done(code) = enter()? {
//!         std::process::exit(code.into());
//!     }
//!     let lab = Lab::new()?;
//!     let (server, client) = (lab.host("server")?, lab.host("client")?);
//!     lab.link(&server, "eth0", &["192.0.2.1/24"], &client, "eth0", &["192.0.2.10/24"])?;
//!     let _service = Service::start(&server, 22)?;
//!     let outcome = client
//!         .client("192.0.2.10")?
//!         .connect("192.0.2.1:22", Duration::from_secs(1))?;
//!     assert!(matches!(outcome, Outcome::Open(_)));
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod client;
mod daemon;
mod enter;
mod flood;
mod host;
mod process;
mod rtnl;
mod service;
mod wire;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use client::{BEFORE_A_SECOND_SYN, Client, ONE_SYN, Opened, Outcome, Session};
pub use daemon::{Daemon, Programs, Reply};
pub use enter::{Entered, enter, inside};
pub use flood::Flood;
pub use host::Host;
pub use process::{Finished, Program, run_bounded, write_program};
pub use service::{BANNER, Service};
pub use wire::Wire;

use crate::sys::ns::NamespaceError;

/// Why the laboratory cannot do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There are no namespaces to be had.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A laboratory outside namespaces of its own would touch the machine's network.
    #[error("not in namespaces of our own: call lab::enter() first")]
    Outside,
    /// A system call failed.
    #[error("cannot {operation} {object}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not an address, network or port.
    #[error("`{text}` is not {expected}")]
    Malformed {
        /// What was found.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Something did not come about in time.
    #[error("{what} did not happen within {within:?}{detail}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What is known instead, with its own punctuation.
        detail: String,
    },
    /// The daemon was prepared without its control program.
    #[error("no knockctl was given to control this daemon with")]
    NoKnockctl,
    /// The daemon ended instead of running.
    #[error("knockd ended instead of running ({status}); its log:\n{log}")]
    DaemonEnded {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
}

impl LabError {
    pub(crate) fn system(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let object = object.into();
        move |source| LabError::System {
            operation,
            object,
            source,
        }
    }
}

/// A laboratory: hosts, wires, and a directory for their files. All of it is gone when the last
/// handle is, and also when the process is killed.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    /// So that a host stays although nobody asks for it any more.
    hosts: Mutex<Vec<Host>>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// An empty laboratory. Fails outside the namespaces made by [`enter`].
    pub fn new() -> Result<Self, LabError> {
        if !inside() {
            return Err(LabError::Outside);
        }
        // Below /run, which in here is a tmpfs that goes when we go.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/run/lab/{}-{number}", std::process::id()));
        fs::create_dir_all(&dir)
            .map_err(LabError::system("create directory", dir.to_string_lossy()))?;
        Ok(Self {
            dir,
            hosts: Mutex::default(),
        })
    }

    /// A directory for files of this laboratory, which vanishes with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new host that is connected to nothing but itself.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        let host = Host::new(name)?;
        self.keep(&host);
        Ok(host)
    }

    /// Joins two hosts by a wire (a veth pair): each end's interface, with its addresses.
    pub fn link(
        &self,
        a: &Host,
        a_interface: &str,
        a_addresses: &[&str],
        b: &Host,
        b_interface: &str,
        b_addresses: &[&str],
    ) -> Result<(), LabError> {
        wire::join(a, a_interface, b, b_interface)?;
        a.add_addresses(a_interface, a_addresses)?;
        b.add_addresses(b_interface, b_addresses)?;
        a.await_link(a_interface)?;
        b.await_link(b_interface)
    }

    /// A wire for more than two hosts (a bridge).
    pub fn wire(&self, name: &str) -> Result<Wire, LabError> {
        let wire = Wire::new(name)?;
        self.keep(wire.switch());
        Ok(wire)
    }

    fn keep(&self, host: &Host) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.push(host.clone());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What remains goes with the tmpfs.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Asks `attempt` again and again until it has something, every few milliseconds, for at most
/// `within`.
pub fn await_some<T>(
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if started.elapsed() >= within {
            return Err(LabError::TooLate {
                what: what.to_owned(),
                within,
                detail: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
