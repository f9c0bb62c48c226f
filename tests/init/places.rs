//! Where things are, where they may be instead, and who else may be in charge.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::world::{AT_ONCE, KNOCKER, Shell, Tried, World, await_end, exists, is_alive, send};

crate::scenarios!(crate::Played:
    the_usual_places_need_no_telling,
    every_spelling_of_the_options_is_understood,
    the_environment_can_say_where,
    the_shipped_settings_do_not_start_it,
    without_settings_it_starts,
    systemd_is_left_in_charge,
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
        command.env_remove("SUBSYS").env_remove("SYSTEMD_DIR");
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
            .env("RUNTIME_DIR", world.path("elsewhere"))
            .env("PIDFILE", world.path("pid"));
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

fn systemd_is_left_in_charge(shell: Shell) -> Tried {
    let world = World::new()?;
    let asked = world.path("asked");
    world.write(
        "systemctl",
        &format!(
            "#!/bin/sh\n[ \"$1\" = cat ] || echo \"$*\" >>{}\nexit 0\n",
            asked.display()
        ),
    );
    let systemctl = world.path("systemctl");
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
    fs::create_dir(world.path("systemd"))?;
    let run = |verb: &str| {
        let mut command = world.script(shell, &[verb])?;
        command
            .env("SYSTEMCTL", &systemctl)
            .env("SYSTEMD_DIR", world.path("systemd"));
        world.finish(&mut command)
    };
    for verb in [
        "start",
        "stop",
        "status",
        "restart",
        "condrestart",
        "restartifdead",
    ] {
        assert_eq!(run(verb)?.status.code(), Some(0), "{verb}");
    }
    assert_eq!(
        fs::read_to_string(&asked)?,
        "start knockd.service\nstop knockd.service\nstatus knockd.service\n\
         restart knockd.service\ntry-restart knockd.service\n"
    );
    // It has no such service: then the script does it.
    world.write("systemctl", "#!/bin/sh\nexit 1\n");
    assert_eq!(run("start")?.status.code(), Some(0));
    assert_eq!(run("status")?.status.code(), Some(0));
    assert!(is_alive(world.supervisor()));
    assert_eq!(run("stop")?.status.code(), Some(0));
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
