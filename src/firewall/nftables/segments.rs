//! Networks that overlap, each with a deadline of its own, as intervals that do not.
//!
//! The kernel's interval sets take no overlaps, so the networks are kept here, and what the
//! kernel gets are segments: each with the deadline and reason of the network that lasts
//! longest there. CIDR networks are nested or disjoint, so a change concerns only what lies
//! within the widest network around it.

use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use super::names::{Family, net_range, number_address};
use crate::model::NetMap;

/// The kernel's clock and ours agree better than this, and it has collected what expired that
/// long ago (its default interval is a second).
pub(super) const DOUBT: Duration = Duration::from_secs(2);

/// When a network ends and why it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `None` is never. Monotonic time, which is what set timeouts run on.
    pub(super) end: Option<Instant>,
    pub(super) reason: String,
}

impl Entry {
    fn outlasts(&self, other: &Entry) -> bool {
        match (self.end, other.end) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(mine), Some(others)) => mine > others,
        }
    }
}

/// A piece of a network: from the first to the last address, inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) entry: Entry,
}

impl Segment {
    fn overlaps(&self, other: &Segment) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the kernel may or may not still have it.
    fn is_doubtful(&self, now: Instant) -> bool {
        self.entry
            .end
            .is_some_and(|end| end <= now + DOUBT && now < end + DOUBT)
    }
}

/// What has to be written to turn some segments into others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// These go, those come.
    Steps(Vec<Segment>, Vec<Segment>),
    /// Empty the set and fill it anew: one of those that go expires about now. Deleting the
    /// end of an interval whose start has expired would leave the start to the kernel's
    /// collector, which then takes the end of a neighbour with it.
    Rewrite,
}

/// The widest network that overlaps with this one: a change to it concerns nothing outside.
pub(super) fn window(map: &NetMap<Entry>, net: IpNet) -> IpNet {
    map.covering(net).last().map_or(net, |(widest, _)| widest)
}

/// The segments of the networks within `window` that end after `since`, ascending.
pub(super) fn flatten(map: &NetMap<Entry>, window: IpNet, since: Instant) -> Vec<Segment> {
    flatten_sorted(
        map.within(window)
            .filter(|(_, entry)| entry.end.is_none_or(|end| end > since)),
    )
}

/// The segments of networks that come sorted as a `NetMap` sorts them: each before those
/// inside it. All of one family.
pub(super) fn flatten_sorted<'a>(nets: impl Iterator<Item = (IpNet, &'a Entry)>) -> Vec<Segment> {
    let mut sweep = Sweep::default();
    for (net, entry) in nets {
        let (first, last) = net_range(net);
        sweep.close_before(first);
        if let Some((_, around)) = sweep.open.last() {
            if !entry.outlasts(around) {
                continue;
            }
            if first > 0 {
                sweep.emit(first - 1);
            }
        }
        sweep.open.push((last, entry));
        sweep.next = Some(first);
    }
    sweep.close_before(u128::MAX);
    while sweep.close_last() {}
    sweep.done
}

#[derive(Default)]
struct Sweep<'a> {
    /// The networks around the current address that count, the innermost last.
    open: Vec<(u128, &'a Entry)>,
    /// The first address not yet in a segment; `None` beyond the last there is.
    next: Option<u128>,
    done: Vec<Segment>,
}

impl Sweep<'_> {
    fn emit(&mut self, last: u128) {
        if let (Some(first), Some((_, entry))) = (self.next, self.open.last())
            && first <= last
        {
            self.done.push(Segment {
                first,
                last,
                entry: (*entry).clone(),
            });
        }
    }

    fn close_last(&mut self) -> bool {
        let Some(&(last, _)) = self.open.last() else {
            return false;
        };
        self.emit(last);
        self.open.pop();
        self.next = last.checked_add(1);
        true
    }

    fn close_before(&mut self, address: u128) {
        while self.open.last().is_some_and(|(last, _)| *last < address) {
            self.close_last();
        }
    }
}

/// What to write so that a set that holds `before` holds `after`. Both ascending.
pub(super) fn difference(before: &[Segment], after: &[Segment], now: Instant) -> Difference {
    let mut gone = Vec::new();
    let mut come = Vec::new();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {
                old.next();
                new.next();
            }
            (Some(a), Some(b)) if a.first > b.first => come.extend(new.next().cloned()),
            (Some(_), _) => gone.extend(old.next().cloned()),
            (None, Some(_)) => come.extend(new.next().cloned()),
        }
    }
    let mut certain = Vec::with_capacity(gone.len());
    for segment in gone {
        if !segment.is_doubtful(now) {
            certain.push(segment);
        } else if segment.entry.end.is_none_or(|end| end > now)
            || come.iter().any(|new| new.overlaps(&segment))
        {
            return Difference::Rewrite;
        }
        // Otherwise it has just ended, and nothing is in its way: leave it to the kernel.
    }
    Difference::Steps(certain, come)
}

/// Segments that go and segments that come, by what they have to do with one another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Clusters {
    /// Nothing that goes is in their way.
    pub(super) come: Vec<Segment>,
    /// These come in the place of those that go, as far as they overlap: all at once.
    pub(super) swap: Vec<(Vec<Segment>, Vec<Segment>)>,
    /// Nothing comes in their place.
    pub(super) gone: Vec<Segment>,
}

/// Tells them apart. Both ascending, neither with overlaps in itself.
pub(super) fn clusters(gone: Vec<Segment>, come: Vec<Segment>) -> Clusters {
    let mut all = Clusters::default();
    let mut sorted: Vec<(bool, Segment)> = gone
        .into_iter()
        .map(|segment| (false, segment))
        .chain(come.into_iter().map(|segment| (true, segment)))
        .collect();
    sorted.sort_by_key(|(_, segment)| segment.first);
    let mut cluster: (Vec<Segment>, Vec<Segment>) = Default::default();
    let mut last = None;
    for (comes, segment) in sorted {
        if last.is_none_or(|last| segment.first > last) {
            all.close(std::mem::take(&mut cluster));
        }
        last = last.max(Some(segment.last));
        if comes {
            cluster.1.push(segment);
        } else {
            cluster.0.push(segment);
        }
    }
    all.close(cluster);
    all
}

impl Clusters {
    fn close(&mut self, (gone, come): (Vec<Segment>, Vec<Segment>)) {
        match (gone.is_empty(), come.is_empty()) {
            (true, _) => self.come.extend(come),
            (_, true) => self.gone.extend(gone),
            _ => self.swap.push((gone, come)),
        }
    }
}

/// The fewest networks that cover these intervals; neighbours that end within a second of one
/// another for the same reason count as one. Ascending, of one family.
pub(super) fn to_nets(family: Family, segments: Vec<Segment>) -> Vec<(IpNet, Entry)> {
    let mut merged: Vec<Segment> = Vec::with_capacity(segments.len());
    for segment in segments {
        match merged.last_mut() {
            Some(before)
                if before.last.checked_add(1) == Some(segment.first)
                    && about_the_same(&before.entry, &segment.entry) =>
            {
                before.last = segment.last;
            }
            _ => merged.push(segment),
        }
    }
    let mut nets = Vec::with_capacity(merged.len());
    for segment in merged {
        for net in subnets(family, segment.first, segment.last) {
            nets.push((net, segment.entry.clone()));
        }
    }
    nets
}

/// Whether two entries are the same, but for the inexactness of clocks.
pub(super) fn about_the_same(a: &Entry, b: &Entry) -> bool {
    let close = match (a.end, b.end) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.saturating_duration_since(b) + b.saturating_duration_since(a)
                <= Duration::from_secs(1)
        }
        _ => false,
    };
    close && a.reason == b.reason
}

fn subnets(family: Family, first: u128, last: u128) -> Vec<IpNet> {
    use std::net::IpAddr::{V4, V6};
    match (number_address(family, first), number_address(family, last)) {
        (Some(V4(first)), Some(V4(last))) => Ipv4Subnets::new(first, last, 0)
            .map(|net: Ipv4Net| IpNet::V4(net))
            .collect(),
        (Some(V6(first)), Some(V6(last))) => Ipv6Subnets::new(first, last, 0)
            .map(|net: Ipv6Net| IpNet::V6(net))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(base: Instant, end: Option<u64>, reason: &str) -> Entry {
        Entry {
            end: end.map(|secs| base + Duration::from_secs(secs)),
            reason: reason.to_owned(),
        }
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_lived_network_wins_where_they_overlap() {
        let base = Instant::now();
        let mut map = NetMap::new();
        map.insert(net("10.0.0.0/8"), entry(base, Some(100), "wide"));
        map.insert(net("10.1.0.0/16"), entry(base, None, "narrow"));
        map.insert(net("10.2.0.0/16"), entry(base, Some(50), "short"));
        let got: Vec<_> = flatten(&map, net("10.0.0.0/8"), base)
            .into_iter()
            .map(|s| (s.first, s.last, s.entry.reason))
            .collect();
        let expected = [
            (0x0a00_0000, 0x0a00_ffff, "wide".to_owned()),
            (0x0a01_0000, 0x0a01_ffff, "narrow".to_owned()),
            (0x0a02_0000, 0x0aff_ffff, "wide".to_owned()),
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn the_whole_address_space_is_a_segment_too() {
        let base = Instant::now();
        let mut map = NetMap::new();
        map.insert(net("::/0"), entry(base, Some(9), "all"));
        map.insert(net("ffff::/16"), entry(base, None, "top"));
        let got = flatten(&map, net("::/0"), base);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1].last, u128::MAX);
        assert_eq!(to_nets(Family::V6, got).len(), 17);
    }

    #[test]
    fn what_expires_about_now_is_never_deleted_by_halves() {
        let second = Duration::from_secs(1);
        let past = Instant::now();
        let now = past + second;
        let segment = |end: Instant, last| Segment {
            first: 0,
            last,
            entry: Entry {
                end: Some(end),
                reason: String::new(),
            },
        };
        let long = segment(now + 60 * second, 9);
        for (before, after, expected) in [
            (
                segment(now + 30 * second, 5),
                vec![long.clone()],
                Some((1, 1)),
            ),
            (segment(now + second, 5), vec![long.clone()], None),
            (segment(past, 5), vec![long.clone()], None),
            (segment(past, 5), vec![], Some((0, 0))),
            (segment(now + second, 5), vec![], None),
        ] {
            let got = match difference(&[before], &after, now) {
                Difference::Steps(gone, come) => Some((gone.len(), come.len())),
                Difference::Rewrite => None,
            };
            assert_eq!(got, expected);
        }
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        (0u32..64, 24u8..=32).prop_map(|(host, length)| {
            IpNet::from(Ipv4Net::new_assert((0x0a00_0000 + host * 4).into(), length)).trunc()
        })
    }

    /// A kernel's interval set, address by address.
    fn write(kernel: &mut [Option<Entry>], segments: &[Segment], present: bool) {
        for segment in segments {
            for address in segment.first..=segment.last {
                let slot = &mut kernel[usize::try_from(address - 0x0a00_0000).unwrap()];
                assert_eq!(slot.is_none(), present, "an overlap or a hole");
                *slot = present.then(|| segment.entry.clone());
            }
        }
    }

    proptest! {
        #[test]
        fn writing_differences_equals_a_list_per_address(
            changes in prop::collection::vec((any_net(), any::<bool>(), prop::option::of(100u64..110)), 1..30),
        ) {
            let now = Instant::now();
            let mut map: NetMap<Entry> = NetMap::new();
            let mut kernel: Vec<Option<Entry>> = vec![None; 512];
            for (net, put, end) in changes {
                let window = window(&map, net);
                let before = flatten(&map, window, now);
                if put {
                    map.insert(net, entry(now, end, ""));
                } else {
                    map.remove(net);
                }
                let after = flatten(&map, window, now);
                let Difference::Steps(gone, come) = difference(&before, &after, now) else {
                    panic!("nothing expires soon");
                };
                write(&mut kernel, &gone, false);
                write(&mut kernel, &come, true);
                for (offset, slot) in (0u32..).zip(&kernel) {
                    let address = IpNet::from(std::net::IpAddr::from(
                        (0x0a00_0000 + offset).to_be_bytes(),
                    ));
                    let longest = map
                        .covering(address)
                        .map(|(_, entry)| entry.end)
                        .max_by_key(|end| (end.is_none(), *end));
                    prop_assert_eq!(slot.as_ref().map(|entry| entry.end), longest);
                }
            }
            let all = flatten_sorted(map.iter());
            let mut covered = vec![false; 512];
            for (net, _) in to_nets(Family::V4, all) {
                let (first, last) = net_range(net);
                for address in first..=last {
                    covered[usize::try_from(address - 0x0a00_0000).unwrap()] = true;
                }
            }
            let held: Vec<_> = kernel.iter().map(Option::is_some).collect();
            prop_assert_eq!(covered, held);
        }
    }
}
