use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Client, LabError, await_some, rtnl};
use crate::sys::ns;

/// A host: a network namespace with its own interfaces, addresses and firewall. Handles can be
/// cloned and sent to threads; the host is gone when its laboratory, the last handle and the last
/// process in it are.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    netns: OwnedFd,
}

/// What a fresh namespace may have inherited from the machine and must not have. `all` and
/// `default` of a setting, as some are joined by "or" and others by "and".
const SYSCTLS: [(&str, &str); 7] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    // Addresses are usable at once: nobody else is there to have them.
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    // No router is there either, and asking for one is noise in every capture.
    ("net/ipv6/conf/default/router_solicitations", "0"),
];

impl Host {
    pub(super) fn new(name: &str) -> Result<Self, LabError> {
        let netns = ns::new_netns().map_err(LabError::system("create host", name))?;
        let host = Self(Arc::new(Inner {
            name: name.to_owned(),
            netns,
        }));
        for (setting, value) in SYSCTLS {
            host.sysctl(setting, value)?;
        }
        host.set_link("lo", true)?;
        Ok(host)
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The network namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.0.netns.as_fd()
    }

    /// Runs `work` on this host, on a thread of its own, and waits for it. Sockets made there
    /// belong to this host from then on. Do not start processes in it: use [`Host::command`],
    /// as what dies with its starter would die with that thread.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        ns::with_netns(self.netns(), work)
            .map_err(LabError::system("run something on", self.name()))
    }

    /// A command that will run on this host, and die with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        let mut command = Command::new(program);
        ns::in_netns(&mut command, self.netns())
            .map_err(LabError::system("prepare a command on", self.name()))?;
        ns::die_with_parent(&mut command);
        Ok(command)
    }

    /// The same, for a command without capabilities, though it runs as root.
    pub fn powerless_command(&self, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        let mut command = self.command(program)?;
        ns::without_capabilities(&mut command);
        Ok(command)
    }

    /// A client on this host that speaks from this address, which the host must have.
    pub fn client(&self, source: &str) -> Result<Client, LabError> {
        let source = source.parse().map_err(|_| LabError::Malformed {
            text: source.to_owned(),
            expected: "an address",
        })?;
        Ok(Client::new(self.clone(), source))
    }

    /// Sets a sysctl below `net/`, written with slashes: `net/ipv4/ip_forward`.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{setting}");
        self.with("set", setting, || fs::write(path, value))
    }

    /// Makes it a router for both families.
    pub fn forward(&self) -> Result<(), LabError> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// Sends what goes to `net` by way of `via`: `0.0.0.0/0`, `192.0.2.1`.
    pub fn route(&self, net: &str, via: &str) -> Result<(), LabError> {
        let to = parse_net(net)?;
        let gateway: IpAddr = via.parse().map_err(|_| LabError::Malformed {
            text: via.to_owned(),
            expected: "an address",
        })?;
        self.with("add route to", net, || rtnl::add_route(to, gateway))
    }

    /// Adds addresses, such as `192.0.2.1/24` and `2001:db8::1/64`, to an interface. Where that
    /// is up they can be used when this returns.
    pub fn add_addresses(&self, interface: &str, addresses: &[&str]) -> Result<(), LabError> {
        for address in addresses {
            let net = parse_net(address)?;
            self.with("add address", address, || rtnl::add_address(interface, net))?;
        }
        if self.with("look at", interface, || rtnl::is_running(interface))? {
            self.await_link(interface)?;
        }
        Ok(())
    }

    /// Takes an address away.
    pub fn delete_address(&self, interface: &str, address: &str) -> Result<(), LabError> {
        let net = parse_net(address)?;
        self.with("delete address", address, || {
            rtnl::delete_address(interface, net)
        })
    }

    /// Sets an interface up or down.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<(), LabError> {
        self.with("set up or down", interface, || rtnl::set_up(interface, up))
    }

    /// Deletes an interface, and with it the other end of its wire.
    pub fn delete_link(&self, interface: &str) -> Result<(), LabError> {
        self.with("delete interface", interface, || {
            rtnl::delete_link(interface)
        })
    }

    /// Waits until packets get through and all addresses are in use.
    pub(super) fn await_link(&self, interface: &str) -> Result<(), LabError> {
        let what = format!("{} on {} coming up", interface, self.name());
        await_some(&what, Duration::from_secs(5), || {
            let ready = self.with("look at", interface, || {
                Ok(rtnl::is_running(interface)? && !is_unsettled(interface)?)
            })?;
            Ok(ready.then_some(()))
        })
    }

    pub(super) fn with<T: Send>(
        &self,
        operation: &'static str,
        object: &str,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T, LabError> {
        let object = || format!("{object} on {}", self.name());
        self.run(work)?
            .map_err(LabError::system(operation, object()))
    }
}

/// Whether an IPv6 address of this interface cannot be used yet, on this thread's host. Even without
/// duplicate address detection the kernel takes its time, on a busy machine many milliseconds: first
/// the interface listens to neighbour solicitations for the address, then that is no longer
/// tentative, and last there is a local route to it. What is lost until then is repeated after a
/// second.
fn is_unsettled(interface: &str) -> io::Result<bool> {
    // Lines: address, index, prefix length, scope, flags, name; all but the last hexadecimal.
    let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    // Lines: destination, prefix length, […], flags, interface.
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route")?;
    let local: HashSet<&str> = routes
        .lines()
        .filter(|line| has_flag(line, 8, RTF_LOCAL))
        .filter_map(|line| line.split_ascii_whitespace().next())
        .collect();
    Ok(addresses
        .lines()
        .filter(|line| line.split_ascii_whitespace().nth(5) == Some(interface))
        .any(|line| {
            let address = line.split_ascii_whitespace().next().unwrap_or_default();
            has_flag(line, 4, IFA_F_TENTATIVE) || !local.contains(address)
        }))
}

/// `linux/if_addr.h`
const IFA_F_TENTATIVE: u32 = 0x40;
/// `linux/ipv6_route.h`
const RTF_LOCAL: u32 = 0x8000_0000;

/// Whether the hexadecimal field of that number has the flag.
fn has_flag(line: &str, field: usize, flag: u32) -> bool {
    let field = line.split_ascii_whitespace().nth(field);
    let flags = field.and_then(|text| u32::from_str_radix(text, 16).ok());
    flags.is_some_and(|flags| flags & flag != 0)
}

fn parse_net(text: &str) -> Result<IpNet, LabError> {
    text.parse().map_err(|_| LabError::Malformed {
        text: text.to_owned(),
        expected: "an address with its prefix length, such as 192.0.2.1/24",
    })
}
