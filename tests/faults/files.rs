//! The whitelist is deleted, cut short, or something else altogether: at a start, and at a reload.

use std::fs;

use crate::scenarios;
use crate::world::{TRUSTED, Tried, World, long_policy};

scenarios![
    at_a_reload_a_whitelist_that_is_of_no_use_changes_nothing,
    at_a_start_a_whitelist_that_is_of_no_use_is_said_and_the_gate_stays_shut,
];

/// What can become of the file.
type Befalls = (&'static str, fn(&World));

const FATES: [Befalls; 5] = [
    ("deleted", |world| {
        drop(fs::remove_file(world.daemon.trusted_path()));
    }),
    ("cut to nothing", |world| {
        drop(fs::write(world.daemon.trusted_path(), ""));
    }),
    ("cut inside a line", |world| {
        let cut = TRUSTED.find("8::50").expect("an address");
        drop(fs::write(world.daemon.trusted_path(), &TRUSTED[..cut]));
    }),
    ("a directory", |world| {
        let path = world.daemon.trusted_path();
        drop(fs::remove_file(&path));
        fs::create_dir(&path).expect("a directory");
    }),
    ("a dangling link", |world| {
        let path = world.daemon.trusted_path();
        drop(fs::remove_file(&path));
        std::os::unix::fs::symlink("/nowhere", &path).expect("a link");
    }),
];

fn put_back(world: &World) -> Tried {
    let path = world.daemon.trusted_path();
    drop(fs::remove_file(&path));
    drop(fs::remove_dir(&path));
    world.daemon.write_trusted(TRUSTED)?;
    Ok(())
}

fn at_a_reload_a_whitelist_that_is_of_no_use_changes_nothing() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for (what, befalls) in FATES {
        befalls(&world);
        let reply = world.expect(2, &["reload"]);
        assert!(reply.stderr.contains("knockd.trusted"), "{what}: {reply:?}");
        for trusted in world.people(50)? {
            trusted.gets_in();
        }
        for stranger in world.people(12)? {
            stranger.is_refused();
        }
        put_back(&world)?;
        world.expect(0, &["reload"]);
    }
    Ok(())
}

fn at_a_start_a_whitelist_that_is_of_no_use_is_said_and_the_gate_stays_shut() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    world.expect(0, &["accept", "192.0.2.10", "--for", "1h"]);
    for (what, befalls) in FATES {
        world.daemon.kill_9();
        befalls(&world);
        world.daemon.start()?;
        let reply = world.ctl(&["status"])?;
        assert_eq!(reply.code, Some(5), "{what}: {reply:?}");
        assert!(reply.stdout.contains("knockd.trusted"), "{what}: {reply:?}");
        for stranger in world.people(12)? {
            stranger.is_refused();
        }
        world.people(10)?[0].gets_in();
        for knocker in world.people(11)? {
            knocker.opens();
        }
        put_back(&world)?;
        world.expect(0, &["reload"]);
        for trusted in world.people(50)? {
            trusted.gets_in();
        }
        world.expect(0, &["status"]);
    }
    Ok(())
}
