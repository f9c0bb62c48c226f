//! Knock ports that nothing serves are kept from connection tracking: a flood of forged knocks
//! would fill its table, and nobody could connect any more.
//!
//! Only packets that no connection of this host can be waiting for: a SYN alone, or a datagram, to
//! an address of our own.

use std::collections::BTreeSet;

use super::Nftables;
use super::encode::{self, ElementVerb, Step};
use super::kernel::Failure;
use super::names::{PREROUTING, SetSpec, TYPE_INET_SERVICE};
use super::plan::{State, hook_of};
use super::rules::{
    Expression, Rule, TRANSPORT_HEADER, be32, equals, lookup, mask, meta, other, payload,
};
use crate::model::{KnockPort, Proto};
use netlink_packet_netfilter::nftables::{MetaKey, Register};

/// `RTN_LOCAL` (linux/rtnetlink.h), in host order as `fib` yields it.
const LOCAL: u32 = 2;
/// FIN, SYN, RST and ACK, and of these SYN alone.
const OPENING: (u8, u8) = (0x17, 0x02);
/// Far from the numbers that gates' sets get.
const FIRST_ID: u32 = 1 << 20;

fn set_of(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "untracked_tcp",
        Proto::Udp => "untracked_udp",
    }
}

fn spec(proto: Proto) -> SetSpec {
    SetSpec {
        name: set_of(proto).to_owned(),
        flags: 0,
        key_type: TYPE_INET_SERVICE,
        key_len: 2,
        comment: "",
    }
}

const PROTOS: [Proto; 2] = [Proto::Tcp, Proto::Udp];

/// `fib daddr type local` (`NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`).
fn to_ourselves() -> [Expression; 2] {
    let attributes: [(u16, &[u8]); 3] = [(1, &be32(1)), (2, &be32(3)), (3, &be32(2))];
    [other("fib", &attributes), equals(LOCAL.to_ne_bytes())]
}

/// The rules of the chain.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |proto: Proto| {
        let mut expressions = vec![meta(MetaKey::L4Proto), equals([proto.number()])];
        if proto == Proto::Tcp {
            let (flags, alone) = OPENING;
            expressions.push(payload(Register::Reg1, TRANSPORT_HEADER, 13, 1));
            expressions.extend([mask(vec![flags]), equals([alone])]);
        }
        expressions.push(payload(Register::Reg1, TRANSPORT_HEADER, 2, 2));
        expressions.push(lookup(set_of(proto)));
        // Last, as it costs most.
        expressions.extend(to_ourselves());
        expressions.push(other("notrack", &[]));
        Rule {
            chain: PREROUTING.to_owned(),
            expressions,
        }
    };
    PROTOS.map(rule).into()
}

fn keys(ports: &[KnockPort], proto: Proto) -> impl Iterator<Item = u16> {
    let of_proto = ports.iter().filter(move |port| port.proto == proto);
    of_proto.map(|port| port.port)
}

/// Makes the sets anew; no rule may refer to the old ones by then. With no ports they go.
pub(super) fn sets(state: &State, ports: &[KnockPort]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (id, proto) in (FIRST_ID..).zip(PROTOS) {
        let spec = spec(proto);
        if state.set(&spec.name).is_some() {
            steps.push(encode::delete_set(&spec.name));
        }
        if ports.is_empty() {
            continue;
        }
        steps.push(encode::new_set(&spec, id));
        let elements = keys(ports, proto).map(|port| {
            let key = port.to_be_bytes().to_vec();
            encode::element(key, None, "")
        });
        steps.extend(encode::elements(
            ElementVerb::Add,
            &spec.name,
            elements.collect(),
        ));
    }
    steps
}

/// Chain, sets and rules anew, all at once.
fn renewal(state: &State, ports: &[KnockPort]) -> Vec<Step> {
    let mut steps = Vec::new();
    if state.chain(PREROUTING).is_some() {
        steps.extend([
            encode::flush_chain(PREROUTING),
            encode::delete_chain(PREROUTING),
        ]);
    }
    steps.extend(sets(state, ports));
    if !ports.is_empty() {
        steps.push(encode::new_chain(PREROUTING, hook_of(PREROUTING)));
        steps.extend(rules().iter().map(encode::new_rule));
    }
    steps
}

impl Nftables {
    pub(super) fn renew_untracked(&mut self, ports: &[KnockPort]) -> Result<(), Failure> {
        if self.untracked.as_deref() == Some(ports) {
            return Ok(());
        }
        let state = self.kernel.state()?;
        // Without our table the next installation does it.
        if state.table.is_some() {
            let steps = renewal(&state, ports);
            if !steps.is_empty() {
                let steps: Vec<&Step> = steps.iter().collect();
                self.kernel.commit(&steps, Some(state.generation))?;
            }
            if let Some(image) = &mut self.image {
                image.untrack(ports);
            }
            self.verified = None;
        }
        self.untracked = Some(ports.to_vec());
        Ok(())
    }

    /// Whether the sets hold exactly these ports.
    pub(super) fn has_untracked(&mut self, ports: &[KnockPort]) -> Result<bool, Failure> {
        if ports.is_empty() {
            return Ok(true);
        }
        for proto in PROTOS {
            let held = self.kernel.elements(set_of(proto))?;
            let held: BTreeSet<u128> = held.into_iter().map(|element| element.key).collect();
            let wanted: BTreeSet<u128> = keys(ports, proto).map(u128::from).collect();
            if held != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
