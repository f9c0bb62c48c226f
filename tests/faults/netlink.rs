//! The kernel refuses, or loses, a message: the daemon goes on, says what is not as it should be,
//! mends it by itself, and nobody notices at the gate. Which message it is, is counted by strace. The
//! messages are knockd's own: iptables programs that fail are in `tests/conformance`.

use std::fs;
use std::time::Duration;

use portcullis::lab::{LabError, await_some};

use crate::dead::Program;
use crate::kill;
use crate::operations::Chance;
use crate::scenarios;
use crate::siege::{Siege, thorough};
use crate::tracer::Tracer;
use crate::world::{Tried, backend};

scenarios![
    a_message_that_fails_during_a_change_is_made_up_for,
    a_message_that_fails_during_a_trial_is_made_up_for,
    a_change_that_fails_and_cannot_be_taken_back_either_is_made_up_for,
    a_message_that_fails_without_a_daemon_is_said_and_the_daemon_finds_everybody,
    a_message_that_fails_during_a_start_lets_nobody_in_and_shuts_nobody_out,
];

const ERRORS: [&str; 3] = ["ENOBUFS", "EPERM", "ENOMEM"];
/// Both directions, each counted by itself.
const CALLS: [&str; 2] = ["sendto,sendmsg", "recvfrom,recvmsg"];

/// With programs to start only the first: Rust's standard library hears from a child through a
/// socket, and panics where it cannot.
fn calls() -> &'static [&'static str] {
    if backend() == "nftables" {
        &CALLS
    } else {
        &CALLS[..1]
    }
}
/// By then it has been tried again, and looked at.
const MENDED: Duration = Duration::from_secs(20);
/// Messages of a change, and of a start.
const OF_A_CHANGE: usize = 60;
/// The first that fails is one of so many.
const EARLY: usize = 4;
const OF_A_START: usize = 400;

fn await_health(siege: &Siege, told: &str) -> Tried {
    let mut last = None;
    let healthy = await_some("a status of 0", MENDED, || {
        let reply = siege.world.ctl(&["status"])?;
        let is_well = reply.code == Some(0);
        last = Some(reply);
        Ok(is_well.then_some(()))
    });
    healthy.map_err(|error| format!("{told}: {error}: {last:?}").into())
}

/// What is done before, the change, and what takes it back. `BOTH` and `ALONE` are policies with
/// another gate besides, and without.
type Change = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const CHANGES: [Change; 8] = [
    (
        &["ping"],
        &["accept", "192.0.2.10", "--for", "1h"],
        &["flush", "192.0.2.10"],
    ),
    (&["ping"], &["drop", "192.0.2.11"], &["unban", "192.0.2.11"]),
    (&["drop", "192.0.2.11"], &["unban", "192.0.2.11"], &["ping"]),
    (
        &["ping"],
        &["trust", "192.0.2.12"],
        &["untrust", "192.0.2.12"],
    ),
    (
        &["ping"],
        &["trust", "192.0.2.12", "--runtime"],
        &["untrust", "192.0.2.12"],
    ),
    (&["ping"], &["reload"], &["ping"]),
    (&["ping"], &["apply", "BOTH"], &["apply", "ALONE"]),
    (&["apply", "BOTH"], &["apply", "ALONE"], &["ping"]),
];

/// The policies, each in a file.
fn policies(siege: &Siege) -> Result<[String; 2], Box<dyn std::error::Error>> {
    let alone = fs::read_to_string(siege.world.daemon.policy_path())?
        .replace("action: accept }", "action: accept, gate: ssh }");
    let both = alone.replace("gates:\n", "gates:\n  web: { ports: [80] }\n");
    assert_ne!(alone, both);
    let mut files = ["alone.yaml", "both.yaml"].map(|name| siege.world.lab.dir().join(name));
    for (file, text) in files.iter_mut().zip([alone, both]) {
        fs::write(file, text)?;
    }
    Ok(files.map(|file| file.to_string_lossy().into_owned()))
}

fn a_message_that_fails_during_a_change_is_made_up_for() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("messages of a change"));
    let (mut tried, mut complained) = (0, 0);
    let [alone, both] = policies(&siege)?;
    let named = |words: &'static [&'static str]| -> Vec<&str> {
        let named = words.iter().map(|word| match *word {
            "ALONE" => alone.as_str(),
            "BOTH" => both.as_str(),
            word => word,
        });
        named.collect()
    };
    for (first, words, back) in CHANGES {
        let [first, words, back] = [first, words, back].map(named);
        for calls in calls() {
            let mut number = 1 + chance.below(EARLY);
            while number < OF_A_CHANGE {
                siege.world.expect(0, &first);
                let error = chance.one_of(&ERRORS);
                let told = format!("{error} at {calls} {number} of {words:?}");
                let pid = siege.world.daemon.pid().ok_or("no daemon")?;
                let fault = format!("{calls}:error={error}:when={number}");
                let tracer = Tracer::attach_to_it_alone(pid, &fault)?;
                let reply = siege.world.ctl(&words)?;
                drop(tracer);
                tried += 1;
                complained += usize::from(reply.code != Some(0));
                assert!(siege.world.daemon.ended()?.is_none(), "{told}: it ended");
                await_health(&siege, &told)?;
                siege.holds(&told);
                // Asked once more, it is done, whatever became of it before.
                siege.world.expect(0, &words);
                siege.world.expect(0, &back);
                number += 1 + chance.below(if thorough() { 1 } else { 30 });
            }
        }
    }
    assert!(complained > 0, "none of {tried} was noticed");
    println!("{tried} messages of changes failed, {complained} of them were answered with that");
    siege.end().map(drop)
}

/// A policy for a while that the kernel does not quite take is either not in force at all, or in
/// force until it is taken back.
fn a_message_that_fails_during_a_trial_is_made_up_for() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("messages of a trial"));
    let [_, both] = policies(&siege)?;
    let before = fs::read_to_string(siege.world.daemon.policy_path())?;
    for (is_begin, calls) in [true, false]
        .into_iter()
        .flat_map(|it| calls().iter().map(move |calls| (it, calls)))
    {
        let mut number = 1 + chance.below(EARLY);
        while number < OF_A_CHANGE {
            let begin = ["apply", &both, "--confirm", "60s"];
            let words: &[&str] = if is_begin { &begin } else { &["rollback"] };
            if !is_begin {
                siege.world.expect(0, &begin);
            }
            let error = chance.one_of(&ERRORS);
            let told = format!("{error} at {calls} {number} of {words:?}");
            let pid = siege.world.daemon.pid().ok_or("no daemon")?;
            let tracer =
                Tracer::attach_to_it_alone(pid, &format!("{calls}:error={error}:when={number}"))?;
            let reply = siege.world.ctl(words)?;
            drop(tracer);
            assert!(siege.world.daemon.ended()?.is_none(), "{told}: it ended");
            await_health(&siege, &told)?;
            siege.holds(&told);
            let status = siege.world.json(&["status"]);
            let is_on_trial = status["change"]["state"] == "unconfirmed";
            // Without an answer nobody knows.
            let is_as_told = is_on_trial == is_begin || reply.code != Some(0);
            assert!(is_as_told, "{told}: {reply:?}: {status}");
            let gates = status["gates"].as_array().map_or(0, Vec::len);
            assert_eq!(gates, if is_on_trial { 2 } else { 1 }, "{told}");
            if is_on_trial {
                siege.world.expect(0, &["rollback"]);
            }
            let found = fs::read_to_string(siege.world.daemon.policy_path())?;
            assert_eq!(found, before, "{told}");
            number += 1 + chance.below(if thorough() { 1 } else { 30 });
        }
    }
    siege.end().map(drop)
}

/// For as long as that lasts, no message comes through.
fn a_change_that_fails_and_cannot_be_taken_back_either_is_made_up_for() -> Tried {
    let mut siege = Siege::begin()?;
    let [_, both] = policies(&siege)?;
    for words in [&["reload"][..], &["apply", &both]] {
        let told = format!("no message of {words:?} comes through");
        let pid = siege.world.daemon.pid().ok_or("no daemon")?;
        let tracer = Tracer::attach_to_it_alone(pid, "sendto,sendmsg:error=ENOBUFS")?;
        let reply = siege.world.ctl(words)?;
        drop(tracer);
        assert_eq!(reply.code, Some(1), "{told}: {reply:?}");
        assert!(siege.world.daemon.ended()?.is_none(), "{told}: it ended");
        await_health(&siege, &told)?;
        siege.holds(&told);
    }
    siege.end().map(drop)
}

/// What knockctl then says is so: done, or not.
fn a_message_that_fails_without_a_daemon_is_said_and_the_daemon_finds_everybody() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("messages without a daemon"));
    let (mut tried, mut complained) = (0, 0);
    for (words, (chain, address), back) in kill::CHANGES {
        for calls in calls() {
            let mut number = 1 + chance.below(EARLY);
            while number < OF_A_CHANGE {
                let error = chance.one_of(&ERRORS);
                siege.world.daemon.kill_9();
                let fault = format!("{calls}:error={error}:when={number}");
                let cut = siege.run_with(Program::DirectKnockctl, words, &fault, false)?;
                siege.world.daemon.start()?;
                siege.holds(&cut.told);
                let there = siege.world.member(chain, address).is_some();
                assert!(there || !cut.is_done(), "{}", cut.told);
                siege.world.expect(0, back);
                (tried, complained) = (tried + 1, complained + usize::from(!cut.is_done()));
                number += 1 + chance.below(if thorough() { 1 } else { 30 });
            }
        }
    }
    assert!(complained > 0, "none of {tried} was noticed");
    println!("{tried} messages failed without a daemon, {complained} were answered with that");
    siege.end().map(drop)
}

fn a_message_that_fails_during_a_start_lets_nobody_in_and_shuts_nobody_out() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("messages of a start"));
    let (mut tried, mut ended) = (0, 0);
    for calls in calls() {
        let mut number = 1;
        while number < OF_A_START {
            let error = chance.one_of(&ERRORS);
            let told = format!("{error} at {calls} {number} of a start");
            siege.world.daemon.kill_9();
            let fault = format!("{calls}:error={error}:when={number}");
            siege
                .world
                .daemon
                .set_environment(&[("FAULT", &fault), ("FOLLOW", "")]);
            let started = siege.world.daemon.start();
            siege.world.daemon.set_environment(&[]);
            tried += 1;
            match started {
                Ok(()) => await_health(&siege, &told)?,
                // It has said why, and the kernel goes on with what it holds.
                Err(LabError::DaemonEnded { status, .. }) if status.contains("exit status: 1") => {
                    ended += 1;
                    siege.world.daemon.start()?;
                }
                Err(error) => return Err(format!("{told}: {error}").into()),
            }
            siege.holds(&told);
            number += if thorough() { 1 } else { 1 + chance.below(60) };
        }
    }
    println!("{tried} messages of starts failed, and ended {ended} of them");
    siege.end().map(drop)
}
