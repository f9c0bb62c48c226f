//! What the tests of the nftables backend share: namespaces of their own, and members.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};

use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Desired, GateRules, Member};
use portcullis::model::{Chain, GateName, Lifetime, host_net};
use portcullis::policy::{Hook, Verdict};

/// Moves this process, which must have no threads yet, into new user and network namespaces.
pub(crate) fn enter_namespace() {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .expect("cannot make user and network namespaces (unprivileged user namespaces are off?)");
    std::fs::write("/proc/self/setgroups", "deny").expect("setgroups");
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).expect("uid_map");
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).expect("gid_map");
}

pub(crate) fn gate(name: &str) -> GateName {
    GateName::new(name).unwrap()
}

pub(crate) fn rules(name: &str) -> GateRules {
    GateRules {
        name: gate(name),
        ports: vec!["22".parse().unwrap()],
        hook: Hook::Input,
        input_addresses: vec![],
        forward_addresses: vec![],
        verdict: Verdict::Accept,
        once: false,
        log_drops: true,
        cut_sessions: false,
        ipv6_prefix: 128,
    }
}

pub(crate) fn secs(secs: u64) -> Lifetime {
    Lifetime::For(Duration::from_secs(secs))
}

pub(crate) fn member(chain: Chain, net: &str, remaining: Lifetime, reason: &str) -> Member {
    let net = net
        .parse::<IpNet>()
        .unwrap_or_else(|_| host_net(net.parse::<IpAddr>().unwrap()));
    Member {
        gate: gate("ssh"),
        chain,
        net,
        remaining,
        reason: reason.to_owned(),
    }
}

pub(crate) fn desired(members: Vec<Member>) -> Desired {
    Desired {
        gates: vec![rules("ssh")],
        members,
        sessions: vec![],
    }
}

/// What a process that knows nothing finds in the kernel, sorted.
pub(crate) fn found() -> Vec<Member> {
    let observed = Nftables::open().unwrap().observe().unwrap();
    let mut members = observed.expect("there is no table").members;
    members.sort_by_key(|m| (m.gate.clone(), m.chain, m.net));
    members
}

/// Without times: gate, chain, network and reason in a line each.
pub(crate) fn lines(members: &[Member]) -> Vec<String> {
    members
        .iter()
        .map(|m| format!("{}_{} {} {}", m.gate, m.chain.suffix(), m.net, m.reason))
        .collect()
}
