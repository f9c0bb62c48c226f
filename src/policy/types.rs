use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{GateName, KnockName, KnockPort, Lifetime, PortRange};
use crate::totp::Shape;

use super::command::Run;

/// A policy that has passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where knocks are listened for.
    pub interfaces: Interfaces,
    /// How the kernel is told.
    pub firewall: Firewall,
    /// The whitelist file, already resolved against the policy's directory.
    pub trusted: Option<PathBuf>,
    /// Networks that no ban may touch.
    pub never_ban: Vec<IpNet>,
    /// What a port sweep looks like.
    pub scan_guard: ScanGuard,
    /// When decoys ban, those with a rule of their own aside, and the scan guard.
    pub ban: BanRule,
    /// The most that attempts may take, in bytes.
    pub memory: usize,
    /// How much is kept of what happened.
    pub history: History,
    /// In the order of the file, names unique. None where every knock runs commands: nothing is
    /// installed in the firewall then.
    pub gates: Vec<Gate>,
    /// In the order of the file, names unique.
    pub knocks: Vec<Knock>,
    /// Where the log goes and how its lines look.
    pub log: LogSettings,
    /// The pid file, unless the command line names another (classic files only).
    pub pid_file: Option<PathBuf>,
}

/// Where the log goes, unless the command line says otherwise, and how its lines look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Into this file.
    pub file: Option<PathBuf>,
    /// To the system log, besides the file if there is one.
    pub syslog: bool,
    /// How lines look.
    pub style: LogStyle,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogStyle {
    /// As everywhere in this program.
    #[default]
    Plain,
    /// In the words of the classic daemon, `[2016-03-18 12:55] 192.0.2.1: SSH: Stage 1`, for the
    /// filters and habits that know them.
    Classic,
}

impl Policy {
    /// The gate of that name.
    pub fn gate(&self, name: &GateName) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.name == *name)
    }
}

/// How much is kept of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How long: addresses are personal data.
    pub keep: Duration,
    /// How many entries of what packets brought about, and as many of what people asked for.
    pub rows: u32,
}

/// Where knocks are listened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// Everywhere but on the loopback interface.
    Any,
    /// On these, whether they exist yet or not.
    Named(Vec<String>),
}

/// `eth0` of `eth0:1`, which is the label of an address and no interface: no name of one has a colon.
pub fn unlabelled(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// How the kernel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firewall {
    /// Which kernel interface to use.
    pub backend: BackendChoice,
    /// What becomes of acceptances when the daemon is stopped.
    pub on_stop: OnStop,
    /// Whether nobody else may change the table (nftables).
    pub owner: bool,
}

/// Which kernel interface to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendChoice {
    /// Whichever fits the machine.
    Auto,
    /// iptables and ipset.
    Iptables,
    /// `nf_tables`.
    Nftables,
}

/// What becomes of acceptances when the daemon is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// The kernel goes on enforcing; acceptances end on time.
    Keep,
    /// Acceptances are withdrawn; trusted and banned stay.
    Closed,
}

/// What a port sweep looks like and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanGuard {
    /// That many foreign ports make a sweep.
    pub ports: u16,
    /// Within this time.
    pub within: Duration,
    /// How far from a port of a sequence one foreign port is enough to void an attempt at that; 0
    /// is never.
    pub nearby: u16,
    /// What happens to the sweeper besides voiding its attempts.
    pub action: ScanAction,
}

/// What happens to a sweeper besides voiding its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanAction {
    /// Nothing.
    None,
    /// It is banned from every gate.
    Drop,
}

/// A guarded service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The chain prefix.
    pub name: GateName,
    /// What is guarded; not empty.
    pub ports: Vec<PortRange>,
    /// Where it is guarded; everywhere if absent.
    pub address: Option<GateAddress>,
    /// Traffic to the host, through it, or both.
    pub hook: Hook,
    /// How long an acceptance lasts unless the knock says otherwise.
    pub accept_timeout: Lifetime,
    /// How long a ban lasts unless the knock says otherwise.
    pub ban_timeout: Lifetime,
    /// What becomes of an accepted packet (iptables backend).
    pub verdict: Verdict,
    /// Whether the first new connection uses the acceptance up.
    pub once: bool,
    /// Whether refused packets are logged, at a limited rate.
    pub log_drops: bool,
    /// Whether a ban also ends sessions already open.
    pub cut_sessions: bool,
    /// How much of an IPv6 address a knock speaks for: 128 or 64.
    pub ipv6_prefix: u8,
}

/// The address a gate is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateAddress {
    /// An address or a network.
    Net(IpNet),
    /// A host name, to be resolved.
    Name(String),
}

/// Traffic to the host, through it, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// To the host.
    Input,
    /// Through the host, to the gate's address.
    Forward,
    /// Either.
    Both,
}

impl Hook {
    /// Whether traffic to the host itself is guarded.
    pub fn input(self) -> bool {
        self != Hook::Forward
    }

    /// Whether traffic through the host is guarded.
    pub fn forward(self) -> bool {
        self != Hook::Input
    }
}

/// What becomes of an accepted packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It ends the host's own chain.
    Accept,
    /// It goes on through the host's own chain.
    Return,
}

/// A sequence and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// As it appears in logs and reasons.
    pub name: KnockName,
    /// What to knock, in order; 1 to 32 ports. None where `changing` has to say.
    pub sequence: Vec<KnockPort>,
    /// Where the sequence comes from that counts now, if it is not always the same.
    pub changing: Option<Changing>,
    /// From the first knock to the last, inclusive.
    pub seq_timeout: Duration,
    /// What a TCP packet's flags must be; a UDP datagram has none and always passes.
    pub flags: TcpFlags,
    /// Only packets to this address count, be it ours or one behind us; all of ours if absent.
    pub target: Option<IpAddr>,
    /// What it does.
    pub action: KnockAction,
    /// Where; every name exists. Empty only for `run` in a policy without gates.
    pub gates: Vec<GateName>,
    /// How long, instead of the gate's time; for `run` the time until its stop command.
    pub lifetime: Option<Lifetime>,
    /// When it bans, instead of the policy's rule; only with [`KnockAction::Drop`].
    pub ban: Option<BanRule>,
}

/// A sequence that is not always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changing {
    /// Each line of this file counts for one knock.
    OneTime(PathBuf),
    /// It follows from a secret and the time.
    TimeBased(TimeBased),
}

/// A sequence that follows from a secret and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeBased {
    /// The file with the secret.
    pub file: PathBuf,
    /// How long it is, and of which ports.
    pub shape: Shape,
}

impl Knock {
    /// The file that one-time sequences are taken from.
    pub fn one_time(&self) -> Option<&Path> {
        match &self.changing {
            Some(Changing::OneTime(file)) => Some(file),
            _ => None,
        }
    }

    /// What its sequences follow from.
    pub fn time_based(&self) -> Option<&TimeBased> {
        match &self.changing {
            Some(Changing::TimeBased(time_based)) => Some(time_based),
            _ => None,
        }
    }
}

/// When stepping on a decoy bans, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanRule {
    /// How often a source steps on decoys under this rule before it is banned; at least 1.
    pub after: u16,
    /// All of these times are within this; without a meaning where `after` is 1.
    pub within: Duration,
    /// Each further ban of the same source lasts twice as long as the one before, up to this;
    /// `None`: every ban lasts as long as the first. At least as long as any first ban.
    pub longest: Option<Duration>,
}

impl Default for BanRule {
    /// At once, and always for the same time.
    fn default() -> Self {
        Self {
            after: 1,
            within: Duration::ZERO,
            longest: None,
        }
    }
}

/// The action of a knock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnockAction {
    /// Let the source in for a while.
    Accept,
    /// Ban the source.
    Drop,
    /// Trust the source until the daemon restarts.
    Trust,
    /// Withdraw the source's own acceptance.
    Flush,
    /// Let everybody but the banned in.
    Open,
    /// End that.
    Close,
    /// Start commands.
    Run(Box<Run>),
}

/// The flags a TCP packet must and must not have (RFC 9293, section 3.1; bits as in the header:
/// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// Bits that must be set.
    pub set: u8,
    /// Bits that must not be set.
    pub clear: u8,
}

impl TcpFlags {
    /// FIN, "no more data".
    pub const FIN: u8 = 1;
    /// SYN, "synchronize sequence numbers".
    pub const SYN: u8 = 2;
    /// RST, "reset the connection".
    pub const RST: u8 = 4;
    /// PSH, "push".
    pub const PSH: u8 = 8;
    /// ACK, "acknowledgment is significant".
    pub const ACK: u8 = 16;
    /// URG, "urgent pointer is significant".
    pub const URG: u8 = 32;

    /// `syn`: the first packet of a connection, SYN without ACK.
    pub const OPENING: TcpFlags = TcpFlags {
        set: Self::SYN,
        clear: Self::ACK,
    };

    /// Whether a TCP packet with these flags fits.
    pub fn fit(self, flags: u8) -> bool {
        flags & self.set == self.set && flags & self.clear == 0
    }
}
