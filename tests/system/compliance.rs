//! The same classic files and the same knocks, once with Debian's knockd and once with ours, each
//! on a server of its own. What the manual page knockd(1) says of a key must come out alike; where
//! ours differs on purpose, both outcomes are asserted. Each case names the keys it is about.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::lab::{Daemon, Host, Lab, LabError, Program, Programs, await_some, run_bounded};

use crate::cases;
use crate::programs;
use crate::world::{AT_ONCE, Tried};

cases![
    sequence_is_knocked_in_order_over_tcp_and_udp,
    start_command_is_a_shells_line_with_the_address_in_it,
    start_command_6_is_for_ipv6_and_falls_back,
    seq_timeout_ends_an_attempt,
    tcpflags_that_do_not_match_are_ignored,
    target_is_the_address_that_counts,
    stop_command_follows_after_cmd_timeout_once_for_each_knock,
    one_time_sequences_are_marked_and_the_next_one_follows,
    one_time_sequences_that_run_out_end_theirs_alone,
    log_file_has_the_same_lines,
    a_command_that_fails_is_told_of,
    two_at_once_get_in_with_ours_alone,
    a_syn_that_was_sent_twice_is_no_fault_to_ours,
    a_sweep_opens_theirs_alone,
    a_door_stays_open_when_theirs_is_killed_and_ours_closes_it,
    the_stock_file_of_debian_opens_and_closes_as_it_is,
];

const SERVER: &str = "192.0.2.1";
const SERVER_6: &str = "2001:db8::1";
/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// That nothing more happens is seen after so long.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Theirs,
    Ours,
}

enum Running {
    Theirs(Child),
    Ours(Box<Daemon>),
}

/// A daemon on a server, and people on another host.
struct Side {
    running: Running,
    whose: Whose,
    config: PathBuf,
    dir: PathBuf,
    server: Host,
    clients: Host,
    lab: Lab,
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Running::Theirs(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Side {
    /// In the file `NOTES` is where commands write to, and `LOG` the log.
    fn start(whose: Whose, config: &str) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        let there = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"];
        let here = ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"];
        lab.link(&server, "eth0", &there, &clients, "eth0", &here)?;
        let dir = lab.dir().to_owned();
        let config = config
            .replace("NOTES", &dir.join("notes").display().to_string())
            .replace("LOG", &dir.join("log").display().to_string());
        let path = dir.join("knockd.conf");
        fs::write(&path, &config).expect("the laboratory can be written to");
        let running = match whose {
            Whose::Theirs => Running::Theirs(theirs(&server, &path, &dir)?),
            Whose::Ours => {
                let programs = Programs {
                    knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
                    knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
                };
                let mut daemon = Daemon::prepare(&lab, &server, &programs, &config, "")?;
                daemon.start()?;
                Running::Ours(Box::new(daemon))
            }
        };
        Ok(Self {
            running,
            whose,
            config: path,
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
    #[track_caller]
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

    /// The rules of INPUT, without the policy.
    #[track_caller]
    fn rules(&self) -> Vec<String> {
        let mut command = self.server.command("/sbin/iptables").expect("a command");
        let ended = run_bounded(command.args(["-S", "INPUT"]), &self.dir, AT_ONCE);
        let ended = ended.expect("iptables runs");
        assert!(ended.status.success(), "{ended:?}");
        let lines = ended.stdout.lines().filter(|line| line.starts_with("-A"));
        lines.map(str::to_owned).collect()
    }

    #[track_caller]
    fn soon_has_rules(&self, count: usize) -> Vec<String> {
        await_some("the rules", PATIENCE, || {
            let rules = self.rules();
            Ok((rules.len() == count).then_some(rules))
        })
        .unwrap_or_else(|error| panic!("{:?}: {error}: {:?}", self.whose, self.rules()))
    }

    fn kill_and_start_again(&mut self) -> Tried {
        match &mut self.running {
            Running::Theirs(child) => {
                // The process that waits to run the stop command goes with it, as in a control
                // group that is killed.
                kill_all_of(child.id());
                child.wait()?;
                self.running = Running::Theirs(theirs(&self.server, &self.config, &self.dir)?);
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
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}

/// Debian's knockd, when it listens.
fn theirs(server: &Host, config: &Path, dir: &Path) -> Result<Child, LabError> {
    let out = dir.join("said");
    let file = File::create(&out).expect("the laboratory can be written to");
    let also = file.try_clone().expect("a descriptor");
    let mut command: Command = server.command(programs::path("knockd"))?;
    command.args(["-v", "-i", "eth0", "-c"]).arg(config);
    command.arg("-p").arg(dir.join("pid"));
    command.stdin(Stdio::null()).stdout(file).stderr(also);
    let child = command.spawn().expect("Debian's knockd starts");
    // What it says is buffered; that it has its socket is seen from outside.
    await_some("Debian's knockd", AT_ONCE, || {
        let sockets = server.run(|| fs::read_to_string("/proc/thread-self/net/packet"))?;
        Ok((sockets.unwrap_or_default().lines().count() > 1).then_some(()))
    })
    .expect("Debian's knockd listens");
    std::thread::sleep(Duration::from_millis(300));
    Ok(child)
}

/// Runs the same with both, and returns what came out: theirs, ours.
fn both<T>(config: &str, story: impl Fn(&mut Side) -> T) -> Result<[T; 2], LabError> {
    let theirs = story(&mut Side::start(Whose::Theirs, config)?);
    Ok([theirs, story(&mut Side::start(Whose::Ours, config)?)])
}

/// Both come out as expected.
#[track_caller]
fn alike<T: PartialEq + std::fmt::Debug>(outcomes: &[T; 2], expected: &T) {
    let [theirs, ours] = outcomes;
    assert_eq!(theirs, expected, "Debian's knockd");
    assert_eq!(ours, expected, "ours");
}

const DOOR: &str = "[options]
    Interface = eth0
    LogFile = LOG
[door]
    Sequence = 7000,8000:udp,9000:tcp
    Seq_Timeout = 2
    TCPFlags = syn
    Start_Command = echo open %IP% >> NOTES
";

fn sequence_is_knocked_in_order_over_tcp_and_udp() -> Tried {
    let story = |ports: &[&str], lines| {
        both(DOOR, |side| {
            side.knocks(ports);
            side.noted(lines)
        })
    };
    let open = "open 192.0.2.10\n".to_owned();
    alike(&story(&["7000", "8000:udp", "9000"], 1)?, &open);
    alike(&story(&["7000", "9000", "8000:udp"], 0)?, &String::new());
    alike(&story(&["7000", "8000", "9000"], 0)?, &String::new());
    Ok(())
}

fn start_command_is_a_shells_line_with_the_address_in_it() -> Tried {
    let config = DOOR.replace(
        "echo open %IP% >> NOTES",
        "A=\"%IP%\"; echo $A '%IP%' > NOTES.new; mv NOTES.new NOTES # a comment",
    );
    let outcomes = both(&config, |side| {
        side.knocks(&["7000", "8000:udp", "9000"]);
        side.noted(1)
    })?;
    alike(&outcomes, &"192.0.2.10 192.0.2.10\n".to_owned());
    Ok(())
}

fn start_command_6_is_for_ipv6_and_falls_back() -> Tried {
    let outcomes = |config: &str| {
        both(config, |side| {
            side.knocks(&["7000", "8000:udp", "9000"]);
            let four = side.noted(1);
            side.knocks_from("2001:db8::10", SERVER_6, &["7000", "8000:udp", "9000"]);
            let six = side.noted(2);
            six.strip_prefix(&four).map(str::to_owned)
        })
    };
    alike(&outcomes(DOOR)?, &Some("open 2001:db8::10\n".to_owned()));
    let own = format!("{DOOR}    Start_Command_6 = echo six %IP% >> NOTES\n");
    alike(&outcomes(&own)?, &Some("six 2001:db8::10\n".to_owned()));
    Ok(())
}

fn seq_timeout_ends_an_attempt() -> Tried {
    let outcomes = both(DOOR, |side| {
        side.knocks(&["7000", "8000:udp"]);
        // Theirs counts whole seconds.
        std::thread::sleep(Duration::from_millis(3_100));
        side.knocks(&["9000"]);
        side.noted(0)
    })?;
    alike(&outcomes, &String::new());
    Ok(())
}

fn tcpflags_that_do_not_match_are_ignored() -> Tried {
    // Connecting sends a SYN alone: "packets that don't match the flags" are not seen at all, so
    // that an attempt goes on.
    let config = format!(
        "{DOOR}[fin]\n    Sequence = 7001,7002\n    TCPFlags = fin,!syn\n    Command = echo fin >> \
         NOTES\n[notsyn]\n    Sequence = 7003:udp,7004:udp\n    TCPFlags = !syn\n    Command = echo udp \
         >> NOTES\n"
    );
    let outcomes = both(&config, |side| {
        side.knocks(&["7001", "7002"]);
        side.knocks(&["7003:udp", "7004", "7004:udp"]);
        side.noted(1)
    })?;
    alike(&outcomes, &"udp\n".to_owned());
    Ok(())
}

fn target_is_the_address_that_counts() -> Tried {
    let config = format!("{DOOR}    Target = 192.0.2.2\n");
    let story = |to: &str, lines| {
        both(&config, |side| {
            side.knocks_from("192.0.2.10", to, &["7000", "8000:udp", "9000"]);
            side.noted(lines)
        })
    };
    alike(&story("192.0.2.2", 1)?, &"open 192.0.2.10\n".to_owned());
    alike(&story(SERVER, 0)?, &String::new());
    Ok(())
}

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

fn stop_command_follows_after_cmd_timeout_once_for_each_knock() -> Tried {
    let once = both(TIMED, |side| {
        side.knocks(&["7000", "8000", "9000"]);
        let rules = side.soon_has_rules(1);
        assert!(rules[0].contains("-s 192.0.2.10/32"), "{rules:?}");
        (side.noted(2), side.rules().len())
    })?;
    alike(&once, &("+\n-\n".to_owned(), 0));
    // A second knock within Cmd_Timeout: as many rules go as came.
    let twice = both(TIMED, |side| {
        side.knocks(&["7000", "8000", "9000"]);
        side.soon_has_rules(1);
        side.knocks(&["7000", "8000", "9000"]);
        side.soon_has_rules(2);
        (side.noted(4), side.rules().len())
    })?;
    alike(&twice, &("+\n+\n-\n-\n".to_owned(), 0));
    Ok(())
}

/// With `One_Time_Sequences`, in a file `sheet` that has this.
fn sheet(lines: &str, story: impl Fn(&mut Side) -> String) -> Result<[String; 2], LabError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("sheet");
    let door = format!("One_Time_Sequences = {}", path.display());
    let config = DOOR.replace("Sequence = 7000,8000:udp,9000:tcp", &door);
    let run = |whose| -> Result<String, LabError> {
        fs::write(&path, lines).expect("it can be written");
        Ok(story(&mut Side::start(whose, &config)?))
    };
    Ok([run(Whose::Theirs)?, run(Whose::Ours)?])
}

fn one_time_sequences_are_marked_and_the_next_one_follows() -> Tried {
    // "disabled by writing a '#' character at the first position", and replaced by the next valid
    // one. Theirs marks it after the command was started, ours before.
    let outcomes = sheet(" 7000,8000:udp\n# 1,2\n 7100,8100\n 7200,8200\n", |side| {
        side.knocks(&["7000", "8000:udp"]);
        side.noted(1);
        side.knocks_from("192.0.2.11", SERVER, &["7100", "8100"]);
        let noted = side.noted(2);
        let opened = noted.lines().filter(|line| line.starts_with("open"));
        opened.collect::<Vec<_>>().join(" ")
    })?;
    alike(&outcomes, &"open 192.0.2.10 open 192.0.2.11".to_owned());
    Ok(())
}

fn one_time_sequences_that_run_out_end_theirs_alone() -> Tried {
    let story = |side: &mut Side| {
        for source in ["192.0.2.10", "192.0.2.11"] {
            side.knocks_from(source, SERVER, &["7000", "8000:udp"]);
            side.noted(1);
        }
        let over = match &mut side.running {
            Running::Theirs(child) => child.try_wait().expect("a child").is_some(),
            Running::Ours(daemon) => daemon.ended().expect("a child").is_some(),
        };
        let noted = side.noted(1);
        let opened = noted.lines().filter(|line| line.starts_with("open"));
        format!("opened {}, ended {over}", opened.count())
    };
    let [theirs, ours] = sheet(" 7000,8000:udp\n", story)?;
    assert_eq!(
        theirs, "opened 1, ended true",
        "it ends when the sheet does"
    );
    assert_eq!(ours, "opened 1, ended false");
    Ok(())
}

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

fn log_file_has_the_same_lines() -> Tried {
    let config = TIMED.replace("Cmd_Timeout = 2", "Cmd_Timeout = 1");
    let outcomes = both(&config, |side| {
        side.knocks(&["7000", "8000", "9000"]);
        let notes = side.dir.join("notes").display().to_string();
        side.noted(2);
        lines_about(&side.read("log").replace(&notes, "NOTES"), "door")
    })?;
    let [theirs, ours] = outcomes;
    assert_eq!(theirs, ours);
    let rule = |what| {
        format!(
            "door: running command: /sbin/iptables -w {what} INPUT -s 192.0.2.10 -p tcp --dport 22 -j ACCEPT; \
         echo"
        )
    };
    for (line, start) in ours.iter().zip([
        "192.0.2.10: door: Stage 1",
        "192.0.2.10: door: Stage 2",
        "192.0.2.10: door: Stage 3",
        "192.0.2.10: door: OPEN SESAME",
        &rule("-I"),
        "192.0.2.10: door: command timeout",
        &rule("-D"),
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(ours.len(), 7, "{ours:?}");
    Ok(())
}

fn a_command_that_fails_is_told_of() -> Tried {
    let config = DOOR.replace("echo open %IP% >> NOTES", "exit 3");
    let outcomes = both(&config, |side| {
        side.knocks(&["7000", "8000:udp", "9000"]);
        side.noted(0);
        lines_about(&side.read("log"), "door").pop()
    })?;
    let words = "door: command returned non-zero status code (3)";
    alike(&outcomes, &Some(words.to_owned()));
    Ok(())
}

fn two_at_once_get_in_with_ours_alone() -> Tried {
    // A fault of theirs: an attempt that ends throws away others'.
    let [theirs, ours] = both(DOOR, |side| {
        side.knocks_from("192.0.2.10", SERVER, &["7000", "8000:udp"]);
        side.knocks_from("192.0.2.11", SERVER, &["7000", "8000:udp"]);
        side.knocks_from("192.0.2.10", SERVER, &["9000"]);
        side.knocks_from("192.0.2.11", SERVER, &["9000"]);
        side.noted(1)
    })?;
    assert_eq!(theirs.lines().count(), 1, "{theirs}");
    let mut ours: Vec<&str> = ours.lines().collect();
    ours.sort_unstable();
    assert_eq!(ours, ["open 192.0.2.10", "open 192.0.2.11"]);
    Ok(())
}

fn a_syn_that_was_sent_twice_is_no_fault_to_ours() -> Tried {
    // As when a client opens two connections to each port.
    let [theirs, ours] = both(DOOR, |side| {
        side.knocks(&["7000", "8000:udp", "8000:udp", "9000"]);
        side.noted(0)
    })?;
    assert_eq!(theirs, "", "a fault of theirs");
    assert_eq!(ours, "open 192.0.2.10\n");
    Ok(())
}

fn a_sweep_opens_theirs_alone() -> Tried {
    let config = DOOR.replace("8000:udp", "8000");
    let [theirs, ours] = both(&config, |side| {
        let mut nmap = side.clients.command(programs::path("nmap")).expect("nmap");
        nmap.args(["-n", "-Pn", "-sS", "-r", "--max-retries", "0", "-T5"]);
        nmap.args(["-p", "6950-7050,7990-8010,8990-9010", SERVER]);
        run_bounded(&mut nmap, side.lab.dir(), Duration::from_secs(30)).expect("it ends");
        side.noted(0)
    })?;
    assert_eq!(theirs, "open 192.0.2.10\n", "a fault of theirs");
    assert_eq!(ours, "");
    Ok(())
}

fn a_door_stays_open_when_theirs_is_killed_and_ours_closes_it() -> Tried {
    let [theirs, ours] = both(TIMED, |side| {
        side.knocks(&["7000", "8000", "9000"]);
        side.soon_has_rules(1);
        side.kill_and_start_again().expect("it starts again");
        std::thread::sleep(Duration::from_secs(2));
        side.noted(0);
        side.rules().len()
    })?;
    assert_eq!((theirs, ours), (1, 0));
    Ok(())
}

fn the_stock_file_of_debian_opens_and_closes_as_it_is() -> Tried {
    let stock = fs::read_to_string("/etc/knockd.conf")?;
    assert!(stock.contains("/sbin/iptables -A INPUT -s %IP%"), "{stock}");
    let outcomes = both(&stock, |side| {
        let knock = |ports: &[&str]| {
            let mut knock = side
                .clients
                .command(programs::path("knock"))
                .expect("knock");
            knock.args(["-d", "50", SERVER]).args(ports);
            let ended = run_bounded(&mut knock, &side.dir, AT_ONCE).expect("it ends");
            assert!(ended.status.success(), "{ended:?}");
        };
        knock(&["7000", "8000", "9000"]);
        let opened = side.soon_has_rules(1);
        knock(&["9000", "8000", "7000"]);
        side.soon_has_rules(0);
        opened
    })?;
    let rule = "-A INPUT -s 192.0.2.10/32 -p tcp -m tcp --dport 22 -j ACCEPT";
    alike(&outcomes, &vec![rule.to_owned()]);
    Ok(())
}
