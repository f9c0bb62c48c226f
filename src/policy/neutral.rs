use super::types::{Knock, Policy, TcpFlags};
use crate::model::Proto;

impl Policy {
    /// The TCP ports that nobody is a scanner for: those of gates, and those that something
    /// listens on. In ascending order, each once.
    pub fn neutral(&self, listening: &[u16]) -> Vec<u16> {
        let gates = self.gates.iter().flat_map(|gate| &gate.ports);
        let gates = gates.filter(|range| range.proto == Proto::Tcp);
        let mut ports: Vec<u16> = gates
            .flat_map(|range| range.first..=range.last)
            .chain(listening.iter().copied())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The last TCP port at which sweeps are looked for; 0 is none. Where knocks need not be
    /// connection attempts, all that others send to this host's own connections would wake us up;
    /// their ports are left out (Linux's `net.ipv4.ip_local_port_range` begins at 32768).
    pub fn last_foreign(&self) -> u16 {
        let of_tcp = |knock: &&Knock| knock.sequence.iter().any(|it| it.proto == Proto::Tcp);
        let mut tcp = self.knocks.iter().filter(of_tcp);
        if self.knocks.is_empty() {
            0
        } else if tcp.all(|knock| knock.flags.set & TcpFlags::SYN != 0) {
            u16::MAX
        } else {
            32_767
        }
    }
}
