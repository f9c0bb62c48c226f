//! "What a knock is", as far as it shows from outside.

use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis::lab::{ONE_SYN, Service, run_bounded};

use crate::scenarios;
use crate::world::{
    ACCEPT_TIME, AT_ONCE, Family, KNOCK, POLICY, Person, TRUSTED, Tried, World, goes_on,
    long_policy, port_at,
};

scenarios![
    the_gate_is_closed_to_strangers,
    a_knock_opens_to_the_knocker_alone,
    an_acceptance_ends_on_time_and_its_session_goes_on,
    knocking_again_restores_the_full_time,
    the_wrong_order_grants_nothing,
    another_knock_port_voids_the_attempt_and_may_start_it_anew,
    after_a_decoy_a_knock_counts_when_the_time_for_one_is_over,
    ports_that_are_no_knock_ports_do_not_disturb,
    a_slow_knock_grants_nothing,
    a_repeat_of_the_port_just_matched_is_ignored,
    repeating_the_first_port_starts_the_time_again,
    one_source_never_disturbs_another,
    sequences_run_side_by_side,
    udp_knocks_and_the_protocol_matters,
    knock_ports_count_whoever_listens_on_them,
    what_listens_since_the_last_reload_makes_nobody_a_scanner,
    a_sequence_of_one_port,
    a_knock_has_its_own_time,
    flush_open_and_close_by_knock,
    a_sweep_never_opens_a_gate,
    our_own_client_knocks,
];

fn the_gate_is_closed_to_strangers() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        person.is_refused();
        // Other ports are none of our business.
        assert_eq!(person.finds(23), "refused");
    }
    Ok(())
}

fn a_knock_opens_to_the_knocker_alone() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for (person, other) in world.people(10)?.into_iter().zip(world.people(11)?) {
        other.is_refused();
        goes_on(&mut person.opens());
        other.is_refused();
        let member = world.await_member("ssh_filter", &person.address);
        assert!(member.reason.contains("open"), "{member:?}");
        assert_eq!(member.gate, "ssh");
        assert!(
            member
                .left
                .is_some_and(|left| (50.0..=60.0).contains(&left)),
            "{member:?}"
        );
    }
    assert_eq!(world.members("ssh_filter").len(), 2);
    Ok(())
}

fn an_acceptance_ends_on_time_and_its_session_goes_on() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    let knocked = Instant::now();
    let mut sessions = [people[0].opens(), people[1].opens()];
    for (person, session) in people.iter().zip(&mut sessions) {
        person.is_refused_within(Duration::from_secs(4));
        assert!(
            knocked.elapsed() >= ACCEPT_TIME,
            "{} lost time",
            person.address
        );
        assert!(
            knocked.elapsed() < ACCEPT_TIME * 2,
            "{} gained time",
            person.address
        );
        goes_on(session);
    }
    assert!(world.members("ssh_filter").is_empty());
    Ok(())
}

fn knocking_again_restores_the_full_time() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    for person in &people {
        person.opens();
    }
    sleep(ACCEPT_TIME / 2);
    for person in &people {
        person.knocks(KNOCK);
    }
    world.all_is_handled()?;
    sleep(ACCEPT_TIME * 6 / 10);
    for person in &people {
        person.gets_in();
    }
    Ok(())
}

fn the_wrong_order_grants_nothing() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(&["1227", "1228"]);
    }
    world.all_is_handled()?;
    for person in &people {
        person.is_refused();
    }
    // 1228 was the beginning of an attempt all the same.
    for person in &people {
        person.opens_with(&["1227"], 22);
    }
    Ok(())
}

fn another_knock_port_voids_the_attempt_and_may_start_it_anew() -> Tried {
    let other = "  other: { sequence: [1240, 1241], seq_timeout: 1s, action: accept }\n";
    let world = World::with(&format!("{}\n{other}", POLICY.trim_end()), TRUSTED)?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(&["1228", "1240", "1227"]);
    }
    world.all_is_handled()?;
    for person in &people {
        person.is_refused();
    }
    for person in &people {
        person.opens_with(&["1228", "1240", "1228", "1227"], 22);
    }
    Ok(())
}

fn after_a_decoy_a_knock_counts_when_the_time_for_one_is_over() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(&["1226", "1228", "1227"]);
        person.knocks(&["1228", "1226", "1228", "1227"]);
    }
    world.all_is_handled()?;
    for person in &people {
        person.is_refused();
        assert!(world.member("ssh_filter", &person.address).is_none());
    }
    for person in &people {
        let gate = port_at(&person.server, 22);
        let started = Instant::now();
        while person
            .client
            .knock_until_open(&gate, KNOCK, ONE_SYN)
            .is_err()
        {
            assert!(
                started.elapsed() < 2 * AT_ONCE,
                "{} waits for ever",
                person.address
            );
        }
    }
    Ok(())
}

fn ports_that_are_no_knock_ports_do_not_disturb() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        person.opens_with(&["1228", "4000", "22", "1227"], 22);
    }
    Ok(())
}

fn a_slow_knock_grants_nothing() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(&["1228"]);
    }
    sleep(Duration::from_millis(1100));
    for person in &people {
        person.knocks(&["1227"]);
    }
    world.all_is_handled()?;
    for person in &people {
        person.is_refused();
    }
    Ok(())
}

fn a_repeat_of_the_port_just_matched_is_ignored() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        // As browsers knock: every connection twice.
        person.opens_with(&["1228", "1228", "1227", "1227"], 22);
    }
    Ok(())
}

fn repeating_the_first_port_starts_the_time_again() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    for _ in 0..2 {
        for person in &people {
            person.knocks(&["1228"]);
        }
        sleep(Duration::from_millis(700));
    }
    for person in &people {
        person.opens_with(&["1227"], 22);
    }
    Ok(())
}

fn one_source_never_disturbs_another() -> Tried {
    let world = World::new()?;
    for (person, other) in world.people(10)?.into_iter().zip(world.people(11)?) {
        person.knocks(&["1228"]);
        other.knocks(&["1227", "1220"]);
        person.opens_with(&["1227"], 22);
        world.all_is_handled()?;
        other.is_refused();
        assert!(world.member("ssh_banned", &other.address).is_none());
    }
    Ok(())
}

fn sequences_run_side_by_side() -> Tried {
    let policy = format!(
        "{POLICY}  long: {{ sequence: [1230, 1231, 1232], seq_timeout: 5s, action: accept }}\n"
    );
    let world = World::with(&policy, TRUSTED)?;
    for person in world.people(10)? {
        // The knock of one sequence is a foreign knock port to the other.
        person.knocks(&["1230", "1231", "1228", "1232"]);
        world.all_is_handled()?;
        person.is_refused();
        person.opens_with(&["1230", "1231", "1232"], 22);
    }
    Ok(())
}

fn udp_knocks_and_the_protocol_matters() -> Tried {
    let policy = format!(
        "{POLICY}  udp: {{ sequence: [2000/udp, \"2001:udp\", 2002], seq_timeout: 1s, action: accept }}\n"
    );
    let world = World::with(&policy, TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(&["2000", "2001", "2002"]);
        world.all_is_handled()?;
        person.is_refused();
        person.opens_with(&["2000/udp", "2001/udp", "2002"], 22);
    }
    Ok(())
}

fn knock_ports_count_whoever_listens_on_them() -> Tried {
    let world = World::with_services(POLICY, TRUSTED, &[22, 1228])?;
    for person in world.people(10)? {
        drop(person.gets_in_at(1228));
        person.opens_with(&["1227"], 22);
    }
    Ok(())
}

fn what_listens_since_the_last_reload_makes_nobody_a_scanner() -> Tried {
    let world = World::new()?;
    let ports = ["5001", "5002", "5003", "5004", "5005"];
    let services = (5001..=5005).map(|port| Service::start(&world.server, port));
    let services = services.collect::<Result<Vec<_>, _>>()?;
    let is_a_scanner = |number: u8| -> Tried {
        let person = world.person(Family::V4, number)?;
        person.knocks(&ports);
        person.knocks(KNOCK);
        world.all_is_handled()?;
        person.is_refused();
        Ok(())
    };
    // It is not looked at more often than every minute.
    is_a_scanner(10)?;
    world.expect(0, &["reload"]);
    let person = world.person(Family::V4, 11)?;
    person.knocks(&ports);
    person.opens();
    drop(services);
    world.expect(0, &["reload"]);
    is_a_scanner(12)
}

fn a_sequence_of_one_port() -> Tried {
    let policy =
        format!("{POLICY}  one: {{ sequence: [3000], seq_timeout: 1s, action: accept }}\n");
    let world = World::with(&policy, TRUSTED)?;
    for person in world.people(10)? {
        person.is_refused();
        person.opens_with(&["3000"], 22);
    }
    Ok(())
}

fn a_knock_has_its_own_time() -> Tried {
    let policy = format!(
        "{POLICY}  brief: {{ sequence: [3000, 3001], seq_timeout: 1s, action: accept, for: 1s }}
  ever: {{ sequence: [3002, 3003], seq_timeout: 1s, action: accept, for: never }}\n"
    );
    let world = World::with(&policy, TRUSTED)?;
    let [brief, ever] = [world.person(Family::V4, 10)?, world.person(Family::V4, 11)?];
    let knocked = Instant::now();
    brief.opens_with(&["3000", "3001"], 22);
    ever.opens_with(&["3002", "3003"], 22);
    assert!(
        world
            .await_member("ssh_filter", &ever.address)
            .left
            .is_none()
    );
    brief.is_refused_within(Duration::from_secs(3));
    assert!(
        knocked.elapsed() < ACCEPT_TIME,
        "it lasted {:?}",
        knocked.elapsed()
    );
    ever.gets_in();
    Ok(())
}

fn flush_open_and_close_by_knock() -> Tried {
    let policy = long_policy()
        + "  flush: { sequence: [3000, 3001], seq_timeout: 1s, action: flush }
  all: { sequence: [3002, 3003], seq_timeout: 1s, action: open }
  end: { sequence: [3004, 3005], seq_timeout: 1s, action: close }\n";
    let world = World::with(&policy, TRUSTED)?;
    for family in Family::BOTH {
        let [person, other] = [world.person(family, 10)?, world.person(family, 11)?];
        person.opens();
        other.opens();
        person.knocks(&["3000", "3001"]);
        person.is_refused_within(Duration::from_secs(3));
        // Its own acceptance only.
        other.gets_in();
        let stranger = world.person(family, 12)?;
        stranger.is_refused();
        person.knocks(&["3002", "3003"]);
        stranger.gets_in_soon(22);
        person.knocks(&["3004", "3005"]);
        stranger.is_refused_within(Duration::from_secs(3));
        other.gets_in();
    }
    Ok(())
}

fn a_sweep_never_opens_a_gate() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    // The knock ports last, and in the right order.
    let foreign: Vec<String> = (100..200).map(|port: u16| port.to_string()).collect();
    let ports: Vec<&str> = foreign
        .iter()
        .map(String::as_str)
        .chain(KNOCK.iter().copied())
        .collect();
    for (scanner, honest) in world.people(10)?.into_iter().zip(world.people(11)?) {
        scanner.knocks(&ports);
        scanner.knocks(KNOCK);
        scanner.is_refused();
        goes_on(&mut honest.opens());
        scanner.is_refused();
    }
    Ok(())
}

fn our_own_client_knocks() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    // A host with one address of each family, so that there is no choice of a source.
    let knocker = world.lab.host("knocker")?;
    let there = ["198.51.100.1/24", "2001:db8:1::1/64"];
    let own = ["198.51.100.10/24", "2001:db8:1::10/64"];
    world
        .lab
        .link(&world.server, "eth1", &there, &knocker, "eth0", &own)?;
    world.daemon.start()?;
    for (from, server) in [
        ("198.51.100.10", "198.51.100.1"),
        ("2001:db8:1::10", "2001:db8:1::1"),
    ] {
        let person = Person {
            client: knocker.client(from)?,
            server: server.to_owned(),
            address: from.to_owned(),
        };
        person.is_refused();
        let mut command = knocker.command(env!("CARGO_BIN_EXE_knock"))?;
        command.arg(server).args(KNOCK);
        let finished = run_bounded(&mut command, world.lab.dir(), AT_ONCE)?;
        assert!(finished.status.success(), "{finished:?}");
        person.gets_in_soon(22);
    }
    Ok(())
}
