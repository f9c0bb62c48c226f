//! The whitelist file, and the commands that edit it.

use std::fs;

use crate::scenarios;
use crate::world::{
    DECOY, Family, POLICY, TRUSTED, Tried, World, at_once_after_decoys, remember_name,
};

scenarios![
    whoever_is_on_it_gets_in,
    networks_comments_and_blank_lines,
    trust_and_untrust_edit_the_file_in_place,
    trust_at_run_time_leaves_the_file_alone,
    runtime_trust_lasts_through_a_restart,
    trust_ends_a_ban,
    hand_edits_act_on_reload,
    a_reload_with_a_bad_whitelist_changes_nothing,
    a_file_of_comments_empties_it,
    a_bad_line_at_start_is_reported_and_skipped,
    an_empty_file_at_start_is_said_and_one_of_comments_is_not,
    a_line_removed_while_the_daemon_was_dead_is_gone,
    everybody_is_trusted_only_by_force,
    a_network_that_is_written_as_an_address_in_it_is_told,
    a_name_that_never_resolved_is_a_problem_until_it_is_off_the_list,
];

fn whoever_is_on_it_gets_in() -> Tried {
    let world = World::new()?;
    for (trusted, stranger) in world.people(50)?.into_iter().zip(world.people(10)?) {
        trusted.gets_in();
        stranger.is_refused();
        let member = world.await_member("ssh_trusted", &trusted.address);
        assert!(member.left.is_none(), "{member:?}");
    }
    Ok(())
}

fn networks_comments_and_blank_lines() -> Tried {
    let file =
        "\n# people\n192.0.2.12/31 the pair\n\n  2001:db8::12/127   # here too\n192.0.2.13\n";
    let world = World::with(POLICY, file)?;
    for family in Family::BOTH {
        world.person(family, 12)?.gets_in();
        world.person(family, 13)?.gets_in();
        world.person(family, 14)?.is_refused();
    }
    Ok(())
}

fn trust_and_untrust_edit_the_file_in_place() -> Tried {
    let world = World::new()?;
    let path = world.daemon.trusted_path();
    for person in world.people(10)? {
        world.expect(0, &["trust", &person.address, "--comment", "a guest"]);
        person.gets_in();
        let file = fs::read_to_string(&path)?;
        assert!(file.starts_with(TRUSTED), "what was there stays:\n{file}");
        let added = &file[TRUSTED.len()..];
        assert!(
            added.contains(&person.address) && added.contains("a guest"),
            "{file}"
        );
        world.expect(0, &["untrust", &person.address]);
        person.is_refused();
        assert_eq!(fs::read_to_string(&path)?, TRUSTED);
    }
    Ok(())
}

fn trust_at_run_time_leaves_the_file_alone() -> Tried {
    let world = World::new()?;
    for person in world.people(10)? {
        world.expect(0, &["trust", &person.address, "--runtime"]);
        person.gets_in();
        assert_eq!(fs::read_to_string(world.daemon.trusted_path())?, TRUSTED);
        world.expect(0, &["untrust", &person.address, "--runtime"]);
        person.is_refused();
    }
    Ok(())
}

fn runtime_trust_lasts_through_a_restart() -> Tried {
    let mut world = World::new()?;
    let people = world.people(10)?;
    for person in &people {
        world.expect(0, &["trust", &person.address, "--runtime"]);
    }
    world.daemon.kill_9();
    world.daemon.start()?;
    for person in &people {
        person.gets_in();
    }
    Ok(())
}

fn trust_ends_a_ban() -> Tried {
    let world = World::with(&at_once_after_decoys(POLICY), TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
        world.expect(0, &["trust", &person.address]);
        person.gets_in();
        assert!(world.member("ssh_banned", &person.address).is_none());
        // It had no time to lose: the end of trust is not the beginning of the ban.
        world.expect(0, &["untrust", &person.address]);
        person.opens();
    }
    Ok(())
}

fn hand_edits_act_on_reload() -> Tried {
    let world = World::new()?;
    let [v4, v6] = world.people(10)?;
    world
        .daemon
        .write_trusted(&format!("{}\n{}\n", v4.address, v6.address))?;
    v4.is_refused();
    world.expect(0, &["reload"]);
    v4.gets_in();
    v6.gets_in();
    for former in world.people(50)? {
        former.is_refused();
    }
    Ok(())
}

fn a_reload_with_a_bad_whitelist_changes_nothing() -> Tried {
    let world = World::new()?;
    let path = world.daemon.trusted_path();
    let bad = [
        Some("192.0.2.10\n192.0.2.999 a slip\n"),
        Some(""),
        // A missing file.
        None,
    ];
    for content in bad {
        match content {
            Some(text) => world.daemon.write_trusted(text)?,
            None => fs::remove_file(&path)?,
        }
        let reply = world.expect(2, &["reload"]);
        assert!(reply.stderr.contains("knockd.trusted"), "{reply:?}");
        for (trusted, stranger) in world.people(50)?.into_iter().zip(world.people(10)?) {
            trusted.gets_in();
            stranger.is_refused();
        }
    }
    Ok(())
}

fn a_file_of_comments_empties_it() -> Tried {
    let world = World::new()?;
    world.daemon.write_trusted("# nobody any more\n")?;
    world.expect(0, &["reload"]);
    for former in world.people(50)? {
        former.is_refused();
    }
    assert!(world.members("ssh_trusted").is_empty());
    Ok(())
}

fn a_bad_line_at_start_is_reported_and_skipped() -> Tried {
    let world = World::with(POLICY, "192.0.2.50\n192.0.2.999 a slip\n2001:db8::50\n")?;
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    let log = world.daemon.log();
    let reported = log
        .lines()
        .any(|line| line.contains("192.0.2.999") && line.contains('2'));
    assert!(reported, "{log}");
    let reply = world.expect(5, &["status"]);
    assert!(reply.stdout.contains("line 2 of "), "{reply:?}");
    // An edit by command puts nothing right that it does not touch.
    world.expect(0, &["trust", "192.0.2.77"]);
    world.expect(5, &["status"]);
    world.daemon.write_trusted(TRUSTED)?;
    world.expect(0, &["reload"]);
    world.expect(0, &["status"]);
    Ok(())
}

fn an_empty_file_at_start_is_said_and_one_of_comments_is_not() -> Tried {
    let mut world = World::new()?;
    for (text, code) in [("# nobody\n", 0), (" \n", 5), ("", 5)] {
        world.daemon.kill_9();
        world.daemon.write_trusted(text)?;
        world.daemon.start()?;
        let reply = world.expect(code, &["status"]);
        let said = reply.stdout.contains("knockd.trusted is empty");
        assert_eq!(said, code == 5, "{text:?}: {reply:?}");
        for former in world.people(50)? {
            former.is_refused();
        }
    }
    // What a command adds is all that is in it, and in force.
    world.expect(0, &["trust", "192.0.2.77"]);
    world.expect(0, &["status"]);
    Ok(())
}

fn a_line_removed_while_the_daemon_was_dead_is_gone() -> Tried {
    let mut world = World::new()?;
    let [v4, v6] = world.people(50)?;
    v4.gets_in();
    world.daemon.kill_9();
    world.daemon.write_trusted("2001:db8::50\n")?;
    v4.gets_in();
    world.daemon.start()?;
    v4.is_refused();
    v6.gets_in();
    Ok(())
}

fn everybody_is_trusted_only_by_force() -> Tried {
    let world = World::new()?;
    let [stranger, stranger6] = world.people(10)?;
    world.expect(4, &["trust", "0.0.0.0/0"]);
    stranger.is_refused();
    assert_eq!(fs::read_to_string(world.daemon.trusted_path())?, TRUSTED);
    world.expect(0, &["trust", "0.0.0.0/0", "--force"]);
    stranger.gets_in();
    stranger6.is_refused();
    Ok(())
}

fn a_network_that_is_written_as_an_address_in_it_is_told() -> Tried {
    let mut world = World::new()?;
    let [v4, _] = world.people(10)?;
    let reply = world.expect(2, &["trust", "192.0.2.17/28"]);
    assert!(reply.stderr.contains("`trust 192.0.2.16/28`"), "{reply:?}");
    assert_eq!(fs::read_to_string(world.daemon.trusted_path())?, TRUSTED);

    world
        .daemon
        .write_trusted(&format!("{TRUSTED}192.0.2.9/28 typo\n"))?;
    let line = TRUSTED.lines().count() + 1;
    let told = format!(
        "knockd.trusted:{line}: found `192.0.2.9/28`, expected `192.0.2.0/28` (it is taken as \
         that network)"
    );
    let check = world.daemon.run_knockd(&["check"])?;
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.stderr.contains(&told), "{check:?}");
    let policy = world.daemon.policy_path();
    for change in [vec!["reload"], vec!["apply", policy.to_str().unwrap()]] {
        let reply = world.expect(0, &change);
        let warned = |line: &str| line.starts_with("warning: ") && line.ends_with(&told);
        assert!(reply.stdout.lines().any(warned), "{reply:?}");
    }
    v4.gets_in();
    world.daemon.await_log(&told, 2)?;
    world.daemon.kill_9();
    world.daemon.start()?;
    world.daemon.await_log(&told, 3)?;
    v4.gets_in();
    // Whoever is on the list is as they were; nothing is out of order.
    world.expect(0, &["status"]);
    Ok(())
}

fn a_name_that_never_resolved_is_a_problem_until_it_is_off_the_list() -> Tried {
    let trusted = format!("{TRUSTED}gateway.example.org\n");
    let mut world = World::before(POLICY, &trusted, &[22])?;
    // No name service answers, so the last good address counts.
    let gateway = world.person(Family::V4, 12)?;
    remember_name(&world.daemon, "gateway.example.org", &gateway.address)?;
    world.daemon.start()?;
    world
        .daemon
        .await_log("cannot resolve gateway.example.org", 1)?;
    world.expect(0, &["status"]);
    gateway.gets_in();

    world.expect(0, &["trust", "nohost.invalid"]);
    world.daemon.await_log("cannot resolve nohost.invalid", 1)?;
    let reply = world.expect(5, &["status"]);
    let told = "not resolved: nohost.invalid: whoever it stands for is not trusted";
    assert!(reply.stdout.contains(told), "{reply:?}");
    world.expect(0, &["untrust", "nohost.invalid"]);
    world.expect(0, &["status"]);
    Ok(())
}
