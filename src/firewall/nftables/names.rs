//! What our objects are called and what our sets are made of. Own objects are recognised by
//! these names alone.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Chain, GateName};

/// Our table, of family inet.
pub(in crate::firewall) const TABLE: &str = "knockd";
/// The base chain for traffic to the host.
pub(super) const INPUT: &str = "input";
/// The base chain for traffic through the host.
pub(super) const FORWARD: &str = "forward";
/// The base chain where connection tracking is spared.
pub(super) const PREROUTING: &str = "prerouting";

/// An address family; the numbers are `NFPROTO_*`, which are also AF_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    V4 = 2,
    V6 = 10,
}

impl Family {
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(super) fn of(net: IpNet) -> Self {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    pub(super) fn of_address(address: IpAddr) -> Self {
        Self::of(address.into())
    }

    pub(super) fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    pub(super) fn bytes(self) -> usize {
        usize::from(self.bits() / 8)
    }

    fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }
}

/// What a set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    /// Single addresses (in `ssh_filter6` perhaps masked to /64).
    Host(Chain, Family),
    /// Networks; not for `Chain::Filter`.
    Net(Chain, Family),
    /// The families that are let in whole.
    Open,
    /// Address and port of peers whose sessions were open before the gate was.
    Session(Family),
    /// Families whose forwarded sessions are presumed to have been open before the gate was.
    Grace,
}

impl Role {
    /// Every set a gate may have.
    pub(super) fn all() -> impl Iterator<Item = Role> {
        let members = Chain::ALL.into_iter().flat_map(|chain| {
            Family::ALL.into_iter().flat_map(move |family| {
                [Role::Host(chain, family), Role::Net(chain, family)]
                    .into_iter()
                    .filter(move |role| *role != Role::Net(Chain::Filter, family))
            })
        });
        members.chain([
            Role::Open,
            Role::Session(Family::V4),
            Role::Session(Family::V6),
            Role::Grace,
        ])
    }

    /// The chain whose members it holds, if it holds members.
    pub(super) fn chain(self) -> Option<Chain> {
        match self {
            Role::Host(chain, _) | Role::Net(chain, _) => Some(chain),
            Role::Open => Some(Chain::Filter),
            Role::Session(_) | Role::Grace => None,
        }
    }

    fn suffix(self) -> String {
        match self {
            Role::Host(chain, family) => format!("{}{}", chain.suffix(), family.digit()),
            Role::Net(chain, family) => format!("{}{}net", chain.suffix(), family.digit()),
            Role::Open => "open".to_owned(),
            Role::Session(family) => format!("session{}", family.digit()),
            Role::Grace => "grace".to_owned(),
        }
    }
}

/// The name of a gate's set: `ssh_banned4`.
pub(super) fn set_name(gate: &GateName, role: Role) -> String {
    format!("{gate}_{}", role.suffix())
}

/// Whose set that is, if it is ours.
pub(super) fn parse_set(name: &str) -> Option<(GateName, Role)> {
    let (gate, suffix) = name.split_once('_')?;
    let role = Role::all().find(|role| role.suffix() == suffix)?;
    Some((GateName::new(gate).ok()?, role))
}

/// The chain new connections go through: `ssh_policy`.
pub(super) fn policy_chain(gate: &GateName) -> String {
    format!("{gate}_policy")
}

/// A chain of a gate: `ssh_banned`.
pub(super) fn member_chain(gate: &GateName, chain: Chain) -> String {
    format!("{gate}_{}", chain.suffix())
}

/// Whose chain that is, if it is a gate's: with `None` for its policy chain.
pub(super) fn parse_chain(name: &str) -> Option<(GateName, Option<Chain>)> {
    let (gate, suffix) = name.split_once('_')?;
    let gate = GateName::new(gate).ok()?;
    if suffix == "policy" {
        return Some((gate, None));
    }
    let chain = Chain::ALL.into_iter().find(|c| c.suffix() == suffix)?;
    Some((gate, Some(chain)))
}

/// Whether a chain in our table is one of ours.
pub(super) fn is_own_chain(name: &str) -> bool {
    [INPUT, FORWARD, PREROUTING].contains(&name) || parse_chain(name).is_some()
}

/// `NFT_SET_INTERVAL`.
pub(super) const INTERVAL: u32 = 0x4;
/// `NFT_SET_TIMEOUT`.
pub(super) const TIMEOUT: u32 = 0x10;
/// `NFT_SET_EVAL`, which nft calls `dynamic`: rules may change the set.
pub(super) const EVAL: u32 = 0x20;

/// nft's numbers of types (its `enum datatypes`), of which six bits each make up a
/// concatenation; the kernel keeps them for it.
const TYPE_NFPROTO: u32 = 2;
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
pub(super) const TYPE_INET_SERVICE: u32 = 13;
const TYPE_BITS: u32 = 6;

/// What a set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetSpec {
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    /// Shown by `nft list` with the set.
    pub(super) comment: &'static str,
}

/// Says in the kernel how long the prefixes in a set are, for whoever reads it later.
pub(super) const MASKED: &str = "an element is a /64";

/// What the set of a gate is to be made of.
pub(super) fn set_spec(gate: &GateName, role: Role, once: bool, ipv6_prefix: u8) -> SetSpec {
    let address = |family| match family {
        Family::V4 => (TYPE_IPADDR, 4),
        Family::V6 => (TYPE_IP6ADDR, 16),
    };
    let (flags, (key_type, key_len)) = match role {
        // Without the timeout flag the kernel need not look through the whitelist for the
        // expired every second.
        Role::Host(Chain::Trusted, family) => (0, address(family)),
        Role::Net(Chain::Trusted, family) => (INTERVAL, address(family)),
        Role::Host(Chain::Filter, family) if once => (TIMEOUT | EVAL, address(family)),
        Role::Host(_, family) => (TIMEOUT, address(family)),
        Role::Net(_, family) => (TIMEOUT | INTERVAL, address(family)),
        Role::Open | Role::Grace => (TIMEOUT, (TYPE_NFPROTO, 1)),
        Role::Session(family) => {
            let (kind, len) = address(family);
            // The port is padded to a register's four bytes.
            (TIMEOUT, ((kind << TYPE_BITS) | TYPE_INET_SERVICE, len + 4))
        }
    };
    let masked = role == Role::Host(Chain::Filter, Family::V6) && ipv6_prefix == 64;
    SetSpec {
        name: set_name(gate, role),
        flags,
        key_type,
        key_len,
        comment: if masked { MASKED } else { "" },
    }
}

/// A number as the bytes of a key.
pub(super) fn key_bytes(family: Family, key: u128) -> Vec<u8> {
    key.to_be_bytes()[16 - family.bytes()..].to_vec()
}

/// The bytes of a key as a number.
pub(super) fn key_number(bytes: &[u8]) -> Option<u128> {
    let mut number = [0; 16];
    let start = number.len().checked_sub(bytes.len())?;
    number[start..].copy_from_slice(bytes);
    Some(u128::from_be_bytes(number))
}

/// An address as a number.
pub(super) fn address_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The first and last address of a network, as numbers.
pub(super) fn net_range(net: IpNet) -> (u128, u128) {
    (
        address_number(net.network()),
        address_number(net.broadcast()),
    )
}

/// A number as an address; `None` if the family is too narrow.
pub(super) fn number_address(family: Family, number: u128) -> Option<IpAddr> {
    match family {
        Family::V4 => Some(IpAddr::V4(u32::try_from(number).ok()?.into())),
        Family::V6 => Some(IpAddr::V6(number.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written_and_nothing_else_is_ours() {
        let gate = GateName::new("ssh").unwrap();
        for role in Role::all() {
            assert_eq!(
                parse_set(&set_name(&gate, role)),
                Some((gate.clone(), role))
            );
        }
        assert_eq!(Role::all().count(), 14);
        for foreign in ["ssh_filter4net", "ssh_banned", "SSH_open", "ssh", "ssh_x4"] {
            assert_eq!(parse_set(foreign), None, "{foreign}");
        }
        assert_eq!(
            parse_chain("ssh_banned"),
            Some((gate.clone(), Some(Chain::Banned)))
        );
        assert_eq!(parse_chain(&policy_chain(&gate)), Some((gate, None)));
        assert!(is_own_chain("input") && !is_own_chain("output") && !is_own_chain("ssh_x"));
    }

    #[test]
    fn keys_are_numbers_in_network_order() {
        let bytes = key_bytes(Family::V4, 0x0a00_0001);
        assert_eq!(bytes, [10, 0, 0, 1]);
        assert_eq!(key_number(&bytes), Some(0x0a00_0001));
        assert_eq!(key_bytes(Family::V6, 1).len(), 16);
        assert_eq!(key_number(&[0; 17]), None);
    }
}
