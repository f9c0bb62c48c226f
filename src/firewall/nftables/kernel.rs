//! The conversation with `nf_tables`: what is asked, what is committed, how it fails.

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::Restraints;
use super::decode::{self, Held, SetInfo};
use super::encode::{self, SUBSYSTEM, Step};
use super::names::{Family, key_number, number_address};
use super::plan::State;
use crate::firewall::FirewallError;
use crate::netlink::attr::find;
use crate::netlink::{Netlink, NetlinkError, batch_length};

/// The socket and what the kernel behind it can do.
#[derive(Debug)]
pub(super) struct Kernel {
    netlink: Netlink,
    /// Whether it knows `NFT_MSG_DESTROYSETELEM`.
    pub(super) can_destroy: bool,
}

/// Why something failed, while it still matters how.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel refused.
    Kernel {
        operation: &'static str,
        object: String,
        error: NetlinkError,
    },
    /// Anything else.
    Other(FirewallError),
}

impl Failure {
    fn new(operation: &'static str, object: impl Into<String>, error: NetlinkError) -> Self {
        Self::Kernel {
            operation,
            object: object.into(),
            error,
        }
    }

    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { error, .. } => error.errno(),
            Self::Other(_) => None,
        }
    }

    /// Somebody else changed the ruleset between reading and writing, or before reading back.
    pub(super) fn is_race(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ERESTART | libc::ENOENT | libc::EEXIST)
        ) || matches!(self, Self::Other(FirewallError::Unverified(_)))
    }

    /// The answer was lost.
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(
            self,
            Self::Kernel {
                error: NetlinkError::Lost,
                ..
            }
        )
    }

    /// An element was not as expected.
    pub(super) fn is_surprise(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::EEXIST))
    }
}

impl From<FirewallError> for Failure {
    fn from(error: FirewallError) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for FirewallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Other(error) => error,
            Failure::Kernel {
                operation,
                mut object,
                error,
            } => {
                if let NetlinkError::Refused {
                    text: Some(text), ..
                } = &error
                {
                    object = format!("{object} [{text}]");
                }
                FirewallError::Kernel {
                    operation,
                    object,
                    hint: hint(error.errno()),
                    source: error.into_io(),
                }
            }
        }
    }
}

fn hint(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM | libc::EACCES) => " (needs CAP_NET_ADMIN and CAP_NET_RAW: run as root)",
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
            " (the kernel module nf_tables is missing: modprobe nf_tables)"
        }
        Some(libc::EMSGSIZE | libc::ENOBUFS) => {
            " (more than the send buffer takes: raise net.core.wmem_max or run as root)"
        }
        Some(libc::EBUSY) => " (somebody else's rule or chain uses it)",
        _ => "",
    }
}

impl Kernel {
    pub(super) fn open(restraints: Restraints) -> Result<Self, FirewallError> {
        let failed = |error| Failure::new("use", "nf_tables", error);
        let mut netlink = Netlink::open(NETLINK_NETFILTER).map_err(failed)?;
        if let Some(limit) = restraints.batch {
            netlink.lower_limit(limit);
        }
        let probe = encode::destroy_probe();
        let messages = std::iter::once(probe.bytes.as_slice());
        let can_destroy = match netlink.batch(SUBSYSTEM, None, messages) {
            Err(error) if error.errno() == Some(libc::ENOENT) => true,
            Err(error) if error.errno() == Some(libc::EINVAL) => false,
            Err(error) => return Err(failed(error).into()),
            Ok(()) => true,
        };
        Ok(Self {
            netlink,
            can_destroy: can_destroy && !restraints.no_destroy,
        })
    }

    /// The socket's port.
    pub(super) fn port(&self) -> u32 {
        self.netlink.port()
    }

    pub(super) fn generation(&mut self) -> Result<u32, Failure> {
        let failed = |error| Failure::new("read the generation of", "the ruleset", error);
        self.netlink
            .ask(encode::get_generation(), decode::generation)
            .and_then(|generation| generation.ok_or(NetlinkError::Lost))
            .map_err(failed)
    }

    /// The skeleton, and the generation it is of at the earliest.
    pub(super) fn state(&mut self) -> Result<State, Failure> {
        let generation = self.generation()?;
        let table = match self.netlink.ask(encode::get_table(), decode::table) {
            Ok(table) => table,
            Err(error) if error.errno() == Some(libc::ENOENT) => None,
            Err(error) => return Err(Failure::new("read", "table inet knockd", error)),
        };
        if table.is_none() {
            return Ok(State {
                generation,
                ..State::default()
            });
        }
        let chains = self
            .netlink
            .dump(encode::dump_chains(), |kind, payload, found| {
                found.extend(decode::chain(kind, payload));
            })
            .map_err(|error| Failure::new("list", "chains", error))?;
        let rules = self
            .netlink
            .dump(encode::dump_rules(), |kind, payload, found| {
                found.extend(decode::rule(kind, payload));
            })
            .map_err(|error| Failure::new("list", "rules", error))?;
        Ok(State {
            generation,
            table,
            chains,
            sets: self.sets()?,
            rules,
        })
    }

    pub(super) fn sets(&mut self) -> Result<Vec<SetInfo>, Failure> {
        let result = self
            .netlink
            .dump(encode::dump_sets(), |kind, payload, found| {
                found.extend(decode::set(kind, payload));
            });
        match result {
            // The table is gone.
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            result => result.map_err(|error| Failure::new("list", "sets", error)),
        }
    }

    pub(super) fn elements(&mut self, set: &str) -> Result<Vec<Held>, Failure> {
        self.netlink
            .dump(encode::dump_elements(set), decode::elements)
            .map_err(|error| Failure::new("read", set, error))
    }

    pub(super) fn count(&mut self, set: &str) -> Result<usize, Failure> {
        self.netlink
            .dump(encode::dump_elements(set), |kind, payload, found| {
                found.push(decode::count_elements(kind, payload));
            })
            .map(|counts| counts.into_iter().sum())
            .map_err(|error| Failure::new("read", set, error))
    }

    /// Whether the set has that key now. A dump may silently lack it.
    pub(super) fn has_key(&mut self, set: &str, key: Vec<u8>) -> Result<bool, Failure> {
        let read = |kind, payload: &[u8]| (decode::count_elements(kind, payload) > 0).then_some(());
        match self.netlink.ask(encode::get_element(set, key, false), read) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(Failure::new("read", set, error)),
        }
    }

    /// The element with that key, or of the interval in which it lies.
    pub(super) fn get(
        &mut self,
        set: &str,
        key: Vec<u8>,
        end: bool,
    ) -> Result<Option<Held>, Failure> {
        let read = |kind, payload: &[u8]| {
            let mut found = Vec::new();
            decode::elements(kind, payload, &mut found);
            found.pop()
        };
        match self.netlink.ask(encode::get_element(set, key, end), read) {
            Ok(found) => Ok(found),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(Failure::new("read", set, error)),
        }
    }

    pub(super) fn fits(&self, steps: &[&Step]) -> bool {
        batch_length(steps.iter().map(|step| step.bytes.len())) <= self.netlink.limit()
    }

    /// All of it or nothing.
    pub(super) fn commit(
        &mut self,
        steps: &[&Step],
        generation: Option<u32>,
    ) -> Result<(), Failure> {
        let messages = steps.iter().map(|step| step.bytes.as_slice());
        self.netlink
            .batch(SUBSYSTEM, generation, messages)
            .map_err(|error| {
                let index = match &error {
                    NetlinkError::Refused { index, .. } => *index,
                    _ => None,
                };
                match index.and_then(|index| steps.get(index)) {
                    Some(step) if error.errno() == Some(libc::ENFILE) => FirewallError::Full {
                        set: step.object.clone(),
                        member: first_member(&step.bytes),
                    }
                    .into(),
                    Some(step) => Failure::new(step.operation, step.object.clone(), error),
                    None => Failure::new("change", "table inet knockd", error),
                }
            })
    }
}

/// The first element of a message that adds some.
fn first_member(message: &[u8]) -> String {
    let first = || {
        let list = find(message.get(20..)?, 3)?;
        let element = list.nested().next()?;
        let key = find(find(element.value, 1)?.value, 1)?.value;
        let family = if key.len() == 4 {
            Family::V4
        } else {
            Family::V6
        };
        number_address(family, key_number(key)?)
    };
    first().map_or_else(|| "a member".to_owned(), |address| address.to_string())
}
