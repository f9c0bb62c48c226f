//! From what is decided to what the kernel holds.

use std::net::SocketAddr;

use tracing::warn;

use crate::engine::{Engine, Event};
use crate::firewall::{Backend, Desired, FirewallError};
use crate::model::{GateName, PortRange, Time};
use crate::sessions;

use super::daemon::{log, now};

/// How often what turns up in the kernel is taken over before it is called a fault.
const ADOPTIONS: usize = 10;

/// Makes the kernel hold all that is decided, and returns it. What only then turns out to be in
/// the kernel, because it was overlooked or somebody else has added it, is taken over. Sessions
/// that are open at ports which nothing guarded before stay open.
pub(super) fn put_in_force(
    firewall: &mut dyn Backend,
    engine: &mut Engine,
) -> Result<Desired, FirewallError> {
    put_in_force_at(firewall, engine, now)
}

/// The same by another clock.
pub(super) fn put_in_force_at(
    firewall: &mut dyn Backend,
    engine: &mut Engine,
    now: impl Fn() -> Time,
) -> Result<Desired, FirewallError> {
    firewall.own(engine.policy().firewall.owner);
    let mut desired = engine.desired(now());
    let missing = firewall.missing(&desired)?;
    let sessions = open_sessions(missing, &desired);
    for _ in 1..ADOPTIONS {
        desired.sessions.clone_from(&sessions);
        match firewall.install(&desired) {
            Err(FirewallError::Unseen(members)) => {
                warn!("taking over {} members found in the kernel", members.len());
                let said = engine.handle(Event::Adopt(members), now());
                said.iter().for_each(log);
                desired = engine.desired(now());
            }
            result => return result.map(|()| desired),
        }
    }
    firewall.install(&desired).map(|()| desired)
}

/// Sessions that are open at ports which nothing has guarded yet: connection tracking may not know
/// them. Those that only pass through this host cannot be known; the rules have a time of grace
/// for them.
fn open_sessions(
    unguarded: Vec<(GateName, PortRange)>,
    desired: &Desired,
) -> Vec<(GateName, SocketAddr)> {
    let mut open = Vec::new();
    for (name, ports) in unguarded {
        let to_us = |gate: &&crate::firewall::GateRules| gate.name == name && gate.hook.input();
        if desired.gates.iter().find(to_us).is_none() {
            continue;
        }
        match sessions::established(&[ports]) {
            Ok(found) => open.extend(found.into_iter().map(|(_, peer)| (name.clone(), peer))),
            Err(error) => warn!("{error}: sessions that are open now may be cut"),
        }
    }
    open
}
