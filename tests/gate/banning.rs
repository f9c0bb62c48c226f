//! Decoys, bans, and who cannot be banned.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::scenarios;
use crate::world::{
    DECOY, Family, KNOCK, POLICY, TRUSTED, Tried, World, at_once_after_decoys, goes_on, long_policy,
};

scenarios![
    a_decoy_bans_for_good,
    a_decoy_of_the_same_port_twice_needs_both,
    a_ban_ends_a_running_acceptance,
    the_knocks_of_a_banned_source_grant_nothing,
    a_ban_with_a_time_ends,
    the_second_decoy_bans_where_the_policy_says_so,
    the_next_ban_lasts_twice_as_long,
    an_open_session_survives_a_ban,
    cut_sessions_ends_them,
    a_trusted_machine_is_not_banned_by_its_knocks,
    dropping_a_trusted_address_exits_4_unless_forced,
    what_is_never_banned,
    a_network_with_a_trusted_machine_is_not_banned,
    a_network_can_be_banned,
];

const SOON: Duration = Duration::from_secs(3);

fn a_decoy_bans_for_good() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        person.knocks(DECOY);
        let ban = world.await_member("ssh_banned", &person.address);
        assert!(ban.left.is_none(), "{ban:?}");
        assert!(ban.reason.contains("decoy"), "{ban:?}");
        person.is_refused();
    }
    assert_eq!(world.members("ssh_banned").len(), 2);
    Ok(())
}

fn a_decoy_of_the_same_port_twice_needs_both() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        person.knocks(&["1226"]);
        world.all_is_handled()?;
        assert!(world.member("ssh_banned", &person.address).is_none());
        person.knocks(&["1226"]);
        let ban = world.await_member("ssh_banned", &person.address);
        assert!(ban.reason.contains("twice"), "{ban:?}");
    }
    Ok(())
}

fn a_ban_ends_a_running_acceptance() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for person in world.people(10)? {
        person.opens();
        person.knocks(DECOY);
        person.is_refused_within(SOON);
        world.await_member("ssh_banned", &person.address);
        assert!(world.member("ssh_filter", &person.address).is_none());
    }
    Ok(())
}

fn the_knocks_of_a_banned_source_grant_nothing() -> Tried {
    let world = World::with(&at_once_after_decoys(&long_policy()), TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(DECOY);
        person.knocks(KNOCK);
        world.all_is_handled()?;
        person.is_refused();
        assert!(world.member("ssh_filter", &person.address).is_none());
        // Nor do they wait for the ban's end.
        world.expect(0, &["unban", &person.address]);
        person.is_refused();
        person.opens();
    }
    Ok(())
}

fn a_ban_with_a_time_ends() -> Tried {
    let world = World::with(
        &POLICY.replace("ban_timeout: never", "ban_timeout: 1s"),
        TRUSTED,
    )?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(DECOY);
    }
    let started = Instant::now();
    for person in &people {
        world.await_member("ssh_banned", &person.address);
    }
    while !world.members("ssh_banned").is_empty() {
        assert!(started.elapsed() < SOON, "the ban does not end");
    }
    // The kernel counts in ticks (CONFIG_HZ), so that for it the ban may end a moment earlier than
    // for the daemon.
    sleep(Duration::from_millis(50));
    for person in &people {
        person.opens();
    }
    Ok(())
}

fn the_second_decoy_bans_where_the_policy_says_so() -> Tried {
    let policy = at_once_after_decoys(&long_policy());
    let policy = format!("ban: {{ after: 2, within: 1h }}\n{policy}");
    let world = World::with(&policy, TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(DECOY);
        person.opens();
        person.knocks(&["1226", "1226"]);
        let ban = world.await_member("ssh_banned", &person.address);
        assert_eq!(ban.reason, "twice");
        person.is_refused();
    }
    Ok(())
}

fn the_next_ban_lasts_twice_as_long() -> Tried {
    let policy = POLICY.replace("ban_timeout: never", "ban_timeout: 1s");
    let policy = format!("ban: {{ escalate: true, max: 600s }}\n{policy}");
    let world = World::with(&policy, TRUSTED)?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(DECOY);
    }
    world.daemon.await_log("banned at ssh, for 1s", 2)?;
    let started = Instant::now();
    while !world.members("ssh_banned").is_empty() {
        assert!(started.elapsed() < SOON, "the ban does not end");
    }
    // For the daemon it ends a moment later.
    sleep(Duration::from_millis(50));
    for person in &people {
        person.knocks(DECOY);
    }
    world.daemon.await_log("banned at ssh, for 2s", 2)?;
    for person in &people {
        person.is_refused();
    }
    Ok(())
}

fn an_open_session_survives_a_ban() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for person in world.people(10)? {
        let mut session = person.opens();
        person.knocks(DECOY);
        person.is_refused_within(SOON);
        goes_on(&mut session);
    }
    Ok(())
}

fn cut_sessions_ends_them() -> Tried {
    let policy = long_policy().replace("ban_timeout", "cut_sessions: true, ban_timeout");
    let world = World::with(&policy, TRUSTED)?;
    for (person, other) in world.people(10)?.into_iter().zip(world.people(11)?) {
        let (mut session, mut untouched) = (person.opens(), other.opens());
        world.expect(0, &["drop", &person.address]);
        // Silence until the time-out, or a reset: no echo in either case.
        assert!(!session.echoes("still here?").unwrap_or(false));
        goes_on(&mut untouched);
    }
    Ok(())
}

fn a_trusted_machine_is_not_banned_by_its_knocks() -> Tried {
    let world = World::new()?;
    for person in world.people(50)? {
        person.gets_in();
        person.knocks(DECOY);
        world.all_is_handled()?;
        person.gets_in();
    }
    assert!(world.members("ssh_banned").is_empty());
    Ok(())
}

fn dropping_a_trusted_address_exits_4_unless_forced() -> Tried {
    let mut world = World::new()?;
    for person in world.people(50)? {
        let reply = world.expect(4, &["drop", &person.address]);
        assert!(reply.stderr.contains(&person.address), "{reply:?}");
        person.gets_in();
        let address = person.address.as_str();
        for _ in 0..2 {
            let ends = format!("withdrawn until restart or `trust {address}`");
            let reply = world.expect(0, &["drop", address, "--force"]);
            assert!(reply.stdout.contains(&ends), "{reply:?}");
            person.is_refused();
            world.await_member("ssh_banned", address);
            let reply = world.expect(0, &["unban", address]);
            assert!(reply.stdout.contains(&ends), "{reply:?}");
            world.expect(0, &["reload"]);
            person.is_refused();
            let why = world.expect(0, &["why", address]).stdout;
            assert!(why.contains("withdrawn by a forced ban"), "{why}");
            let reply = world.expect(0, &["trust", address]);
            assert!(reply.stdout.contains("trusted again"), "{reply:?}");
            person.gets_in();
            let reply = world.expect(0, &["trust", address]);
            assert!(reply.stdout.contains("already"), "{reply:?}");
        }
        world.expect(0, &["drop", address, "--force"]);
        person.is_refused();
        world.await_member("ssh_banned", address);
    }
    // Trust is withdrawn until restart, too: the file says otherwise and wins, and ends the ban.
    world.daemon.terminate()?;
    world.daemon.start()?;
    for person in world.people(50)? {
        person.gets_in_soon(22);
        assert!(world.member("ssh_banned", &person.address).is_none());
    }
    Ok(())
}

fn what_is_never_banned() -> Tried {
    let policy = at_once_after_decoys(POLICY);
    let policy = format!("never_ban: [192.0.2.12/31, \"2001:db8::12/128\"]\n{policy}");
    let world = World::with(&policy, TRUSTED)?;
    for family in Family::BOTH {
        world.expect(4, &["drop", family.server()]);
        world.expect(4, &["drop", &family.address(12)]);
        let protected = world.person(family, 12)?;
        protected.knocks(DECOY);
        protected.opens();
    }
    assert!(world.members("ssh_banned").is_empty());
    world.expect(0, &["drop", &Family::V4.address(12), "--force"]);
    assert_eq!(world.members("ssh_banned").len(), 1);
    Ok(())
}

fn a_network_with_a_trusted_machine_is_not_banned() -> Tried {
    let world = World::new()?;
    world.expect(4, &["drop", "192.0.2.48/29"]);
    world.expect(4, &["drop", "2001:db8::/64"]);
    assert!(world.members("ssh_banned").is_empty());
    for person in world.people(50)? {
        person.gets_in();
    }
    Ok(())
}

fn a_network_can_be_banned() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for (family, net) in [
        (Family::V4, "192.0.2.12/31"),
        (Family::V6, "2001:db8::12/127"),
    ] {
        let (inside, outside) = (world.person(family, 12)?, world.person(family, 14)?);
        inside.opens();
        world.expect(0, &["drop", net]);
        inside.is_refused();
        inside.knocks(KNOCK);
        outside.opens();
        inside.is_refused();
        world.await_member("ssh_banned", net);
        world.expect(0, &["unban", net]);
        inside.opens();
    }
    Ok(())
}
