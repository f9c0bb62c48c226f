//! A real session of a real sshd.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portcullis::lab::Host;

use crate::cases;
use crate::programs;
use crate::world::{Family, Person, Tried, World, shipped_with_accept_timeout};

cases![
    ssh_is_refused_before_the_knock_and_its_session_outlives_the_acceptance,
    ssh_knocks_by_itself_where_its_configuration_says_so,
    a_ban_leaves_an_open_session_alone,
    with_cut_sessions_a_ban_ends_it_at_once,
    scp_of_a_megabyte_passes_through_the_gate,
];

/// Sshd on a host, and a key that it lets in. Killed when dropped.
pub(crate) struct Sshd {
    child: Child,
    key: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    pub(crate) fn start(world: &World, server: &Host) -> Result<Self, Box<dyn std::error::Error>> {
        let [host_key, key] = ["host_key", "user_key"].map(|name| world.lab.dir().join(name));
        for path in [&host_key, &key] {
            let path = path.to_str().ok_or("the directory's name is not UTF-8")?;
            let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", path];
            world.succeeds(server, "ssh-keygen", &arguments);
        }
        // Where Debian's sshd separates its privileges; /run is our own in here, and another
        // case may have been first.
        let _ = DirBuilder::new().mode(0o755).create("/run/sshd");
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\nUsePAM yes\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nMaxStartups 1000\nSubsystem sftp internal-sftp\n",
            host_key.display(),
            key.with_extension("pub").display(),
        );
        let config = world.file("sshd_config", config.as_bytes())?;
        let log = std::fs::File::create(world.lab.dir().join("sshd_log"))?;
        let child = server
            .command(programs::path("sshd"))?
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { child, key })
    }

    /// `ssh` or `scp` with the throw-away key, asking nobody anything.
    pub(crate) fn client(&self, person: &Person, program: &str) -> Command {
        let mut command = person.command(program).expect("a command");
        command.args(["-F", "none"]);
        Self::quietly(&mut command).arg("-i").arg(&self.key);
        command
    }

    /// Asks nobody anything, and gives up soon.
    fn quietly(command: &mut Command) -> &mut Command {
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=2",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command
    }

    /// What sshd has written.
    pub(crate) fn log(world: &World) -> String {
        std::fs::read_to_string(world.lab.dir().join("sshd_log")).unwrap_or_default()
    }
}

/// `ssh server cat`: says what it is told.
pub(crate) struct Session {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    #[track_caller]
    fn open(sshd: &Sshd, person: &Person, family: Family) -> Self {
        Self::open_at(sshd, person, family.server())
    }

    /// The same where sshd is on another host than the gate.
    #[track_caller]
    pub(crate) fn open_at(sshd: &Sshd, person: &Person, server: &str) -> Self {
        let login = format!("root@{server}");
        let mut child = sshd
            .client(person, "ssh")
            .args([&login, "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh starts");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("it was piped"));
        Self { child, to, from }
    }

    /// Says it back. If the connection hangs, so does this: ssh gives up by itself in the end.
    pub(crate) fn echoes(&mut self, text: &str) -> std::io::Result<bool> {
        let to = self.to.as_mut().expect("it is open");
        writeln!(to, "{text}")?;
        to.flush()?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim_end() == text)
    }

    /// Is told something, and says nothing within that time: nothing passes any more.
    pub(crate) fn stands_still(&mut self, within: Duration) -> std::io::Result<bool> {
        let to = self.to.as_mut().expect("it is open");
        writeln!(to, "is anybody there?")?;
        to.flush()?;
        let mut waiting = [PollFd::new(self.from.get_ref().as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(within).map_err(std::io::Error::other)?;
        Ok(poll(&mut waiting, timeout)? == 0)
    }

    /// Ends as a session should.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.to.take();
        let status = self.child.wait().expect("ssh ends");
        assert!(status.success(), "{status}");
    }
}

/// Waits until sshd answers those who need not knock.
pub(crate) fn ready(world: &World, sshd: &mut Sshd) -> Tried {
    let started = Instant::now();
    while world.colleague.finds(Family::V6, 22) != "open" {
        let over = sshd.child.try_wait()?.is_some();
        assert!(
            !over && started.elapsed() < Duration::from_secs(10),
            "sshd does not answer: {}",
            Sshd::log(world)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub(crate) fn world(accept_timeout: &str) -> Result<World, Box<dyn std::error::Error>> {
    let policy = shipped_with_accept_timeout(accept_timeout);
    let mut world = World::before(&policy, crate::world::TRUSTED, None)?;
    world.daemon.start()?;
    Ok(world)
}

fn ssh_is_refused_before_the_knock_and_its_session_outlives_the_acceptance() -> Tried {
    let world = world("3s")?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    let knocker = &world.knocker;
    for family in Family::BOTH {
        let login = format!("root@{}", family.server());
        let refused = world.run(sshd.client(knocker, "ssh").args([&login, "true"]))?;
        assert_eq!(refused.status.code(), Some(255), "{refused:?}");
        assert!(refused.stderr.contains("timed out"), "{refused:?}");

        let knock = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&knocker.host, "knock", &knock);
        let mut session = Session::open(&sshd, knocker, family);
        let echoed = session.echoes("good morning")?;
        assert!(echoed, "no session; sshd says: {}", Sshd::log(&world));

        // Nobody keeps it open: it closes by itself, and the session goes on.
        world.soon_in("ssh_filter", &knocker.address(family));
        knocker.soon_finds(family, "silent");
        assert_eq!(world.listed(&knocker.address(family)), []);
        let again = world.run(sshd.client(knocker, "ssh").args([&login, "true"]))?;
        assert_eq!(again.status.code(), Some(255), "{again:?}");
        assert!(session.echoes("still here")?);
        session.close();
    }
    Ok(())
}

/// README.md's lines for `~/.ssh/config`.
fn ssh_knocks_by_itself_where_its_configuration_says_so() -> Tried {
    let world = world("299s")?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    for family in Family::BOTH {
        let server = family.server();
        let knock = env!("CARGO_BIN_EXE_knock");
        let config = format!("Match host {server} exec \"{knock} %h 1228 1227\"\n");
        let config = world.file("ssh_config", config.as_bytes())?;
        let mut ssh = world.knocker.command("ssh")?;
        ssh.arg("-F").arg(config);
        Sshd::quietly(&mut ssh).arg("-i").arg(&sshd.key);
        let finished = world.run(ssh.arg(format!("root@{server}")).arg("echo in"))?;
        assert_eq!(
            finished.stdout,
            "in\n",
            "{finished:?} {}",
            Sshd::log(&world)
        );
    }
    Ok(())
}

fn a_ban_leaves_an_open_session_alone() -> Tried {
    let world = world("299s")?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    let (knocker, family) = (&world.knocker, Family::V4);
    let knock = |ports: [&str; 2]| {
        let arguments = [&[family.flag(), family.server()][..], &ports].concat();
        world.succeeds(&knocker.host, "knock", &arguments);
    };
    knock(["1228", "1227"]);
    let mut session = Session::open(&sshd, knocker, family);
    assert!(session.echoes("good morning")?, "{}", Sshd::log(&world));
    knock(["1224", "1225"]);
    let (left, reason) = world.soon_in("ssh_banned", &knocker.address(family));
    assert_eq!((left, reason.as_str()), (None, "banned2"));
    knocker.soon_finds(family, "silent");
    assert!(session.echoes("still here")?);
    session.close();
    Ok(())
}

fn with_cut_sessions_a_ban_ends_it_at_once() -> Tried {
    let policy = shipped_with_accept_timeout("299s").replace(
        "ban_timeout: never",
        "ban_timeout: never\n    cut_sessions: true",
    );
    assert!(policy.contains("cut_sessions"));
    let mut world = World::before(&policy, crate::world::TRUSTED, None)?;
    world.daemon.start()?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    let knocker = &world.knocker;
    for (family, ban) in [(Family::V4, &["1224", "1225"][..]), (Family::V6, &[])] {
        let address = knocker.address(family);
        let knock = |ports: &[&str]| {
            let arguments = [&[family.flag(), family.server()][..], ports].concat();
            world.succeeds(&knocker.host, "knock", &arguments);
        };
        knock(&["1228", "1227"]);
        let mut session = Session::open(&sshd, knocker, family);
        assert!(session.echoes("good morning")?, "{}", Sshd::log(&world));
        if ban.is_empty() {
            // Somebody is logged in from there.
            world.expect(4, &["drop", &address]);
            assert!(session.echoes("still here")?);
            world.expect(0, &["drop", "--force", &address]);
        } else {
            knock(ban);
        }
        // Nobody types anything: ssh is told, and ends by itself.
        let started = Instant::now();
        let status = loop {
            if let Some(status) = session.child.try_wait()? {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(5), "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(255), "{status}");
        knocker.soon_finds(family, "silent");
    }
    Ok(())
}

fn scp_of_a_megabyte_passes_through_the_gate() -> Tried {
    let world = world("299s")?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    let bytes: Vec<u8> = (0..1_000_000u32)
        .map(|n| n.to_le_bytes()[0] ^ 0x5a)
        .collect();
    let from = world.file("sent", &bytes)?;
    let to = world.lab.dir().join("received");
    let mut scp = sshd.client(&world.colleague, "scp");
    scp.arg(&from);
    scp.arg(format!("root@[{}]:{}", Family::V6.server(), to.display()));
    let finished = world.run(&mut scp)?;
    assert!(
        finished.status.success(),
        "{finished:?} {}",
        Sshd::log(&world)
    );
    assert!(std::fs::read(&to)? == bytes);
    Ok(())
}
