//! The kernel refuses, or loses, a message: the daemon goes on, says what is not as it should be,
//! mends it by itself, and nobody notices at the gate. Which message it is, is counted by strace.

use portcullis::lab::{LabError, await_some};

use crate::kill::{Siege, thorough};
use crate::operations::Chance;
use crate::scenarios;
use crate::tracer::Tracer;
use crate::world::Tried;

use std::time::Duration;

scenarios![
    a_message_that_fails_during_a_change_is_made_up_for,
    a_message_that_fails_during_a_start_lets_nobody_in_and_shuts_nobody_out,
];

const ERRORS: [&str; 3] = ["ENOBUFS", "EPERM", "ENOMEM"];
/// Both directions, each counted by itself.
const CALLS: [&str; 2] = ["sendto,sendmsg", "recvfrom,recvmsg"];
/// By then it has been tried again, and looked at.
const MENDED: Duration = Duration::from_secs(20);
/// Messages of a change, and of a start.
const OF_A_CHANGE: usize = 60;
const OF_A_START: usize = 400;

fn await_health(siege: &Siege, told: &str) -> Tried {
    let healthy = await_some("a status of 0", MENDED, || {
        Ok((siege.world.ctl(&["status"])?.code == Some(0)).then_some(()))
    });
    healthy.map_err(|error| format!("{told}: {error}").into())
}

fn a_message_that_fails_during_a_change_is_made_up_for() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("messages of a change"));
    let (mut tried, mut complained) = (0, 0);
    for words in [
        &["accept", "192.0.2.10", "--for", "1h"][..],
        &["trust", "192.0.2.12", "--runtime"],
        &["reload"],
    ] {
        for calls in CALLS {
            let mut number = 1;
            while number < OF_A_CHANGE {
                let error = chance.one_of(&ERRORS);
                let told = format!("{error} at {calls} {number} of {words:?}");
                let pid = siege.world.daemon.pid().ok_or("no daemon")?;
                let fault = format!("{calls}:error={error}:when={number}");
                let tracer = Tracer::attach(pid, &fault)?;
                let reply = siege.world.ctl(words)?;
                drop(tracer);
                tried += 1;
                complained += usize::from(reply.code != Some(0));
                assert!(siege.world.daemon.ended()?.is_none(), "{told}: it ended");
                await_health(&siege, &told)?;
                siege.holds(&told);
                // Asked once more, it is done, whatever became of it before.
                siege.world.expect(0, words);
                let back: &[&str] = match words[0] {
                    "accept" => &["flush", "192.0.2.10"],
                    "trust" => &["untrust", "192.0.2.12"],
                    _ => &["ping"],
                };
                siege.world.expect(0, back);
                number += if thorough() { 1 } else { 1 + chance.below(20) };
            }
        }
    }
    assert!(complained > 0, "none of {tried} was noticed");
    println!("{tried} messages of changes failed, {complained} of them were answered with that");
    siege.end().map(drop)
}

fn a_message_that_fails_during_a_start_lets_nobody_in_and_shuts_nobody_out() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("messages of a start"));
    let (mut tried, mut ended) = (0, 0);
    for calls in CALLS {
        let mut number = 1;
        while number < OF_A_START {
            let error = chance.one_of(&ERRORS);
            let told = format!("{error} at {calls} {number} of a start");
            siege.world.daemon.kill_9();
            let fault = format!("{calls}:error={error}:when={number}");
            siege.world.daemon.set_environment(&[("FAULT", &fault)]);
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
