//! The systemd unit's promises that can be shown without systemd.

use std::process::Stdio;

use crate::cases;
use crate::programs;
use crate::world::{Family, SHIPPED, TRUSTED, Tried, World};

cases![
    the_units_capabilities_are_enough,
    the_early_units_capabilities_are_enough,
];

const UNIT: &str = include_str!("../../init/knockd.service");

/// `CAP_NET_ADMIN CAP_CHOWN` as setpriv writes it: `-all,+net_admin,+chown`.
fn bounding_set() -> Option<String> {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))?;
    let caps = line
        .split_whitespace()
        .map(|name| name.trim_start_matches("CAP_").to_lowercase());
    Some(caps.fold("-all".to_owned(), |all, cap| format!("{all},+{cap}")))
}

fn the_early_units_capabilities_are_enough() -> Tried {
    let world = World::before(SHIPPED, TRUSTED, Some(22))?;
    // It has the same.
    let caps = bounding_set().ok_or("the unit has a bounding set")?;
    let done = world
        .server
        .command(programs::path("setpriv"))?
        .arg(format!("--bounding-set={caps}"))
        .args([
            "--no-new-privs",
            "--",
            env!("CARGO_BIN_EXE_knockd"),
            "setup",
        ])
        .arg("-c")
        .arg(world.daemon.policy_path())
        .arg("--state-dir")
        .arg(world.daemon.state_dir())
        .arg("--runtime-dir")
        .arg(world.daemon.runtime_dir())
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    for family in Family::BOTH {
        assert_eq!(world.stranger.finds(family, 22), "silent");
    }
    Ok(())
}

fn the_units_capabilities_are_enough() -> Tried {
    let world = World::before(SHIPPED, TRUSTED, Some(22))?;
    let caps = bounding_set().ok_or("the unit has a bounding set")?;
    // A whitelist that is somebody else's stays theirs.
    let file = world.daemon.trusted_path();
    std::os::unix::fs::chown(&file, Some(65534), Some(65534))?;
    let log = std::fs::File::create(world.lab.dir().join("log"))?;
    let mut child = world
        .server
        .command(programs::path("setpriv"))?
        .arg(format!("--bounding-set={caps}"))
        .args(["--no-new-privs", "--", env!("CARGO_BIN_EXE_knockd"), "-c"])
        .arg(world.daemon.policy_path())
        .arg("--state-dir")
        .arg(world.daemon.state_dir())
        .arg("--runtime-dir")
        .arg(world.daemon.runtime_dir())
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()?;
    let started = std::time::Instant::now();
    while world.daemon.ctl(&["ping"])?.code != Some(0) {
        let ended = child.try_wait()?;
        let log = std::fs::read_to_string(world.lab.dir().join("log"))?;
        assert!(ended.is_none(), "{ended:?}: {log}");
        assert!(started.elapsed() < crate::world::AT_ONCE, "{log}");
    }
    for family in Family::BOTH {
        let knock = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&world.knocker.host, "knock", &knock);
        world.knocker.soon_finds(family, "open");
        assert_eq!(world.stranger.finds(family, 22), "silent");
    }
    world.expect(0, &["trust", "192.0.2.99", "--comment", "new here"]);
    assert!(std::fs::read_to_string(&file)?.contains("192.0.2.99"));
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&file)?);
    assert_eq!(owner, 65534);
    world.expect(0, &["reload"]);
    let status = world.expect(0, &["status"]);
    // As on a machine where root may have real-time threads, or without.
    assert!(!status.stdout.contains("schedule  ordinary"), "{status:?}");
    child.kill()?;
    child.wait()?;
    Ok(())
}
