use super::{Host, LabError, rtnl};

const BRIDGE: &str = "br0";

/// Joins two hosts by a veth pair and sets both ends up.
pub(super) fn join(
    a: &Host,
    a_interface: &str,
    b: &Host,
    b_interface: &str,
) -> Result<(), LabError> {
    a.with("create interface", a_interface, || {
        rtnl::add_veth(a_interface, b_interface, b.netns())
    })?;
    a.set_link(a_interface, true)?;
    b.set_link(b_interface, true)
}

/// A wire for more than two hosts: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Wire {
    switch: Host,
}

impl Wire {
    pub(super) fn new(name: &str) -> Result<Self, LabError> {
        let switch = Host::new(name)?;
        switch.with("create bridge", BRIDGE, || rtnl::add_bridge(BRIDGE))?;
        switch.set_link(BRIDGE, true)?;
        Ok(Self { switch })
    }

    pub(super) fn switch(&self) -> &Host {
        &self.switch
    }

    /// Connects a host: its new interface, with its addresses.
    pub fn plug(&self, host: &Host, interface: &str, addresses: &[&str]) -> Result<(), LabError> {
        // Interface names have at most 15 bytes; the port is named after the host for captures.
        let port: String = host.name().chars().take(15).collect();
        join(&self.switch, &port, host, interface)?;
        self.switch.with("connect to the bridge", &port, || {
            rtnl::set_bridge(&port, BRIDGE)
        })?;
        host.add_addresses(interface, addresses)?;
        self.switch.await_link(&port)?;
        host.await_link(interface)
    }
}
