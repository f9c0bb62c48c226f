//! What goes over the socket.

use std::fmt;

use ipnet::IpNet;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use super::change::{ChangeStatus, PolicyText};
pub use super::counted::{AttemptStatus, AwakeStatus, PacketStatus, UntrackedStatus};
use super::{Refusal, WhyEntry};
use crate::model::{Chain, GateName};

/// The version of the protocol; both sides refuse any other.
pub const VERSION: u32 = 1;

/// The longest request, its newline included, in bytes: room for a policy of a thousand knocks.
pub const MAX_REQUEST: usize = 256 * 1024;

/// The longest response, its newline included, in bytes: room for several hundred thousand
/// members.
pub const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Let addresses in for a while.
    Accept,
    /// Ban addresses or networks.
    Drop,
    /// Put addresses, networks or names on the whitelist.
    Trust,
    /// Take them off it.
    Untrust,
    /// Lift bans.
    Unban,
    /// Withdraw acceptances or bans.
    Flush,
    /// Let everybody but the banned in.
    Open,
    /// End that.
    Close,
    /// How the daemon is.
    Status,
    /// What the kernel holds.
    List,
    /// What happens to a new connection from an address, and why.
    Why,
    /// What happened.
    History,
    /// Whether the daemon answers.
    Ping,
    /// Read the policy and the whitelist again.
    Reload,
    /// What a policy would change.
    Diff,
    /// Put a policy into force.
    Apply,
    /// Keep a policy that would revert by itself.
    Confirm,
    /// Go back to the policy from before.
    Rollback,
    /// Remove everything of ours from the kernel and end (`knockd teardown`).
    Teardown,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 19] = [
        Verb::Accept,
        Verb::Drop,
        Verb::Trust,
        Verb::Untrust,
        Verb::Unban,
        Verb::Flush,
        Verb::Open,
        Verb::Close,
        Verb::Status,
        Verb::List,
        Verb::Why,
        Verb::History,
        Verb::Ping,
        Verb::Reload,
        Verb::Diff,
        Verb::Apply,
        Verb::Confirm,
        Verb::Rollback,
        Verb::Teardown,
    ];

    /// The verb as typed.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Accept => "accept",
            Verb::Drop => "drop",
            Verb::Trust => "trust",
            Verb::Untrust => "untrust",
            Verb::Unban => "unban",
            Verb::Flush => "flush",
            Verb::Open => "open",
            Verb::Close => "close",
            Verb::Status => "status",
            Verb::List => "list",
            Verb::Why => "why",
            Verb::History => "history",
            Verb::Ping => "ping",
            Verb::Reload => "reload",
            Verb::Diff => "diff",
            Verb::Apply => "apply",
            Verb::Confirm => "confirm",
            Verb::Rollback => "rollback",
            Verb::Teardown => "teardown",
        }
    }

    /// Whether it only looks, and not at the policy: the knocks in it are secrets. Everything else
    /// is for root.
    pub const fn only_reads(self) -> bool {
        matches!(
            self,
            Verb::Status | Verb::List | Verb::Why | Verb::History | Verb::Ping
        )
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request, as typed: nothing in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What for.
    pub verb: Verb,
    /// Addresses, networks, names, or the words that `flush` and `list` take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Where; empty is everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<String>,
    /// How long, such as `300s`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<String>,
    /// Beside the entry in the whitelist file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Until reboot, without touching the whitelist file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runtime: bool,
    /// The latest so many (`history`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Past the safety rules.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The policy that `diff` and `apply` are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyText>,
    /// After how long an unconfirmed `apply` is taken back, such as `120s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// The ssh session of whoever asks, as in `SSH_CONNECTION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl Request {
    /// A request for `verb` with these arguments and no options.
    pub fn new<I, S>(verb: Verb, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            version: VERSION,
            verb,
            args: args.into_iter().map(Into::into).collect(),
            gates: Vec::new(),
            lifetime: None,
            comment: None,
            runtime: false,
            limit: None,
            force: false,
            policy: None,
            confirm: None,
            session: None,
        }
    }

    /// Reads a line, with or without its newline.
    pub fn decode(line: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(line).map_err(Refusal::garbage)?;
        // The version first: what else a request of another version holds is not ours to judge.
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(Refusal::Version(version)),
            None => return Err(Refusal::Garbage("no version".to_owned())),
        }
        serde_json::from_value(value).map_err(Refusal::garbage)
    }

    /// The line to send, with its newline.
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        let mut line = serde_json::to_vec(self).map_err(Refusal::garbage)?;
        line.push(b'\n');
        if line.len() > MAX_REQUEST {
            return Err(match &self.policy {
                Some(policy) => Refusal::LongPolicy(policy.file.escape_debug().to_string()),
                None => Refusal::TooLong,
            });
        }
        Ok(line)
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// 0 done, or nothing to do; 1 failed; 2 bad input; 4 refused by a safety rule; 5 running but
    /// degraded.
    pub code: u8,
    /// What changed, a line each.
    #[serde(default)]
    pub done: Vec<String>,
    /// What did not, and why, a line each.
    #[serde(default)]
    pub refused: Vec<String>,
    /// What was asked for.
    #[serde(default)]
    pub data: Data,
}

impl Response {
    /// A response without data. What has several lines becomes several.
    pub fn new(code: u8, done: Vec<String>, refused: Vec<String>) -> Self {
        let lines = |texts: Vec<String>| {
            texts
                .iter()
                .flat_map(|text| text.lines())
                .map(str::to_owned)
                .collect()
        };
        Self {
            version: VERSION,
            code,
            done: lines(done),
            refused: lines(refused),
            data: Data::Nothing,
        }
    }

    /// Nothing was done, and why.
    pub fn refused(code: u8, why: impl Into<String>) -> Self {
        Self::new(code, Vec::new(), vec![why.into()])
    }

    /// A response that is its data.
    pub fn with_data(code: u8, data: Data) -> Self {
        Self {
            data,
            ..Self::new(code, Vec::new(), Vec::new())
        }
    }
}

/// What `status`, `list`, `why` and `history` answer with.
///
/// The daemon serializes the typed variants as they are, so that a hundred thousand members never
/// become a tree of JSON values in its memory; the client reads all of them as `Json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Data {
    /// Nothing.
    #[default]
    Nothing,
    /// The answer to `status`.
    Status(Box<Status>),
    /// The answer to `list`.
    List {
        /// In any order.
        entries: Vec<ListEntry>,
    },
    /// The answer to `why`.
    Why {
        /// For each address, each gate.
        entries: Vec<WhyEntry>,
    },
    /// The answer to `history`.
    History {
        /// The latest last.
        entries: Vec<HistoryEntry>,
    },
    /// Anything else, or what a client received.
    Json(Value),
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(from)? {
            Value::Null => Data::Nothing,
            value => Data::Json(value),
        })
    }
}

/// How the daemon is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `nftables` or another.
    pub backend: String,
    /// Why that one.
    pub backend_reason: String,
    /// `running`, or `degraded`.
    pub state: String,
    /// What is not as it should be, a line each.
    pub problems: Vec<String>,
    /// Whole seconds since the daemon started.
    pub uptime_s: u64,
    /// The daemon's version.
    pub version: String,
    /// The policy file.
    pub policy: String,
    /// A change of the policy that nobody has confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeStatus>,
    /// Each gate, in the order of the policy.
    pub gates: Vec<GateStatus>,
    /// Each knock, in the order of the policy.
    pub knocks: Vec<KnockStatus>,
    /// Each knock port, in ascending order.
    pub ports: Vec<PortStatus>,
    /// What somebody else has changed and was put back.
    pub repairs: RepairStatus,
    /// What came in, since the daemon started.
    pub packets: PacketStatus,
    /// Records of what sources have knocked.
    pub attempts: AttemptStatus,
    /// How the thread that handles packets is scheduled: `fifo`, `nice` or `ordinary`.
    pub scheduling: String,
    /// How CPUs were kept from sleeping.
    pub awake: AwakeStatus,
    /// What connection tracking is spared.
    pub untracked: UntrackedStatus,
    /// Things that happened and are in no history, because they were too many at once; since the
    /// daemon started.
    pub history_left_out: u64,
}

/// Repairs of what somebody else has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepairStatus {
    /// How many, since the daemon started.
    pub total: u64,
    /// Whole seconds since the last one.
    pub last_s_ago: Option<u64>,
    /// What was missing or altered then.
    pub last: String,
}

/// How often a knock was completed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnockStatus {
    /// Its name in the policy.
    pub name: String,
    /// How often, since the daemon started.
    pub completed: u64,
}

/// What arrived at a knock port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortStatus {
    /// `1228/tcp`.
    pub port: String,
    /// Packets with fitting flags, retransmissions included, since the daemon started.
    pub arrived: u64,
}

/// How a gate is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GateStatus {
    /// The chain prefix.
    pub name: String,
    /// What is guarded: `22/tcp`.
    pub ports: Vec<String>,
    /// Members of the filter chain.
    pub accepted: u64,
    /// Members of the banned chain.
    pub banned: u64,
    /// Members of the trusted chain.
    pub trusted: u64,
    /// Whether `open` holds.
    pub open: bool,
    /// How long it still does, in whole seconds; null if it does not, or has no end.
    pub open_expires_in_s: Option<u64>,
}

/// Something that happened, as `history` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// `accepted`, `banned` and so on.
    pub what: String,
    /// Where; null is everywhere, or nowhere in particular.
    pub gate: Option<String>,
    /// To whom: an address or a network.
    pub address: Option<String>,
    /// The knock's name, or who asked for it.
    pub reason: String,
    /// Until when it was to hold, in UTC; null where it has no end, or is over at once.
    pub until: Option<String>,
    /// What else there is to say.
    pub note: String,
}

/// A member of a chain, as `list` shows it: `gate`, `chain` (`ssh_filter`), `address`,
/// `expires_in_s` (null is never) and `reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The gate.
    pub gate: GateName,
    /// The chain.
    pub chain: Chain,
    /// Canonical; a single address is shown without its prefix length.
    pub net: IpNet,
    /// Whole seconds; `None` is never.
    pub expires_in_s: Option<u64>,
    /// Why it is there.
    pub reason: String,
}

impl Serialize for ListEntry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("ListEntry", 5)?;
        fields.serialize_field("gate", self.gate.as_str())?;
        fields.serialize_field(
            "chain",
            &format_args!("{}_{}", self.gate, self.chain.suffix()),
        )?;
        if self.net.prefix_len() == self.net.max_prefix_len() {
            fields.serialize_field("address", &self.net.addr())?;
        } else {
            fields.serialize_field("address", &format_args!("{}", self.net))?;
        }
        fields.serialize_field("expires_in_s", &self.expires_in_s)?;
        fields.serialize_field("reason", &self.reason)?;
        fields.end()
    }
}
