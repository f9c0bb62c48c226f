//! Policies and packets for the tests of the core.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{GateName, KnockName, KnockPort, Lifetime, Proto};
use crate::packet;
use crate::policy::{
    BackendChoice, BanRule, Firewall, Gate, History, Hook, Interfaces, Knock, KnockAction,
    LogSettings, OnStop, Policy, ScanAction, ScanGuard, TcpFlags, Verdict,
};

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn gate(name: &str) -> Gate {
    Gate {
        name: GateName::new(name).unwrap(),
        ports: vec!["22".parse().unwrap()],
        address: None,
        hook: Hook::Input,
        accept_timeout: Lifetime::For(Duration::from_secs(300)),
        ban_timeout: Lifetime::Never,
        verdict: Verdict::Accept,
        once: false,
        log_drops: true,
        cut_sessions: false,
        ipv6_prefix: 128,
    }
}

/// A rule with the usual 15 s for the gate `ssh`; ports as in a policy, separated by spaces.
pub(crate) fn knock(name: &str, ports: &str, action: KnockAction) -> Knock {
    Knock {
        name: KnockName::new(name).unwrap(),
        sequence: ports
            .split_whitespace()
            .map(|port| port.parse().unwrap())
            .collect(),
        seq_timeout: Duration::from_secs(15),
        flags: TcpFlags::OPENING,
        action,
        gates: vec![GateName::new("ssh").unwrap()],
        lifetime: None,
        ban: None,
        changing: None,
        target: None,
    }
}

pub(crate) fn policy(gates: Vec<Gate>, knocks: Vec<Knock>) -> Policy {
    Policy {
        interfaces: Interfaces::Any,
        firewall: Firewall {
            backend: BackendChoice::Auto,
            on_stop: OnStop::Keep,
            owner: false,
        },
        trusted: None,
        never_ban: Vec::new(),
        scan_guard: ScanGuard {
            ports: 5,
            within: Duration::from_secs(75),
            nearby: 5,
            action: ScanAction::None,
        },
        ban: BanRule::default(),
        memory: 64 << 10,
        history: History {
            keep: Duration::from_secs(90 * 86_400),
            rows: 1000,
        },
        gates,
        knocks,
        log: LogSettings::default(),
        pid_file: None,
    }
}

/// The Mathrice appliance: one gate, 1228 1227 opens, five decoys.
pub(crate) fn appliance() -> Policy {
    let decoys = [
        "1220 1221",
        "1224 1225",
        "1226 1226",
        "1223 1224",
        "1222 1222",
    ];
    let mut knocks = vec![knock("opencloseSSH", "1228 1227", KnockAction::Accept)];
    for (i, ports) in decoys.iter().enumerate() {
        knocks.push(knock(&format!("banned{}", i + 1), ports, KnockAction::Drop));
    }
    policy(vec![gate("ssh")], knocks)
}

/// A SYN (or a datagram, for `N/udp`) with a TCP sequence number of its own.
pub(crate) fn packet(source: &str, port: &str, unique: u32) -> packet::Knock {
    let port: KnockPort = port.parse().unwrap();
    packet::Knock {
        source: address(source),
        destination: address("192.0.2.1"),
        port,
        source_port: 40_000,
        flags: if port.proto == Proto::Tcp {
            TcpFlags::SYN
        } else {
            0
        },
        seq: unique,
    }
}
