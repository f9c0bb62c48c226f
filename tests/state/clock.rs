//! A wall clock that is really another, by libfaketime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use portcullis::lab::{Program, Programs};

use crate::scenarios;
use crate::world::{TRUSTED, Tried, World, long_policy, programs};

scenarios![
    a_wall_clock_that_jumps_a_day_across_a_restart_changes_nothing,
    a_wall_clock_that_jumps_across_a_reboot_prolongs_nothing,
];

/// Our daemon with a wall clock that is as far off as a file says.
fn off(dir: &Path) -> Result<Programs, Box<dyn std::error::Error>> {
    let (script, by) = (dir.join("knockd"), dir.join("by"));
    fs::write(&by, "+0d")?;
    // What the program `faketime` would start, without its process in between.
    let asked = std::process::Command::new("faketime")
        .args(["-f", "+0d", "printenv", "LD_PRELOAD"])
        .output()
        .map_err(|error| format!("faketime: {error} (install the package faketime)"))?;
    let library = String::from_utf8(asked.stdout)?;
    let library = library.trim();
    assert!(library.contains("libfaketime"), "{library}");
    let text = format!(
        "#!/bin/sh\nFAKETIME=$(cat {}) FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD='{library}'\n\
         export FAKETIME FAKETIME_DONT_FAKE_MONOTONIC LD_PRELOAD\nexec {} \"$@\"\n",
        by.display(),
        env!("CARGO_BIN_EXE_knockd")
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(Programs {
        knockd: Program::at(script),
        ..programs()
    })
}

#[track_caller]
fn left(world: &World, chain: &str, address: &str) -> f64 {
    let member = world.member(chain, address).expect("it is there");
    member.left.expect("it ends")
}

fn a_wall_clock_that_jumps_a_day_across_a_restart_changes_nothing() -> Tried {
    let dir = tempfile::tempdir()?;
    let mut world = World::before_with(&long_policy(), TRUSTED, &[22], &off(dir.path())?)?;
    world.daemon.start()?;
    world.expect(0, &["accept", "192.0.2.10", "--for", "600s"]);
    world.expect(0, &["drop", "192.0.2.11", "--for", "600s"]);
    for by in ["+1d", "-1d", "+0d"] {
        fs::write(dir.path().join("by"), by)?;
        for gone in [false, true] {
            world.daemon.kill_9();
            if gone {
                // So that the store has to say.
                let reply = world.daemon.run_knockd(&["teardown"])?;
                assert_eq!(reply.code, Some(0), "{reply:?}");
            }
            world.daemon.start()?;
            for (chain, address) in [("ssh_filter", "192.0.2.10"), ("ssh_banned", "192.0.2.11")] {
                let left = left(&world, chain, address);
                assert!(left <= 600.0 && left > 500.0, "{by}: {chain}: {left}");
            }
        }
    }
    // It was really off.
    let history = world.json(&["history"]);
    let entries = history["entries"].as_array().ok_or("entries")?;
    let days: std::collections::BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| entry["time"].as_str()?.get(..10))
        .collect();
    assert!(days.len() >= 3, "{days:?}");
    Ok(())
}

fn a_wall_clock_that_jumps_across_a_reboot_prolongs_nothing() -> Tried {
    use crate::boot::Boot;
    let dir = tempfile::tempdir()?;
    let mut world = World::before_with(&long_policy(), TRUSTED, &[22], &off(dir.path())?)?;
    world.daemon.start()?;
    world.expect(0, &["drop", "192.0.2.11", "--for", "600s"]);
    world.expect(0, &["drop", "192.0.2.12", "--for", "2d"]);
    world.expect(0, &["drop", "192.0.2.13"]);
    let reboot = |world: &mut World, by: &str| -> Result<Boot, Box<dyn std::error::Error>> {
        fs::write(dir.path().join("by"), by)?;
        world.daemon.kill_9();
        let reply = world.daemon.run_knockd(&["teardown"])?;
        assert_eq!(reply.code, Some(0), "{reply:?}");
        let boot = Boot::another(world.lab.dir())?;
        world.daemon.start()?;
        Ok(boot)
    };
    let boot = reboot(&mut world, "-1d")?;
    assert!(left(&world, "ssh_banned", "192.0.2.11") <= 600.0);
    assert!(left(&world, "ssh_banned", "192.0.2.12") <= 2.0 * 86_400.0);
    drop(boot);
    // From a day behind to right: a day has passed, as far as anybody can tell.
    let _boot = reboot(&mut world, "+0d")?;
    assert!(world.member("ssh_banned", "192.0.2.11").is_none());
    let left = left(&world, "ssh_banned", "192.0.2.12");
    assert!((left - 86_400.0).abs() < 100.0, "{left}");
    let member = world
        .member("ssh_banned", "192.0.2.13")
        .expect("it is there");
    assert!(member.left.is_none());
    Ok(())
}
