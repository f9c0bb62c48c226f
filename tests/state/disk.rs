//! A disk that is full, read-only, or holds nonsense: the gate goes on, and says so.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portcullis::lab::await_some;
use portcullis::model::Time;
use portcullis::store::{Clocks, FILE_NAME, Store};
use serde_json::Value;

use crate::boot::{Boot, with_the_disk_of};
use crate::scenarios;
use crate::world::{AT_ONCE, DECOY, Family, Person, TRUSTED, Tried, World, goes_on, long_policy};

scenarios![
    a_full_disk_degrades_and_when_there_is_room_everything_is_written,
    a_read_only_disk_is_read_and_written_when_that_is_over,
    what_is_decided_without_a_daemon_after_a_boot_counts_at_its_start,
    a_state_that_could_not_be_read_at_a_boot_comes_back_when_it_can,
    a_part_of_the_state_that_cannot_be_read_is_not_written_over,
    a_damaged_state_is_moved_aside_and_the_kernel_knows_who_is_in,
    a_damaged_state_after_a_boot_has_lost_bans_and_says_so,
    a_state_that_somebody_deletes_is_written_anew,
];

/// A small disk in the state directory's place, until dropped.
struct Disk(PathBuf);

const ROOM: Option<&str> = Some("size=512k,mode=0700");

impl Disk {
    fn mount(dir: PathBuf) -> Result<Self, nix::Error> {
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), ROOM)?;
        Ok(Self(dir))
    }

    /// With this, nothing more fits.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut size = 1 << 20;
        let mut all = Vec::new();
        // What does not fit as a whole is written as far as it goes.
        while size >= 4096 {
            all.resize(all.len() + size, 0u8);
            let _ = fs::write(&filler, &all);
            size /= 2;
        }
        filler
    }

    fn remount(&self, flags: MsFlags) -> Result<(), nix::Error> {
        let none = None::<&str>;
        mount(none, &self.0, none, MsFlags::MS_REMOUNT | flags, ROOM)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[track_caller]
fn status(world: &World, code: i32) -> Value {
    let reply = world.expect(code, &["-o", "json", "status"]);
    serde_json::from_str(&reply.stdout).expect("JSON")
}

fn await_status(world: &World, code: i32) -> Tried {
    let what = format!("exit code {code} of status");
    await_some(&what, AT_ONCE * 10, || {
        Ok((world.ctl(&["status"])?.code == Some(code)).then_some(()))
    })?;
    Ok(())
}

/// The addresses that are remembered.
fn remembered(state: &Path) -> Vec<String> {
    let store = Store::open_to_read(state).expect("the store can be read");
    let clocks = Clocks {
        boot_id: store.boot_id().to_owned(),
        boot: Time(0),
        wall_ms: 0,
    };
    let members = store.members(&clocks).expect("members can be read");
    members.iter().map(|m| m.net.addr().to_string()).collect()
}

fn await_remembered(world: &World, address: &str) -> Tried {
    await_some(&format!("{address} on the disk"), AT_ONCE * 10, || {
        let found = remembered(&world.daemon.state_dir());
        Ok(found.iter().any(|it| it == address).then_some(()))
    })?;
    Ok(())
}

fn a_full_disk_degrades_and_when_there_is_room_everything_is_written() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    let disk = Disk::mount(world.daemon.state_dir())?;
    world.daemon.start()?;
    world.expect(0, &["drop", "198.51.100.1"]);
    let filler = disk.fill();
    // The gate goes on: by command and by knock.
    for n in 0..200 {
        world.expect(0, &["drop", &format!("198.51.101.{n}")]);
        if status_is_degraded(&world) {
            break;
        }
    }
    let told = status(&world, 5);
    let problems = told["problems"].to_string();
    assert!(problems.contains("knockd.db"), "{problems}");
    assert!(problems.contains("make room"), "{problems}");
    let (people, banned) = (world.people(10)?, world.people(11)?);
    let mut sessions: Vec<_> = people.iter().map(|person| person.opens()).collect();
    for person in &banned {
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
        person.is_refused();
    }
    let reply = world.expect(0, &["drop", "198.51.100.2"]);
    assert!(reply.stdout.contains("not yet written"), "{reply:?}");
    // What is to last until reboot is not promised.
    world.expect(1, &["trust", "192.0.2.77", "--runtime"]);
    fs::remove_file(filler)?;
    await_status(&world, 0)?;
    await_remembered(&world, "198.51.100.2")?;
    let found = remembered(&world.daemon.state_dir());
    for person in people.iter().chain(&banned) {
        assert!(
            found.contains(&person.address),
            "{} in {found:?}",
            person.address
        );
    }
    for session in &mut sessions {
        goes_on(session);
    }
    let store = Store::open_to_read(&world.daemon.state_dir())?;
    assert_eq!(store.trust()?.len(), 1, "this, too");
    drop(store);
    world.daemon.terminate()?;
    Ok(())
}

fn status_is_degraded(world: &World) -> bool {
    world
        .ctl(&["status"])
        .is_ok_and(|reply| reply.code == Some(5))
}

fn a_read_only_disk_is_read_and_written_when_that_is_over() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    let disk = Disk::mount(world.daemon.state_dir())?;
    world.daemon.start()?;
    world.expect(0, &["drop", "192.0.2.11"]);
    world.daemon.terminate()?;
    let reply = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    disk.remount(MsFlags::MS_RDONLY)?;
    world.daemon.start()?;
    let told = status(&world, 5);
    assert!(told["problems"].to_string().contains("state"), "{told}");
    assert!(world.member("ssh_banned", "192.0.2.11").is_some());
    let people = world.people(10)?;
    for person in &people {
        person.opens();
    }
    disk.remount(MsFlags::empty())?;
    await_status(&world, 0)?;
    for person in &people {
        await_remembered(&world, &person.address)?;
    }
    await_remembered(&world, "192.0.2.11")?;
    world.daemon.terminate()?;
    Ok(())
}

/// What keeps the disk from being written, until what is returned is dropped.
type Befalls = fn(&Disk, &Path) -> Result<Option<Disk>, nix::Error>;

fn what_is_decided_without_a_daemon_after_a_boot_counts_at_its_start() -> Tried {
    let fates: [Befalls; 2] = [
        // Set up from a disk that could only be read.
        |disk, _| disk.remount(MsFlags::MS_RDONLY).map(|()| None),
        // Set up before the disk was there.
        |_, state| Disk::mount(state.to_owned()).map(Some),
    ];
    for fate in fates {
        let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
        let state = world.daemon.state_dir();
        let disk = Disk::mount(state.clone())?;
        world.daemon.start()?;
        for last in 1..4 {
            world.expect(0, &["drop", &format!("198.51.100.{last}")]);
        }
        world.expect(0, &["accept", "192.0.2.10", "--for", "1h"]);
        world.expect(0, &["trust", "192.0.2.77", "--runtime"]);
        world.daemon.terminate()?;
        assert_eq!(world.daemon.run_knockd(&["teardown"])?.code, Some(0));
        let _boot = Boot::another(world.lab.dir())?;
        let over = fate(&disk, &state)?;
        assert_eq!(world.daemon.run_knockd(&["setup"])?.code, Some(0));
        drop(over);
        disk.remount(MsFlags::empty())?;
        for command in [
            &["unban", "198.51.100.1"][..],
            &["drop", "198.51.100.9", "--for", "1h"],
        ] {
            let reply = world.daemon.ctl_direct(command)?;
            assert_eq!(reply.code, Some(0), "{reply:?}");
            assert!(!reply.stdout.contains("not written"), "{reply:?}");
        }
        let mut found = remembered(&state);
        found.sort();
        let expected = ["192.0.2.10", "198.51.100.2", "198.51.100.3", "198.51.100.9"];
        assert_eq!(found, expected);
        world.daemon.start()?;
        assert!(world.member("ssh_banned", "198.51.100.1").is_none());
        for last in [2, 3, 9] {
            let address = format!("198.51.100.{last}");
            assert!(world.member("ssh_banned", &address).is_some(), "{address}");
        }
        world.person(Family::V4, 10)?.gets_in();
        assert!(world.member("ssh_trusted", "192.0.2.77").is_none());
        let told = world.json(&["history", "198.51.100.1"])["entries"].to_string();
        assert!(told.contains("unbanned"), "{told}");
        world.daemon.terminate()?;
    }
    Ok(())
}

fn a_state_that_could_not_be_read_at_a_boot_comes_back_when_it_can() -> Tried {
    let mut old = World::with(&long_policy(), TRUSTED)?;
    old.expect(0, &["drop", "192.0.2.11", "192.0.2.12"]);
    old.expect(0, &["accept", "192.0.2.10", "--for", "1h"]);
    old.daemon.terminate()?;
    let mut new = with_the_disk_of(&old, &long_policy())?;
    let state = new.daemon.state_dir();
    let (file, aside) = (state.join(FILE_NAME), state.join("aside"));
    let _boot = Boot::another(new.lab.dir())?;
    fs::rename(&file, &aside)?;
    fs::create_dir(&file)?;
    new.daemon.start()?;
    status(&new, 5);
    new.person(Family::V4, 10)?.is_refused();
    // What is decided meanwhile counts.
    new.expect(0, &["drop", "192.0.2.12", "--for", "1h"]);
    fs::remove_dir(&file)?;
    fs::rename(&aside, &file)?;
    await_status(&new, 0)?;
    await_some("the bans", AT_ONCE, || {
        Ok(new.member("ssh_banned", "192.0.2.11").map(drop))
    })?;
    new.person(Family::V4, 10)?.gets_in();
    let meanwhile = new
        .member("ssh_banned", "192.0.2.12")
        .ok_or("it is there")?;
    assert!(meanwhile.left.is_some(), "{meanwhile:?}");
    await_remembered(&new, "192.0.2.12")?;
    let mut found = remembered(&state);
    found.sort();
    assert_eq!(found, ["192.0.2.10", "192.0.2.11", "192.0.2.12"]);
    Ok(())
}

/// As if the disk failed for a while: a row of which no reader makes anything.
fn a_part_of_the_state_that_cannot_be_read_is_not_written_over() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let (trusted, banned) = (world.people(10)?, world.people(11)?);
    for (trusted, banned) in trusted.iter().zip(&banned) {
        world.expect(0, &["trust", "--runtime", &trusted.address]);
        world.expect(0, &["drop", &banned.address]);
    }
    let file = world.daemon.state_dir().join(FILE_NAME);
    for (table, nonsense) in [
        (
            "runtime_trust",
            "(net, reason, boot_id) SELECT x'ff', '', boot_id FROM runtime_trust LIMIT 1",
        ),
        (
            "owed",
            "VALUES (7, x'ff', '', '', '', 0, 0, 'a boot', NULL, 0, 0)",
        ),
    ] {
        world.daemon.terminate()?;
        let store = rusqlite::Connection::open(&file)?;
        store.execute(&format!("INSERT INTO {table} {nonsense}"), [])?;
        let rows = format!("SELECT count(*) FROM {table}");
        let rows = || store.query_row(&rows, [], |row| row.get::<_, i64>(0));
        let before = rows()?;
        world.daemon.start()?;
        await_status(&world, 5)?;
        assert_eq!(rows()?, before, "{table}");
        banned.iter().for_each(Person::is_refused);
        // Somebody mends it.
        let column = if table == "owed" { "knock" } else { "net" };
        store.execute(&format!("DELETE FROM {table} WHERE {column} = x'ff'"), [])?;
        await_status(&world, 0)?;
        for person in &trusted {
            person.gets_in_soon(22);
        }
        banned.iter().for_each(Person::is_refused);
    }
    Ok(())
}

fn a_damaged_state_is_moved_aside_and_the_kernel_knows_who_is_in() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    world.expect(0, &["drop", "192.0.2.11"]);
    world.daemon.kill_9();
    let file = world.daemon.state_dir().join(FILE_NAME);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(
            world
                .daemon
                .state_dir()
                .join(format!("{FILE_NAME}{suffix}")),
        );
    }
    fs::write(&file, "garbage ".repeat(2_000))?;
    world.daemon.start()?;
    let aside = world.daemon.state_dir().join("knockd.db.corrupt-1");
    assert!(fs::read(&aside)?.starts_with(b"garbage"));
    world.daemon.await_log("moved aside", 1)?;
    assert!(world.member("ssh_banned", "192.0.2.11").is_some());
    await_remembered(&world, "192.0.2.11")?;
    says_until_it_is_removed(&world, &aside)?;
    Ok(())
}

/// `status` says that state is lost, until somebody has seen to that.
fn says_until_it_is_removed(world: &World, aside: &Path) -> Tried {
    let name = aside.to_str().ok_or("not UTF-8")?;
    for _ in 0..2 {
        let told = status(world, 5)["problems"].to_string();
        assert!(told.contains(name) && told.contains("damaged"), "{told}");
    }
    fs::remove_file(aside)?;
    status(world, 0);
    Ok(())
}

fn a_damaged_state_after_a_boot_has_lost_bans_and_says_so() -> Tried {
    let mut old = World::with(&long_policy(), TRUSTED)?;
    old.expect(0, &["drop", "192.0.2.11"]);
    old.daemon.terminate()?;
    let file = old.daemon.state_dir().join(FILE_NAME);
    let mut bytes = fs::read(&file)?;
    // As a disk loses a block.
    bytes[4096..8192].fill(0xa5);
    fs::write(&file, bytes)?;
    let mut new = with_the_disk_of(&old, &long_policy())?;
    let _boot = Boot::another(new.lab.dir())?;
    new.daemon.start()?;
    let aside = new.daemon.state_dir().join("knockd.db.corrupt-1");
    assert!(new.member("ssh_banned", "192.0.2.11").is_none());
    // The gate is shut, and opens for whoever may come in.
    for stranger in new.people(12)? {
        stranger.is_refused();
    }
    for trusted in new.people(50)? {
        trusted.gets_in();
    }
    new.person(Family::V4, 10)?.opens();
    new.daemon.kill_9();
    new.daemon.start()?;
    says_until_it_is_removed(&new, &aside)
}

fn a_state_that_somebody_deletes_is_written_anew() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    world.expect(0, &["drop", "192.0.2.11"]);
    fs::remove_dir_all(world.daemon.state_dir())?;
    world.expect(0, &["drop", "192.0.2.12"]);
    await_remembered(&world, "192.0.2.12")?;
    await_remembered(&world, "192.0.2.11")?;
    status(&world, 0);
    Ok(())
}
