//! `cut_sessions`: a ban ends the sessions of whoever is banned, and nobody else's.

use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis::lab::Session;

use crate::scenarios;
use crate::world::{AT_ONCE, DECOY, Family, TRUSTED, Tried, World, goes_on, long_policy};

scenarios![
    a_ban_by_knock_resets_the_open_session,
    a_ban_by_hand_resets_it_too_and_those_of_a_whole_network,
    a_session_at_a_port_that_no_gate_guards_goes_on,
    sessions_of_the_banned_end_when_a_reload_says_so,
    bans_that_a_restart_takes_over_end_sessions_too,
    without_a_daemon_a_ban_ends_sessions_too,
];

fn cutting() -> String {
    long_policy().replace("ban_timeout", "cut_sessions: true, ban_timeout")
}

/// Waits for the other side to end the session, of which nothing is sent or read.
#[track_caller]
fn is_reset(session: &mut Session) {
    let started = Instant::now();
    while !session.is_over() {
        assert!(started.elapsed() < AT_ONCE, "the session is not reset");
        sleep(Duration::from_millis(2));
    }
}

fn a_ban_by_knock_resets_the_open_session() -> Tried {
    let world = World::with(&cutting(), TRUSTED)?;
    for (person, other) in world.people(10)?.into_iter().zip(world.people(11)?) {
        let (mut session, mut second) = (person.opens(), person.gets_in());
        let mut untouched = other.opens();
        person.knocks(DECOY);
        is_reset(&mut session);
        is_reset(&mut second);
        goes_on(&mut untouched);
    }
    Ok(())
}

fn a_ban_by_hand_resets_it_too_and_those_of_a_whole_network() -> Tried {
    let world = World::with(&cutting(), TRUSTED)?;
    for (family, net) in [
        (Family::V4, "192.0.2.12/31"),
        (Family::V6, "2001:db8::12/127"),
    ] {
        let [alone, one, outside] = [10, 12, 14].map(|n| world.person(family, n).unwrap());
        let [mut first, mut second, mut third] = [&alone, &one, &outside].map(|p| p.opens());
        world.expect(0, &["drop", &alone.address]);
        is_reset(&mut first);
        goes_on(&mut second);
        world.expect(0, &["drop", net]);
        is_reset(&mut second);
        goes_on(&mut third);
    }
    Ok(())
}

fn a_session_at_a_port_that_no_gate_guards_goes_on() -> Tried {
    let world = World::with_services(&cutting(), TRUSTED, &[22, 80])?;
    for person in world.people(10)? {
        let (mut elsewhere, mut session) = (person.gets_in_at(80), person.opens());
        world.expect(0, &["drop", &person.address]);
        is_reset(&mut session);
        goes_on(&mut elsewhere);
    }
    Ok(())
}

fn sessions_of_the_banned_end_when_a_reload_says_so() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let people = world.people(10)?;
    let mut sessions = people.each_ref().map(|person| person.opens());
    for (person, session) in people.iter().zip(&mut sessions) {
        world.expect(0, &["drop", &person.address]);
        goes_on(session);
    }
    world.daemon.write_policy(&cutting())?;
    world.expect(0, &["reload"]);
    for session in &mut sessions {
        is_reset(session);
    }
    Ok(())
}

fn bans_that_a_restart_takes_over_end_sessions_too() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let people = world.people(10)?;
    let mut sessions = people.each_ref().map(|person| person.opens());
    for (person, session) in people.iter().zip(&mut sessions) {
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
        goes_on(session);
    }
    world.daemon.kill_9();
    world.daemon.write_policy(&cutting())?;
    world.daemon.start()?;
    for session in &mut sessions {
        is_reset(session);
    }
    Ok(())
}

fn without_a_daemon_a_ban_ends_sessions_too() -> Tried {
    let mut world = World::with(&cutting(), TRUSTED)?;
    let (people, others) = (world.people(10)?, world.people(11)?);
    let mut sessions = people.each_ref().map(|person| person.opens());
    let mut untouched = others.each_ref().map(|person| person.opens());
    world.daemon.kill_9();
    for (person, session) in people.iter().zip(&mut sessions) {
        let reply = world.daemon.ctl_direct(&["drop", &person.address])?;
        assert_eq!(reply.code, Some(0), "{reply:?}");
        is_reset(session);
    }
    untouched.iter_mut().for_each(goes_on);
    Ok(())
}
