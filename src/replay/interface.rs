//! Where packets of a capture came in, and whether a policy listens there.

use std::str;

use super::link::{Ip, Tags};
use crate::policy::Interfaces;

/// The longest name of a Linux interface (`IFNAMSIZ` without its last byte).
const LONGEST: usize = 15;

/// The name of an interface, as a capture has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Name {
    /// `None` for what is no name of a Linux interface: other systems have longer ones, and `any`
    /// stands for all of them. Some writers end it with a NUL.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let is_name = (1..=LONGEST).contains(&bytes.len())
            && bytes != b"any"
            && str::from_utf8(bytes).is_ok_and(|text| !text.contains(char::is_control));
        is_name.then(|| {
            let mut name = Self {
                bytes: [0; LONGEST],
                length: bytes.len(),
            };
            name.bytes[..bytes.len()].copy_from_slice(bytes);
            name
        })
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// Whether a packet came in where knocks count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// There.
    Here,
    /// On another interface.
    Elsewhere,
    /// The capture does not tell.
    Unknown,
}

/// The interface that a capture was made on, or which one a number in it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it is called.
    pub name: String,
    /// Its number, as link headers of `tcpdump -i any` have it; `None` for one that all packets
    /// came in on about which nothing else is said.
    pub index: Option<u32>,
}

/// Where a daemon listens.
#[derive(Debug)]
pub(super) struct Listening {
    interfaces: Interfaces,
    known: Vec<Known>,
}

impl Default for Listening {
    fn default() -> Self {
        Self::on(Interfaces::Any, Vec::new())
    }
}

impl Listening {
    pub(super) fn on(interfaces: Interfaces, known: Vec<Known>) -> Self {
        Self { interfaces, known }
    }

    /// The interfaces that the policy names.
    pub(super) fn named(&self) -> &[String] {
        match &self.interfaces {
            Interfaces::Any => &[],
            Interfaces::Named(names) => names,
        }
    }

    /// Whether interfaces were named as those of the capture, and knocks count on none of them.
    pub(super) fn is_elsewhere(&self) -> bool {
        let Interfaces::Named(wanted) = &self.interfaces else {
            return false;
        };
        let counts = |known: &Known| {
            let mut rest = wanted.iter().filter_map(|it| it.strip_prefix(&known.name));
            rest.any(|vlan| vlan.is_empty() || vlan.starts_with('.'))
        };
        !self.known.is_empty() && !self.known.iter().any(counts)
    }

    /// As for the kernel's filter: loopback never counts, and a packet with a VLAN tag came in on
    /// the VLAN's own interface, which is taken to be called as `ip link` and Debian do it.
    pub(super) fn came(&self, file: Option<&Name>, ip: &Ip<'_>) -> Came {
        let said = |index| {
            let known = self.known.iter().find(|known| known.index == index);
            known.map(|known| known.name.as_str())
        };
        // The number is the more exact: the file may know but one interface, "any".
        let name = match ip.device {
            Some(index) => said(Some(index)),
            None => file.map(Name::as_str).or_else(|| said(None)),
        };
        let wanted = match &self.interfaces {
            Interfaces::Any if name == Some("lo") => return Came::Elsewhere,
            Interfaces::Any => return Came::Here,
            Interfaces::Named(wanted) => wanted,
        };
        let Some(name) = name else {
            let has_number = |name: &&String| {
                let mut known = self.known.iter();
                known.any(|it| it.name == **name && it.index.is_some())
            };
            // It is none of those.
            return if ip.device.is_some() && wanted.iter().all(|it| has_number(&it)) {
                Came::Elsewhere
            } else {
                Came::Unknown
            };
        };
        let is_wanted = wanted.iter().any(|it| is_called(it, name, &ip.vlan));
        if is_wanted {
            Came::Here
        } else {
            Came::Elsewhere
        }
    }
}

/// Whether the interface is that of these VLANs on that one.
fn is_called(interface: &str, on: &str, vlan: &Tags) -> bool {
    let Some(rest) = interface.strip_prefix(on) else {
        return false;
    };
    let mut parts = rest.split('.');
    parts.next() == Some("") && parts.eq(vlan.iter().map(u16::to_string))
}
