//! From within a session of a real sshd: what would shut out whoever asks is refused.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::cases;
use crate::ssh::{Sshd, ready};
use crate::world::{Family, Person, SHIPPED, TRUSTED, Tried, World};

cases![
    an_operator_cannot_ban_themselves_by_accident,
    a_policy_that_bans_or_ungates_its_operator_is_refused,
    whoever_connects_without_logging_in_is_banned_like_anybody,
    whoever_installs_over_ssh_can_come_back,
];

/// A shell at the other end of an ssh session.
struct Shell {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Shell {
    #[track_caller]
    fn open(sshd: &Sshd, person: &Person, family: Family) -> Self {
        let mut child = sshd
            .client(person, "ssh")
            .args([&format!("root@{}", family.server()), "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh starts");
        let to = child.stdin.take().expect("it was piped");
        let from = BufReader::new(child.stdout.take().expect("it was piped"));
        Self { child, to, from }
    }

    /// Runs a line, and returns what it printed to either output, and its exit code. ssh gives up
    /// by itself where the connection hangs.
    #[track_caller]
    fn run(&mut self, line: &str) -> (i32, String) {
        writeln!(self.to, "{{ {line}; }} 2>&1; echo \"ended $?\"").expect("ssh takes it");
        self.to.flush().expect("ssh takes it");
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let length = self.from.read_line(&mut line).expect("ssh hands it on");
            assert!(length > 0, "the session ended after: {printed}");
            if let Some(code) = line.trim_end().strip_prefix("ended ") {
                return (code.parse().expect("a code"), printed);
            }
            printed.push_str(&line);
        }
    }

    /// Runs `knockctl`, which must end with this code.
    #[track_caller]
    fn ctl(&mut self, world: &World, code: i32, arguments: &str) -> String {
        let knockctl = env!("CARGO_BIN_EXE_knockctl");
        let socket = world.daemon.socket_path();
        let (ended, said) = self.run(&format!(
            "{knockctl} --socket {} {arguments}",
            socket.display()
        ));
        assert_eq!(ended, code, "knockctl {arguments}: {said}");
        said
    }

    /// The session as it is to be named.
    #[track_caller]
    fn name(&mut self) -> String {
        let (_, words) = self.run("echo $SSH_CONNECTION");
        let words: Vec<&str> = words.split_whitespace().collect();
        let end = |at: usize| {
            if words[at].contains(':') {
                format!("[{}]:{}", words[at], words[at + 1])
            } else {
                format!("{}:{}", words[at], words[at + 1])
            }
        };
        format!("{} → {}", end(0), end(2))
    }
}

fn started() -> Result<(World, Sshd), Box<dyn std::error::Error>> {
    let mut world = World::before(SHIPPED, TRUSTED, None)?;
    world.daemon.start()?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    Ok((world, sshd))
}

/// A session of the knocker, who has knocked.
#[track_caller]
fn session(world: &World, sshd: &Sshd, family: Family) -> Shell {
    let knocker = &world.knocker;
    let knock = [family.flag(), family.server(), "1228", "1227"];
    world.succeeds(&knocker.host, "knock", &knock);
    let mut shell = Shell::open(sshd, knocker, family);
    let (code, said) = shell.run("true");
    assert_eq!(code, 0, "{said} {}", Sshd::log(world));
    shell
}

fn an_operator_cannot_ban_themselves_by_accident() -> Tried {
    let (world, sshd) = started()?;
    for family in Family::BOTH {
        let mut shell = session(&world, &sshd, family);
        let (address, name) = (world.knocker.address(family), shell.name());
        let said = shell.ctl(&world, 4, &format!("drop {address}"));
        let named = format!("would shut out {name} (your ssh session)");
        assert!(said.contains(&named), "{named} in {said}");
        // As sudo does, which leaves the variable to the shell above.
        let knockctl = env!("CARGO_BIN_EXE_knockctl");
        let socket = world.daemon.socket_path();
        let (code, said) = shell.run(&format!(
            "env -i sh -c '{knockctl} --socket {} drop {address}; exit $?'",
            socket.display()
        ));
        assert_eq!(code, 4, "{said}");
        assert!(said.contains(&named), "{named} in {said}");
        // From a console or a job nobody is asked for; whoever is logged in is guarded.
        let reply = world.expect(4, &["drop", &address]);
        let named = format!("would shut out {name} (an open ssh session)");
        assert!(reply.stderr.contains(&named), "{named} in {reply:?}");
        assert_eq!(world.knocker.finds(family, 22), "open");
        shell.ctl(&world, 0, &format!("drop --force {address}"));
        world.knocker.soon_finds(family, "silent");
        // The session goes on, as it should without `cut_sessions`.
        shell.ctl(&world, 0, &format!("unban {address}"));
    }
    Ok(())
}

fn a_policy_that_bans_or_ungates_its_operator_is_refused() -> Tried {
    let (world, sshd) = started()?;
    let mut shell = Shell::open(&sshd, &world.colleague, Family::V4);
    let name = shell.name();
    // Another whitelist, without the colleague.
    world.file("empty", b"# nobody\n")?;
    let empty = world.lab.dir().join("empty");
    let other = SHIPPED.replace(
        "trusted: knockd.trusted",
        &format!("trusted: {}", empty.display()),
    );
    assert_ne!(other, SHIPPED);
    let other = world.file("other.yaml", other.as_bytes())?;
    let other = other.display();
    let said = shell.ctl(&world, 4, &format!("apply {other}"));
    assert!(said.contains(&name) && said.contains("--confirm"), "{said}");
    let address = world.colleague.address(Family::V4);
    let said = shell.ctl(&world, 4, &format!("untrust {address}"));
    assert!(said.contains(&name), "{said}");
    assert_eq!(world.colleague.finds(Family::V4, 22), "open");
    // The mistake takes itself back.
    shell.ctl(&world, 0, &format!("apply {other} --confirm 1s"));
    world.colleague.soon_finds(Family::V4, "open");
    world.daemon.await_log("is taken back", 1)?;
    // A gate where there was none, from a session that nothing guards.
    let less = SHIPPED.replace("ports: [22]", "ports: [2222]");
    assert_ne!(less, SHIPPED);
    let less = world.file("less.yaml", less.as_bytes())?;
    shell.ctl(&world, 0, &format!("apply {}", less.display()));
    let mut stranger = Shell::open(&sshd, &world.stranger, Family::V4);
    let name = stranger.name();
    let said = stranger.ctl(&world, 4, "rollback");
    assert!(said.contains(&name) && said.contains("new gate"), "{said}");
    stranger.ctl(&world, 0, "rollback --force");
    world.stranger.soon_finds(Family::V4, "silent");
    assert_eq!(stranger.run("echo still here").1, "still here\n");
    Ok(())
}

fn whoever_connects_without_logging_in_is_banned_like_anybody() -> Tried {
    let (world, sshd) = started()?;
    let _operator = session(&world, &sshd, Family::V4);
    let scanner = world.scanner.address(Family::V4);
    world.expect(0, &["accept", &scanner]);
    // Connected and greeted, but not logged in.
    let connection = world.scanner.host.run(|| {
        let stream = TcpStream::connect(Family::V4.port(22))?;
        let mut greeting = String::new();
        BufReader::new(&stream).read_line(&mut greeting)?;
        Ok::<_, std::io::Error>((stream, greeting))
    })??;
    assert!(connection.1.starts_with("SSH-2.0"), "{}", connection.1);
    // What fail2ban runs, which has no session.
    world.expect(0, &["drop", &scanner, "--for", "10m"]);
    world.soon_in("ssh_banned", &scanner);
    Ok(())
}

fn whoever_installs_over_ssh_can_come_back() -> Tried {
    let mut world = World::before(SHIPPED, TRUSTED, None)?;
    let mut sshd = Sshd::start(&world, &world.server)?;
    ready(&world, &mut sshd)?;
    let mut shell = Shell::open(&sshd, &world.knocker, Family::V6);
    let _other = Shell::open(&sshd, &world.stranger, Family::V6);
    let knockd = env!("CARGO_BIN_EXE_knockd");
    let (code, said) = shell.run(&format!(
        "{knockd} setup -c {} --state-dir {} --runtime-dir {}",
        world.daemon.policy_path().display(),
        world.daemon.state_dir().display(),
        world.daemon.runtime_dir().display()
    ));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("installer's session"), "{said}");
    world.daemon.start()?;
    assert_eq!(shell.run("echo still here").1, "still here\n");
    let installer = world.knocker.address(Family::V6);
    let (left, _) = world.soon_in("ssh_filter", &installer);
    assert!(left.is_some_and(|left| left <= 300), "{left:?}");
    assert_eq!(world.knocker.finds(Family::V6, 22), "open");
    assert_eq!(world.stranger.finds(Family::V6, 22), "silent");
    Ok(())
}
