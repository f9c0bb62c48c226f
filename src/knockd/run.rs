//! The event loop. Packets come first: whoever has knocked is waiting. But between two turns of
//! theirs each of the others is asked once.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{info, warn};

use crate::capture::Drained;
use crate::control::{Asked, Call, ControlError, Response, Server};
use crate::engine::{Event, Who};
use crate::policy::{Interfaces, LogStyle, unlabelled};
use crate::sys::ready::Ready;
use crate::sys::sched;

use super::alarm::Alarm;
use super::cli::Options;
use super::commands::Ended;
use super::daemon::{Daemon, now};
use super::drift;
use super::guard::Prepared;
use super::install::install;
use super::lock;
use super::logging::Log;
use super::memory::Written;
use super::pace::{PAUSE, Pace};
use super::problems::{LOG_FILE, PID_FILE};
use super::pulse::{Listener, Pulse};
use super::recall;
use super::sheets::Marked;
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
    let basis = install(
        policy,
        &options.state_dir,
        recall::readers(),
        concat!("knockd ", env!("CARGO_PKG_VERSION")),
    )?;
    runtime.block_on(async {
        let (mut daemon, names) = start::listen(basis, policies, options)?;
        daemon.lost_lines = log.lost();
        if let Some(written) = start::record_reverted(&daemon.memory, &daemon.policies) {
            // Where the disk is slow it is written later, as everything is.
            let _ = tokio::time::timeout(PATIENCE, written.told).await;
        }
        daemon.policies.end_trial();
        daemon.problems.said(LOG_FILE, log.problem());
        let pid_file = lock::unwritten(&options.pid_paths());
        daemon.problems.set(PID_FILE, pid_file);
        let server = Server::bind(&options.runtime_dir)?;
        let (calls, requests) = mpsc::channel(REQUESTS);
        let server = tokio::spawn(server.run(calls));
        let mut sources = Sources::new(&daemon, names, requests, server)?;
        let interfaces = &daemon.engine.policy().interfaces;
        let mut pulse = Pulse::new(announce(options, interfaces), &options.runtime_dir);
        let end = events(&mut daemon, &mut sources, &mut pulse, log).await;
        // Its socket's file goes with it.
        sources.server.abort();
        if !sources.server.is_finished() {
            let _ = sources.server.await;
        }
        end
    })
}

/// Tells whoever started us that everything is in place; who wants to hear that it stays so.
fn announce(options: &Options, interfaces: &Interfaces) -> Option<Listener> {
    info!("knockd {} is listening", env!("CARGO_PKG_VERSION"));
    if let Some(name) = &options.interface
        && unlabelled(name) != name
    {
        let whole = unlabelled(name);
        warn!("-i {name} is all of {whole}: knocks to every address of it count");
    }
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
    wanted: Arc<Notify>,
    alarm: Alarm,
    minute: Interval,
    server: JoinHandle<Result<(), ControlError>>,
}

impl Sources {
    fn new(
        daemon: &Daemon,
        names: mpsc::Receiver<crate::resolver::Event>,
        requests: mpsc::Receiver<Call>,
        server: JoinHandle<Result<(), ControlError>>,
    ) -> Result<Self, StartError> {
        let mut minute = tokio::time::interval(LOOK_AROUND);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
            wanted: daemon.memory.wanted(),
            alarm: Alarm::new()?,
            minute,
            server,
        })
    }
}

/// What happened.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Happened {
    /// There may be packets.
    Packets,
    /// Somebody asks on the control socket.
    Asked(Call),
    /// It is known who is logged in.
    Looked(Look),
    /// A command has ended.
    Ended(Ended),
    /// A one-time sequence is used up, or could not be.
    Marked(Marked),
    /// A name has other addresses, or none.
    Name(crate::resolver::Event),
    /// Interfaces or addresses.
    Links,
    /// A time has come.
    Alarm,
    /// The control socket has answered the watchdog.
    Answer,
    /// The store wants everything written anew.
    Wanted,
    /// Somebody changed the rules, or a look at them is over.
    Rules(drift::Stir),
    /// A minute is over.
    Minute,
    /// SIGHUP.
    Hangup,
    /// SIGTERM or SIGINT.
    Terminate,
    /// The control socket is served no more.
    Unserved(Option<ControlError>),
    /// Nothing else than packets.
    Nothing,
}

/// Waits for whatever happens next; for packets first, unless it is the others' turn. They get it
/// after each round of packets, however fast these come.
async fn happens(
    daemon: &mut Daemon,
    sources: &mut Sources,
    pulse: &mut Pulse,
    more: bool,
    others: bool,
) -> Result<Happened, StartError> {
    let failed = |operation| move |source| StartError::Io { operation, source };
    let happened = tokio::select! {
        biased;
        ready = packets(&sources.packets, more), if !others => {
            ready.map_err(failed("wait for packets"))?;
            Happened::Packets
        }
        Some(call) = sources.requests.recv() => Happened::Asked(call),
        Some(look) = sources.looks.next() => Happened::Looked(look),
        Some(ended) = daemon.commands.ended() => Happened::Ended(ended),
        Some(marked) = daemon.sheets.marked() => Happened::Marked(marked),
        Some(event) = sources.names.recv() => Happened::Name(event),
        ready = sources.links.readable() => {
            ready.map_err(failed("wait for interfaces"))?;
            Happened::Links
        }
        rung = sources.alarm.rings() => {
            rung?;
            Happened::Alarm
        }
        Some(()) = pulse.answer() => Happened::Answer,
        () = sources.wanted.notified() => Happened::Wanted,
        stir = daemon.drift.stirs() => {
            Happened::Rules(stir.map_err(failed("wait for changes of the rules"))?)
        }
        _ = sources.minute.tick() => Happened::Minute,
        Some(()) = sources.hangup.recv() => Happened::Hangup,
        Some(()) = sources.terminate.recv() => Happened::Terminate,
        Some(()) = sources.interrupt.recv() => Happened::Terminate,
        ended = &mut sources.server => Happened::Unserved(ended.ok().and_then(Result::err)),
        () = async {}, if others => Happened::Nothing,
    };
    Ok(happened)
}

async fn events(
    daemon: &mut Daemon,
    sources: &mut Sources,
    pulse: &mut Pulse,
    log: &Log,
) -> Result<ExitCode, StartError> {
    let mut more = false;
    let mut pace = Pace::default();
    let mut had_packets = false;
    loop {
        sources
            .alarm
            .set(daemon.due().into_iter().chain(pulse.due()).min())?;
        let others = std::mem::take(&mut had_packets);
        let happened = happens(daemon, sources, pulse, more, others).await?;
        if matches!(happened, Happened::Packets) {
            more = take_packets(daemon, &mut pace);
            had_packets = true;
            // The tasks that serve the control socket are others, too.
            tokio::task::yield_now().await;
            continue;
        }
        // What is not about packets is done as an ordinary thread, but for what is due.
        let scheduling = daemon.scheduling;
        let _eased = (!matches!(happened, Happened::Alarm)).then(|| scheduling.ease());
        match happened {
            Happened::Packets | Happened::Nothing => {}
            Happened::Asked(call) => {
                if take(daemon, call, &sources.looks) {
                    daemon.end();
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Happened::Looked((Some(call), prepared)) => drop(serve(daemon, call, prepared)),
            Happened::Looked((None, prepared)) => {
                drop(daemon.reload(false, &Who("SIGHUP".to_owned()), &prepared.operators));
                // Nobody waits for that.
                daemon.unwritten.clear();
            }
            Happened::Ended(Ended { job, again }) => {
                drop(daemon.handle(Event::Ended { job, again }));
            }
            Happened::Marked(marked) => daemon.sequence_marked(marked),
            Happened::Name(event) => daemon.name_changed(event),
            Happened::Links => daemon.links_changed(),
            Happened::Alarm => {
                daemon.tick();
                if pulse.due().is_some_and(|due| due <= now()) {
                    let _eased = scheduling.ease();
                    pulse.round(daemon);
                }
            }
            Happened::Answer => pulse.answered(),
            Happened::Wanted => daemon.remember_everything(),
            Happened::Rules(stir) => daemon.rules_stir(stir),
            Happened::Minute => {
                daemon.look_for_listeners();
                if !pulse.beats() {
                    daemon.keep_rules();
                }
            }
            Happened::Hangup => {
                if daemon.engine.policy().log.style == LogStyle::Classic {
                    info!(
                        "re-reading config file: {}",
                        daemon.policies.path().display()
                    );
                }
                log.reopen();
                sources.looks.look(None, daemon);
            }
            Happened::Terminate => {
                daemon.stop();
                return Ok(ExitCode::SUCCESS);
            }
            Happened::Unserved(Some(error)) => return Err(error.into()),
            Happened::Unserved(None) => return Ok(ExitCode::FAILURE),
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
