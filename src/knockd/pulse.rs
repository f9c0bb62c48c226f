//! The worker's signs of life, for its supervisor or for systemd.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::control::{Request, SOCKET_NAME, Verb};
use crate::model::Time;
use crate::watchdog::{Flow, Part, ROUND, RULES, Rounds};

use super::daemon::{Daemon, now};

/// Who restarts us if we hang.
#[derive(Debug)]
pub(super) enum Listener {
    /// Our own supervisor, at the other end of a pipe.
    Supervisor(File),
    /// systemd, which gives up after that long (`WatchdogSec=`, sd_watchdog_enabled(3)).
    Systemd(Duration),
}

impl Listener {
    /// systemd, if it started us with a watchdog.
    pub(super) fn systemd() -> Option<Self> {
        sd_notify::watchdog_enabled().map(Self::Systemd)
    }

    fn pace(&self) -> Duration {
        match self {
            Listener::Supervisor(_) => ROUND,
            Listener::Systemd(patience) => ROUND.min(*patience / 3),
        }
    }

    fn beat(&mut self) {
        let said = match self {
            // The pipe does not block. It is full while the supervisor stands still, and closed
            // when it is dead; the kernel ends us then.
            Listener::Supervisor(pipe) => pipe.write_all(b"."),
            Listener::Systemd(_) => sd_notify::notify(&[sd_notify::NotifyState::Watchdog]),
        };
        if let Err(error) = said {
            debug!("nobody hears that we live: {error}");
        }
    }
}

/// Where there is nobody to listen, it stands still.
#[derive(Debug)]
pub(super) struct Pulse(Option<Beating>);

#[derive(Debug)]
struct Beating {
    listener: Listener,
    rounds: Rounds,
    flow: Flow,
    socket: PathBuf,
    answer: mpsc::Sender<()>,
    answers: mpsc::Receiver<()>,
    asking: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Whether somebody listens; then the rules are looked at in its rounds.
    pub(super) fn beats(&self) -> bool {
        self.0.is_some()
    }

    /// Must be called within a tokio runtime with IO and time.
    pub(super) fn new(listener: Option<Listener>, runtime_dir: &Path) -> Self {
        Self(listener.map(|listener| {
            let (answer, answers) = mpsc::channel(1);
            Beating {
                rounds: Rounds::new(listener.pace(), RULES, now()),
                listener,
                flow: Flow::default(),
                socket: runtime_dir.join(SOCKET_NAME),
                answer,
                answers,
                asking: None,
            }
        }))
    }

    /// When the next round begins.
    pub(super) fn due(&self) -> Option<Time> {
        self.0.as_ref().map(|beating| beating.rounds.due())
    }

    /// Begins it.
    pub(super) fn round(&mut self, daemon: &mut Daemon) {
        if let Some(beating) = &mut self.0 {
            beating.round(daemon);
        }
    }

    /// Waits for the control socket to answer. Safe to cancel.
    pub(super) async fn answer(&mut self) -> Option<()> {
        match &mut self.0 {
            Some(beating) => beating.answers.recv().await,
            None => std::future::pending().await,
        }
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        if let Some(beating) = &mut self.0 {
            beating.alive(Part::Control);
        }
    }
}

impl Beating {
    fn round(&mut self, daemon: &mut Daemon) {
        for part in self.rounds.missing() {
            warn!("{part} shows no life: the watchdog is not told that all is well");
        }
        let parts = self.rounds.begin(now());
        for part in parts {
            let alive = match part {
                Part::Packets => self.packets_flow(daemon),
                Part::Rules => {
                    // What is wrong with them is mended. Starting anew would not mend more, and
                    // would cost the knocks of that time; what must not be is that it hangs.
                    daemon.keep_rules()
                }
                Part::Control => {
                    self.ask_control();
                    false
                }
            };
            if alive {
                self.alive(part);
            }
        }
    }

    fn alive(&mut self, part: Part) {
        if self.rounds.alive(part, now()) {
            self.listener.beat();
        }
    }

    /// Does not take packets itself: that is what it is to find out about.
    fn packets_flow(&mut self, daemon: &mut Daemon) -> bool {
        match daemon.capture.statistics() {
            Ok(counted) => {
                let arrived = counted.seen.saturating_sub(counted.dropped);
                self.flow.moves(arrived, daemon.capture.taken())
            }
            Err(error) => {
                warn!("{error}");
                false
            }
        }
    }

    /// Asks as anybody would: through the socket's file, and answered by the event loop.
    fn ask_control(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
        }
        let (socket, answer) = (self.socket.clone(), self.answer.clone());
        self.asking = Some(tokio::spawn(async move {
            match ping(&socket).await {
                // A full channel holds an answer that has not been seen yet.
                Ok(()) => drop(answer.try_send(())),
                Err(error) => warn!("cannot ask {}: {error}", socket.display()),
            }
        }));
    }
}

/// Any answer will do: one that says that too many ask is an answer, too.
async fn ping(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = Request::new(Verb::Ping, [""; 0]).encode();
    let request = request.map_err(|refusal| io::Error::other(refusal.to_string()))?;
    stream.write_all(&request).await?;
    match stream.read(&mut [0; 512]).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
