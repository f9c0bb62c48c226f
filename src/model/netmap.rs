use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks and single addresses with a value each, asked by address or by overlap.
///
/// A look-up tries each prefix length that occurs, so it costs a few steps however many entries
/// there are.
#[derive(Debug, Clone)]
pub struct NetMap<V> {
    entries: BTreeMap<Key, V>,
    /// How many entries there are of each prefix length; IPv6 counts from 33.
    lengths: Box<[u32; 33 + 129]>,
}

/// Ordered by family, then address, then length: what a network contains follows it directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    v6: bool,
    address: u128,
    length: u8,
}

impl Key {
    fn of(net: IpNet) -> Self {
        let net = super::canonical_net(net);
        Self {
            v6: matches!(net, IpNet::V6(_)),
            address: bits(net.addr()),
            length: net.prefix_len(),
        }
    }

    fn net(self) -> IpNet {
        if self.v6 {
            Ipv6Net::new_assert(self.address.into(), self.length).into()
        } else {
            // An IPv4 key was made from 32 bits.
            #[allow(clippy::cast_possible_truncation)]
            let address = self.address as u32;
            Ipv4Net::new_assert(address.into(), self.length).into()
        }
    }

    fn slot(self) -> usize {
        usize::from(self.length) + if self.v6 { 33 } else { 0 }
    }

    fn width(self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn shortened(self, length: u8) -> Self {
        let host_bits = u32::from(self.width() - length);
        let address = self.address.checked_shr(host_bits).unwrap_or(0);
        Self {
            address: address.checked_shl(host_bits).unwrap_or(0),
            length,
            ..self
        }
    }

    fn last_address(self) -> u128 {
        let host_bits = u32::from(self.width() - self.length);
        self.address
            | 1u128
                .checked_shl(host_bits)
                .map_or(u128::MAX, |bit| bit - 1)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl<V> Default for NetMap<V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            lengths: Box::new([0; 162]),
        }
    }
}

impl<V> NetMap<V> {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets the value of exactly this network and returns the one it had.
    pub fn insert(&mut self, net: IpNet, value: V) -> Option<V> {
        let key = Key::of(net);
        let old = self.entries.insert(key, value);
        if old.is_none() {
            self.lengths[key.slot()] += 1;
        }
        old
    }

    /// Removes exactly this network.
    pub fn remove(&mut self, net: IpNet) -> Option<V> {
        let key = Key::of(net);
        let old = self.entries.remove(&key);
        if old.is_some() {
            self.lengths[key.slot()] -= 1;
        }
        old
    }

    /// The value of exactly this network.
    pub fn get(&self, net: IpNet) -> Option<&V> {
        self.entries.get(&Key::of(net))
    }

    /// The value of exactly this network, to be changed.
    pub fn get_mut(&mut self, net: IpNet) -> Option<&mut V> {
        self.entries.get_mut(&Key::of(net))
    }

    /// The entries that contain the whole of `net`, the narrowest first.
    pub fn covering(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
        let key = Key::of(net);
        // Most maps are empty most of the time, and are asked for each of many networks.
        let longest = (!self.is_empty()).then_some(key.length);
        let lengths = longest.into_iter().flat_map(|longest| (0..=longest).rev());
        lengths.filter_map(move |length| {
            let wider = key.shortened(length);
            if self.lengths[wider.slot()] == 0 {
                return None;
            }
            self.entries.get(&wider).map(|value| (wider.net(), value))
        })
    }

    /// The narrowest entry that contains the whole of `net`.
    pub fn lookup(&self, net: IpNet) -> Option<(IpNet, &V)> {
        self.covering(net).next()
    }

    /// The entries that lie within `net`, itself included.
    pub fn within(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
        let key = Key::of(net);
        let last = Key {
            address: key.last_address(),
            length: u8::MAX,
            ..key
        };
        self.entries
            .range(key..=last)
            .map(|(key, value)| (key.net(), value))
    }

    /// An entry that has an address in common with `net`.
    pub fn overlapping(&self, net: IpNet) -> Option<(IpNet, &V)> {
        self.lookup(net).or_else(|| self.within(net).next())
    }

    /// All entries, IPv4 first, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        self.entries.iter().map(|(key, value)| (key.net(), value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_narrowest_entry_answers() {
        let mut map = NetMap::new();
        map.insert(net("10.0.0.0/8"), 8);
        map.insert(net("10.1.0.0/16"), 16);
        map.insert(net("10.1.2.3/32"), 32);
        map.insert(net("::/0"), 0);
        assert_eq!(map.lookup(net("10.1.2.3/32")).unwrap().1, &32);
        assert_eq!(map.lookup(net("10.1.2.4/32")).unwrap().1, &16);
        assert_eq!(map.lookup(net("10.1.0.0/16")).unwrap().1, &16);
        assert_eq!(map.lookup(net("2001:db8::1/128")).unwrap().1, &0);
        assert!(map.lookup(net("192.0.2.1/32")).is_none());
        assert_eq!(map.within(net("10.1.0.0/16")).count(), 2);
        assert_eq!(map.remove(net("10.1.0.0/16")), Some(16));
        assert_eq!(map.lookup(net("10.1.2.4/32")).unwrap().1, &8);
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        // Few address bits, so that networks do overlap.
        let v4 = (0u32..16, 26u8..=32).prop_map(|(a, l)| {
            IpNet::from(Ipv4Net::new_assert((0x0a00_0000 + a * 4).into(), l)).trunc()
        });
        let v6 = (0u128..16, 120u8..=128).prop_map(|(a, l)| {
            IpNet::from(Ipv6Net::new_assert(((0x2001 << 112) + a).into(), l)).trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn answers_as_a_plain_list_would(nets in prop::collection::vec(any_net(), 0..40), asked in any_net()) {
            let mut map = NetMap::new();
            for &n in &nets {
                map.insert(n, ());
            }
            let covering = nets.iter().filter(|n| n.contains(&asked)).max_by_key(|n| n.prefix_len());
            prop_assert_eq!(map.lookup(asked).map(|(n, ())| n), covering.copied());
            let overlaps = nets.iter().any(|n| n.contains(&asked) || asked.contains(n));
            prop_assert_eq!(map.overlapping(asked).is_some(), overlaps);
            let mut within: Vec<_> = nets.iter().filter(|n| asked.contains(*n)).copied().collect();
            within.sort_unstable();
            within.dedup();
            let mut got: Vec<_> = map.within(asked).map(|(n, ())| n).collect();
            got.sort_unstable();
            prop_assert_eq!(got, within);
        }
    }
}
