//! What a port scanner sees, and what comes of scanning.

use crate::cases;
use crate::world::{Family, Person, Tried, World};

cases![
    nmap_sees_22_filtered,
    nmap_sees_nothing_else_of_the_gate,
    a_short_sweep_in_order_steps_on_a_decoy,
    a_long_sweep_in_order_opens_nothing,
    a_sweep_downwards_opens_nothing,
];

/// The states of ports as `22/filtered/tcp` and so on.
#[track_caller]
fn nmap(world: &World, person: &Person, family: Family, arguments: &[&str]) -> String {
    let mut all = vec!["-n", "-Pn", "-oG", "-"];
    if family == Family::V6 {
        all.push("-6");
    }
    all.extend(arguments);
    all.push(family.server());
    world.succeeds(&person.host, "nmap", &all)
}

fn nmap_sees_22_filtered() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        for scan in ["-sS", "-sT"] {
            let seen = nmap(&world, &world.stranger, family, &[scan, "-p", "22"]);
            assert!(seen.contains("22/filtered/tcp"), "{scan}: {seen}");
            let trusted = nmap(&world, &world.colleague, family, &[scan, "-p", "22"]);
            assert!(trusted.contains("22/open/tcp"), "{scan}: {trusted}");
        }
        // Neither do packets that are no SYN tell anything.
        for scan in ["-sA", "-sF", "-sX", "-sN"] {
            let seen = nmap(&world, &world.stranger, family, &[scan, "-p", "22"]);
            assert!(seen.contains("filtered/tcp"), "{scan}: {seen}");
        }
    }
    Ok(())
}

/// The knock ports answer as any other port where nothing listens.
fn nmap_sees_nothing_else_of_the_gate() -> Tried {
    let world = World::new()?;
    let seen = nmap(
        &world,
        &world.stranger,
        Family::V4,
        &["-sS", "-p", "1219,1227,1229"],
    );
    for port in [1219, 1227, 1229] {
        assert!(seen.contains(&format!("{port}/closed/tcp")), "{seen}");
    }
    Ok(())
}

/// Too short for the guard against sweeps, and long enough for a decoy.
fn a_short_sweep_in_order_steps_on_a_decoy() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        let sweep = ["-r", "-sS", "-p", "1218-1230"];
        nmap(&world, &world.scanner, family, &sweep);
        world.soon_in("ssh_banned", &world.scanner.address(family));
        assert_eq!(world.scanner.finds(family, 22), "silent");
    }
    Ok(())
}

fn a_long_sweep_in_order_opens_nothing() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        let sweep = ["-r", "-sS", "-p", "1-3000"];
        nmap(&world, &world.scanner, family, &sweep);
        let knock = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&world.knocker.host, "knock", &knock);
        world.knocker.soon_finds(family, "open");
        assert_eq!(world.scanner.finds(family, 22), "silent");
        // Nor does the knock itself, right after the sweep.
        world.succeeds(&world.scanner.host, "knock", &knock);
        world.succeeds(&world.stranger.host, "knock", &knock);
        world.stranger.soon_finds(family, "open");
        assert_eq!(world.scanner.finds(family, 22), "silent");
    }
    Ok(())
}

/// Downwards, 1228 and 1227 come after one another, as the knock wants them. Whoever has touched
/// that many other ports is no knocker.
fn a_sweep_downwards_opens_nothing() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        for port in (1200..=1240).rev() {
            world.scanner.finds(family, port);
        }
        // Everything until now is handled when somebody else's later knock is.
        let knock = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&world.knocker.host, "knock", &knock);
        world.knocker.soon_finds(family, "open");
        let address = world.scanner.address(family);
        let found = world.scanner.finds(family, 22);
        assert_eq!(found, "silent", "{:?}", world.listed(&address));
    }
    Ok(())
}
