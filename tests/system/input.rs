//! Bad input: policies, addresses, and people without permission.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use portcullis::lab::{Finished, write_program};

use crate::cases;
use crate::programs;
use crate::world::{Family, SHIPPED, TRUSTED, Tried, World};

cases![
    a_tab_in_the_policy_is_pointed_at,
    ten_megabytes_of_nonsense_are_no_policy,
    an_unreadable_policy_is_said_to_be_so,
    a_missing_policy_is_said_to_be_so,
    a_directory_is_no_policy,
    a_running_gate_does_not_care_about_bad_policies,
    a_daemon_without_a_good_policy_does_not_start_and_opens_nothing,
    knockctl_without_a_daemon_ends_with_3,
    what_is_no_address_ends_with_2,
    who_may_not_use_the_socket_is_told_so,
    members_of_the_group_may_look_and_change_nothing,
    without_privileges_the_daemon_says_what_it_needs,
    a_second_daemon_is_refused,
    an_interface_that_is_not_there_yet_is_waited_for,
];

fn before() -> Result<World, Box<dyn std::error::Error>> {
    Ok(World::before(SHIPPED, TRUSTED, Some(22))?)
}

/// `knockd check FILE`
fn check(world: &World, file: &Path) -> Result<Finished, Box<dyn std::error::Error>> {
    let mut command = world.server.command(env!("CARGO_BIN_EXE_knockd"))?;
    Ok(world.run(command.arg("check").arg(file))?)
}

/// Ends with 2, and says all of this.
#[track_caller]
fn is_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert_eq!(finished.stdout, "");
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "no `{word}` in {finished:?}"
        );
    }
    assert!(
        finished.stderr.len() < 4000,
        "{} bytes",
        finished.stderr.len()
    );
}

fn with_tab(world: &World) -> std::io::Result<PathBuf> {
    world.file("tab.yaml", b"gates:\n  ssh:\n\tports: [22]\n")
}

fn nonsense(world: &World) -> std::io::Result<PathBuf> {
    let mut state = 1u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(10 * 1024 * 1024)
    .collect();
    world.file("nonsense.yaml", &bytes)
}

fn a_tab_in_the_policy_is_pointed_at() -> Tried {
    let world = before()?;
    let file = with_tab(&world)?;
    let at = format!("{}:3:1", file.display());
    is_refused(&check(&world, &file)?, &[&at, "tab", "spaces"]);
    Ok(())
}

fn ten_megabytes_of_nonsense_are_no_policy() -> Tried {
    let world = before()?;
    let file = nonsense(&world)?;
    is_refused(&check(&world, &file)?, &[&file.display().to_string()]);
    Ok(())
}

fn an_unreadable_policy_is_said_to_be_so() -> Tried {
    let world = before()?;
    let file = world.file("secret.yaml", SHIPPED.as_bytes())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000))?;
    let knockd = copy(&world, env!("CARGO_BIN_EXE_knockd"))?;
    let mut command = as_nobody(&world)?;
    let finished = world.run(command.arg(knockd).arg("check").arg(&file))?;
    let name = file.display().to_string();
    is_refused(&finished, &[&name, "permission denied", "run as root"]);
    Ok(())
}

fn a_missing_policy_is_said_to_be_so() -> Tried {
    let world = before()?;
    let file = world.lab.dir().join("nowhere/knockd.yaml");
    let name = file.display().to_string();
    is_refused(&check(&world, &file)?, &["there is no policy", &name, "-c"]);
    Ok(())
}

fn a_directory_is_no_policy() -> Tried {
    let world = before()?;
    is_refused(&check(&world, world.lab.dir())?, &["is a directory"]);
    Ok(())
}

/// Who knocked stays in, who did not stays out, and knocks go on being heard.
fn a_running_gate_does_not_care_about_bad_policies() -> Tried {
    let world = World::new()?;
    let policy = world.daemon.policy_path();
    let knock = |family: Family| {
        let arguments = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&world.knocker.host, "knock", &arguments);
    };
    knock(Family::V4);
    world.knocker.soon_finds(Family::V4, "open");
    let table = world.nft(&["-s", "list", "chains"]);
    for file in [with_tab(&world)?, nonsense(&world)?] {
        fs::copy(&file, &policy)?;
        let reply = world.expect(2, &["reload"]);
        assert!(reply.stderr.contains("knockd.yaml"), "{reply:?}");
    }
    fs::write(&policy, "gates: {}\n")?;
    world.expect(2, &["reload"]);
    fs::remove_file(&policy)?;
    world.expect(2, &["reload"]);
    assert_eq!(world.nft(&["-s", "list", "chains"]), table);
    assert_eq!(world.knocker.finds(Family::V4, 22), "open");
    assert_eq!(world.stranger.finds(Family::V4, 22), "silent");
    assert_eq!(world.colleague.finds(Family::V4, 22), "open");
    knock(Family::V6);
    world.knocker.soon_finds(Family::V6, "open");
    world.expect(0, &["status"]);
    Ok(())
}

fn a_daemon_without_a_good_policy_does_not_start_and_opens_nothing() -> Tried {
    let mut world = World::new()?;
    world.daemon.kill_9();
    fs::copy(with_tab(&world)?, world.daemon.policy_path())?;
    fs::remove_file(world.daemon.state_dir().join("policy.good"))?;
    for subcommand in [&[][..], &["setup"]] {
        let finished = world.daemon.run_knockd(subcommand)?;
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains("knockd.yaml:3:1"), "{finished:?}");
    }
    for family in Family::BOTH {
        assert_eq!(world.stranger.finds(family, 22), "silent");
        assert_eq!(world.colleague.finds(family, 22), "open");
    }
    Ok(())
}

fn knockctl_without_a_daemon_ends_with_3() -> Tried {
    let mut world = before()?;
    for verb in [
        &["status"][..],
        &["list"],
        &["accept", "192.0.2.10"],
        &["ping"],
    ] {
        let reply = world.expect(3, verb);
        assert!(reply.stderr.contains("not running"), "{reply:?}");
    }
    // Neither does a socket that a killed daemon left behind.
    world.daemon.start()?;
    world.daemon.kill_9();
    world.expect(3, &["status"]);
    Ok(())
}

fn what_is_no_address_ends_with_2() -> Tried {
    let world = World::new()?;
    let wrong = [
        (&["accept", "999.1.1.1"][..], "not an address"),
        (&["accept", "example.org"], "`example.org` is a name"),
        (&["drop", "192.0.2.0/33"], "not an address or network"),
        (&["accept", "192.0.2.10", "--for", "300"], "300s"),
        (&["flush", "trusted"], "never flushed"),
        (&["list", "everybody"], "everybody"),
        (&["accept", "192.0.2.10", "--gate", "door"], "door"),
        (&["accept"], "IP"),
        (&["embrace"], "embrace"),
    ];
    for (arguments, words) in wrong {
        let reply = world.expect(2, arguments);
        assert!(reply.stderr.contains(words), "{arguments:?}: {reply:?}");
    }
    assert_eq!(world.listed("192.0.2.10"), []);
    Ok(())
}

/// As somebody without any right.
fn as_nobody(world: &World) -> Result<std::process::Command, Box<dyn std::error::Error>> {
    let mut command = world.server.command(programs::path("setpriv"))?;
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    Ok(command)
}

/// Where everybody may run it, wherever it was built.
fn copy(world: &World, program: &str) -> std::io::Result<PathBuf> {
    let name = Path::new(program).file_name().unwrap_or_default();
    let to = world.lab.dir().join(name);
    write_program(&to, &fs::read(program)?)?;
    Ok(to)
}

fn who_may_not_use_the_socket_is_told_so() -> Tried {
    let world = World::new()?;
    let knockctl = copy(&world, env!("CARGO_BIN_EXE_knockctl"))?;
    for verb in [&["status"][..], &["accept", "192.0.2.10"]] {
        let mut command = as_nobody(&world)?;
        command
            .arg(&knockctl)
            .arg("--socket")
            .arg(world.daemon.socket_path());
        let finished = world.run(command.args(verb))?;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let expected = "no permission to use the control socket";
        assert!(finished.stderr.contains(expected), "{finished:?}");
        assert!(finished.stderr.contains("root may"), "{finished:?}");
    }
    assert_eq!(world.listed("192.0.2.10"), []);
    Ok(())
}

/// The machine's own groups stay as they are: these are seen in here only.
fn with_the_group(world: &World, gid: u32) -> Tried {
    let mut groups = fs::read_to_string("/etc/group")?;
    writeln!(groups, "knockd:x:{gid}:")?;
    let groups = world.file("group", groups.as_bytes())?;
    let from = groups.to_str().ok_or("the directory's name is not UTF-8")?;
    world.succeeds(&world.server, "mount", &["--bind", from, "/etc/group"]);
    Ok(())
}

fn members_of_the_group_may_look_and_change_nothing() -> Tried {
    let mut world = before()?;
    with_the_group(&world, 65533)?;
    world.daemon.start()?;
    let knockctl = copy(&world, env!("CARGO_BIN_EXE_knockctl"))?;
    for (verb, code) in [
        (&["status"][..], 0),
        (&["list"], 0),
        (&["ping"], 0),
        (&["accept", "192.0.2.10"], 1),
        (&["drop", "192.0.2.10"], 1),
        (&["trust", "192.0.2.10"], 1),
        (&["flush", "all"], 1),
        (&["open"], 1),
        (&["reload"], 1),
    ] {
        let mut command = world.server.command(programs::path("setpriv"))?;
        command.args(["--reuid=65534", "--regid=65534", "--groups=65533", "--"]);
        command.arg(&knockctl).arg("--socket");
        let finished = world.run(command.arg(world.daemon.socket_path()).args(verb))?;
        assert_eq!(finished.status.code(), Some(code), "{verb:?}: {finished:?}");
        if code != 0 {
            assert!(finished.stderr.contains("root"), "{finished:?}");
        }
    }
    assert_eq!(world.listed("192.0.2.10"), []);
    Ok(())
}

fn without_privileges_the_daemon_says_what_it_needs() -> Tried {
    let world = before()?;
    let knockd = copy(&world, env!("CARGO_BIN_EXE_knockd"))?;
    for subcommand in [&[][..], &["setup"], &["teardown"]] {
        let mut command = as_nobody(&world)?;
        command.arg(&knockd).args(subcommand);
        let finished = world.run(command.arg("-c").arg(world.daemon.policy_path()))?;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let expected = "needs CAP_NET_ADMIN and CAP_NET_RAW: run as root";
        assert!(finished.stderr.contains(expected), "{finished:?}");
    }
    Ok(())
}

fn a_second_daemon_is_refused() -> Tried {
    let world = World::new()?;
    let pid = world.daemon.pid().ok_or("the daemon runs")?;
    let second = world.daemon.run_knockd(&[])?;
    assert_eq!(second.code, Some(1), "{second:?}");
    let expected = format!("already running (process {pid})");
    assert!(second.stderr.contains(&expected), "{second:?}");
    world.expect(0, &["status"]);
    Ok(())
}

fn an_interface_that_is_not_there_yet_is_waited_for() -> Tried {
    let world = World::with(&SHIPPED.replace("interface: any", "interface: ppp7"))?;
    let status = world.expect(5, &["status"]);
    let expected = "waiting for interface ppp7";
    assert!(status.stdout.contains(expected), "{status:?}");
    let knock = ["-4", Family::V4.server(), "1228", "1227"];
    world.succeeds(&world.knocker.host, "knock", &knock);
    assert_eq!(world.knocker.finds(Family::V4, 22), "silent");
    world.succeeds(&world.server, "ip", &["link", "set", "eth0", "down"]);
    world.succeeds(
        &world.server,
        "ip",
        &["link", "set", "eth0", "name", "ppp7"],
    );
    world.succeeds(&world.server, "ip", &["link", "set", "ppp7", "up"]);
    let started = std::time::Instant::now();
    while world.knocker.finds(Family::V4, 22) != "open" {
        assert!(started.elapsed() < crate::world::AT_ONCE);
        world.succeeds(&world.knocker.host, "knock", &knock);
    }
    world.expect(0, &["status"]);
    Ok(())
}
