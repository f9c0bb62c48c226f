//! The daemon ends, one way or another, and comes back.

use std::time::{Duration, Instant};

use crate::reload::undisturbed;
use crate::scenarios;
use crate::world::{
    ACCEPT_TIME, DECOY, Family, KNOCK, POLICY, TRUSTED, Tried, World, goes_on, long_policy,
};

scenarios![
    the_kernel_goes_on_without_the_daemon,
    members_are_adopted_with_what_is_left_of_their_time,
    a_knock_after_the_restart_works,
    stopping_keeps_acceptances,
    stopping_closed_withdraws_them,
    nobody_notices_a_crash_or_a_restart,
    sessions_open_before_the_gate_stay_open,
    a_second_daemon_is_refused,
    a_dead_daemons_files_do_not_hinder_the_next,
];

fn the_kernel_goes_on_without_the_daemon() -> Tried {
    let mut world = World::new()?;
    let banned = world.people(11)?;
    for person in &banned {
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
    }
    let people = world.people(10)?;
    let knocked = Instant::now();
    let mut sessions: Vec<_> = people.iter().map(|person| person.opens()).collect();
    world.daemon.kill_9();
    for person in &people {
        person.gets_in();
    }
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    for person in &banned {
        person.is_refused();
    }
    for (person, session) in people.iter().zip(&mut sessions) {
        person.is_refused_within(ACCEPT_TIME * 2);
        assert!(
            knocked.elapsed() >= ACCEPT_TIME,
            "{} lost time",
            person.address
        );
        goes_on(session);
        person.knocks(KNOCK);
        person.is_refused();
    }
    Ok(())
}

fn members_are_adopted_with_what_is_left_of_their_time() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let [accepted, banned] = [world.people(10)?, world.people(11)?];
    for (accepted, banned) in accepted.iter().zip(&banned) {
        world.expect(0, &["accept", &accepted.address, "--for", "30s"]);
        world.expect(0, &["drop", &banned.address]);
    }
    let since = Instant::now();
    world.daemon.kill_9();
    std::thread::sleep(Duration::from_millis(1200));
    world.daemon.start()?;
    for (accepted, banned) in accepted.iter().zip(&banned) {
        accepted.gets_in();
        banned.is_refused();
        banned.knocks(KNOCK);
        let member = world.await_member("ssh_filter", &accepted.address);
        let most = 30.0 - since.elapsed().as_secs_f64() + 1.5;
        assert!(
            member.left.is_some_and(|left| left > 10.0 && left <= most),
            "{member:?}"
        );
        let ban = world.await_member("ssh_banned", &banned.address);
        assert!(ban.left.is_none(), "{ban:?}");
    }
    world.all_is_handled()?;
    for person in &banned {
        person.is_refused();
    }
    Ok(())
}

fn a_knock_after_the_restart_works() -> Tried {
    let mut world = World::new()?;
    world.daemon.kill_9();
    world.daemon.start()?;
    for person in world.people(10)? {
        person.opens();
    }
    Ok(())
}

fn stopping_keeps_acceptances() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let people = world.people(10)?;
    for person in &people {
        person.opens();
    }
    let status = world.daemon.terminate()?;
    assert!(status.success(), "{status}");
    for person in &people {
        person.gets_in();
    }
    for (trusted, stranger) in world.people(50)?.into_iter().zip(world.people(12)?) {
        trusted.gets_in();
        stranger.is_refused();
    }
    Ok(())
}

fn stopping_closed_withdraws_them() -> Tried {
    let policy = format!("firewall: {{ on_stop: closed }}\n{}", long_policy());
    let mut world = World::with(&policy, TRUSTED)?;
    let (people, banned) = (world.people(10)?, world.people(11)?);
    for person in &people {
        person.opens();
    }
    for person in &banned {
        world.expect(0, &["drop", &person.address]);
    }
    world.daemon.terminate()?;
    for person in &people {
        person.is_refused();
    }
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    world.daemon.start()?;
    for person in &banned {
        world.await_member("ssh_banned", &person.address);
    }
    Ok(())
}

fn nobody_notices_a_crash_or_a_restart() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    undisturbed(Mutable(&mut world), |Mutable(world)| {
        for round in 0..4 {
            if round % 2 == 0 {
                world.daemon.kill_9();
            } else {
                world.daemon.terminate()?;
            }
            world.daemon.start()?;
        }
        Ok(())
    })
}

/// `&mut World` as something to borrow a world from.
struct Mutable<'a>(&'a mut World);

impl std::borrow::Borrow<World> for Mutable<'_> {
    fn borrow(&self) -> &World {
        self.0
    }
}

fn sessions_open_before_the_gate_stay_open() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    let people = world.people(10)?;
    let mut sessions: Vec<_> = people.iter().map(|person| person.gets_in()).collect();
    world.daemon.start()?;
    for (person, session) in people.iter().zip(&mut sessions) {
        // The client speaks first: to connection tracking, which has just begun, that is new.
        goes_on(session);
        person.is_refused();
        goes_on(session);
    }
    // And through a restart.
    world.daemon.kill_9();
    world.daemon.start()?;
    for session in &mut sessions {
        goes_on(session);
    }
    Ok(())
}

fn a_second_daemon_is_refused() -> Tried {
    let world = World::new()?;
    let reply = world.daemon.run_knockd(&[])?;
    assert!(reply.code.is_some_and(|code| code != 0), "{reply:?}");
    assert!(reply.stderr.contains("running"), "{reply:?}");
    world.expect(0, &["ping"]);
    world.person(Family::V4, 10)?.opens();
    Ok(())
}

fn a_dead_daemons_files_do_not_hinder_the_next() -> Tried {
    let mut world = World::with(POLICY, TRUSTED)?;
    for _ in 0..3 {
        world.daemon.kill_9();
        assert!(
            world.daemon.socket_path().exists(),
            "kill -9 leaves its socket"
        );
        world.daemon.start()?;
    }
    world.daemon.terminate()?;
    assert!(
        !world.daemon.socket_path().exists(),
        "a clean stop does not"
    );
    world.daemon.start()?;
    Ok(())
}
