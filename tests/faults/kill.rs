//! kill -9 at every step of a start and of every change, while people keep knocking at the door: at
//! no moment is a stranger let in or a trusted machine refused, and after the next start every
//! member is there with its true time.
//!
//! A step is a system call that changes something outside of the process: a message to the kernel,
//! a write, a sync, a rename. strace kills on the way into the n-th of a kind, so that the last one
//! before is done and nothing after it. Without `FAULTS=all` every few of the many messages of a
//! start are taken, and of a change the steps of one kind: others each time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use portcullis::lab::{Program, Programs, await_some};
use serde_json::Value;

use crate::operations::Chance;
use crate::scenarios;
use crate::stream::{Count, Stream};
use crate::tracer::{Tracer, script};
use crate::world::{Tried, World, long_policy, programs};

scenarios![
    at_any_step_of_a_start,
    at_any_step_of_a_change,
    at_random_moments,
];

/// What changes something outside. Names that this machine's kernel lacks are left out by `?`.
const STEPS: [&str; 4] = [
    "sendto,sendmsg",
    "pwrite64,fsync,fdatasync,ftruncate",
    "?rename,renameat,renameat2,?unlink,unlinkat",
    "write",
];
/// Far more steps than there are of a kind: then the counting is wrong.
const MOST: usize = 500;
/// What is shown is in whole seconds, rounded up, and asking takes its time.
const TOLERANCE: f64 = 2.0;

/// An answer may take that long.
const PATIENCE: Duration = Duration::from_secs(5);

const TRUSTED: &str = "192.0.2.50\n2001:db8::50\n";

pub(crate) fn thorough() -> bool {
    std::env::var("FAULTS").is_ok_and(|what| what == "all")
}

/// Members as they should be: chain, address, and when they end, in seconds since the beginning.
type Members = Vec<(&'static str, &'static str, Option<f64>)>;

/// A world in which people keep trying to get in.
pub(crate) struct Siege {
    streams: Vec<(bool, Stream)>,
    pub(crate) world: World,
    began: Instant,
    pub(crate) members: Members,
}

impl Siege {
    pub(crate) fn begin() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?.keep();
        let knockd = dir.join("knockd");
        fs::write(&knockd, script(env!("CARGO_BIN_EXE_knockd")))?;
        fs::set_permissions(&knockd, fs::Permissions::from_mode(0o755))?;
        let traced = Programs {
            knockd: Program::at(knockd),
            ..programs()
        };
        let mut world = World::before_with(&long_policy(), TRUSTED, &[22], &traced)?;
        world.daemon.start()?;
        let began = Instant::now();
        let mut members = Vec::new();
        for (verb, chain, address, time) in [
            ("accept", "ssh_filter", "192.0.2.14", Some(900)),
            ("accept", "ssh_filter", "2001:db8::14", None),
            ("drop", "ssh_banned", "192.0.2.15", Some(1_200)),
            ("drop", "ssh_banned", "198.51.100.0/24", None),
        ] {
            let for_ = time.map_or("never".to_owned(), |secs| format!("{secs}s"));
            world.expect(0, &[verb, address, "--for", &for_]);
            let end = time.map(|secs| began.elapsed().as_secs_f64() + f64::from(secs));
            members.push((chain, address, end));
        }
        let mut siege = Self {
            streams: Vec::new(),
            world,
            began,
            members,
        };
        for (is_trusted, who) in [(false, "13"), (true, "50")] {
            for (net, server) in [
                ("192.0.2.", "192.0.2.1:22"),
                ("2001:db8::", "[2001:db8::1]:22"),
            ] {
                let source = format!("{net}{who}").parse()?;
                let stream = Stream::start(&siege.world.clients, source, server.parse()?);
                siege.streams.push((is_trusted, stream));
            }
        }
        Ok(siege)
    }

    /// Every member is there, with its time.
    #[track_caller]
    pub(crate) fn holds(&self, told: &str) {
        // A message that is to fail may be one of these.
        let answer = await_some("an answer to list", PATIENCE, || {
            let reply = self.world.ctl(&["-o", "json", "list"])?;
            Ok((reply.code == Some(0)).then_some(reply.stdout))
        });
        let answer = answer.expect("the members are listed");
        let listed: Value = serde_json::from_str(&answer).expect("JSON");
        let now = self.began.elapsed().as_secs_f64();
        let entries = listed["entries"].as_array().expect("entries");
        for (chain, address, end) in &self.members {
            let mut found = entries.iter();
            let found = found.find(|e| e["chain"] == *chain && e["address"] == *address);
            let Some(found) = found else {
                panic!("{address} is lost from {chain} {told}: {listed}");
            };
            match (end, found["expires_in_s"].as_f64()) {
                (None, None) => {}
                (Some(end), Some(left)) if (now + left - end).abs() <= TOLERANCE => {}
                (end, left) => panic!("{address} until {end:?}, now {now} and {left:?} {told}"),
            }
        }
        let text = fs::read_to_string(self.world.daemon.trusted_path()).expect("the whitelist");
        for line in TRUSTED.lines() {
            assert!(text.lines().any(|l| l.starts_with(line)), "{text:?} {told}");
        }
    }

    /// What became of all attempts in the meantime.
    pub(crate) fn end(mut self) -> Result<[Count; 2], Box<dyn std::error::Error>> {
        let mut counts = [Count::default(); 2];
        for (is_trusted, stream) in self.streams.drain(..) {
            let count = &mut counts[usize::from(is_trusted)];
            *count = count.and(stream.finish()?);
        }
        let [strangers, trusted] = counts;
        assert_eq!(strangers.open, 0, "a stranger was in: {strangers:?}");
        assert!(strangers.silent > 0, "{strangers:?}");
        assert_eq!(
            trusted.open,
            trusted.attempts(),
            "one was refused: {trusted:?}"
        );
        Ok(counts)
    }

    fn say(self, what: &str, deaths: usize) -> Tried {
        let [strangers, trusted] = self.end()?;
        println!(
            "{what}: {deaths} times kill -9; 0 of {} strangers let in, 0 of {} trusted refused",
            strangers.attempts(),
            trusted.attempts()
        );
        Ok(())
    }

    /// Starts it, which is killed at that step; whether it was.
    fn dies_at_start(&mut self, fault: &str) -> Result<bool, Box<dyn std::error::Error>> {
        self.world.daemon.set_environment(&[("FAULT", fault)]);
        let started = self.world.daemon.start();
        self.world.daemon.set_environment(&[]);
        match started {
            Ok(()) => Ok(false),
            Err(portcullis::lab::LabError::DaemonEnded { status, .. })
                if status.contains("signal: 9") =>
            {
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn at_any_step_of_a_start() -> Tried {
    let mut siege = Siege::begin()?;
    let mut deaths = 0;
    let seed = Chance::seed("steps of a start");
    let mut chance = Chance::new(seed);
    for calls in STEPS {
        let mut step = 1;
        loop {
            siege.world.daemon.kill_9();
            if !siege.dies_at_start(&format!("{calls}:signal=KILL:when={step}"))? {
                break;
            }
            deaths += 1;
            siege.world.daemon.start()?;
            siege.holds(&format!("after a death at {calls} {step} of a start"));
            step += if thorough() { 1 } else { 1 + chance.below(24) };
            assert!(step < MOST, "{calls}");
        }
        siege.world.daemon.kill_9();
        siege.world.daemon.start()?;
    }
    assert!(deaths > 3, "{deaths}");
    siege.say("a start", deaths)
}

/// A change, and what holds afterwards if it was done: member or not.
type Change = (&'static [&'static str], &'static str, &'static str);

const CHANGES: [Change; 5] = [
    (
        &["accept", "192.0.2.10", "--for", "1h"],
        "ssh_filter",
        "192.0.2.10",
    ),
    (
        &["drop", "192.0.2.11", "--for", "1h"],
        "ssh_banned",
        "192.0.2.11",
    ),
    (&["trust", "192.0.2.12"], "ssh_trusted", "192.0.2.12"),
    (
        &["trust", "2001:db8::12", "--runtime"],
        "ssh_trusted",
        "2001:db8::12",
    ),
    (&["apply", "new.yaml"], "web_banned", "203.0.113.9"),
];

fn at_any_step_of_a_change() -> Tried {
    let mut siege = Siege::begin()?;
    let old = fs::read_to_string(siege.world.daemon.policy_path())?;
    let new = old.replace(
        "ssh: {",
        "web: { ports: [80], ban_timeout: never }\n  ssh: {",
    );
    let new = new.replace("action: accept }", "action: accept, gate: ssh }");
    let new = new.replace("action: drop }", "action: drop, gate: ssh }");
    assert_ne!(old, new);
    let file = siege.world.lab.dir().join("new.yaml");
    fs::write(&file, &new)?;
    let file = file.to_string_lossy().into_owned();
    let mut chance = Chance::new(Chance::seed("steps of changes"));
    let (mut deaths, mut unhurt) = (0, 0);
    for (words, chain, address) in CHANGES {
        let words: Vec<&str> = words
            .iter()
            .map(|w| if *w == "new.yaml" { &*file } else { *w })
            .collect();
        // Without FAULTS=all steps of one kind, another each time.
        let kinds = if thorough() {
            STEPS.to_vec()
        } else {
            vec![chance.one_of(&STEPS)]
        };
        for calls in kinds {
            let mut step = 1;
            loop {
                assert!(step < MOST, "{calls}");
                let pid = siege.world.daemon.pid().ok_or("no daemon")?;
                let tracer = Tracer::attach(pid, &format!("{calls}:signal=KILL:when={step}"))?;
                let reply = siege.world.ctl(&words)?;
                let died = siege.world.daemon.ended()?.is_some() || reply.code != Some(0);
                let told = format!("after a death at {calls} {step} of {words:?} ({reply:?})");
                drop(tracer);
                siege.world.daemon.kill_9();
                siege.world.daemon.start()?;
                siege.holds(&told);
                let is_policy = words[0] == "apply";
                let found = fs::read_to_string(siege.world.daemon.policy_path())?;
                assert!(found == old || found == new, "{told}: {found}");
                if is_policy {
                    let status = siege.world.json(&["status"]);
                    let gates = status["gates"].as_array().map_or(0, Vec::len);
                    assert_eq!(gates, if found == new { 2 } else { 1 }, "{told}");
                    fs::write(siege.world.daemon.policy_path(), &old)?;
                    siege.world.expect(0, &["reload"]);
                } else {
                    let there = siege.world.member(chain, address).is_some();
                    // What was answered with "done" is done.
                    assert!(there || reply.code != Some(0), "{told}");
                    let back: &[&str] = match words[0] {
                        "accept" => &["flush", address],
                        "drop" => &["unban", address],
                        _ => &["untrust", address],
                    };
                    siege.world.expect(0, back);
                }
                deaths += usize::from(died);
                if !died {
                    unhurt += 1;
                    break;
                }
                step += if thorough() { 1 } else { 1 + chance.below(4) };
            }
        }
    }
    assert!(unhurt >= CHANGES.len(), "each was done unhurt in the end");
    siege.say("changes", deaths)
}

fn at_random_moments() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("random moments"));
    let rounds = if thorough() { 200 } else { 8 };
    for round in 0..rounds {
        let words: &[&str] = chance.one_of(&[
            &["accept", "192.0.2.10", "--for", "1h"][..],
            &["drop", "192.0.2.11"],
            &["trust", "192.0.2.12"],
            &["untrust", "192.0.2.12"],
            &["reload"],
        ]);
        let mut asked = siege.world.server.command(env!("CARGO_BIN_EXE_knockctl"))?;
        let asked = asked
            .arg("--socket")
            .arg(siege.world.daemon.socket_path())
            .args(words);
        let mut asked = asked
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_micros(chance.below(40_000) as u64));
        siege.world.daemon.kill_9();
        drop(asked.wait());
        // Half of them die again on their way up.
        if chance.below(2) == 0 {
            siege.world.daemon.spawn()?;
            std::thread::sleep(Duration::from_micros(chance.below(150_000) as u64));
            siege.world.daemon.kill_9();
        }
        siege.world.daemon.start()?;
        siege.holds(&format!("after round {round}"));
    }
    siege.say("random moments", rounds)
}
