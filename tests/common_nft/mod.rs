//! What the tests of the nftables backend share: a namespace of their own, and a hand that
//! meddles with the ruleset as somebody else would.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::{NetlinkHeader, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags,
    TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sched::{CloneFlags, unshare};

use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Desired, GateRules, Member};
use portcullis::model::{Chain, GateName, Lifetime, host_net};
use portcullis::netlink::Netlink;
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
        addresses: vec![],
        hook: Hook::Input,
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

pub(crate) fn left(members: &[Member], net: &str) -> Lifetime {
    let net: IpNet = net.parse().unwrap();
    let member = members.iter().find(|m| m.net == net);
    member
        .unwrap_or_else(|| panic!("{net} is missing"))
        .remaining
}

/// Asserts that about so much is left: at most two seconds less.
pub(crate) fn assert_left(members: &[Member], net: &str, secs: u64) {
    let Lifetime::For(left) = left(members, net) else {
        panic!("{net} stays for ever");
    };
    let most = Duration::from_secs(secs) + Duration::from_millis(50);
    assert!(
        left <= most && left + Duration::from_secs(2) >= most,
        "{net} has {left:?}, not {secs} s"
    );
}

/// Somebody else's changes, in one batch.
pub(crate) fn meddle(messages: Vec<(NfTablesMessage, u16)>) {
    let messages: Vec<Vec<u8>> = messages
        .into_iter()
        .map(|(message, flags)| {
            let mut header = NetlinkHeader::default();
            header.flags = portcullis::netlink::REQUEST | flags;
            let inner = NetfilterMessage::new(
                NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0),
                message,
            );
            let mut message = NetlinkMessage::new(header, inner.into());
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes
        })
        .collect();
    let mut netlink = Netlink::open(NETLINK_NETFILTER).unwrap();
    netlink
        .batch(10, None, messages.iter().map(Vec::as_slice))
        .unwrap();
}

pub(crate) fn table(flags: Option<TableFlags>) -> TableMessage {
    let mut attributes = vec![TableAttribute::Name("knockd".to_owned())];
    attributes.extend(flags.map(TableAttribute::Flags));
    TableMessage { attributes }
}

pub(crate) fn chain(name: &str) -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table("knockd".to_owned()),
            ChainAttribute::Name(name.to_owned()),
        ],
    }
}

pub(crate) fn rules_of(chain: &str) -> RuleMessage {
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table("knockd".to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
        ],
    }
}

pub(crate) fn set(name: &str, key_type: u32, key_len: u32) -> SetMessage {
    SetMessage {
        attributes: vec![
            SetAttribute::Table("knockd".to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::Flags(SetFlags::empty()),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
            SetAttribute::Id(1),
        ],
    }
}

pub(crate) fn elements_of(set: &str) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![
            SetElementList::Table("knockd".to_owned()),
            SetElementList::Set(set.to_owned()),
        ],
    }
}
