//! A gate through which people keep trying to get: at no moment is a stranger let in or a trusted
//! machine refused. And those who are in its chains, who are to be there until their time is over.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portcullis::firewall::Member;
use portcullis::lab::{LabError, Program, Programs, Reply, await_some, write_program};
use portcullis::model::{Chain, Lifetime};
use serde_json::Value;

use crate::held::{held, tolerance};
use crate::operations::{Chance, net};
use crate::stream::{Count, Stream};
use crate::tracer::{Tracer, script};
use crate::world::{Tried, World, backend, long_policy, programs};

/// What changes something outside. Names that this machine's kernel lacks are left out by `?`.
pub(crate) const STEPS: [&str; 4] = [
    "sendto,sendmsg",
    "pwrite64,fsync,fdatasync,ftruncate",
    "?rename,renameat,renameat2,?unlink,unlinkat",
    "write",
];
/// Far more steps than there are of a kind: then the counting is wrong.
const MOST: usize = 500;
/// The step that is taken after the first is one of so many: there are kinds with few.
const EARLY: usize = 3;
/// An answer may take that long.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const TRUSTED: &str = "192.0.2.50\n2001:db8::50\n";

pub(crate) fn thorough() -> bool {
    std::env::var("FAULTS").is_ok_and(|what| what == "all")
}

/// Goes through the steps of every kind until one comes too late, and returns at how many it died;
/// without `FAULTS=all` they are up to `apart` from each other, by chance. The first of every kind is
/// taken always, so that none is left out because it has few.
pub(crate) fn each_step(
    chance: &mut Chance,
    apart: usize,
    mut dies_at: impl FnMut(&str, usize) -> Result<bool, Box<dyn Error>>,
) -> Result<usize, Box<dyn Error>> {
    let mut deaths = 0;
    let apart = if thorough() { 1 } else { apart };
    for calls in STEPS {
        let mut step = 1;
        while dies_at(calls, step)? {
            deaths += 1;
            let gap = if step == 1 { apart.min(EARLY) } else { apart };
            step += 1 + chance.below(gap);
            assert!(step < MOST, "{calls}");
        }
    }
    Ok(deaths)
}

/// Somebody who is to be in a chain.
pub(crate) struct Expected {
    pub(crate) gate: &'static str,
    pub(crate) chain: Chain,
    pub(crate) net: IpNet,
    /// Between which moments it ends, in seconds since the beginning; `None` is never.
    end: Option<(f64, f64)>,
}

/// What became of a change.
pub(crate) struct Cut {
    pub(crate) reply: Reply,
    /// Whether it was cut short.
    pub(crate) died: bool,
    pub(crate) told: String,
}

impl Cut {
    pub(crate) fn is_done(&self) -> bool {
        self.reply.code == Some(0)
    }
}

/// A world in which people keep trying to get in.
pub(crate) struct Siege {
    streams: Vec<(bool, Stream)>,
    pub(crate) world: World,
    began: Instant,
    pub(crate) members: Vec<Expected>,
}

impl Siege {
    pub(crate) fn begin() -> Result<Self, Box<dyn Error>> {
        let mut siege = Self::with_members(&long_policy())?;
        siege.people_try(&[false, true])?;
        Ok(siege)
    }

    /// With that policy and some members of its gate `ssh`, and nobody trying yet.
    pub(crate) fn with_members(policy: &str) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir()?.keep();
        let knockd = dir.join("knockd");
        write_program(&knockd, script(env!("CARGO_BIN_EXE_knockd")).as_bytes())?;
        let traced = Programs {
            knockd: Program::at(knockd),
            ..programs()
        };
        let mut world = World::before_with(policy, TRUSTED, &[22], &traced)?;
        world.daemon.start()?;
        let mut siege = Self {
            streams: Vec::new(),
            world,
            began: Instant::now(),
            members: Vec::new(),
        };
        for (verb, address, time) in [
            ("accept", "192.0.2.14", Some(900)),
            ("accept", "2001:db8::14", None),
            ("drop", "192.0.2.15", Some(1_200)),
            ("drop", "198.51.100.0/24", None),
        ] {
            siege.put(verb, "ssh", address, time);
        }
        Ok(siege)
    }

    /// Strangers, trusted machines or both begin to try, over both families.
    pub(crate) fn people_try(&mut self, trusted: &[bool]) -> Tried {
        for &is_trusted in trusted {
            let who = if is_trusted { "50" } else { "13" };
            for (net, server) in [
                ("192.0.2.", "192.0.2.1:22"),
                ("2001:db8::", "[2001:db8::1]:22"),
            ] {
                let source: IpAddr = format!("{net}{who}").parse()?;
                let stream = Stream::start(&self.world.clients, source, server.parse()?);
                self.streams.push((is_trusted, stream));
            }
        }
        Ok(())
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Asks for a member, who is to be there from now on.
    #[track_caller]
    pub(crate) fn put(&mut self, verb: &str, gate: &'static str, address: &str, secs: Option<u32>) {
        let time = secs.map_or("never".to_owned(), |secs| format!("{secs}s"));
        let asked = self.now();
        self.world
            .expect(0, &[verb, address, "--gate", gate, "--for", &time]);
        let answered = self.now();
        let chain = match verb {
            "accept" => Chain::Filter,
            _ => Chain::Banned,
        };
        let net = net(address);
        let end = secs.map(f64::from);
        self.members
            .retain(|old| (old.gate, old.chain, old.net) != (gate, chain, net));
        self.members.push(Expected {
            gate,
            chain,
            net,
            end: end.map(|secs| (asked + secs, answered + secs)),
        });
    }

    /// What the kernel holds, and when it was asked and had answered.
    pub(crate) fn held(&self) -> (Vec<Member>, f64, f64) {
        let asked = self.now();
        let members = held(&self.world.server, &backend()).expect("the kernel can be asked");
        (members, asked, self.now())
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
        let listed: BTreeSet<(&str, IpNet)> = listed["entries"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|e| {
                let text = |key: &str| e[key].as_str().expect("text");
                (text("chain"), net(text("address")))
            })
            .collect();
        let (held, asked, answered) = self.held();
        for Expected {
            gate,
            chain,
            net,
            end,
        } in &self.members
        {
            let name = format!("{gate}_{}", chain.suffix());
            assert!(
                listed.contains(&(name.as_str(), *net)),
                "{net} is lost from {name} {told}: {listed:?}"
            );
            let mut found = held.iter();
            let found =
                found.find(|m| m.gate.as_str() == *gate && m.chain == *chain && m.net == *net);
            let left = found.map(|member| member.remaining);
            let is_right = match (end, left) {
                (None, Some(Lifetime::Never)) => true,
                (Some((from, to)), Some(Lifetime::For(left))) => {
                    let (left, by) = (left.as_secs_f64(), tolerance(&backend()));
                    answered + left >= from - by && asked + left <= to + by
                }
                _ => false,
            };
            assert!(
                is_right,
                "{net} in {name} is to end {end:?}: {left:?} at {asked} to {answered} {told}"
            );
        }
        let text = fs::read_to_string(self.world.daemon.trusted_path()).expect("the whitelist");
        for line in TRUSTED.lines() {
            assert!(text.lines().any(|l| l.starts_with(line)), "{text:?} {told}");
        }
    }

    /// What became of all attempts in the meantime.
    pub(crate) fn end(mut self) -> Result<[Count; 2], Box<dyn Error>> {
        let mut counts = [Count::default(); 2];
        let has_strangers = self.streams.iter().any(|(is_trusted, _)| !is_trusted);
        for (is_trusted, stream) in self.streams.drain(..) {
            let count = &mut counts[usize::from(is_trusted)];
            *count = count.and(stream.finish()?);
        }
        let [strangers, trusted] = counts;
        assert_eq!(strangers.open, 0, "a stranger was in: {strangers:?}");
        assert!(strangers.silent > 0 || !has_strangers, "{strangers:?}");
        assert_eq!(
            trusted.open,
            trusted.attempts(),
            "one was refused: {trusted:?}"
        );
        Ok(counts)
    }

    pub(crate) fn say(self, what: &str, deaths: usize) -> Tried {
        let [strangers, trusted] = self.end()?;
        println!(
            "{what} on {}: {deaths} times kill -9; 0 of {} strangers let in, 0 of {} trusted \
             refused",
            backend(),
            strangers.attempts(),
            trusted.attempts()
        );
        Ok(())
    }

    /// Starts it, which is killed at that step; whether it was, or a program that it had started.
    pub(crate) fn dies_at_start(&mut self, fault: &str) -> Result<bool, Box<dyn Error>> {
        let traces = self.world.lab.dir().join("traces");
        let traces = traces.to_string_lossy().into_owned();
        let environment = [("FAULT", fault), ("TRACES", traces.as_str())];
        self.world.daemon.set_environment(&environment);
        let started = self.world.daemon.start();
        self.world.daemon.set_environment(&[]);
        let killed = fs::read_to_string(&traces)?.contains("SIGKILL");
        match started {
            Ok(()) => Ok(killed),
            Err(LabError::DaemonEnded { status, .. })
                if status.contains("signal: 9") || (killed && status.contains("status: 1")) =>
            {
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the daemon for a change, at which it is killed at that step, or a program that it
    /// started, and starts it again: every member is there.
    pub(crate) fn cut_short(
        &mut self,
        words: &[&str],
        calls: &str,
        step: usize,
    ) -> Result<Cut, Box<dyn Error>> {
        let pid = self.world.daemon.pid().ok_or("no daemon")?;
        let tracer = Tracer::attach(pid, &format!("{calls}:signal=KILL:when={step}"))?;
        let reply = self.world.ctl(words)?;
        let killed = self.world.daemon.ended()?.is_some() || tracer.has_killed()?;
        drop(tracer);
        self.world.daemon.kill_9();
        self.world.daemon.start()?;
        Ok(Cut {
            died: killed || reply.code != Some(0),
            told: format!("after a death at {calls} {step} of {words:?} ({reply:?})"),
            reply,
        })
    }
}
