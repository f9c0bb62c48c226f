use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::refusal::printable;
use super::{PolicyText, Refusal, Request, Verb, source};
use crate::engine::{Command, Flush};
use crate::model::{
    Chain, DurationError, GateName, Lifetime, SshConnection, canonical, canonical_net, host_net,
    is_host_name, parse_duration,
};

/// Each address that `why` is asked about costs look-ups while packets wait.
const MOST_ASKED: usize = 16;

/// Each address that `history` is asked about is looked for in every entry.
const MOST_IN_HISTORY: usize = 1000;

/// The longest comment, in bytes.
const MAX_COMMENT: usize = 200;

/// The longest time that a change waits to be confirmed.
const LONGEST_TRIAL: Duration = Duration::from_secs(86_400);

/// A request that makes sense; whether it is carried out is decided by the engine and the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// The engine decides.
    Engine(Command),
    /// Put on the whitelist.
    Trust {
        /// Whom; not empty.
        entries: Vec<Entry>,
        /// Until reboot, without touching the file. Then there are no names among the entries.
        runtime: bool,
        /// To be written beside each entry.
        comment: Option<String>,
        /// Where; empty is everywhere, and always so without `runtime`.
        gates: Vec<GateName>,
        /// Past the safety rules.
        force: bool,
    },
    /// Take off the whitelist.
    Untrust {
        /// Whom; not empty.
        entries: Vec<Entry>,
        /// Only what was trusted until reboot.
        runtime: bool,
        /// Where; empty is everywhere, and always so without `runtime`.
        gates: Vec<GateName>,
        /// Past the safety rules.
        force: bool,
    },
    /// How the daemon is.
    Status,
    /// What the kernel holds.
    List {
        /// Which chains; empty is all.
        chains: Vec<Chain>,
        /// Where; empty is everywhere.
        gates: Vec<GateName>,
    },
    /// What happens to a new connection, and why.
    Why {
        /// From where; not empty.
        addresses: Vec<IpAddr>,
        /// Where; empty is everywhere.
        gates: Vec<GateName>,
    },
    /// What happened.
    History {
        /// To addresses of these; empty is to everybody.
        nets: Vec<IpNet>,
        /// Where; empty is everywhere.
        gates: Vec<GateName>,
        /// The latest so many.
        limit: Option<u32>,
    },
    /// Whether the daemon answers.
    Ping,
    /// Read the policy and the whitelist again.
    Reload {
        /// Past the safety rules.
        force: bool,
    },
    /// What a policy would change.
    Diff(PolicyText),
    /// Put a policy into force.
    Apply {
        /// Which.
        policy: PolicyText,
        /// After how long it is taken back unless it is confirmed; `None` keeps it at once.
        confirm: Option<Duration>,
        /// Past the safety rules.
        force: bool,
    },
    /// Keep the policy that was applied with `confirm`.
    Confirm,
    /// Go back to the policy from before.
    Rollback {
        /// Past the safety rules.
        force: bool,
    },
    /// Remove everything of ours from the kernel and end.
    Teardown,
}

/// What a line of the whitelist can stand for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// An address or a network; canonical.
    Net(IpNet),
    /// A host name, in small letters.
    Name(String),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Entry::Net(net) => net.fmt(f),
            Entry::Name(name) => f.write_str(name),
        }
    }
}

impl Asked {
    /// Whether it could shut out an operator, so that the daemon looks who is logged in before.
    pub fn endangers(&self) -> bool {
        match self {
            Asked::Engine(Command::Drop { force, .. })
            | Asked::Untrust { force, .. }
            | Asked::Reload { force }
            | Asked::Rollback { force } => !force,
            Asked::Apply { force, confirm, .. } => !force && confirm.is_none(),
            _ => false,
        }
    }
}

impl Request {
    /// The ssh session of whoever asks, if they have one.
    pub fn session(&self) -> Result<Option<SshConnection>, Refusal> {
        Ok(self.session.as_deref().map(str::parse).transpose()?)
    }

    /// Judges the request; the first thing wrong with it is named.
    pub fn asked(&self) -> Result<Asked, Refusal> {
        self.check_options()?;
        self.session()?;
        self.check_number()?;
        let gates = self.gate_names()?;
        // What has to be altered to be shown is wrong before and after.
        let lifetime = self.lifetime.as_deref().map(printable);
        let lifetime = lifetime.as_deref().map(parse_duration).transpose()?;
        Ok(match self.verb {
            Verb::Accept => Asked::Engine(Command::Accept {
                addresses: self.each("an address", |text| self.source_address(text))?,
                gates,
                lifetime,
                force: self.force,
            }),
            Verb::Drop => Asked::Engine(Command::Drop {
                nets: self.each("an address or network", |text| self.source_net(text))?,
                gates,
                lifetime,
                force: self.force,
            }),
            Verb::Unban => Asked::Engine(Command::Unban {
                nets: self.each("an address or network", |text| self.net(text))?,
                gates,
            }),
            Verb::Flush => Asked::Engine(Command::Flush {
                what: self.each("an address, `filter`, `banned` or `all`", flushable)?,
                gates,
            }),
            Verb::Trust | Verb::Untrust => self.whitelist_edit(gates)?,
            Verb::Why => Asked::Why {
                addresses: self.each("an address", |text| self.address(text))?,
                gates,
            },
            Verb::List => Asked::List {
                chains: self
                    .args
                    .iter()
                    .map(|text| chain(text))
                    .collect::<Result<_, _>>()?,
                gates,
            },
            Verb::History => Asked::History {
                nets: self
                    .args
                    .iter()
                    .map(|text| self.net(text))
                    .collect::<Result<_, _>>()?,
                gates,
                limit: self.limit,
            },
            _ => {
                if let Some(text) = self.args.first() {
                    return Err(Refusal::Surplus {
                        verb: self.verb,
                        text: printable(text),
                    });
                }
                match &self.policy {
                    Some(policy) => self.with_policy(policy)?,
                    None => self.without_arguments(gates, lifetime),
                }
            }
        })
    }

    /// Refuses more addresses than one answer may be about.
    fn check_number(&self) -> Result<(), Refusal> {
        let most = match self.verb {
            Verb::Why => MOST_ASKED,
            Verb::History => MOST_IN_HISTORY,
            _ => return Ok(()),
        };
        if self.args.len() > most {
            let verb = self.verb;
            return Err(Refusal::TooMany { verb, most });
        }
        Ok(())
    }

    /// Refuses options that would be silently without effect.
    fn check_options(&self) -> Result<(), Refusal> {
        use Verb::{
            Accept, Apply, Confirm, Diff, Drop, History, Open, Ping, Reload, Rollback, Status,
            Teardown, Trust, Untrust,
        };
        let verb = self.verb;
        let wrong = [
            (
                "--for",
                self.lifetime.is_some() && !matches!(verb, Accept | Drop | Open),
            ),
            (
                "--gate",
                !self.gates.is_empty()
                    && matches!(
                        verb,
                        Status | Ping | Reload | Diff | Apply | Confirm | Rollback | Teardown
                    ),
            ),
            ("--limit", self.limit.is_some() && verb != History),
            ("--comment", self.comment.is_some() && verb != Trust),
            (
                "--runtime",
                self.runtime && !matches!(verb, Trust | Untrust),
            ),
            (
                "--force",
                self.force
                    && !matches!(
                        verb,
                        Accept | Drop | Trust | Untrust | Reload | Apply | Rollback
                    ),
            ),
            ("--confirm", self.confirm.is_some() && verb != Apply),
        ];
        let problem = match (self.policy.is_some(), matches!(verb, Diff | Apply)) {
            (false, true) => Some("needs a policy"),
            (true, false) => Some("takes no policy"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(Refusal::Policy { verb, problem });
        }
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((option, _)) => Err(Refusal::Option { verb, option }),
            None => Ok(()),
        }
    }

    fn gate_names(&self) -> Result<Vec<GateName>, Refusal> {
        self.gates
            .iter()
            .map(|text| GateName::new(&printable(text)).map_err(Refusal::from))
            .collect()
    }

    fn each<T>(
        &self,
        takes: &'static str,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        if self.args.is_empty() {
            return Err(Refusal::Missing {
                verb: self.verb,
                takes,
            });
        }
        self.args.iter().map(|text| read(text)).collect()
    }

    fn source_address(&self, text: &str) -> Result<IpAddr, Refusal> {
        let address = self.address(text)?;
        source::check(text, host_net(address))?;
        Ok(address)
    }

    fn address(&self, text: &str) -> Result<IpAddr, Refusal> {
        let Some(net) = parse_net(text) else {
            return Err(if is_host_name(text) {
                self.not_a_name(text, "addresses")
            } else {
                Refusal::NotAnAddress(printable(text))
            });
        };
        if net.prefix_len() < net.max_prefix_len() {
            return Err(Refusal::NotANetwork {
                text: printable(text),
                verb: self.verb,
            });
        }
        Ok(net.addr())
    }

    fn source_net(&self, text: &str) -> Result<IpNet, Refusal> {
        let net = self.net(text)?;
        self.check_size(text, net)?;
        source::check(text, net)?;
        Ok(net)
    }

    fn net(&self, text: &str) -> Result<IpNet, Refusal> {
        parse_net(text).ok_or_else(|| {
            if is_host_name(text) {
                self.not_a_name(text, "addresses and networks")
            } else {
                Refusal::NotANet(printable(text))
            }
        })
    }

    fn not_a_name(&self, text: &str, takes: &'static str) -> Refusal {
        Refusal::NotAName {
            text: printable(text),
            verb: self.verb,
            takes,
        }
    }

    fn check_size(&self, text: &str, net: IpNet) -> Result<(), Refusal> {
        if net.prefix_len() == 0 && !self.force {
            return Err(Refusal::Everybody {
                text: printable(text),
                verb: self.verb,
            });
        }
        Ok(())
    }

    fn whitelist_edit(&self, gates: Vec<GateName>) -> Result<Asked, Refusal> {
        if !gates.is_empty() && !self.runtime {
            return Err(Refusal::GateOfFile);
        }
        let entries = self.each("an address, network or name", |text| self.entry(text))?;
        if self.verb == Verb::Untrust {
            return Ok(Asked::Untrust {
                entries,
                runtime: self.runtime,
                gates,
                force: self.force,
            });
        }
        Ok(Asked::Trust {
            entries,
            runtime: self.runtime,
            comment: self.comment.as_deref().map(comment).transpose()?,
            gates,
            force: self.force,
        })
    }

    fn entry(&self, text: &str) -> Result<Entry, Refusal> {
        if let Some(net) = parse_net(text) {
            if self.verb == Verb::Trust {
                self.check_size(text, net)?;
                source::check(text, net)?;
                Refusal::of_host_bits(text)?;
            }
            return Ok(Entry::Net(net));
        }
        if !is_host_name(text) {
            return Err(Refusal::NotAnEntry(printable(text)));
        }
        if self.verb == Verb::Trust {
            source::check_name(text)?;
        }
        if self.runtime {
            return Err(Refusal::RuntimeName(printable(text)));
        }
        Ok(Entry::Name(text.to_ascii_lowercase()))
    }

    fn with_policy(&self, policy: &PolicyText) -> Result<Asked, Refusal> {
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let policy = PolicyText {
            file: policy.file.chars().map(shown).collect(),
            text: policy.text.clone(),
        };
        if self.verb == Verb::Diff {
            return Ok(Asked::Diff(policy));
        }
        let confirm = match self.confirm.as_deref().map(parse_duration) {
            Some(Ok(Lifetime::For(time))) if time <= LONGEST_TRIAL => Some(time),
            // The bounds of other durations are not those of this one.
            Some(Ok(_) | Err(DurationError::Range(_))) => return Err(Refusal::Confirm),
            Some(Err(error)) => return Err(error.into()),
            None => None,
        };
        Ok(Asked::Apply {
            policy,
            confirm,
            force: self.force,
        })
    }

    fn without_arguments(&self, gates: Vec<GateName>, lifetime: Option<Lifetime>) -> Asked {
        let force = self.force;
        match self.verb {
            Verb::Open => Asked::Engine(Command::Open { gates, lifetime }),
            Verb::Close => Asked::Engine(Command::Close { gates }),
            Verb::Status => Asked::Status,
            Verb::Reload => Asked::Reload { force },
            Verb::Confirm => Asked::Confirm,
            Verb::Rollback => Asked::Rollback { force },
            Verb::Teardown => Asked::Teardown,
            // The others take arguments and were handled; asking whether we are there harms nobody.
            _ => Asked::Ping,
        }
    }
}

/// An address or a network; host bits are cleared, as iptables does.
fn parse_net(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(host_net(address));
    }
    text.parse::<IpNet>().ok().map(canonical_net)
}

fn flushable(text: &str) -> Result<Flush, Refusal> {
    match text {
        "filter" => Ok(Flush::Filter),
        "banned" => Ok(Flush::Banned),
        "all" => Ok(Flush::All),
        _ => text
            .parse::<IpAddr>()
            .map(|address| Flush::Address(canonical(address)))
            .map_err(|_| Refusal::NotFlushable(printable(text))),
    }
}

fn chain(text: &str) -> Result<Chain, Refusal> {
    match text {
        "accepted" => Ok(Chain::Filter),
        "banned" => Ok(Chain::Banned),
        "trusted" => Ok(Chain::Trusted),
        _ => Err(Refusal::NotListable(printable(text))),
    }
}

fn comment(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.len() > MAX_COMMENT {
        return Err(Refusal::Comment("is longer than 200 bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::Comment(
            "has control characters: it must fit on one line",
        ));
    }
    Ok(text.to_owned())
}
