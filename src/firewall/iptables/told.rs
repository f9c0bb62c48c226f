//! Which bans and acceptances in the sets the caller knows of: an installation takes out only
//! these, and tells of the others.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

use super::members::{Held, Sorted};
use super::message::{Element, Key};
use super::names::{Role, parse_set};
use crate::model::{Chain, Time};

/// Deadlines in sets are whole seconds.
const DOUBT: Duration = Duration::from_secs(3);
/// Fewer than that are not worth looking through for expired ones.
const FEW: usize = 4_096;
/// So many are counted in a moment, here and by the kernel, which goes through them, too.
const COUNTED: usize = 1_000;

/// When it ends; `None` is never.
type End = Option<Time>;

/// The members, by their sets.
#[derive(Debug, Default)]
pub(super) struct Told {
    sets: HashMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    nets: HashMap<IpNet, End>,
    /// There were so many after the expired ones were last taken out.
    lasting: usize,
    /// The kernel held fewer than it should, which has been said.
    said: Option<u32>,
}

fn is_over(end: End, now: Time) -> bool {
    end.is_some_and(|end| end.after(DOUBT) < now)
}

/// Whether members of the set may go unasked: who is trusted is the caller's business alone.
fn goes_unasked(set: &str) -> bool {
    !matches!(
        parse_set(set),
        Some((
            _,
            Role::Members(Chain::Banned | Chain::Filter, _) | Role::Open(_)
        ))
    )
}

impl Known {
    fn put(&mut self, net: IpNet, end: End, now: Time) {
        self.nets.insert(net, end);
        if self.nets.len() > 2 * self.lasting.max(FEW) {
            self.nets.retain(|_, end| !is_over(*end, now));
            self.lasting = self.nets.len();
        }
    }
}

impl Told {
    /// Whether there is nothing of which the caller knows.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The caller knows of it.
    pub(super) fn put(&mut self, set: &str, net: IpNet, left: Option<Duration>, now: Time) {
        let known = self.sets.entry(set.to_owned()).or_default();
        known.put(net, left.map(|left| now.after(left)), now);
    }

    /// It is gone.
    pub(super) fn remove(&mut self, set: &str, net: IpNet) {
        if let Some(known) = self.sets.get_mut(set) {
            known.nets.remove(&net);
        }
    }

    /// The caller is told of these.
    pub(super) fn found(&mut self, set: &str, elements: &[Element], now: Time) {
        for element in elements {
            if let Key::Net(net) = element.key {
                self.put(set, net, Held::of(element, now).left, now);
            }
        }
    }

    /// The caller knows of all that it wants.
    pub(super) fn desired(&mut self, sorted: &Sorted, then: Time) {
        for (set, contents) in &sorted.sets {
            for (net, (left, _)) in contents {
                self.put(set, *net, *left, then);
            }
        }
    }

    /// A member that the set must have.
    pub(super) fn witness(&self, set: &str, now: Time) -> Option<IpNet> {
        let lasts = |end: &End| end.is_none_or(|end| end > now.after(DOUBT));
        let mut known = self.sets.get(set)?.nets.iter();
        known.find(|(_, end)| lasts(end)).map(|(net, _)| *net)
    }

    /// How many members the set must have at least, if they are few enough to be counted often.
    pub(super) fn least(&self, set: &str, now: Time) -> Option<usize> {
        let known = self.sets.get(set)?;
        let lasts = |end: &&End| end.is_none_or(|end| end > now.after(DOUBT));
        // Some are over and not yet forgotten.
        let lasting = known.nets.values().filter(lasts);
        let least = lasting.take(COUNTED + 1).count();
        (least <= COUNTED).then_some(least)
    }

    /// Takes note of how many the set has; whether that is too few, and was not said before.
    pub(super) fn falls_short(&mut self, set: &str, least: usize, held: u32) -> bool {
        let Some(known) = self.sets.get_mut(set) else {
            return false;
        };
        let short = (usize::try_from(held).is_ok_and(|held| held < least)).then_some(held);
        let is_news = short.is_some() && known.said != short;
        known.said = short;
        is_news
    }

    /// Whether an installation may take it out.
    pub(super) fn has(&self, set: &str, key: Key, now: Time) -> bool {
        let Key::Net(net) = key else {
            return true;
        };
        let known = self.sets.get(set).and_then(|known| known.nets.get(&net));
        known.is_some_and(|end| !is_over(*end, now)) || goes_unasked(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(host: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::from(host.to_be_bytes()))
    }

    #[test]
    fn a_member_too_few_is_said_once() {
        let now = Time::from_secs(100);
        let mut told = Told::default();
        let set = "ssh_banned4";
        assert_eq!(told.least(set, now), None);
        for (host, left) in [(1, None), (2, Some(1)), (3, Some(60))] {
            told.put(set, net(host), left.map(Duration::from_secs), now);
        }
        // The second may have ended before it is looked for.
        assert_eq!(told.least(set, now), Some(2));
        let mut says = |held| told.falls_short(set, 2, held);
        let said = [3, 2, 1, 1, 0, 2, 1].map(&mut says);
        assert_eq!(said, [false, false, true, false, true, false, true]);
        // Those that are over are not among the many.
        for host in 10..2_000 {
            told.put(set, net(host), Some(Duration::from_secs(9)), now);
        }
        assert_eq!(told.least(set, now), None);
        assert_eq!(told.least(set, Time::from_secs(130)), Some(2));
        for host in 10..2_000 {
            told.put(set, net(host), None, now);
        }
        assert_eq!(told.least(set, now), None);
    }

    #[test]
    fn what_is_over_is_forgotten_and_trust_is_never_asked_about() {
        let mut told = Told::default();
        for host in 0..100_000u32 {
            let now = Time::from_secs(u64::from(host) / 100);
            told.put("ssh_banned4", net(host), Some(Duration::from_secs(9)), now);
        }
        told.put("ssh_banned4", net(1), None, Time::from_secs(0));
        let known = told.sets["ssh_banned4"].nets.len();
        assert!(known <= 2 * FEW + 1, "{known}");
        let later = Time::from_secs(2_000);
        assert!(told.has("ssh_banned4", Key::Net(net(1)), later));
        assert!(!told.has("ssh_banned4", Key::Net(net(99_999)), later));
        assert!(!told.has("ssh_filter4", Key::Net(net(1)), later));
        assert!(told.has("ssh_trusted4", Key::Net(net(1)), later));
        told.remove("ssh_banned4", net(1));
        assert!(!told.has("ssh_banned4", Key::Net(net(1)), later));
    }
}
