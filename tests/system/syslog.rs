//! What `UseSyslog` of the classic file sends to the system log, with Debian's knockd and with ours:
//! filters look for those lines.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::lab::{Host, Lab, await_some};

use crate::cases;
use crate::programs;
use crate::world::{AT_ONCE, Tried};

cases![the_system_log_has_the_same_lines];

/// As Debian installs it, in the shape if not in the letters.
const CONF: &str = "[options]
    UseSyslog
[openSSH]
    sequence    = 7000,8000,9000
    seq_timeout = 5
    command     = /bin/true %IP%
    tcpflags    = syn
[openSSH]
    sequence    = 7000,8000
    command     = exit 3
    tcpflags    = syn
";

/// The C library writes to /dev/log: a /dev of their own with another's socket in it.
const WITH_DEV: &str = "mount --rbind $0 /dev && exec \"$@\"";

fn a_dev(dir: &Path) -> Result<UnixDatagram, Box<dyn std::error::Error>> {
    std::fs::create_dir(dir)?;
    for name in ["null", "urandom", "random", "zero"] {
        let (from, to) = (Path::new("/dev").join(name), dir.join(name));
        std::fs::write(&to, "")?;
        let (bind, none) = (nix::mount::MsFlags::MS_BIND, None::<&str>);
        nix::mount::mount(Some(&from), &to, none, bind, none)?;
    }
    let log = UnixDatagram::bind(dir.join("log"))?;
    log.set_read_timeout(Some(AT_ONCE))?;
    Ok(log)
}

struct Running(Child);

impl Running {
    fn start(
        server: &Host,
        dev: &Path,
        program: PathBuf,
        arguments: &[&str],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut command = server.command(programs::path("unshare"))?;
        command
            .args(["-m", "sh", "-c", WITH_DEV])
            .arg(dev)
            .arg(program)
            .args(arguments)
            // As under systemd.
            .env("JOURNAL_STREAM", "8:1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    fn terminate(&mut self) -> Tried {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without the time (RFC 3164), which is of fixed length, and what ours alone has to say.
fn line(datagram: &[u8]) -> String {
    let text = String::from_utf8_lossy(datagram);
    let (priority, rest) = text.split_once('>').expect("a priority");
    let rest = &rest["Jan  1 00:00:00 ".len()..];
    // Of theirs one has a line end.
    format!("{priority}>{}", rest.trim_end())
}

/// What is said from the start to the end, while somebody knocks.
fn told(ours: bool) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let lab = Lab::new()?;
    let (server, clients) = (lab.host("server")?, lab.host("clients")?);
    lab.link(
        &server,
        "eth0",
        &["192.0.2.1/24"],
        &clients,
        "eth0",
        &["192.0.2.10/24"],
    )?;
    let dir = lab.dir();
    let dev = dir.join("dev");
    let log = a_dev(&dev)?;
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (conf, state, run, pid) = (path("conf"), path("state"), path("run"), path("pid"));
    std::fs::write(&conf, CONF)?;
    let mut running = if ours {
        let knockd = PathBuf::from(env!("CARGO_BIN_EXE_knockd"));
        let arguments = ["-c", &conf, "--state-dir", &state, "--runtime-dir", &run];
        Running::start(&server, &dev, knockd, &arguments)?
    } else {
        let arguments = ["-c", &conf, "-p", &pid];
        Running::start(&server, &dev, programs::path("knockd"), &arguments)?
    };
    await_some("a daemon that listens", AT_ONCE, || {
        let sockets = server.run(|| std::fs::read_to_string("/proc/thread-self/net/packet"))?;
        Ok((sockets.unwrap_or_default().lines().count() > 1).then_some(()))
    })?;
    let mut lines = Vec::new();
    let mut buffer = [0; 4096];
    let mut until = |part: &str| {
        while lines
            .last()
            .is_none_or(|line: &String| !line.contains(part))
        {
            let length = log.recv(&mut buffer)?;
            lines.push(line(&buffer[..length]));
        }
        Ok::<_, std::io::Error>(())
    };
    until("starting up")?;
    // Its socket is there before it listens.
    std::thread::sleep(Duration::from_millis(300));
    clients
        .client("192.0.2.10")?
        .knock("192.0.2.1", &["7000", "8000"])?;
    until("status code (3)")?;
    clients
        .client("192.0.2.10")?
        .knock("192.0.2.1", &["9000"])?;
    until("running command: /bin/true")?;
    running.terminate()?;
    until("shutting down")?;
    for name in ["null", "urandom", "random", "zero"] {
        nix::mount::umount2(&dev.join(name), nix::mount::MntFlags::MNT_DETACH)?;
    }
    Ok(lines)
}

fn the_system_log_has_the_same_lines() -> Tried {
    let (theirs, ours) = (told(false)?, told(true)?);
    // daemon.notice, without a process number.
    let expected = [
        "<29>knockd: starting up, listening on eth0",
        "<29>knockd: 192.0.2.10: openSSH: Stage 1",
        "<29>knockd: 192.0.2.10: openSSH: Stage 2",
    ];
    for lines in [&theirs, &ours] {
        for line in expected {
            assert!(
                lines.iter().any(|told| told == line),
                "{line} in {lines:#?}"
            );
        }
    }
    let words = |lines: &[String]| {
        let mut words: Vec<String> = lines.iter().map(|line| line.replace("_2", "")).collect();
        words.sort();
        words
    };
    let (theirs, ours) = (words(&theirs), words(&ours));
    let lacking: Vec<&String> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    assert!(lacking.is_empty(), "{lacking:#?} in {ours:#?}");
    assert!(
        ours.iter().all(|line| line.contains("knockd: ")),
        "{ours:#?}"
    );
    Ok(())
}
