//! A classic knockd.conf, and policies without gates: nothing is in the kernel.

use std::fs;
use std::net::SocketAddrV4;
use std::net::UdpSocket;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portcullis::lab::{LabError, await_some};

use crate::scenarios;
use crate::world::{AT_ONCE, Family, POLICY, TRUSTED, Tried, World};

scenarios![
    a_classic_file_leaves_the_firewall_alone,
    a_policy_whose_knocks_all_run_commands_leaves_the_firewall_alone,
    gates_go_with_a_reload_to_a_classic_file_and_come_back,
    setup_of_a_classic_file_installs_nothing_and_removes_what_was_there,
    the_log_is_where_the_file_says_and_in_its_words,
    files_that_cannot_be_written_are_told_of_and_keep_nobody_out,
    the_journal_has_times_of_its_own,
    an_attempt_that_is_too_slow_and_a_hangup_have_the_classic_words,
    with_4_a_knock_over_ipv6_is_not_heard,
    with_l_the_name_of_who_knocks_follows_in_a_line_of_its_own,
    with_big_d_the_log_has_all_that_happens,
    with_i_a_label_is_its_interface,
    a_sweep_of_high_ports_opens_no_door_whatever_its_flags,
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

/// Without TCPFlags any packet counts, and clients' ports begin at 32768.
fn a_sweep_of_high_ports_opens_no_door_whatever_its_flags() -> Tried {
    let file = CLASSIC
        .replace("7000,8000:tcp,9000:udp", "40000,50000,60000")
        .replace("    TCPFlags = syn\n", "");
    let world = World::with(&file, TRUSTED)?;
    let sweep = [40_000, 50_000, 60_000].map(|port| port - 3..=port);
    let sweep: Vec<String> = sweep.into_iter().flatten().map(|p| p.to_string()).collect();
    let sweep: Vec<&str> = sweep.iter().map(String::as_str).collect();
    for (scanner, person) in world.people(10)?.iter().zip(world.people(11)?) {
        scanner.knocks(&sweep);
        person.knocks(&["40000", "50000", "60000"]);
        let opens = |address: &str| format!("{address}: openSSH: OPEN SESAME");
        world.daemon.await_log(&opens(&person.address), 1)?;
        let log = world.daemon.log();
        assert!(!log.contains(&opens(&scanner.address)), "{log}");
    }
    Ok(())
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
    person.knocks(ALL);
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

/// A daemon with the classic file and these arguments.
fn with_arguments(arguments: &[&str]) -> Result<World, LabError> {
    let mut world = World::before(CLASSIC, TRUSTED, &[])?;
    world.daemon.set_arguments(arguments);
    world.daemon.start()?;
    Ok(world)
}

const ALL: &[&str] = &["7000", "8000", "9000:udp"];

fn files_that_cannot_be_written_are_told_of_and_keep_nobody_out() -> Tried {
    let options = "[options]\n    LogFile = /nowhere/log\n    PidFile = /nowhere/pid";
    let world = World::with(&CLASSIC.replace("[options]", options), TRUSTED)?;
    let [person, _] = world.people(10)?;
    person.knocks(ALL);
    world.daemon.await_log("openSSH: OPEN SESAME", 1)?;
    let status = world.expect(5, &["status"]).stdout;
    for problem in [
        "cannot open the log file /nowhere/log: No such file or directory",
        "the pid file /nowhere/pid is not written",
    ] {
        assert!(status.contains(problem), "{problem} in {status}");
    }
    let log = world.daemon.log();
    let told = "cannot open the log file /nowhere/log: ";
    assert_eq!(log.matches(told).count(), 1, "{log}");
    assert!(log.contains("cannot write /nowhere/pid: "), "{log}");
    Ok(())
}

fn the_journal_has_times_of_its_own() -> Tried {
    let mut world = World::before(CLASSIC, TRUSTED, &[])?;
    world.daemon.set_environment(&[("JOURNAL_STREAM", "8:1")]);
    world.daemon.start()?;
    let [person, _] = world.people(10)?;
    person.knocks(ALL);
    let line = format!("\n{}: openSSH: OPEN SESAME\n", person.address);
    world.daemon.await_log(&line, 1)?;
    let log = world.daemon.log();
    assert!(!log.lines().any(is_timed), "{log}");
    Ok(())
}

fn an_attempt_that_is_too_slow_and_a_hangup_have_the_classic_words() -> Tried {
    let quick = CLASSIC.replace("Seq_Timeout = 5", "Seq_Timeout = 1");
    let world = World::with(&quick, TRUSTED)?;
    let [person, _] = world.people(10)?;
    person.knocks(&["7000", "8000"]);
    let line = format!(
        "] {}: openSSH: sequence timeout (stage 2)\n",
        person.address
    );
    // Nobody looks at an attempt until there is another packet.
    std::thread::sleep(Duration::from_millis(1100));
    person.knocks(&["9000:udp"]);
    world.daemon.await_log(&line, 1)?;
    world.daemon.hang_up()?;
    let file = world.daemon.policy_path();
    let line = format!("] re-reading config file: {}\n", file.display());
    Ok(world.daemon.await_log(&line, 1)?)
}

fn with_4_a_knock_over_ipv6_is_not_heard() -> Tried {
    let world = with_arguments(&["-4"])?;
    let [person, person_6] = world.people(10)?;
    person_6.knocks(ALL);
    person.knocks(ALL);
    world.daemon.await_log("openSSH: OPEN SESAME", 1)?;
    // By then that of IPv6 would have been heard as well.
    person.knocks(ALL);
    world.daemon.await_log("openSSH: OPEN SESAME", 2)?;
    let log = world.daemon.log();
    assert!(!log.contains(&person_6.address), "{log}");
    Ok(())
}

/// As a message has it: each label after its length.
const NAME: &[u8; 18] = b"\x04cafe\x07example\x03org\0";

/// An answer to a question for the name of an address: it is `NAME` (RFC 1035, 4.1).
fn answer(question: &[u8]) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0);
    let end = 12 + name.expect("a name") + 5;
    let mut answer = question[..2].to_vec();
    // A response; one question, one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    // The name asked for, PTR, IN, a minute, and how long it is.
    answer.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, 18]);
    answer.extend(NAME);
    answer
}

fn with_l_the_name_of_who_knocks_follows_in_a_line_of_its_own() -> Tried {
    let world = with_arguments(&["-l"])?;
    let [person, _] = world.people(10)?;
    let server = world.server.run(|| UdpSocket::bind("127.0.0.1:53"))??;
    server.set_read_timeout(Some(AT_ONCE))?;
    let conf = world.lab.dir().join("resolv.conf");
    fs::write(&conf, "nameserver 127.0.0.1\n")?;
    // Ours alone: we are in a mount namespace of our own.
    let (bind, none) = (MsFlags::MS_BIND, None::<&str>);
    mount(Some(&conf), "/etc/resolv.conf", none, bind, none)?;
    person.knocks(ALL);
    let mut question = [0; 512];
    let asked = server.recv_from(&mut question);
    umount2("/etc/resolv.conf", MntFlags::MNT_DETACH)?;
    let (length, who) = asked?;
    world
        .daemon
        .await_log(&format!("{}: openSSH: OPEN SESAME", person.address), 1)?;
    server.send_to(&answer(&question[..length]), who)?;
    let line = format!("] {} is cafe.example.org\n", person.address);
    Ok(world.daemon.await_log(&line, 1)?)
}

fn with_big_d_the_log_has_all_that_happens() -> Tried {
    let words = "own addresses: ";
    let world = with_arguments(&["-D"])?;
    world.daemon.await_log(words, 1)?;
    let plain = World::with(CLASSIC, TRUSTED)?;
    let log = plain.daemon.log();
    assert!(!log.contains(words), "{log}");
    Ok(())
}

fn with_i_a_label_is_its_interface() -> Tried {
    let world = with_arguments(&["-i", "eth0:1"])?;
    world.daemon.await_log("-i eth0:1 is all of eth0: ", 1)?;
    for person in world.people(10)? {
        person.knocks(ALL);
        let line = format!("{}: openSSH: OPEN SESAME", person.address);
        world.daemon.await_log(&line, 1)?;
    }
    assert_eq!(world.json(&["status"])["state"], "running");
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
