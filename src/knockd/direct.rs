//! `knockctl --direct`: carries a request out on the kernel's sets while no daemon runs, by the same
//! rules. What is decided is put together as at the daemon's start, from policy, whitelist, store
//! and kernel; but no rule is written, only members. The daemon takes them over when it returns.

mod catch_up;
mod kernel;
mod remember;

use std::net::IpAddr;
use std::path::PathBuf;

use nix::unistd::{User, geteuid};

use crate::control::{Asked, Request, Response, Verb};
use crate::engine::{Action, Command, Engine, Event, Outcome, Record, TrustEdit, Who};
use crate::files::FileError;
use crate::firewall::choose;
use crate::firewall::{Backend, Change, FirewallError, Member, Observed};
use crate::links::Links;
use crate::model::{Chain, GateName, Time};
use crate::operators;
use crate::policy::Policy;
use crate::store::{Readers, Store, StoreError};
use crate::whitelist::Host;

use super::answers::{self, is_host};
use super::cli;
use super::cut::Cutter;
use super::daemon::now;
use super::guard::{self, Operators};
use super::lock::{Claim, Lock, LockError};
use super::merge::{Merged, Remembered, merge};
use super::policies;
use super::recall::{Recalled, recall};
use super::requests::{nets, told};
use super::roster::Roster;
use super::shelved;
use super::start::{self, StartError};
use super::wants::gate_addresses;
use super::whitelisting::Whitelisting;
use super::why;
use catch_up::CatchUp;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// The policy; `None`: where knockd looks for it.
    pub policy: Option<PathBuf>,
    /// What outlives the daemon.
    pub state_dir: PathBuf,
    /// The lock that tells whether one runs.
    pub runtime_dir: PathBuf,
}

/// Why a request was not tried.
#[derive(Debug, thiserror::Error)]
enum DirectError {
    /// There is somebody whose business it is.
    #[error("{0}: leave --direct out")]
    Running(LockError),
    /// The same, and not at the usual place.
    #[error("{0}: leave --direct out, and name its socket with --socket")]
    RunningElsewhere(LockError),
    /// Only a daemon could answer.
    #[error("`{0}` is for a running knockd: start it with `systemctl start knockd` or `knockd -d`")]
    NeedsDaemon(Verb),
    /// Privileges, the policy, the lock, interfaces, the firewall.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It is hardly the one that was meant.
    #[error("the policy {} has no gates; name yours with -c", .0.display())]
    NoGates(PathBuf),
    /// There is nothing to be a member of.
    #[error(
        "the kernel has no rules of knockd's for {}: run `knockd setup`, or start knockd",
        gates(.0)
    )]
    NotInstalled(Vec<GateName>),
}

impl DirectError {
    fn code(&self) -> u8 {
        match self {
            DirectError::Running(_) | DirectError::RunningElsewhere(_) => 4,
            DirectError::NeedsDaemon(_) => 3,
            DirectError::Start(error) => error.code(),
            DirectError::NoGates(_) => 2,
            DirectError::NotInstalled(_) => 1,
        }
    }
}

impl From<FirewallError> for DirectError {
    fn from(error: FirewallError) -> Self {
        StartError::from(error).into()
    }
}

fn gates(names: &[GateName]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("the gate {}", names.join(", "))
}

/// Carries a request out without a daemon. While one runs, it is refused (code 4).
pub fn ask(request: &Request, places: &Places) -> Response {
    let asked = match request.asked() {
        Ok(asked) => asked,
        Err(refusal) => return Response::refused(refusal.code(), refusal.to_string()),
    };
    match Direct::carry_out(asked, request.verb, places) {
        Ok(response) => response,
        Err(error) => Response::refused(error.code(), error.to_string()),
    }
}

/// Whether it can be done while no daemon runs; the others ask how one is.
pub fn does(verb: Verb) -> bool {
    match verb {
        Verb::Accept
        | Verb::Drop
        | Verb::Trust
        | Verb::Untrust
        | Verb::Unban
        | Verb::Flush
        | Verb::Open
        | Verb::Close
        | Verb::List
        | Verb::Why => true,
        Verb::Status
        | Verb::History
        | Verb::Ping
        | Verb::Reload
        | Verb::Diff
        | Verb::Apply
        | Verb::Confirm
        | Verb::Rollback
        | Verb::Teardown => false,
    }
}

/// A whitelist can be edited without gates.
fn is_about_the_file(asked: &Asked) -> bool {
    matches!(
        asked,
        Asked::Trust { runtime: false, .. } | Asked::Untrust { runtime: false, .. }
    )
}

/// What is decided, and what is to be told of it.
struct Direct {
    engine: Engine,
    firewall: Box<dyn Backend>,
    roster: Roster,
    /// Dropped at the end, which waits until sessions that are to end have ended.
    cutter: Cutter,
    state_dir: PathBuf,
    store: Result<Store, StoreError>,
    /// Where it was not written since the machine was booted: then it says at the daemon's start who
    /// comes back, and must not take over a part from here.
    catch_up: Option<CatchUp>,
    /// What it holds could not be read, and is not to be written over.
    unread: bool,
    /// What the kernel shows in other pieces than it was decided in; told with the first change.
    retold: Vec<Change>,
    /// What is to be remembered besides what the engine knows.
    edits: Vec<TrustEdit>,
    records: Vec<Record>,
    /// Why the kernel does not hold what was decided last.
    unwritten: Option<String>,
    /// Why what was decided is not on the disk, and whether it was to last until reboot.
    unstored: Option<(String, bool)>,
    /// Held until the end: no daemon starts meanwhile.
    _lock: Lock,
}

impl Direct {
    fn carry_out(asked: Asked, verb: Verb, places: &Places) -> Result<Response, DirectError> {
        start::check_privileges()?;
        // Modes are given where files are made.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let lock = take_lock(places)?;
        let named = match &asked {
            Asked::Engine(command) => command.gates(),
            Asked::Trust { gates, .. }
            | Asked::Untrust { gates, .. }
            | Asked::List { gates, .. }
            | Asked::Why { gates, .. } => gates,
            _ => return Err(DirectError::NeedsDaemon(verb)),
        };
        let usual = || policies::usual_path(&places.state_dir);
        let path = places.policy.clone().unwrap_or_else(usual);
        let found = policies::without_daemon(&path, &places.state_dir);
        let (policy, problem) = found.map_err(StartError::from)?;
        if let Some(problem) = problem {
            eprintln!("knockctl: {problem}");
        }
        if policy.gates.is_empty() && !is_about_the_file(&asked) {
            return Err(DirectError::NoGates(path));
        }
        let mut direct = Self::open(policy, places, named, lock)?;
        let who = who("knockctl --direct");
        let operators = Operators::look(operators::own());
        let refused = guard::guard(&direct.engine, &direct.roster, &asked, &who, &operators);
        let response = match refused {
            Some((refusal, records)) => {
                direct.records.extend(records);
                refusal
            }
            None => direct.answer(asked, &who),
        };
        direct.remember();
        Ok(direct.told(response))
    }

    /// Puts together what is decided. Fails where the kernel does not have the gates that are
    /// named, or one of the policy's if none is.
    fn open(
        policy: Policy,
        places: &Places,
        named: &[GateName],
        lock: Lock,
    ) -> Result<Self, DirectError> {
        let links = Links::open().map_err(StartError::from)?;
        let Recalled {
            store,
            backend,
            names,
            trust,
            remembered,
            unread,
            ..
        } = recall(&places.state_dir, Readers::AsBefore);
        let mut firewall = choose::choose(policy.firewall.backend, backend)?.backend;
        let held = firewall.observe()?.unwrap_or_default();
        let asked = |name: &&GateName| named.is_empty() || named.contains(name);
        let ours = kernel::ours(&held);
        let missing = policy.gates.iter().map(|gate| &gate.name).filter(asked);
        let missing = missing.filter(|name| !ours.contains(*name));
        let missing: Vec<GateName> = missing.cloned().collect();
        if !missing.is_empty() {
            return Err(DirectError::NotInstalled(missing));
        }
        let listed = policy.trusted.as_deref();
        let (mut roster, complaints, problem) = shelved::at_start(listed, &places.state_dir);
        for complaint in complaints.into_iter().chain(problem) {
            eprintln!("knockctl: {complaint}");
        }
        for known in names {
            drop(roster.resolved(&known.name, known.addresses()));
        }
        let catch_up = (!remembered.this_boot).then(|| CatchUp::new(&held));
        let mut direct = Self {
            engine: Engine::new(policy),
            firewall,
            roster,
            cutter: Cutter::default(),
            state_dir: places.state_dir.clone(),
            store,
            catch_up,
            unread: unread.is_any(),
            retold: Vec::new(),
            edits: Vec::new(),
            records: Vec::new(),
            unwritten: None,
            unstored: None,
            _lock: lock,
        };
        let engine = &mut direct.engine;
        let gates = gate_addresses(engine.policy(), &direct.roster);
        let own = links.own_addresses().iter().copied().collect();
        for event in [
            Event::OwnAddresses(own),
            Event::GateAddresses(gates),
            Event::Whitelist(direct.roster.trusted()),
            Event::RuntimeTrust(trust),
        ] {
            // All of that is in the kernel, or not ours to bring there.
            drop(engine.handle(event, now()));
        }
        direct.take_over(&held, remembered);
        Ok(direct)
    }

    /// Takes over what the kernel holds, with what the store knows of it, as the daemon does.
    fn take_over(&mut self, held: &Observed, remembered: Remembered) {
        let unknown = self.trusted_by_the_kernel_alone(&held.members);
        let found = kernel::found(held);
        let engine = &mut self.engine;
        let once = |name: &GateName| engine.policy().gate(name).is_some_and(|gate| gate.once);
        let at = now();
        let Merged { restore, adopt } = merge(found, remembered, once, at);
        for event in [
            Event::RuntimeTrust(unknown),
            Event::Restore(restore),
            Event::Adopt(adopt),
        ] {
            drop(engine.handle(event, at));
        }
        // Until here, nothing was new.
        drop(engine.take_news());
        self.retold = kernel::retold(held, &self.engine, at);
    }

    /// Machines that the daemon trusted and that nothing else tells of, as names whose addresses
    /// the store does not have: these must not be banned here.
    fn trusted_by_the_kernel_alone(
        &self,
        held: &[Member],
    ) -> Vec<(Option<GateName>, ipnet::IpNet, String)> {
        let unknown = |m: &&Member| {
            let known = self.engine.reason(&m.gate, m.chain, m.net);
            m.chain == Chain::Trusted && is_host(m.net) && known.is_none()
        };
        let unknown = held.iter().filter(unknown);
        let trust = |m: &Member| (Some(m.gate.clone()), m.net, answers::found(&m.reason));
        unknown.map(trust).collect()
    }

    fn answer(&mut self, asked: Asked, who: &Who) -> Response {
        match asked {
            Asked::Engine(command) => self.command(command, who),
            Asked::Trust {
                entries,
                runtime: true,
                gates,
                ..
            } => {
                let nets = nets(&entries);
                self.command(Command::Trust { nets, gates }, who)
            }
            Asked::Untrust {
                entries,
                runtime: true,
                gates,
                ..
            } => {
                let nets = nets(&entries);
                self.command(Command::Untrust { nets, gates }, who)
            }
            Asked::Trust {
                entries,
                comment,
                force,
                ..
            } => self.trust(&entries, comment.as_deref(), force, who),
            Asked::Untrust { entries, .. } => self.untrust(&entries, who),
            Asked::List { chains, gates } => {
                answers::list(&self.engine, &mut *self.firewall, &chains, &gates, now())
            }
            Asked::Why { addresses, gates } => self.why(&addresses, &gates),
            // Turned away before.
            _ => Response::refused(3, "that is for a running knockd"),
        }
    }

    fn command(&mut self, command: Command, who: &Who) -> Response {
        let who = who.clone();
        let outcome = self.handle(Event::Command { who, command });
        if let Some(why) = &self.unwritten {
            // A change is made whole or not at all.
            return Response::refused(1, why.clone());
        }
        match outcome {
            Some(outcome) => told(outcome),
            None => Response::refused(1, "no answer, which is a fault in knockctl"),
        }
    }

    fn why(&mut self, addresses: &[IpAddr], gates: &[GateName]) -> Response {
        let of = why::Sources {
            engine: &self.engine,
            firewall: &mut *self.firewall,
            matcher: None,
            fault: Some("knockd does not run: nobody hears knocks".to_owned()),
            now: now(),
        };
        why::why(of, addresses, gates)
    }

    /// Tells the kernel; all of it or nothing.
    fn write(&mut self, changes: Vec<Change>, before: &[Member]) {
        if changes.is_empty() {
            return;
        }
        let all = [self.retold.clone(), changes].concat();
        match kernel::write(&mut *self.firewall, &all, before) {
            Ok(()) => {
                self.cutter.changed(&self.engine, &all);
                self.retold.clear();
                if let Some(catch_up) = &mut self.catch_up {
                    catch_up.told(&all);
                }
            }
            // The first failure counts: what comes after it does not mend it.
            Err(why) => drop(self.unwritten.get_or_insert(why)),
        }
    }

    fn members(&self, at: Time) -> Vec<Member> {
        self.engine.desired(at).members
    }
}

impl Whitelisting for Direct {
    const LOOKED_UP: &'static str = "its addresses are looked up when knockd runs";

    fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn handle(&mut self, event: Event) -> Option<Outcome> {
        let at = now();
        let before = self.members(at);
        let actions = self.engine.handle(event, at);
        let mut changes: Vec<Change> = Vec::new();
        let mut install = false;
        let mut reply = None;
        for action in actions {
            match action {
                Action::Firewall(change) => changes.push(change),
                Action::Install => install = true,
                Action::Store(edit) => self.edits.push(edit),
                Action::Reply(outcome) => reply = Some(outcome),
                Action::Log(_) => {}
            }
        }
        if install {
            // The daemon would write everything anew; here no rule is ours to write.
            changes = kernel::difference(&before, &self.members(at));
        }
        self.write(changes, &before);
        reply
    }

    fn whitelist_was_written(&mut self, hosts: &[Host]) -> Result<(), FileError> {
        shelved::settle(&self.state_dir, self.roster.file(), hosts)
    }

    fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    fn follow_names(&mut self) {}

    fn not_in_force(&self) -> Option<String> {
        self.unwritten.clone()
    }
}

/// Takes the locks that a running daemon has.
fn take_lock(places: &Places) -> Result<Lock, DirectError> {
    let claim = Claim {
        runtime_dir: places.runtime_dir.clone(),
        pid_path: places.runtime_dir.join("knockd.pid"),
        state_dir: Some(places.state_dir.clone()),
    };
    let lock = Lock::take(&claim).map_err(|error| match error {
        taken @ LockError::StateTaken { .. } => DirectError::RunningElsewhere(taken),
        taken @ LockError::Taken { .. } => DirectError::Running(taken),
        error => StartError::from(error).into(),
    })?;
    if let Some(problem) = lock.unguarded() {
        eprintln!("knockctl: {problem}");
    }
    Ok(lock)
}

/// Whoever runs this program.
pub(super) fn who(program: &str) -> Who {
    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten();
    let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
    let pid = std::process::id();
    Who(format!("{program} by {name} (pid {pid})"))
}

/// Where knockd keeps its state unless told otherwise.
pub const STATE_DIR: &str = cli::STATE_DIR;

/// Where the lock is unless told otherwise.
pub const RUNTIME_DIR: &str = cli::RUNTIME_DIR;
