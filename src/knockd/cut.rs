//! `cut_sessions`: whoever is banned loses the sessions that are open on this host. The kernel's
//! banned set, which is asked first, is written by then, so that nothing of them comes through any
//! more; resetting them frees what they hold and tells both ends. It is done by a thread of its
//! own, since it takes longer the more sessions a host has.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use ipnet::IpNet;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::firewall::{Change, GateRules};
use crate::model::{Chain, KnockPort, NetMap, PortRange, host_net};
use crate::sessions::{self, DestroyError};

/// Whose sessions end.
#[derive(Debug)]
struct Cut {
    ports: Vec<PortRange>,
    /// The destinations that the gate guards; empty means all.
    addresses: Vec<IpNet>,
    banned: NetMap<()>,
}

impl Cut {
    fn new(gate: GateRules, banned: impl IntoIterator<Item = IpNet>) -> Self {
        let mut nets = NetMap::new();
        for net in banned {
            nets.insert(net, ());
        }
        Self {
            ports: gate.ports,
            addresses: gate.input_addresses,
            banned: nets,
        }
    }

    fn means(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        let port = KnockPort::tcp(local.port());
        let here = self.addresses.iter().any(|net| net.contains(&local.ip()));
        self.ports.iter().any(|range| range.contains(port))
            && (here || self.addresses.is_empty())
            && self.banned.lookup(host_net(peer.ip())).is_some()
    }
}

/// The thread, once there was something to do. Dropping it waits until all is done.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    running: Option<(mpsc::Sender<Cut>, JoinHandle<()>)>,
}

impl Cutter {
    /// Ends the sessions of those whom these changes ban.
    pub(super) fn changed(&mut self, engine: &Engine, changes: &[Change]) {
        for gate in cutting(engine) {
            let put = changes.iter().filter_map(|change| match change {
                Change::Put(m) if m.chain == Chain::Banned && m.gate == gate.name => Some(m.net),
                _ => None,
            });
            let put: Vec<IpNet> = put.collect();
            self.send(Cut::new(gate, put));
        }
    }

    /// Ends the sessions of all who are banned.
    pub(super) fn installed(&mut self, engine: &Engine) {
        for gate in cutting(engine) {
            let banned: Vec<IpNet> = engine.banned(&gate.name).collect();
            self.send(Cut::new(gate, banned));
        }
    }

    fn send(&mut self, cut: Cut) {
        if cut.banned.is_empty() {
            return;
        }
        if self.running.is_none() {
            let (send, receive) = mpsc::channel();
            let thread = std::thread::Builder::new().name("sessions".into());
            match thread.spawn(move || work(&receive)) {
                Ok(thread) => self.running = Some((send, thread)),
                Err(error) => warn!("cannot start a thread to end sessions: {error}"),
            }
        }
        if let Some((send, _)) = &self.running {
            // It ends with this only.
            let _ = send.send(cut);
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        if let Some((send, thread)) = self.running.take() {
            drop(send);
            let _ = thread.join();
        }
    }
}

/// The gates on this host that cut sessions. What passes through it has no socket here.
fn cutting(engine: &Engine) -> Vec<GateRules> {
    if engine.policy().gates.iter().all(|gate| !gate.cut_sessions) {
        return Vec::new();
    }
    let mut gates = engine.gate_rules();
    gates.retain(|gate| gate.cut_sessions && gate.hook.input());
    gates
}

fn work(cuts: &mpsc::Receiver<Cut>) {
    let mut is_told = false;
    while let Ok(first) = cuts.recv() {
        // One look at the sockets for all that wait.
        let all: Vec<Cut> = std::iter::once(first).chain(cuts.try_iter()).collect();
        let is_meant = |local, peer| all.iter().any(|cut| cut.means(local, peer));
        match sessions::destroy(is_meant) {
            Ok(0) => {}
            Ok(count) => info!("open sessions of the banned that were ended: {count}"),
            Err(error @ DestroyError::Unknown) if !is_told => {
                is_told = true;
                warn!("{error}: sessions of the banned are not ended, only shut off");
            }
            Err(DestroyError::Unknown) => {}
            Err(error) => warn!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{appliance, gate, policy};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_is_banned_is_meant_at_the_gates_ports_and_addresses_alone() {
        let mut guarded = gate("ssh");
        guarded.cut_sessions = true;
        let engine = Engine::new(policy(vec![guarded], vec![]));
        let mut rules = cutting(&engine).remove(0);
        let banned = [net("198.51.100.0/24"), net("2001:db8::/64")];
        let everywhere = Cut::new(rules.clone(), banned);
        let here = at("192.0.2.1:22");
        assert!(everywhere.means(here, at("198.51.100.9:40000")));
        assert!(everywhere.means(here, at("[2001:db8::9]:40000")));
        assert!(
            !everywhere.means(here, at("198.51.101.9:40000")),
            "not banned"
        );
        let other = at("192.0.2.1:80");
        assert!(
            !everywhere.means(other, at("198.51.100.9:22")),
            "another port"
        );
        rules.input_addresses = vec![net("192.0.2.2/32")];
        let elsewhere = Cut::new(rules, banned);
        assert!(!elsewhere.means(here, at("198.51.100.9:40000")));
        assert!(elsewhere.means(at("192.0.2.2:22"), at("198.51.100.9:40000")));
    }

    #[test]
    fn without_cut_sessions_nothing_is_done() {
        assert_eq!(cutting(&Engine::new(appliance())), []);
        let mut behind = gate("ssh");
        behind.cut_sessions = true;
        behind.hook = crate::policy::Hook::Forward;
        assert_eq!(cutting(&Engine::new(policy(vec![behind], vec![]))), []);
    }
}
