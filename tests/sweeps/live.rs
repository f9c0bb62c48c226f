//! Sweeps by a raw socket against the real daemon, while others knock.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use portcullis::lab::Client;

use crate::kinds::{KINDS, KNOCK};
use crate::world::{World, person, server_of};
use crate::{EACH, Scenario, Tried, row};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "no_sweep_opens_while_every_honest_knock_does",
        no_sweep_opens_while_every_honest_knock_does,
    ),
    (
        "packets_to_ports_that_listen_stay_out_of_user_space",
        packets_to_ports_that_listen_stay_out_of_user_space,
    ),
];

/// So many packets fit into what the daemon has not looked at yet, many times over.
const AT_ONCE: u64 = 200;

fn no_sweep_opens_while_every_honest_knock_does() -> Tried {
    let sweepers = KINDS.len() * EACH;
    let world = World::new(sweepers + EACH)?;
    let honest: Vec<Client> = (sweepers..sweepers + EACH)
        .map(|number| world.clients.client(&person(number).to_string()))
        .collect::<Result<_, _>>()?;
    let knock = KNOCK.map(|port| port.to_string());
    let knock = [knock[0].as_str(), knock[1].as_str()];
    let mut opened = 0_u64;
    // Every honest one knocks and connects in the middle of seven sweeps.
    let mut sent: u64 = 0;
    for (number, client) in honest.iter().enumerate() {
        let lists: Vec<(IpAddr, Vec<u16>)> = KINDS
            .iter()
            .enumerate()
            .map(|(kind, (_, ports, _))| (person(kind * EACH + number), ports(number)))
            .collect();
        let longest = lists
            .iter()
            .map(|(_, ports)| ports.len())
            .max()
            .unwrap_or(0);
        let some = |from: usize, to: usize| {
            // One packet of each sweep after the other.
            let mut packets = Vec::new();
            for place in from..to {
                for (source, ports) in &lists {
                    packets.extend(ports.get(place).map(|&port| (*source, port)));
                }
            }
            packets
        };
        for (packets, then_knock) in [
            (some(0, longest / 2), true),
            (some(longest / 2, longest), false),
        ] {
            for some in packets.chunks(usize::try_from(AT_ONCE)?) {
                world.sending(|sender| {
                    some.iter().try_for_each(|&(source, port)| {
                        sender.knock(source, server_of(source), &[port])
                    })
                })?;
            }
            // Ports that listen are not heard.
            let heard = packets
                .iter()
                .filter(|(_, port)| ![22, 80, 443].contains(port));
            sent += heard.count() as u64;
            if then_knock {
                let gate = match server_of(client.source()) {
                    IpAddr::V4(v4) => format!("{v4}:22"),
                    IpAddr::V6(v6) => format!("[{v6}]:22"),
                };
                client.knock_until_open(&gate, &knock, Duration::from_secs(5))?;
                opened += 1;
                sent += KNOCK.len() as u64;
            }
        }
        world.await_heard(sent)?;
    }
    let expected: HashSet<IpAddr> = honest.iter().map(Client::source).collect();
    let accepted = world.accepted()?;
    tell(&world, &accepted);
    row(
        "honest knocks meanwhile",
        &format!("{opened} of {EACH} opened"),
    );
    assert_eq!(accepted, expected, "nobody but the honest is accepted");
    // The log leaves lines out where there are many; this counts all.
    let by_luck = world.completed("opencloseSSH")? - opened;
    let most: usize = KINDS.iter().map(|(.., luck)| luck).sum();
    row("sweeps that knocked, of all kinds", &by_luck.to_string());
    assert!(
        by_luck <= most as u64,
        "{by_luck} of {sweepers} sweeps knocked"
    );
    Ok(())
}

/// What became of each kind of sweep.
fn tell(world: &World, accepted: &HashSet<IpAddr>) {
    let log = world.daemon.log();
    for (kind, (name, _, luck)) in KINDS.iter().enumerate() {
        let sources: Vec<IpAddr> = (kind * EACH..(kind + 1) * EACH).map(person).collect();
        let open = sources.iter().filter(|source| accepted.contains(*source));
        let open = open.count();
        let undone = sources
            .iter()
            .filter(|source| log.contains(&format!("{source}: opencloseSSH: undone")))
            .count();
        row(
            name,
            &format!(
                "{EACH} sweeps: {open} opened, {undone} knocked before it showed, and were undone"
            ),
        );
        assert!(undone <= *luck, "{name}: {undone}");
    }
}

fn packets_to_ports_that_listen_stay_out_of_user_space() -> Tried {
    let world = World::new(4)?;
    let before = world.packets("seen")?;
    world.sending(|sender| {
        for number in 0..4 {
            let source = person(number);
            for _ in 0..50 {
                sender.knock(source, server_of(source), &[80, 443, 22])?;
            }
            // Nothing listens there.
            sender.knock(source, server_of(source), &[81])?;
        }
        Ok(())
    })?;
    world.await_heard(4)?;
    let seen = world.packets("seen")? - before;
    row(
        "604 packets, 600 of them to ports that listen",
        &format!("{seen} passed the kernel's filter"),
    );
    assert_eq!(seen, 4);
    Ok(())
}
