//! `knockctl`: what it does, says, and ends with.

use std::time::Duration;

use portcullis::lab::Daemon;

use crate::scenarios;
use crate::world::{
    AT_ONCE, DECOY, Family, POLICY, TRUSTED, Tried, World, backend, long_policy, programs,
};

scenarios![
    accept_lets_in_and_list_says_why,
    accepting_a_banned_address_exits_4_unless_forced,
    drop_shuts_out_and_unban_ends_it,
    drop_for_a_time,
    flush_of_an_address_withdraws_its_acceptance_and_no_ban,
    flush_filter_banned_and_all,
    open_lets_everybody_but_the_banned_in,
    open_for_a_time,
    several_addresses_at_once,
    asking_for_what_already_holds_is_success,
    untrust_is_logged_once,
    list_takes_a_chain,
    status_says_what_there_is,
    bad_input_exits_2,
    without_a_daemon_it_exits_3,
];

fn accept_lets_in_and_list_says_why() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        world.expect(0, &["accept", &person.address, "--for", "30s"]);
        person.gets_in();
        let member = world.await_member("ssh_filter", &person.address);
        assert!(
            member
                .left
                .is_some_and(|left| (20.0..=30.0).contains(&left)),
            "{member:?}"
        );
        assert!(member.reason.contains("knockctl"), "{member:?}");
    }
    let table = world.expect(0, &["list"]).stdout;
    assert!(
        table.contains("192.0.2.10") && table.contains("ssh_filter"),
        "{table}"
    );
    Ok(())
}

fn accepting_a_banned_address_exits_4_unless_forced() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
        let reply = world.expect(4, &["accept", &person.address]);
        assert!(
            reply.stderr.contains("decoy"),
            "the ban is named: {reply:?}"
        );
        person.is_refused();
        world.expect(0, &["accept", &person.address, "--force"]);
        person.gets_in();
        assert!(world.member("ssh_banned", &person.address).is_none());
    }
    Ok(())
}

fn drop_shuts_out_and_unban_ends_it() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for person in world.people(10)? {
        person.opens();
        world.expect(0, &["drop", &person.address]);
        person.is_refused();
        let ban = world.await_member("ssh_banned", &person.address);
        assert!(
            ban.left.is_none() && ban.reason.contains("knockctl"),
            "{ban:?}"
        );
        world.expect(0, &["unban", &person.address]);
        person.is_refused();
        person.opens();
    }
    Ok(())
}

fn drop_for_a_time() -> Tried {
    let world = World::new()?;
    let person = world.person(Family::V4, 10)?;
    world.expect(0, &["drop", &person.address, "--for", "1h"]);
    let left = world.await_member("ssh_banned", &person.address).left;
    assert!(
        left.is_some_and(|left| (3500.0..=3600.0).contains(&left)),
        "{left:?}"
    );
    Ok(())
}

fn flush_of_an_address_withdraws_its_acceptance_and_no_ban() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for family in Family::BOTH {
        let [person, banned, other] = [10, 11, 12].map(|number| world.person(family, number));
        let (person, banned, other) = (person?, banned?, other?);
        person.opens();
        other.opens();
        world.expect(0, &["drop", &banned.address]);
        world.expect(0, &["flush", &person.address]);
        person.is_refused();
        other.gets_in();
        world.expect(0, &["flush", &banned.address]);
        assert!(world.member("ssh_banned", &banned.address).is_some());
    }
    Ok(())
}

fn flush_filter_banned_and_all() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let accepted = world.people(10)?;
    let banned = world.people(11)?;
    let fill = || {
        for (a, b) in accepted.iter().zip(&banned) {
            world.expect(0, &["accept", &a.address]);
            world.expect(0, &["drop", &b.address]);
        }
    };
    let counts =
        || ["ssh_filter", "ssh_banned", "ssh_trusted"].map(|chain| world.members(chain).len());
    fill();
    assert_eq!(counts(), [2, 2, 2]);
    world.expect(0, &["flush", "filter"]);
    assert_eq!(counts(), [0, 2, 2]);
    fill();
    world.expect(0, &["flush", "banned"]);
    assert_eq!(counts(), [2, 0, 2]);
    fill();
    world.expect(0, &["open"]);
    world.expect(0, &["flush", "all"]);
    assert_eq!(counts(), [0, 0, 2]);
    for person in &accepted {
        person.is_refused();
    }
    for person in world.people(50)? {
        person.gets_in();
    }
    Ok(())
}

fn open_lets_everybody_but_the_banned_in() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let (strangers, banned) = (world.people(10)?, world.people(11)?);
    for person in &banned {
        person.knocks(DECOY);
    }
    for person in &banned {
        world.await_member("ssh_banned", &person.address);
    }
    for person in &strangers {
        person.is_refused();
    }
    world.expect(0, &["open"]);
    for person in &strangers {
        person.gets_in();
    }
    for person in &banned {
        person.is_refused();
    }
    world.expect(0, &["close"]);
    for person in &strangers {
        person.is_refused();
    }
    Ok(())
}

fn open_for_a_time() -> Tried {
    let world = World::new()?;
    let people = world.people(10)?;
    world.expect(0, &["open", "--for", "1s"]);
    for person in &people {
        person.gets_in();
    }
    for person in &people {
        person.is_refused_within(Duration::from_millis(2500));
    }
    // Somebody accepted meanwhile stays so.
    world.expect(0, &["open", "--for", "60s"]);
    world.expect(0, &["accept", &people[0].address, "--for", "60s"]);
    world.expect(0, &["close"]);
    people[0].gets_in();
    people[1].is_refused();
    Ok(())
}

fn several_addresses_at_once() -> Tried {
    let world = World::new()?;
    let [a, b] = world.people(10)?;
    world.expect(0, &["accept", &a.address, &b.address, "--for", "60s"]);
    a.gets_in();
    b.gets_in();
    world.expect(0, &["drop", &a.address, &b.address]);
    a.is_refused();
    b.is_refused();
    world.expect(0, &["unban", &a.address, &b.address]);
    assert!(world.members("ssh_banned").is_empty());
    Ok(())
}

fn asking_for_what_already_holds_is_success() -> Tried {
    let world = World::new()?;
    let address = Family::V4.address(10);
    for arguments in [
        &["unban", address.as_str()][..],
        &["flush", &address],
        &["flush", "all"],
        &["close"],
        &["drop", &address],
        &["drop", &address],
        &["untrust", "198.51.100.7"],
        &["trust", "192.0.2.50"],
    ] {
        world.expect(0, arguments);
    }
    let said = |arguments: &[&str]| world.expect(0, arguments).stdout;
    for (arguments, expected) in [
        (
            &["unban", "192.0.2.98", "192.0.2.99"][..],
            "192.0.2.98 is not banned\n192.0.2.99 is not banned\n",
        ),
        (&["flush", "192.0.2.99"], "192.0.2.99 is not accepted\n"),
        (
            &["untrust", "9.9.9.9", "host.example"],
            "9.9.9.9 is not trusted\nhost.example is not trusted\n",
        ),
        (
            &["untrust", "9.9.9.9", "--runtime"],
            "9.9.9.9 is not trusted\n",
        ),
        (&["flush", "filter"], "nothing to do\n"),
    ] {
        assert_eq!(said(arguments), expected);
    }
    world.expect(0, &["trust", "9.9.9.9"]);
    let both = said(&["untrust", "9.9.9.9", "9.9.9.8"]);
    assert_eq!(
        both,
        "9.9.9.9 taken off the whitelist\n9.9.9.8 is not trusted\n"
    );
    world.expect(0, &["trust", "9.9.9.9", "--runtime"]);
    let held = said(&["untrust", "9.9.9.9"]);
    assert_eq!(held, "9.9.9.9 no longer trusted\n");
    Ok(())
}

fn untrust_is_logged_once() -> Tried {
    let world = World::new()?;
    world.expect(0, &["trust", "9.9.9.9", "9.9.9.8", "9.9.9.7", "--runtime"]);
    world.expect(0, &["trust", "9.9.9.8"]);
    let all = ["untrust", "9.9.9.9", "9.9.9.8", "9.9.9.6"];
    let answered = world.expect(0, &all).stdout;
    // The log is written in order: what comes later comes behind.
    world.expect(0, &["untrust", "9.9.9.7", "--runtime"]);
    world.daemon.await_log("9.9.9.7 no longer trusted", 1)?;
    let log = world.daemon.log();
    for said in [
        "9.9.9.9 no longer trusted",
        "9.9.9.8 taken off the whitelist",
        "9.9.9.8 no longer trusted",
        "9.9.9.7 no longer trusted",
    ] {
        assert_eq!(log.matches(said).count(), 1, "{said} in {log}");
        assert!(said.contains("9.9.9.7") || answered.contains(said));
    }
    Ok(())
}

fn list_takes_a_chain() -> Tried {
    let world = World::new()?;
    let [accepted, banned] = [Family::V4.address(10), Family::V4.address(11)];
    world.expect(0, &["accept", &accepted, "--for", "60s"]);
    world.expect(0, &["drop", &banned]);
    for (word, address) in [
        ("accepted", accepted),
        ("banned", banned),
        ("trusted", Family::V4.address(50)),
    ] {
        let list = world.json(&["list", word]);
        let entries = list["entries"].as_array().ok_or("no entries")?;
        let found = entries
            .iter()
            .any(|entry| entry["address"] == address.as_str());
        assert!(found, "{address} in {word}: {list}");
        let chains: Vec<_> = entries.iter().map(|entry| &entry["chain"]).collect();
        assert!(chains.iter().all(|chain| *chain == chains[0]), "{list}");
    }
    Ok(())
}

fn status_says_what_there_is() -> Tried {
    let world = World::new()?;
    let status = world.json(&["status"]);
    assert_eq!(status["backend"], *backend(), "{status}");
    assert!(status["state"].is_string(), "{status}");
    assert!(status["uptime_s"].is_number(), "{status}");
    assert!(status["gates"].to_string().contains("ssh"), "{status}");
    assert!(world.expect(0, &["status"]).stdout.contains(&backend()));
    world.expect(0, &["ping"]);
    Ok(())
}

fn bad_input_exits_2() -> Tried {
    let world = World::new()?;
    for (arguments, hint) in [
        (&["accept", "999.1.1.1"][..], "999.1.1.1"),
        (&["accept", "example.org"], "trust"),
        (&["accept", "192.0.2.10/24"], "192.0.2.10/24"),
        (&["accept", "192.0.2.10", "--for", "300"], "300s"),
        (&["accept", "192.0.2.10", "--gate", "mail"], "mail"),
        (&["accept"], ""),
        (&["drop", "192.0.2.300"], "192.0.2.300"),
        (&["flush", "everything"], "everything"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let reply = world.expect(2, arguments);
        assert!(reply.stderr.contains(hint), "{arguments:?}: {reply:?}");
    }
    assert!(world.members("ssh_filter").is_empty());
    Ok(())
}

fn without_a_daemon_it_exits_3() -> Tried {
    let mut world = World::new()?;
    world.daemon.kill_9();
    // The socket is there, and nobody behind it.
    let reply = world.expect(3, &["status"]);
    assert!(reply.stderr.contains("not running"), "{reply:?}");
    // Not even a socket.
    let absent = Daemon::prepare(&world.lab, &world.server, &programs(), POLICY, TRUSTED)?;
    assert_eq!(absent.ctl(&["ping"])?.code, Some(3));
    world.daemon.start()?;
    let started = std::time::Instant::now();
    world.expect(0, &["ping"]);
    assert!(started.elapsed() < AT_ONCE);
    Ok(())
}
