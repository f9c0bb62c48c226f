//! A gate for each port that commands open.

use std::time::Duration;

use crate::model::{GateName, Lifetime, PortRange, Proto};
use crate::policy::{Gate, Hook, Verdict};

/// Ports with a name that a gate may have (IANA's registry of service names).
pub(super) const SERVICES: [(&str, u16, Proto); 16] = [
    ("ssh", 22, Proto::Tcp),
    ("ftp", 21, Proto::Tcp),
    ("telnet", 23, Proto::Tcp),
    ("smtp", 25, Proto::Tcp),
    ("http", 80, Proto::Tcp),
    ("imap", 143, Proto::Tcp),
    ("https", 443, Proto::Tcp),
    ("submission", 587, Proto::Tcp),
    ("imaps", 993, Proto::Tcp),
    ("openvpn", 1194, Proto::Udp),
    ("mysql", 3306, Proto::Tcp),
    ("rdp", 3389, Proto::Tcp),
    ("postgresql", 5432, Proto::Tcp),
    ("vnc", 5900, Proto::Tcp),
    ("webmin", 10000, Proto::Tcp),
    ("wireguard", 51820, Proto::Udp),
];

/// The original script's gate.
const SSH: PortRange = PortRange {
    first: 22,
    last: 22,
    proto: Proto::Tcp,
};

/// The gates that are needed so far, each for one port or range.
#[derive(Default)]
pub(super) struct Gates(Vec<Gate>);

impl Gates {
    /// The gates of these ports, which are made where they are not there yet; `None` if a port
    /// is a part of another gate's.
    pub(super) fn of(&mut self, ports: &[PortRange]) -> Option<Vec<GateName>> {
        let is_part = |range: &PortRange| {
            let mut others = self.0.iter().flat_map(|gate| &gate.ports);
            let mut within = ports.iter().filter(|other| *other != range);
            others.any(|other| other != range && other.overlaps(*range))
                || within.any(|other| other.overlaps(*range))
        };
        if ports.iter().any(is_part) {
            return None;
        }
        Some(ports.iter().map(|range| self.gate(*range)).collect())
    }

    /// The original script's only gate.
    pub(super) fn ssh(&mut self) -> Option<Vec<GateName>> {
        self.of(&[SSH])
    }

    fn gate(&mut self, range: PortRange) -> GateName {
        if let Some(gate) = self.0.iter().find(|gate| gate.ports.contains(&range)) {
            return gate.name.clone();
        }
        let name = name_of(range);
        self.0.push(Gate {
            name: name.clone(),
            ports: vec![range],
            address: None,
            hook: Hook::Input,
            accept_timeout: Lifetime::For(Duration::from_secs(300)),
            ban_timeout: Lifetime::Never,
            verdict: Verdict::Accept,
            once: false,
            log_drops: true,
            cut_sessions: false,
            ipv6_prefix: 128,
        });
        name
    }

    pub(super) fn into_gates(self) -> Vec<Gate> {
        self.0
    }
}

/// `ssh`, `tcp2222`, `udp6000to6007`: different for different ports.
fn name_of(range: PortRange) -> GateName {
    let PortRange { first, last, proto } = range;
    let service = SERVICES
        .iter()
        .find(|(_, port, of)| (first, last) == (*port, *port) && proto == *of)
        .map(|(name, ..)| (*name).to_owned());
    let name = service.unwrap_or_else(|| {
        if first == last {
            format!("{proto}{first}")
        } else {
            format!("{proto}{first}to{last}")
        }
    });
    // At most `udp10000to65535`, 15 small letters and digits.
    GateName::new(&name).expect("small letters and digits, sixteen at most")
}
