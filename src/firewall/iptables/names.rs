//! What our objects are called. Own objects are recognised by these names and, rules, by their
//! comment.

use ipnet::IpNet;

use crate::model::{Chain, GateName};

/// Every rule of ours carries this comment.
pub(super) const COMMENT: &str = "portcullis";

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

    pub(super) fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    pub(super) fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    /// The two halves of all addresses: a `hash:net` takes no network of length 0.
    pub(super) fn halves(self) -> [IpNet; 2] {
        let (low, high): ([u16; 8], [u16; 8]) = ([0; 8], [0x8000, 0, 0, 0, 0, 0, 0, 0]);
        match self {
            Family::V4 => [
                IpNet::new_assert([0, 0, 0, 0].into(), 1),
                IpNet::new_assert([128, 0, 0, 0].into(), 1),
            ],
            Family::V6 => [
                IpNet::new_assert(low.into(), 1),
                IpNet::new_assert(high.into(), 1),
            ],
        }
    }

    /// All addresses.
    pub(super) fn everybody(self) -> IpNet {
        IpNet::new_assert(self.halves()[0].addr(), 0)
    }
}

/// A type of set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Networks and single addresses.
    Net,
    /// Address and port.
    Peer,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Net => "hash:net",
            Kind::Peer => "hash:ip,port",
        }
    }
}

/// What a set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    /// The members of a chain.
    Members(Chain, Family),
    /// Everybody, while a gate with `once` stands open: deleting a host from its filter set by a
    /// rule would otherwise take the half that it lies in.
    Open(Family),
    /// Peers whose sessions were open before the gate was.
    Session(Family),
    /// Everybody, while forwarded sessions from before the gate are let through.
    Grace(Family),
}

impl Role {
    /// Every set a gate may have.
    pub(super) fn all() -> impl Iterator<Item = Role> {
        Family::ALL.into_iter().flat_map(|family| {
            let members = Chain::ALL.map(|chain| Role::Members(chain, family));
            let others = [
                Role::Open(family),
                Role::Session(family),
                Role::Grace(family),
            ];
            members.into_iter().chain(others)
        })
    }

    pub(super) fn family(self) -> Family {
        match self {
            Role::Members(_, family)
            | Role::Open(family)
            | Role::Session(family)
            | Role::Grace(family) => family,
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Role::Session(_) => Kind::Peer,
            _ => Kind::Net,
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Role::Members(chain, _) => chain.suffix(),
            Role::Open(_) => "open",
            Role::Session(_) => "session",
            Role::Grace(_) => "grace",
        }
    }
}

/// The name of a gate's set: `ssh_banned4`. At most 25 characters of the 31 that there are.
pub(super) fn set_name(gate: &GateName, role: Role) -> String {
    format!("{gate}_{}{}", role.stem(), role.family().digit())
}

/// A name for a set while it is being filled to take another's place.
pub(super) fn spare_name(set: &str) -> String {
    format!("{set}_new")
}

/// Whose set that is, if it is ours.
pub(super) fn parse_set(name: &str) -> Option<(GateName, Role)> {
    let (gate, rest) = name.split_once('_')?;
    let gate = GateName::new(gate).ok()?;
    Role::all()
        .find(|role| {
            rest.strip_prefix(role.stem())
                .is_some_and(|digit| digit == role.family().digit().to_string())
        })
        .map(|role| (gate, role))
}

/// The chain new connections go through: `ssh_policy`.
pub(super) fn policy_chain(gate: &GateName) -> String {
    format!("{gate}_policy")
}

/// A chain of a gate: `ssh_banned`.
pub(super) fn member_chain(gate: &GateName, chain: Chain) -> String {
    format!("{gate}_{}", chain.suffix())
}

/// The four chains of a gate, the one that refers to the others first.
pub(super) fn chains(gate: &GateName) -> [String; 4] {
    let [banned, trusted, filter] = Chain::ALL.map(|chain| member_chain(gate, chain));
    [policy_chain(gate), banned, trusted, filter]
}

/// Whose chain that could be.
pub(super) fn parse_chain(name: &str) -> Option<GateName> {
    let (gate, suffix) = name.split_once('_')?;
    let known = suffix == "policy" || Chain::ALL.iter().any(|c| c.suffix() == suffix);
    GateName::new(gate).ok().filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written_and_nothing_else_is_ours() {
        let gate = GateName::new("ssh").unwrap();
        for role in Role::all() {
            let name = set_name(&gate, role);
            assert_eq!(parse_set(&name), Some((gate.clone(), role)));
            assert_eq!(parse_set(&spare_name(&name)), None);
        }
        assert_eq!(Role::all().count(), 12);
        for foreign in [
            "ssh_filter",
            "ssh_filter5",
            "ssh_filter44",
            "SSH_open4",
            "ssh",
        ] {
            assert_eq!(parse_set(foreign), None, "{foreign}");
        }
        for chain in chains(&gate) {
            assert_eq!(parse_chain(&chain), Some(gate.clone()));
        }
        assert_eq!(parse_chain("DOCKER_policy"), None);
        assert_eq!(parse_chain("ssh_input"), None);
    }

    #[test]
    fn the_longest_name_fits() {
        let gate = GateName::new("a234567890123456").unwrap();
        for role in Role::all() {
            // IPSET_MAXNAMELEN is 32 with its NUL, a chain's name has up to 28 characters.
            assert!(spare_name(&set_name(&gate, role)).len() <= 31);
        }
        assert!(chains(&gate).iter().all(|name| name.len() <= 28));
    }

    #[test]
    fn two_halves_are_everybody() {
        for family in Family::ALL {
            let halves = family.halves();
            assert_eq!(IpNet::aggregate(&halves.to_vec()), [family.everybody()]);
        }
    }
}
