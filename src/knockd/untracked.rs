//! Which ports connection tracking is spared. A flood of forged knocks would fill its table, and
//! then nobody could connect any more.
//!
//! A port of a knock, if nothing is there that a packet to it could be meant for: it is no gate's,
//! nothing listens on it, and no address is rewritten on this host, as what is not tracked is not
//! rewritten. Datagrams besides only where the kernel gives no port to clients of our own, whose
//! answers would look the same; of TCP an answer is never a SYN alone.

use std::fs;
use std::ops::RangeInclusive;

use tracing::info;

use crate::firewall::foreign::Foreign;
use crate::model::{KnockPort, Proto};
use crate::policy::Policy;

use super::daemon::Daemon;

/// Whether knock ports are kept from connection tracking.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Untracked {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// These are; what is served is not among them.
    Ports(Vec<KnockPort>),
    /// None is, and why.
    None(String),
}

impl Untracked {
    /// The ports, and why there are none.
    pub(super) fn parts(&self) -> (&[KnockPort], Option<&str>) {
        match self {
            Untracked::Unknown => (&[], None),
            Untracked::Ports(ports) => (ports, None),
            Untracked::None(why) => (&[], Some(why)),
        }
    }
}

impl Daemon {
    /// Follows the ports that are listened on, and what is done to addresses here. What cannot be
    /// had is no fault: knocks are heard all the same.
    pub(super) fn follow_untracked(&mut self) {
        let now = match self.rewriting() {
            Err(why) => Untracked::None(why),
            Ok(Some(table)) => Untracked::None(format!(
                "addresses are rewritten here (table {table}), which takes connection tracking"
            )),
            Ok(None) => match &self.served {
                None => Untracked::None("it is not known which ports are listened on".to_owned()),
                Some(served) => {
                    // Ports of time-based sequences change every half minute, and nobody can flood
                    // what they do not know.
                    let policy = self.sheets.filled_in(self.engine.policy());
                    Untracked::Ports(ports(&policy, served, &client_ports()))
                }
            },
        };
        let (ports, _) = now.parts();
        if ports != self.untracked.parts().0 {
            // A look that is under way would take what it reads for somebody else's work.
            self.drift.begin_install();
        }
        let now = match self.firewall.untrack(ports) {
            Ok(()) => now,
            Err(error) => Untracked::None(error.to_string()),
        };
        if now != self.untracked {
            if let (_, Some(why)) = now.parts() {
                info!("knock ports stay in connection tracking: {why}");
            }
            self.untracked = now;
        }
    }

    fn rewriting(&mut self) -> Result<Option<String>, String> {
        if self.foreign.is_none() {
            self.foreign = Foreign::open().ok();
        }
        match &mut self.foreign {
            Some(foreign) => foreign
                .rewrites_addresses()
                .map_err(|error| error.to_string()),
            // Without nf_tables there may still be the legacy programs, of which nobody knows.
            None => Err("this kernel's rules cannot be looked at (no nf_tables)".to_owned()),
        }
    }
}

/// The ports of knocks that nothing serves, ascending.
fn ports(policy: &Policy, served: &[KnockPort], clients: &RangeInclusive<u16>) -> Vec<KnockPort> {
    let is_gate = |port: KnockPort| {
        let mut ranges = policy.gates.iter().flat_map(|gate| &gate.ports);
        ranges.any(|range| range.contains(port))
    };
    let knocks = policy.knocks.iter().flat_map(|knock| &knock.sequence);
    let mut ports: Vec<KnockPort> = knocks
        .copied()
        .filter(|port| port.proto == Proto::Tcp || !clients.contains(&port.port))
        .filter(|port| !is_gate(*port) && !served.contains(port))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The ports that the kernel gives to clients (`ip_local_port_range`, ip(7)); all, if it does not
/// say.
fn client_ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range(&text).unwrap_or(0..=u16::MAX)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{gate, knock, policy};
    use crate::policy::KnockAction;

    #[test]
    fn what_is_served_or_may_be_an_answer_stays_tracked() {
        let sequence = "22 1228 1228/udp 8080 40000 40000/udp";
        let knock = knock("open", sequence, KnockAction::Accept);
        let policy = policy(vec![gate("ssh")], vec![knock]);
        let served = [KnockPort::tcp(8080), KnockPort::tcp(22)];
        let udp = KnockPort {
            port: 1228,
            proto: Proto::Udp,
        };
        let mut expected = vec![KnockPort::tcp(1228), udp, KnockPort::tcp(40_000)];
        expected.sort_unstable();
        assert_eq!(ports(&policy, &served, &(32_768..=60_999)), expected);
        assert!(!ports(&policy, &[udp], &(32_768..=60_999)).contains(&udp));
    }

    #[test]
    fn the_range_of_client_ports_is_read_or_is_everything() {
        assert_eq!(range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(range(""), None);
        assert_eq!(range("1 70000"), None);
    }
}
