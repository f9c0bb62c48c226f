//! nmap's sweeps, each from an address of its own: SYN scans through a raw socket, connect scans
//! with the kernel's, in ascending and in nmap's random order.

use std::net::IpAddr;
use std::time::Duration;

use portcullis::lab::run_bounded;

use crate::world::{World, person, server_of};
use crate::{Scenario, Tried, row};

pub(crate) const SCENARIOS: &[Scenario] =
    &[("nmap_does_not_open_the_gate", nmap_does_not_open_the_gate)];

/// What it is called, its arguments, and the ports.
const SCANS: [(&str, &[&str], &str); 4] = [
    ("nmap -sS -r", &["-sS", "-r"], "1200-1240"),
    ("nmap -sS", &["-sS"], "1200-1240"),
    (
        "nmap -sS -r, around the knock ports",
        &["-sS", "-r"],
        "1222-1233",
    ),
    ("nmap -sS, around the knock ports", &["-sS"], "1217-1238"),
];

/// Of each scan; an nmap takes a fifth of a second, mostly for its start.
const RUNS: usize = 25;

fn nmap_does_not_open_the_gate() -> Tried {
    // Half of the addresses are of the other family.
    let world = World::new(2 * SCANS.len() * RUNS + 4)?;
    let mut wrong = Vec::new();
    for (kind, (name, arguments, ports)) in SCANS.iter().enumerate() {
        let sources: Vec<IpAddr> = (0..RUNS)
            .map(|run| person(2 * (kind * RUNS + run)))
            .collect();
        for source in &sources {
            scan(&world, *source, arguments, ports)?;
        }
        wrong.extend(opened(&world, name, &sources)?);
    }
    // The kernel connects from its first address, which is a scanner by now, and it stays one.
    for (name, arguments) in [("nmap -sT -r", &["-sT", "-r"][..]), ("nmap -sT", &["-sT"])] {
        let mut command = world.clients.command("nmap")?;
        command
            .args(["-n", "-Pn", "-p", "1200-1240"])
            .args(arguments);
        command.arg("10.0.0.1");
        finish(&world, &mut command)?;
        wrong.extend(opened(&world, name, &[person(0)])?);
    }
    assert!(wrong.is_empty(), "{wrong:?} are accepted");
    Ok(())
}

fn scan(world: &World, source: IpAddr, arguments: &[&str], ports: &str) -> Tried {
    let mut command = world.clients.command("nmap")?;
    command
        .args([
            "-n",
            "-Pn",
            "--max-retries",
            "0",
            "--min-rate",
            "2000",
            "-e",
            "eth0",
        ])
        .args(["-S", &source.to_string(), "-p", ports])
        .args(arguments)
        .arg(server_of(source).to_string());
    finish(world, &mut command)
}

fn finish(world: &World, command: &mut std::process::Command) -> Tried {
    let dir = std::env::temp_dir();
    let before = world.packets("foreign")?;
    let finished = run_bounded(command, &dir, Duration::from_secs(60))?;
    assert!(finished.status.success(), "{finished:?}");
    let heard = world.packets("foreign")? - before;
    assert!(
        heard >= 3,
        "the daemon heard {heard} packets of {command:?}"
    );
    Ok(())
}

fn opened(
    world: &World,
    name: &str,
    sources: &[IpAddr],
) -> Result<Vec<IpAddr>, Box<dyn std::error::Error>> {
    let accepted = world.accepted()?;
    let open = sources.iter().filter(|source| accepted.contains(*source));
    let open: Vec<IpAddr> = open.copied().collect();
    row(
        name,
        &format!("{} sweeps: {} opened", sources.len(), open.len()),
    );
    Ok(open)
}
