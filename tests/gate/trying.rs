//! `apply --confirm`: a policy on trial, and what becomes of it.

use std::fs;

use crate::applying::{OTHER, candidate, change, on_disk, opens_with, other_policy, pinned};
use crate::scenarios;
use crate::world::{Family, KNOCK, Person, TRUSTED, Tried, World, long_policy};

scenarios![
    a_trial_is_taken_back_by_itself,
    a_whitelist_that_came_with_a_trial_is_taken_back_with_it,
    a_confirmed_trial_outlives_the_daemon,
    a_rollback_ends_a_trial_and_brings_back_what_a_gate_held,
    a_ban_comes_back_though_the_trials_whitelist_had_the_address,
    what_a_gate_with_once_held_comes_back_unless_it_is_used_up,
    a_trial_of_another_ipv6_prefix_takes_no_acceptance_with_it,
    whoever_is_withdrawn_during_a_trial_stays_out_when_it_is_taken_back,
    what_is_flushed_everywhere_is_so_at_a_gate_that_comes_back,
    a_daemon_killed_during_a_trial_starts_with_the_policy_from_before,
    a_daemon_that_is_stopped_during_a_trial_takes_it_back,
    what_a_trial_removed_comes_back_after_a_crash_too,
    a_trial_of_the_policys_own_file_is_not_taken_up_by_a_start,
    what_cannot_be_noted_is_not_tried,
    a_whitelist_that_came_with_a_trial_is_not_taken_up_by_a_start,
    a_trial_that_fails_leaves_an_earlier_ones_whitelist_shelved,
    whom_a_command_trusts_or_not_is_no_part_of_an_edit_that_is_taken_back,
    whom_a_whitelist_trusts_that_is_only_tried_is_said_to_be_trusted_for_that_long,
    a_trial_takes_nothing_from_the_history,
    #[cfg(feature = "system-tests")]
    a_trial_that_is_taken_back_takes_its_backend_with_it,
];

const WEB: &str = "gates:\n  web: { ports: [8443], accept_timeout: 60s, ban_timeout: never }\n";

fn a_trial_is_taken_back_by_itself() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let before = on_disk(&world);
    let file = candidate(&world, "other.yaml", &other_policy())?;
    world.expect(0, &["apply", &file, "--confirm", "4s"]);
    opens_with(&world, OTHER, KNOCK);
    let pending = change(&world, 0);
    assert_eq!(pending["state"], "unconfirmed");
    assert_eq!(pending["file"], file.as_str());
    assert!(
        pending["expires_in_s"]
            .as_u64()
            .is_some_and(|left| left < 4)
    );
    for refused in [&["apply", &file][..], &["reload"]] {
        let reply = world.expect(4, refused);
        assert!(reply.stderr.contains("other.yaml"), "{reply:?}");
        assert!(reply.stderr.contains("rollback"), "{reply:?}");
    }
    world.daemon.hang_up()?;
    world.daemon.await_log("refused: ", 3)?;
    assert_eq!(on_disk(&world), before);
    world
        .daemon
        .await_log("was not confirmed in time and is taken back", 1)?;
    opens_with(&world, KNOCK, OTHER);
    assert_eq!(change(&world, 0)["state"], "reverted");
    let reply = world.expect(1, &["confirm"]);
    let told = "other.yaml was taken back: apply it again";
    assert!(reply.stderr.contains(told), "{reply:?}");
    world.expect(0, &["reload"]);
    assert!(change(&world, 0).is_null());
    let reply = world.expect(0, &["confirm"]);
    assert!(reply.stdout.contains("nothing waits"), "{reply:?}");
    Ok(())
}

fn a_whitelist_that_came_with_a_trial_is_taken_back_with_it() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let (old, new) = (world.people(50)?, world.people(15)?);
    world.daemon.write_trusted("# whoever was here is gone\n")?;
    world.expect(0, &["apply", &file, "--confirm", "3s"]);
    old.iter().for_each(Person::is_refused);
    for person in &new {
        world.expect(0, &["trust", &person.address]);
    }
    world.daemon.await_log("in time and is taken back", 1)?;
    // It is said before it is done, and answered after that.
    let status = world.expect(5, &["status"]).stdout;
    assert!(
        status.contains("knockd.trusted is not in force"),
        "{status}"
    );
    for person in old.iter().chain(&new) {
        person.gets_in();
    }
    world.expect(0, &["reload"]);
    old.iter().for_each(Person::is_refused);
    for person in &new {
        person.gets_in();
    }
    world.expect(0, &["status"]);
    Ok(())
}

fn a_confirmed_trial_outlives_the_daemon() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    world.expect(0, &["confirm"]);
    assert!(change(&world, 0).is_null());
    assert_eq!(on_disk(&world), other_policy());
    world.daemon.kill_9();
    world.daemon.start()?;
    opens_with(&world, OTHER, KNOCK);
    world.expect(0, &["rollback"]);
    opens_with(&world, KNOCK, OTHER);
    Ok(())
}

fn a_rollback_ends_a_trial_and_brings_back_what_a_gate_held() -> Tried {
    let with_web = long_policy()
        .replace("gates:\n", WEB)
        .replace("action: accept", "action: accept, gate: ssh");
    let world = World::with_services(&with_web, TRUSTED, &[22, 8443])?;
    let banned = world.person(Family::V4, 12)?;
    world.expect(0, &["drop", &banned.address]);
    world.expect(0, &["accept", "192.0.2.13", "--gate", "web"]);
    let file = candidate(&world, "less.yaml", &pinned(&long_policy()))?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    banned.gets_in_at(8443);
    assert!(world.members("web_banned").is_empty());
    // What happens meanwhile stays.
    world.expect(0, &["drop", "192.0.2.14"]);
    world.expect(0, &["rollback"]);
    banned.is_refused_at(8443);
    world.await_member("web_banned", &banned.address);
    let accepted = world.await_member("web_filter", "192.0.2.13");
    assert!(
        accepted.left.is_some_and(|left| left <= 60.0),
        "{accepted:?}"
    );
    world.await_member("ssh_banned", "192.0.2.14");
    assert!(change(&world, 0).is_null());
    Ok(())
}

fn a_ban_comes_back_though_the_trials_whitelist_had_the_address() -> Tried {
    let with_web = long_policy()
        .replace("gates:\n", WEB)
        .replace("action: accept", "action: accept, gate: ssh");
    let mut world = World::with_services(&with_web, TRUSTED, &[22, 8443])?;
    let banned = world.person(Family::V4, 12)?;
    let file = candidate(&world, "less.yaml", &pinned(&long_policy()))?;
    for dies in [false, true] {
        world.expect(0, &["drop", &banned.address]);
        world
            .daemon
            .write_trusted(&format!("{TRUSTED}{}\n", banned.address))?;
        world.expect(0, &["apply", &file, "--confirm", "60s"]);
        banned.gets_in();
        world.daemon.write_trusted(TRUSTED)?;
        if dies {
            world.daemon.kill_9();
            world.daemon.start()?;
        } else {
            world.expect(0, &["rollback"]);
        }
        banned.is_refused_at(8443);
        world.await_member("web_banned", &banned.address);
    }
    Ok(())
}

fn what_a_gate_with_once_held_comes_back_unless_it_is_used_up() -> Tried {
    let once = WEB.replace("ports: [8443]", "ports: [8443], once: true");
    let with_web = long_policy()
        .replace("gates:\n", &once)
        .replace("action: accept", "action: accept, gate: ssh");
    let mut world = World::with_services(&with_web, TRUSTED, &[22, 8443])?;
    let (waits, used) = (world.people(12)?, world.people(13)?);
    let file = candidate(&world, "less.yaml", &pinned(&long_policy()))?;
    for dies in [false, true] {
        for person in waits.iter().chain(&used) {
            world.expect(
                0,
                &["accept", &person.address, "--gate", "web", "--for", "8h"],
            );
        }
        for person in &used {
            person.gets_in_at(8443);
        }
        world.expect(0, &["apply", &file, "--confirm", "60s"]);
        assert!(world.members("web_filter").is_empty());
        if dies {
            world.daemon.kill_9();
            world.daemon.start()?;
        } else {
            world.expect(0, &["rollback"]);
        }
        for person in &waits {
            person.gets_in_at(8443);
            person.is_refused_at(8443);
        }
        for person in &used {
            person.is_refused_at(8443);
        }
    }
    Ok(())
}

fn a_trial_of_another_ipv6_prefix_takes_no_acceptance_with_it() -> Tried {
    let wide = long_policy().replace("ports: [22]", "ports: [22], ipv6_prefix: 64");
    let [narrow, wide] = [long_policy(), wide].map(|policy| pinned(&policy));
    let mut world = World::with(&narrow, TRUSTED)?;
    let [operator, colleague, flushed, stranger] =
        [10, 11, 12, 13].map(|number| world.person(Family::V6, number).expect("a person"));
    for person in [&operator, &colleague] {
        world.expect(0, &["accept", &person.address, "--for", "8h"]);
    }
    let file = candidate(&world, "wide.yaml", &wide)?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    stranger.gets_in();
    world.expect(0, &["rollback"]);
    let come_back = |world: &World| {
        operator.gets_in();
        stranger.is_refused();
        let member = world.await_member("ssh_filter", &operator.address);
        assert!(
            member.left.is_some_and(|left| left > 28_000.0),
            "{member:?}"
        );
        assert_eq!(world.members("ssh_filter").len(), 2);
    };
    come_back(&world);
    // A crash is a way back, too.
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    come_back(&world);
    // What is taken from all of the network during the trial does not come back.
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    world.expect(0, &["flush", &flushed.address]);
    world.expect(0, &["rollback"]);
    operator.is_refused();
    // The other way round.
    world.daemon.write_policy(&wide)?;
    world.expect(0, &["reload"]);
    world.expect(0, &["accept", &operator.address, "--for", "8h"]);
    colleague.gets_in();
    let file = candidate(&world, "narrow.yaml", &narrow)?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    operator.is_refused();
    world.expect(0, &["rollback"]);
    operator.gets_in();
    colleague.gets_in();
    Ok(())
}

fn whoever_is_withdrawn_during_a_trial_stays_out_when_it_is_taken_back() -> Tried {
    let wide = long_policy().replace("ports: [22]", "ports: [22], ipv6_prefix: 64");
    let [narrow, wide] = [long_policy(), wide].map(|policy| pinned(&policy));
    let mut world = World::with(&wide, TRUSTED)?;
    let [operator, colleague] =
        [10, 11].map(|number| world.person(Family::V6, number).expect("a person"));
    let accept = |world: &World, who: &Person| {
        world.expect(0, &["accept", &who.address, "--for", "8h"]);
    };
    let file = candidate(&world, "narrow.yaml", &narrow)?;
    let ways = [
        &[&["flush", "all"][..]][..],
        &[&["flush", "filter"]],
        &[&["flush", &operator.address]],
        &[&["drop", &operator.address], &["unban", &operator.address]],
    ];
    for way in ways {
        accept(&world, &operator);
        world.expect(0, &["apply", &file, "--confirm", "60s"]);
        for command in way {
            world.expect(0, command);
        }
        world.expect(0, &["rollback"]);
        let held = world.members("ssh_filter");
        assert!(held.is_empty(), "{way:?}: {held:?}");
        operator.is_refused();
    }
    // The other way round, where somebody has the network accepted anew.
    world.daemon.write_policy(&narrow)?;
    world.expect(0, &["reload"]);
    let file = candidate(&world, "wide.yaml", &wide)?;
    for dies in [false, true] {
        accept(&world, &operator);
        world.expect(0, &["apply", &file, "--confirm", "60s"]);
        world.expect(0, &["flush", &operator.address]);
        accept(&world, &colleague);
        if dies {
            world.daemon.kill_9();
            world.daemon.start()?;
        } else {
            world.expect(0, &["rollback"]);
        }
        let held = world.members("ssh_filter");
        assert!(held.is_empty(), "killed: {dies}: {held:?}");
        operator.is_refused();
    }
    Ok(())
}

fn what_is_flushed_everywhere_is_so_at_a_gate_that_comes_back() -> Tried {
    let with_web = long_policy()
        .replace("gates:\n", WEB)
        .replace("action: accept", "action: accept, gate: ssh");
    let mut world = World::with_services(&with_web, TRUSTED, &[22, 8443])?;
    let (accepted, banned) = (world.person(Family::V4, 12)?, world.person(Family::V4, 13)?);
    let file = candidate(&world, "less.yaml", &pinned(&long_policy()))?;
    for dies in [false, true] {
        let web = ["--gate", "web", "--for", "8h"];
        world.expect(0, &[&["accept", &accepted.address], &web[..]].concat());
        world.expect(0, &[&["drop", &banned.address], &web[..]].concat());
        for flush in [&["flush", "all", "--gate", "ssh"][..], &["flush", "all"]] {
            world.expect(0, &["apply", &file, "--confirm", "60s"]);
            world.expect(0, flush);
            if dies {
                world.daemon.kill_9();
                world.daemon.start()?;
            } else {
                world.expect(0, &["rollback"]);
            }
            // A flush that names its gates is about those.
            let left = usize::from(flush.len() > 2);
            for set in ["web_filter", "web_banned"] {
                let held = world.members(set);
                assert_eq!(held.len(), left, "killed: {dies}, {flush:?}: {held:?}");
            }
        }
        accepted.is_refused_at(8443);
    }
    Ok(())
}

fn a_daemon_killed_during_a_trial_starts_with_the_policy_from_before() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    opens_with(&world, OTHER, KNOCK);
    world.daemon.kill_9();
    world.daemon.start()?;
    opens_with(&world, KNOCK, OTHER);
    world.daemon.await_log("was never confirmed", 1)?;
    let change = change(&world, 0);
    assert_eq!(change["state"], "reverted");
    assert_eq!(change["file"], file.as_str());
    assert!(change["expires_in_s"].is_null());
    Ok(())
}

fn a_daemon_that_is_stopped_during_a_trial_takes_it_back() -> Tried {
    let mut world = World::with_services(&long_policy(), TRUSTED, &[22, 8443])?;
    let with_web = long_policy()
        .replace("gates:\n", WEB)
        .replace("action: accept", "action: accept, gate: ssh");
    let file = candidate(&world, "more.yaml", &pinned(&with_web))?;
    let stranger = world.person(Family::V4, 12)?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    stranger.is_refused_at(8443);
    // There is nobody left who could do it in time.
    world.daemon.terminate()?;
    stranger.gets_in_at(8443);
    stranger.is_refused();
    world.daemon.start()?;
    assert_eq!(change(&world, 0)["state"], "reverted");
    Ok(())
}

fn what_a_trial_removed_comes_back_after_a_crash_too() -> Tried {
    let with_web = long_policy()
        .replace("gates:\n", WEB)
        .replace("action: accept", "action: accept, gate: ssh");
    let mut world = World::with_services(&with_web, TRUSTED, &[22, 8443])?;
    let banned = world.person(Family::V4, 12)?;
    world.expect(0, &["drop", &banned.address]);
    let file = candidate(&world, "less.yaml", &pinned(&long_policy()))?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    // What is remembered is on the disk when this is answered.
    world.daemon.kill_9();
    world.daemon.start()?;
    world.await_member("web_banned", &banned.address);
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    assert!(world.members("web_banned").is_empty());
    world.expect(0, &["drop", "192.0.2.14"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    world.await_member("web_banned", &banned.address);
    world.await_member("ssh_banned", "192.0.2.14");
    // Once it is confirmed it is gone for good.
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    world.expect(0, &["confirm"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    world.expect(0, &["rollback"]);
    assert!(world.members("web_banned").is_empty());
    Ok(())
}

fn a_trial_of_the_policys_own_file_is_not_taken_up_by_a_start() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let path = world.daemon.policy_path();
    let own = path.to_str().ok_or("not UTF-8")?.to_owned();
    world.daemon.write_policy(&other_policy())?;
    world.expect(0, &["apply", &own, "--confirm", "60s"]);
    opens_with(&world, OTHER, KNOCK);
    for _ in 0..2 {
        world.daemon.kill_9();
        world.daemon.start()?;
        opens_with(&world, KNOCK, OTHER);
        let reply = world.expect(5, &["status"]);
        assert!(reply.stdout.contains("never confirmed"), "{reply:?}");
    }
    world.expect(0, &["reload"]);
    opens_with(&world, OTHER, KNOCK);
    world.expect(0, &["status"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    opens_with(&world, OTHER, KNOCK);
    Ok(())
}

fn what_cannot_be_noted_is_not_tried() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let path = world.daemon.policy_path();
    let own = path.to_str().ok_or("not UTF-8")?.to_owned();
    world.daemon.write_policy(&other_policy())?;
    let note = world.daemon.state_dir().join("policy.unconfirmed");
    fs::create_dir(&note)?;
    let reply = world.expect(1, &["apply", &own, "--confirm", "60s"]);
    assert!(reply.stderr.contains("cannot note"), "{reply:?}");
    assert!(change(&world, 0).is_null());
    opens_with(&world, KNOCK, OTHER);
    fs::remove_dir(&note)?;
    world.expect(0, &["apply", &own, "--confirm", "60s"]);
    opens_with(&world, OTHER, KNOCK);
    Ok(())
}

fn a_whitelist_that_came_with_a_trial_is_not_taken_up_by_a_start() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let (old, new) = (world.people(50)?, world.people(15)?);
    let edited = "192.0.2.15\n2001:db8::15\n";
    for gently in [false, true] {
        world.daemon.write_trusted(edited)?;
        world.expect(0, &["apply", &file, "--confirm", "60s"]);
        old.iter().for_each(Person::is_refused);
        if gently {
            world.daemon.terminate()?;
        } else {
            world.daemon.kill_9();
        }
        for _ in 0..2 {
            world.daemon.start()?;
            for person in &old {
                person.gets_in();
            }
            new.iter().for_each(Person::is_refused);
            let reply = world.expect(5, &["status"]);
            assert!(reply.stdout.contains("as it was edited"), "{reply:?}");
            world.daemon.kill_9();
        }
        world.daemon.start()?;
        world.expect(0, &["reload"]);
        old.iter().for_each(Person::is_refused);
        world.daemon.kill_9();
        world.daemon.start()?;
        old.iter().for_each(Person::is_refused);
        for person in &new {
            person.gets_in();
        }
        world.expect(0, &["status"]);
        world.daemon.write_trusted(TRUSTED)?;
        world.expect(0, &["reload"]);
    }
    Ok(())
}

fn a_trial_that_fails_leaves_an_earlier_ones_whitelist_shelved() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let (old, new) = (world.people(50)?, world.people(15)?);
    world.daemon.write_trusted("192.0.2.15\n2001:db8::15\n")?;
    let note = world.daemon.state_dir().join("policy.unconfirmed");
    let cannot_be_noted = |world: &World| -> Tried {
        fs::create_dir(&note)?;
        let reply = world.expect(1, &["apply", &file, "--confirm", "60s"]);
        assert!(reply.stderr.contains("cannot note"), "{reply:?}");
        fs::remove_dir(&note)?;
        Ok(())
    };
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    world.expect(0, &["rollback"]);
    cannot_be_noted(&world)?;
    world.daemon.kill_9();
    world.daemon.start()?;
    for person in &old {
        person.gets_in();
    }
    new.iter().for_each(Person::is_refused);
    let reply = world.expect(5, &["status"]);
    assert!(reply.stdout.contains("as it was edited"), "{reply:?}");
    // Where nothing was shelved, what was not tried is an edit as any other.
    world.expect(0, &["reload"]);
    world.daemon.write_trusted(TRUSTED)?;
    cannot_be_noted(&world)?;
    world.daemon.kill_9();
    world.daemon.start()?;
    for person in &old {
        person.gets_in();
    }
    new.iter().for_each(Person::is_refused);
    world.expect(0, &["status"]);
    Ok(())
}

fn whom_a_command_trusts_or_not_is_no_part_of_an_edit_that_is_taken_back() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let (old, new) = (world.people(50)?, world.people(15)?);
    let untrust = ["untrust", &old[0].address, &old[1].address];
    let trust = ["trust", &new[0].address, &new[1].address];
    for when in ["during the trial", "after it", "without a daemon"] {
        world
            .daemon
            .write_trusted("192.0.2.15 # me\n2001:db8::15\n")?;
        world.expect(0, &["apply", &file, "--confirm", "60s"]);
        // These are on the file, or not, as the edit has it.
        if when == "during the trial" {
            world.expect(0, &untrust);
            world.expect(0, &trust);
        }
        world.expect(0, &["rollback"]);
        if when == "after it" {
            let reply = world.expect(0, &untrust);
            assert!(reply.stdout.contains("trusted no more"), "{reply:?}");
            let reply = world.expect(0, &trust);
            assert!(reply.stdout.contains("192.0.2.15 trusted"), "{reply:?}");
            let said = world.expect(0, &["history", "192.0.2.50"]).stdout;
            assert!(said.contains("untrusted"), "{said}");
            world.expect(0, &["status"]);
        }
        if when == "without a daemon" {
            world.daemon.terminate()?;
            world.direct(0, &untrust);
            world.direct(0, &trust);
            world.daemon.start()?;
        }
        for _ in 0..2 {
            old.iter().for_each(Person::is_refused);
            for person in &new {
                person.gets_in();
            }
            world.expect(0, &["status"]);
            world.daemon.kill_9();
            world.daemon.start()?;
        }
        world.daemon.write_trusted(TRUSTED)?;
        world.expect(0, &["reload"]);
    }
    Ok(())
}

fn whom_a_whitelist_trusts_that_is_only_tried_is_said_to_be_trusted_for_that_long() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let (old, new) = (world.people(50)?, world.people(15)?);
    let other = world.daemon.policy_path().with_file_name("other.trusted");
    fs::write(&other, "192.0.2.16\n")?;
    let tried = long_policy().replace("knockd.trusted", "other.trusted");
    let file = candidate(&world, "other.yaml", &tried)?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    // Of these, one is in neither file and one is in the other, so that nothing is changed here.
    for command in [["trust", &new[0].address], ["untrust", &old[0].address]] {
        let said = world.expect(0, &command).stdout;
        let told = said.contains("other.trusted, which is only tried");
        assert!(told && said.contains("knockd.trusted"), "{said}");
    }
    new[0].gets_in();
    world.expect(0, &["rollback"]);
    new[0].is_refused();
    old[0].gets_in();
    // Of a file that both policies have, what a command says holds in any case.
    let file = candidate(&world, "other.yaml", &other_policy())?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    let said = world.expect(0, &["trust", &new[0].address]).stdout;
    assert!(!said.contains("tried"), "{said}");
    world.expect(0, &["rollback"]);
    new[0].gets_in();
    Ok(())
}

fn a_trial_takes_nothing_from_the_history() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for n in 0..20 {
        world.expect(0, &["drop", &format!("198.51.100.{n}")]);
    }
    let short = format!("{}history: {{ rows: 10 }}\n", other_policy());
    let file = candidate(&world, "short.yaml", &short)?;
    let entries = || {
        world.json(&["history"])["entries"]
            .as_array()
            .map_or(0, Vec::len)
    };
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    world.expect(0, &["drop", "198.51.100.100"]);
    assert!(entries() > 20, "{}", entries());
    world.expect(0, &["confirm"]);
    world.expect(0, &["drop", "198.51.100.101"]);
    // Ten by hand and the start; the confirmation and the ban may come after the pruning.
    assert!(entries() <= 13, "{}", entries());
    Ok(())
}

/// `auto` is what was used last, and what was only tried was not used.
#[cfg(feature = "system-tests")]
fn a_trial_that_is_taken_back_takes_its_backend_with_it() -> Tried {
    let auto = format!("{}firewall: {{ backend: auto }}\n", long_policy());
    let mut world = World::with(&auto, TRUSTED)?;
    let backend = |world: &World| {
        let status = world.json(&["status"]);
        status["backend"].as_str().expect("text").to_owned()
    };
    assert_eq!(backend(&world), "iptables");
    let other = auto.replace("backend: auto", "backend: nftables");
    let file = candidate(&world, "other.yaml", &other)?;
    let apply = |world: &World, time: &str| {
        world.expect(0, &["apply", &file, "--confirm", time]);
        assert_eq!(backend(world), "nftables");
    };
    apply(&world, "2s");
    world.daemon.await_log("in time and is taken back", 1)?;
    assert_eq!(backend(&world), "iptables");
    apply(&world, "60s");
    world.expect(0, &["rollback"]);
    assert_eq!(backend(&world), "iptables");
    apply(&world, "60s");
    world.daemon.kill_9();
    world.daemon.start()?;
    assert_eq!(backend(&world), "iptables");
    // What is confirmed is what was used last.
    apply(&world, "60s");
    world.expect(0, &["confirm"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    assert_eq!(backend(&world), "nftables");
    Ok(())
}
