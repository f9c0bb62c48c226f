//! Which set and which keys a member stands for, and how long it stays there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ipnet::IpNet;

use super::message::{Element, Key};
use super::names::{Family, Role, set_name};
use crate::firewall::{Desired, FirewallError, Member};
use crate::model::{Chain, GateName, Lifetime, Time, net_of_prefix};

/// The longest timeout that ip_set keeps (`IPSET_MAX_TIMEOUT`, 24.8 days): milliseconds have to
/// fit 31 bits.
pub(super) const LONGEST: u32 = i32::MAX as u32 / 1000;
/// `IPSET_MAX_COMMENT_SIZE`.
const COMMENT_MAX: usize = 255;
/// Stands at the end of a comment, before seconds of `CLOCK_BOOTTIME` at which a member ends that
/// lasts longer than the kernel can count.
const UNTIL: &str = " until boot+";

/// What has to be known of a gate to place its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// How long IPv6 members of the filter chain are.
    pub(super) ipv6_prefix: u8,
    /// Whether being open has a set of its own.
    pub(super) once: bool,
}

/// Where a member is kept: two networks where it is all addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) role: Role,
    pub(super) nets: Vec<IpNet>,
}

impl Place {
    /// `None`: no set of the gate takes it.
    pub(super) fn of(chain: Chain, net: IpNet, shape: Shape) -> Option<Self> {
        let family = Family::of(net);
        let members = Role::Members(chain, family);
        if net.prefix_len() == 0 {
            let role = match chain {
                Chain::Filter if shape.once => Role::Open(family),
                _ => members,
            };
            return Some(Self {
                role,
                nets: family.halves().into(),
            });
        }
        let net = match (chain, family) {
            (Chain::Filter, Family::V6) if shape.ipv6_prefix == 64 => {
                (net.prefix_len() >= 64).then(|| net_of_prefix(net.addr(), 64))
            }
            (Chain::Filter, _) => (net.prefix_len() == family.bits()).then_some(net),
            _ => Some(net),
        }?;
        Some(Self {
            role: members,
            nets: vec![net],
        })
    }
}

/// No set takes it: a network in the filter chain, or a gate that does not exist.
pub(super) fn unplaceable(gate: &GateName, chain: Chain, net: IpNet) -> FirewallError {
    FirewallError::Kernel {
        operation: "put",
        object: format!("{net} into {gate}_{}", chain.suffix()),
        source: std::io::Error::from_raw_os_error(libc::EINVAL),
        hint: " (no set of this gate takes such a network)",
    }
}

/// The time left as it is kept: trust is kept until it is taken back.
pub(super) fn left(chain: Chain, lifetime: Lifetime) -> Option<Duration> {
    match (chain, lifetime) {
        (Chain::Trusted, _) | (_, Lifetime::Never) => None,
        (_, Lifetime::For(left)) => Some(left),
    }
}

/// As much of a reason as a comment can hold. The quotation mark would end it for `ipset restore`.
pub(super) fn fitting(reason: &str, room: usize) -> String {
    let mut end = reason.len().min(room);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].replace(['"', '\0'], "'")
}

/// A member as the kernel is told, at the moment `now`.
pub(super) fn element(key: Key, left: Option<Duration>, reason: &str, now: Time) -> Element {
    let seconds = left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
    let (timeout, comment) = match seconds {
        None => (0, fitting(reason, COMMENT_MAX)),
        Some(seconds) => match u32::try_from(seconds) {
            // 0 would be for ever.
            Ok(seconds) if seconds <= LONGEST => (seconds.max(1), fitting(reason, COMMENT_MAX)),
            _ => {
                let end = now.0 / 1_000_000_000 + seconds;
                let mark = format!("{UNTIL}{end}s");
                let reason = fitting(reason, COMMENT_MAX - mark.len());
                (LONGEST, reason + &mark)
            }
        },
    };
    Element {
        key,
        timeout,
        comment,
    }
}

/// A member that ends that much earlier or later than it is to end is left as it is.
const SECOND: Duration = Duration::from_secs(1);
/// What is read back may be off by more, since it is a moment later, and what is left was rounded
/// down twice.
pub(super) const READ_BACK: Duration = Duration::from_secs(2);

/// What a member as read stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// `None` is for ever.
    pub(super) left: Option<Duration>,
    pub(super) reason: String,
    /// When it ends, in seconds of `CLOCK_BOOTTIME`, if it has to be re-armed before.
    pub(super) until: Option<u64>,
}

impl Held {
    pub(super) fn of(element: &Element, now: Time) -> Self {
        if element.timeout == 0 {
            return Self {
                left: None,
                reason: element.comment.clone(),
                until: None,
            };
        }
        let marked = element
            .comment
            .rsplit_once(UNTIL)
            .and_then(|(reason, end)| Some((reason, end.strip_suffix('s')?.parse::<u64>().ok()?)));
        let kept = Duration::from_secs(element.timeout.into());
        match marked {
            Some((reason, until)) => Self {
                left: Some(Duration::from_secs(
                    until.saturating_sub(now.0 / 1_000_000_000),
                )),
                reason: reason.to_owned(),
                until: Some(until),
            },
            None => Self {
                left: Some(kept),
                reason: element.comment.clone(),
                until: None,
            },
        }
    }

    /// Whether it ends when it is to end, within that time and the kernel's rounding down.
    pub(super) fn ends_within(&self, doubt: Duration, left: Option<Duration>) -> bool {
        match (self.left, left) {
            (None, None) => true,
            (Some(held), Some(left)) => left + doubt >= held && left <= held + SECOND + doubt,
            _ => false,
        }
    }
}

/// What a set is to hold.
pub(super) type Contents = BTreeMap<IpNet, (Option<Duration>, String)>;

/// All members, by the set they go into.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) sets: HashMap<String, Contents>,
}

impl Sorted {
    pub(super) fn new(desired: &Desired) -> Result<Self, FirewallError> {
        let mut sorted = Self::default();
        let shapes: HashMap<&GateName, Shape> = desired
            .gates
            .iter()
            .map(|gate| {
                let shape = Shape {
                    ipv6_prefix: gate.ipv6_prefix,
                    once: gate.once,
                };
                (&gate.name, shape)
            })
            .collect();
        for member in &desired.members {
            let Member {
                gate, chain, net, ..
            } = member;
            let place = shapes
                .get(gate)
                .and_then(|shape| Place::of(*chain, *net, *shape))
                .ok_or_else(|| unplaceable(gate, *chain, *net))?;
            let left = left(*chain, member.remaining);
            if left == Some(Duration::ZERO) {
                continue;
            }
            let set = sorted.sets.entry(set_name(gate, place.role)).or_default();
            for net in place.nets {
                let new = (left, fitting(&member.reason, COMMENT_MAX));
                // Two members may share a /64: the one that lasts longer counts.
                let slot = set.entry(net).or_insert_with(|| new.clone());
                if slot.0.is_some_and(|old| left.is_none_or(|left| left > old)) {
                    *slot = new;
                }
            }
        }
        Ok(sorted)
    }
}

/// What has to be done to a set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference<'a> {
    /// To be added or renewed.
    pub(super) put: Vec<Put<'a>>,
    pub(super) remove: Vec<Key>,
}

/// A member to be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Put<'a> {
    pub(super) net: IpNet,
    /// What was left of its time when it was wanted.
    left: Option<Duration>,
    reason: &'a str,
}

impl Put<'_> {
    /// As the kernel is told `now` what was wanted `then`; `None` if it is over meanwhile.
    pub(super) fn element(&self, then: Time, now: Time) -> Option<Element> {
        let left = self.left.map(|left| left.saturating_sub(now.since(then)));
        let is_over = left == Some(Duration::ZERO);
        (!is_over).then(|| element(Key::Net(self.net), left, self.reason, now))
    }
}

/// From what a set holds `now` to what it was to hold `then`; what was to end meanwhile is left
/// alone.
pub(super) fn difference<'a>(
    held: &[Element],
    wanted: &'a Contents,
    then: Time,
    now: Time,
) -> Difference<'a> {
    let mut difference = Difference::default();
    let mut there = HashMap::new();
    for element in held {
        match element.key {
            Key::Net(net) if wanted.contains_key(&net) => {
                there.insert(net, Held::of(element, now));
            }
            key => difference.remove.push(key),
        }
    }
    let passed = now.since(then);
    for (&net, (left, reason)) in wanted {
        let still = left.map(|left| left.saturating_sub(passed));
        let stays = there
            .get(&net)
            .is_some_and(|held| held.ends_within(SECOND, still) && held.reason == *reason);
        if !stays && still != Some(Duration::ZERO) {
            let left = *left;
            difference.put.push(Put { net, left, reason });
        }
    }
    difference
}

/// What the elements of a set of networks stand for, with two halves as the whole.
pub(super) fn members(
    gate: &GateName,
    chain: Chain,
    family: Family,
    held: &[Element],
    now: Time,
) -> Vec<Member> {
    let halves = family.halves();
    let is_half = |element: &Element| halves.iter().any(|half| element.key == Key::Net(*half));
    let half = |half: IpNet| held.iter().find(|element| element.key == Key::Net(half));
    let whole = match (half(halves[0]), half(halves[1])) {
        (Some(low), Some(high)) => {
            let (low, high) = (Held::of(low, now), Held::of(high, now));
            (low.ends_within(SECOND, high.left) && low.reason == high.reason).then_some(low)
        }
        _ => None,
    };
    let member = |net: IpNet, held: Held| Member {
        gate: gate.clone(),
        chain,
        net,
        remaining: held.left.map_or(Lifetime::Never, Lifetime::For),
        reason: held.reason,
    };
    let are_whole = whole.is_some();
    let mut found: Vec<Member> = whole
        .into_iter()
        .map(|held| member(family.everybody(), held))
        .collect();
    found.extend(held.iter().filter_map(|element| match element.key {
        Key::Net(_) if are_whole && is_half(element) => None,
        Key::Net(net) => Some(member(net, Held::of(element, now))),
        Key::Peer(..) => None,
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_000);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lifetime_beyond_the_kernels_is_kept_in_the_comment() {
        let month = 60 * 86_400;
        let key = Key::Net(net("192.0.2.1/32"));
        let written = element(key, Some(secs(month)), "a knock", NOW);
        assert_eq!(written.timeout, 2_147_483);
        let later = Time::from_secs(2_000);
        let held = Held::of(&written, later);
        assert_eq!(held.left, Some(secs(month - 1_000)));
        assert_eq!(held.reason, "a knock");
        assert_eq!(held.until, Some(month + 1_000));
        assert_eq!(element(key, Some(secs(2_147_483)), "x", NOW).comment, "x");
        assert_eq!(element(key, None, "x", NOW).timeout, 0);
        // Less than a second must not become for ever.
        assert_eq!(
            element(key, Some(Duration::from_millis(3)), "x", NOW).timeout,
            1
        );
    }

    #[test]
    fn a_reason_is_cut_between_letters() {
        let long = "é".repeat(200);
        let cut = element(Key::Net(net("::1/128")), Some(secs(99_999_999)), &long, NOW).comment;
        assert!(
            cut.len() <= COMMENT_MAX && cut.ends_with('s'),
            "{}",
            cut.len()
        );
        assert_eq!(fitting("a \"b\"", 255), "a 'b'");
    }

    #[test]
    fn two_halves_are_shown_as_the_whole() {
        let gate = GateName::new("ssh").unwrap();
        let shape = Shape {
            ipv6_prefix: 128,
            once: false,
        };
        let place = Place::of(Chain::Filter, net("0.0.0.0/0"), shape).unwrap();
        assert_eq!(place.role, Role::Members(Chain::Filter, Family::V4));
        let mut held: Vec<Element> = place
            .nets
            .iter()
            .map(|net| element(Key::Net(*net), Some(secs(60)), "open", NOW))
            .collect();
        let shown = |held: &[Element]| -> Vec<String> {
            members(&gate, Chain::Filter, Family::V4, held, NOW)
                .into_iter()
                .map(|member| member.net.to_string())
                .collect()
        };
        assert_eq!(shown(&held), ["0.0.0.0/0"]);
        held[0].timeout = 20;
        assert_eq!(shown(&held), ["0.0.0.0/1", "128.0.0.0/1"]);
    }

    #[test]
    fn what_stays_is_found_right_when_it_is_read_back_later() {
        let millis = Duration::from_millis;
        let wanted = millis(300_000);
        let held = |left: Duration| Held {
            left: Some(secs(left.as_secs())),
            reason: String::new(),
            until: None,
        };
        let mut stays = 0;
        for really in (295_000..305_000).step_by(10).map(millis) {
            if !held(really).ends_within(SECOND, Some(wanted)) {
                continue;
            }
            stays += 1;
            for passed in (0..5_000).step_by(70).map(millis) {
                let later = held(really.saturating_sub(passed));
                let left = Some(wanted.saturating_sub(passed));
                assert!(later.ends_within(READ_BACK, left), "{really:?}, {passed:?}");
            }
        }
        assert!(stays > 200, "{stays}");
    }

    #[test]
    fn what_stays_is_left_as_it_is() {
        let wanted: Contents = [
            (net("192.0.2.1/32"), (Some(secs(300)), "a".to_owned())),
            (net("192.0.2.2/32"), (None, "b".to_owned())),
            (net("192.0.2.3/32"), (Some(secs(300)), "c".to_owned())),
        ]
        .into();
        let held: Vec<Element> = [
            ("192.0.2.1/32", Some(secs(299)), "a"),
            ("192.0.2.2/32", Some(secs(5)), "b"),
            ("192.0.2.3/32", Some(secs(300)), "other"),
            ("192.0.2.4/32", None, "d"),
        ]
        .map(|(net, left, reason)| element(Key::Net(self::net(net)), left, reason, NOW))
        .into();
        let found = difference(&held, &wanted, NOW, NOW);
        let put: Vec<IpNet> = found.put.iter().map(|put| put.net).collect();
        assert_eq!(put, [net("192.0.2.2/32"), net("192.0.2.3/32")]);
        assert_eq!(found.remove, [Key::Net(net("192.0.2.4/32"))]);
        // An installation that takes its time gives nobody more of it.
        let later = Time::from_secs(1_010);
        let found = difference(&[], &wanted, NOW, later);
        let timeouts = |later| -> Vec<u32> {
            let elements = found.put.iter().filter_map(|put| put.element(NOW, later));
            elements.map(|element| element.timeout).collect()
        };
        assert_eq!(timeouts(later), [290, 0, 290]);
        // Nor do those that are written last get more than those that are written first.
        assert_eq!(timeouts(Time::from_secs(1_015)), [285, 0, 285]);
        assert_eq!(timeouts(Time::from_secs(1_300)), [0], "over meanwhile");
        let found = difference(&[], &wanted, NOW, Time::from_secs(1_300));
        assert_eq!(found.put.len(), 1);
    }
}
