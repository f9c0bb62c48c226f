//! Several gates, and what a gate can be.

use crate::scenarios;
use crate::world::{DECOY, Family, KNOCK, POLICY, TRUSTED, Tried, World, goes_on};

scenarios![
    each_gate_has_its_knock,
    a_decoy_without_a_gate_bans_from_all,
    commands_take_gates,
    a_gate_of_many_ports,
    a_gate_on_one_address,
    once_means_one_connection,
    trusted_machines_pass_every_gate,
];

const TWO: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 60s, ban_timeout: never }
  web: { ports: [8443, 9000-9001], accept_timeout: 60s, ban_timeout: never }
knocks:
  ssh: { sequence: [1228, 1227], seq_timeout: 1s, action: accept, gate: ssh }
  web: { sequence: [1230, 1231], seq_timeout: 1s, action: accept, gate: web }
  both: { sequence: [1232, 1233], seq_timeout: 1s, action: accept, gate: all }
  list: { sequence: [1234, 1235], seq_timeout: 1s, action: accept, gate: [ssh, web] }
  decoy: { sequence: [1220, 1221], seq_timeout: 1s, action: drop }
";
const PORTS: &[u16] = &[22, 8443, 9000, 9001, 9002];

fn each_gate_has_its_knock() -> Tried {
    let world = World::with_services(TWO, TRUSTED, PORTS)?;
    for family in Family::BOTH {
        let people = [10, 11, 12, 13].map(|number| world.person(family, number));
        let [ssh, web, both, list] = people;
        let (ssh, web, both, list) = (ssh?, web?, both?, list?);
        ssh.opens_with(KNOCK, 22);
        ssh.is_refused_at(8443);
        web.opens_with(&["1230", "1231"], 8443);
        web.is_refused_at(22);
        for (person, knock) in [(both, ["1232", "1233"]), (list, ["1234", "1235"])] {
            person.opens_with(&knock, 22);
            person.gets_in_at(8443);
        }
    }
    assert_eq!(world.members("ssh_filter").len(), 6);
    assert_eq!(world.members("web_filter").len(), 6);
    Ok(())
}

fn a_decoy_without_a_gate_bans_from_all() -> Tried {
    let world = World::with_services(TWO, TRUSTED, PORTS)?;
    for person in world.people(10)? {
        person.opens_with(&["1232", "1233"], 22);
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
        world.await_member("web_banned", &person.address);
        person.is_refused_at(22);
        person.is_refused_at(8443);
    }
    Ok(())
}

fn commands_take_gates() -> Tried {
    let world = World::with_services(TWO, TRUSTED, PORTS)?;
    for person in world.people(10)? {
        let address = person.address.as_str();
        world.expect(0, &["accept", address, "--gate", "web"]);
        person.gets_in_at(8443);
        person.is_refused_at(22);
        world.expect(0, &["accept", address]);
        person.gets_in_at(22);
        world.expect(0, &["drop", address, "--gate", "ssh"]);
        person.is_refused_at(22);
        person.gets_in_at(8443);
        world.expect(4, &["accept", address, "--gate", "ssh"]);
        world.expect(0, &["flush", "all", "--gate", "ssh"]);
        assert!(world.members("ssh_banned").is_empty());
        person.gets_in_at(8443);
        world.expect(0, &["flush", "filter", "--gate", "web"]);
        person.is_refused_at(8443);
        world.expect(0, &["open", "--gate", "ssh"]);
        person.gets_in_at(22);
        person.is_refused_at(8443);
        world.expect(0, &["close"]);
        person.is_refused_at(22);
    }
    world.expect(2, &["accept", "192.0.2.10", "--gate", "nosuch"]);
    Ok(())
}

fn a_gate_of_many_ports() -> Tried {
    let world = World::with_services(TWO, TRUSTED, PORTS)?;
    for person in world.people(10)? {
        for port in [8443, 9000, 9001] {
            person.is_refused_at(port);
        }
        person.gets_in_at(9002);
        person.opens_with(&["1230", "1231"], 8443);
        for port in [9000, 9001] {
            person.gets_in_at(port);
        }
    }
    Ok(())
}

fn a_gate_on_one_address() -> Tried {
    let policy = POLICY.replace("ports: [22]", "ports: [22], address: 192.0.2.2");
    let mut world = World::before(&policy, TRUSTED, &[22])?;
    world.server.add_addresses("eth0", &["192.0.2.2/24"])?;
    world.daemon.start()?;
    let mut person = world.person(Family::V4, 10)?;
    // The host's other address is not guarded.
    person.gets_in();
    person.server = String::from("192.0.2.2");
    person.is_refused();
    person.opens();
    let mut other = world.person(Family::V4, 11)?;
    // Knocks on the host's other address count as well.
    other.knocks(KNOCK);
    other.server = String::from("192.0.2.2");
    other.gets_in_soon(22);
    Ok(())
}

fn once_means_one_connection() -> Tried {
    let policy = TWO.replace("ports: [22],", "ports: [22], once: true,");
    let world = World::with_services(&policy, TRUSTED, PORTS)?;
    for (person, trusted) in world.people(10)?.into_iter().zip(world.people(50)?) {
        let mut session = person.opens();
        person.is_refused();
        goes_on(&mut session);
        // The whitelist is not used up.
        trusted.gets_in();
        trusted.gets_in();
        person.opens();
        person.is_refused();
    }
    Ok(())
}

fn trusted_machines_pass_every_gate() -> Tried {
    let world = World::with_services(TWO, TRUSTED, PORTS)?;
    for person in world.people(50)? {
        for port in [22, 8443, 9001] {
            person.gets_in_at(port);
        }
    }
    world.expect(0, &["trust", "192.0.2.10", "--runtime", "--gate", "web"]);
    let guest = world.person(Family::V4, 10)?;
    guest.gets_in_at(8443);
    guest.is_refused_at(22);
    Ok(())
}
