use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::model::{canonical_net, host_net, is_host_name};

/// Whom a line of the whitelist means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address or a network, canonical.
    Net(IpNet),
    /// A host name (RFC 1123) as written, to be resolved.
    Name(String),
}

/// Why a text means nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Looks like an address, and is none.
    #[error("not an address: expected one such as 192.0.2.17 or 2001:db8::17")]
    Address,
    /// An address with something after the slash that is no length.
    #[error("not a network: expected one such as 192.0.2.0/24 or 2001:db8::/48")]
    Network,
    /// Letters that DNS does not have.
    #[error("not a host name: write it in its ASCII form (xn--…)")]
    NotAscii,
    /// Not a host name.
    #[error("not an address, a network or a host name")]
    Name,
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some((address, length)) = text.split_once('/') {
            let net = network(text, address, length).ok_or(HostError::Network)?;
            return Ok(Host::Net(canonical_net(net)));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Host::Net(host_net(address)));
        }
        if !text.is_ascii() {
            return Err(HostError::NotAscii);
        }
        let numeric = |c: char| c.is_ascii_digit() || c == '.';
        if text.contains(':') || !text.is_empty() && text.chars().all(numeric) {
            return Err(HostError::Address);
        }
        if is_host_name(text) {
            Ok(Host::Name(text.to_owned()))
        } else {
            Err(HostError::Name)
        }
    }
}

/// A network by prefix length or, as the original's files have it, by IPv4 netmask; as written.
fn network(text: &str, address: &str, length: &str) -> Option<IpNet> {
    if let Ok(net) = text.parse() {
        return Some(net);
    }
    let mask: Ipv4Addr = length.parse().ok()?;
    let net = Ipv4Net::with_netmask(address.parse().ok()?, mask).ok()?;
    Some(IpNet::V4(net))
}

/// The network that a text is taken as which names an address inside it, such as `192.0.2.17/8`:
/// more often a slip than somebody's wish.
pub(super) fn taken_as(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let net = network(text, address, length)?;
    (net != net.trunc()).then(|| canonical_net(net))
}

impl Host {
    /// Whether both mean the same: equal networks, or the same name in whatever case.
    pub fn same(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Net(one), Host::Net(two)) => canonical_net(*one) == canonical_net(*two),
            (Host::Name(one), Host::Name(two)) => {
                without_dot(one).eq_ignore_ascii_case(without_dot(two))
            }
            _ => false,
        }
    }

    /// Whether this is every address of a family.
    pub fn is_everything(&self) -> bool {
        matches!(self, Host::Net(net) if canonical_net(*net).prefix_len() == 0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Host::Net(net) => net.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
