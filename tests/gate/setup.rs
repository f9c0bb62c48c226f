//! `knockd setup`, `teardown`, `check`, and what it says when it cannot start.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use portcullis::lab::{LabError, Reply, run_bounded};

#[cfg(feature = "system-tests")]
use crate::applying::{OTHER, candidate, change, opens_with, other_policy};
use crate::scenarios;
use crate::world::{AT_ONCE, Family, POLICY, TRUSTED, Tried, World, goes_on};
#[cfg(feature = "system-tests")]
use crate::world::{KNOCK, long_policy};

scenarios![
    setup_installs_the_chains_and_ends,
    setup_does_nothing_while_a_daemon_runs,
    teardown_removes_everything,
    teardown_ends_a_running_daemon,
    what_ends_during_a_teardown_brings_no_rule_back,
    #[cfg(feature = "system-tests")]
    a_teardown_that_fails_says_what_it_took_back,
    teardown_of_nothing_is_success,
    the_daemon_takes_over_what_setup_made,
    a_gate_that_a_start_removes_is_told_of,
    check_prints_the_ports_to_ask_for,
    check_points_at_the_mistake,
    a_bad_policy_does_not_start,
    without_privileges_it_says_what_it_needs,
    ten_megabytes_of_nonsense_are_refused_quickly,
];

fn before(policy: &str) -> Result<World, LabError> {
    World::before(policy, TRUSTED, &[22])
}

#[track_caller]
fn runs(world: &World, subcommand: &[&str], code: i32) -> Reply {
    let reply = world
        .daemon
        .run_knockd(subcommand)
        .expect("knockd runs and ends");
    assert_eq!(reply.code, Some(code), "knockd {subcommand:?}: {reply:?}");
    reply
}

fn setup_installs_the_chains_and_ends() -> Tried {
    let world = before(POLICY)?;
    let people = world.people(10)?;
    let mut sessions: Vec<_> = people.iter().map(|person| person.gets_in()).collect();
    runs(&world, &["setup"], 0);
    for person in &people {
        person.is_refused();
    }
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    for session in &mut sessions {
        goes_on(session);
    }
    // Again: nothing changes.
    runs(&world, &["setup"], 0);
    for person in &people {
        person.is_refused();
    }
    Ok(())
}

fn setup_does_nothing_while_a_daemon_runs() -> Tried {
    let world = World::new()?;
    let person = world.person(Family::V4, 10)?;
    world.expect(0, &["accept", &person.address, "--for", "60s"]);
    world.daemon.write_trusted("# nobody\n")?;
    runs(&world, &["setup"], 0);
    person.gets_in();
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    world.expect(0, &["ping"]);
    Ok(())
}

fn teardown_removes_everything() -> Tried {
    let mut world = World::new()?;
    world.daemon.kill_9();
    let people = world.people(10)?;
    for person in &people {
        person.is_refused();
    }
    runs(&world, &["teardown"], 0);
    for person in &people {
        person.gets_in();
    }
    Ok(())
}

fn teardown_ends_a_running_daemon() -> Tried {
    let mut world = World::new()?;
    runs(&world, &["teardown"], 0);
    let status = world.daemon.await_end()?;
    assert!(status.success(), "{status}");
    for person in world.people(10)? {
        person.gets_in();
    }
    world.expect(3, &["ping"]);
    Ok(())
}

fn what_ends_during_a_teardown_brings_no_rule_back() -> Tried {
    let door = "  door: { sequence: [7001, 7002], seq_timeout: 5s, action: run, start: /bin/true, \
                stop: /bin/sleep 2.6, for: 1s }\n";
    let mut world = World::with(&format!("{POLICY}{door}"), TRUSTED)?;
    let [person, other] = world.people(10)?;
    person.knocks(&["7001", "7002"]);
    world.daemon.await_log("running command: /bin/sleep", 1)?;
    // It ends while the daemon waits for the command, which has two seconds then.
    world.expect(0, &["accept", &other.address, "--for", "1s"]);
    sleep(Duration::from_millis(800));
    runs(&world, &["teardown"], 0);
    world.daemon.await_end()?;
    let log = world.daemon.log();
    assert!(log.contains("shutting down"), "{log}");
    assert!(!log.contains("installing everything anew"), "{log}");
    other.gets_in();
    Ok(())
}

/// As where somebody else's rule uses a chain of ours.
#[cfg(feature = "system-tests")]
fn a_teardown_that_fails_says_what_it_took_back() -> Tried {
    let _chosen = crate::world::OnBackend::new("iptables");
    let world = World::with(&long_policy(), TRUSTED)?;
    for arguments in ["-N own", "-A own -j ssh_filter"] {
        let mut iptables = world.server.command("iptables")?;
        assert!(iptables.args(arguments.split(' ')).status()?.success());
    }
    let other = candidate(&world, "other.yaml", &other_policy())?;
    world.expect(0, &["apply", &other, "--confirm", "60s"]);
    let reply = runs(&world, &["teardown"], 1);
    assert!(reply.stderr.contains("is taken back"), "{reply:?}");
    assert_eq!(change(&world, 0)["state"], "reverted");
    let reply = world.expect(1, &["confirm"]);
    assert!(reply.stderr.contains("was taken back"), "{reply:?}");
    opens_with(&world, KNOCK, OTHER);
    Ok(())
}

fn teardown_of_nothing_is_success() -> Tried {
    let world = before(POLICY)?;
    runs(&world, &["teardown"], 0);
    Ok(())
}

fn the_daemon_takes_over_what_setup_made() -> Tried {
    let mut world = before(POLICY)?;
    runs(&world, &["setup"], 0);
    world.daemon.start()?;
    for (person, trusted) in world.people(10)?.into_iter().zip(world.people(50)?) {
        person.is_refused();
        trusted.gets_in();
        person.opens();
    }
    Ok(())
}

fn a_gate_that_a_start_removes_is_told_of() -> Tried {
    let mut world = before(POLICY)?;
    runs(&world, &["setup"], 0);
    let gone = "gate ssh is in the policy no more: its rules are removed";
    let classic = "[openSSH]\n    sequence = 7000,8000\n    command = /bin/true\n";
    world.daemon.write_policy(classic)?;
    let reply = runs(&world, &["setup"], 0);
    let said = format!("nothing to install: the policy has no gates; {gone}\n");
    assert_eq!(reply.stdout, said);
    world.daemon.write_policy(POLICY)?;
    runs(&world, &["setup"], 0);
    world.daemon.write_policy(&POLICY.replace("ssh", "web"))?;
    world.daemon.start()?;
    assert!(world.daemon.log().contains(gone), "{}", world.daemon.log());
    let history = world.expect(0, &["history"]).stdout;
    assert!(history.contains(gone), "{history}");
    Ok(())
}

fn check_prints_the_ports_to_ask_for() -> Tried {
    let world = before(POLICY)?;
    let reply = runs(&world, &["check"], 0);
    for word in ["ssh", "1228", "1227", "1220", "22"] {
        assert!(reply.stdout.contains(word), "{word} in {reply:?}");
    }
    // It only looks.
    world.person(Family::V4, 10)?.gets_in();
    Ok(())
}

fn check_points_at_the_mistake() -> Tried {
    let world = before(POLICY)?;
    for (from, to, words) in [
        (
            "accept_timeout: 2s",
            "accept_timeout: 300",
            &["knockd.yaml:5:", "300s"][..],
        ),
        (
            "accept_timeout: 2s",
            "accept_timout: 2s",
            &["knockd.yaml:5:", "accept_timeout"],
        ),
        (
            "[1228, 1227]",
            "[1228, 99999]",
            &["knockd.yaml:7:", "99999"],
        ),
        ("[1228, 1227]", "[22, 1227]", &["knockd.yaml:7:", "22"]),
        ("[1228, 1227]", "[]", &["knockd.yaml:7:"]),
        (
            "[1228, 1227]",
            "[1220, 1221]",
            &["knockd.yaml:8:", "`open`"],
        ),
        ("[1228, 1227]", "[1220]", &["knockd.yaml:8:", "`open`"]),
        ("  ssh: {", "\tssh: {", &["knockd.yaml:5:"]),
        (
            "interface: any",
            "interfaces: any",
            &["knockd.yaml:2:", "interface"],
        ),
    ] {
        let text = POLICY.replacen(from, to, 1);
        assert_ne!(text, POLICY, "{from} is not in the policy");
        world.daemon.write_policy(&text)?;
        let reply = runs(&world, &["check"], 2);
        for word in words {
            assert!(
                reply.stderr.contains(word),
                "`{word}` for `{to}` in {reply:?}"
            );
        }
    }
    let two = POLICY.replace("[1228, 1227]", "[0]").replace("2s", "2");
    world.daemon.write_policy(&two)?;
    let reply = runs(&world, &["check"], 2);
    let mut lines = reply.stderr.lines();
    assert!(reply.stderr.lines().count() > 1, "{reply:?}");
    assert!(lines.all(|line| line.starts_with("knockd: ")), "{reply:?}");
    Ok(())
}

fn a_bad_policy_does_not_start() -> Tried {
    let world = before("gates: nonsense\n")?;
    let reply = runs(&world, &[], 2);
    assert!(reply.stderr.contains("knockd.yaml:1:"), "{reply:?}");
    fs::remove_file(world.daemon.policy_path())?;
    let reply = world.daemon.run_knockd(&[])?;
    assert!(reply.code.is_some_and(|code| code != 0), "{reply:?}");
    assert!(reply.stderr.contains("knockd.yaml"), "{reply:?}");
    fs::create_dir(world.daemon.policy_path())?;
    let reply = world.daemon.run_knockd(&[])?;
    assert!(reply.code.is_some_and(|code| code != 0), "{reply:?}");
    assert!(reply.stderr.contains("knockd.yaml"), "{reply:?}");
    for person in world.people(10)? {
        person.gets_in();
    }
    Ok(())
}

fn without_privileges_it_says_what_it_needs() -> Tried {
    let world = before(POLICY)?;
    // As `Daemon::knockd` has it, but powerless.
    let mut command = world
        .server
        .powerless_command(env!("CARGO_BIN_EXE_knockd"))?;
    command
        .arg("-c")
        .arg(world.daemon.policy_path())
        .arg("--state-dir")
        .arg(world.daemon.state_dir())
        .arg("--runtime-dir")
        .arg(world.daemon.runtime_dir());
    let reply = Reply::from(run_bounded(&mut command, world.lab.dir(), AT_ONCE)?);
    assert!(reply.code.is_some_and(|code| code != 0), "{reply:?}");
    for word in ["CAP_NET_ADMIN", "CAP_NET_RAW", "root"] {
        assert!(reply.stderr.contains(word), "{word} in {reply:?}");
    }
    world.person(Family::V4, 10)?.gets_in();
    // `check` needs none.
    let mut command = world
        .server
        .powerless_command(env!("CARGO_BIN_EXE_knockd"))?;
    command.arg("check").arg(world.daemon.policy_path());
    let reply = Reply::from(run_bounded(&mut command, world.lab.dir(), AT_ONCE)?);
    assert_eq!(reply.code, Some(0), "{reply:?}");
    Ok(())
}

fn ten_megabytes_of_nonsense_are_refused_quickly() -> Tried {
    let world = before(POLICY)?;
    let nonsense: String = (0..10_000_000_u32)
        .map(|number| char::from(b' ' + u8::try_from(number * 7 % 95).unwrap_or(0)))
        .collect();
    world.daemon.write_policy(&nonsense)?;
    let reply = runs(&world, &["check"], 2);
    assert!(
        reply.stderr.len() < 10_000,
        "{} bytes of complaint",
        reply.stderr.len()
    );
    // And something that is no text at all.
    let mut bytes = fs::read(env!("CARGO_BIN_EXE_knockd"))?;
    bytes.truncate(1_000_000);
    fs::write(world.daemon.policy_path(), bytes)?;
    runs(&world, &["check"], 2);
    Ok(())
}
