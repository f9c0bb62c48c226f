//! A wall clock that is really another, by libfaketime.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portcullis::lab::{Program, Programs, write_program};
use portcullis::model::{Chain, Lifetime};

use crate::held::{held, tolerance};
use crate::scenarios;
use crate::world::{
    AT_ONCE, Family, TRUSTED, Tried, World, backend, long_policy, programs, remember_name,
};

scenarios![
    a_wall_clock_that_jumps_a_day_across_a_restart_changes_nothing,
    a_wall_clock_that_jumps_across_a_reboot_prolongs_nothing,
    a_wall_clock_that_jumps_under_a_running_daemon_changes_nothing,
];

/// When the file that says how far off the clock is counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    AtStart,
    EachTime,
}

/// Our daemon with a wall clock that is as far off as a file says.
fn off(dir: &Path, read: Read) -> Result<Programs, Box<dyn std::error::Error>> {
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
    let by = by.display();
    let how_far = match read {
        Read::AtStart => format!("FAKETIME=$(cat {by})"),
        Read::EachTime => format!("FAKETIME_TIMESTAMP_FILE={by} FAKETIME_NO_CACHE=1"),
    };
    let text = format!(
        "#!/bin/sh\nexec env {how_far} FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD='{library}' \
         {} \"$@\"\n",
        env!("CARGO_BIN_EXE_knockd")
    );
    write_program(&script, text.as_bytes())?;
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
    let mut world = World::before_with(
        &long_policy(),
        TRUSTED,
        &[22],
        &off(dir.path(), Read::AtStart)?,
    )?;
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
    was_really_off(&world)
}

/// There is history of three days.
fn was_really_off(world: &World) -> Tried {
    let history = world.json(&["history"]);
    let entries = history["entries"].as_array().ok_or("entries")?;
    let days: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| entry["time"].as_str()?.get(..10))
        .collect();
    assert!(days.len() >= 3, "{days:?}");
    Ok(())
}

/// Deadlines, names and history go on. (Knocks have the kernel's time stamps, which libfaketime does
/// not reach: `src/capture/clocks.rs` has their test.)
fn a_wall_clock_that_jumps_under_a_running_daemon_changes_nothing() -> Tried {
    let dir = tempfile::tempdir()?;
    let programs = off(dir.path(), Read::EachTime)?;
    let trusted = format!("{TRUSTED}gateway.example.org\n");
    let mut world = World::before_with(&long_policy(), &trusted, &[22], &programs)?;
    // No name service answers, so the last good address counts, for days.
    let gateway = world.person(Family::V4, 12)?;
    remember_name(&world.daemon, "gateway.example.org", &gateway.address)?;
    world.daemon.start()?;
    let began = Instant::now();
    world.expect(0, &["accept", "192.0.2.10", "--for", "600s"]);
    world.expect(0, &["drop", "192.0.2.11", "--for", "600s"]);
    let decided = began.elapsed();
    for (number, by) in ["+1d", "-1d", "+0d"].into_iter().enumerate() {
        // A new one in its place, so that nobody reads half of it.
        let file = dir.path().join("new");
        fs::write(&file, by)?;
        fs::rename(&file, dir.path().join("by"))?;
        for person in world.people(13)? {
            world.expect(0, &["accept", &person.address, "--for", "2s"]);
            person.gets_in();
            person.is_refused_within(Duration::from_secs(2) + AT_ONCE);
        }
        gateway.gets_in();
        let asked = began.elapsed().as_secs_f64();
        let held = held(&world.server, &backend())?;
        let answered = began.elapsed().as_secs_f64();
        for (chain, address) in [(Chain::Filter, "192.0.2.10"), (Chain::Banned, "192.0.2.11")] {
            let host = IpNet::from(address.parse::<IpAddr>()?);
            let mut members = held.iter();
            let found = members.find(|member| member.chain == chain && member.net == host);
            let Some(Lifetime::For(left)) = found.map(|member| member.remaining) else {
                panic!("{by}: {address}: {found:?}");
            };
            let (left, most) = (left.as_secs_f64(), 600.0 + tolerance(&backend()));
            assert!(asked + left <= decided.as_secs_f64() + most, "{by}: {left}");
            assert!(
                answered + left >= 600.0 - tolerance(&backend()),
                "{by}: {left}"
            );
        }
        // Each jump's decisions are told of, after those before it.
        let history = world.json(&["history", "192.0.2.13"]);
        let entries = history["entries"].as_array().ok_or("entries")?;
        let words: Vec<&str> = entries.iter().filter_map(|e| e["what"].as_str()).collect();
        assert_eq!(words, ["accepted", "expired"].repeat(number + 1), "{by}");
    }
    world.expect(0, &["status"]);
    was_really_off(&world)
}

fn a_wall_clock_that_jumps_across_a_reboot_prolongs_nothing() -> Tried {
    use crate::boot::Boot;
    let dir = tempfile::tempdir()?;
    let mut world = World::before_with(
        &long_policy(),
        TRUSTED,
        &[22],
        &off(dir.path(), Read::AtStart)?,
    )?;
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
