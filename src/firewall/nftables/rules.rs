//! The rules of the gates, as expressions of the kernel's little machine.
//!
//! A new connection meets: loopback accept · for each gate and each of its ports: [banned] ·
//! established accept · [sessions from before] · `<gate>_policy`: banned → trusted → filter →
//! log → drop. Accepting ends our own base chain and nobody else's.

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

use super::names::{
    FORWARD, Family, INPUT, Role, key_bytes, member_chain, net_range, policy_chain, set_name,
};
use crate::firewall::GateRules;
use crate::model::{Chain, PortRange, Proto};

pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// A rule at the end of a chain.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) chain: String,
    pub(super) expressions: Vec<Expression>,
}

const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

pub(super) fn payload(register: Register, base: u32, offset: u32, length: u32) -> Expression {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn compare(operator: Operator, value: impl Into<Vec<u8>>) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.into())),
    ])
    .into()
}

pub(super) fn equals(value: impl Into<Vec<u8>>) -> Expression {
    compare(Operator::Equal, value)
}

pub(super) fn mask(value: Vec<u8>) -> Expression {
    let zeros = vec![0; value.len()];
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        // A mask is at most 16 bytes long.
        Bitwise::Length(u32::try_from(value.len()).unwrap_or(16)),
        Bitwise::Mask(DataAttribute::Value(value)),
        Bitwise::Xor(DataAttribute::Value(zeros)),
    ])
    .into()
}

pub(super) fn meta(key: MetaKey) -> Expression {
    Expressions::Meta(vec![
        Meta::DestinationRegister(Register::Reg1),
        Meta::Key(key),
    ])
    .into()
}

pub(super) fn lookup(set: &str) -> Expression {
    Expressions::Lookup(vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        // Said, so that an inverted look-up is noticed when reading back.
        Lookup::Flags(0),
    ])
    .into()
}

fn verdict(code: Verdict, chain: Option<String>) -> Expression {
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(VerdictAttribute::Chain));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
    .into()
}

fn accept() -> Expression {
    verdict(Verdict::Other(NF_ACCEPT), None)
}

fn drop_it() -> Expression {
    verdict(Verdict::Other(NF_DROP), None)
}

fn jump(chain: String) -> Expression {
    verdict(Verdict::Jump, Some(chain))
}

pub(super) fn other(name: &str, attributes: &[(u16, &[u8])]) -> Expression {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes: attributes
            .iter()
            .map(|&(kind, value)| DefaultNla::new(kind, value.to_vec()))
            .collect(),
    }
    .into()
}

pub(super) fn be32(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn family_is(family: Family) -> [Expression; 2] {
    [meta(MetaKey::Nfproto), equals([family as u8])]
}

/// Loads the source address.
fn source(family: Family) -> [Expression; 3] {
    let [a, b] = family_is(family);
    let load = match family {
        Family::V4 => payload(Register::Reg1, NETWORK_HEADER, 12, 4),
        Family::V6 => payload(Register::Reg1, NETWORK_HEADER, 8, 16),
    };
    [a, b, load]
}

/// Matches the destination address.
fn destination(net: IpNet) -> Vec<Expression> {
    let family = Family::of(net);
    let mut expressions = family_is(family).to_vec();
    expressions.push(match family {
        Family::V4 => payload(Register::Reg1, NETWORK_HEADER, 16, 4),
        Family::V6 => payload(Register::Reg1, NETWORK_HEADER, 24, 16),
    });
    if net.prefix_len() < family.bits() {
        let (first, last) = net_range(net);
        expressions.push(mask(key_bytes(family, !(first ^ last))));
    }
    expressions.push(equals(key_bytes(family, net_range(net).0)));
    expressions
}

/// Matches protocol and destination port.
fn ports(range: PortRange) -> Vec<Expression> {
    let mut expressions = vec![
        meta(MetaKey::L4Proto),
        equals([range.proto.number()]),
        payload(Register::Reg1, TRANSPORT_HEADER, 2, 2),
    ];
    if range.first == range.last {
        expressions.push(equals(range.first.to_be_bytes()));
    } else {
        expressions.push(compare(
            Operator::GreatherThanEqual,
            range.first.to_be_bytes(),
        ));
        expressions.push(compare(Operator::LessThanEqual, range.last.to_be_bytes()));
    }
    expressions
}

/// `ct state established,related`: the bits of `NF_CT_STATE_BIT`, in host order.
fn established() -> [Expression; 3] {
    const ESTABLISHED_OR_RELATED: u32 = 0b110;
    [
        other("ct", &[(1, &be32(1)), (2, &be32(0))]),
        mask(ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec()),
        compare(Operator::NotEqual, [0; 4]),
    ]
}

/// `tcp flags & syn == 0`: such a packet belongs to a session or to nothing; it cannot open
/// one (RFC 9293, section 3.10.7.2: a listening socket answers it with a reset).
fn no_syn() -> [Expression; 3] {
    [
        payload(Register::Reg1, TRANSPORT_HEADER, 13, 1),
        mask(vec![0x02]),
        equals([0]),
    ]
}

/// `ip saddr . tcp sport @set`: one after the other in 32-bit registers, of which `Reg1` is
/// the first four and `Reg2` the next.
fn peer_in(set: &str, family: Family) -> Vec<Expression> {
    let mut expressions = source(family).to_vec();
    let after = match family {
        Family::V4 => Register::Reg32_01,
        Family::V6 => Register::Reg2,
    };
    expressions.push(payload(after, TRANSPORT_HEADER, 0, 2));
    expressions.push(lookup(set));
    expressions
}

/// Which of the sets for sessions from before a gate has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) v4: bool,
    pub(super) v6: bool,
    pub(super) grace: bool,
}

/// All rules of all gates, with the base chains last.
pub(super) fn rules(gates: &[(&GateRules, Earlier)]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (gate, _) in gates {
        member_rules(gate, &mut rules);
        policy_rules(gate, &mut rules);
    }
    for (chain, is_input) in [(INPUT, true), (FORWARD, false)] {
        let hooked = |gate: &GateRules| {
            if is_input {
                gate.hook.input()
            } else {
                gate.hook.forward()
            }
        };
        if is_input && gates.iter().any(|(gate, _)| hooked(gate)) {
            rules.push(loopback());
        }
        for (gate, earlier) in gates.iter().filter(|(gate, _)| hooked(gate)) {
            base_rules(gate, *earlier, chain, &mut rules);
        }
    }
    rules
}

/// Loopback is never gated. By name, which is the same in every namespace; compared with all
/// 16 bytes (IFNAMSIZ), so that `lo2` is not meant.
fn loopback() -> Rule {
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    Rule {
        chain: INPUT.to_owned(),
        expressions: vec![meta(MetaKey::Iifname), equals(name), accept()],
    }
}

/// What leads from a base chain to a gate: for each address and port of it, what matches.
fn matches(gate: &GateRules, chain: &str) -> Vec<(Option<IpNet>, PortRange, Vec<Expression>)> {
    let addresses = if chain == INPUT {
        &gate.input_addresses
    } else {
        &gate.forward_addresses
    };
    let mut addresses: Vec<Option<IpNet>> = addresses.iter().copied().map(Some).collect();
    if addresses.is_empty() {
        addresses.push(None);
    }
    let mut all = Vec::new();
    for address in addresses {
        for range in &gate.ports {
            let mut matches = address.map(destination).unwrap_or_default();
            matches.extend(ports(*range));
            all.push((address, *range, matches));
        }
    }
    all
}

fn rule(chain: &str, parts: &[&[Expression]]) -> Rule {
    Rule {
        chain: chain.to_owned(),
        expressions: parts.iter().copied().flatten().cloned().collect(),
    }
}

fn base_rules(gate: &GateRules, earlier: Earlier, chain: &str, rules: &mut Vec<Rule>) {
    for (address, range, matches) in matches(gate, chain) {
        if gate.cut_sessions {
            let banned = member_chain(&gate.name, Chain::Banned);
            rules.push(rule(chain, &[&matches, &[jump(banned)]]));
        }
        let [known, new] = entrance(gate, chain, &matches);
        rules.push(known);
        if range.proto == Proto::Tcp {
            for known in earlier_peers(gate, earlier, chain, address) {
                rules.push(rule(chain, &[&matches, &no_syn(), &known, &[accept()]]));
            }
        }
        rules.push(new);
    }
}

/// What a guarded port has at least: its sessions pass, and what is new is asked.
fn entrance(gate: &GateRules, chain: &str, matches: &[Expression]) -> [Rule; 2] {
    [
        rule(chain, &[matches, &established(), &[accept()]]),
        rule(chain, &[matches, &[jump(policy_chain(&gate.name))]]),
    ]
}

/// For each address and port of a gate, the rules that guard it in that base chain.
pub(super) fn entrances(gate: &GateRules, chain: &str) -> Vec<(PortRange, [Rule; 2])> {
    matches(gate, chain)
        .into_iter()
        .map(|(_, range, matches)| (range, entrance(gate, chain, &matches)))
        .collect()
}

/// The ways to know a peer whose session was there before the gate.
fn earlier_peers(
    gate: &GateRules,
    earlier: Earlier,
    chain: &str,
    address: Option<IpNet>,
) -> Vec<Vec<Expression>> {
    if chain == FORWARD {
        let set = set_name(&gate.name, Role::Grace);
        let family_in = vec![meta(MetaKey::Nfproto), lookup(&set)];
        return if earlier.grace {
            vec![family_in]
        } else {
            vec![]
        };
    }
    [(Family::V4, earlier.v4), (Family::V6, earlier.v6)]
        .into_iter()
        // No packet goes from one family to the other, and nft would not read such a rule.
        .filter(|(family, there)| *there && address.is_none_or(|net| Family::of(net) == *family))
        .map(|(family, _)| peer_in(&set_name(&gate.name, Role::Session(family)), family))
        .collect()
}

fn policy_rules(gate: &GateRules, rules: &mut Vec<Rule>) {
    let mut rule = |expressions| {
        rules.push(Rule {
            chain: policy_chain(&gate.name),
            expressions,
        });
    };
    for chain in Chain::ALL {
        rule(vec![jump(member_chain(&gate.name, chain))]);
    }
    if gate.log_drops {
        rule(vec![limit(), log()]);
    }
    rule(vec![other("counter", &[]), drop_it()]);
}

/// `limit rate 10/minute burst 5 packets`: enough to see what goes on, too little to fill a disk.
fn limit() -> Expression {
    other(
        "limit",
        &[
            (1, &10u64.to_be_bytes()),
            (2, &60u64.to_be_bytes()),
            (3, &be32(5)),
            (4, &be32(0)),
            (5, &be32(0)),
        ],
    )
}

/// `log prefix "[knockd,drop] " level info` (`LOG_INFO` is 6).
fn log() -> Expression {
    other("log", &[(2, b"[knockd,drop] \0"), (5, &be32(6))])
}

fn member_rules(gate: &GateRules, rules: &mut Vec<Rule>) {
    for chain in Chain::ALL {
        let decide = if chain == Chain::Banned {
            drop_it
        } else {
            accept
        };
        let mut rule = |expressions| {
            rules.push(Rule {
                chain: member_chain(&gate.name, chain),
                expressions,
            });
        };
        for family in Family::ALL {
            let set = set_name(&gate.name, Role::Host(chain, family));
            let mut expressions = source(family).to_vec();
            if chain == Chain::Filter && family == Family::V6 && gate.ipv6_prefix == 64 {
                expressions.push(mask([[0xff; 8], [0; 8]].concat()));
            }
            expressions.push(lookup(&set));
            if chain == Chain::Filter && gate.once {
                expressions.push(use_up(&set));
            }
            expressions.push(decide());
            rule(expressions);
            if chain != Chain::Filter {
                let set = set_name(&gate.name, Role::Net(chain, family));
                let mut expressions = source(family).to_vec();
                expressions.extend([lookup(&set), decide()]);
                rule(expressions);
            }
        }
        if chain == Chain::Filter {
            let set = set_name(&gate.name, Role::Open);
            rule(vec![meta(MetaKey::Nfproto), lookup(&set), decide()]);
        }
    }
}

/// `delete @set { … }`: takes out what was just found (`NFT_DYNSET_OP_DELETE`).
fn use_up(set: &str) -> Expression {
    let mut name = set.as_bytes().to_vec();
    name.push(0);
    other("dynset", &[(1, &name), (3, &be32(2)), (4, &be32(1))])
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
