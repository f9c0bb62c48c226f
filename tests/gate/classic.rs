//! A classic knockd.conf, and policies without gates: nothing is in the kernel.

use std::fs;
use std::net::SocketAddrV4;

use portcullis::lab::await_some;

use crate::scenarios;
use crate::world::{AT_ONCE, Family, POLICY, TRUSTED, Tried, World};

scenarios![
    a_classic_file_leaves_the_firewall_alone,
    a_policy_whose_knocks_all_run_commands_leaves_the_firewall_alone,
    gates_go_with_a_reload_to_a_classic_file_and_come_back,
    setup_of_a_classic_file_installs_nothing_and_removes_what_was_there,
    the_log_is_where_the_file_says_and_in_its_words,
    lines_of_steps_that_are_left_out_are_counted,
];

const CLASSIC: &str = "[options]
    Interface = any

[openSSH]
    Sequence = 7000,8000:tcp,9000:udp
    Seq_Timeout = 5
    TCPFlags = syn
    Start_Command = /bin/true %IP%
";

const RUNS: &str = "
interface: any
knocks:
  door: { sequence: [1228, 1227], seq_timeout: 5s, action: run, start: /bin/true %IP% }
";

/// What `nft` would show of ours, without the program: no rule, chain or set that we make.
fn nothing_is_installed(world: &World) -> Tried {
    for person in world.people(10)? {
        person.gets_in();
    }
    let status = world.json(&["status"]);
    assert_eq!(status["state"], "running", "{status}");
    assert_eq!(
        status["gates"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    assert!(world.members("ssh_filter").is_empty());
    let refused = world.expect(2, &["accept", "192.0.2.10"]);
    assert!(
        refused.stderr.contains("this policy has no gates"),
        "{refused:?}"
    );
    Ok(())
}

fn a_classic_file_leaves_the_firewall_alone() -> Tried {
    let world = World::with(CLASSIC, TRUSTED)?;
    nothing_is_installed(&world)?;
    for person in world.people(11)? {
        person.knocks(&["7000", "8000", "9000:udp"]);
        let line = format!("{}: openSSH: OPEN SESAME", person.address);
        world.daemon.await_log(&line, 1)?;
    }
    nothing_is_installed(&world)?;
    world.expect(0, &["reload"]);
    nothing_is_installed(&world)
}

fn a_policy_whose_knocks_all_run_commands_leaves_the_firewall_alone() -> Tried {
    let world = World::with(RUNS, TRUSTED)?;
    nothing_is_installed(&world)?;
    let [person, _] = world.people(11)?;
    person.knocks(&["1228", "1227"]);
    world.daemon.await_log("door", 1)?;
    nothing_is_installed(&world)
}

fn gates_go_with_a_reload_to_a_classic_file_and_come_back() -> Tried {
    let world = World::with(POLICY, TRUSTED)?;
    let people = world.people(10)?;
    people[0].is_refused();
    world.daemon.write_policy(CLASSIC)?;
    world.expect(0, &["reload"]);
    nothing_is_installed(&world)?;
    let bad = CLASSIC.replace("9000:udp", "9000-9010");
    world.daemon.write_policy(&bad)?;
    let reply = world.expect(2, &["reload"]);
    for part in [
        "knockd.yaml:5:30: found `9000-9010`",
        "write the ports one by one",
    ] {
        assert!(reply.stderr.contains(part), "{part} in {reply:?}");
    }
    nothing_is_installed(&world)?;
    world.daemon.write_policy(&format!(
        "{}\nfirewall: {{ backend: {} }}\n",
        POLICY.trim_end(),
        crate::world::backend()
    ))?;
    world.expect(0, &["reload"]);
    for person in &people {
        person.is_refused();
        person.opens();
    }
    Ok(())
}

fn setup_of_a_classic_file_installs_nothing_and_removes_what_was_there() -> Tried {
    let mut world = World::with(POLICY, TRUSTED)?;
    let [person, _] = world.people(10)?;
    world.daemon.terminate()?;
    person.is_refused();
    world.daemon.write_policy(CLASSIC)?;
    let setup = world.daemon.run_knockd(&["setup"])?;
    assert_eq!(setup.code, Some(0), "{setup:?}");
    assert!(
        setup.stdout.contains("the policy has no gates"),
        "{setup:?}"
    );
    person.gets_in();
    world.daemon.start()?;
    nothing_is_installed(&world)?;
    world.daemon.terminate()?;
    let teardown = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(teardown.code, Some(0), "{teardown:?}");
    person.gets_in();
    Ok(())
}

/// With `[TIME] ` where a line begins with its time.
fn untimed(log: &str) -> String {
    let lines = log.lines().filter(|line| is_timed(line));
    let lines: Vec<String> = lines
        .map(|line| format!("[TIME] {}", &line[19..]))
        .collect();
    lines.join("\n") + "\n"
}

/// `[2016-03-18 12:55] `.
fn is_timed(line: &str) -> bool {
    let shape: String = line
        .chars()
        .take(19)
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "[0000-00-00 00:00] "
}

fn the_log_is_where_the_file_says_and_in_its_words() -> Tried {
    let mut world = World::before(CLASSIC, TRUSTED, &[22])?;
    let path = world.daemon.runtime_dir().join("classic.log");
    let pid = world.daemon.runtime_dir().join("classic.pid");
    let options = format!(
        "[options]\n    LogFile = {}\n    PidFile = {}",
        path.display(),
        pid.display()
    );
    world
        .daemon
        .write_policy(&CLASSIC.replace("[options]", &options))?;
    world.daemon.start()?;
    assert!(pid.exists(), "the pid file is where the file says");
    let [person, _] = world.people(10)?;
    person.knocks(&["7000", "8000", "9000:udp"]);
    let line = format!(
        "] {0}: openSSH: Stage 3\n[TIME] {0}: openSSH: OPEN SESAME\n[TIME] openSSH: running command: \
         /bin/true {0}\n",
        person.address
    );
    await_some("the line in the log", AT_ONCE, || {
        Ok(fs::read_to_string(&path)
            .ok()
            .filter(|text| untimed(text).contains(&line)))
    })?;
    world.daemon.terminate()?;
    let log = fs::read_to_string(&path)?;
    assert!(log.contains("] starting up, listening on any\n"), "{log}");
    assert!(log.ends_with("] shutting down\n"), "{log}");
    assert!(log.lines().all(is_timed), "{log}");
    Ok(())
}

fn lines_of_steps_that_are_left_out_are_counted() -> Tried {
    let world = World::with(CLASSIC, TRUSTED)?;
    let server = SocketAddrV4::new(Family::V4.server().parse()?, 7000);
    let flood = world.clients.flood(server, Some(5_000))?;
    // Each is the first stage for somebody, and two hundred at once are told.
    let left_out = || {
        let count = world.json(&["status"])["packets"]["unlogged"].as_u64();
        Ok(count.filter(|count| *count > 1_000))
    };
    await_some("lines that are left out", AT_ONCE, left_out)?;
    flood.stop()?;
    let told = world.daemon.log().matches(": openSSH: Stage 1").count();
    assert!(told >= 200, "{told} were told");
    Ok(())
}
