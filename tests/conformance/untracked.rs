//! Ports that connection tracking is spared.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use portcullis::model::KnockPort;

use crate::world::{A, Tried, World, ssh, trusted};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const KNOCK: u16 = 1228;

/// Sends a hundred forged SYNs and says how many of them are tracked.
fn tracked(world: &World) -> Result<u64, Box<dyn std::error::Error>> {
    let count = || -> Result<u64, Box<dyn std::error::Error>> {
        let file = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text: io::Result<String> = world.server.run(|| fs::read_to_string(file))?;
        Ok(text?.trim().parse()?)
    };
    let before = count()?;
    let started = Instant::now();
    let flood = world
        .clients
        .flood(SocketAddrV4::new(SERVER, KNOCK), Some(5_000))?;
    while flood.sent() < 100 {
        assert!(started.elapsed() < Duration::from_secs(10), "no flood");
        std::thread::sleep(Duration::from_millis(1));
    }
    flood.stop()?;
    Ok(count()?.saturating_sub(before))
}

#[track_caller]
fn is_tracked(world: &World) -> Tried {
    let count = tracked(world)?;
    assert!(count >= 90, "only {count} are tracked");
    Ok(())
}

fn untrack(world: &mut World, ports: &[u16]) -> Tried {
    let ports: Vec<KnockPort> = ports.iter().copied().map(KnockPort::tcp).collect();
    Ok(world.with(|backend| backend.untrack(&ports))?)
}

#[track_caller]
fn is_as_written(world: &mut World) {
    let faults = world.with(|backend| backend.verify());
    assert_eq!(faults.expect("it can be read"), Vec::<String>::new());
}

pub(crate) fn untracked(world: &mut World) -> Tried {
    // Twenty are more than a rule of iptables takes.
    let many: Vec<u16> = (KNOCK..KNOCK + 20).collect();
    untrack(world, &many)?;
    world.install(vec![ssh()], vec![trusted(A)]);
    untrack(world, &many)?;
    is_as_written(world);
    assert!(tracked(world)? < 10);
    assert!(world.gets_in(A), "whoever is trusted is tracked as ever");

    untrack(world, &[KNOCK + 1])?;
    is_as_written(world);
    is_tracked(world)?;

    // It holds over an installation, and a new process that wants none takes it out.
    untrack(world, &[KNOCK])?;
    world.install(vec![ssh()], vec![]);
    is_as_written(world);
    assert!(tracked(world)? < 10);
    world.restart()?;
    world.install(vec![ssh()], vec![]);
    untrack(world, &[])?;
    is_as_written(world);
    is_tracked(world)?;
    Ok(())
}

pub(crate) fn untracked_teardown(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![]);
    untrack(world, &[KNOCK])?;
    world.restart()?;
    world.with(|backend| backend.teardown())?;
    // Nothing of ours is left that could keep them from being tracked.
    world.install(vec![ssh()], vec![]);
    is_tracked(world)?;
    Ok(())
}
