//! `firewall: { owner: true }`: a table that nobody else can change, while there is a daemon.

use std::process::Command;

use crate::cases;
use crate::world::{Family, SHIPPED, TRUSTED, Tried, World};

cases![
    what_is_ours_alone_nobody_else_flushes_or_deletes,
    members_outlive_the_owner_and_the_next_takes_them_up,
    setup_leaves_a_table_that_the_daemon_takes_up,
    the_owner_can_be_changed_without_a_gap,
];

fn owned() -> String {
    let policy = SHIPPED.replace("backend: nftables", "owner: true\n  backend: nftables");
    assert_ne!(policy, SHIPPED, "the shipped policy has changed");
    policy
}

/// Whether `nft` can do that.
fn nft(world: &World, arguments: &[&str]) -> bool {
    let mut command: Command = world
        .server
        .command(crate::programs::path("nft"))
        .expect("a command");
    let finished = world.run(command.args(arguments)).expect("it ends");
    finished.status.success()
}

fn fill(world: &World) {
    world.expect(0, &["accept", &world.knocker.address(Family::V4)]);
    world.expect(0, &["drop", &world.scanner.address(Family::V4)]);
}

#[track_caller]
fn all_find_what_they_should(world: &World) {
    assert_eq!(world.stranger.finds(Family::V4, 22), "silent");
    assert_eq!(world.scanner.finds(Family::V4, 22), "silent");
    assert_eq!(world.knocker.finds(Family::V4, 22), "open");
    for family in Family::BOTH {
        assert_eq!(world.colleague.finds(family, 22), "open");
    }
}

fn flags(world: &World) -> String {
    let table = world.nft(&["list", "table", "inet", "knockd"]);
    let line = table
        .lines()
        .find(|line| line.contains("flags") && !line.contains("timeout"));
    line.filter(|line| line.contains("owner") || line.contains("persist"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn what_is_ours_alone_nobody_else_flushes_or_deletes() -> Tried {
    let world = World::with(&owned())?;
    fill(&world);
    nft(&world, &["flush", "ruleset"]);
    all_find_what_they_should(&world);
    for refused in [
        &["delete", "table", "inet", "knockd"][..],
        &["flush", "chain", "inet", "knockd", "input"],
        &["flush", "set", "inet", "knockd", "ssh_banned4"],
        &[
            "add",
            "element",
            "inet",
            "knockd",
            "ssh_banned4",
            "{ 203.0.113.1 }",
        ],
    ] {
        assert!(!nft(&world, refused), "{refused:?}");
    }
    all_find_what_they_should(&world);
    let status = world.expect(0, &["status"]);
    assert!(!status.stdout.contains("repairs"), "{status:?}");
    let reply = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert_eq!(world.nft(&["list", "tables"]).trim(), "");
    Ok(())
}

fn members_outlive_the_owner_and_the_next_takes_them_up() -> Tried {
    let mut world = World::with(&owned())?;
    fill(&world);
    for _ in 0..3 {
        world.daemon.kill_9();
        all_find_what_they_should(&world);
        world.daemon.start()?;
        all_find_what_they_should(&world);
        assert!(!nft(&world, &["delete", "table", "inet", "knockd"]));
    }
    world.expect(0, &["status"]);
    // Without an owner it is everybody's, as any other table.
    world.daemon.terminate()?;
    let reply = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert_eq!(world.nft(&["list", "tables"]).trim(), "");
    Ok(())
}

fn setup_leaves_a_table_that_the_daemon_takes_up() -> Tried {
    let mut world = World::before(&owned(), TRUSTED, Some(22))?;
    let reply = world.daemon.run_knockd(&["setup"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert_eq!(world.stranger.finds(Family::V4, 22), "silent");
    assert_eq!(world.colleague.finds(Family::V4, 22), "open");
    world.daemon.start()?;
    fill(&world);
    assert!(!nft(&world, &["delete", "table", "inet", "knockd"]));
    all_find_what_they_should(&world);
    Ok(())
}

fn the_owner_can_be_changed_without_a_gap() -> Tried {
    let world = World::new()?;
    fill(&world);
    assert_eq!(flags(&world), "");
    for round in 0..4 {
        let is_owned = round % 2 == 0;
        let policy = if is_owned {
            owned()
        } else {
            SHIPPED.to_owned()
        };
        world.daemon.write_policy(&policy)?;
        let (reply, tries, entries) =
            crate::damage::with_a_stranger(&world, || world.daemon.ctl(&["reload"]));
        assert_eq!(reply?.code, Some(0));
        assert_eq!(entries, 0, "of {tries} SYNs");
        all_find_what_they_should(&world);
        assert_eq!(!flags(&world).is_empty(), is_owned);
        let element = [
            "add",
            "element",
            "inet",
            "knockd",
            "ssh_banned4",
            "{ 203.0.113.1 }",
        ];
        assert_eq!(nft(&world, &element), !is_owned);
        world.expect(0, &["status"]);
    }
    Ok(())
}
