//! The same classic files and the same knocks, once with Debian's knockd and once with ours, each
//! on a server of its own. What the manual page knockd(1), release 0.8, says of a key or an option
//! must come out alike, and is what a failure shows; where ours differs on purpose, both outcomes are
//! asserted. In each case the rules count that are in INPUT at its end.

pub(crate) mod doors;
pub(crate) mod faults;
pub(crate) mod options;
pub(crate) mod sheets;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::lab::{Daemon, Host, Lab, LabError, Program, Programs, await_some, run_bounded};

use crate::programs;
use crate::world::AT_ONCE;

const SERVER: &str = "192.0.2.1";
const SERVER_6: &str = "2001:db8::1";
/// The server's address on its other interface, wan0.
const OUTSIDE: &str = "198.51.100.1";
/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// That nothing more happens is seen after so long.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Theirs,
    Ours,
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum Running {
    Theirs(Process),
    Ours(Box<Daemon>),
}

/// A daemon on a server, and people on another host.
struct Side {
    running: Running,
    whose: Whose,
    config: PathBuf,
    /// Of the daemon's command line.
    arguments: Vec<String>,
    dir: PathBuf,
    server: Host,
    clients: Host,
    lab: Lab,
}

/// A lab with a server and people, and the file that they are about. In it and in arguments `NOTES`
/// is where commands write to, and `LOG` the log.
struct Place {
    config: PathBuf,
    dir: PathBuf,
    server: Host,
    clients: Host,
    lab: Lab,
}

impl Place {
    fn new(config: &str) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        let there = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"];
        let here = ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"];
        lab.link(&server, "eth0", &there, &clients, "eth0", &here)?;
        let outside = format!("{OUTSIDE}/24");
        lab.link(
            &server,
            "wan0",
            &[&outside],
            &clients,
            "wan0",
            &["198.51.100.10/24"],
        )?;
        let place = Self {
            config: lab.dir().join("knockd.conf"),
            dir: lab.dir().to_owned(),
            server,
            clients,
            lab,
        };
        fs::write(&place.config, place.filled_in(config))
            .expect("the laboratory can be written to");
        Ok(place)
    }

    fn filled_in(&self, text: &str) -> String {
        let path = |name: &str| self.dir.join(name).display().to_string();
        text.replace("NOTES", &path("notes"))
            .replace("LOG", &path("log"))
    }
}

impl Side {
    fn start(whose: Whose, config: &str) -> Result<Self, LabError> {
        Self::start_with(whose, config, &[])
    }

    fn start_with(whose: Whose, config: &str, arguments: &[&str]) -> Result<Self, LabError> {
        let place = Place::new(config)?;
        let arguments: Vec<String> = arguments.iter().map(|it| place.filled_in(it)).collect();
        let Place {
            config,
            dir,
            server,
            clients,
            lab,
        } = place;
        let running = match whose {
            Whose::Theirs => Running::Theirs(theirs(&server, &config, &arguments, &dir)?),
            Whose::Ours => {
                let programs = Programs {
                    knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
                    knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
                };
                let text = fs::read_to_string(&config).expect("it was written");
                let mut daemon = Daemon::prepare(&lab, &server, &programs, &text, "")?;
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                daemon.set_arguments(&arguments);
                daemon.start()?;
                Running::Ours(Box::new(daemon))
            }
        };
        Ok(Self {
            running,
            whose,
            config,
            arguments,
            dir,
            server,
            clients,
            lab,
        })
    }

    #[track_caller]
    fn knocks_from(&self, source: &str, to: &str, ports: &[&str]) {
        let client = self.clients.client(source).expect("a client");
        client.knock(to, ports).expect("a knock can be sent");
    }

    #[track_caller]
    fn knocks(&self, ports: &[&str]) {
        self.knocks_from("192.0.2.10", SERVER, ports);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// What commands have noted when nothing more comes, at least so many lines.
    fn noted(&self, lines: usize) -> String {
        let started = Instant::now();
        while self.read("notes").lines().count() < lines && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut seen = self.read("notes");
        loop {
            std::thread::sleep(QUIET);
            let now = self.read("notes");
            if now == seen {
                return now;
            }
            seen = now;
        }
    }

    /// The rules of INPUT in both families, without the policy.
    #[track_caller]
    fn rules(&self) -> Vec<String> {
        let of_family = |program: &str| {
            let mut command = self.server.command(program).expect("a command");
            let ended = run_bounded(command.args(["-S", "INPUT"]), &self.dir, AT_ONCE);
            let ended = ended.expect("iptables runs");
            assert!(ended.status.success(), "{ended:?}");
            let lines = ended.stdout.lines().filter(|line| line.starts_with("-A"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        [of_family("/sbin/iptables"), of_family("/sbin/ip6tables")].concat()
    }

    #[track_caller]
    fn soon_has_rules(&self, count: usize) -> Vec<String> {
        await_some("the rules", PATIENCE, || {
            let rules = self.rules();
            Ok((rules.len() == count).then_some(rules))
        })
        .unwrap_or_else(|error| panic!("{:?}: {error}: {:?}", self.whose, self.rules()))
    }

    /// With which code it has ended, if it has; -1 for a signal.
    fn ended(&mut self) -> Option<i32> {
        let status = match &mut self.running {
            Running::Theirs(process) => process.0.try_wait().expect("a child"),
            Running::Ours(daemon) => daemon.ended().expect("a child"),
        };
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// SIGHUP; it takes either a moment.
    fn hang_up(&self) -> Result<(), LabError> {
        match &self.running {
            Running::Theirs(process) => {
                signal(process.0.id(), nix::sys::signal::Signal::SIGHUP);
                std::thread::sleep(QUIET);
                Ok(())
            }
            Running::Ours(daemon) => {
                daemon.hang_up()?;
                std::thread::sleep(QUIET);
                Ok(())
            }
        }
    }

    fn kill_and_start_again(&mut self) -> Result<(), LabError> {
        match &mut self.running {
            Running::Theirs(process) => {
                // The process that waits to run the stop command goes with it, as in a control
                // group that is killed.
                kill_all_of(process.0.id());
                process.0.wait().expect("a child");
                let again = theirs(&self.server, &self.config, &self.arguments, &self.dir)?;
                self.running = Running::Theirs(again);
            }
            Running::Ours(daemon) => {
                daemon.kill_9();
                daemon.start()?;
            }
        }
        Ok(())
    }
}

/// Kills a process, and its children first.
fn kill_all_of(pid: u32) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        kill_all_of(child.parse().expect("a number"));
    }
    signal(pid, nix::sys::signal::Signal::SIGKILL);
}

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Debian's knockd, when it listens.
fn theirs(
    server: &Host,
    config: &Path,
    arguments: &[String],
    dir: &Path,
) -> Result<Process, LabError> {
    let out = dir.join("said");
    let file = File::create(&out).expect("the laboratory can be written to");
    let also = file.try_clone().expect("a descriptor");
    let mut command: Command = server.command(programs::path("knockd"))?;
    command.arg("-c").arg(config).args(arguments);
    if !arguments.iter().any(|argument| argument.starts_with("--p")) {
        command.arg("-p").arg(dir.join("pid"));
    }
    command.stdin(Stdio::null()).stdout(file).stderr(also);
    let process = Process(command.spawn().expect("Debian's knockd starts"));
    listens(server)?;
    Ok(process)
}

/// What theirs says is buffered; that it has its socket is seen from outside.
fn listens(server: &Host) -> Result<(), LabError> {
    await_some("Debian's knockd", AT_ONCE, || {
        let sockets = server.run(|| fs::read_to_string("/proc/thread-self/net/packet"))?;
        Ok((sockets.unwrap_or_default().lines().count() > 1).then_some(()))
    })?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

/// What came of a story, and how many rules were left at its end.
type Outcome<T> = (T, usize);

/// Runs the same with both, and returns what came out: theirs, ours.
fn both<T>(config: &str, story: impl Fn(&mut Side) -> T) -> Result<[Outcome<T>; 2], LabError> {
    both_with(config, &[], story)
}

/// The same with arguments.
fn both_with<T>(
    config: &str,
    arguments: &[&str],
    story: impl Fn(&mut Side) -> T,
) -> Result<[Outcome<T>; 2], LabError> {
    let run = |whose| -> Result<Outcome<T>, LabError> {
        let mut side = Side::start_with(whose, config, arguments)?;
        let told = story(&mut side);
        Ok((told, side.rules().len()))
    };
    Ok([run(Whose::Theirs)?, run(Whose::Ours)?])
}

/// Both come out as the manual page has it, with so many rules at the end.
#[track_caller]
fn alike<T: PartialEq + std::fmt::Debug>(
    outcomes: &[Outcome<T>; 2],
    expected: &T,
    rules: usize,
    manual: &str,
) {
    for (whose, (told, left)) in ["Debian's knockd", "ours"].iter().zip(outcomes) {
        assert_eq!((told, *left), (expected, rules), "{whose}: {manual:?}");
    }
}

/// A door that opens for good, and notes for whom.
const DOOR: &str = "[options]
    Interface = eth0
    LogFile = LOG
[door]
    Sequence = 7000,8000:udp,9000:tcp
    Seq_Timeout = 2
    TCPFlags = syn
    Start_Command = /sbin/iptables -w -I INPUT -s %IP% -j ACCEPT; echo open %IP% >> NOTES
";
/// What is knocked there.
const KNOCKS: [&str; 3] = ["7000", "8000:udp", "9000"];

/// As the manual page has it: `Start_Command`, `Cmd_Timeout`, `Stop_Command`.
const TIMED: &str = "[options]
    Interface = eth0
    LogFile = LOG
[door]
    Sequence = 7000,8000,9000
    Seq_Timeout = 5
    TCPFlags = syn
    Start_Command = /sbin/iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT; echo + >> NOTES
    Cmd_Timeout = 2
    Stop_Command = /sbin/iptables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT; echo - >> NOTES
";
/// What is knocked there.
const TIMED_KNOCKS: [&str; 3] = ["7000", "8000", "9000"];

/// The lines of the log that are about the door, without their time.
fn lines_about(log: &str, door: &str) -> Vec<String> {
    let about = |line: &&str| line.contains(&format!("{door}: "));
    let lines = log.lines().filter(about);
    lines
        .map(|line| {
            let (time, text) = line.split_once("] ").expect("a time");
            assert_eq!(time.len(), "[2016-03-18 12:55".len(), "{line}");
            text.to_owned()
        })
        .collect()
}
