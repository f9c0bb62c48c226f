//! Who died is started again; who was stopped is not.

use std::fs;

use nix::sys::signal::Signal;

use crate::world::{
    AT_ONCE, BAD_POLICY, KNOCKER, POLICY, SCRIPT, Shell, Tried, World, await_end, exists, is_alive,
    send,
};

crate::scenarios!(crate::Played:
    a_dead_daemon_is_started_again,
    a_dead_daemon_is_started_again_once_its_policy_is_mended,
    a_stopped_daemon_stays_so,
    stopping_the_dead_lets_them_rest,
    a_dead_worker_is_the_supervisors_to_replace,
    a_lock_that_is_left_is_told,
    another_process_with_its_number_is_not_it,
    a_pid_file_that_says_nothing_is_not_believed,
    a_daemon_without_pid_file_is_found,
    what_is_switched_off_stays_off,
    cron_starts_the_dead_but_not_for_systemd,
);

fn a_dead_daemon_is_started_again(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.expect(shell, 0, &["accept", KNOCKER]);
    world.expect_silence(shell, &["restartifdead"]);
    let supervisor = world.supervisor();
    world.kill_supervisor();
    world.expect(shell, 1, &["status"]);
    world.gate_holds();
    let said = world.expect(shell, 0, &["restartifdead"]).stderr;
    assert!(said.contains("died"), "{said}");
    assert_ne!(world.supervisor(), supervisor);
    world.expect(shell, 0, &["status"]);
    assert!(world.gets_in(KNOCKER), "its acceptances are still there");
    world.gate_holds();
    world.expect_silence(shell, &["restartifdead"]);
    Ok(())
}

fn a_dead_daemon_is_started_again_once_its_policy_is_mended(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.kill_supervisor();
    world.write("knockd.yaml", BAD_POLICY);
    // With it, it would be started again at once.
    std::fs::remove_file(world.path("state/policy.good"))?;
    for _ in 0..2 {
        let said = world.expect(shell, 6, &["restartifdead"]).stderr;
        assert!(said.contains("knockd.yaml:2:"), "{said}");
        world.expect(shell, 1, &["status"]);
    }
    // Nor does a start by hand that fails make it one that was stopped.
    world.expect(shell, 6, &["start"]);
    world.expect(shell, 1, &["status"]);
    world.gate_holds();
    world.write("knockd.yaml", POLICY);
    world.expect(shell, 0, &["restartifdead"]);
    world.expect(shell, 0, &["status"]);
    world.gate_holds();
    // And a stop is one, even if it died before.
    world.expect(shell, 0, &["stop"]);
    assert!(!exists(&world.path("pid")));
    world.expect_silence(shell, &["restartifdead"]);
    world.expect(shell, 3, &["status"]);
    Ok(())
}

fn a_stopped_daemon_stays_so(shell: Shell) -> Tried {
    let world = World::new()?;
    world.expect_silence(shell, &["restartifdead"]);
    world.expect(shell, 3, &["status"]);
    world.expect(shell, 0, &["start"]);
    world.expect(shell, 0, &["stop"]);
    world.expect_silence(shell, &["restartifdead"]);
    world.expect(shell, 3, &["status"]);
    Ok(())
}

fn stopping_the_dead_lets_them_rest(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.kill_supervisor();
    world.expect(shell, 1, &["status"]);
    world.expect(shell, 0, &["stop"]);
    world.expect(shell, 3, &["status"]);
    assert!(!exists(&world.path("subsys/knockd")));
    world.expect_silence(shell, &["restartifdead"]);
    world.expect(shell, 3, &["status"]);
    Ok(())
}

fn a_dead_worker_is_the_supervisors_to_replace(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    let (supervisor, worker) = (world.supervisor(), world.worker());
    send(worker.expect("a worker"), Signal::SIGKILL);
    world.expect_silence(shell, &["restartifdead"]);
    world.await_worker(worker, AT_ONCE);
    assert_eq!(world.supervisor(), supervisor);
    Ok(())
}

fn a_lock_that_is_left_is_told(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    let supervisor = world.supervisor();
    // Stopped, but not by the script.
    send(supervisor, Signal::SIGTERM);
    await_end(supervisor, AT_ONCE);
    world.expect(shell, 2, &["status"]);
    world.expect_silence(shell, &["restartifdead"]);
    world.expect(shell, 2, &["status"]);
    world.expect(shell, 0, &["start"]);
    world.expect(shell, 0, &["status"]);
    Ok(())
}

fn another_process_with_its_number_is_not_it(shell: Shell) -> Tried {
    let world = World::new()?;
    // This test itself, which must survive being taken for the daemon.
    world.write("pid", &format!("{}\n", std::process::id()));
    world.expect(shell, 1, &["status"]);
    world.expect(shell, 0, &["stop"]);
    world.expect(shell, 3, &["status"]);
    world.write("pid", &format!("{}\n", std::process::id()));
    world.expect(shell, 0, &["restartifdead"]);
    world.expect(shell, 0, &["status"]);
    assert_ne!(u32::try_from(world.supervisor())?, std::process::id());
    Ok(())
}

fn a_pid_file_that_says_nothing_is_not_believed(shell: Shell) -> Tried {
    for text in ["", "\n", "garbage\n", "-1\n", "1 2\n", "0x1\n", "$(id)\n"] {
        let world = World::new()?;
        world.write("pid", text);
        world.expect(shell, 1, &["status"]);
        world.expect(shell, 0, &["stop"]);
        world.expect(shell, 3, &["status"]);
    }
    // Without an end of line a number is one all the same.
    let world = World::running(shell)?;
    let supervisor = world.supervisor();
    world.write("pid", &supervisor.to_string());
    let said = world.expect(shell, 0, &["status"]).stdout;
    assert!(said.contains(&supervisor.to_string()), "{said}");
    Ok(())
}

fn a_daemon_without_pid_file_is_found(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    let supervisor = world.supervisor();
    fs::remove_file(world.path("pid"))?;
    world.expect(shell, 0, &["status"]);
    world.expect(shell, 0, &["start"]);
    world.expect_silence(shell, &["restartifdead"]);
    let said = world.expect(shell, 1, &["stop"]).stderr;
    assert!(said.contains("does not say as which process"), "{said}");
    assert!(is_alive(supervisor));
    Ok(())
}

fn what_is_switched_off_stays_off(shell: Shell) -> Tried {
    let world = World::new()?;
    world.switch(0);
    let said = world.expect(shell, 0, &["start"]).stdout;
    assert!(said.contains("START_KNOCKD=1"), "{said}");
    world.expect(shell, 3, &["status"]);
    // What is running already goes on, and can be stopped.
    world.switch(1);
    world.expect(shell, 0, &["start"]);
    world.switch(0);
    let old = world.supervisor();
    for verb in ["restart", "condrestart"] {
        world.expect(shell, 0, &[verb]);
        assert_eq!(world.supervisor(), old);
    }
    world.expect(shell, 0, &["status"]);
    world.kill_supervisor();
    world.expect_silence(shell, &["restartifdead"]);
    world.expect(shell, 1, &["status"]);
    world.expect(shell, 0, &["stop"]);
    Ok(())
}

fn cron_starts_the_dead_but_not_for_systemd(shell: Shell) -> Tried {
    let table = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/cron/knockd"))?;
    let jobs = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("PATH="));
    let [job] = jobs.collect::<Vec<_>>()[..] else {
        panic!("one job: {table}");
    };
    let command = job.strip_prefix("* * * * * root ").expect("every minute");
    assert!(command.contains("[ -d /run/systemd/system ]"), "{command}");
    // The scenario is played by several at a time, and each has a systemd of its own.
    let world = World::running(shell)?;
    let systemd = world.path("systemd/system");
    let command = command
        .replace("/run/systemd/system", &systemd.to_string_lossy())
        .replace("/etc/init.d/knockd", SCRIPT);
    let tick = || -> Result<String, Box<dyn std::error::Error>> {
        let mut cron = world.command(shell.0)?;
        let finished = world.finish(cron.args(["-c", &command]))?;
        assert!(finished.status.success(), "{finished:?}");
        Ok(finished.stdout + &finished.stderr)
    };
    assert_eq!(tick()?, "");
    world.kill_supervisor();
    fs::create_dir_all(&systemd)?;
    assert_eq!(tick()?, "");
    world.expect(shell, 1, &["status"]);
    fs::remove_dir(&systemd)?;
    let said = tick()?;
    assert!(said.contains("died"), "{said}");
    world.expect(shell, 0, &["status"]);
    assert_eq!(tick()?, "");
    Ok(())
}
