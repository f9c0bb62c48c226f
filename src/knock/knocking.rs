//! The knocks: port by port, over every address of a host.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::args::{Families, Knocks};
use super::error::KnockError;
use super::send;
use crate::totp::Family;

/// All addresses of the host in the families wanted, each once, in the system's order. Their ports
/// are 0; IPv6 scopes are kept.
pub(super) fn addresses(host: &str, families: Families) -> Result<Vec<SocketAddr>, KnockError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let found = (bare, 0)
        .to_socket_addrs()
        .map_err(|source| KnockError::Resolve {
            host: host.to_owned(),
            source,
        })?;
    let mut seen = HashSet::new();
    let wanted: Vec<SocketAddr> = found
        .filter(|address| match address.ip() {
            IpAddr::V4(_) => families != Families::V6,
            IpAddr::V6(_) => families != Families::V4,
        })
        .filter(|address| seen.insert(*address))
        .collect();
    if wanted.is_empty() {
        return Err(KnockError::Family {
            host: host.to_owned(),
            family: match families {
                Families::V4 => "IPv4",
                Families::V6 => "IPv6",
                Families::Both => "usable",
            },
        });
    }
    Ok(wanted)
}

/// Port by port over every address, so that the order holds for each; what is sent is told to
/// `say`. An address that cannot be reached (a machine without IPv6 has no way to the host's IPv6
/// address) is left out; it is an error when none is left. Returns those that are.
pub(super) fn knock_all(
    addresses: &[SocketAddr],
    knocks: &Knocks,
    delay: Duration,
    say: Option<&mut dyn Write>,
) -> Result<Vec<SocketAddr>, KnockError> {
    let mut addresses = addresses.to_vec();
    let mut say = say;
    // A clock that is set before 1970 is set wrong; then nothing opens.
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let [v4, v6] = Family::ALL.map(|family| knocks.ports(family, since_epoch));
    for (nth, (v4, v6)) in v4.into_iter().zip(v6).enumerate() {
        if nth > 0 && !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut failure = None;
        addresses.retain(|address| {
            let mut target = *address;
            let port = match Family::towards(target.ip()) {
                Family::V4 => v4,
                Family::V6 => v6,
            };
            target.set_port(port.port);
            match send::knock(target, port.proto) {
                Ok(()) => {
                    if let Some(say) = &mut say {
                        // A reader that went away must not keep the next knock from being sent.
                        let _ = writeln!(say, "hitting {} {target}", port.proto);
                    }
                    true
                }
                Err(source) => {
                    let error = KnockError::Send { target, source };
                    if say.is_some() || !error.is_expected() {
                        let _ = writeln!(io::stderr(), "knock: {error}; it is left out");
                    }
                    failure.get_or_insert(error);
                    false
                }
            }
        });
        if let (true, Some(failure)) = (addresses.is_empty(), failure) {
            return Err(failure);
        }
    }
    Ok(addresses)
}
