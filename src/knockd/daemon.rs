//! The daemon's state and what it does about each kind of event. The loop that feeds it is in
//! `run`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

use crate::capture::{self, Capture, CaptureError, Drained, FlagMask, Spec};
use crate::engine::{Action, Engine, Event, LogLevel, Outcome};
use crate::firewall::foreign::Foreign;
use crate::firewall::{Backend, Change, Desired, FirewallError};
use crate::links::Links;
use crate::matcher::{Matcher, Scope, SequenceId};
use crate::model::{GateName, Proto, Time};
use crate::packet;
use crate::policy::{GateAddress, Interfaces, Policy};
use crate::resolver::{self, Resolver};
use crate::sys::clock;

use super::memory::Memory;
use super::roster::Roster;

/// Everything that runs.
pub(super) struct Daemon {
    pub(super) policy_path: PathBuf,
    /// From the command line, in place of the policy's.
    pub(super) interface: Option<String>,
    pub(super) only_ipv4: bool,
    /// Look-ups for the log that may run at a time; none if nobody asked for them.
    pub(super) lookups: Option<Arc<Semaphore>>,
    pub(super) engine: Engine,
    pub(super) matcher: Matcher,
    pub(super) scope: Scope,
    pub(super) firewall: Box<dyn Backend>,
    pub(super) backend_reason: String,
    /// Looks at the firewalls of others.
    pub(super) foreign: Option<Foreign>,
    pub(super) capture: Capture,
    pub(super) links: Links,
    pub(super) resolver: Resolver,
    pub(super) roster: Roster,
    pub(super) memory: Memory,
    pub(super) problems: Problems,
    pub(super) started: Time,
    pub(super) packets: Packets,
    /// Completions of the packets at hand; kept to spare an allocation.
    pub(super) fired: Vec<(IpAddr, SequenceId)>,
}

/// What is not as it should be, by topic; `status` shows it.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<&'static str, Vec<String>>);

impl Problems {
    /// Sets or clears a topic, and says so in the log when it changes.
    pub(super) fn set(&mut self, topic: &'static str, problem: Option<String>) {
        self.set_all(topic, problem.into_iter().collect());
    }

    /// The same for a topic with several sides to it.
    pub(super) fn set_all(&mut self, topic: &'static str, problems: Vec<String>) {
        let before = self.0.remove(topic).unwrap_or_default();
        for text in problems.iter().filter(|text| !before.contains(text)) {
            warn!("{text}");
        }
        if !problems.is_empty() {
            self.0.insert(topic, problems);
        } else if !before.is_empty() {
            info!("{topic}: all is well again");
        }
    }

    /// What stands of a topic.
    pub(super) fn get(&self, topic: &str) -> Option<&str> {
        self.0.get(topic)?.first().map(String::as_str)
    }

    /// What stands.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.values().flatten().map(String::as_str)
    }
}

/// Counters of what came in.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) knocks: u64,
    pub(super) not_for_us: u64,
    pub(super) refused: u64,
}

impl Daemon {
    /// Takes in what has arrived; whether there may be more. The kernel's sets are written in the
    /// same wake-up as the packet that completes a sequence, before anything is logged.
    pub(super) fn take_packets(&mut self) -> Drained {
        let Self {
            capture,
            matcher,
            scope,
            packets,
            fired,
            only_ipv4,
            ..
        } = self;
        let drained = capture.drain(|frame| match packet::parse(frame.bytes) {
            Ok(knock) if scope.admits(&knock) && !(*only_ipv4 && knock.source.is_ipv6()) => {
                packets.knocks += 1;
                for id in matcher.handle(&knock, frame.at) {
                    fired.push((knock.source, id));
                }
            }
            Ok(_) => packets.not_for_us += 1,
            Err(_) => packets.refused += 1,
        });
        for (source, id) in std::mem::take(&mut self.fired) {
            let knock = self.matcher.name(id).clone();
            self.handle(Event::Knocked { source, knock });
            self.look_up(source);
        }
        drained
    }

    /// Logs the name of an address, when it is known; whoever knocked need not wait for that.
    fn look_up(&self, source: IpAddr) {
        let Some(lookups) = &self.lookups else { return };
        // When too many knock at once, some stay nameless.
        let Ok(permit) = lookups.clone().try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            if let Some(name) = resolver::name_of(&resolver::Config::default(), source).await {
                info!("{source} is {name}");
            }
            drop(permit);
        });
    }

    /// Lets the engine decide and carries out what it decides; a command's outcome is returned.
    pub(super) fn handle(&mut self, event: Event) -> Option<Outcome> {
        let actions = self.engine.handle(event, now());
        self.perform(actions)
    }

    /// Carries actions out: the kernel first, in one transaction.
    pub(super) fn perform(&mut self, actions: Vec<Action>) -> Option<Outcome> {
        let mut changes: Vec<Change> = Vec::new();
        let mut install = false;
        let mut reply = None;
        let mut rest = Vec::new();
        for action in actions {
            match action {
                Action::Firewall(change) => changes.push(change),
                Action::Install => install = true,
                Action::Reply(outcome) => reply = Some(outcome),
                Action::Store(_) | Action::Log(_) => rest.push(action),
            }
        }
        let written = if install {
            self.install()
        } else if changes.is_empty() {
            Ok(())
        } else {
            self.firewall.apply(&changes).or_else(|error| {
                // Somebody may have removed our table; what is desired is known.
                warn!("{error}; installing everything anew");
                self.install()
            })
        };
        for action in rest {
            match action {
                Action::Store(edit) => self.memory.trust(edit),
                Action::Log(log) if log.level == LogLevel::Warning => warn!("{}", log.text),
                Action::Log(log) => info!("{}", log.text),
                _ => {}
            }
        }
        let problem = written.err().map(|error| error.to_string());
        if let (Some(why), Some(outcome)) = (&problem, &mut reply) {
            let done = outcome.done.drain(..).map(|line| format!("{line}: {why}"));
            outcome.refused.extend(done);
            outcome.code = 1;
        }
        if install || !changes.is_empty() {
            self.problems.set("firewall", problem);
        }
        reply
    }

    /// Makes the kernel hold all that is decided.
    pub(super) fn install(&mut self) -> Result<(), FirewallError> {
        self.notice_used_up()?;
        let desired: Desired = self.engine.desired(now());
        self.firewall.install(&desired)
    }

    /// A gate with `once` lets the kernel take a member out: what is used up must not come back.
    fn notice_used_up(&mut self) -> Result<(), FirewallError> {
        if self.engine.policy().gates.iter().all(|gate| !gate.once) {
            return Ok(());
        }
        // Where the whole table is gone nothing says what was used up.
        if let Some(held) = self.firewall.observe()? {
            let held = held
                .members
                .into_iter()
                .map(|member| (member.gate, member.chain, member.net));
            self.engine.handle(Event::Held(held.collect()), now());
        }
        Ok(())
    }

    /// How long until something is due.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.engine.next_deadline().map(|at| at.since(now()))
    }

    /// Follows interfaces and addresses that came or went.
    pub(super) fn links_changed(&mut self) {
        match self.links.update() {
            Ok(change) => {
                if change.interfaces {
                    self.follow_interfaces();
                }
                if change.addresses {
                    self.follow_addresses();
                }
                self.problems.set("interfaces", None);
            }
            Err(error) => self.problems.set("interfaces", Some(error.to_string())),
        }
    }

    /// Tells scope and engine which addresses are ours.
    pub(super) fn follow_addresses(&mut self) {
        let own: Vec<IpAddr> = self.links.own_addresses().iter().copied().collect();
        debug!("own addresses: {own:?}");
        self.scope.set_own(own.iter().copied());
        self.scope
            .set_broadcast(self.links.broadcast_addresses().iter().copied());
        self.handle(Event::OwnAddresses(own));
    }

    /// Tells the kernel's filter what is wanted, and says which interfaces are waited for.
    pub(super) fn follow_interfaces(&mut self) {
        let (spec, missing) = self.spec();
        let result = self.capture.set_filter(&spec);
        self.problems
            .set("capture", result.err().map(|error| error.to_string()));
        let names = missing.join(", ");
        let waiting = format!("waiting for interface {names}: no knocks are heard there");
        self.problems
            .set("knocks", (!missing.is_empty()).then_some(waiting));
    }

    /// What the kernel's filter is to let through, and which interfaces do not exist.
    fn spec(&self) -> (Spec, Vec<String>) {
        spec(self.engine.policy(), self.interface.as_deref(), &self.links)
    }

    /// Looks after exactly the names that whitelist and policy have, and tells the engine what
    /// they stand for.
    pub(super) fn follow_names(&mut self) {
        let names = names(self.engine.policy(), &self.roster);
        self.resolver.set_names(names);
        let resolved = gate_addresses(self.engine.policy(), &self.roster);
        let addresses = resolved
            .iter()
            .flat_map(|(_, addresses)| addresses.iter().copied());
        self.scope.set_gates(self.engine.policy(), addresses);
        self.handle(Event::GateAddresses(resolved));
    }

    /// A name has other addresses, or none.
    pub(super) fn name_changed(&mut self, event: resolver::Event) {
        let changed = match event {
            resolver::Event::Resolved {
                name,
                addresses,
                valid_for,
            } => {
                debug!("{name} is {addresses:?} for {valid_for:?}");
                self.memory.name(&name, &addresses);
                self.roster.resolved(&name, addresses)
            }
            resolver::Event::Failed { name, why, keeping } => {
                let kept = if keeping {
                    "; its last good addresses are kept"
                } else {
                    ""
                };
                warn!("cannot resolve {name}: {why}{kept}");
                !keeping && self.roster.resolved(&name, Vec::new())
            }
        };
        if changed {
            self.handle(Event::Whitelist(self.roster.trusted()));
            self.follow_names();
        }
    }

    /// Stops: the kernel goes on enforcing, or acceptances are withdrawn, as the policy says.
    pub(super) fn stop(&mut self) {
        use crate::engine::{Command, Flush, Who};
        use crate::policy::OnStop;
        if self.engine.policy().firewall.on_stop == OnStop::Closed {
            let command = Command::Flush {
                what: vec![Flush::Filter],
                gates: Vec::new(),
            };
            self.handle(Event::Command {
                who: Who("on_stop".into()),
                command,
            });
        }
        info!("shutting down");
    }

    /// Removes every rule of ours.
    pub(super) fn teardown(&mut self) -> Result<(), FirewallError> {
        let result = self.firewall.teardown();
        match &result {
            Ok(()) => info!("every rule of ours is removed"),
            Err(error) => error!("{error}"),
        }
        result
    }
}

/// The time.
pub(super) fn now() -> Time {
    Time(clock::boottime())
}

/// What the kernel's filter is to let through, and which interfaces do not exist.
pub(super) fn spec(policy: &Policy, only: Option<&str>, links: &Links) -> (Spec, Vec<String>) {
    let mut spec = Spec {
        ports: policy
            .knocks
            .iter()
            .flat_map(|knock| knock.sequence.iter().copied())
            .collect(),
        flags: policy
            .knocks
            .iter()
            .filter(|knock| knock.sequence.iter().any(|port| port.proto == Proto::Tcp))
            .map(|knock| FlagMask {
                set: knock.flags.set,
                clear: knock.flags.clear,
            })
            .collect(),
        interfaces: capture::Interfaces::Any,
    };
    spec.ports.sort_unstable();
    spec.ports.dedup();
    spec.flags
        .sort_unstable_by_key(|mask| (mask.set, mask.clear));
    spec.flags.dedup();
    let wanted = match (only, &policy.interfaces) {
        (Some("any"), _) | (None, Interfaces::Any) => return (spec, Vec::new()),
        (Some(name), _) => vec![name.to_owned()],
        (None, Interfaces::Named(names)) => names.clone(),
    };
    let found = links.find(&wanted);
    spec.interfaces = capture::Interfaces::Only(found.indexes);
    (spec, found.missing)
}

/// The names that whitelist and policy have.
pub(super) fn names(policy: &Policy, roster: &Roster) -> Vec<String> {
    let gates = policy.gates.iter().filter_map(|gate| match &gate.address {
        Some(GateAddress::Name(name)) => Some(name.as_str()),
        _ => None,
    });
    roster.names().chain(gates).map(str::to_lowercase).collect()
}

/// The addresses of gates that are given by name.
pub(super) fn gate_addresses(policy: &Policy, roster: &Roster) -> Vec<(GateName, Vec<IpAddr>)> {
    let named = policy.gates.iter().filter_map(|gate| match &gate.address {
        Some(GateAddress::Name(name)) => Some((gate.name.clone(), roster.addresses(name).to_vec())),
        _ => None,
    });
    named.collect()
}

/// Opens the capture with its first filter.
pub(super) fn open_capture(
    policy: &Policy,
    only: Option<&str>,
    links: &Links,
) -> Result<Capture, CaptureError> {
    Capture::open(&spec(policy, only, links).0)
}
