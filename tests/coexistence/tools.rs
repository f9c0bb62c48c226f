//! Programs that we did not write, and what our own says about their work.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis::lab::{Host, Lab, Reply, run_bounded};
use serde_json::Value;

use crate::Ours;
use crate::world::{POLICY, Person, TRUSTED, World};

const PATIENCE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs a program on that host, which must succeed.
#[track_caller]
pub(crate) fn run(lab: &Lab, host: &Host, command: &[&str]) -> Reply {
    let mut prepared = host.command(command[0]).expect("a command");
    prepared.args(&command[1..]);
    let finished = run_bounded(&mut prepared, lab.dir(), PATIENCE);
    let reply = Reply::from(finished.expect("it runs and ends"));
    assert_eq!(reply.code, Some(0), "{command:?}: {reply:?}");
    reply
}

/// A file of the laboratory with this text.
#[track_caller]
pub(crate) fn file(lab: &Lab, text: &str) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = lab.dir().join(format!("file-{number}"));
    fs::write(&path, text).expect("a file");
    path
}

/// Loads rules in the words of `nft -f`, `iptables-restore` and `ip6tables-restore`.
#[track_caller]
pub(crate) fn load(lab: &Lab, host: &Host, program: &str, text: &str) {
    let path = file(lab, text);
    let path = path.to_str().expect("our own name");
    match program {
        "nft" => run(lab, host, &["nft", "-f", path]),
        _ => run(lab, host, &[program, "--noflush", path]),
    };
}

/// A world of that backend, with acceptances that last, before the daemon is started.
pub(crate) fn world(ours: Ours) -> Result<World, Box<dyn Error>> {
    let policy = POLICY.replace("accept_timeout: 2s", "accept_timeout: 600s");
    Ok(World::before(&ours.policy(&policy), TRUSTED, &[22])?)
}

fn status(world: &World, code: i32) -> Value {
    let reply = world.expect(code, &["-o", "json", "status"]);
    serde_json::from_str(&reply.stdout).expect("JSON")
}

/// `status` says that somebody knocks in vain, and its sentences have each of these words.
#[track_caller]
pub(crate) fn says(world: &World, words: &[&str]) {
    let status = status(world, 5);
    assert_eq!(status["state"], "degraded", "{status}");
    let said = status["problems"].to_string();
    for word in words {
        assert!(said.contains(word), "`{word}` in {said}");
    }
}

/// `status` has nothing to complain about.
#[track_caller]
pub(crate) fn says_nothing(world: &World) {
    let status = status(world, 0);
    assert_eq!(
        status["problems"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
}

/// Knocks, and is let in; a stranger is not.
#[track_caller]
pub(crate) fn opens_to_knockers_only(world: &World) {
    for [person, stranger] in pairs(world, 10) {
        stranger.is_refused();
        person.opens();
        stranger.is_refused();
    }
    for trusted in world.people(50).expect("the trusted") {
        trusted.gets_in();
    }
}

/// Knocks, is accepted, and is not let in all the same.
#[track_caller]
pub(crate) fn opens_to_nobody(world: &World) {
    for [person, _] in pairs(world, 14) {
        person.knocks(crate::world::KNOCK);
        world.await_member("ssh_filter", &person.address);
        // Said already by the kernel: it holds the acceptance.
        person.is_refused();
    }
}

fn pairs(world: &World, number: u8) -> Vec<[Person; 2]> {
    let people = |number| world.people(number).expect("people");
    let pairs = people(number).into_iter().zip(people(number + 1));
    pairs.map(|(one, other)| [one, other]).collect()
}
