//! The daemon's half: a socket that neither strangers nor slow or broken clients can turn against
//! the daemon. It wakes up for connections only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::peer::Peer;
use super::{Asked, Response, SOCKET_NAME};
use crate::engine::Who;
use crate::model::SshConnection;

mod bind;
mod connection;
#[cfg(test)]
mod tests;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}{hint}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: io::Error,
        /// ` (what to do)`, or nothing.
        hint: &'static str,
    },
    /// Something else is in the socket's place.
    #[error("cannot replace {}: it is not a socket; remove it", .0.display())]
    NotASocket(PathBuf),
}

/// A request on its way to the daemon's event loop.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub asked: Asked,
    /// Who asks.
    pub who: Who,
    /// The ssh session that they ask from, as they say.
    pub session: Option<SshConnection>,
    /// Where the answer goes. Nobody may be waiting for it any more.
    pub reply: oneshot::Sender<Response>,
}

/// How long a stopping daemon waits for clients to take their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How much of everything a client gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Of these, how many those who only read may take, so that root always finds one.
    pub(super) readers: usize,
    /// Member lists on their way to those who only read, at a time: they are what is large.
    pub(super) lists: usize,
    /// For sending a whole request.
    pub(super) request: Duration,
    /// For the daemon to take a request and to answer it.
    pub(super) answer: Duration,
    /// For taking a whole response.
    pub(super) response: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            readers: 24,
            lists: 3,
            request: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            response: Duration::from_secs(30),
        }
    }
}

/// The listening socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    file: bind::SocketFile,
    limits: Limits,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    calls: mpsc::Sender<Call>,
    limits: Limits,
    lists: Semaphore,
}

impl Server {
    /// Makes `control.sock` in `runtime_dir`, in place of a stale one: the caller holds the
    /// daemon's lock. It is 0660 and of the group `knockd`, or 0600 where there is no such group.
    pub fn bind(runtime_dir: &Path) -> Result<Self, ControlError> {
        Self::bind_for_group(runtime_dir, super::GROUP)
    }

    pub(super) fn bind_for_group(runtime_dir: &Path, group: &str) -> Result<Self, ControlError> {
        let path = runtime_dir.join(SOCKET_NAME);
        let (listener, file) = bind::bind(runtime_dir, path, group)?;
        Ok(Self {
            listener,
            file,
            limits: Limits::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Serves until the receiver of `calls` is gone, and then until the answers that were given are
    /// written, a second at most: a daemon that stops drops its receiver and waits for this.
    /// Dropping the future ends every connection at once. Must run within a tokio runtime with IO
    /// and time.
    pub async fn run(self, calls: mpsc::Sender<Call>) -> Result<(), ControlError> {
        let Self {
            listener,
            file,
            limits,
        } = self;
        let listener = UnixListener::from_std(listener).map_err(|source| ControlError::Io {
            operation: "listen on",
            path: file.path().to_owned(),
            source,
            hint: "",
        })?;
        let all = Arc::new(Semaphore::new(limits.connections));
        let readers = Arc::new(Semaphore::new(limits.readers));
        let shared = Arc::new(Shared {
            calls,
            limits,
            lists: Semaphore::new(limits.lists),
        });
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = shared.calls.closed() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely; accepting again at once would spin.
                    warn!("cannot accept a control connection: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let Ok(peer) = Peer::of(&stream) else {
                continue;
            };
            let Some(permits) = admit(peer, &all, &readers) else {
                turn_away(&stream);
                continue;
            };
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                connection::serve(stream, peer, &shared).await;
                drop(permits);
            });
        }
        drop((listener, file));
        let finished = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_ANSWERS, finished).await;
        Ok(())
    }
}

type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// A place among all, and among the readers for those who are that.
fn admit(peer: Peer, all: &Arc<Semaphore>, readers: &Arc<Semaphore>) -> Option<Permits> {
    let reader = if peer.may_change() {
        None
    } else {
        Some(Arc::clone(readers).try_acquire_owned().ok()?)
    };
    let place = Arc::clone(all).try_acquire_owned().ok()?;
    Some((place, reader))
}

/// A new connection has room for a line.
fn turn_away(stream: &UnixStream) {
    let busy = Response::refused(1, "knockd is busy: too many control connections; try again");
    if let Ok(mut line) = serde_json::to_vec(&busy) {
        line.push(b'\n');
        if let Err(error) = stream.try_write(&line) {
            debug!("cannot turn a control connection away: {error}");
        }
    }
}
