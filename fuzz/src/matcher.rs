use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use portcullis::matcher::Matcher;
use portcullis::model::{KnockPort, Proto, Time};
use portcullis::packet::Knock;
use portcullis::policy::{self, Policy, TcpFlags};

/// The first byte says which. All sequences are of SYNs, and no two of a policy are equal.
static POLICIES: LazyLock<[Policy; 4]> = LazyLock::new(|| {
    let shipped = include_str!("../../policy/knockd.yaml").to_owned();
    let gate = "gates: { ssh: { ports: [22] } }\nmemory: 64KiB\n";
    let many = format!(
        "{gate}knocks:
  three: {{ sequence: [100, 105, 100], seq_timeout: 15s, action: accept }}
  other: {{ sequence: [105, 103], seq_timeout: 2s, action: open }}
  one: {{ sequence: [120], seq_timeout: 2s, action: trust }}
  decoy: {{ sequence: [101, 102], seq_timeout: 15s, action: drop }}
"
    );
    let mixed = format!(
        "{gate}scan_guard: {{ ports: 3, within: 10s, nearby: 1 }}\nknocks:
  mixed: {{ sequence: [100, 110/udp, 103], seq_timeout: 15s, action: accept }}
  plain: {{ sequence: [110, 100], seq_timeout: 30s, action: accept }}
"
    );
    // As `many`, but for what changed; and a knock that only counts for a host behind this one.
    let changed = format!(
        "{gate}scan_guard: {{ ports: 4, within: 20s }}\nknocks:
  other: {{ sequence: [105, 103], seq_timeout: 2s, action: open }}
  three: {{ sequence: [100, 105, 100], seq_timeout: 15s, action: flush }}
  behind: {{ sequence: [101, 104], seq_timeout: 15s, target: 192.0.2.200, action: accept }}
"
    );
    [shipped, many, mixed, changed].map(|text| {
        let checked = policy::parse(&text, Path::new("fuzz.yaml"));
        let mut policy = checked.expect("the policy is good").policy;
        policy.memory = 64 << 10;
        policy
    })
});

/// The same with a table of so few places that records have to go all the time.
static CROWDED: LazyLock<[Policy; 4]> = LazyLock::new(|| {
    POLICIES.clone().map(|mut policy| {
        policy.memory = 1 << 10;
        policy
    })
});
/// A bit of the first byte.
const CROWD: u8 = 0x80;

/// For how long at least a SYN is taken for one that was sent before, from the first on.
const SENT_AGAIN: Duration = Duration::from_secs(130);
/// More would only be slow.
const MOST_PACKETS: usize = 200;

/// Bits of a packet's first byte: it goes to a host behind this one; the clock goes back before it,
/// as that of two sockets may; it is the packet before once more.
const BEHIND: u8 = 0x20;
const BACK: u8 = 0x40;
const AGAIN: u8 = 0x80;
/// Bits of its last: days go by before it, not minutes; another policy is loaded before it, which
/// the two bits below say.
const DAYS: u8 = 0x40;
const RELOAD: u8 = 0x80;

/// A byte for the policy, then five for each packet: source and kind, port, and how much later
/// than the one before. Whatever is sent, by whom and when: memory stays within its bound, nothing
/// is complete that was not sent in order and in time, and no sweep completes anything but decoys.
/// Where records have to go it may have been forgotten that somebody swept, and what was seen.
pub fn matcher(bytes: &[u8]) {
    let Some((choice, packets)) = bytes.split_first() else {
        return;
    };
    let is_crowded = choice & CROWD != 0;
    let policies: &[Policy; 4] = if is_crowded { &CROWDED } else { &POLICIES };
    let mut policy = &policies[usize::from(*choice) % policies.len()];
    let mut matcher = Matcher::new(policy);
    matcher.set_neutral([22, 80, 1230]);
    let mut sources: HashMap<IpAddr, Heard> = HashMap::new();
    let mut at = Time::from_secs(1000);
    let (mut last, mut in_order) = (None::<(Knock, bool, Option<Time>)>, true);
    for (number, packet) in packets.chunks_exact(5).take(MOST_PACKETS).enumerate() {
        if packet[4] & RELOAD != 0 {
            policy = &policies[usize::from(packet[4] >> 4 & 3)];
            matcher.reload(policy);
            sources.values_mut().for_each(Heard::forget_sweeps);
            last = None;
        }
        let days = if packet[4] & DAYS == 0 { 0 } else { 10 };
        let gap = u64::from(packet[3]) << ((packet[4] & 15) % 12 + days);
        if packet[0] & BACK == 0 {
            at = at.after(Duration::from_millis(gap));
        } else {
            at = Time(at.0.saturating_sub(gap * 1_000_000));
            // What is old now and what is not nobody can say.
            in_order = false;
            sources.values_mut().for_each(Heard::forget_sweeps);
        }
        let ours = packet[0] & BEHIND == 0;
        let knock = knock(policy, packet, number);
        // The packet before once more.
        let (is_same, knock, first) = match last {
            Some((last, to_us, first)) if packet[0] & AGAIN != 0 && to_us == ours => {
                // Later than that it may count or not, and then nobody can say which was the first.
                let first = first.filter(|&first| at.since(first) <= SENT_AGAIN);
                (true, last, first)
            }
            _ => (false, knock, Some(at)),
        };
        let again = is_same && first.is_some();
        last = Some((knock, ours, first));
        let heard = matcher.handle(&knock, ours, at);
        let (used, room) = matcher.occupancy();
        assert!(used <= room, "{used} of {room}");
        assert!(
            is_crowded || !(again && knock.port.proto == Proto::Tcp) || heard.completed.is_empty(),
            "a retransmission completes nothing"
        );
        let plain = sources.entry(knock.source).or_default();
        // What is sent again need not count again, however late: what it was sent again from may itself
        // have counted as the first.
        plain.take(policy, &knock, ours && !is_same && !is_crowded, at);
        for &id in &heard.completed {
            plain.check(policy, matcher.name(id).as_str(), at, in_order);
        }
        for &id in &heard.undone {
            let name = matcher.name(id).as_str();
            // Behind this host, too, what is near a sequence is strange.
            assert!(is_strange(policy, &knock), "{name} is undone by a knock");
            assert!(plain.completed.contains_key(name), "{name} never was");
        }
    }
}

/// The target of a knock, and another host for the others.
const BEHIND_US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

fn knock(policy: &Policy, packet: &[u8], number: usize) -> Knock {
    let source = packet[0] & 3;
    let source = match packet[0] >> 2 & 1 {
        0 => IpAddr::from(Ipv4Addr::new(192, 0, 2, source)),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, source.into()).into(),
    };
    let own: Vec<KnockPort> = policy
        .knocks
        .iter()
        .flat_map(|knock| knock.sequence.iter().copied())
        .collect();
    let port = match packet[1] {
        // Around the knock ports, on them, or anywhere.
        near @ 0..64 => KnockPort::tcp(own[0].port - 32 + u16::from(near)),
        one @ 64..192 => own[usize::from(one) % own.len()],
        other => KnockPort::tcp(u16::from_be_bytes([other, packet[2]]).max(1)),
    };
    let is_tcp = port.proto == Proto::Tcp;
    let flags = if packet[0] >> 3 & 3 == 3 {
        packet[2]
    } else {
        TcpFlags::SYN
    };
    Knock {
        source,
        destination: match packet[0] & BEHIND {
            0 => Ipv4Addr::new(192, 0, 2, 1).into(),
            _ => BEHIND_US.into(),
        },
        port,
        source_port: 40_000,
        flags: if is_tcp { flags } else { 0 },
        seq: if is_tcp {
            u32::try_from(number).expect("a small number")
        } else {
            0
        },
    }
}

/// A first packet to a TCP port that nobody who was told a knock goes to.
fn is_strange(policy: &Policy, knock: &Knock) -> bool {
    let mut grants = policy.knocks.iter().filter(|rule| !is_drop(rule));
    knock.port.proto == Proto::Tcp
        && TcpFlags::OPENING.fit(knock.flags)
        && ![22, 80, 1230].contains(&knock.port.port)
        && !grants.any(|rule| rule.sequence.contains(&knock.port))
}

fn is_drop(rule: &policy::Knock) -> bool {
    rule.action == policy::KnockAction::Drop
}

/// What one source has sent, remembered without bound and without wit.
#[derive(Default)]
struct Heard {
    /// Packets that may be knocks, each with its time and where it went.
    knocks: Vec<(KnockPort, Time, IpAddr)>,
    /// Strange ports, each time they were touched.
    strange: Vec<(u16, Time)>,
    scanner_until: Option<Time>,
    completed: HashMap<String, Time>,
}

impl Heard {
    /// From here on it is not held against anybody.
    fn forget_sweeps(&mut self) {
        self.strange.clear();
        self.scanner_until = None;
    }

    /// `held`: whether a strange port is held against it.
    fn take(&mut self, policy: &Policy, knock: &Knock, held: bool, at: Time) {
        if knock.port.proto == Proto::Udp || TcpFlags::OPENING.fit(knock.flags) {
            self.knocks.push((knock.port, at, knock.destination));
        }
        if !held || !is_strange(policy, knock) {
            return;
        }
        let guard = policy.scan_guard;
        let was_scanner = self.is_scanner(at);
        self.strange.push((knock.port.port, at));
        // A tick of the guard's own clock less, which is coarse.
        let window = guard.within.saturating_sub(guard.within / 1000);
        let mut ports: Vec<u16> = self
            .strange
            .iter()
            .filter(|(_, then)| at.since(*then) <= window)
            .map(|(port, _)| *port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        if was_scanner || ports.len() >= usize::from(guard.ports) {
            self.scanner_until = Some(at.after(guard.within));
        }
    }

    fn is_scanner(&self, at: Time) -> bool {
        self.scanner_until.is_some_and(|until| at <= until)
    }

    /// What was completed now must have been sent, and not by a sweep.
    fn check(&mut self, policy: &Policy, name: &str, at: Time, in_order: bool) {
        let mut rules = policy.knocks.iter();
        let rule = rules
            .find(|rule| rule.name.as_str() == name)
            .expect("a knock of the policy");
        self.completed.insert(name.to_owned(), at);
        let within = |then: Time| !in_order || at.since(then) <= rule.seq_timeout;
        let counts = |to: IpAddr| rule.target.is_none_or(|target| target == to);
        let mut expected = rule.sequence.iter().peekable();
        for (port, then, to) in &self.knocks {
            if within(*then) && counts(*to) && expected.peek() == Some(&port) {
                expected.next();
            }
        }
        assert!(expected.peek().is_none(), "{name} was not sent in time");
        if is_drop(rule) {
            return;
        }
        assert!(!self.is_scanner(at), "{name} was completed by a scanner");
        // It began with some packet to its first port. If each of these came too soon after a
        // strange port near the sequence, or before one, none of them may have begun it.
        let margin = policy.scan_guard.within / 1000;
        let horizon = rule.seq_timeout.min(policy.scan_guard.within);
        let near = |port: u16| {
            let mut tcp = rule.sequence.iter().filter(|own| own.proto == Proto::Tcp);
            let mut all = policy.knocks.iter().flat_map(|rule| &rule.sequence);
            tcp.any(|own| own.port.abs_diff(port) <= policy.scan_guard.nearby)
                && !all.any(|own| own.port == port)
        };
        let may_begin = |begun: Time| {
            let mut near = self.strange.iter().filter(|(port, _)| near(*port));
            near.all(|(_, then)| *then < begun && begun.since(*then) + margin > horizon)
        };
        let mut beginnings = self
            .knocks
            .iter()
            .filter(|(port, then, _)| *port == rule.sequence[0] && within(*then))
            .map(|(_, then, _)| *then);
        assert!(
            beginnings.any(may_begin),
            "{name} was completed around a strange port near it"
        );
    }
}
