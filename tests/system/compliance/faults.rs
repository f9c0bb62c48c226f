//! What ours does otherwise on purpose.

use std::time::Duration;

use portcullis::lab::{LabError, await_some, run_bounded};

use super::{DOOR, KNOCKS, Outcome, SERVER, Side, TIMED, TIMED_KNOCKS, Whose, both, listens};
use crate::cases;
use crate::programs;
use crate::world::{AT_ONCE, Tried};

cases![
    two_at_once_get_in_with_ours_alone,
    a_second_door_can_be_knocked_at_meanwhile_with_ours_alone,
    a_syn_that_was_sent_twice_is_no_fault_to_ours,
    a_sweep_opens_theirs_alone,
    a_door_stays_open_when_theirs_is_killed_and_ours_closes_it,
    an_address_that_comes_later_is_knocked_at_with_ours_alone,
    an_interface_that_goes_ends_theirs_alone,
    every_interface_is_heard_by_ours_alone,
];

const FAULT: &str = "a fault of theirs";

/// That of DOOR.
fn open(source: &str) -> String {
    format!("open {source}\n")
}

fn two_at_once_get_in_with_ours_alone() -> Tried {
    // An attempt that ends throws away others'.
    let [theirs, (ours, rules)] = both(DOOR, |side| {
        side.knocks_from("192.0.2.10", SERVER, &["7000", "8000:udp"]);
        side.knocks_from("192.0.2.11", SERVER, &["7000", "8000:udp"]);
        side.knocks_from("192.0.2.10", SERVER, &["9000"]);
        side.knocks_from("192.0.2.11", SERVER, &["9000"]);
        side.noted(1)
    })?;
    assert_eq!((theirs.0.lines().count(), theirs.1), (1, 1), "{FAULT}");
    let mut ours: Vec<&str> = ours.lines().collect();
    ours.sort_unstable();
    assert_eq!(ours, ["open 192.0.2.10", "open 192.0.2.11"]);
    assert_eq!(rules, 2);
    Ok(())
}

fn a_second_door_can_be_knocked_at_meanwhile_with_ours_alone() -> Tried {
    // "While one attempt lives no other door can start."
    let other = "[other]\n    Sequence = 7100,8100\n    TCPFlags = syn\n    Command = echo other >> \
                 NOTES\n";
    let [theirs, ours] = both(&format!("{DOOR}{other}"), |side| {
        side.knocks(&["7000"]);
        side.knocks(&["7100", "8100"]);
        side.noted(0)
    })?;
    assert_eq!(theirs, (String::new(), 0), "{FAULT}");
    assert_eq!(ours, ("other\n".to_owned(), 0));
    Ok(())
}

fn a_syn_that_was_sent_twice_is_no_fault_to_ours() -> Tried {
    // As when a client opens two connections to each port.
    let [theirs, ours] = both(DOOR, |side| {
        side.knocks(&["7000", "8000:udp", "8000:udp", "9000"]);
        side.noted(0)
    })?;
    assert_eq!(theirs, (String::new(), 0), "{FAULT}");
    assert_eq!(ours, (open("192.0.2.10"), 1));
    Ok(())
}

fn a_sweep_opens_theirs_alone() -> Tried {
    let config = DOOR.replace("8000:udp", "8000");
    let [theirs, ours] = both(&config, |side| {
        let mut nmap = side.clients.command(programs::path("nmap")).expect("nmap");
        nmap.args(["-n", "-Pn", "-sS", "-r", "--max-retries", "0", "-T5"]);
        nmap.args(["-p", "6950-7050,7990-8010,8990-9010", SERVER]);
        run_bounded(&mut nmap, side.lab.dir(), Duration::from_secs(30)).expect("it ends");
        side.noted(0)
    })?;
    assert_eq!(theirs, (open("192.0.2.10"), 1), "{FAULT}");
    assert_eq!(ours, (String::new(), 0));
    Ok(())
}

fn a_door_stays_open_when_theirs_is_killed_and_ours_closes_it() -> Tried {
    let [(_, theirs), (_, ours)] = both(TIMED, |side| {
        side.knocks(&TIMED_KNOCKS);
        side.soon_has_rules(1);
        side.kill_and_start_again().expect("it starts again");
        std::thread::sleep(Duration::from_secs(2));
        side.noted(0)
    })?;
    assert_eq!((theirs, ours), (1, 0), "{FAULT}");
    Ok(())
}

fn an_address_that_comes_later_is_knocked_at_with_ours_alone() -> Tried {
    let [theirs, ours] = both(DOOR, |side| {
        let added = side.server.add_addresses("eth0", &["192.0.2.3/24"]);
        added.expect("an address can be added");
        side.hang_up().expect("it is there");
        side.knocks_from("192.0.2.10", "192.0.2.3", &KNOCKS);
        side.noted(0)
    })?;
    assert_eq!(theirs, (String::new(), 0), "{FAULT}");
    assert_eq!(ours, (open("192.0.2.10"), 1));
    Ok(())
}

fn an_interface_that_goes_ends_theirs_alone() -> Tried {
    let config = DOOR.replace("Interface = eth0", "Interface = wan0");
    let gone = |whose| -> Result<Outcome<Option<i32>>, LabError> {
        let mut side = Side::start(whose, &config)?;
        side.server.delete_link("wan0")?;
        let ended = match whose {
            Whose::Theirs => Some(await_some("its end", AT_ONCE, || Ok(side.ended()))?),
            Whose::Ours => {
                side.noted(0);
                side.ended()
            }
        };
        if whose == Whose::Ours {
            // It waits, and hears what comes in when there is one again.
            let [there, here] = [["198.51.100.1/24"], ["198.51.100.10/24"]];
            side.lab
                .link(&side.server, "wan0", &there, &side.clients, "wan0", &here)?;
            listens(&side.server)?;
            side.knocks_from("198.51.100.10", "198.51.100.1", &KNOCKS);
            side.noted(1);
        }
        Ok((ended, side.rules().len()))
    };
    assert_eq!(gone(Whose::Theirs)?, (Some(0), 0), "{FAULT}");
    assert_eq!(gone(Whose::Ours)?, (None, 1));
    Ok(())
}

fn every_interface_is_heard_by_ours_alone() -> Tried {
    let config = DOOR.replace("Interface = eth0", "Interface = any");
    let [theirs, ours] = both(&config, |side| {
        side.knocks(&KNOCKS);
        side.noted(0);
        side.knocks_from("198.51.100.10", "198.51.100.1", &KNOCKS);
        side.noted(0)
    })?;
    assert_eq!(theirs, (String::new(), 0), "{FAULT}");
    let everywhere = [open("192.0.2.10"), open("198.51.100.10")].concat();
    assert_eq!(ours, (everywhere, 2));
    Ok(())
}
