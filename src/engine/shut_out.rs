//! Whether a change would shut somebody out who is in: compares what was decided before with what
//! would be after.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Engine, shown};
use crate::model::{GateName, KnockPort, SshConnection, host_net};

/// How a change would shut out whoever is at the other end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShutOut {
    /// A ban would keep new connections out, and end the session where the gate cuts sessions.
    Banned {
        /// The gate.
        gate: GateName,
        /// What would be banned.
        net: IpNet,
        /// Whether the session ends at once.
        cut: bool,
    },
    /// Trust or an acceptance would end, with nothing else to let new connections in.
    NoLonger {
        /// The gate.
        gate: GateName,
    },
    /// A gate would come in front of a port that had none, with nobody let in yet.
    NewGate {
        /// The gate.
        gate: GateName,
    },
}

impl fmt::Display for ShutOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShutOut::Banned { gate, net, cut } => {
                let session = if *cut { ", and the session cut" } else { "" };
                write!(f, "{gate}: {} would be banned{session}", shown(*net))
            }
            ShutOut::NoLonger { gate } => write!(
                f,
                "{gate}: it would be neither trusted nor accepted any more"
            ),
            ShutOut::NewGate { gate } => write!(
                f,
                "{gate}: a new gate in front of it that neither trusts nor accepts it"
            ),
        }
    }
}

/// Whether going from `before` to `after` would shut out whoever is at the other end of the
/// session, which is open; the first gate that would is named. Who is kept out already, and is in
/// with a session that is open from before, is not shut out by what changes nothing about it.
pub fn shut_out(before: &Engine, after: &Engine, session: &SshConnection) -> Option<ShutOut> {
    let peer = session.peer.ip();
    // Loopback is never gated.
    if peer.is_loopback() {
        return None;
    }
    let old = before.gates_at(session.local);
    for index in after.gates_at(session.local) {
        let gate = &after.policy.gates[index];
        if after.lets_in(index, peer) {
            continue;
        }
        let same = old
            .iter()
            .copied()
            .find(|old| before.policy.gates[*old].name == gate.name);
        let name = gate.name.clone();
        let Some(same) = same else {
            // Under another name it is not new to whoever was kept out already.
            if old.is_empty() || old.iter().any(|old| before.lets_in(*old, peer)) {
                return Some(ShutOut::NewGate { gate: name });
            }
            continue;
        };
        let Some(ban) = after.ban_of(index, peer) else {
            if before.lets_in(same, peer) {
                return Some(ShutOut::NoLonger { gate: name });
            }
            continue;
        };
        let cut_before = before.policy.gates[same].cut_sessions;
        let banned_before = before.ban_of(same, peer).is_some();
        if !banned_before || (gate.cut_sessions && !cut_before) {
            return Some(ShutOut::Banned {
                gate: name,
                net: ban,
                cut: gate.cut_sessions,
            });
        }
    }
    None
}

impl Engine {
    /// The gates that guard a local TCP socket on this host, by their places in the policy.
    pub(super) fn gates_at(&self, local: SocketAddr) -> Vec<usize> {
        let port = KnockPort::tcp(local.port());
        let guards = |gate: &crate::policy::Gate| {
            gate.hook.input() && gate.ports.iter().any(|range| range.contains(port)) && {
                let (addresses, _) = self.covers(gate);
                addresses.is_empty() || addresses.iter().any(|net| net.contains(&local.ip()))
            }
        };
        let gates = self.policy.gates.iter().enumerate();
        gates
            .filter(|(_, gate)| guards(gate))
            .map(|(index, _)| index)
            .collect()
    }

    /// The gates that guard a local TCP socket on this host.
    pub fn gates_before(&self, local: SocketAddr) -> Vec<GateName> {
        let gates = self.gates_at(local).into_iter();
        gates
            .map(|index| self.policy.gates[index].name.clone())
            .collect()
    }

    /// The ban that keeps the address out at the gate.
    fn ban_of(&self, gate: usize, address: IpAddr) -> Option<IpNet> {
        let banned = self.ledgers[gate].banned();
        banned.lookup(host_net(address)).map(|(net, _)| net)
    }

    /// Whether a new connection from the address would be let in at the gate, were the kernel to
    /// hold what the engine has decided.
    pub(super) fn lets_in(&self, gate: usize, address: IpAddr) -> bool {
        let net = host_net(address);
        let ledger = &self.ledgers[gate];
        ledger.banned().lookup(net).is_none()
            && (self.trusted(gate, net).is_some()
                || ledger.accepted().lookup(net).is_some()
                || ledger.opened().is_some())
    }
}
