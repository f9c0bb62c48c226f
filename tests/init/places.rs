//! Where things are, where they may be instead, and who else may be in charge.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use portcullis::lab::{LabError, write_program};

use crate::world::{
    AT_ONCE, BAD_POLICY, KNOCKCTL, KNOCKD, KNOCKER, Shell, Tried, World, await_end, exists,
    is_alive, send,
};

crate::scenarios!(crate::Played:
    the_usual_places_need_no_telling,
    every_spelling_of_the_options_is_understood,
    the_environment_can_say_where,
    a_pid_file_of_a_classic_file_is_one_more,
    the_shipped_settings_do_not_start_it,
    without_settings_it_starts,
    the_environment_of_others_is_not_ours,
    systemd_is_left_in_charge,
    systemd_that_calls_the_script_is_not_called_back,
    openrc_does_not_stop_for_a_bad_policy_what_it_would_restart,
);

/// There is one /run/knockd and one /var/lock for all scenarios.
static USUAL: Mutex<()> = Mutex::new(());

fn the_usual_places_need_no_telling(shell: Shell) -> Tried {
    let _alone = USUAL.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new()?;
    // Ours alone: we are in a mount namespace of our own. On Debian it leads to /run/lock.
    fs::create_dir_all("/run/lock")?;
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/var/lock", tmpfs, MsFlags::empty(), None::<&str>)?;
    let played = usual_places(&world, shell);
    umount2("/var/lock", MntFlags::MNT_DETACH)?;
    played
}

fn usual_places(world: &World, shell: Shell) -> Tried {
    let (policy, state) = (world.path("knockd.yaml"), world.path("state"));
    let (policy, state) = (policy.display(), state.display());
    world.write(
        "defaults",
        &format!("START_KNOCKD=1\nKNOCKD_OPTS='-c {policy} --state-dir {state}'\n"),
    );
    let run = |verb: &str| {
        let mut command = world.script(shell, &[verb])?;
        command
            .env_remove("KNOCKD_SUBSYS")
            .env_remove("KNOCKD_SYSTEMD_DIR");
        world.finish(&mut command)
    };
    let lock = Path::new("/var/lock/subsys/knockd");
    // Where there is no such directory nobody makes one.
    assert_eq!(run("start")?.status.code(), Some(0));
    assert!(!exists(Path::new("/var/lock/subsys")));
    assert_eq!(run("stop")?.status.code(), Some(0));
    fs::create_dir("/var/lock/subsys")?;
    assert_eq!(run("start")?.status.code(), Some(0));
    assert!(exists(lock));
    let pid = fs::read_to_string("/run/knockd/knockd.pid")?;
    assert!(is_alive(pid.trim().parse()?));
    assert_eq!(run("status")?.status.code(), Some(0));
    world.gate_holds();
    assert_eq!(run("stop")?.status.code(), Some(0));
    assert!(!exists(lock));
    assert_eq!(run("status")?.status.code(), Some(3));
    Ok(())
}

/// PidFile in knockd.conf, or the classic daemon's own: others look there, and the script where it
/// always does.
fn a_pid_file_of_a_classic_file_is_one_more(shell: Shell) -> Tried {
    let _alone = USUAL.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new()?;
    let path = |name: &str| world.path(name).to_string_lossy().into_owned();
    let (conf, state, run, log) = (path("conf"), path("state"), path("run"), path("log"));
    world.write(
        "defaults",
        &format!(
            "START_KNOCKD=1\nKNOCKD_OPTS='-c {conf} --state-dir {state} --runtime-dir {run} -g {log}'\n"
        ),
    );
    let named = world.path("classic.pid");
    for (key, other) in [
        (format!("PidFile = {}", named.display()), named.as_path()),
        (String::new(), Path::new("/var/run/knockd.pid")),
    ] {
        let door = "[door]\nSequence = 7000,8000\nCommand = /bin/true\n";
        world.write("conf", &format!("[options]\n{key}\n{door}"));
        world.expect(shell, 0, &["start"]);
        let pid = fs::read_to_string(other)?;
        assert_eq!(pid, fs::read_to_string(world.path("run/knockd.pid"))?);
        let pid = pid.trim().parse()?;
        let said = world.expect(shell, 0, &["status"]).stdout;
        assert!(said.contains(&format!("process {pid}")), "{said}");
        let mut ctl = world.command(KNOCKCTL)?;
        ctl.args(["--socket", &path("run/control.sock"), "status"]);
        let said = world.finish(&mut ctl)?.stdout;
        assert!(
            said.contains("ptime") && !said.contains("pid file"),
            "{said}"
        );
        world.expect(shell, 0, &["stop"]);
        assert!(!is_alive(pid) && !exists(other) && !exists(&world.path("run/knockd.pid")));
        world.expect(shell, 3, &["status"]);
    }
    Ok(())
}

fn every_spelling_of_the_options_is_understood(shell: Shell) -> Tried {
    let world = World::new()?;
    let path = |name: &str| world.path(name).to_string_lossy().into_owned();
    let (policy, state, pid, run) = (path("knockd.yaml"), path("state"), path("x"), path("r"));
    for spelling in [
        format!("-p {pid} --runtime-dir {run}"),
        format!("-p{pid} --runtime-dir={run}"),
        format!("--pidfile {pid} --runtime-dir {run}"),
        format!("--runtime-dir={run} --pidfile={pid}"),
    ] {
        world.write(
            "defaults",
            &format!("KNOCKD_OPTS='{spelling} -c {policy} --state-dir={state}'\n"),
        );
        world.expect(shell, 0, &["start"]);
        assert!(exists(&world.path("x")) && exists(&world.path("r/control.sock")));
        let said = world.expect(shell, 0, &["status"]).stdout;
        assert!(said.contains("process"), "{said}");
        world.expect(shell, 0, &["accept", KNOCKER]);
        world.expect(shell, 0, &["stop"]);
        world.expect(shell, 3, &["status"]);
    }
    Ok(())
}

fn the_environment_can_say_where(shell: Shell) -> Tried {
    let world = World::new()?;
    let (policy, state) = (world.path("knockd.yaml"), world.path("state"));
    world.write("defaults", "START_KNOCKD=1\n");
    let options = format!("-c {} --state-dir {}", policy.display(), state.display());
    let run = |verb: &str| {
        let mut command = world.script(shell, &[verb])?;
        command
            .env("KNOCKD_OPTS", &options)
            .env("KNOCKD_RUNTIME_DIR", world.path("elsewhere"))
            .env("KNOCKD_PIDFILE", world.path("pid"));
        world.finish(&mut command)
    };
    for (verb, code) in [("start", 0), ("status", 0), ("stop", 0), ("status", 3)] {
        let finished = run(verb)?;
        assert_eq!(finished.status.code(), Some(code), "{verb}: {finished:?}");
        let running = verb == "start" || (verb, code) == ("status", 0);
        assert_eq!(exists(&world.path("pid")), running, "{verb}");
        assert_eq!(exists(&world.path("elsewhere/control.sock")), running);
    }
    Ok(())
}

fn the_shipped_settings_do_not_start_it(shell: Shell) -> Tried {
    let world = World::new()?;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/init/default/knockd");
    fs::copy(shipped, world.path("defaults"))?;
    let said = world.expect(shell, 0, &["start"]).stdout;
    assert!(said.contains("switched off"), "{said}");
    // As administrators of Debian's package are used to.
    let text = fs::read_to_string(shipped)?;
    assert!(text.contains("\nSTART_KNOCKD=0\n") && text.contains("\n#KNOCKD_OPTS=\"-i eth1\"\n"));
    Ok(())
}

fn without_settings_it_starts(shell: Shell) -> Tried {
    let world = World::new()?;
    fs::remove_file(world.path("defaults"))?;
    let mut command = world.script(shell, &["start"])?;
    command.env("KNOCKD_OPTS", world.options().join(" "));
    let finished = world.finish(&mut command)?;
    assert!(finished.status.success(), "{finished:?}");
    let supervisor = world.supervisor();
    send(supervisor, Signal::SIGTERM);
    await_end(supervisor, AT_ONCE);
    Ok(())
}

/// Names that others use for files of their own, which would be truncated or removed.
fn the_environment_of_others_is_not_ours(shell: Shell) -> Tried {
    let world = World::new()?;
    world.write("theirs", "precious\n");
    let theirs = world.path("theirs");
    for verb in ["start", "status", "restart", "stop"] {
        let mut command = world.script(shell, &[verb])?;
        for name in ["PIDFILE", "RUNTIME_DIR", "DEFAULTS", "SUBSYS", "SYSTEMCTL"] {
            command.env(name, &theirs);
        }
        command.env("STOP_TIMEOUT", "x").env("SYSTEMD_DIR", "/");
        let finished = world.finish(&mut command)?;
        assert_eq!(finished.status.code(), Some(0), "{verb}: {finished:?}");
        assert_eq!(exists(&world.path("pid")), verb != "stop");
        assert_eq!(fs::read_to_string(&theirs)?, "precious\n");
    }
    Ok(())
}

/// A world with a systemd, whose unit comes from this file.
struct Systemd {
    world: World,
    shell: Shell,
}

impl Systemd {
    fn new(shell: Shell, fragment: &str) -> Result<Self, LabError> {
        let world = World::new()?;
        let systemctl = format!(
            "#!/bin/sh\nif [ \"$1\" = show ]; then\n\
             [ \"$*\" = 'show -p FragmentPath knockd.service' ] && echo 'FragmentPath={fragment}'\n\
             else echo \"$*\" >>{}; fi\n",
            world.path("asked").display()
        );
        write_program(&world.path("systemctl"), systemctl.as_bytes()).expect("a program");
        world.write("asked", "");
        fs::create_dir(world.path("systemd")).expect("a directory");
        Ok(Self { world, shell })
    }

    #[track_caller]
    fn expect(&self, code: i32, verb: &str) {
        let mut command = self.world.script(self.shell, &[verb]).expect("a command");
        command
            .env("KNOCKD_SYSTEMCTL", self.world.path("systemctl"))
            .env("KNOCKD_SYSTEMD_DIR", self.world.path("systemd"));
        let finished = self.world.finish(&mut command).expect("the script ends");
        assert_eq!(finished.status.code(), Some(code), "{verb}: {finished:?}");
    }

    /// What systemctl was told to do.
    fn asked(&self) -> String {
        fs::read_to_string(self.world.path("asked")).expect("a list")
    }
}

fn systemd_is_left_in_charge(shell: Shell) -> Tried {
    let systemd = Systemd::new(shell, "/usr/local/lib/systemd/system/knockd.service")?;
    for verb in [
        "start",
        "stop",
        "status",
        "restart",
        "condrestart",
        "restartifdead",
    ] {
        systemd.expect(0, verb);
    }
    assert_eq!(
        systemd.asked(),
        "start knockd.service\nstop knockd.service\nstatus knockd.service\n\
         restart knockd.service\ntry-restart knockd.service\n"
    );
    // It cannot be asked: then the script does it.
    systemd.world.write("systemctl", "#!/bin/sh\nexit 1\n");
    systemd.expect(0, "start");
    systemd.expect(0, "status");
    assert!(is_alive(systemd.world.supervisor()));
    systemd.expect(0, "stop");
    Ok(())
}

fn systemd_that_calls_the_script_is_not_called_back(shell: Shell) -> Tried {
    for fragment in [
        "/run/systemd/generator.late/knockd.service",
        "/run/systemd/generator/knockd.service",
        // No such unit.
        "",
    ] {
        let systemd = Systemd::new(shell, fragment)?;
        systemd.expect(0, "start");
        let first = systemd.world.supervisor();
        systemd.expect(0, "status");
        systemd.expect(0, "restart");
        assert_ne!(systemd.world.supervisor(), first);
        systemd.expect(0, "stop");
        systemd.expect(3, "status");
        assert_eq!(systemd.asked(), "", "{fragment}");
    }
    Ok(())
}

/// OpenRC reads its script as ours is read here, and asks `stop_pre` before it stops, also for a
/// restart, of which `RC_CMD` tells.
fn openrc_does_not_stop_for_a_bad_policy_what_it_would_restart(shell: Shell) -> Tried {
    let world = World::new()?;
    let may_stop = |for_what: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/init/openrc/knockd");
        let mut command = world.command(shell.0)?;
        command
            .args(["-c", &format!(". {script}; stop_pre")])
            .env("RC_CMD", for_what)
            .env("knockd_command", KNOCKD)
            .env("knockd_args", world.options().join(" "));
        world.finish(&mut command)
    };
    assert!(may_stop("restart")?.status.success());
    world.write("knockd.yaml", BAD_POLICY);
    let refused = may_stop("restart")?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("knockd.yaml:2:"), "{refused:?}");
    assert!(may_stop("stop")?.status.success(), "a stop is a stop");
    Ok(())
}

/// What the scripts' language is, checked by a program that knows it better.
#[cfg(feature = "system-tests")]
pub(crate) fn shellcheck() -> Tried {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (script, dialects) in [
        ("init/knockd", &["sh", "dash", "bash"][..]),
        ("init/default/knockd", &["sh"]),
        ("init/openrc/knockd", &["sh"]),
        ("init/openrc/knockd.confd", &["sh"]),
        ("cron/periodic", &["sh"]),
    ] {
        for dialect in dialects {
            let checked = std::process::Command::new("shellcheck")
                .args(["-s", dialect])
                // Settings are variables that nobody uses where they are set.
                .args(["-e", "SC2034"])
                .arg(root.join(script))
                .output()
                .map_err(|error| format!("shellcheck (Debian: shellcheck): {error}"))?;
            let said = String::from_utf8_lossy(&checked.stdout);
            assert!(checked.status.success(), "{script} as {dialect}:\n{said}");
        }
    }
    Ok(())
}
