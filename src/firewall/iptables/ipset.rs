//! The conversation with ip_set: sets are made, filled and read over netlink, without the
//! `ipset` program.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::message::{self, Command, Element, Header, Key, errno};
use super::names::{Family, Kind, spare_name};
use crate::firewall::FirewallError;
use crate::netlink::{Netlink, NetlinkError};

/// A set that a rule was just deleted for may be held for a moment more: nf_tables lets go of its
/// rules only after everybody has stopped using them.
const DESTROY_TRIES: u32 = 40;
const DESTROY_PAUSE: Duration = Duration::from_millis(5);

/// The socket and what the kernel behind it can do.
#[derive(Debug)]
pub(super) struct Ipset {
    netlink: Netlink,
    net_revision: u8,
    peer_revision: u8,
    /// The most members a new set takes.
    maxelem: u32,
}

/// A set as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) family: Family,
}

impl Spec {
    /// Whether a set can be turned into this one by a swap.
    pub(super) fn is_kin(&self, found: &Header) -> bool {
        found.kind == self.kind.name() && found.family == self.family as u8
    }
}

fn failed(
    operation: &'static str,
    object: impl Into<String>,
) -> impl FnOnce(NetlinkError) -> FirewallError {
    let object = object.into();
    move |error| {
        let code = error.errno();
        FirewallError::Kernel {
            operation,
            object,
            hint: hint(code),
            source: match code.and_then(own_words) {
                Some(words) => io::Error::other(words),
                None => error.into_io(),
            },
        }
    }
}

/// The meaning of ip_set's own errors, which strerror(3) does not know.
fn own_words(code: i32) -> Option<&'static str> {
    Some(match code {
        errno::FIND_TYPE => "the kernel does not know this type of set",
        errno::MAX_SETS => "there are too many sets",
        errno::BUSY | errno::REFERENCED => "the set is in use",
        errno::TYPE_MISMATCH => "the sets are of different types",
        errno::HASH_FULL => "the set is full",
        code if code >= 4096 => "ip_set refuses it",
        _ => return None,
    })
}

fn hint(code: Option<i32>) -> &'static str {
    match code {
        Some(libc::EPERM | libc::EACCES) => " (needs CAP_NET_ADMIN and CAP_NET_RAW: run as root)",
        Some(libc::EINVAL | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP) => {
            " (the kernel module ip_set is missing: modprobe ip_set)"
        }
        Some(errno::FIND_TYPE) => " (modprobe ip_set_hash_net ip_set_hash_ipport)",
        Some(errno::MAX_SETS) => " (raise max_sets of the kernel module ip_set)",
        Some(errno::BUSY | errno::REFERENCED) => " (somebody else's rule refers to it)",
        _ => "",
    }
}

impl Ipset {
    pub(super) fn open(maxelem: u32) -> Result<Self, FirewallError> {
        let mut netlink =
            Netlink::open(NETLINK_NETFILTER).map_err(failed("open", "a netlink socket"))?;
        let mut revision = |kind: Kind| {
            netlink
                .ask(message::ask_type(kind, Family::V4), |_, payload| {
                    message::revision(payload)
                })
                .and_then(|found| found.ok_or(NetlinkError::Lost))
                .map_err(failed("use the set type", kind.name()))
        };
        Ok(Self {
            net_revision: revision(Kind::Net)?,
            peer_revision: revision(Kind::Peer)?,
            netlink,
            maxelem,
        })
    }

    /// Comments came with revision 4 of `hash:net` and 3 of `hash:ip,port` (Linux 3.13).
    fn can_comment(&self, kind: Kind) -> bool {
        match kind {
            Kind::Net => self.net_revision >= 4,
            Kind::Peer => false,
        }
    }

    /// Whether a set as found is as it has to be.
    pub(super) fn fits(&self, spec: &Spec, found: &Header) -> bool {
        self.has_our_shape(spec, found) && found.maxelem >= self.maxelem
    }

    /// Whether it keeps of its members what ours do.
    pub(super) fn has_our_shape(&self, spec: &Spec, found: &Header) -> bool {
        spec.is_kin(found) && found.has_timeout && found.has_comment == self.can_comment(spec.kind)
    }

    /// What all sets of this network namespace are made of.
    pub(super) fn headers(&mut self) -> Result<Vec<Header>, FirewallError> {
        self.netlink
            .dump(message::list(None, false), |_, payload, found| {
                found.extend(message::header(payload));
            })
            .map_err(failed("list", "the sets"))
    }

    /// What one set is made of.
    pub(super) fn header(&mut self, set: &str) -> Result<Option<Header>, FirewallError> {
        let found = self
            .netlink
            .dump(message::list(Some(set), false), |_, payload, found| {
                found.extend(message::header(payload));
            });
        match found {
            Ok(mut found) => Ok(found.pop()),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(failed("read", set)(error)),
        }
    }

    /// A set's members; none if there is no such set.
    pub(super) fn elements(&mut self, set: &str) -> Result<Vec<Element>, FirewallError> {
        let found = self
            .netlink
            .dump(message::list(Some(set), true), |_, payload, found| {
                message::elements(payload, found);
            });
        match found {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            found => found.map_err(failed("read", set)),
        }
    }

    fn send(&mut self, message: Vec<u8>) -> Result<(), NetlinkError> {
        self.netlink.ask(message, |_, _| None::<()>).map(drop)
    }

    pub(super) fn create(&mut self, spec: &Spec) -> Result<(), FirewallError> {
        self.create_as(spec, &spec.name)
    }

    fn create_as(&mut self, spec: &Spec, name: &str) -> Result<(), FirewallError> {
        let revision = match spec.kind {
            Kind::Net => self.net_revision,
            Kind::Peer => self.peer_revision,
        };
        let comments = self.can_comment(spec.kind);
        let message = message::create(
            name,
            spec.kind,
            spec.family,
            revision,
            comments,
            self.maxelem,
        );
        self.send(message).map_err(failed("create set", name))
    }

    /// Gives a set of the right type with other settings the right ones, and these members, in
    /// one step; rules may refer to it.
    pub(super) fn replace(
        &mut self,
        spec: &Spec,
        elements: impl IntoIterator<Item = Element>,
    ) -> Result<(), FirewallError> {
        let spare = spare_name(&spec.name);
        // From an attempt that was cut short.
        self.destroy(&spare)?;
        self.create_as(spec, &spare)?;
        let filled = self.add_all(&spare, elements).and_then(|()| {
            self.send(message::swap(&spare, &spec.name))
                .map_err(failed("replace set", &spec.name))
        });
        self.destroy(&spare)?;
        filled
    }

    /// Nothing there is no error.
    pub(super) fn destroy(&mut self, set: &str) -> Result<(), FirewallError> {
        self.destroy_within(set, &mut { DESTROY_TRIES })
    }

    fn destroy_within(&mut self, set: &str, tries: &mut u32) -> Result<(), FirewallError> {
        loop {
            match self.send(message::destroy(set)) {
                Ok(()) => return Ok(()),
                Err(error) => match error.errno() {
                    Some(libc::ENOENT) => return Ok(()),
                    Some(errno::BUSY) if *tries > 0 => {
                        *tries -= 1;
                        sleep(DESTROY_PAUSE);
                    }
                    _ => return Err(failed("destroy set", set)(error)),
                },
            }
        }
    }

    /// As many as can be; the others and why not. All of them together wait no longer than one.
    pub(super) fn destroy_all(&mut self, sets: &[String]) -> Vec<(String, FirewallError)> {
        let mut tries = DESTROY_TRIES;
        let mut left = Vec::new();
        for set in sets {
            if let Err(error) = self.destroy_within(set, &mut tries) {
                left.push((set.clone(), error));
            }
        }
        left
    }

    /// Whether it is gone now, without waiting.
    pub(super) fn try_destroy(&mut self, set: &str) -> bool {
        self.destroy_within(set, &mut 0).is_ok()
    }

    /// Adds a member, or renews it.
    pub(super) fn add(&mut self, set: &str, element: &Element) -> Result<(), FirewallError> {
        self.send(message::one(Command::Add, set, element))
            .map_err(|error| match error.errno() {
                Some(errno::HASH_FULL) => full(set, element.key),
                _ => failed("add a member to", set)(error),
            })
    }

    /// Takes a member out; nothing there is no error.
    pub(super) fn delete(&mut self, set: &str, key: Key) -> Result<(), FirewallError> {
        match self.send(message::one(Command::Del, set, &bare(key))) {
            Err(error) if error.errno() != Some(errno::EXIST) => {
                Err(failed("take a member out of", set)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the set matches it.
    pub(super) fn has(&mut self, set: &str, key: Key) -> Result<bool, FirewallError> {
        Ok(self.test(set, key)? == Some(true))
    }

    /// Whether the set matches it; `None` if there is no such set.
    pub(super) fn test(&mut self, set: &str, key: Key) -> Result<Option<bool>, FirewallError> {
        match self.send(message::one(Command::Test, set, &bare(key))) {
            Ok(()) => Ok(Some(true)),
            Err(error) if error.errno() == Some(errno::EXIST) => Ok(Some(false)),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(failed("read", set)(error)),
        }
    }

    /// Adds or renews many.
    pub(super) fn add_all(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) -> Result<(), FirewallError> {
        let mut elements = elements.into_iter();
        while let Some((message, these)) = message::several(Command::Add, set, &mut elements) {
            match self.send(message) {
                Ok(()) => {}
                // One by one, to learn which it was.
                Err(error) if error.errno() == Some(errno::HASH_FULL) => {
                    these
                        .iter()
                        .try_for_each(|element| self.add(set, element))?;
                }
                Err(error) => return Err(failed("add members to", set)(error)),
            }
        }
        Ok(())
    }

    /// Takes many out; those that ended meanwhile are no error.
    pub(super) fn delete_all(&mut self, set: &str, keys: &[Key]) -> Result<(), FirewallError> {
        let mut elements = keys.iter().copied().map(bare);
        while let Some((message, these)) = message::several(Command::Del, set, &mut elements) {
            match self.send(message) {
                Ok(()) => {}
                Err(error) if error.errno() == Some(errno::EXIST) => {
                    these
                        .iter()
                        .try_for_each(|element| self.delete(set, element.key))?;
                }
                Err(error) => return Err(failed("take members out of", set)(error)),
            }
        }
        Ok(())
    }
}

pub(super) fn full(set: &str, key: Key) -> FirewallError {
    FirewallError::Full {
        set: set.to_owned(),
        member: match key {
            Key::Net(net) => shown(net),
            Key::Peer(address, port) => format!("{address} port {port}"),
        },
    }
}

fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

fn bare(key: Key) -> Element {
    Element {
        key,
        timeout: 0,
        comment: String::new(),
    }
}
