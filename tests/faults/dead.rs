//! kill -9 at every step of what works without a daemon: `knockd setup`, before there is one, and
//! `knockctl --direct`, after it has died. Whatever was half done, the daemon's next start finds
//! everybody where they should be.

use std::error::Error;
use std::fs;
use std::time::Duration;

use portcullis::lab::{Reply, run_bounded};

use crate::kill::{CHANGES, NETWORK, OUT_OF_IT, rest_is_banned};
use crate::operations::Chance;
use crate::scenarios;
use crate::siege::{Cut, Siege, each_step};
use crate::tracer::traced;
use crate::world::{Tried, backend, long_policy};

scenarios![
    at_any_step_of_a_setup_of_what_is_there,
    at_any_step_of_a_setup_after_a_boot,
    at_any_step_of_a_change_without_a_daemon,
    at_any_step_of_an_acceptance_out_of_a_banned_network_without_a_daemon,
];

const PATIENCE: Duration = Duration::from_secs(20);

/// How far apart the steps of a setup are.
fn of_a_setup() -> usize {
    if backend() == "nftables" { 48 } else { 128 }
}

/// And of a change: a program that has everything to read first takes many.
fn of_a_change_without() -> usize {
    if backend() == "nftables" { 48 } else { 128 }
}

/// Which of the programs is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Knockd,
    DirectKnockctl,
}

impl Siege {
    /// Runs a program, which is killed at that step if it comes so far; the daemon is dead.
    fn run_cut_short(
        &self,
        program: Program,
        words: &[&str],
        calls: &str,
        step: usize,
    ) -> Result<Cut, Box<dyn Error>> {
        self.run_with(
            program,
            words,
            &format!("{calls}:signal=KILL:when={step}"),
            true,
        )
    }

    /// Runs a program with that fault, in strace's words, which befalls the programs that it starts,
    /// too, or does not.
    pub(crate) fn run_with(
        &self,
        program: Program,
        words: &[&str],
        fault: &str,
        follows: bool,
    ) -> Result<Cut, Box<dyn Error>> {
        let daemon = &self.world.daemon;
        let traces = self.world.lab.dir().join("traces");
        let mut command = traced(&self.world.server, fault, &traces, follows)?;
        match program {
            Program::Knockd => command.arg(env!("CARGO_BIN_EXE_knockd")),
            Program::DirectKnockctl => command.args([env!("CARGO_BIN_EXE_knockctl"), "--direct"]),
        };
        command.args(words).arg("-c").arg(daemon.policy_path());
        command.arg("--state-dir").arg(daemon.state_dir());
        command.arg("--runtime-dir").arg(daemon.runtime_dir());
        let reply: Reply = run_bounded(&mut command, self.world.lab.dir(), PATIENCE)?.into();
        let killed = fs::read_to_string(&traces)?.contains("SIGKILL");
        Ok(Cut {
            died: killed || reply.code != Some(0),
            told: format!("after {fault} of {words:?} ({reply:?})"),
            reply,
        })
    }
}

/// Nobody who is shut out gets in meanwhile, and nobody trusted is refused.
fn at_any_step_of_a_setup_of_what_is_there() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("steps of a setup of what is there"));
    let deaths = each_step(&mut chance, of_a_setup(), |calls, step| {
        siege.world.daemon.kill_9();
        let cut = siege.run_cut_short(Program::Knockd, &["setup"], calls, step)?;
        siege.world.daemon.start()?;
        siege.holds(&cut.told);
        Ok(cut.died)
    })?;
    assert!(deaths > 0, "it never died");
    siege.say("a setup of what is there", deaths)
}

/// The kernel has forgotten everything, and nobody's gate is shut yet: but nobody trusted is
/// refused, whatever was done of it, and the next attempt does it.
fn at_any_step_of_a_setup_after_a_boot() -> Tried {
    let mut siege = Siege::with_members(&long_policy())?;
    siege.people_try(&[true])?;
    let mut chance = Chance::new(Chance::seed("steps of a setup after a boot"));
    let deaths = each_step(&mut chance, of_a_setup(), |calls, step| {
        siege.world.daemon.kill_9();
        let reply = siege.world.daemon.run_knockd(&["teardown"])?;
        assert_eq!(reply.code, Some(0), "{reply:?}");
        let cut = siege.run_cut_short(Program::Knockd, &["setup"], calls, step)?;
        let reply = siege.world.daemon.run_knockd(&["setup"])?;
        assert_eq!(reply.code, Some(0), "{reply:?} {}", cut.told);
        for stranger in siege.world.people(12)? {
            stranger.is_refused();
        }
        for accepted in siege.world.people(14)? {
            accepted.gets_in();
        }
        siege.world.daemon.start()?;
        siege.holds(&cut.told);
        Ok(cut.died)
    })?;
    assert!(deaths > 0, "it never died");
    siege.say("a setup after a boot", deaths)
}

fn at_any_step_of_a_change_without_a_daemon() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("steps of changes without a daemon"));
    let mut deaths = 0;
    for (words, (chain, address), back) in CHANGES {
        deaths += each_step(&mut chance, of_a_change_without(), |calls, step| {
            siege.world.daemon.kill_9();
            let cut = siege.run_cut_short(Program::DirectKnockctl, words, calls, step)?;
            siege.world.daemon.start()?;
            siege.holds(&cut.told);
            let there = siege.world.member(chain, address).is_some();
            assert!(there || !cut.is_done(), "{}", cut.told);
            siege.world.expect(0, back);
            Ok(cut.died)
        })?;
    }
    assert!(deaths > 0, "it never died");
    siege.say("changes without a daemon", deaths)
}

fn at_any_step_of_an_acceptance_out_of_a_banned_network_without_a_daemon() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("steps of a direct acceptance by force"));
    let words = ["accept", OUT_OF_IT, "--force", "--for", "1h"];
    let deaths = each_step(&mut chance, of_a_change_without(), |calls, step| {
        siege.world.expect(0, &["drop", NETWORK, "--for", "2h"]);
        siege.world.daemon.kill_9();
        let cut = siege.run_cut_short(Program::DirectKnockctl, &words, calls, step)?;
        siege.world.daemon.start()?;
        siege.holds(&cut.told);
        rest_is_banned(&siege, &cut);
        siege.world.expect(0, &["flush", OUT_OF_IT]);
        Ok(cut.died)
    })?;
    assert!(deaths > 0, "it never died");
    siege.say(
        "an acceptance out of a banned network without a daemon",
        deaths,
    )
}
