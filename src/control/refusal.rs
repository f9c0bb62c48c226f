use ipnet::IpNet;

use crate::model::{DurationError, NameError, SshConnectionError, canonical_net};

use super::Verb;

/// Why a request was not even tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a request at all.
    #[error("not a request: {0}")]
    Garbage(String),
    /// Of another version.
    #[error(
        "the request speaks version {0} of the control protocol, this knockd version {ours}: \
         knockctl and knockd must come from the same release",
        ours = super::protocol::VERSION
    )]
    Version(u64),
    /// Longer than [`super::protocol::MAX_REQUEST`].
    #[error("the request is longer than 256 KiB: split it into several")]
    TooLong,
    /// The same because of the policy in it.
    #[error(
        "the policy {0} is too long for the control socket, which takes 256 KiB: put it in the \
         place of the daemon's policy and `reload`"
    )]
    LongPolicy(String),
    /// A policy where none is taken, or none where one is.
    #[error("`{verb}` {problem}")]
    Policy {
        /// What was asked for.
        verb: Verb,
        /// `needs a policy` and the like.
        problem: &'static str,
    },
    /// A change that would never be taken back, or too late to be of use.
    #[error("--confirm takes more than zero and at most a day, such as 120s")]
    Confirm,
    /// The caller's session.
    #[error(transparent)]
    Session(#[from] SshConnectionError),
    /// Neither an address nor anything else that could be meant.
    #[error("`{0}` is not an address: expected one such as 192.0.2.1 or 2001:db8::1")]
    NotAnAddress(String),
    /// Like [`Refusal::NotAnAddress`], where networks are taken too.
    #[error(
        "`{0}` is not an address or network: expected one such as 192.0.2.1, 2001:db8::1 or \
         192.0.2.0/24"
    )]
    NotANet(String),
    /// Like [`Refusal::NotANet`], where names are taken too.
    #[error(
        "`{0}` is not an address, network or host name: expected one such as 192.0.2.1, \
         192.0.2.0/24 or host.example.org"
    )]
    NotAnEntry(String),
    /// A name where addresses are taken.
    #[error("`{text}` is a name: names are for `trust`; `{verb}` takes {takes}")]
    NotAName {
        /// As typed.
        text: String,
        /// What was asked for.
        verb: Verb,
        /// `addresses` and the like.
        takes: &'static str,
    },
    /// A network where addresses are taken.
    #[error(
        "`{text}` is a network: `{verb}` takes single addresses{}",
        if *verb == Verb::Accept { "; use `trust` to let a network in" } else { "" }
    )]
    NotANetwork {
        /// As typed.
        text: String,
        /// What was asked for.
        verb: Verb,
    },
    /// An address that cannot be a packet's source, or that is never gated.
    #[error("`{text}` is {what}")]
    NotASource {
        /// As typed.
        text: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A network of length 0.
    #[error("`{text}` is every address there is: `{verb}` it with --force if that is meant")]
    Everybody {
        /// As typed.
        text: String,
        /// What was asked for.
        verb: Verb,
    },
    /// A network that is written as one of the addresses in it: a slip would trust many more.
    #[error(
        "`{text}` is an address in the network {net}: `trust {net}` if that is meant, or the \
         address without a length"
    )]
    HostBits {
        /// As typed.
        text: String,
        /// The network.
        net: IpNet,
    },
    /// `flush` takes words too.
    #[error(
        "`{0}` cannot be flushed: expected an address, `filter`, `banned` or `all` (the trusted \
         are never flushed; see `untrust`)"
    )]
    NotFlushable(String),
    /// `list` takes words.
    #[error("`{0}` cannot be listed: expected `accepted`, `banned` or `trusted`")]
    NotListable(String),
    /// Nothing to work on.
    #[error("`{verb}` needs {takes}")]
    Missing {
        /// What was asked for.
        verb: Verb,
        /// `an address` and the like.
        takes: &'static str,
    },
    /// Something to work on where nothing is taken.
    #[error("`{verb}` takes no arguments, but there is `{text}`")]
    Surplus {
        /// What was asked for.
        verb: Verb,
        /// As typed.
        text: String,
    },
    /// More than one answer may be about.
    #[error("`{verb}` takes at most {most} addresses at a time")]
    TooMany {
        /// What was asked for.
        verb: Verb,
        /// How many it takes.
        most: usize,
    },
    /// An option that means nothing here.
    #[error("`{verb}` takes no {option}")]
    Option {
        /// What was asked for.
        verb: Verb,
        /// `--for` and the like.
        option: &'static str,
    },
    /// `trust --gate` without `--runtime`.
    #[error(
        "--gate needs --runtime here: the whitelist file applies to every gate, trust until \
         reboot can be limited to one"
    )]
    GateOfFile,
    /// `trust --runtime` of a name.
    #[error(
        "`{0}` is a name: --runtime takes addresses and networks, names belong into the file \
         where they are resolved again and again"
    )]
    RuntimeName(String),
    /// A comment must stay on its line.
    #[error("the comment {0}")]
    Comment(&'static str),
    /// A gate's name.
    #[error(transparent)]
    Gate(#[from] NameError),
    /// A duration.
    #[error(transparent)]
    Lifetime(#[from] DurationError),
}

impl Refusal {
    /// Not JSON, or not what was expected of it. The error may repeat what was sent: names of
    /// fields, say.
    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn garbage(error: serde_json::Error) -> Self {
        Refusal::Garbage(printable_start(&error.to_string(), 300))
    }

    /// Refuses a network that is written as one of the addresses in it.
    pub(super) fn of_host_bits(text: &str) -> Result<(), Self> {
        match text.parse::<IpNet>() {
            Ok(written) if written != written.trunc() => Err(Refusal::HostBits {
                text: printable(text),
                net: canonical_net(written),
            }),
            _ => Ok(()),
        }
    }

    /// The exit code: 4 for what `--force` allows, 2 for bad input.
    pub fn code(&self) -> u8 {
        match self {
            Refusal::Everybody { .. } => 4,
            _ => 2,
        }
    }
}

/// What was typed, fit to be shown: without control characters, and not longer than a line.
pub(super) fn printable(text: &str) -> String {
    printable_start(text, 80)
}

/// At most that many characters of it.
fn printable_start(text: &str, most: usize) -> String {
    let start = text.chars().take(most);
    let mut shown: String = start.flat_map(char::escape_debug).collect();
    if text.chars().count() > most {
        shown.push('…');
    }
    shown
}
