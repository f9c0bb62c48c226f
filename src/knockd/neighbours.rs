//! Whether another firewall on this machine keeps out those whom we let in.

use std::fs;

use nix::net::if_::{if_nameindex, if_nametoindex};

use crate::firewall::FirewallError;
use crate::firewall::foreign::{Foreign, Question};
use crate::policy::Interfaces;

use super::daemon::Daemon;
use super::drift::Seen;

/// `RTF_UP` and `RTF_REJECT` (linux/route.h).
const UP: u32 = 1;
const REJECT: u32 = 0x200;

impl Daemon {
    /// Takes in what was found about the tables of others, or has it found.
    pub(super) fn look_around(&mut self) {
        if self.drift.reading {
            return;
        }
        // Without nf_tables there is nothing to look at.
        let foreign = self.foreign.take().or_else(|| Foreign::open().ok());
        let Some(mut foreign) = foreign else {
            self.stand_in_the_way(Ok(Vec::new()));
            return;
        };
        let question = self.question();
        if let Some(known) = foreign.known(&question) {
            self.foreign = Some(foreign);
            self.stand_in_the_way(Ok(known));
            return;
        }
        self.drift.reading = true;
        let seen = self.drift.seen();
        tokio::task::spawn_blocking(move || {
            let found = foreign.in_the_way(&question);
            drop(seen.blocking_send(Seen::Foreign(Box::new(foreign), found)));
        });
    }

    /// What keeps out those whom we let in.
    pub(super) fn stand_in_the_way(&mut self, found: Result<Vec<String>, FirewallError>) {
        let problems = found.unwrap_or_else(|error| vec![error.to_string()]);
        self.problems.set_all("other firewalls", problems);
    }

    pub(super) fn question(&self) -> Question {
        let policy = self.engine.policy();
        let named = match (self.interface.as_deref(), &policy.interfaces) {
            (Some("any"), _) | (None, Interfaces::Any) => uplinks(),
            (Some(name), _) => vec![name.to_owned()],
            (None, Interfaces::Named(names)) => names.clone(),
        };
        let index = |name: String| Some((name.clone(), if_nametoindex(name.as_str()).ok()?));
        let mut interfaces: Vec<_> = named.into_iter().filter_map(index).collect();
        let any_will_do = interfaces.is_empty();
        if any_will_do {
            interfaces = all();
        }
        Question {
            gates: self.engine.gate_rules(),
            backend: self.firewall.kind(),
            interfaces,
            any_will_do,
        }
    }
}

/// Every interface but the loopback one.
fn all() -> Vec<(String, u32)> {
    let Ok(list) = if_nameindex() else {
        return Vec::new();
    };
    list.iter()
        .map(|it| (it.name().to_string_lossy().into_owned(), it.index()))
        .filter(|(name, _)| name != "lo")
        .collect()
}

/// The interfaces that the rest of the world is behind: those of default routes.
fn uplinks() -> Vec<String> {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/net/{file}"));
    let mut names = default_routes_4(&read("route").unwrap_or_default());
    names.extend(default_routes_6(&read("ipv6_route").unwrap_or_default()));
    names.sort();
    names.dedup();
    names
}

/// Lines: interface, destination, gateway, flags, […], mask; numbers hexadecimal. proc(5)
fn default_routes_4(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = *fields.get(1)? == "00000000" && *fields.get(7)? == "00000000";
        (is_default && usable(fields.get(3)?)).then(|| fields[0].to_owned())
    };
    text.lines().skip(1).filter_map(name).collect()
}

/// Lines: destination, its length, source, its length, gateway, metric, two counters, flags,
/// interface.
fn default_routes_6(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = fields.first()?.bytes().all(|b| b == b'0') && *fields.get(1)? == "00";
        let interface = *fields.get(9)?;
        (is_default && usable(fields.get(8)?) && interface != "lo").then(|| interface.to_owned())
    };
    text.lines().filter_map(name).collect()
}

fn usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
                  eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n\
                  eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\n";
        assert_eq!(default_routes_4(v4), ["eth0"]);
        let v6 = "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth1\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n";
        assert_eq!(default_routes_6(v6), ["eth0"]);
        assert!(default_routes_4("nonsense\nnonsense").is_empty());
        assert!(default_routes_6("nonsense").is_empty());
    }
}
