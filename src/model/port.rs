use std::fmt;
use std::str::FromStr;

/// A transport protocol that can be knocked on or gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Proto {
    /// The protocol number in the IP header (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Proto::Tcp => 6,
            Proto::Udp => 17,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        })
    }
}

/// Why a port was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Not a number at all, or one with a sign.
    #[error("`{0}` is not a port: expected a number from 1 to 65535")]
    Number(String),
    /// Neither tcp nor udp.
    #[error("`{0}` is not a protocol: expected `tcp` or `udp`")]
    Proto(String),
    /// Last before first.
    #[error("the port range {0}-{1} is empty: the first port is greater than the last")]
    Empty(u16, u16),
}

fn number(text: &str) -> Result<u16, PortError> {
    let wrong = || PortError::Number(text.to_owned());
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(wrong()),
        Ok(port) => Ok(port),
    }
}

fn proto(text: &str) -> Result<Proto, PortError> {
    match text {
        "tcp" => Ok(Proto::Tcp),
        "udp" => Ok(Proto::Udp),
        other => Err(PortError::Proto(other.to_owned())),
    }
}

/// One knock of a sequence: `1228`, `1228/tcp`, `1228:udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KnockPort {
    /// Destination port.
    pub port: u16,
    /// TCP unless said otherwise.
    pub proto: Proto,
}

impl KnockPort {
    /// A TCP port.
    pub const fn tcp(port: u16) -> Self {
        Self {
            port,
            proto: Proto::Tcp,
        }
    }

    /// A UDP port.
    pub const fn udp(port: u16) -> Self {
        Self {
            port,
            proto: Proto::Udp,
        }
    }
}

impl FromStr for KnockPort {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        match text.split_once([':', '/']) {
            Some((port, name)) => Ok(Self {
                port: number(port)?,
                proto: proto(name)?,
            }),
            None => Ok(Self::tcp(number(text)?)),
        }
    }
}

impl fmt::Display for KnockPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.proto)
    }
}

/// The ports of a gate: `22`, `22/tcp`, `60000-61000/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// First port, inclusive.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// TCP unless said otherwise.
    pub proto: Proto,
}

impl PortRange {
    /// Whether the port lies in the range.
    pub fn contains(self, port: KnockPort) -> bool {
        self.proto == port.proto && (self.first..=self.last).contains(&port.port)
    }

    /// Whether the two have a port in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.proto == other.proto && self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (ports, proto) = match text.split_once('/') {
            Some((ports, name)) => (ports, proto(name)?),
            None => (text, Proto::Tcp),
        };
        let (first, last) = match ports.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(ports)?, number(ports)?),
        };
        if first > last {
            return Err(PortError::Empty(first, last));
        }
        Ok(Self { first, last, proto })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}/{}", self.first, self.proto)
        } else {
            write!(f, "{}-{}/{}", self.first, self.last, self.proto)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knock_ports_in_all_three_spellings() {
        assert_eq!("1228".parse(), Ok(KnockPort::tcp(1228)));
        assert_eq!("9663:udp".parse(), Ok(KnockPort::udp(9663)));
        assert_eq!("666/tcp".parse(), Ok(KnockPort::tcp(666)));
        for bad in [
            "",
            "0",
            "65536",
            "-5",
            "+5",
            "abc",
            "22 ",
            "1228:sctp",
            "8000-8010",
            "1:2:3",
        ] {
            assert!(bad.parse::<KnockPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn gate_ports_may_be_ranges() {
        let range: PortRange = "60000-61000/udp".parse().unwrap();
        assert!(range.contains(KnockPort::udp(60000)) && range.contains(KnockPort::udp(61000)));
        assert!(!range.contains(KnockPort::tcp(60000)));
        assert_eq!("22".parse::<PortRange>().unwrap().to_string(), "22/tcp");
        assert!("61000-60000".parse::<PortRange>().is_err());
        assert!(range.overlaps("61000-62000/udp".parse().unwrap()));
        assert!(!range.overlaps("61000-62000/tcp".parse().unwrap()));
    }
}
