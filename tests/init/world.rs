//! A server with a service behind the gate, the init script set up for it, and people who want in.

use std::cell::RefCell;
use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::control::{Request, Verb, client};
use portcullis::lab::{
    BEFORE_A_SECOND_SYN, Finished, Host, Lab, LabError, ONE_SYN, Service, await_some, run_bounded,
};

pub(crate) type Tried = Result<(), Box<dyn Error>>;

pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/init/knockd");
pub(crate) const KNOCKD: &str = env!("CARGO_BIN_EXE_knockd");
pub(crate) const KNOCKCTL: &str = env!("CARGO_BIN_EXE_knockctl");

/// What plays `sh`: as Debian has it, and as systems like RHEL have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shell(pub(crate) &'static str);

pub(crate) const SHELLS: [Shell; 2] = [Shell("dash"), Shell("bash")];

pub(crate) const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 300s, ban_timeout: never }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 1s, action: accept }
  decoy: { sequence: [1220, 1221], seq_timeout: 1s, action: drop }
";

pub(crate) const BAD_POLICY: &str = "gates:\n  ssh: { prots: [22] }\n";

pub(crate) const STRANGER: &str = "192.0.2.10";
pub(crate) const KNOCKER: &str = "192.0.2.11";
pub(crate) const TRUSTED: &str = "192.0.2.50";

/// What should come about at once may take that long on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);

thread_local! {
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The log of the last world that ended on this thread, for the report of a failure.
pub(crate) fn last_log() -> String {
    LOG.take()
}

pub(crate) struct World {
    _service: Service,
    pub(crate) clients: Host,
    pub(crate) server: Host,
    pub(crate) dir: PathBuf,
    _lab: Lab,
}

impl World {
    pub(crate) fn new() -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        let own = [STRANGER, KNOCKER, TRUSTED].map(|address| format!("{address}/24"));
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        lab.link(&server, "eth0", &["192.0.2.1/24"], &clients, "eth0", &own)?;
        let world = Self {
            _service: Service::start(&server, 22)?,
            clients,
            server,
            dir: lab.dir().to_owned(),
            _lab: lab,
        };
        fs::create_dir(world.dir.join("subsys")).expect("a directory");
        world.write("knockd.yaml", POLICY);
        world.write("knockd.trusted", &format!("{TRUSTED} a workstation\n"));
        world.switch(1);
        Ok(world)
    }

    /// With the daemon running, started by the script.
    pub(crate) fn running(shell: Shell) -> Result<Self, LabError> {
        let world = Self::new()?;
        world.expect(shell, 0, &["start"]);
        Ok(world)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    #[track_caller]
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file can be written");
    }

    /// Writes the settings with this START_KNOCKD.
    pub(crate) fn switch(&self, start: u8) {
        let opts = self.options().join(" ");
        let text = format!("START_KNOCKD={start}\nKNOCKD_OPTS=\"{opts}\"\n");
        self.write("defaults", &text);
    }

    /// The daemon's options.
    pub(crate) fn options(&self) -> Vec<String> {
        let path = |name| self.path(name).to_string_lossy().into_owned();
        vec![
            "-c".into(),
            path("knockd.yaml"),
            "--state-dir".into(),
            path("state"),
            format!("--runtime-dir={}", path("run")),
            "-p".into(),
            path("pid"),
            "-g".into(),
            path("log"),
        ]
    }

    /// A command on the server that knows where everything is and nothing else.
    pub(crate) fn command(&self, program: &str) -> Result<Command, LabError> {
        let mut command = self.server.command(program)?;
        command
            .env("KNOCKD", KNOCKD)
            .env("KNOCKCTL", KNOCKCTL)
            .env("KNOCKD_DEFAULTS", self.path("defaults"))
            .env("KNOCKD_SUBSYS", self.path("subsys"))
            .env("KNOCKD_SYSTEMD_DIR", self.path("no-systemd"))
            .current_dir(&self.dir);
        Ok(command)
    }

    /// The script, with this shell in the place of `sh`.
    pub(crate) fn script(&self, shell: Shell, arguments: &[&str]) -> Result<Command, LabError> {
        let mut command = self.command(shell.0)?;
        command.arg0("sh").arg(SCRIPT).args(arguments);
        Ok(command)
    }

    pub(crate) fn finish(&self, command: &mut Command) -> Result<Finished, LabError> {
        run_bounded(command, &self.dir, Duration::from_secs(30))
    }

    /// Runs the script, which must end with this code.
    #[track_caller]
    pub(crate) fn expect(&self, shell: Shell, code: i32, arguments: &[&str]) -> Finished {
        let mut command = self.script(shell, arguments).expect("a command");
        let finished = self.finish(&mut command).expect("the script ends");
        assert_eq!(
            finished.status.code(),
            Some(code),
            "knockd {arguments:?}: {finished:?}"
        );
        finished
    }

    /// Runs the script, which must succeed without a word.
    #[track_caller]
    pub(crate) fn expect_silence(&self, shell: Shell, arguments: &[&str]) {
        let finished = self.expect(shell, 0, arguments);
        assert_eq!((&*finished.stdout, &*finished.stderr), ("", ""));
    }

    /// `knockd -d` without the script.
    pub(crate) fn launch(&self) -> Result<Finished, LabError> {
        self.finish(self.command(KNOCKD)?.arg("-d").args(self.options()))
    }

    #[track_caller]
    pub(crate) fn supervisor(&self) -> i32 {
        let text = fs::read_to_string(self.path("pid")).expect("a pid file");
        text.trim().parse().expect("a number in the pid file")
    }

    /// Kills the supervisor, and returns when it and its worker are dead.
    #[track_caller]
    pub(crate) fn kill_supervisor(&self) {
        let (supervisor, worker) = (self.supervisor(), self.worker());
        send(supervisor, Signal::SIGKILL);
        await_end(supervisor, AT_ONCE);
        await_end(worker.expect("a worker"), AT_ONCE);
    }

    /// The worker, once there is one.
    pub(crate) fn worker(&self) -> Option<i32> {
        children(self.supervisor()).first().copied()
    }

    /// Waits for a worker other than this one that answers; how long that took.
    #[track_caller]
    pub(crate) fn await_worker(&self, not: Option<i32>, within: Duration) -> Duration {
        let started = Instant::now();
        await_some("a new worker that answers", within, || {
            let new = self.worker().is_some_and(|pid| Some(pid) != not);
            // One that is stopped would keep us waiting.
            Ok((new && self.answers()).then_some(()))
        })
        .expect("a new worker");
        started.elapsed()
    }

    pub(crate) fn answers(&self) -> bool {
        let socket = self.path("run/control.sock");
        client::ask(&socket, &Request::new(Verb::Ping, [""; 0])).is_ok()
    }

    #[track_caller]
    pub(crate) fn await_log(&self, text: &str, within: Duration) {
        await_some(&format!("`{text}` in the log"), within, || {
            Ok(self.log().contains(text).then_some(()))
        })
        .expect("a line in the log");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Whether this address gets in, at the first attempt.
    #[track_caller]
    pub(crate) fn gets_in(&self, address: &str) -> bool {
        self.gets_in_within(address, ONE_SYN)
    }

    #[track_caller]
    fn gets_in_within(&self, address: &str, patience: Duration) -> bool {
        let client = self.clients.client(address).expect("a client");
        let outcome = client.connect("192.0.2.1:22", patience);
        outcome.expect("a SYN can be sent").is_open()
    }

    /// Whoever is trusted, and nobody else who has not been let in.
    #[track_caller]
    pub(crate) fn gate_holds(&self) {
        assert!(!self.gets_in(STRANGER), "a stranger gets in");
        let found = self.gets_in_within(TRUSTED, BEFORE_A_SECOND_SYN);
        assert!(found, "a trusted machine is shut out");
    }

    /// Does something while a stranger and a trusted machine try to get in again and again: the
    /// former never does, the latter always.
    #[track_caller]
    pub(crate) fn while_people_try<T>(&self, work: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        let (strange, trusted) = (AtomicU32::new(0), AtomicU32::new(0));
        let again = |address: &str, expected: bool, count: &AtomicU32| {
            let patience = if expected {
                BEFORE_A_SECOND_SYN
            } else {
                ONE_SYN
            };
            while !over.load(Ordering::Relaxed) {
                let found = self.gets_in_within(address, patience);
                assert_eq!(found, expected, "{address}");
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        std::thread::scope(|scope| {
            let watchers = [
                scope.spawn(|| again(STRANGER, false, &strange)),
                scope.spawn(|| again(TRUSTED, true, &trusted)),
            ];
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // However short it was, each has tried once.
            let tried = await_some("an attempt of each", AT_ONCE, || {
                let each = [&strange, &trusted].map(|count| count.load(Ordering::Relaxed) > 0);
                Ok((each == [true, true]).then_some(()))
            });
            over.store(true, Ordering::Relaxed);
            for watcher in watchers {
                assert!(watcher.join().is_ok(), "the gate did not hold");
            }
            tried.expect("attempts");
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        LOG.set(self.log());
        // A supervisor has left its session behind; what belongs to this world names its files.
        // With the slash: another world's directory may begin with the name of this one's.
        let dir = format!("{}/", self.dir.display());
        for pid in processes() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&dir) {
                send(pid, Signal::SIGKILL);
            }
        }
    }
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// A field of /proc/PID/stat, counted from that after the name: 0 is the state, 1 the parent.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(") ")?.1;
    rest.split(' ').nth(field).map(ToOwned::to_owned)
}

fn children(parent: i32) -> Vec<i32> {
    let parent = parent.to_string();
    let mut all = processes();
    all.retain(|&pid| stat(pid, 1).as_ref() == Some(&parent));
    all
}

pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid, 0).is_some_and(|state| state != "Z" && state != "X")
}

#[track_caller]
pub(crate) fn await_end(pid: i32, within: Duration) {
    let ended = await_some(&format!("the end of process {pid}"), within, || {
        Ok((!is_alive(pid)).then_some(()))
    });
    ended.expect("an end");
}

pub(crate) fn send(pid: i32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether there is something of this name, whatever it is.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
