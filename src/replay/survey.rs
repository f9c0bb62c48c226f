//! What a capture itself tells about the host that it was made on.
//!
//! Cooked captures say what was sent to the host. Others only show that somebody knocked on somebody,
//! and that may be the host on another: what tells them apart is who takes part in everything, and
//! who is knocked on by those who are not.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use super::MOST_ADDRESSES;
use super::error::ReplayError;
use super::hub::Hub;
use super::link::{Ip, Mac, Way};
use crate::model::{NetMap, Proto, host_net};
use crate::packet::{self, Knock};
use crate::policy::{GateAddress, Policy, TcpFlags};

/// SYN and ACK: the answer of a port that something listens on.
const ANSWER: TcpFlags = TcpFlags {
    set: TcpFlags::SYN | TcpFlags::ACK,
    clear: TcpFlags::RST,
};

/// Ports that answered, of all addresses; whatever is beyond is not noticed.
const MOST_ANSWERS: usize = 65_536;
/// Addresses that were knocked on, by anybody.
const MOST_KNOCKED_ON: usize = 65_536;
/// Those who knocked on one of them: among so many there is a stranger.
const MOST_KNOCKERS: usize = 8;
/// Interfaces whose card is looked for.
const MOST_CARDS: usize = 64;

/// Which addresses are knocked on by whom, and which ports answer.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    policy: &'a Policy,
    behind: NetMap<()>,
    knocked_on: BTreeMap<(Place, IpAddr), Vec<IpAddr>>,
    answers: HashSet<(IpAddr, u16)>,
    replies: Replies,
    cards: BTreeMap<Option<u32>, Hub<Mac>>,
    addresses: [Hub<IpAddr>; 2],
}

/// Where somebody was knocked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Here: the link says so.
    Here,
    /// At the card, on that interface.
    Card(Option<u32>, Mac),
    /// The link does not say.
    Unsaid,
}

/// What was found out about the host's addresses.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its own.
    pub(super) own: BTreeSet<IpAddr>,
    /// Of these some may be.
    pub(super) unclear: BTreeSet<IpAddr>,
    /// The card that it has, by interface.
    pub(super) cards: BTreeMap<Option<u32>, Mac>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        let mut behind = NetMap::new();
        for gate in policy.gates.iter().filter(|gate| gate.hook.forward()) {
            if let Some(GateAddress::Net(net)) = gate.address {
                behind.insert(net, ());
            }
        }
        Self {
            policy,
            behind,
            knocked_on: BTreeMap::new(),
            answers: HashSet::new(),
            replies: Replies::default(),
            cards: BTreeMap::new(),
            addresses: Default::default(),
        }
    }

    pub(super) fn look_at(&mut self, ip: Ip<'_>, interface: Option<u32>) {
        let Ok(packet) = packet::parse(ip.bytes) else {
            return;
        };
        let is_answer = packet.port.proto == Proto::Tcp && ANSWER.fit(packet.flags);
        if is_answer && self.answers.len() < MOST_ANSWERS {
            self.answers.insert((packet.source, packet.source_port));
        }
        if !ip.to_us || is_group(packet.destination) {
            return;
        }
        let is_knock = self.is_knock(&packet);
        let is_answer = (ip.way != Way::Said && self.replies.is_one(&packet)) || is_answer;
        let is_opening = packet.port.proto == Proto::Udp || TcpFlags::OPENING.fit(packet.flags);
        let is_first = !is_answer && (is_opening || is_knock);
        let place = match ip.way {
            Way::Said => Place::Here,
            Way::Cards { from, to } => {
                if self.cards.len() < MOST_CARDS || self.cards.contains_key(&interface) {
                    let hub = self.cards.entry(interface).or_default();
                    hub.look_at(from, to, &packet, is_first);
                }
                Place::Card(interface, to)
            }
            Way::Unsaid => Place::Unsaid,
        };
        if place != Place::Here {
            let family = usize::from(packet.source.is_ipv6());
            let hub = &mut self.addresses[family];
            hub.look_at(packet.source, packet.destination, &packet, is_first);
        }
        if is_answer || !is_knock {
            return;
        }
        let at = (place, packet.destination);
        if self.knocked_on.len() < MOST_KNOCKED_ON || self.knocked_on.contains_key(&at) {
            let knockers = self.knocked_on.entry(at).or_default();
            if knockers.len() < MOST_KNOCKERS && !knockers.contains(&packet.source) {
                knockers.push(packet.source);
            }
        }
    }

    /// Whether it goes to a knock port with flags that the knock asks for, and not to a host
    /// behind this one, as a knock with a target may.
    fn is_knock(&self, packet: &Knock) -> bool {
        let knocks = self.policy.knocks.iter();
        let mut knocks = knocks.filter(|knock| knock.target.is_none());
        self.behind.lookup(host_net(packet.destination)).is_none()
            && knocks.any(|knock| {
                let timed = knock.time_based().map(|it| it.shape.ports());
                (knock.sequence.contains(&packet.port)
                    || timed.is_some_and(|ports| ports.contains(packet.port)))
                    && (packet.port.proto == Proto::Udp || knock.flags.fit(packet.flags))
            })
    }

    /// The addresses that are the host's, among those that were knocked on.
    pub(super) fn found(&self) -> Result<Found, ReplayError> {
        let cards = self.cards.iter();
        let cards = cards.filter_map(|(interface, hub)| Some((*interface, hub.card()?)));
        let mut found = Found {
            cards: cards.collect(),
            ..Found::default()
        };
        let mut unsaid: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
        for ((place, address), knockers) in &self.knocked_on {
            let is_own = match place {
                Place::Here => Some(true),
                Place::Card(interface, to) => found.cards.get(interface).map(|card| card == to),
                Place::Unsaid => None,
            };
            let hub = &self.addresses[usize::from(address.is_ipv6())];
            match is_own.or_else(|| hub.address().map(|hub| hub == *address)) {
                Some(true) => {
                    found.own.insert(*address);
                }
                Some(false) => {}
                None => unsaid.entry(*address).or_default().extend(knockers),
            }
        }
        tell_apart(unsaid, &mut found);
        if found.own.len() > MOST_ADDRESSES {
            return Err(ReplayError::TooManyAddresses);
        }
        Ok(found)
    }

    /// The TCP ports that answered, of these addresses.
    pub(super) fn listening(&self, of: &[IpAddr]) -> Vec<u16> {
        let mut ports = BTreeSet::new();
        for (address, port) in &self.answers {
            if of.contains(address) {
                ports.insert(*port);
            }
        }
        ports.into_iter().collect()
    }
}

/// A host knocks on others, and so do strangers on it. Whoever is knocked on by somebody who is not
/// is the host; on whom only the host knocks is another. Who knock on each other and are not knocked
/// on by a third may be either.
fn tell_apart(mut knocked_on: BTreeMap<IpAddr, BTreeSet<IpAddr>>, found: &mut Found) {
    knocked_on.retain(|_, knockers| {
        knockers.retain(|knocker| !found.own.contains(knocker));
        !knockers.is_empty()
    });
    let (own, others): (Vec<_>, Vec<_>) = knocked_on
        .iter()
        .partition(|(_, knockers)| knockers.iter().any(|it| !knocked_on.contains_key(it)));
    found.own.extend(own.iter().map(|(address, _)| **address));
    let unclear = others
        .iter()
        .filter(|(_, knockers)| !knockers.iter().any(|it| found.own.contains(it)));
    found.unclear.extend(unclear.map(|(address, _)| **address));
}

/// Whether nobody alone has the address.
fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// Which packets are replies to one a short while before. In a table of fixed size, where each
/// packet has but one place.
#[derive(Debug)]
struct Replies(Vec<u64>);

impl Default for Replies {
    fn default() -> Self {
        Self(vec![0; 1 << 16])
    }
}

impl Replies {
    fn is_one(&mut self, packet: &Knock) -> bool {
        let from = (packet.source, packet.source_port);
        let to = (packet.destination, packet.port.port);
        let (there, back) = (hash(from, to, packet), hash(to, from, packet));
        let is_reply = self.0[place(back)] == back;
        self.0[place(there)] = there;
        is_reply
    }
}

fn hash(from: (IpAddr, u16), to: (IpAddr, u16), packet: &Knock) -> u64 {
    let mut hasher = DefaultHasher::new();
    (from, to, packet.port.proto).hash(&mut hasher);
    hasher.finish()
}

fn place(hash: u64) -> usize {
    let [.., high, low] = hash.to_be_bytes();
    usize::from(u16::from_be_bytes([high, low]))
}
