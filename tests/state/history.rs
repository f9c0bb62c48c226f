//! `knockctl history`.

use std::fs;

use serde_json::Value;

use crate::scenarios;
use crate::world::{ACCEPT_TIME, AT_ONCE, DECOY, Family, POLICY, TRUSTED, Tried, World};

scenarios![
    it_tells_what_happened_to_whom_and_because_of_what,
    it_outlives_the_daemon,
    a_teardown_is_in_it_with_or_without_a_daemon,
    a_teardown_ends_the_daemon_as_a_stop_does,
    a_trial_that_a_crash_took_back_is_in_it_once,
    nonsense_is_refused,
];

#[track_caller]
fn entries(world: &World, arguments: &[&str]) -> Vec<Value> {
    let told = world.json(&[&["history"], arguments].concat());
    told["entries"].as_array().expect("entries").clone()
}

fn words(entries: &[Value]) -> Vec<&str> {
    entries.iter().filter_map(|e| e["what"].as_str()).collect()
}

fn it_tells_what_happened_to_whom_and_because_of_what() -> Tried {
    let world = World::new()?;
    let [v4, v6] = world.people(10)?;
    v4.opens();
    v6.knocks(DECOY);
    world.await_member("ssh_banned", &v6.address);
    world.expect(4, &["accept", &v6.address]);
    world.expect(0, &["unban", &v6.address]);
    world.expect(0, &["trust", "198.51.100.0/24", "--comment", "the lab"]);
    world.expect(0, &["untrust", "198.51.100.0/24"]);
    world.expect(0, &["trust", "198.51.100.7", "--runtime"]);
    world.expect(0, &["open", "--for", "10s"]);
    world.expect(0, &["close"]);
    world.expect(0, &["flush", "banned"]);
    world.expect(0, &["reload"]);
    v4.is_refused_within(ACCEPT_TIME + AT_ONCE);
    world.expect(0, &["ping"]);

    let of_v6 = entries(&world, &[&v6.address]);
    assert_eq!(words(&of_v6), ["banned", "unbanned"], "{of_v6:?}");
    assert_eq!(of_v6[0]["reason"], "decoy");
    assert_eq!(of_v6[0]["gate"], "ssh");
    assert_eq!(of_v6[0]["address"], v6.address.as_str());
    assert_eq!(of_v6[0]["until"], Value::Null);
    let who = of_v6[1]["reason"].as_str().ok_or("who")?;
    assert!(who.starts_with("knockctl by "), "{who}");
    let lab = entries(&world, &["198.51.100.7"]);
    assert_eq!(words(&lab), ["trusted", "untrusted", "trusted"], "{lab:?}");
    let of_v4 = entries(&world, &[&v4.address]);
    assert_eq!(words(&of_v4)[0], "accepted");
    assert!(of_v4[0]["until"].is_string(), "{of_v4:?}");

    let all = entries(&world, &[]);
    for word in [
        "started",
        "accepted",
        "banned",
        "refused",
        "unbanned",
        "trusted",
        "untrusted",
        "opened",
        "closed",
        "reloaded",
        "expired",
    ] {
        assert!(words(&all).contains(&word), "{word} in {:?}", words(&all));
    }
    assert_eq!(entries(&world, &["--limit", "2"]), all[all.len() - 2..]);
    let time = all[0]["time"].as_str().ok_or("a time")?;
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    let table = world.expect(0, &["history", &v6.address]).stdout;
    assert!(table.starts_with("TIME"), "{table}");
    assert!(
        table.contains("banned") && table.contains("decoy"),
        "{table}"
    );
    Ok(())
}

fn it_outlives_the_daemon() -> Tried {
    let mut world = World::new()?;
    world.expect(0, &["drop", "192.0.2.11"]);
    world.daemon.terminate()?;
    world.daemon.start()?;
    world.expect(0, &["drop", "192.0.2.12"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    let all = entries(&world, &[]);
    let expected = [
        "started", "banned", "stopped", "started", "banned", "started",
    ];
    assert_eq!(words(&all), expected, "{all:?}");
    Ok(())
}

fn a_teardown_is_in_it_with_or_without_a_daemon() -> Tried {
    let mut world = World::new()?;
    assert_eq!(world.daemon.run_knockd(&["teardown"])?.code, Some(0));
    world.daemon.await_end()?;
    let log = world.daemon.log();
    assert!(log.contains("by root"), "{log}");
    world.daemon.start()?;
    // It waits for the disk.
    world.expect(0, &["history"]);
    world.daemon.kill_9();
    assert_eq!(world.daemon.run_knockd(&["teardown"])?.code, Some(0));
    world.daemon.start()?;
    let all = entries(&world, &[]);
    let expected = [
        "started", "removed", "stopped", "started", "removed", "started",
    ];
    assert_eq!(words(&all), expected, "{all:?}");
    for (entry, by) in [
        (1, "knockctl by root (pid "),
        (4, "knockd teardown by root (pid "),
    ] {
        let who = all[entry]["reason"].as_str().ok_or("who")?;
        assert!(who.starts_with(by), "{who}");
    }
    Ok(())
}

fn a_teardown_ends_the_daemon_as_a_stop_does() -> Tried {
    let policy = format!("firewall: {{ on_stop: closed }}\n{POLICY}");
    let mut world = World::with(&policy, TRUSTED)?;
    let other = world.daemon.state_dir().join("other.yaml");
    fs::write(&other, policy.replace("1228", "1229"))?;
    world.expect(0, &["accept", "192.0.2.10", "--for", "1h"]);
    let other = other.to_str().ok_or("not UTF-8")?;
    world.expect(0, &["apply", other, "--confirm", "60s"]);
    let reply = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    world.daemon.await_end()?;
    // A change that nobody has confirmed is taken back, and nothing is left in the kernel.
    world.person(Family::V4, 12)?.gets_in();
    world.daemon.start()?;
    assert!(world.members("ssh_filter").is_empty());
    let all = entries(&world, &[]);
    let expected = [
        "started",
        "accepted",
        "applied",
        "rolled back",
        "removed",
        "flushed",
        "stopped",
        "started",
    ];
    assert_eq!(words(&all), expected, "{all:?}");
    Ok(())
}

fn a_trial_that_a_crash_took_back_is_in_it_once() -> Tried {
    let mut world = World::new()?;
    let path = world.daemon.policy_path();
    let own = path.to_str().ok_or("not UTF-8")?.to_owned();
    // Its own file: what is tried stays noted at every start, until somebody sees to it.
    world.daemon.write_policy(&POLICY.replace("1228", "1229"))?;
    world.expect(0, &["apply", &own, "--confirm", "60s"]);
    for _ in 0..2 {
        world.daemon.kill_9();
        world.daemon.start()?;
    }
    let all = entries(&world, &[]);
    let expected = ["started", "applied", "started", "rolled back", "started"];
    assert_eq!(words(&all), expected, "{all:?}");
    let (by, note) = (&all[3]["reason"], &all[3]["note"]);
    assert_eq!(*by, all[1]["reason"]);
    let note = note.as_str().ok_or("a note")?;
    assert!(
        note.contains("never confirmed") && note.contains(&own),
        "{note}"
    );
    // One that a stop took back was taken back then.
    world.expect(0, &["apply", &own, "--confirm", "60s"]);
    world.daemon.terminate()?;
    world.daemon.start()?;
    let all = entries(&world, &[]);
    let expected = ["applied", "rolled back", "stopped", "started"];
    assert_eq!(words(&all)[5..], expected, "{all:?}");
    let status = world.expect(5, &["-o", "json", "status"]).stdout;
    let change = serde_json::from_str::<Value>(&status)?["change"].clone();
    assert_eq!(change["by"], all[5]["reason"], "{change}");
    Ok(())
}

fn nonsense_is_refused() -> Tried {
    let world = World::new()?;
    world.expect(2, &["history", "nonsense"]);
    world.expect(2, &["history", "--limit", "-1"]);
    world.expect(2, &["history", "--gate", "vpn"]);
    assert!(entries(&world, &["203.0.113.1", "--limit", "4000000000"]).is_empty());
    Ok(())
}
