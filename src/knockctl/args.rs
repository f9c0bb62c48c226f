use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::policy::{self, FileProblem};
use super::{handout, import, replay, sequences};
use crate::control::{DEFAULT_SOCKET, Request, Verb};
use crate::knockd::direct::{Places, RUNTIME_DIR, STATE_DIR};

/// Control knockd: who is let in, who is shut out, and how it is.
#[derive(Debug, Parser)]
#[command(
    name = "knockctl",
    version,
    after_help = "Exit status: 0 done, or nothing to do; 1 failed; 2 bad arguments; 3 knockd is not \
running;\n4 refused by a safety rule (--force); 5 running, but degraded.\n\nRoot may do everything, \
members of the group knockd may use status, list, why, history and ping."
)]
pub(super) struct Arguments {
    /// The control socket of knockd
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
    #[command(flatten)]
    pub(super) direct: Direct,
    /// How to show the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) verb: Task,
}

/// What is to be done, and by whom.
#[derive(Debug, Subcommand)]
pub(super) enum Task {
    #[command(flatten)]
    Ask(Command),
    Replay(replay::Arguments),
    Import(import::Arguments),
    Handout(handout::Arguments),
    Sequences(sequences::Arguments),
}

/// Without a daemon.
#[derive(Debug, Args)]
pub(super) struct Direct {
    /// Work on the kernel's sets while knockd does not run (root only)
    #[arg(long = "direct", global = true, conflicts_with = "socket")]
    wanted: bool,
    /// With --direct: the policy [default: where knockd looks for it]
    #[arg(short = 'c', long = "config", global = true, value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// With --direct: where knockd's lock is [default: /run/knockd]
    #[arg(long, global = true, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
}

/// An option that would be silently without effect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is for --direct: a running knockd has its own")]
pub(super) struct WithoutDirect(&'static str);

impl Direct {
    /// Where everything is, if there is to be no daemon.
    pub(super) fn places(&self) -> Result<Option<Places>, WithoutDirect> {
        let or = |given: &Option<PathBuf>, default: &str| {
            given.clone().unwrap_or_else(|| PathBuf::from(default))
        };
        if self.wanted {
            return Ok(Some(Places {
                policy: self.policy.clone(),
                state_dir: or(&self.state_dir, STATE_DIR),
                runtime_dir: or(&self.runtime_dir, RUNTIME_DIR),
            }));
        }
        let given = [
            ("-c", &self.policy),
            ("--state-dir", &self.state_dir),
            ("--runtime-dir", &self.runtime_dir),
        ];
        match given.into_iter().find(|(_, path)| path.is_some()) {
            Some((option, _)) => Err(WithoutDirect(option)),
            None => Ok(None),
        }
    }
}

/// How to show the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Gates {
    /// Only at this gate; may be repeated (default: every gate)
    #[arg(short, long = "gate", value_name = "GATE")]
    gates: Vec<String>,
}

/// What the daemon is asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let addresses in for a while
    Accept {
        /// IPv4 or IPv6 addresses
        #[arg(required = true, value_name = "IP")]
        addresses: Vec<String>,
        /// How long, such as 300s, 1h30m or never (default: as long as after a knock)
        #[arg(long = "for", value_name = "TIME")]
        lifetime: Option<String>,
        /// Lift bans that are in the way
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        gates: Gates,
    },
    /// Ban addresses or networks
    Drop {
        /// IPv4 or IPv6 addresses or networks
        #[arg(required = true, value_name = "IP")]
        addresses: Vec<String>,
        /// How long, such as 300s, 7d or never (default: as long as after a decoy)
        #[arg(long = "for", value_name = "TIME")]
        lifetime: Option<String>,
        /// Even the trusted and the protected, and whoever is logged in
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        gates: Gates,
    },
    /// Put addresses, networks or host names on the whitelist
    Trust {
        /// Addresses, networks or names
        #[arg(required = true, value_name = "ENTRY")]
        entries: Vec<String>,
        /// Until reboot only; leave the whitelist file alone
        #[arg(long)]
        runtime: bool,
        /// To be written beside the entry
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
        /// Even a network of length 0
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        gates: Gates,
    },
    /// Take entries off the whitelist
    Untrust {
        /// As they are on the list
        #[arg(required = true, value_name = "ENTRY")]
        entries: Vec<String>,
        /// Only what was trusted until reboot; leave the whitelist file alone
        #[arg(long)]
        runtime: bool,
        /// Even if that shuts out whoever is logged in
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        gates: Gates,
    },
    /// Lift bans
    Unban {
        /// The addresses or networks as they were banned
        #[arg(required = true, value_name = "IP")]
        addresses: Vec<String>,
        #[command(flatten)]
        gates: Gates,
    },
    /// Withdraw acceptances (an address, `filter`), bans (`banned`) or both (`all`)
    Flush {
        /// An address, filter, banned or all
        #[arg(required = true, value_name = "IP|filter|banned|all")]
        what: Vec<String>,
        #[command(flatten)]
        gates: Gates,
    },
    /// Let everybody but the banned in
    Open {
        /// How long, such as 60s (default: as long as after a knock)
        #[arg(long = "for", value_name = "TIME")]
        lifetime: Option<String>,
        #[command(flatten)]
        gates: Gates,
    },
    /// End what `open` began
    Close {
        #[command(flatten)]
        gates: Gates,
    },
    /// Show how knockd is
    Status,
    /// Show who is accepted, banned and trusted, from the kernel itself
    List {
        /// Only these: accepted, banned or trusted
        #[arg(value_name = "KIND")]
        kinds: Vec<String>,
        #[command(flatten)]
        gates: Gates,
    },
    /// Show what happens now to a new connection from an address, and why
    Why {
        /// IPv4 or IPv6 addresses
        #[arg(required = true, value_name = "IP")]
        addresses: Vec<String>,
        #[command(flatten)]
        gates: Gates,
    },
    /// Show what happened: who was accepted, banned, refused, and by whom
    History {
        /// Only to these addresses or networks
        #[arg(value_name = "IP")]
        addresses: Vec<String>,
        /// The latest so many, at most 10000 [default: 100]
        #[arg(short = 'n', long, value_name = "N")]
        limit: Option<u32>,
        #[command(flatten)]
        gates: Gates,
    },
    /// Ask whether knockd answers
    Ping,
    /// Have knockd read its policy and whitelist again
    Reload {
        /// Even if that shuts out whoever is logged in
        #[arg(short, long)]
        force: bool,
    },
    /// Say what a policy would change
    Diff {
        /// A policy
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a policy into force, and into the place of the one that knockd starts with
    Apply {
        /// A policy
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Take it back after this time, such as 120s, unless `knockctl confirm` comes first;
        /// until then the file that knockd starts with stays as it is
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
        /// Even if that shuts out whoever is logged in
        #[arg(short, long)]
        force: bool,
    },
    /// Keep what `apply --confirm` has put into force
    Confirm,
    /// Take back what `apply --confirm` has put into force, or go back to the policy from before
    Rollback {
        /// Even if that shuts out whoever is logged in
        #[arg(short, long)]
        force: bool,
    },
}

impl Command {
    /// What to ask. Reads the policy that it is about, if it is about one.
    pub(super) fn request(&self) -> Result<Request, FileProblem> {
        let forced = |verb, force| Request {
            force,
            ..Request::new(verb, [""; 0])
        };
        Ok(match self {
            Command::Reload { force } => forced(Verb::Reload, *force),
            Command::Rollback { force } => forced(Verb::Rollback, *force),
            Command::Confirm => Request::new(Verb::Confirm, [""; 0]),
            Command::Diff { file } => Request {
                policy: Some(policy::read(file)?),
                ..Request::new(Verb::Diff, [""; 0])
            },
            Command::Apply {
                file,
                confirm,
                force,
            } => Request {
                policy: Some(policy::read(file)?),
                confirm: confirm.clone(),
                ..forced(Verb::Apply, *force)
            },
            other => other.without_policy(),
        })
    }

    fn without_policy(&self) -> Request {
        let of = |verb, args: &[String], gates: &Gates| Request {
            gates: gates.gates.clone(),
            ..Request::new(verb, args)
        };
        match self {
            Command::Accept {
                addresses,
                lifetime,
                force,
                gates,
            } => Request {
                lifetime: lifetime.clone(),
                force: *force,
                ..of(Verb::Accept, addresses, gates)
            },
            Command::Drop {
                addresses,
                lifetime,
                force,
                gates,
            } => Request {
                lifetime: lifetime.clone(),
                force: *force,
                ..of(Verb::Drop, addresses, gates)
            },
            Command::Trust {
                entries,
                runtime,
                comment,
                force,
                gates,
            } => Request {
                runtime: *runtime,
                comment: comment.clone(),
                force: *force,
                ..of(Verb::Trust, entries, gates)
            },
            Command::Untrust {
                entries,
                runtime,
                force,
                gates,
            } => Request {
                runtime: *runtime,
                force: *force,
                ..of(Verb::Untrust, entries, gates)
            },
            Command::Unban { addresses, gates } => of(Verb::Unban, addresses, gates),
            Command::Flush { what, gates } => of(Verb::Flush, what, gates),
            Command::Open { lifetime, gates } => Request {
                lifetime: lifetime.clone(),
                ..of(Verb::Open, &[], gates)
            },
            Command::Close { gates } => of(Verb::Close, &[], gates),
            Command::List { kinds, gates } => of(Verb::List, kinds, gates),
            Command::Why { addresses, gates } => of(Verb::Why, addresses, gates),
            Command::History {
                addresses,
                limit,
                gates,
            } => Request {
                limit: *limit,
                ..of(Verb::History, addresses, gates)
            },
            Command::Status => Request::new(Verb::Status, [""; 0]),
            // The rest was asked for above; asking whether knockd is there harms nobody.
            _ => Request::new(Verb::Ping, [""; 0]),
        }
    }
}
