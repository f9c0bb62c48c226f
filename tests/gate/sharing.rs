//! A second knockd that has the first one's state directory, and a runtime directory of its own.

use std::fs::{self, File};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use portcullis::lab::{Reply, run_bounded};

use crate::scenarios;
use crate::world::{AT_ONCE, Family, TRUSTED, Tried, World, long_policy};

scenarios![
    a_second_daemon_with_the_state_directory_is_refused,
    a_daemon_in_the_background_is_not_joined_either,
    what_is_done_once_leaves_the_state_of_a_running_daemon_alone,
    when_the_first_has_ended_the_second_starts,
    who_is_at_work_without_being_a_daemon_is_not_taken_for_one,
];

/// Runs a program on the server with the daemon's policy and state, and another runtime directory.
#[track_caller]
fn elsewhere(world: &World, program: &str, arguments: &[&str], code: i32) -> Reply {
    let mut command: Command = world.server.command(program).expect("a command");
    command
        .args(arguments)
        .arg("-c")
        .arg(world.daemon.policy_path())
        .arg("--state-dir")
        .arg(world.daemon.state_dir())
        .arg("--runtime-dir")
        .arg(world.lab.dir().join("elsewhere"));
    let finished = run_bounded(&mut command, world.lab.dir(), AT_ONCE).expect("it ends");
    let reply = Reply::from(finished);
    assert_eq!(reply.code, Some(code), "{arguments:?}: {reply:?}");
    reply
}

const KNOCKD: &str = env!("CARGO_BIN_EXE_knockd");
const KNOCKCTL: &str = env!("CARGO_BIN_EXE_knockctl");

/// What it says names the one that runs, and the directory.
#[track_caller]
fn names_the_first(world: &World, said: &str) {
    let pid = fs::read_to_string(world.daemon.runtime_dir().join("knockd.pid"));
    for part in [
        format!("already running (process {})", pid.expect("a pid").trim()),
        format!(
            "with the state directory {}",
            world.daemon.state_dir().display()
        ),
    ] {
        assert!(said.contains(&part), "{part} in {said}");
    }
}

fn a_second_daemon_with_the_state_directory_is_refused() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for arguments in [&[][..], &["-d"]] {
        let reply = elsewhere(&world, KNOCKD, arguments, 1);
        names_the_first(&world, &reply.stderr);
        assert!(reply.stderr.contains("--runtime-dir"), "{reply:?}");
    }
    world.expect(0, &["status"]);
    Ok(())
}

fn a_daemon_in_the_background_is_not_joined_either() -> Tried {
    let world = World::before(&long_policy(), TRUSTED, &[22])?;
    let started = world.daemon.run_knockd(&["-d"])?;
    assert_eq!(started.code, Some(0), "{started:?}");
    let reply = elsewhere(&world, KNOCKD, &[], 1);
    names_the_first(&world, &reply.stderr);
    let ended = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    Ok(())
}

fn what_is_done_once_leaves_the_state_of_a_running_daemon_alone() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let reply = elsewhere(&world, KNOCKD, &["setup"], 0);
    names_the_first(&world, &reply.stdout);
    assert!(reply.stdout.contains("nothing to set up"), "{reply:?}");
    let reply = elsewhere(&world, KNOCKD, &["teardown"], 1);
    names_the_first(&world, &reply.stderr);
    let reply = elsewhere(&world, KNOCKCTL, &["--direct", "flush", "all"], 4);
    names_the_first(&world, &reply.stderr);
    for part in ["leave --direct out", "--socket"] {
        assert!(reply.stderr.contains(part), "{part} in {reply:?}");
    }
    world.person(Family::V4, 10)?.is_refused();
    Ok(())
}

fn when_the_first_has_ended_the_second_starts() -> Tried {
    for is_killed in [false, true] {
        let mut world = World::with(&long_policy(), TRUSTED)?;
        if is_killed {
            world.daemon.kill_9();
        } else {
            world.daemon.terminate()?;
        }
        let reply = elsewhere(&world, KNOCKD, &["setup"], 0);
        assert!(reply.stdout.contains("installed"), "{reply:?}");
        elsewhere(&world, KNOCKCTL, &["--direct", "flush", "all"], 0);
        world.daemon.start()?;
    }
    Ok(())
}

/// As a `knockctl --direct` is that takes long: a setup at boot must not end well without rules.
fn who_is_at_work_without_being_a_daemon_is_not_taken_for_one() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    fs::create_dir_all(world.daemon.runtime_dir())?;
    let file = File::create(world.daemon.runtime_dir().join("knockd.lock"))?;
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    for arguments in [&["setup"][..], &[]] {
        let reply = world.daemon.run_knockd(arguments)?;
        assert_eq!(reply.code, Some(1), "{arguments:?}: {reply:?}");
        for part in ["is at work with the runtime directory", "try again"] {
            assert!(reply.stderr.contains(part), "{part} in {reply:?}");
        }
    }
    let reply = world.direct(1, &["flush", "all"]);
    assert!(reply.stderr.contains("try again"), "{reply:?}");
    drop(held);
    let reply = world.daemon.run_knockd(&["setup"])?;
    assert!(reply.stdout.contains("installed"), "{reply:?}");
    world.daemon.start()?;
    Ok(())
}
