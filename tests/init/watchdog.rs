//! The supervisor and its worker.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portcullis::lab::{await_some, write_program};

use crate::world::{
    AT_ONCE, BAD_POLICY, KNOCKCTL, KNOCKD, KNOCKER, Tried, World, await_end, exists, is_alive, send,
};

crate::scenarios!(crate::Plain:
    a_worker_that_hangs_is_replaced_within_ten_seconds,
    a_worker_whose_socket_is_gone_is_replaced,
    a_worker_that_does_not_stop_is_ended,
    a_worker_that_does_not_become_ready_can_be_stopped,
    it_sleeps_when_nothing_happens,
    a_worker_that_dies_is_back_at_once,
    deaths_in_a_row_are_followed_by_pauses,
    the_supervisors_death_ends_the_worker,
    the_supervisors_death_ends_even_a_worker_that_hangs,
    a_bad_policy_is_told_to_whoever_starts_it,
    a_worker_that_finds_a_bad_policy_takes_the_last_good_one_and_says_so,
    relative_paths_keep_their_meaning,
    a_program_that_was_replaced_goes_on,
    a_log_that_was_moved_is_opened_anew,
    a_second_daemon_is_refused,
);

/// A hang is found and what hangs replaced.
const HANG: Duration = Duration::from_secs(10);

fn launched() -> Result<World, Box<dyn std::error::Error>> {
    let world = World::new()?;
    let finished = world.launch()?;
    assert!(finished.status.success(), "{finished:?}");
    let accepted = ctl(&world, &["accept", KNOCKER])?;
    assert_eq!(accepted, Some(0));
    Ok(world)
}

fn ctl(world: &World, arguments: &[&str]) -> Result<Option<i32>, Box<dyn std::error::Error>> {
    let mut command = world.command(KNOCKCTL)?;
    command.arg("--socket").arg(world.path("run/control.sock"));
    Ok(world.finish(command.args(arguments))?.status.code())
}

#[track_caller]
fn is_as_before(world: &World) {
    assert!(world.gets_in(KNOCKER), "its acceptance is gone");
    world.gate_holds();
}

fn a_worker_that_dies_is_back_at_once() -> Tried {
    let world = launched()?;
    let worker = world.worker();
    world.while_people_try(|| {
        let killed = Instant::now();
        send(worker.expect("a worker"), Signal::SIGKILL);
        let new = await_some("a new worker", AT_ONCE, || {
            Ok(world.worker().filter(|new| Some(*new) != worker))
        });
        new.expect("a new worker");
        // The shortest pause would be a second.
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        world.await_worker(worker, AT_ONCE);
    });
    is_as_before(&world);
    let log = world.log();
    let at_once = "the worker died (signal 9); starting it again in 0 s";
    assert!(log.contains(at_once), "{log}");
    Ok(())
}

fn a_worker_that_hangs_is_replaced_within_ten_seconds() -> Tried {
    let world = launched()?;
    let worker = world.worker();
    world.while_people_try(|| {
        send(worker.expect("a worker"), Signal::SIGSTOP);
        let took = world.await_worker(worker, HANG + AT_ONCE);
        assert!(took < HANG, "it took {took:?}");
    });
    is_as_before(&world);
    let log = world.log();
    assert!(log.contains("shows no life any more: killing it"), "{log}");
    Ok(())
}

/// A worker that runs, but nobody can speak to it: a timer would go on beating.
fn a_worker_whose_socket_is_gone_is_replaced() -> Tried {
    let world = launched()?;
    let worker = world.worker();
    fs::remove_file(world.path("run/control.sock"))?;
    world.while_people_try(|| {
        // A round more, as the last beat may have been just before.
        let took = world.await_worker(worker, HANG + AT_ONCE);
        assert!(took < HANG + Duration::from_secs(3), "it took {took:?}");
    });
    is_as_before(&world);
    let log = world.log();
    assert!(log.contains("the control socket shows no life"), "{log}");
    Ok(())
}

fn a_worker_that_does_not_stop_is_ended() -> Tried {
    let world = launched()?;
    let (supervisor, worker) = (world.supervisor(), world.worker().expect("a worker"));
    send(worker, Signal::SIGSTOP);
    send(supervisor, Signal::SIGTERM);
    await_end(supervisor, HANG);
    assert!(!is_alive(worker));
    world.await_log("the worker does not stop: killing it", AT_ONCE);
    assert!(!exists(&world.path("pid")));
    is_as_before(&world);
    Ok(())
}

/// The policy is a pipe that nobody writes to.
fn a_worker_that_does_not_become_ready_can_be_stopped() -> Tried {
    let world = World::new()?;
    let policy = world.path("knockd.yaml");
    fs::remove_file(&policy)?;
    nix::unistd::mkfifo(&policy, nix::sys::stat::Mode::S_IRUSR)?;
    let mut command = world.command(KNOCKD)?;
    let mut child = command.arg("-d").args(world.options()).spawn()?;
    let worker = await_some("a worker", AT_ONCE, || {
        Ok(exists(&world.path("pid")).then(|| world.worker()).flatten())
    })?;
    let supervisor = world.supervisor();
    send(supervisor, Signal::SIGTERM);
    await_end(supervisor, AT_ONCE);
    assert!(!is_alive(worker));
    child.wait()?;
    Ok(())
}

fn it_sleeps_when_nothing_happens() -> Tried {
    let world = launched()?;
    let pids = [world.supervisor(), world.worker().expect("a worker")];
    let began = pids.map(wake_ups);
    let time = Duration::from_secs(12);
    // Time that passes is what is measured here.
    std::thread::sleep(time);
    let woken: u64 = pids.map(wake_ups).iter().sum::<u64>() - began.iter().sum::<u64>();
    assert!(woken > 0, "no beats at all");
    assert!(
        woken <= 2 * time.as_secs(),
        "{woken} wake-ups in {time:?}: {began:?}"
    );
    Ok(())
}

/// How often a process has given up the processor by itself, all threads together.
fn wake_ups(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let of_thread = threads.filter_map(|thread| {
        let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    });
    of_thread.sum()
}

fn deaths_in_a_row_are_followed_by_pauses() -> Tried {
    let world = launched()?;
    for pause in [0, 1] {
        let worker = world.worker();
        send(worker.expect("a worker"), Signal::SIGKILL);
        world.await_worker(worker, AT_ONCE);
        world.await_log(&format!("starting it again in {pause} s"), AT_ONCE);
    }
    send(world.worker().expect("a worker"), Signal::SIGKILL);
    world.await_log("starting it again in 2 s", AT_ONCE);
    // It can be stopped meanwhile.
    let supervisor = world.supervisor();
    send(supervisor, Signal::SIGTERM);
    await_end(supervisor, Duration::from_secs(1));
    is_as_before(&world);
    Ok(())
}

fn the_supervisors_death_ends_the_worker() -> Tried {
    let world = launched()?;
    let worker = world.worker().expect("a worker");
    world.while_people_try(|| {
        send(world.supervisor(), Signal::SIGKILL);
        await_end(worker, Duration::from_secs(1));
    });
    assert!(exists(&world.path("pid")), "a sign that nobody stopped it");
    is_as_before(&world);
    Ok(())
}

fn the_supervisors_death_ends_even_a_worker_that_hangs() -> Tried {
    let world = launched()?;
    let worker = world.worker().expect("a worker");
    send(worker, Signal::SIGSTOP);
    send(world.supervisor(), Signal::SIGKILL);
    await_end(worker, Duration::from_secs(1));
    let finished = world.launch()?;
    assert!(finished.status.success(), "{finished:?}");
    is_as_before(&world);
    Ok(())
}

fn a_bad_policy_is_told_to_whoever_starts_it() -> Tried {
    let world = World::new()?;
    world.write("knockd.yaml", BAD_POLICY);
    let finished = world.launch()?;
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("knockd.yaml:2:"), "{finished:?}");
    assert!(!exists(&world.path("pid")) && !world.answers());
    // And so is one that does not exist.
    fs::remove_file(world.path("knockd.yaml"))?;
    let finished = world.launch()?;
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("knockd.yaml"), "{finished:?}");
    Ok(())
}

fn a_worker_that_finds_a_bad_policy_takes_the_last_good_one_and_says_so() -> Tried {
    let world = launched()?;
    let worker = world.worker();
    world.write("knockd.yaml", BAD_POLICY);
    world.while_people_try(|| {
        send(worker.expect("a worker"), Signal::SIGKILL);
        world.await_log("knockd.yaml:2:", AT_ONCE);
        world.await_worker(worker, HANG);
    });
    is_as_before(&world);
    assert!(world.log().contains("the last good policy"));
    Ok(())
}

fn relative_paths_keep_their_meaning() -> Tried {
    let world = World::new()?;
    let relative = [
        "-d",
        "-c",
        "knockd.yaml",
        "-p",
        "pid",
        "-g",
        "log",
        "--state-dir",
        "state",
        "--runtime-dir",
        "run",
    ];
    let finished = world.finish(world.command(KNOCKD)?.args(relative))?;
    // World's end looks for its directory in the command line.
    let supervisor = world.supervisor();
    let worker = world.worker();
    send(worker.expect("a worker"), Signal::SIGKILL);
    world.await_worker(worker, AT_ONCE);
    send(supervisor, Signal::SIGTERM);
    await_end(supervisor, AT_ONCE);
    assert!(finished.status.success(), "{finished:?}");
    assert!(!exists(&world.path("pid")));
    Ok(())
}

fn a_program_that_was_replaced_goes_on() -> Tried {
    let world = World::new()?;
    let program = world.path("knockd");
    write_program(&program, &fs::read(KNOCKD)?)?;
    let mut command = world.command(&program.to_string_lossy())?;
    let finished = world.finish(command.arg("-d").args(world.options()))?;
    assert!(finished.status.success(), "{finished:?}");
    fs::remove_file(&program)?;
    let worker = world.worker();
    send(worker.expect("a worker"), Signal::SIGKILL);
    world.await_worker(worker, AT_ONCE);
    world.gate_holds();
    Ok(())
}

fn a_log_that_was_moved_is_opened_anew() -> Tried {
    let world = launched()?;
    fs::rename(world.path("log"), world.path("log.1"))?;
    send(world.supervisor(), Signal::SIGHUP);
    world.await_log("policy and whitelist read again", AT_ONCE);
    let worker = world.worker();
    send(worker.expect("a worker"), Signal::SIGKILL);
    world.await_log("the worker died", AT_ONCE);
    Ok(())
}

fn a_second_daemon_is_refused() -> Tried {
    let world = launched()?;
    let supervisor = world.supervisor();
    let finished = world.launch()?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let named = format!("already running (process {supervisor})");
    assert!(finished.stderr.contains(&named), "{finished:?}");
    assert_eq!(world.supervisor(), supervisor);
    is_as_before(&world);
    Ok(())
}
