//! The event loop. Packets come first: whoever has knocked is waiting. But between two turns of
//! theirs each of the others is asked once.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use crate::capture::Drained;
use crate::control::{Asked, Call, Response, Server};
use crate::engine::{Event, Who};
use crate::policy::{Interfaces, LogStyle};
use crate::sys::ready::Ready;
use crate::sys::sched;

use super::alarm::Alarm;
use super::cli::Options;
use super::commands::Ended;
use super::daemon::{Daemon, now};
use super::guard::Prepared;
use super::logging::Log;
use super::memory::Written;
use super::pace::{PAUSE, Pace};
use super::pulse::{Listener, Pulse};
use super::recall;
use super::start::{self, StartError};
use super::supervisor;

/// Requests that wait at a time; more wait in their connections.
const REQUESTS: usize = 16;

/// How often the ports that are listened on are looked at.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// How long a command waits for what it did to be on the disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until told to stop.
pub(super) fn run(options: &Options, log: &Log) -> Result<ExitCode, StartError> {
    let (policies, policy) = start::load_policy(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| StartError::Io {
            operation: "start the event loop",
            source,
        })?;
    let basis = start::install(
        policy,
        &options.state_dir,
        recall::readers(),
        concat!("knockd ", env!("CARGO_PKG_VERSION")),
    )?;
    runtime.block_on(async {
        let (mut daemon, names) = start::listen(basis, policies, options)?;
        daemon.policies.end_trial();
        let server = Server::bind(&options.runtime_dir)?;
        let (calls, requests) = mpsc::channel(REQUESTS);
        let mut server = tokio::spawn(server.run(calls));
        let sources = Sources::new(&daemon, names, requests)?;
        let interfaces = &daemon.engine.policy().interfaces;
        let mut pulse = Pulse::new(announce(options, interfaces), &options.runtime_dir);
        let end = events(&mut daemon, sources, &mut server, &mut pulse, log).await;
        server.abort();
        let _ = server.await;
        end
    })
}

/// Tells whoever started us that everything is in place; who wants to hear that it stays so.
fn announce(options: &Options, interfaces: &Interfaces) -> Option<Listener> {
    info!("knockd {} is listening", env!("CARGO_PKG_VERSION"));
    if options.log.style == LogStyle::Classic {
        let named = match (&options.interface, interfaces) {
            (Some(name), _) => name.clone(),
            (None, Interfaces::Any) => "any".to_owned(),
            (None, Interfaces::Named(names)) => names.join(","),
        };
        info!("starting up, listening on {named}");
    }
    // Not being started by systemd is no fault.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    match options.role {
        Some(_) => supervisor::tell_ready().map(Listener::Supervisor),
        None => Listener::systemd(),
    }
}

struct Sources {
    packets: crate::capture::Watch,
    links: Ready,
    names: mpsc::Receiver<crate::resolver::Event>,
    requests: mpsc::Receiver<Call>,
    looks: Looks,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Sources {
    fn new(
        daemon: &Daemon,
        names: mpsc::Receiver<crate::resolver::Event>,
        requests: mpsc::Receiver<Call>,
    ) -> Result<Self, StartError> {
        let failed = |operation| move |source| StartError::Io { operation, source };
        let listen = |kind| signal(kind).map_err(failed("listen for signals"));
        Ok(Self {
            packets: daemon.capture.watch()?,
            links: Ready::new(daemon.links.fd()).map_err(failed("wait for interface changes"))?,
            names,
            requests,
            looks: Looks::new(),
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

async fn events(
    daemon: &mut Daemon,
    mut sources: Sources,
    server: &mut tokio::task::JoinHandle<Result<(), crate::control::ControlError>>,
    pulse: &mut Pulse,
    log: &Log,
) -> Result<ExitCode, StartError> {
    let mut more = false;
    let mut pace = Pace::default();
    let mut had_packets = false;
    let wanted = daemon.memory.wanted();
    let mut alarm = Alarm::new()?;
    let mut look_around = tokio::time::interval(LOOK_AROUND);
    look_around.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        alarm.set(daemon.due())?;
        let others = std::mem::take(&mut had_packets);
        tokio::select! {
            biased;
            ready = packets(&sources.packets, more), if !others => {
                ready.map_err(|source| StartError::Io { operation: "wait for packets", source })?;
                more = take_packets(daemon, &mut pace);
                had_packets = true;
                // The tasks that serve the control socket are others, too.
                tokio::task::yield_now().await;
            }
            Some(call) = sources.requests.recv() => {
                if take(daemon, call, &sources.looks) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Some((wanted, prepared)) = sources.looks.next() => {
                let _eased = daemon.scheduling.ease();
                match wanted {
                    Some(call) => drop(serve(daemon, call, prepared)),
                    None => drop(daemon.reload(false, &Who("SIGHUP".to_owned()), &prepared.operators)),
                }
            }
            Some(Ended { job, again }) = daemon.commands.ended() => {
                drop(daemon.handle(Event::Ended { job, again }));
            }
            Some(marked) = daemon.sheets.marked() => daemon.sequence_marked(marked),
            Some(event) = sources.names.recv() => {
                let _eased = daemon.scheduling.ease();
                daemon.name_changed(event);
            }
            ready = sources.links.readable() => {
                ready.map_err(|source| StartError::Io { operation: "wait for interfaces", source })?;
                let _eased = daemon.scheduling.ease();
                daemon.links_changed();
            }
            rung = alarm.rings() => {
                rung?;
                daemon.tick();
            }
            stir = pulse.stirs() => {
                let _eased = daemon.scheduling.ease();
                pulse.carry_on(stir, daemon);
            }
            () = wanted.notified() => {
                let _eased = daemon.scheduling.ease();
                daemon.remember_everything();
            }
            stir = daemon.drift.stirs() => {
                let stir = stir.map_err(|source| StartError::Io { operation: "wait for changes of the rules", source })?;
                let _eased = daemon.scheduling.ease();
                daemon.rules_stir(stir);
            }
            _ = look_around.tick() => {
                let _eased = daemon.scheduling.ease();
                daemon.look_for_listeners();
                if !pulse.beats() {
                    daemon.keep_rules();
                }
            }
            Some(()) = sources.hangup.recv() => {
                let _eased = daemon.scheduling.ease();
                log.reopen();
                sources.looks.look(None, daemon);
            }
            Some(()) = sources.terminate.recv() => {
                daemon.stop();
                return Ok(ExitCode::SUCCESS);
            }
            Some(()) = sources.interrupt.recv() => {
                daemon.stop();
                return Ok(ExitCode::SUCCESS);
            }
            ended = &mut *server => {
                if let Ok(Err(error)) = ended {
                    return Err(error.into());
                }
                return Ok(ExitCode::FAILURE);
            }
            // None of them has anything to do.
            () = async {}, if others => {}
        }
    }
}

/// Returns when there may be packets.
async fn packets(watch: &crate::capture::Watch, more: bool) -> std::io::Result<()> {
    if more {
        return Ok(());
    }
    watch.readable().await
}

/// Takes packets in, and a rest where they have taken their share of a CPU; whether there may be
/// more.
fn take_packets(daemon: &mut Daemon, pace: &mut Pace) -> bool {
    let drained = daemon.take_packets();
    if pace.is_over(sched::cpu_time(), now()) {
        // Shorter than what the event loop's timers can do, and nothing else waits for longer.
        std::thread::sleep(PAUSE);
    }
    drained == Drained::More
}

/// Looks who is logged in before what could shut them out, and reads policies: away from the event
/// loop.
struct Looks {
    done: mpsc::Sender<Look>,
    next: mpsc::Receiver<Look>,
}

/// What is to be done (a request, or a reload by signal), and what was found out.
type Look = (Option<Call>, Prepared);

impl Looks {
    fn new() -> Self {
        let (done, next) = mpsc::channel(REQUESTS);
        Self { done, next }
    }

    fn look(&self, wanted: Option<Call>, daemon: &Daemon) {
        let done = self.done.clone();
        let path = daemon.policies.path().to_owned();
        let look = move || {
            let session = wanted.as_ref().and_then(|call| call.session);
            let asked = wanted.as_ref().map(|call| &call.asked);
            let prepared = Prepared::of(asked, session, &path);
            (wanted, prepared)
        };
        tokio::spawn(async move {
            // What panicked has been logged; whoever asked gets no answer, and is told so.
            if let Ok(look) = tokio::task::spawn_blocking(look).await {
                // The daemon may be ending.
                let _ = done.send(look).await;
            }
        });
    }

    async fn next(&mut self) -> Option<Look> {
        self.next.recv().await
    }
}

/// Answers a request, at once or when it is known who is logged in; whether it was the last one.
fn take(daemon: &mut Daemon, call: Call, looks: &Looks) -> bool {
    if Prepared::is_needed(&call.asked) {
        looks.look(Some(call), daemon);
        return false;
    }
    serve(daemon, call, Prepared::default())
}

/// Answers a request; whether it was the last one.
fn serve(daemon: &mut Daemon, call: Call, prepared: Prepared) -> bool {
    let _eased = daemon.scheduling.ease();
    let Some(call) = daemon.answer_history(call) else {
        return false;
    };
    if call.asked == Asked::Status {
        daemon.status_asked(call);
        return false;
    }
    let last = call.asked == Asked::Teardown;
    let response = daemon.answer(call.asked, &call.who, prepared);
    let over = last && response.code == 0;
    let unwritten = std::mem::take(&mut daemon.unwritten);
    // Whoever asked may have gone away meanwhile, in both cases.
    if unwritten.is_empty() {
        let _ = call.reply.send(response);
    } else {
        tokio::spawn(async move {
            let _ = call.reply.send(when_written(unwritten, response).await);
        });
    }
    over
}

/// A success is told when what was to be remembered is on the disk.
async fn when_written(unwritten: Vec<Written>, mut response: Response) -> Response {
    for Written { told, promised } in unwritten {
        if !promised {
            // It is in force; that it is also remembered is worth waiting for, but not for long.
            let told = tokio::time::timeout(PATIENCE, told).await;
            let why = match told {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(why))) => why,
                Ok(Err(_)) => "there is no store".to_owned(),
                Err(_) => "the disk is slow".to_owned(),
            };
            let line = format!("in force, but not yet written to the disk: {why}");
            if !response.done.contains(&line) {
                response.done.push(line);
            }
            continue;
        }
        let why = match told.await {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_) => "there is no store".to_owned(),
        };
        response.code = 1;
        response
            .refused
            .push(format!("in force, but only until the daemon ends: {why}"));
        break;
    }
    response
}
