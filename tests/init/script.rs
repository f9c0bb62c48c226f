//! The original's verbs.

use std::fs;

use nix::sys::signal::Signal;

use crate::world::{
    AT_ONCE, BAD_POLICY, KNOCKER, POLICY, STRANGER, Shell, TRUSTED, Tried, World, await_end,
    exists, is_alive, send,
};

crate::scenarios!(crate::Played:
    it_starts_and_stops_and_says_so,
    accept_drop_and_flush_are_knockctls,
    trust_and_untrust_edit_the_file,
    the_others_exit_codes_are_passed_on,
    restart_keeps_who_is_in,
    condrestart_restarts_only_what_runs,
    restart_does_not_cost_the_daemon_for_a_bad_policy,
    reload_takes_a_good_policy_only,
    a_bad_policy_does_not_start,
    setup_installs_without_a_daemon,
    check_says_what_would_be,
    stop_withdraws_what_the_policy_says,
    stop_is_patient_but_not_for_ever,
    mistakes_are_told_from_failures,
    nobody_notices_restarts,
);

fn it_starts_and_stops_and_says_so(shell: Shell) -> Tried {
    let world = World::new()?;
    let lock = world.path("subsys/knockd");
    world.expect(shell, 3, &["status"]);
    world.expect(shell, 0, &["start"]);
    assert!(exists(&lock));
    let supervisor = world.supervisor();
    let said = world.expect(shell, 0, &["status"]).stdout;
    assert!(said.contains(&format!("process {supervisor}")), "{said}");
    world.gate_holds();
    let said = world.expect(shell, 0, &["start"]).stdout;
    assert!(said.contains("already running"), "{said}");
    assert_eq!(world.supervisor(), supervisor);
    world.expect(shell, 0, &["stop"]);
    assert!(!is_alive(supervisor) && !exists(&lock) && !exists(&world.path("pid")));
    world.expect(shell, 3, &["status"]);
    world.expect(shell, 0, &["stop"]);
    // The kernel goes on enforcing.
    world.gate_holds();
    Ok(())
}

fn accept_drop_and_flush_are_knockctls(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.expect(shell, 0, &["accept", KNOCKER]);
    assert!(world.gets_in(KNOCKER));
    world.expect(shell, 0, &["flush", KNOCKER]);
    assert!(!world.gets_in(KNOCKER));
    world.expect(shell, 0, &["accept", KNOCKER, "--for", "60s"]);
    assert!(world.gets_in(KNOCKER));
    world.expect(shell, 0, &["flush", "filter"]);
    assert!(!world.gets_in(KNOCKER));
    world.expect(shell, 0, &["drop", KNOCKER]);
    world.expect(shell, 4, &["accept", KNOCKER]);
    world.expect(shell, 0, &["flush", "banned"]);
    world.expect(shell, 0, &["accept", KNOCKER]);
    assert!(world.gets_in(KNOCKER));
    world.gate_holds();
    Ok(())
}

fn trust_and_untrust_edit_the_file(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.expect(
        shell,
        0,
        &["trust", KNOCKER, "--comment", "her own machine"],
    );
    assert!(world.gets_in(KNOCKER));
    let file = fs::read_to_string(world.path("knockd.trusted"))?;
    assert!(
        file.contains(KNOCKER) && file.contains("her own machine"),
        "a comment of several words stays one: {file}"
    );
    world.expect(shell, 0, &["untrust", KNOCKER]);
    assert!(!world.gets_in(KNOCKER));
    let file = fs::read_to_string(world.path("knockd.trusted"))?;
    assert!(!file.contains(KNOCKER) && file.contains(TRUSTED), "{file}");
    Ok(())
}

fn the_others_exit_codes_are_passed_on(shell: Shell) -> Tried {
    let world = World::new()?;
    let said = world.expect(shell, 3, &["accept", KNOCKER]).stderr;
    assert!(said.contains("not running"), "{said}");
    world.expect(shell, 0, &["start"]);
    world.expect(shell, 2, &["accept", "999.1.1.1"]);
    world.expect(shell, 2, &["accept"]);
    world.expect(shell, 4, &["drop", TRUSTED]);
    world.gate_holds();
    Ok(())
}

fn restart_keeps_who_is_in(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.expect(shell, 0, &["accept", KNOCKER]);
    let old = world.supervisor();
    world.expect(shell, 0, &["restart"]);
    assert_ne!(world.supervisor(), old);
    assert!(!is_alive(old) && world.gets_in(KNOCKER));
    world.gate_holds();
    // And it starts what does not run.
    world.expect(shell, 0, &["stop"]);
    world.expect(shell, 0, &["restart"]);
    world.expect(shell, 0, &["status"]);
    Ok(())
}

fn condrestart_restarts_only_what_runs(shell: Shell) -> Tried {
    let world = World::new()?;
    for verb in ["condrestart", "try-restart"] {
        world.expect(shell, 0, &[verb]);
        world.expect(shell, 3, &["status"]);
    }
    world.expect(shell, 0, &["start"]);
    for verb in ["condrestart", "try-restart"] {
        let old = world.supervisor();
        world.expect(shell, 0, &[verb]);
        assert_ne!(world.supervisor(), old);
        world.expect(shell, 0, &["status"]);
    }
    Ok(())
}

fn restart_does_not_cost_the_daemon_for_a_bad_policy(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.expect(shell, 0, &["accept", KNOCKER]);
    let (supervisor, worker) = (world.supervisor(), world.worker());
    world.write("knockd.yaml", BAD_POLICY);
    for verb in ["restart", "condrestart", "try-restart"] {
        let said = world.expect(shell, 6, &[verb]).stderr;
        assert!(said.contains("knockd.yaml:2:"), "{said}");
        assert!(said.contains("not restarted"), "{said}");
        world.expect(shell, 0, &["status"]);
        assert_eq!((world.supervisor(), world.worker()), (supervisor, worker));
    }
    assert!(world.gets_in(KNOCKER));
    world.gate_holds();
    world.write("knockd.yaml", POLICY);
    world.expect(shell, 0, &["restart"]);
    assert_ne!(world.supervisor(), supervisor);
    // What does not run is not started with it either.
    world.expect(shell, 0, &["stop"]);
    world.write("knockd.yaml", BAD_POLICY);
    world.expect(shell, 6, &["restart"]);
    world.expect(shell, 3, &["status"]);
    Ok(())
}

fn reload_takes_a_good_policy_only(shell: Shell) -> Tried {
    let world = World::new()?;
    world.expect(shell, 7, &["reload"]);
    world.expect(shell, 0, &["start"]);
    let old = world.supervisor();
    world.write("knockd.trusted", &format!("{TRUSTED}\n{KNOCKER}\n"));
    assert!(!world.gets_in(KNOCKER));
    world.expect(shell, 0, &["reload"]);
    assert!(world.gets_in(KNOCKER));
    world.write("knockd.trusted", &format!("{TRUSTED}\n"));
    world.expect(shell, 0, &["force-reload"]);
    assert!(!world.gets_in(KNOCKER));
    world.write("knockd.yaml", BAD_POLICY);
    let said = world.expect(shell, 2, &["reload"]).stderr;
    assert!(said.contains("knockd.yaml:2:"), "{said}");
    assert_eq!(world.supervisor(), old);
    world.gate_holds();
    Ok(())
}

fn a_bad_policy_does_not_start(shell: Shell) -> Tried {
    let world = World::new()?;
    world.write("knockd.yaml", BAD_POLICY);
    let said = world.expect(shell, 6, &["start"]).stderr;
    assert!(said.contains("knockd.yaml:2:"), "{said}");
    world.expect(shell, 3, &["status"]);
    world.expect_silence(shell, &["restartifdead"]);
    world.write("knockd.yaml", POLICY);
    world.expect(shell, 0, &["start"]);
    Ok(())
}

fn setup_installs_without_a_daemon(shell: Shell) -> Tried {
    let world = World::new()?;
    assert!(world.gets_in(STRANGER), "nothing is installed yet");
    world.expect(shell, 0, &["setup"]);
    world.gate_holds();
    world.expect(shell, 3, &["status"]);
    world.expect(shell, 0, &["start"]);
    world.expect(shell, 0, &["setup"]);
    world.expect(shell, 0, &["status"]);
    world.gate_holds();
    Ok(())
}

fn check_says_what_would_be(shell: Shell) -> Tried {
    let world = World::new()?;
    let said = world.expect(shell, 0, &["check"]).stdout;
    assert!(said.contains("1228") && said.contains("ssh"), "{said}");
    world.write("other.yaml", BAD_POLICY);
    let other = world.path("other.yaml");
    let said = world.expect(shell, 2, &["check", &other.to_string_lossy()]);
    assert!(said.stderr.contains("other.yaml:2:"), "{said:?}");
    assert!(world.gets_in(STRANGER), "nothing is installed");
    Ok(())
}

fn stop_withdraws_what_the_policy_says(shell: Shell) -> Tried {
    let world = World::new()?;
    let policy = format!("firewall: {{ on_stop: closed }}\n{POLICY}");
    world.write("knockd.yaml", &policy);
    world.expect(shell, 0, &["start"]);
    world.expect(shell, 0, &["accept", KNOCKER]);
    assert!(world.gets_in(KNOCKER));
    world.expect(shell, 0, &["stop"]);
    assert!(!world.gets_in(KNOCKER));
    world.gate_holds();
    Ok(())
}

fn stop_is_patient_but_not_for_ever(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    let supervisor = world.supervisor();
    send(supervisor, Signal::SIGSTOP);
    let mut command = world.script(shell, &["stop"])?;
    let finished = world.finish(command.env("KNOCKD_STOP_TIMEOUT", "1"))?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("has not ended in 1 seconds"));
    assert!(is_alive(supervisor), "nothing is killed by force");
    assert!(exists(&world.path("subsys/knockd")) && exists(&world.path("pid")));
    send(supervisor, Signal::SIGCONT);
    await_end(supervisor, AT_ONCE);
    world.expect(shell, 0, &["stop"]);
    world.expect(shell, 3, &["status"]);
    Ok(())
}

fn mistakes_are_told_from_failures(shell: Shell) -> Tried {
    let world = World::new()?;
    for wrong in [&[][..], &["begin"], &["start", "now"], &["status", "x"]] {
        let said = world.expect(shell, 2, wrong).stderr;
        assert!(said.contains("restartifdead"), "{said}");
    }
    for verb in ["start", "restart", "condrestart", "setup", "check"] {
        let mut command = world.script(shell, &[verb])?;
        let finished = world.finish(command.env("KNOCKD", "/nowhere/knockd"))?;
        assert_eq!(finished.status.code(), Some(5), "{verb}: {finished:?}");
    }
    // Something that is no directory is in the way of the runtime directory.
    world.write("run", "");
    let said = world.expect(shell, 1, &["start"]).stderr;
    assert!(said.contains("not started"), "{said}");
    Ok(())
}

fn nobody_notices_restarts(shell: Shell) -> Tried {
    let world = World::running(shell)?;
    world.expect(shell, 0, &["accept", KNOCKER]);
    world.while_people_try(|| {
        for _ in 0..2 {
            world.expect(shell, 0, &["restart"]);
            world.kill_supervisor();
            world.expect(shell, 1, &["status"]);
            world.expect(shell, 0, &["restartifdead"]);
        }
    });
    assert!(world.gets_in(KNOCKER));
    Ok(())
}
