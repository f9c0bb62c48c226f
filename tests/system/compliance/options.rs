//! The section `[options]`, and the command line; `UseSyslog` is `syslog.rs`'s business.

use std::fs;
use std::path::Path;
use std::process::Command;

use portcullis::lab::{LabError, Program, await_some, run_bounded};

use super::{
    DOOR, KNOCKS, OUTSIDE, PATIENCE, Place, SERVER, SERVER_6, TIMED, TIMED_KNOCKS, Whose, alike,
    both, both_with, lines_about, listens, signal,
};
use crate::cases;
use crate::programs;
use crate::world::{AT_ONCE, Tried};

cases![
    log_file_has_the_same_lines,
    a_command_that_fails_is_told_of,
    interface_of_the_file_counts_unless_the_command_line_has_another,
    pid_file_is_there_while_the_daemon_is,
    the_command_line_is_understood_in_short_and_in_full,
    only_ip_v4_ignores_the_others,
    the_stock_file_of_debian_opens_and_closes_as_it_is,
];

fn log_file_has_the_same_lines() -> Tried {
    let config = TIMED.replace("Cmd_Timeout = 2", "Cmd_Timeout = 1");
    let outcomes = both(&config, |side| {
        side.knocks(&TIMED_KNOCKS);
        let notes = side.dir.join("notes").display().to_string();
        side.noted(2);
        lines_about(&side.read("log").replace(&notes, "NOTES"), "door")
    })?;
    let manual = "Log actions directly to a file, usually /var/log/knockd.log.";
    let rule = |what: &str, note: &str| {
        format!(
            "door: running command: /sbin/iptables -w {what} INPUT -s 192.0.2.10 -p tcp --dport 22 -j ACCEPT; \
             echo {note} >> NOTES"
        )
    };
    let lines = [
        "192.0.2.10: door: Stage 1",
        "192.0.2.10: door: Stage 2",
        "192.0.2.10: door: Stage 3",
        "192.0.2.10: door: OPEN SESAME",
        &rule("-I", "+"),
        "192.0.2.10: door: command timeout",
        &rule("-D", "-"),
    ];
    alike(&outcomes, &lines.map(str::to_owned).to_vec(), 0, manual);
    Ok(())
}

fn a_command_that_fails_is_told_of() -> Tried {
    let config = DOOR.replace("echo open %IP% >> NOTES", "exit 3");
    let outcomes = both(&config, |side| {
        side.knocks(&KNOCKS);
        side.noted(0);
        lines_about(&side.read("log"), "door").pop()
    })?;
    let words = "door: command returned non-zero status code (3)";
    alike(&outcomes, &Some(words.to_owned()), 1, "Log actions");
    Ok(())
}

/// The command line of either, with the file and what else there is to say, and where ours puts what
/// theirs does not have.
fn command_line(whose: Whose, place: &Place) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    match whose {
        Whose::Theirs => vec![path(&programs::path("knockd"))],
        Whose::Ours => vec![
            env!("CARGO_BIN_EXE_knockd").to_owned(),
            "--state-dir".to_owned(),
            path(&place.dir.join("state")),
            "--runtime-dir".to_owned(),
            path(&place.dir.join("run")),
        ],
    }
}

fn interface_of_the_file_counts_unless_the_command_line_has_another() -> Tried {
    let of_file = DOOR.replace("Interface = eth0", "Interface = wan0");
    let story = |config: &str, arguments: &[&str]| {
        both_with(config, arguments, |side| {
            side.knocks(&KNOCKS);
            side.noted(0);
            side.knocks_from("198.51.100.10", OUTSIDE, &KNOCKS);
            side.noted(1)
        })
    };
    let outside = "open 198.51.100.10\n".to_owned();
    let inside = "open 192.0.2.10\n".to_owned();
    let manual = "Network interface to listen on. … Default: eth0.";
    alike(&story(&of_file, &[])?, &outside, 1, manual);
    let unsaid = DOOR.replace("    Interface = eth0\n", "");
    alike(&story(&unsaid, &[])?, &inside, 1, manual);
    let manual = "Specify an interface to listen on. The default is eth0.";
    alike(&story(&of_file, &["-i", "eth0"])?, &inside, 1, manual);
    let outcomes = story(DOOR, &["--interface", "wan0"])?;
    alike(&outcomes, &outside, 1, manual);
    Ok(())
}

fn pid_file_is_there_while_the_daemon_is() -> Tried {
    let manual = "Pidfile to use when in daemon mode";
    for whose in [Whose::Theirs, Whose::Ours] {
        let pid_file = "    PidFile = NOTES.pid\n[door]\n";
        let place = Place::new(&DOOR.replace("[door]\n", pid_file))?;
        let mut line = command_line(whose, &place).into_iter();
        let mut command = place.server.command(line.next().expect("a program"))?;
        command.args(line).arg("--daemon").arg("-c");
        command.arg(&place.config);
        let started = run_bounded(&mut command, &place.dir, AT_ONCE)?;
        assert!(started.status.success(), "{started:?}");
        listens(&place.server)?;
        let path = place.dir.join("notes.pid");
        let pid = await_some("its pid file", AT_ONCE, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            Ok(text.trim().parse::<u32>().ok())
        })?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        assert_eq!(name.trim(), "knockd", "{whose:?}: {manual:?}");
        let client = place.clients.client("192.0.2.10")?;
        client.knock(SERVER, &KNOCKS)?;
        let notes = place.dir.join("notes");
        await_some("the note", AT_ONCE, || Ok(notes.exists().then_some(())))?;
        signal(pid, nix::sys::signal::Signal::SIGTERM);
        await_some("its end", PATIENCE, || Ok((!path.exists()).then_some(())))?;
    }
    Ok(())
}

/// The exit code of either with these arguments alone, and what it printed.
fn answers(whose: Whose, arguments: &[&str]) -> Result<(Option<i32>, String), LabError> {
    let place = Place::new(DOOR)?;
    let knockd = match whose {
        Whose::Theirs => programs::path("knockd"),
        Whose::Ours => env!("CARGO_BIN_EXE_knockd").into(),
    };
    let mut command: Command = Program::at(knockd).on(&place.server)?;
    let ended = run_bounded(command.args(arguments), &place.dir, AT_ONCE)?;
    Ok((ended.status.code(), ended.stdout))
}

fn the_command_line_is_understood_in_short_and_in_full() -> Tried {
    for arguments in [["-V"], ["--version"], ["-h"], ["--help"]] {
        for whose in [Whose::Theirs, Whose::Ours] {
            let (code, said) = answers(whose, &arguments)?;
            let manual = "Display the version. … Syntax help.";
            assert!(said.contains("knockd"), "{whose:?}: {manual:?}: {said}");
            assert_eq!(code, Some(0), "{whose:?} {arguments:?}: {manual:?}");
        }
    }
    let elsewhere = DOOR.replace("    LogFile = LOG\n", "");
    for arguments in [
        [
            "-D", "-l", "-v", "-4", "-g", "LOG", "-p", "LOG.pid", "-i", "eth0",
        ],
        [
            "--debug",
            "--lookup",
            "--verbose",
            "--only-ip-v4",
            "--logfile",
            "LOG",
            "--pidfile",
            "LOG.pid",
            "--interface",
            "eth0",
        ],
    ] {
        let outcomes = both_with(&elsewhere, &arguments, |side| {
            side.knocks(&KNOCKS);
            side.noted(1);
            let log = lines_about(&side.read("log"), "door");
            log.iter().any(|line| line.ends_with("OPEN SESAME"))
        })?;
        let manual = "Output debugging messages. … Lookup DNS names for log entries. … Output \
                      verbose status messages.";
        alike(&outcomes, &true, 1, manual);
    }
    Ok(())
}

fn only_ip_v4_ignores_the_others() -> Tried {
    let outcomes = both_with(DOOR, &["-4"], |side| {
        side.knocks_from("2001:db8::10", SERVER_6, &KNOCKS);
        side.noted(0);
        side.knocks(&KNOCKS);
        side.noted(1)
    })?;
    let manual = "Ignore packets from IPv6 and handle only IPv4.";
    alike(&outcomes, &"open 192.0.2.10\n".to_owned(), 1, manual);
    Ok(())
}

fn the_stock_file_of_debian_opens_and_closes_as_it_is() -> Tried {
    let stock = fs::read_to_string("/etc/knockd.conf")?;
    assert!(stock.contains("/sbin/iptables -A INPUT -s %IP%"), "{stock}");
    let outcomes = both(&stock, |side| {
        let knock = |ports: &[&str]| {
            let mut knock = side
                .clients
                .command(programs::path("knock"))
                .expect("knock");
            knock.args(["-d", "50", SERVER]).args(ports);
            let ended = run_bounded(&mut knock, &side.dir, AT_ONCE).expect("it ends");
            assert!(ended.status.success(), "{ended:?}");
        };
        knock(&["7000", "8000", "9000"]);
        let opened = side.soon_has_rules(1);
        knock(&["9000", "8000", "7000"]);
        side.soon_has_rules(0);
        opened
    })?;
    let rule = "-A INPUT -s 192.0.2.10/32 -p tcp -m tcp --dport 22 -j ACCEPT";
    let manual = "The first will allow the knocker to access port 22 (SSH), and the second will close \
                  the port when the knocker is complete.";
    alike(&outcomes, &vec![rule.to_owned()], 0, manual);
    Ok(())
}
