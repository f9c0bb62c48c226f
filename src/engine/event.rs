use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::firewall::{Change, Member};
use crate::model::{Chain, GateName, KnockName, Lifetime};
use crate::policy::Policy;

use super::words::Words;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A source completed a sequence.
    Knocked {
        /// Canonical.
        source: IpAddr,
        /// Which sequence.
        knock: KnockName,
    },
    /// A source turned out to sweep ports.
    Swept {
        /// Canonical.
        source: IpAddr,
    },
    /// A sequence that a source completed a moment ago turned out to be part of a sweep.
    Undone {
        /// Canonical.
        source: IpAddr,
        /// Which sequence.
        knock: KnockName,
    },
    /// Somebody asked for something on the control socket.
    Command {
        /// Who asked.
        who: Who,
        /// What for.
        command: Command,
    },
    /// The whitelist, whole: what the file says, with names resolved, each with its reason.
    Whitelist(Vec<(IpNet, String)>),
    /// Parts of the whitelist that changed: what a name stands for, an entry more or less.
    WhitelistEdit {
        /// New, each with its reason.
        add: Vec<(IpNet, String)>,
        /// No longer on it.
        remove: Vec<IpNet>,
    },
    /// The administrator put these on the whitelist, or asked to and found them there: trust that
    /// a forced ban withdrew from them is theirs again.
    Relisted(Vec<IpNet>),
    /// Trust given at run time that has not seen a reboot yet, from the store, at start.
    RuntimeTrust(Vec<(Option<GateName>, IpNet, String)>),
    /// Members found in the kernel at start.
    Adopt(Vec<Member>),
    /// Members that the store remembers, at start.
    Restore(Vec<super::Kept>),
    /// Members that the kernel holds now: acceptances at these gates, if they have `once`, that are
    /// not among them have been used up.
    Held {
        /// Whose members the kernel was told of.
        gates: Vec<GateName>,
        /// Those that are left.
        members: Vec<(GateName, Chain, IpNet)>,
    },
    /// The addresses of this host, whole.
    OwnAddresses(Vec<IpAddr>),
    /// The addresses that gates with a host name for `address` stand for, whole.
    GateAddresses(Vec<(GateName, Vec<IpAddr>)>),
    /// A new policy.
    Policy(Box<Policy>),
    /// Stop commands that the store remembers, at start.
    Owed(Vec<super::Owed>),
    /// A command of [`super::Engine::take_jobs`] has ended.
    Ended {
        /// Its `id`.
        job: u64,
        /// It did not even start, for want of something that comes back, such as memory: a stop
        /// command is tried again.
        again: bool,
    },
    /// The daemon ends: no more commands are to be run.
    Ending,
    /// A deadline may have passed.
    Tick,
}

/// Who asked on the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub String);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `knockctl` can ask of the engine. An empty list of gates means every gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Let addresses in for a while.
    Accept {
        /// Whom.
        addresses: Vec<IpAddr>,
        /// Where.
        gates: Vec<GateName>,
        /// Instead of the gate's `accept_timeout`.
        lifetime: Option<Lifetime>,
        /// Lift bans that are in the way.
        force: bool,
    },
    /// Ban addresses or networks.
    Drop {
        /// Whom.
        nets: Vec<IpNet>,
        /// Where.
        gates: Vec<GateName>,
        /// Instead of the gate's `ban_timeout`.
        lifetime: Option<Lifetime>,
        /// Even if trusted or protected; withdraws trust until restart or `trust`.
        force: bool,
    },
    /// Trust at run time; the whitelist file is not the engine's business.
    Trust {
        /// Whom.
        nets: Vec<IpNet>,
        /// Where.
        gates: Vec<GateName>,
    },
    /// End trust given at run time.
    Untrust {
        /// Whom.
        nets: Vec<IpNet>,
        /// Where.
        gates: Vec<GateName>,
    },
    /// Lift bans of exactly these.
    Unban {
        /// Whom.
        nets: Vec<IpNet>,
        /// Where.
        gates: Vec<GateName>,
    },
    /// Withdraw many things at once.
    Flush {
        /// What.
        what: Vec<Flush>,
        /// Where.
        gates: Vec<GateName>,
    },
    /// Let everybody but the banned in.
    Open {
        /// Where.
        gates: Vec<GateName>,
        /// Instead of the gate's `accept_timeout`.
        lifetime: Option<Lifetime>,
    },
    /// End that.
    Close {
        /// Where.
        gates: Vec<GateName>,
    },
}

impl Command {
    /// Where; empty is everywhere.
    pub fn gates(&self) -> &[GateName] {
        match self {
            Command::Accept { gates, .. }
            | Command::Drop { gates, .. }
            | Command::Trust { gates, .. }
            | Command::Untrust { gates, .. }
            | Command::Unban { gates, .. }
            | Command::Flush { gates, .. }
            | Command::Open { gates, .. }
            | Command::Close { gates } => gates,
        }
    }
}

/// What to flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The address's acceptance, not its ban.
    Address(IpAddr),
    /// All acceptances and an `open`.
    Filter,
    /// All bans.
    Banned,
    /// Both.
    All,
}

/// Something to be done. The firewall's come first, in the order in which they must be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Change the kernel's members.
    Firewall(Change),
    /// The rules or most members changed: install `Engine::desired` anew.
    Install,
    /// Remember or forget trust that lasts until reboot.
    Store(TrustEdit),
    /// Tell the administrator.
    Log(Log),
    /// Answer the command that was handled.
    Reply(Outcome),
}

/// A change to the trust that lasts until reboot; no gate means every gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustEdit {
    /// Remember.
    Add(Option<GateName>, IpNet, String),
    /// Forget.
    Remove(Option<GateName>, IpNet),
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everyday.
    Info,
    /// Refused, or not as it should be.
    Warning,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much it matters.
    pub level: LogLevel,
    /// What happened to whom.
    pub words: Words,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 0 done, or nothing to do; 1 failed; 2 bad input; 4 refused by a safety rule.
    pub code: u8,
    /// What changed, a line each; none if there was nothing to do.
    pub done: Vec<String>,
    /// Addresses that were named, and of which there was nothing to end, each with a line that says
    /// so.
    pub unchanged: Vec<(IpNet, String)>,
    /// What did not, and why, a line each.
    pub refused: Vec<String>,
}
