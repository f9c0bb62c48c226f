/// A set of ports, a bit each.
#[derive(Debug, Clone)]
pub(super) struct Ports(Box<[u64; 1024]>);

impl Default for Ports {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Ports {
    pub(super) fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] >> (port % 64) & 1 == 1
    }
}

impl FromIterator<u16> for Ports {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::default();
        for port in ports {
            set.0[usize::from(port / 64)] |= 1 << (port % 64);
        }
        set
    }
}

/// The places of ports in their ascending order: found as fast for one port as for all of them.
#[derive(Debug)]
pub(super) struct Ranks {
    ports: Ports,
    /// For each word of the set, how many ports there are in the words before it.
    before: Box<[u16; 1024]>,
}

impl Ranks {
    pub(super) fn of(&self, port: u16) -> Option<usize> {
        if !self.ports.contains(port) {
            return None;
        }
        let word = usize::from(port / 64);
        let lower = self.ports.0[word] & ((1 << (port % 64)) - 1);
        Some(usize::from(self.before[word]) + lower.count_ones() as usize)
    }
}

impl FromIterator<u16> for Ranks {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let ports: Ports = ports.into_iter().collect();
        let mut before = Box::new([0; 1024]);
        let mut count = 0_u16;
        for (place, word) in ports.0.iter().enumerate() {
            before[place] = count;
            // All 65,536 ports are counted before a word that there is not.
            #[allow(clippy::cast_possible_truncation)] // at most 64
            let here = word.count_ones() as u16;
            count = count.wrapping_add(here);
        }
        Self { ports, before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_place_and_no_other_has_one() {
        let ports = [1, 2, 63, 64, 65, 127, 128, 1227, 1228, 32767, 65534, 65535];
        let ranks: Ranks = ports.into_iter().rev().collect();
        for port in 0..=u16::MAX {
            assert_eq!(ranks.of(port), ports.iter().position(|&one| one == port));
        }
        let all: Ranks = (0..=u16::MAX).collect();
        for port in 0..=u16::MAX {
            assert_eq!(all.of(port), Some(usize::from(port)));
        }
    }
}
