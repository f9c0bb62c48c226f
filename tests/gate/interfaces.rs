//! Interfaces and addresses that come and go.

use crate::scenarios;
use crate::world::{Family, KNOCK, POLICY, Person, TRUSTED, Tried, World, connect, long_policy};

scenarios![
    an_interface_that_does_not_exist_yet_is_waited_for,
    knocks_on_other_interfaces_do_not_count,
    an_interface_that_vanishes_may_come_back,
    any_interface_includes_new_ones,
    a_new_address_of_ours_can_be_knocked,
    an_interface_that_goes_down_and_up,
];

const SECOND: [(&str, &str); 2] = [
    ("198.51.100.1", "198.51.100.10"),
    ("2001:db8:1::1", "2001:db8:1::10"),
];

/// A second wire between the two, on eth1.
fn second_wire(world: &World) -> Tried {
    let server = ["198.51.100.1/24", "2001:db8:1::1/64"];
    let client = ["198.51.100.10/24", "2001:db8:1::10/64"];
    world.lab.link(
        &world.server,
        "eth1",
        &server,
        &world.clients,
        "eth1",
        &client,
    )?;
    Ok(())
}

fn people_there(world: &World) -> Result<Vec<Person>, Box<dyn std::error::Error>> {
    let mut people = Vec::new();
    for (server, client) in SECOND {
        people.push(Person {
            client: world.clients.client(client)?,
            server: server.to_owned(),
            address: client.to_owned(),
        });
    }
    Ok(people)
}

fn an_interface_that_does_not_exist_yet_is_waited_for() -> Tried {
    let world = World::with(
        &POLICY.replace("interface: any", "interface: eth1"),
        TRUSTED,
    )?;
    world.daemon.await_log("eth1", 1)?;
    for person in world.people(10)? {
        person.is_refused();
    }
    second_wire(&world)?;
    for person in people_there(&world)? {
        person.is_refused();
        knocks_until_open(&person);
    }
    Ok(())
}

/// Knocks again until it opens, as a person would: the daemon has to notice the interface first.
#[track_caller]
fn knocks_until_open(person: &Person) {
    for _ in 0..200 {
        person.knocks(KNOCK);
        if person.finds(22) == "open" {
            return;
        }
    }
    panic!("{} does not get in", person.address);
}

fn knocks_on_other_interfaces_do_not_count() -> Tried {
    let policy = long_policy().replace("interface: any", "interface: [eth1, eth7]");
    let mut world = World::before(&policy, TRUSTED, &[22])?;
    second_wire(&world)?;
    world.daemon.start()?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(KNOCK);
    }
    for person in people_there(&world)? {
        person.opens();
    }
    // The gate itself is closed everywhere.
    for person in &people {
        person.is_refused();
    }
    Ok(())
}

fn an_interface_that_vanishes_may_come_back() -> Tried {
    for interface in ["any", "eth0"] {
        let policy = POLICY.replace("interface: any", &format!("interface: {interface}"));
        let mut world = World::with(&policy, TRUSTED)?;
        for person in world.people(10)? {
            person.opens();
        }
        world.server.delete_link("eth0")?;
        world.expect(0, &["ping"]);
        connect(&world.lab, &world.server, &world.clients)?;
        for person in world.people(11)? {
            person.is_refused();
            knocks_until_open(&person);
        }
        assert!(world.daemon.ended()?.is_none(), "the daemon ended");
    }
    Ok(())
}

fn any_interface_includes_new_ones() -> Tried {
    let world = World::new()?;
    second_wire(&world)?;
    for person in people_there(&world)? {
        person.is_refused();
        knocks_until_open(&person);
    }
    Ok(())
}

fn a_new_address_of_ours_can_be_knocked() -> Tried {
    let world = World::new()?;
    world
        .server
        .add_addresses("eth0", &["192.0.2.2/24", "2001:db8::2/64"])?;
    for (family, address) in [(Family::V4, "192.0.2.2"), (Family::V6, "2001:db8::2")] {
        let mut person = world.person(family, 10)?;
        person.server = String::from(address);
        person.is_refused();
        knocks_until_open(&person);
    }
    Ok(())
}

fn an_interface_that_goes_down_and_up() -> Tried {
    let world = World::with(
        &POLICY.replace("interface: any", "interface: eth0"),
        TRUSTED,
    )?;
    world.server.set_link("eth0", false)?;
    world.expect(0, &["ping"]);
    world.server.set_link("eth0", true)?;
    // IPv6 addresses go with the link: net.ipv6.conf.*.keep_addr_on_down is off.
    let person = world.person(Family::V4, 10)?;
    knocks_until_open(&person);
    Ok(())
}
