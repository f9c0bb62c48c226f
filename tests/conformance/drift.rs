//! Members that somebody else takes out are missed, and put back by installing again.

use std::collections::HashMap;
use std::time::Duration;

use portcullis::firewall::Desired;

use crate::world::{A, A6, B, Tried, World, banned, filter, secs, ssh, trusted};

pub(crate) fn lacking(world: &mut World) -> Tried {
    let mut soon_over = filter("192.0.2.99", 2);
    soon_over.remaining = secs(2);
    let members = vec![
        filter(A, 300),
        filter(A6, 300),
        banned(B),
        banned("198.51.100.0/24"),
        banned("198.51.100.64/26"),
        trusted("192.0.2.40"),
        trusted("2001:db8:5::/48"),
        soon_over.clone(),
    ];
    let desired = Desired {
        gates: vec![ssh()],
        members: members.clone(),
        sessions: Vec::new(),
    };
    world.install_all(&desired);
    let none = HashMap::new();
    let lacking = |world: &mut World| {
        let found = world.with(|backend| backend.lacking(&desired, &none));
        let mut found = found.expect("it can be read");
        found.sort_unstable();
        found
    };
    assert_eq!(lacking(world), Vec::<String>::new());
    world.glances_until_calm()?;
    let gone = [
        &members[0],
        &members[1],
        &members[2],
        &members[5],
        &soon_over,
    ];
    for member in gone {
        world.meddle_out(member)?;
    }
    let expected = [
        "192.0.2.10 is not in ssh_filter",
        "192.0.2.11 is not in ssh_banned",
        "192.0.2.40 is not in ssh_trusted",
        "2001:db8::10 is not in ssh_filter",
    ];
    assert_eq!(lacking(world), expected);
    world.install_all(&desired);
    assert_eq!(lacking(world), Vec::<String>::new());
    world.meddle_out(&members[3])?;
    world.meddle_out(&members[4])?;
    assert!(!lacking(world).is_empty(), "a network is gone");
    world.install_all(&desired);
    assert_eq!(lacking(world), Vec::<String>::new());
    assert_eq!(world.who(&[A, B]), [A]);
    Ok(())
}

/// Where the kernel tells nobody, a glance does: of a set that is emptied, and of rules. What we
/// do ourselves may be worth a second look, but not one after another.
pub(crate) fn glances(world: &mut World) -> Tried {
    let members = vec![filter(A, 300), banned(B), trusted("192.0.2.40")];
    world.install(vec![ssh()], members.clone());
    if !world.with(|backend| backend.must_glance()) {
        return Ok(());
    }
    world.glances_until_calm()?;
    for member in &members {
        world.meddle_out(member)?;
        assert!(world.glance(), "{member:?} was the only one in its set");
        world.glances_until_calm()?;
    }
    world.install(vec![ssh()], members);
    world.glances_until_calm()?;
    world.pass(Duration::from_millis(10));
    assert!(!world.glance());
    Ok(())
}
