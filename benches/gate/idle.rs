//! What the daemon costs while nothing happens.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::lab::{Daemon, Lab, await_some};

use crate::report::{Line, Measured};
use crate::so_many;
use crate::world::{Server, TRUSTED, backends, over_threads, own_kib, resident_kib};

/// Once a minute the daemon looks at what listens.
const WATCHED: Duration = Duration::from_secs(65);
/// What a start leaves to be done afterwards is over by then.
const SETTLED: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon, and a supervisor where there is one.
struct Idle {
    name: String,
    daemon: Daemon,
    supervised: Option<Supervised>,
    pids: Vec<u32>,
}

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let (backends, missing) = backends();
    let ways = backends.into_iter().flat_map(|b| [(b, false), (b, true)]);
    let mut idle = Vec::new();
    let mut servers = Vec::new();
    for (number, (backend, is_supervised)) in (0..).zip(ways) {
        let server = Server::new(&lab, &clients, (number, backend), 1)?;
        let daemon = server.daemon(&lab, TRUSTED)?;
        servers.push(server);
        idle.push(if is_supervised {
            Idle::in_background(format!("{backend}, knockd -d"), daemon)?
        } else {
            Idle::in_foreground(format!("{backend}"), daemon)?
        });
    }

    std::thread::sleep(SETTLED);
    let wakes = |idle: &[Idle]| idle.iter().map(Idle::wakes).collect::<io::Result<Vec<_>>>();
    let before = wakes(&idle)?;
    let started = Instant::now();
    std::thread::sleep(so_many(WATCHED, Duration::from_secs(2)));
    let after = wakes(&idle)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut lines = Vec::new();
    for (idle, (before, after)) in idle.iter_mut().zip(before.into_iter().zip(after)) {
        lines.extend(idle.lines(after - before, seconds)?);
    }
    lines.extend(missing);
    for (name, path) in [
        ("knockd", env!("CARGO_BIN_EXE_knockd")),
        ("knockctl", env!("CARGO_BIN_EXE_knockctl")),
        ("knock", env!("CARGO_BIN_EXE_knock")),
    ] {
        let size = fs::metadata(path)?.len();
        lines.push(Line::new(
            format!("size of the {name} binary"),
            format!("{:.1} MB", mega(size)),
            "< 10 MB",
            mega(size) < 10.0,
        ));
    }
    Ok(lines)
}

impl Idle {
    fn in_foreground(name: String, mut daemon: Daemon) -> Result<Self, Box<dyn Error>> {
        daemon.start()?;
        let pids = daemon.pid().into_iter().collect();
        Ok(Self {
            name,
            daemon,
            supervised: None,
            pids,
        })
    }

    fn in_background(name: String, daemon: Daemon) -> Result<Self, Box<dyn Error>> {
        let log = daemon.state_dir().join("log");
        // Returns when the worker is ready.
        let started = daemon.run_knockd(&["-d", "-g", &log.to_string_lossy()])?;
        if started.code != Some(0) {
            return Err(format!("knockd -d: {}", started.stderr).into());
        }
        let supervisor = fs::read_to_string(daemon.runtime_dir().join("knockd.pid"))?;
        let supervised = Supervised(supervisor.trim().parse()?);
        let mut pids = children(supervised.0)?;
        if pids.len() != 1 {
            return Err(format!("the supervisor has {} children", pids.len()).into());
        }
        pids.push(supervised.0);
        Ok(Self {
            name,
            daemon,
            supervised: Some(supervised),
            pids,
        })
    }

    fn wakes(&self) -> io::Result<u64> {
        let wakes = |&pid: &u32| over_threads(pid, "voluntary_ctxt_switches");
        self.pids.iter().map(wakes).sum()
    }

    fn lines(&mut self, wakes: u64, seconds: f64) -> Result<Vec<Line>, Box<dyn Error>> {
        let name = &self.name;
        if let Some(status) = self.daemon.ended()? {
            return Err(format!("{name}: the daemon ended meanwhile: {status}").into());
        }
        #[allow(clippy::cast_precision_loss)]
        let rate = wakes as f64 / seconds;
        let resident = self.pids.iter().map(|&pid| resident_kib(pid));
        let resident = resident.collect::<io::Result<Vec<u64>>>()?;
        let each: Vec<String> = resident
            .iter()
            .map(|kib| format!("{:.1}", mega(kib * 1024)))
            .collect();
        let mut lines = vec![Line::new(
            format!("{name}: wake-ups, all threads"),
            format!("{rate:.2}/s ({wakes} in {seconds:.0} s)"),
            "≤ 2/s",
            rate <= 2.0,
        )];
        let total: u64 = if self.supervised.is_some() {
            lines.push(Line::aside(
                format!("{name}: resident memory of worker and supervisor"),
                format!("{} MB", each.join(" MB and ")),
            ));
            // The program's text is there once.
            let supervisor = self.pids.last().ok_or("there is no supervisor")?;
            resident[0] + own_kib(*supervisor)?
        } else {
            resident.iter().sum()
        };
        let what = match self.supervised {
            Some(_) => "resident memory, with what is the supervisor's own",
            None => "resident memory",
        };
        lines.push(Line::new(
            format!("{name}: {what}"),
            format!("{:.1} MB", mega(total * 1024)),
            "< 16 MB",
            mega(total * 1024) < 16.0,
        ));
        Ok(lines)
    }
}

/// The processes that this one has started (`proc_pid_task_children(5)`).
fn children(pid: u32) -> Result<Vec<u32>, Box<dyn Error>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        for child in children.split_ascii_whitespace() {
            all.push(child.parse()?);
        }
    }
    Ok(all)
}

/// A supervisor that is nobody's child; stopped when dropped, and its worker with it.
struct Supervised(u32);

impl Drop for Supervised {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.0) else {
            return;
        };
        let path = format!("/proc/{pid}");
        let gone = || Ok((!Path::new(&path).exists()).then_some(()));
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        if await_some("the end of the supervisor", PATIENCE, gone).is_err() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// In units of 10^6 bytes.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
