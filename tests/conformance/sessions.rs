//! Sessions that are open.

use std::time::Duration;

use portcullis::firewall::{Change, Desired};
use portcullis::lab::{BEFORE_A_SECOND_SYN, Outcome, Session};

use crate::world::{A, A6, B, Tried, World, banned, filter, remove, ssh};

#[track_caller]
fn session(world: &World, from: &str) -> Session {
    let client = world.clients.client(from).expect("an address");
    let to = if from.contains(':') {
        "[2001:db8::1]:22"
    } else {
        "192.0.2.1:22"
    };
    let Ok(Outcome::Open(mut session)) = client.connect(to, BEFORE_A_SECOND_SYN) else {
        panic!("{from} does not get in");
    };
    session.banner().expect("the service greets");
    session
}

pub(crate) fn stays(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![filter(A, 1)]);
    let mut open = session(world, A);
    world.is_shut_out_after(A, Duration::from_secs(1));
    assert!(open.echoes("after the time is over")?);
    world.apply(&[Change::Put(banned(A))]);
    assert!(open.echoes("after a ban")?);
    world.install(vec![ssh()], vec![banned(A)]);
    assert!(open.echoes("after a reload")?);
    Ok(())
}

/// Connection tracking starts with the first rule that asks for it.
pub(crate) fn from_before(world: &mut World) -> Tried {
    let (mut four, mut six) = (session(world, A), session(world, A6));
    let peers = world
        .server
        .run(|| portcullis::sessions::established(&ssh().ports))??;
    assert_eq!(peers.len(), 2);
    let sessions = peers.into_iter().map(|(_, peer)| (ssh().name, peer));
    let desired = Desired {
        gates: vec![ssh()],
        members: vec![],
        sessions: sessions.collect(),
    };
    world.install_all(&desired);
    assert!(four.echoes("still here")? && six.echoes("so am I")?);
    assert!(!world.gets_in(A) && !world.gets_in(A6), "a new one");
    world.install(vec![ssh()], vec![]);
    assert!(four.echoes("after a reload")? && six.echoes("too")?);
    world.with(|backend| backend.teardown())?;
    assert_eq!(world.observed(), None);
    Ok(())
}

pub(crate) fn cut(world: &mut World) -> Tried {
    let mut gate = ssh();
    gate.cut_sessions = true;
    world.install(vec![gate], vec![filter(A, 300), filter(B, 300)]);
    let (mut bad, mut good) = (session(world, A), session(world, B));
    world.apply(&[Change::Put(banned(A)), remove(&filter(A, 0))]);
    assert!(bad.echoes("cut").is_err());
    assert!(good.echoes("not cut")?);
    Ok(())
}
