//! Nobody who is logged in is shut out by accident. What sshd does when it lets somebody in,
//! which is to say so in the environment of what it starts, is done here by hand;
//! `tests/system` has a real one.

use std::fs;
use std::process::{Child, Stdio};

use portcullis::lab::{Reply, Session};

use crate::applying::pinned;
use crate::scenarios;
use crate::world::{
    Family, Person, TRUSTED, Tried, World, backend, goes_on, long_policy, port_at, remember_name,
};

scenarios![
    an_operators_own_address_is_not_banned,
    without_a_session_of_ones_own_everybody_logged_in_is_guarded,
    of_whom_only_the_address_is_known_every_connection_may_be_the_session,
    an_operators_trust_is_not_taken_away,
    what_is_refused_is_in_the_history,
    a_policy_that_would_shut_an_operator_out_is_refused,
    a_gate_is_judged_by_the_addresses_of_the_name_that_it_gets,
    whoever_installs_can_come_back_for_a_while,
    #[cfg(feature = "system-tests")]
    whoever_takes_the_original_over_can_come_back_for_a_while,
    a_start_with_an_empty_kernel_takes_nothing_from_whoever_is_logged_in,
];

/// A session as sshd tells of it.
struct Login {
    session: Session,
    words: String,
    /// As it is named.
    shown: String,
}

impl Login {
    #[track_caller]
    fn at(person: &Person, port: u16) -> Self {
        let session = person.gets_in_at(port);
        let source = session.source().expect("it is connected");
        let server = &person.server;
        let local = port_at(server, port);
        Self {
            words: format!("{} {} {server} {port}", source.ip(), source.port()),
            shown: format!("{source} → {local}"),
            session,
        }
    }

    /// Runs `knockctl` in the session.
    #[track_caller]
    fn ctl(&self, world: &World, code: i32, arguments: &[&str]) -> Reply {
        let variables = [("SSH_CONNECTION", self.words.as_str())];
        let reply = world.daemon.ctl_with(arguments, &variables);
        let reply = reply.expect("knockctl runs and ends");
        assert_eq!(reply.code, Some(code), "knockctl {arguments:?}: {reply:?}");
        reply
    }

    /// Starts something in the session that goes on.
    fn shell(&self, world: &World) -> Result<Shell, Box<dyn std::error::Error>> {
        let mut command = world.server.command("cat")?;
        command.env("SSH_CONNECTION", &self.words);
        Ok(Shell(command.stdin(Stdio::piped()).spawn()?))
    }
}

/// Ends when dropped.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Refused, and says whom it would have shut out.
#[track_caller]
fn names(reply: &Reply, login: &Login, whose: &str) {
    let said = format!("would shut out {} ({whose})", login.shown);
    assert!(reply.stderr.contains(&said), "{said} in {reply:?}");
    assert!(reply.stderr.contains("--force"), "{reply:?}");
}

fn an_operators_own_address_is_not_banned() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for family in Family::BOTH {
        let [operator, other] = [10, 11].map(|number| world.person(family, number));
        let (operator, other) = (operator?, other?);
        operator.opens();
        let mut login = Login::at(&operator, 22);
        let net = match family {
            Family::V4 => "192.0.2.8/29",
            Family::V6 => "2001:db8::10/124",
        };
        for banned in [operator.address.as_str(), net] {
            let reply = login.ctl(&world, 4, &["drop", banned]);
            names(&reply, &login, "your ssh session");
        }
        assert!(world.members("ssh_banned").is_empty());
        operator.gets_in();
        // Also when the acceptance is over.
        world.expect(0, &["flush", &operator.address]);
        let reply = login.ctl(&world, 4, &["drop", &operator.address]);
        names(&reply, &login, "your ssh session");
        login.ctl(&world, 0, &["drop", &other.address]);
        // Whoever asks elsewhere while nobody is known to be logged in.
        world.expect(0, &["drop", &operator.address]);
        world.expect(0, &["unban", &operator.address]);
        login.ctl(&world, 0, &["drop", "--force", &operator.address]);
        operator.is_refused();
        goes_on(&mut login.session);
        world.expect(0, &["flush", "banned"]);
    }
    Ok(())
}

fn without_a_session_of_ones_own_everybody_logged_in_is_guarded() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let [operator, stranger] = world.people(10)?;
    for person in [&operator, &stranger] {
        person.opens();
    }
    let login = Login::at(&operator, 22);
    // Connected, but nobody has let them in.
    let _unauthenticated = stranger.gets_in();
    let shell = login.shell(&world)?;
    let reply = world.expect(4, &["drop", &operator.address]);
    names(&reply, &login, "an open ssh session");
    world.expect(0, &["drop", &stranger.address]);
    // Who comes from a session that is over has none.
    let stale = [("SSH_CONNECTION", "192.0.2.99 1 192.0.2.1 22")];
    let reply = world
        .daemon
        .ctl_with(&["drop", &operator.address], &stale)?;
    assert_eq!(reply.code, Some(4), "{reply:?}");
    // One who has a session of their own answers for that alone.
    let colleague = world.person(Family::V4, 50)?;
    Login::at(&colleague, 22).ctl(&world, 0, &["drop", &operator.address]);
    world.expect(0, &["unban", &operator.address]);
    drop(shell);
    world.expect(0, &["drop", &operator.address]);
    Ok(())
}

fn of_whom_only_the_address_is_known_every_connection_may_be_the_session() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    // Nobody else's address here: the login manager's directory is everybody's.
    world.clients.add_addresses("eth0", &["192.0.2.253/24"])?;
    let operator = world.person(Family::V4, 253)?;
    operator.opens();
    let login = Login::at(&operator, 22);
    world.expect(0, &["drop", &operator.address]);
    world.expect(0, &["unban", &operator.address]);
    let logins = std::path::Path::new("/run/systemd/sessions");
    fs::create_dir_all(logins)?;
    let text = format!("REMOTE_HOST={}\nSERVICE=sshd\n", operator.address);
    fs::write(logins.join("253"), text)?;
    let reply = world.expect(4, &["drop", &operator.address]);
    let whose = "a connection from an address that is logged in over ssh";
    names(&reply, &login, whose);
    fs::remove_file(logins.join("253"))?;
    world.expect(0, &["drop", &operator.address]);
    Ok(())
}

fn an_operators_trust_is_not_taken_away() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for (person, other) in world.people(50)?.into_iter().zip(world.people(10)?) {
        let login = Login::at(&person, 22);
        let reply = login.ctl(&world, 4, &["untrust", &person.address]);
        names(&reply, &login, "your ssh session");
        assert_eq!(fs::read_to_string(world.daemon.trusted_path())?, TRUSTED);
        person.gets_in();
        world.expect(0, &["trust", &other.address]);
        login.ctl(&world, 0, &["untrust", &other.address]);
        // With an acceptance left, that is no harm.
        world.expect(0, &["trust", "--runtime", &other.address]);
        let login = Login::at(&other, 22);
        let runtime = ["untrust", "--runtime", &other.address];
        names(&login.ctl(&world, 4, &runtime), &login, "your ssh session");
        world.expect(0, &["accept", &other.address]);
        login.ctl(&world, 0, &runtime);
    }
    let person = world.person(Family::V4, 50)?;
    let login = Login::at(&person, 22);
    login.ctl(&world, 0, &["untrust", "--force", &person.address]);
    person.is_refused();
    Ok(())
}

fn what_is_refused_is_in_the_history() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let [trusted, other] = [50, 10].map(|number| world.person(Family::V4, number));
    let (trusted, other) = (trusted?, other?);
    other.opens();
    let logins = [Login::at(&trusted, 22), Login::at(&other, 22)];
    logins[1].ctl(&world, 4, &["drop", &other.address]);
    logins[0].ctl(&world, 4, &["untrust", &trusted.address]);
    // It waits for the disk.
    world.expect(0, &["history"]);
    world.daemon.kill_9();
    let words = [("SSH_CONNECTION", logins[1].words.as_str())];
    let reply = world
        .daemon
        .ctl_direct_with(&["drop", &other.address], &words)?;
    assert_eq!(reply.code, Some(4), "{reply:?}");
    world.daemon.start()?;
    for (person, login, by) in [
        (
            &other,
            &logins[1],
            &["knockctl by root", "knockctl --direct by root"][..],
        ),
        (&trusted, &logins[0], &["knockctl by root"]),
    ] {
        let told = world.json(&["history", &person.address]);
        let entries = told["entries"].as_array().ok_or("entries")?;
        let refused = entries.iter().filter(|entry| entry["what"] == "refused");
        let refused: Vec<_> = refused.collect();
        assert_eq!(refused.len(), by.len(), "{told}");
        for (entry, by) in refused.iter().zip(by) {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            assert_eq!(text("address"), person.address, "{entry}");
            assert!(text("reason").starts_with(by), "{entry}");
            assert!(text("note").contains(&login.shown), "{entry}");
        }
    }
    Ok(())
}

fn a_policy_that_would_shut_an_operator_out_is_refused() -> Tried {
    let world = World::with_services(&long_policy(), TRUSTED, &[22, 8443])?;
    let operator = world.person(Family::V6, 10)?;
    let mut login = Login::at(&operator, 8443);
    let wider = long_policy().replace("ports: [22]", "ports: [22, 8443]");
    let wider = format!(
        "{}\nfirewall: {{ backend: {} }}\n",
        wider.trim_end(),
        backend()
    );
    let file = world.lab.dir().join("wider.yaml");
    fs::write(&file, &wider)?;
    let file = file.to_str().ok_or("not UTF-8")?;
    let reply = login.ctl(&world, 4, &["apply", file]);
    names(&reply, &login, "your ssh session");
    assert!(reply.stderr.contains("--confirm"), "{reply:?}");
    operator.gets_in_at(8443);
    // A trial takes itself back, so it is let through; here by hand.
    login.ctl(&world, 0, &["apply", file, "--confirm", "60s"]);
    operator.is_refused_at(8443);
    goes_on(&mut login.session);
    login.ctl(&world, 0, &["rollback"]);
    operator.gets_in_at(8443);
    // By hand, and by signal.
    let before = fs::read_to_string(world.daemon.policy_path())?;
    world.daemon.write_policy(&wider)?;
    let reply = login.ctl(&world, 4, &["reload"]);
    names(&reply, &login, "your ssh session");
    let shell = login.shell(&world)?;
    let refusals = world.daemon.log().matches("would shut out").count();
    world.daemon.hang_up()?;
    world.daemon.await_log("would shut out", refusals + 1)?;
    operator.gets_in_at(8443);
    drop(shell);
    login.ctl(&world, 0, &["reload", "--force"]);
    operator.is_refused_at(8443);
    // The way back shuts nobody out, the way there again does.
    world.daemon.write_policy(&before)?;
    login.ctl(&world, 0, &["rollback"]);
    operator.gets_in_at(8443);
    let reply = login.ctl(&world, 4, &["rollback"]);
    names(&reply, &login, "your ssh session");
    world.expect(0, &["trust", &operator.address]);
    login.ctl(&world, 0, &["rollback"]);
    operator.gets_in_at(8443);
    operator.gets_in();
    Ok(())
}

fn a_gate_is_judged_by_the_addresses_of_the_name_that_it_gets() -> Tried {
    let at = |name: &str| {
        let gate = format!("ports: [22], address: {name}.example.org");
        pinned(&long_policy().replace("ports: [22]", &gate))
    };
    let mut world = World::before(&at("a"), TRUSTED, &[22])?;
    world.server.add_addresses("eth0", &["192.0.2.2/24"])?;
    // No name service answers, so the last good addresses count.
    remember_name(&world.daemon, "a.example.org", "192.0.2.1")?;
    world.daemon.start()?;
    let person = world.person(Family::V4, 10)?;
    person.is_refused();
    let operator = Person {
        server: "192.0.2.2".to_owned(),
        ..person
    };
    let login = Login::at(&operator, 22);
    // Nobody knows what it stands for, so that everything is guarded.
    world.daemon.write_policy(&at("b"))?;
    let reply = login.ctl(&world, 4, &["reload"]);
    names(&reply, &login, "your ssh session");
    operator.gets_in();
    login.ctl(&world, 0, &["reload", "--force"]);
    operator.is_refused();
    Ok(())
}

fn whoever_installs_can_come_back_for_a_while() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22, 8443])?;
    let [operator, _] = world.people(10)?;
    let [colleague, _] = world.people(11)?;
    let [stranger, _] = world.people(12)?;
    let logins = [Login::at(&operator, 22), Login::at(&colleague, 22)];
    let _shells = [logins[0].shell(&world)?, logins[1].shell(&world)?];
    let elsewhere = world.person(Family::V6, 12)?;
    let web = Login::at(&elsewhere, 8443);
    let _shell = web.shell(&world)?;
    let _unauthenticated = stranger.gets_in();
    world.daemon.start()?;
    for person in [&operator, &colleague] {
        let member = world.await_member("ssh_filter", &person.address);
        assert_eq!(member.reason, "installer's session");
        // At least five minutes, whatever a knock gives.
        assert!(member.left.is_some_and(|left| left > 280.0), "{member:?}");
        person.gets_in();
    }
    world.daemon.await_log("installer's session", 2)?;
    stranger.is_refused();
    elsewhere.is_refused();
    assert_eq!(world.members("ssh_filter").len(), 2);
    // Once is enough: not when it is started again, nor with rules that others have removed.
    world.expect(0, &["flush", "filter"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    assert!(world.members("ssh_filter").is_empty());
    operator.is_refused();
    world.daemon.terminate()?;
    // Who comes from a session of their own is the only one; `setup` says so.
    assert_eq!(world.daemon.run_knockd(&["teardown"])?.code, Some(0));
    let mut setup = world.daemon.knockd(&["setup"])?;
    let setup = setup.env("SSH_CONNECTION", &logins[0].words).output()?;
    assert!(setup.status.success(), "{setup:?}");
    let said = String::from_utf8_lossy(&setup.stderr).into_owned();
    assert!(said.contains("installer's session"), "{said}");
    operator.gets_in();
    colleague.is_refused();
    Ok(())
}

/// The original script guards IPv4 alone, and what it accepts is for a moment.
#[cfg(feature = "system-tests")]
fn whoever_takes_the_original_over_can_come_back_for_a_while() -> Tried {
    const ORIGINAL: &str = "*filter\n:INPUT ACCEPT [0:0]\n:ssh_policy - [0:0]\n\
        :ssh_banned - [0:0]\n:ssh_trusted - [0:0]\n:ssh_filter - [0:0]\n\
        -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
        -A INPUT -p tcp -m tcp --dport 22 -j ssh_policy\n\
        -A ssh_policy -j ssh_banned\n-A ssh_policy -j ssh_trusted\n-A ssh_policy -j ssh_filter\n\
        -A ssh_policy -j DROP\n-A ssh_filter -s 192.0.2.11/32 -j ACCEPT\nCOMMIT\n";
    for backend in ["nftables", "iptables"] {
        let _chosen = crate::world::OnBackend::new(backend);
        let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
        let rules = world.lab.dir().join("original");
        fs::write(&rules, ORIGINAL)?;
        let restored = world
            .server
            .command("iptables-restore")?
            .arg(&rules)
            .status()?;
        assert!(restored.success(), "{restored}");
        let operator = world.person(Family::V6, 10)?;
        let [accepted, stranger] = world.people(11)?;
        world.person(Family::V4, 10)?.is_refused();
        accepted.gets_in();
        let login = Login::at(&operator, 22);
        let _shell = login.shell(&world)?;
        world.daemon.start()?;
        let member = world.await_member("ssh_filter", &operator.address);
        assert_eq!(member.reason, "installer's session");
        operator.gets_in();
        accepted.gets_in();
        stranger.is_refused();
        // Once is enough.
        world.expect(0, &["flush", "filter"]);
        world.daemon.kill_9();
        world.daemon.start()?;
        operator.is_refused();
    }
    Ok(())
}

fn a_start_with_an_empty_kernel_takes_nothing_from_whoever_is_logged_in() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let people = [10, 11, 50].map(|number| world.person(Family::V4, number).expect("a person"));
    world.expect(0, &["accept", "192.0.2.10", "--for", "8h"]);
    world.expect(0, &["accept", "192.0.2.11", "--for", "2m"]);
    let logins = people.each_ref().map(|person| Login::at(person, 22));
    let _shells = [
        logins[0].shell(&world)?,
        logins[1].shell(&world)?,
        logins[2].shell(&world)?,
    ];
    world.daemon.kill_9();
    // As after a reboot.
    assert_eq!(world.daemon.run_knockd(&["teardown"])?.code, Some(0));
    world.daemon.start()?;
    let left = |address| world.member("ssh_filter", address).and_then(|it| it.left);
    let (long, short) = (left("192.0.2.10"), left("192.0.2.11"));
    assert!(long.is_some_and(|left| left > 28_000.0), "{long:?}");
    assert!(short.is_some_and(|left| left > 280.0), "{short:?}");
    let trusted = world.member("ssh_filter", "192.0.2.50");
    assert!(trusted.is_none(), "{trusted:?}");
    Ok(())
}
