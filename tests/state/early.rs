//! `knockd setup` before there is a network, and the daemon afterwards.

use portcullis::lab::{Daemon, Lab};

use crate::boot::{Boot, with_the_disk_of};
use crate::scenarios;
use crate::world::{
    DECOY, Family, POLICY, TRUSTED, Tried, World, backend, connect, long_policy, programs,
    remember_name,
};

scenarios![
    the_gate_is_as_it_was_before_the_first_interface_comes_up,
    the_daemon_adopts_what_was_set_up,
    nothing_is_waited_for,
];

fn the_gate_is_as_it_was_before_the_first_interface_comes_up() -> Tried {
    let mut old = World::with(&long_policy(), TRUSTED)?;
    for person in old.people(11)? {
        person.knocks(DECOY);
        old.await_member("ssh_banned", &person.address);
    }
    for person in old.people(10)? {
        old.expect(0, &["accept", &person.address, "--for", "1h"]);
    }
    old.daemon.kill_9();
    let mut new = with_the_disk_of(&old, &long_policy())?;
    let _boot = Boot::another(new.lab.dir())?;
    new.server.set_link("eth0", false)?;
    let reply = new.daemon.run_knockd(&["setup"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    // Like the rest of the network, which comes up last.
    new.server.delete_link("eth0")?;
    connect(&new.lab, &new.server, &new.clients)?;
    for (accepted, banned) in new.people(10)?.iter().zip(&new.people(11)?) {
        accepted.gets_in();
        banned.is_refused();
    }
    for (stranger, trusted) in new.people(12)?.iter().zip(&new.people(50)?) {
        stranger.is_refused();
        trusted.gets_in();
    }
    new.daemon.start()?;
    let banned = new.member("ssh_banned", "192.0.2.11").expect("it is there");
    assert_eq!(banned.reason, "decoy");
    let accepted = new.member("ssh_filter", "192.0.2.10").expect("it is there");
    assert!(
        accepted.left.is_some_and(|left| left <= 3600.0),
        "{accepted:?}"
    );
    Ok(())
}

fn the_daemon_adopts_what_was_set_up() -> Tried {
    let mut world = World::before(POLICY, TRUSTED, &[22])?;
    for _ in 0..2 {
        let reply = world.daemon.run_knockd(&["setup"])?;
        assert_eq!(reply.code, Some(0), "{reply:?}");
    }
    world.daemon.start()?;
    // While it runs, there is nothing to set up.
    world.expect(0, &["drop", "192.0.2.11"]);
    let reply = world.daemon.run_knockd(&["setup"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert!(world.member("ssh_banned", "192.0.2.11").is_some());
    world.person(Family::V4, 10)?.opens();
    Ok(())
}

fn nothing_is_waited_for() -> Tried {
    let lab = Lab::new()?;
    let alone = lab.host("alone")?;
    let policy = format!(
        "{}\nfirewall: {{ backend: {} }}\n",
        POLICY.trim_end(),
        backend()
    );
    let trusted = "gateway.example.org\nunknown.example.org\n";
    let mut daemon = Daemon::prepare(&lab, &alone, &programs(), &policy, trusted)?;
    // The name service is not there; its last good answer is.
    remember_name(&daemon, "gateway.example.org", "192.0.2.77")?;
    let started = std::time::Instant::now();
    let reply = daemon.run_knockd(&["setup"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    daemon.start()?;
    let reply = daemon.ctl(&["-o", "json", "list", "trusted"])?;
    assert!(reply.stdout.contains("192.0.2.77"), "{reply:?}");
    Ok(())
}
