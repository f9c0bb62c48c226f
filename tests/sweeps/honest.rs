//! Traffic that must not be punished, a hundred of each kind.

use std::io;
use std::net::IpAddr;

use crate::kinds::KNOCK;
use crate::sender::Sender;
use crate::world::{World, person, server_of};
use crate::{EACH, Scenario, Tried, row};

pub(crate) const SCENARIOS: &[Scenario] = &[(
    "honest_traffic_is_not_punished",
    honest_traffic_is_not_punished,
)];

/// What is done from an address; how many packets of it the kernel's filter lets through.
type Traffic = fn(&mut Sender, IpAddr) -> io::Result<u64>;

const TRAFFIC: [(&str, Traffic); 6] = [
    ("a browser's double connections", browser),
    ("Happy Eyeballs", happy_eyeballs),
    (
        "ssh's retransmissions, knock ports dropped",
        retransmissions,
    ),
    ("a web page between two knocks", web_page),
    ("a neighbour touches three closed ports", neighbour),
    ("nc … & in parallel, tried again", parallel),
];

/// Two or three connections to each port at once, of which the last is tried again.
fn browser(sender: &mut Sender, from: IpAddr) -> io::Result<u64> {
    let to = server_of(from);
    for port in KNOCK {
        let first = sender.fresh(port);
        sender.send(from, to, first)?;
        sender.knock(from, to, &[port, port])?;
        sender.send(from, to, first)?;
    }
    Ok(8)
}

/// Both families at once, each connection tried again; the other family's is somebody else.
fn happy_eyeballs(sender: &mut Sender, from: IpAddr) -> io::Result<u64> {
    let to = server_of(from);
    for port in KNOCK {
        let (one, two) = (sender.fresh(port), sender.fresh(port));
        for syn in [one, two, one, two] {
            sender.send(from, to, syn)?;
        }
    }
    Ok(8)
}

/// Nothing answers, so that every SYN comes again and again, also after the next knock.
fn retransmissions(sender: &mut Sender, from: IpAddr) -> io::Result<u64> {
    let to = server_of(from);
    let ssh = sender.fresh(22);
    let [first, second] = KNOCK.map(|port| sender.fresh(port));
    for syn in [
        ssh, first, first, ssh, second, first, ssh, second, first, ssh,
    ] {
        sender.send(from, to, syn)?;
    }
    Ok(6)
}

fn web_page(sender: &mut Sender, from: IpAddr) -> io::Result<u64> {
    let page = [80, 443, 443, 443, 443, 80];
    let all = [&KNOCK[..1], &page, &KNOCK[1..], &page].concat();
    sender.knock(from, server_of(from), &all)?;
    Ok(2)
}

fn neighbour(sender: &mut Sender, from: IpAddr) -> io::Result<u64> {
    let all = [3306, KNOCK[0], 8080, 5432, KNOCK[1]];
    sender.knock(from, server_of(from), &all)?;
    Ok(5)
}

/// Whichever is faster: the wrong order first.
fn parallel(sender: &mut Sender, from: IpAddr) -> io::Result<u64> {
    let [first, second] = KNOCK;
    let all = [second, first, second, first, first, second];
    sender.knock(from, server_of(from), &all)?;
    Ok(6)
}

fn honest_traffic_is_not_punished() -> Tried {
    let world = World::new(TRAFFIC.len() * EACH)?;
    let mut sent = 0;
    for (kind, (_, traffic)) in TRAFFIC.iter().enumerate() {
        // Not more at once than the daemon takes in calmly: all of them change the firewall.
        for some in (0..EACH).collect::<Vec<_>>().chunks(20) {
            sent += world.sending(|sender| {
                let people = some.iter().map(|number| person(kind * EACH + number));
                people
                    .map(|from| traffic(sender, from))
                    .sum::<io::Result<u64>>()
            })?;
            world.await_heard(sent)?;
        }
    }
    let accepted = world.accepted()?;
    let mut all = true;
    for (kind, (name, _)) in TRAFFIC.iter().enumerate() {
        let people = (kind * EACH..(kind + 1) * EACH).map(person);
        let open = people.filter(|person| accepted.contains(person)).count();
        row(name, &format!("{open} of {EACH} opened"));
        all &= open == EACH;
    }
    assert!(
        all,
        "somebody honest was punished:\n{}",
        world.daemon.log_tail(20)
    );
    Ok(())
}
