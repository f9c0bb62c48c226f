//! A new policy or a bad one, while people knock and connect.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portcullis::lab::{BEFORE_A_SECOND_SYN, Client, ONE_SYN, await_some};

use crate::scenarios;
use crate::world::{AT_ONCE, Family, POLICY, TRUSTED, Tried, World, long_policy, port_at};

scenarios![
    a_bad_policy_is_refused_and_the_running_one_stays,
    unchanged_sequences_keep_their_attempts,
    members_keep_their_deadlines,
    a_removed_gates_chains_go,
    a_new_gate_is_closed_at_once,
    sessions_open_before_a_new_gate_stay_open,
    a_changed_knock_replaces_the_old_one,
    nobody_notices_a_reload,
];

fn a_bad_policy_is_refused_and_the_running_one_stays() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let people = world.people(10)?;
    people[0].opens();
    let bad = POLICY.replace("accept_timeout: 2s", "accept_timout: 2s");
    world.daemon.write_policy(&bad)?;
    let reply = world.expect(2, &["reload"]);
    for word in ["knockd.yaml:5:", "accept_timout", "accept_timeout"] {
        assert!(reply.stderr.contains(word), "{word} in {reply:?}");
    }
    let complaints = world.daemon.log().matches("knockd.yaml:5:").count();
    world.daemon.hang_up()?;
    world.daemon.await_log("knockd.yaml:5:", complaints + 1)?;
    people[0].gets_in();
    people[1].is_refused();
    people[1].opens();
    world.daemon.write_policy("\t")?;
    world.expect(2, &["reload"]);
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    Ok(())
}

fn unchanged_sequences_keep_their_attempts() -> Tried {
    let policy = POLICY.replace("seq_timeout: 1s", "seq_timeout: 20s");
    let world = World::with(&policy, TRUSTED)?;
    let people = world.people(10)?;
    for person in &people {
        person.knocks(&["1228"]);
    }
    let more =
        format!("{policy}  more: {{ sequence: [3000, 3001], seq_timeout: 1s, action: accept }}\n");
    world.daemon.write_policy(&more)?;
    world.expect(0, &["reload"]);
    for person in &people {
        person.opens_with(&["1227"], 22);
    }
    Ok(())
}

fn members_keep_their_deadlines() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let [accepted, banned] = [Family::V4.address(10), Family::V6.address(11)];
    world.expect(0, &["accept", &accepted, "--for", "20s"]);
    world.expect(0, &["drop", &banned, "--for", "30s"]);
    let policy = long_policy().replace("accept_timeout: 60s", "accept_timeout: 50s");
    world.daemon.write_policy(&policy)?;
    world.expect(0, &["reload"]);
    for (chain, address, span) in [("ssh_filter", accepted, 20.0), ("ssh_banned", banned, 30.0)] {
        let member = world.await_member(chain, &address);
        let kept = member
            .left
            .is_some_and(|left| left <= span && left > span - 10.0);
        assert!(kept, "{member:?}");
        assert!(member.reason.contains("knockctl"), "{member:?}");
    }
    // The new time holds for new knocks.
    let person = world.person(Family::V4, 12)?;
    person.opens();
    let left = world.await_member("ssh_filter", &person.address).left;
    assert!(left.is_some_and(|left| left <= 50.0), "{left:?}");
    Ok(())
}

const WEB: &str = "gates:\n  web: { ports: [8443], accept_timeout: 60s, ban_timeout: never }\n";

fn with_web(policy: &str) -> String {
    // With two gates every knock must say where.
    policy
        .replace("gates:\n", WEB)
        .replace("action: accept", "action: accept, gate: ssh")
}

fn a_removed_gates_chains_go() -> Tried {
    let world = World::with_services(&with_web(&long_policy()), TRUSTED, &[22, 8443])?;
    let people = world.people(10)?;
    for person in &people {
        person.is_refused_at(8443);
    }
    world.expect(0, &["drop", &people[0].address]);
    world.daemon.write_policy(&long_policy())?;
    world.expect(0, &["reload"]);
    for person in &people {
        person.gets_in_at(8443);
        person.is_refused_at(22);
    }
    assert!(world.members("web_banned").is_empty());
    world.await_member("ssh_banned", &people[0].address);
    let status = world.json(&["status"]);
    assert!(!status["gates"].to_string().contains("web"), "{status}");
    Ok(())
}

fn a_new_gate_is_closed_at_once() -> Tried {
    let world = World::with_services(&long_policy(), TRUSTED, &[22, 8443])?;
    let people = world.people(10)?;
    let mut sessions: Vec<_> = people
        .iter()
        .map(|person| person.gets_in_at(8443))
        .collect();
    world.daemon.write_policy(&with_web(&long_policy()))?;
    world.daemon.hang_up()?;
    for (person, session) in people.iter().zip(&mut sessions) {
        let gate = port_at(&person.server, 8443);
        person.client.await_silent(&gate, AT_ONCE)?;
        // Open before the gate was there.
        crate::world::goes_on(session);
    }
    for trusted in world.people(50)? {
        trusted.gets_in_at(8443);
    }
    Ok(())
}

fn sessions_open_before_a_new_gate_stay_open() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22, 8443])?;
    let people = world.people(10)?;
    // Silent from before the first rule on: connection tracking has never seen them.
    let mut sessions: Vec<_> = people
        .iter()
        .map(|person| person.gets_in_at(8443))
        .collect();
    world.daemon.start()?;
    world.daemon.write_policy(&with_web(&long_policy()))?;
    world.expect(0, &["reload"]);
    for (person, session) in people.iter().zip(&mut sessions) {
        person.is_refused_at(8443);
        crate::world::goes_on(session);
    }
    Ok(())
}

fn a_changed_knock_replaces_the_old_one() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let policy = long_policy().replace("[1228, 1227]", "[4001, 4002]");
    world.daemon.write_policy(&policy)?;
    world.expect(0, &["reload"]);
    for (person, witness) in world.people(10)?.into_iter().zip(world.people(11)?) {
        person.knocks(crate::world::KNOCK);
        witness.opens_with(&["4001", "4002"], 22);
        person.is_refused();
    }
    Ok(())
}

/// From one attempt to the next: without a pause, a service that gets no processor for a while has
/// its queue full, and then the kernel is silent, not the gate.
const GAP: Duration = Duration::from_millis(2);

/// Connects again and again; says what it found first that is not `expected`.
fn keeps_trying(
    client: &Client,
    gate: &str,
    expected: &str,
    stop: &AtomicBool,
    tries: &AtomicUsize,
) -> Option<String> {
    let patience = match expected {
        "silent" => ONE_SYN,
        _ => BEFORE_A_SECOND_SYN,
    };
    let mut wrong = None;
    while !stop.load(Ordering::Acquire) {
        match client.connect(gate, patience) {
            Ok(outcome) if outcome.word() == expected => {}
            Ok(outcome) => wrong = wrong.or(Some(outcome.word().to_owned())),
            Err(error) => wrong = wrong.or(Some(error.to_string())),
        }
        tries.fetch_add(1, Ordering::AcqRel);
        thread::sleep(GAP);
    }
    wrong
}

fn nobody_notices_a_reload() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    undisturbed(&world, |world| {
        for round in 0..10 {
            let policy = if round % 2 == 0 {
                with_web(&long_policy())
            } else {
                long_policy()
            };
            world.daemon.write_policy(&policy)?;
            world.expect(0, &["reload"]);
        }
        Ok(())
    })
}

/// While `disturbance` goes on, the trusted always get in and strangers never do.
pub(crate) fn undisturbed<W>(world: W, disturbance: impl FnOnce(W) -> Tried) -> Tried
where
    W: std::borrow::Borrow<World>,
{
    let mut clients = Vec::new();
    for family in Family::BOTH {
        let gate = port_at(family.server(), 22);
        for (number, expected) in [(50, "open"), (10, "silent")] {
            let client = world.borrow().person(family, number)?.client;
            clients.push((client, gate.clone(), expected));
        }
    }
    let stop = AtomicBool::new(false);
    let tries: Vec<AtomicUsize> = clients.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter()
            .zip(&tries)
            .map(|((client, gate, expected), tries)| {
                let stop = &stop;
                scope.spawn(move || keeps_trying(client, gate, expected, stop, tries))
            })
            .collect();
        let tried_again = |more: usize| {
            let before: Vec<usize> = tries.iter().map(|t| t.load(Ordering::Acquire)).collect();
            await_some("more attempts to connect", AT_ONCE, || {
                let now = tries.iter().map(|t| t.load(Ordering::Acquire));
                let enough = now.zip(&before).all(|(now, before)| now >= before + more);
                Ok(enough.then_some(()))
            })
        };
        // Also when it panics, the threads must end.
        let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> Tried {
            tried_again(1)?;
            disturbance(world)?;
            tried_again(2)?;
            Ok(())
        }));
        stop.store(true, Ordering::Release);
        for (thread, (client, _, expected)) in running.into_iter().zip(&clients) {
            let wrong = thread.join().map_err(|_| "a client panicked")?;
            assert_eq!(
                wrong,
                None,
                "{} should always find it {expected}",
                client.source()
            );
        }
        disturbed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
