//! nmap's sweeps, a hundred of each kind and each from an address of its own: SYN scans through a
//! raw socket and connect scans with the kernel's, in ascending and in nmap's random order, around
//! the knock ports only, and with decoys. nmap itself cannot descend. During each of them somebody
//! else knocks, and gets in.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use portcullis::lab::run_bounded;

use crate::kinds::KNOCK;
use crate::world::{World, person, server_of};
use crate::{EACH, Scenario, Tried, row};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "nmap_does_not_open_the_gate_and_keeps_nobody_out",
        nmap_does_not_open_the_gate_and_keeps_nobody_out,
    ),
    (
        "nmap_around_the_knock_ports_does_not_open_the_gate",
        nmap_around_the_knock_ports_does_not_open_the_gate,
    ),
    (
        "nmap_with_decoys_does_not_open_the_gate",
        nmap_with_decoys_does_not_open_the_gate,
    ),
    (
        "nmap_that_connects_does_not_open_the_gate",
        nmap_that_connects_does_not_open_the_gate,
    ),
];

const RANGE: &str = "1200-1240";

/// Whose packets the sweeps send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// The sweeper's own.
    Sweeper,
    /// Those of two others as well, whose answers go nowhere.
    Decoys,
    /// The kernel's, which the route decides about.
    Kernel,
}

fn nmap_does_not_open_the_gate_and_keeps_nobody_out() -> Tried {
    sweeps("nmap -sS -r", &["-sS", "-r"], RANGE, From::Sweeper)?;
    sweeps("nmap -sS", &["-sS"], RANGE, From::Sweeper)
}

fn nmap_around_the_knock_ports_does_not_open_the_gate() -> Tried {
    let name = "nmap -sS -r, around the knock ports";
    sweeps(name, &["-sS", "-r"], "1222-1233", From::Sweeper)?;
    let name = "nmap -sS, around the knock ports";
    sweeps(name, &["-sS"], "1217-1238", From::Sweeper)
}

fn nmap_with_decoys_does_not_open_the_gate() -> Tried {
    sweeps("nmap -sS -r -D", &["-sS", "-r"], RANGE, From::Decoys)?;
    sweeps("nmap -sS -D", &["-sS"], RANGE, From::Decoys)
}

fn nmap_that_connects_does_not_open_the_gate() -> Tried {
    sweeps("nmap -sT -r", &["-sT", "-r"], RANGE, From::Kernel)?;
    sweeps("nmap -sT", &["-sT"], RANGE, From::Kernel)
}

/// All sweepers speak IPv4, and half of those who knock meanwhile.
fn sweeper(run: usize) -> IpAddr {
    person(4 * run)
}

fn honest(run: usize) -> IpAddr {
    if run.is_multiple_of(2) {
        person(4 * run + 2)
    } else {
        person(4 * run + 1)
    }
}

/// Nobody's.
fn decoys(run: usize) -> [Ipv4Addr; 2] {
    let run = u32::try_from(run).expect("a small number");
    let first = Ipv4Addr::new(10, 0, 100, 0).to_bits() + 2 * run;
    [first, first + 1].map(Ipv4Addr::from_bits)
}

/// A hundred sweeps: nobody gets in but those who knock.
fn sweeps(name: &str, arguments: &[&str], ports: &str, from: From) -> Tried {
    let world = World::new(4 * EACH)?;
    let before = world.packets("foreign")?;
    for run in 0..EACH {
        let knocker = honest(run);
        let knock = |port| world.sending(|it| it.knock(knocker, server_of(knocker), &[port]));
        let [first, second] = KNOCK;
        knock(first)?;
        sweep(&world, run, arguments, ports, from)?;
        knock(second)?;
    }
    let heard = world.packets("foreign")? - before;
    let least = 3 * u64::try_from(EACH)?;
    assert!(heard >= least, "the daemon heard {heard} packets of {name}");
    let wanted: HashSet<IpAddr> = (0..EACH).map(honest).collect();
    let accepted = world.accepted()?;
    let open: Vec<_> = accepted.difference(&wanted).collect();
    let shut: Vec<_> = wanted.difference(&accepted).collect();
    row(
        name,
        &format!(
            "{EACH} sweeps: {} opened; {} of {EACH} who knocked meanwhile got in",
            open.len(),
            EACH - shut.len()
        ),
    );
    assert!(open.is_empty(), "{name}: {open:?} are accepted");
    assert!(shut.is_empty(), "{name}: {shut:?} knocked and are not");
    Ok(())
}

fn sweep(world: &World, run: usize, arguments: &[&str], ports: &str, from: From) -> Tried {
    let source = sweeper(run);
    let mut nmap = world.clients.command("nmap")?;
    nmap.args(["-n", "-Pn", "--max-retries", "0", "--min-rate", "2000"]);
    nmap.args(["-p", ports]).args(arguments);
    match from {
        From::Kernel => {
            let mut route = world.clients.command("ip")?;
            let to = server_of(source).to_string();
            route.args(["route", "replace", &to, "dev", "eth0", "src"]);
            finish(route.arg(source.to_string()))?;
        }
        From::Sweeper | From::Decoys => {
            nmap.args(["-e", "eth0", "-S", &source.to_string()]);
        }
    }
    if from == From::Decoys {
        let [before, after] = decoys(run);
        nmap.arg("-D").arg(format!("{before},ME,{after}"));
    }
    finish(nmap.arg(server_of(source).to_string()))
}

fn finish(command: &mut Command) -> Tried {
    let finished = run_bounded(command, &std::env::temp_dir(), Duration::from_secs(60))?;
    assert!(finished.status.success(), "{finished:?}");
    Ok(())
}
