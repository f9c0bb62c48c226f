//! What changes around the daemon, and who has to be told: interfaces, addresses, listeners, names.

use std::net::IpAddr;

use tracing::{debug, info, warn};

use crate::engine::{Event, Record, What};
use crate::model::Proto;
use crate::resolver;
use crate::sessions;

use super::daemon::Daemon;
use super::problems::LISTENERS;
use super::wants::{gate_addresses, names, spec};

impl Daemon {
    /// Follows interfaces and addresses that came or went.
    pub(super) fn links_changed(&mut self) {
        match self.links.update() {
            Ok(change) => {
                if change.interfaces {
                    self.follow_interfaces();
                }
                if change.addresses {
                    self.follow_addresses();
                }
                self.problems.set("interfaces", None);
            }
            Err(error) => self.problems.set("interfaces", Some(error.to_string())),
        }
    }

    /// Tells scope and engine which addresses are ours.
    pub(super) fn follow_addresses(&mut self) {
        let own: Vec<IpAddr> = self.links.own_addresses().iter().copied().collect();
        debug!("own addresses: {own:?}");
        self.scope.set_own(own.iter().copied());
        self.scope
            .set_broadcast(self.links.broadcast_addresses().iter().copied());
        self.handle(Event::OwnAddresses(own));
    }

    /// Tells the kernel's filter what is wanted, and says which interfaces are waited for.
    pub(super) fn follow_interfaces(&mut self) {
        let neutral = self.heard.neutral(&self.listening);
        self.matcher.set_neutral(neutral.iter().copied());
        let (spec, missing) = spec(
            &self.heard,
            self.interface.as_deref(),
            &neutral,
            &self.links,
        );
        let result = self.capture.set_filter(&spec);
        self.problems
            .set("capture", result.err().map(|error| error.to_string()));
        let names = missing.join(", ");
        let waiting = format!("waiting for interface {names}: no knocks are heard there");
        self.problems
            .set("knocks", (!missing.is_empty()).then_some(waiting));
    }

    /// Looks which ports are listened on; those are not foreign to whoever connects to them.
    pub(super) fn look_for_listeners(&mut self) {
        match sessions::listening_ports() {
            Ok(ports) => {
                let tcp = ports.iter().filter(|port| port.proto == Proto::Tcp);
                let tcp: Vec<u16> = tcp.map(|port| port.port).collect();
                self.served = Some(ports);
                self.problems.set(LISTENERS, None);
                if tcp != self.listening {
                    debug!("listening: {tcp:?}");
                    self.listening = tcp;
                    self.follow_interfaces();
                }
            }
            Err(error) => {
                self.served = None;
                self.problems.set(LISTENERS, Some(error.to_string()));
            }
        }
        self.follow_untracked();
    }

    /// Looks after exactly the names that whitelist and policy have, and tells the engine what
    /// they stand for.
    pub(super) fn follow_names(&mut self) {
        let names = names(self.engine.policy(), &self.roster);
        self.unresolved.retain(|name| names.contains(name));
        self.resolver.set_names(names);
        self.follow_gates();
    }

    /// Tells the engine what gates with a name stand for.
    fn follow_gates(&mut self) {
        self.scope.set_gates(&self.heard);
        let resolved = gate_addresses(self.engine.policy(), &self.roster);
        self.handle(Event::GateAddresses(resolved));
    }

    /// A name has other addresses, or none.
    pub(super) fn name_changed(&mut self, event: resolver::Event) {
        let (resolver::Event::Resolved { name, .. } | resolver::Event::Failed { name, .. }) =
            &event;
        let whose = name.clone();
        let change = match event {
            resolver::Event::Resolved {
                name,
                addresses,
                kept,
                valid_for,
            } => {
                debug!("{name} is {addresses:?} for {valid_for:?}");
                if self.unresolved.remove(&name) {
                    info!("{name} resolves again");
                }
                self.memory.name(&name, &addresses, &kept);
                self.roster.resolved(&name, addresses)
            }
            resolver::Event::Failed { name, why, keeping } => {
                // It is tried again and again; once is enough for the log.
                if self.unresolved.insert(name.clone()) {
                    let kept = if keeping {
                        "; its last good addresses are kept"
                    } else {
                        ""
                    };
                    warn!("cannot resolve {name}: {why}{kept}");
                }
                if keeping {
                    None
                } else {
                    self.roster.resolved(&name, Vec::new())
                }
            }
        };
        if let Some(change) = change {
            let come = change.add.iter().map(|(net, _)| (What::Trusted, net));
            let gone = change.remove.iter().map(|net| (What::Untrusted, net));
            for (what, net) in come.chain(gone) {
                let record = Record::new(what, "name service").to(*net);
                self.memory.record(record.saying(whose.as_str()));
            }
            self.handle(Event::WhitelistEdit {
                add: change.add,
                remove: change.remove,
            });
            self.follow_gates();
        }
    }
}
