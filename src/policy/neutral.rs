use super::types::Policy;
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
}
