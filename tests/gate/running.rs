//! Knocks that run commands: what these are started with, how they end, and what stops them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis::lab::{LabError, await_some};

use crate::scenarios;
use crate::world::{AT_ONCE, POLICY, TRUSTED, Tried, World, backend};

scenarios![
    a_command_starts_with_nothing_but_what_it_is_to_know,
    a_command_knows_the_gates_of_its_knock,
    a_shell_reads_a_line_that_asks_for_one,
    a_stop_command_runs_on_time_and_each_start_has_its_own,
    the_time_until_a_stop_command_begins_when_the_start_command_has_run,
    a_stop_command_runs_after_a_restart_though_the_daemon_was_killed,
    commands_of_one_door_and_address_never_overlap,
    a_command_that_hangs_is_killed_with_all_that_it_started,
    commands_that_fail_or_do_not_exist_are_told_of_and_harm_nobody,
    a_gigabyte_that_is_printed_costs_a_line,
    stop_commands_that_run_when_the_daemon_ends_are_not_left_behind,
    stop_commands_that_end_during_a_teardown_have_run,
    a_start_command_that_waits_when_the_daemon_ends_is_not_run_and_not_stopped,
    start_commands_that_run_when_the_daemon_ends_go_on,
];

/// A daemon that runs these, a line each, and notes in `notes` what happened.
struct Doors {
    world: World,
    notes: PathBuf,
}

impl Doors {
    /// `NOTES` in the keys is where to write to.
    fn with(keys: &str) -> Result<Self, LabError> {
        let mut world = World::before("", TRUSTED, &[])?;
        let notes = world.daemon.runtime_dir().join("notes");
        let keys = keys.replace("NOTES", &notes.display().to_string());
        world.daemon.write_policy(&format!(
            "interface: any\nknocks:\n  door: {{ sequence: [1228, 1227], seq_timeout: 5s, action: \
             run, {keys} }}\nfirewall: {{ backend: {} }}\n",
            backend()
        ))?;
        world.daemon.start()?;
        Ok(Self { world, notes })
    }

    fn knock(&self) -> Tried {
        let [person, _] = self.world.people(10)?;
        person.knocks(&["1228", "1227"]);
        Ok(())
    }

    fn noted(&self) -> String {
        fs::read_to_string(&self.notes).unwrap_or_default()
    }

    /// Waits until that many lines are noted.
    fn await_lines(&self, lines: usize, within: Duration) -> Result<String, LabError> {
        await_some("the notes", within, || {
            let noted = self.noted();
            Ok((noted.lines().count() >= lines).then_some(noted))
        })
    }
}

const LONG: Duration = Duration::from_secs(10);

fn a_command_starts_with_nothing_but_what_it_is_to_know() -> Tried {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("script");
    // Shells count themselves among the children; what /proc says of one is the truth. While a shell
    // waits it blocks signals itself; its children have the mask that it was given.
    fs::write(
        &script,
        "{ echo \"$@\"; echo $PWD $0; cat; for fd in /proc/$$/fd/*; do printf 'fd '; readlink $fd || echo; done; \
         tr '\\0' '\\n' < /proc/$$/environ; cut -d' ' -f5,19,41 /proc/$$/stat; echo pid $$; \
         grep SigBlk /proc/self/status; } > $1.new; mv $1.new $1",
    )?;
    let doors = Doors::with(&format!(
        "start: \"/bin/sh {} NOTES 'a b' '%IP%; id' x%IP%\"",
        script.display()
    ))?;
    let people = doors.world.people(10)?;
    for (person, family) in people.iter().zip(["4", "6"]) {
        let _ = fs::remove_file(&doors.notes);
        person.knocks(&["1228", "1227"]);
        let noted = doors.await_lines(8, LONG)?;
        let ip = &person.address;
        let arguments = format!("{} a b {ip}; id x{ip}\n", doors.notes.display());
        assert!(noted.starts_with(&arguments), "{noted}");
        for part in [
            &format!("\n/ {}\n", script.display()),
            "\nfd /dev/null\n",
            &format!("\nKNOCK_IP={ip}\n"),
            "\nKNOCK_NAME=door\n",
            "\nKNOCK_GATE=\n",
            &format!("\nKNOCK_FAMILY={family}\n"),
            "\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
            "\nSigBlk:\t0000000000000000\n",
        ] {
            assert!(noted.contains(part), "no {part:?} in {noted}");
        }
        let variables = noted.lines().filter(|line| line.contains('=')).count();
        assert_eq!(variables, 5, "{noted}");
        // No input, the file that the shell writes to, the pipe to us, which it has put aside, and
        // this script: nothing else is open.
        let open = noted.lines().filter_map(|line| line.strip_prefix("fd "));
        let open = open.map(|line| line.split(':').next().unwrap_or(line));
        let mut open: Vec<&str> = open.filter(|line| !line.is_empty()).collect();
        open.sort_unstable();
        let new = format!("{}.new", doors.notes.display());
        let script = script.to_string_lossy();
        let mut expected = vec!["/dev/null", &new, "pipe", "pipe", &script];
        expected.sort_unstable();
        assert_eq!(open, expected, "{noted}");
        // Its own group, not before others, SCHED_OTHER.
        let pid = noted.lines().find_map(|line| line.strip_prefix("pid "));
        let group = format!("{} ", pid.ok_or("no pid")?);
        let found = noted.lines().find_map(|line| line.strip_prefix(&group));
        let (nice, class) = found.and_then(|f| f.split_once(' ')).ok_or("no group")?;
        assert!(class == "0" && !nice.starts_with('-'), "{noted}");
    }
    Ok(())
}

fn a_command_knows_the_gates_of_its_knock() -> Tried {
    let policy = POLICY.replace("gates:\n", "gates:\n  web: { ports: [80] }\n");
    for (gate, known) in [("", "[web ssh]"), (", gate: web", "[web]")] {
        let run = format!("start: \"echo [$KNOCK_GATE]\", shell: true{gate}");
        let door = format!("  door: {{ sequence: [2001, 2002], action: run, {run} }}\n");
        let open = "action: accept, gate: ssh";
        let policy = format!("{}{door}", policy.replace("action: accept", open));
        let world = World::with(&policy, TRUSTED)?;
        let [person, _] = world.people(10)?;
        person.knocks(&["2001", "2002"]);
        world
            .daemon
            .await_log(&format!("door: command printed: {known}"), 1)?;
    }
    Ok(())
}

fn a_shell_reads_a_line_that_asks_for_one() -> Tried {
    let doors = Doors::with("shell: true, start: \"echo %IP% $KNOCK_NAME; echo b >> NOTES\"")?;
    doors.knock()?;
    assert_eq!(doors.await_lines(1, AT_ONCE)?, "b\n");
    let log = "door: command printed: 192.0.2.10 door";
    doors.world.daemon.await_log(log, 1)?;
    let plain = Doors::with("start: \"/bin/echo %IP% $KNOCK_NAME ; echo b >> NOTES\"")?;
    plain.knock()?;
    let log = "door: command printed: 192.0.2.10 $KNOCK_NAME ; echo b >> ";
    plain.world.daemon.await_log(log, 1)?;
    assert_eq!(plain.noted(), "");
    Ok(())
}

fn a_stop_command_runs_on_time_and_each_start_has_its_own() -> Tried {
    let doors = Doors::with(
        "shell: true, start: \"echo start %IP% >> NOTES\", stop: \"echo stop %IP% >> NOTES\", \
         for: 2s",
    )?;
    let started = Instant::now();
    doors.knock()?;
    doors.await_lines(1, AT_ONCE)?;
    doors.knock()?;
    doors.await_lines(2, AT_ONCE)?;
    let line = |word: &str| format!("{word} 192.0.2.10\n").repeat(2);
    assert_eq!(doors.noted(), line("start"));
    let all = doors.await_lines(4, LONG)?;
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(all, line("start") + &line("stop"));
    for words in [
        "192.0.2.10: door: command timeout",
        "door: running command: echo stop 192.0.2.10 >> ",
    ] {
        doors.world.daemon.await_log(words, 2)?;
    }
    let history = doors.world.expect(0, &["history"]).stdout;
    assert!(history.contains("echo stop 192.0.2.10"), "{history}");
    Ok(())
}

fn the_time_until_a_stop_command_begins_when_the_start_command_has_run() -> Tried {
    let doors = Doors::with(
        "shell: true, start: \"sleep 2; echo start >> NOTES\", stop: \"echo stop >> NOTES\", \
         for: 1s",
    )?;
    doors.knock()?;
    doors.await_lines(1, LONG)?;
    let started = Instant::now();
    assert_eq!(doors.await_lines(2, LONG)?, "start\nstop\n");
    let between = started.elapsed();
    assert!(between >= Duration::from_millis(800), "{between:?}");
    Ok(())
}

fn a_stop_command_runs_after_a_restart_though_the_daemon_was_killed() -> Tried {
    let mut doors = Doors::with(
        "shell: true, start: \"echo start >> NOTES\", stop: \"echo stop >> NOTES\", for: 3s",
    )?;
    let knocked = Instant::now();
    doors.knock()?;
    doors.await_lines(1, AT_ONCE)?;
    doors.world.daemon.kill_9();
    doors.world.daemon.start()?;
    assert_eq!(doors.await_lines(2, LONG)?, "start\nstop\n");
    assert!(
        knocked.elapsed() >= Duration::from_secs(3),
        "not before time"
    );
    // What ended is not run again; what was due while nothing ran is, at once.
    doors.world.daemon.terminate()?;
    doors.world.daemon.start()?;
    doors.knock()?;
    doors.await_lines(3, AT_ONCE)?;
    doors.world.daemon.terminate()?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(doors.noted(), "start\nstop\nstart\n");
    doors.world.daemon.start()?;
    assert_eq!(doors.await_lines(4, AT_ONCE)?, "start\nstop\nstart\nstop\n");
    Ok(())
}

fn commands_of_one_door_and_address_never_overlap() -> Tried {
    let doors = Doors::with(
        "shell: true, start: \"echo a $KNOCK_IP >> NOTES; sleep 1; echo b $KNOCK_IP >> NOTES\"",
    )?;
    let [person, _] = doors.world.people(11)?;
    doors.knock()?;
    doors.await_lines(1, AT_ONCE)?;
    doors.knock()?;
    person.knocks(&["1228", "1227"]);
    let noted = doors.await_lines(6, LONG)?;
    let of = |ip: &str| {
        let mine = noted.lines().filter(|line| line.ends_with(ip));
        mine.map(|line| &line[..1]).collect::<String>()
    };
    assert_eq!((of("2.10").as_str(), of("2.11").as_str()), ("abab", "ab"));
    let first = noted.lines().take(3).collect::<Vec<_>>();
    assert!(
        first.contains(&"a 192.0.2.11"),
        "the other need not wait: {noted}"
    );
    Ok(())
}

fn a_command_that_hangs_is_killed_with_all_that_it_started() -> Tried {
    let doors = Doors::with(
        "shell: true, timeout: 1s, start: \"trap '' TERM; (sleep 2; echo alive >> NOTES) & echo \
         $! >> NOTES; sleep 60\"",
    )?;
    doors.knock()?;
    let pid = doors.await_lines(1, AT_ONCE)?;
    let killed = "door: command is killed: it took longer than 1s";
    doors.world.daemon.await_log(killed, 1)?;
    let gone = PathBuf::from(format!("/proc/{}", pid.trim()));
    await_some("the end of what it started", AT_ONCE, || {
        let state = fs::read_to_string(gone.join("stat")).unwrap_or_default();
        Ok((state.is_empty() || state.contains(") Z ")).then_some(()))
    })?;
    // The next one is not held up.
    doors.knock()?;
    doors.await_lines(2, AT_ONCE)?;
    Ok(())
}

fn commands_that_fail_or_do_not_exist_are_told_of_and_harm_nobody() -> Tried {
    let doors = Doors::with("shell: true, start: \"exit 3\", stop: \"kill -9 $$\", for: 1s")?;
    doors.knock()?;
    let log = |text| doors.world.daemon.await_log(text, 1);
    log("door: command returned non-zero status code (3)")?;
    log("door: command was ended by signal 9")?;
    let doors = Doors::with("start: /bin/not-there, stop: /etc/passwd, for: 1s")?;
    doors.knock()?;
    let log = |text| doors.world.daemon.await_log(text, 1);
    log("door: cannot run /bin/not-there: No such file or directory (os error 2) (is its path")?;
    log("door: cannot run /etc/passwd: Permission denied (os error 13) (is it executable?)")?;
    assert_eq!(doors.world.json(&["status"])["state"], "running");
    Ok(())
}

fn a_gigabyte_that_is_printed_costs_a_line() -> Tried {
    let doors =
        Doors::with("shell: true, start: \"yes %IP% | head -c 1000000000; echo over >> NOTES\"")?;
    let memory = || -> Result<u64, Box<dyn std::error::Error>> {
        let pid = doors.world.daemon.pid().ok_or("it runs")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.ok_or("no VmHWM")?.parse()?)
    };
    let before = memory()?;
    doors.knock()?;
    doors.await_lines(1, Duration::from_secs(30))?;
    doors.world.daemon.await_log("bytes more", 1)?;
    let log = doors.world.daemon.log();
    let printed = log.matches("command printed: 192.0.2.10").count();
    assert_eq!(printed, 20, "{log}");
    assert!(
        log.contains("command printed 999999780 bytes more"),
        "{log}"
    );
    let grown = memory()?.saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB more");
    Ok(())
}

fn start_commands_that_run_when_the_daemon_ends_go_on() -> Tried {
    let mut doors = Doors::with(
        "shell: true, start: \"echo opened >> NOTES; sleep 4; echo a word; echo shut >> NOTES\"",
    )?;
    doors.knock()?;
    doors.await_lines(1, AT_ONCE)?;
    doors.world.daemon.terminate()?;
    assert_eq!(doors.noted(), "opened\n");
    assert_eq!(doors.await_lines(2, LONG)?, "opened\nshut\n");
    Ok(())
}

fn stop_commands_that_run_when_the_daemon_ends_are_not_left_behind() -> Tried {
    let mut doors = Doors::with(
        "shell: true, start: \"echo start >> NOTES\", stop: \"echo $$ >> NOTES; sleep 60\", for: 1s, \
         timeout: 120s",
    )?;
    doors.knock()?;
    let noted = doors.await_lines(2, LONG)?;
    let pid = noted.lines().last().unwrap_or_default();
    doors.world.daemon.terminate()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    // It had not ended, so that it is owed still.
    doors.world.daemon.start()?;
    doors.await_lines(3, AT_ONCE)?;
    Ok(())
}

fn stop_commands_that_end_during_a_teardown_have_run() -> Tried {
    let mut doors = Doors::with(
        "shell: true, start: \"echo start >> NOTES\", stop: \"echo stop >> NOTES; sleep 1; \
         echo over >> NOTES\", for: 1s",
    )?;
    doors.knock()?;
    doors.await_lines(2, LONG)?;
    assert_eq!(doors.world.daemon.run_knockd(&["teardown"])?.code, Some(0));
    assert_eq!(doors.noted(), "start\nstop\nover\n");
    // Nothing is owed that would run again.
    doors.world.daemon.await_end()?;
    doors.world.daemon.start()?;
    doors.knock()?;
    let noted = doors.await_lines(6, LONG)?;
    assert_eq!(noted, "start\nstop\nover\nstart\nstop\nover\n");
    Ok(())
}

fn a_start_command_that_waits_when_the_daemon_ends_is_not_run_and_not_stopped() -> Tried {
    let mut doors = Doors::with(
        "shell: true, start: \"echo start >> NOTES; sleep 1.5\", stop: \"echo stop >> NOTES\", \
         for: 1s",
    )?;
    doors.knock()?;
    doors.await_lines(1, AT_ONCE)?;
    doors.knock()?;
    await_some("the second knock", AT_ONCE, || {
        let completed = doors.world.json(&["status"])["knocks"][0]["completed"].clone();
        Ok((completed == 2).then_some(()))
    })?;
    doors.world.daemon.terminate()?;
    let log = doors.world.daemon.log();
    assert_eq!(log.matches("running command: ").count(), 1, "{log}");
    assert!(log.contains("door: not run: knockd stops"), "{log}");
    doors.world.daemon.start()?;
    assert_eq!(doors.await_lines(2, LONG)?, "start\nstop\n");
    doors.knock()?;
    let noted = doors.await_lines(4, LONG)?;
    assert_eq!(noted, "start\nstop\nstart\nstop\n");
    let history = doors.world.expect(0, &["history"]).stdout;
    assert_eq!(history.matches("echo start >> ").count(), 2, "{history}");
    Ok(())
}
