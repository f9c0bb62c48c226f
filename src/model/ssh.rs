use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::canonical;

/// An ssh session as sshd tells those whom it lets in, in `SSH_CONNECTION` (ssh(1)): "client IP
/// address, client port number, server IP address, and server port number".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SshConnection {
    /// Where it comes from; canonical.
    pub peer: SocketAddr,
    /// Where it goes to; canonical.
    pub local: SocketAddr,
}

/// Not what sshd writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ssh session: expected two addresses with their ports, as in SSH_CONNECTION")]
pub struct SshConnectionError;

impl FromStr for SshConnection {
    type Err = SshConnectionError;

    fn from_str(text: &str) -> Result<Self, SshConnectionError> {
        let mut words = text.split(' ');
        let mut end = || {
            // A link-local address comes with its interface: `fe80::1%eth0`.
            let address = words.next()?.split('%').next()?.parse::<IpAddr>().ok()?;
            let port = words.next()?.parse().ok()?;
            Some(SocketAddr::new(canonical(address), port))
        };
        let ends = end().zip(end());
        match (ends, words.next()) {
            (Some((peer, local)), None) => Ok(Self { peer, local }),
            _ => Err(SshConnectionError),
        }
    }
}

impl fmt::Display for SshConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.peer, self.local)
    }
}

impl SshConnection {
    /// As sshd writes it.
    pub fn to_words(&self) -> String {
        let (peer, local) = (self.peer, self.local);
        format!(
            "{} {} {} {}",
            peer.ip(),
            peer.port(),
            local.ip(),
            local.port()
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_session_is_read_as_sshd_writes_it() {
        for (words, shown) in [
            (
                "198.51.100.7 51022 203.0.113.1 22",
                "198.51.100.7:51022 → 203.0.113.1:22",
            ),
            (
                "::ffff:198.51.100.7 51022 ::ffff:203.0.113.1 22",
                "198.51.100.7:51022 → 203.0.113.1:22",
            ),
            (
                "2001:db8::7 51022 2001:db8::1 2222",
                "[2001:db8::7]:51022 → [2001:db8::1]:2222",
            ),
            (
                "fe80::7%eth0 51022 fe80::1%eth0 22",
                "[fe80::7]:51022 → [fe80::1]:22",
            ),
        ] {
            let session: SshConnection = words.parse().unwrap();
            assert_eq!(session.to_string(), shown);
            assert_eq!(session.to_words().parse(), Ok(session));
        }
        for bad in [
            "",
            "198.51.100.7",
            "198.51.100.7 22 203.0.113.1",
            "UNKNOWN 65535 UNKNOWN 65535",
            "198.51.100.7 51022 203.0.113.1 22 5",
            "198.51.100.7 99999 203.0.113.1 22",
            " 198.51.100.7 51022 203.0.113.1 22",
        ] {
            assert_eq!(
                bad.parse::<SshConnection>(),
                Err(SshConnectionError),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_is_a_session_or_nothing(text in ".{0,60}") {
            let _ = text.parse::<SshConnection>();
        }
    }
}
