//! What a port scanner sees, and what comes of scanning.

use crate::cases;
use crate::world::{Family, Person, Tried, World};

cases![
    nmap_sees_22_filtered,
    nmap_sees_nothing_else_of_the_gate,
    a_sweep_in_order_bans_the_sweeper,
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

fn a_sweep_in_order_bans_the_sweeper() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        nmap(
            &world,
            &world.scanner,
            family,
            &["-r", "-sS", "-p", "1200-1240"],
        );
        world.soon_in("ssh_banned", &world.scanner.address(family));
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
