use std::net::IpAddr;
use std::time::Duration;

use super::Matcher;
use super::record::Attempt;
use crate::model::{KnockName, Time};

/// An attempt under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// At which sequence.
    pub knock: KnockName,
    /// How many ports of it are matched; at least 1.
    pub matched: usize,
    /// How many it has.
    pub of: usize,
    /// The time in which the rest must come.
    pub left: Duration,
}

/// A knock that a source may not begin for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub knock: KnockName,
    /// For how long.
    pub left: Duration,
}

impl Matcher {
    /// How far a source is, in no particular order.
    pub fn progress(&self, source: IpAddr, at: Time) -> Vec<Progress> {
        let attempts = self.table.attempts(&self.table.look_up(source));
        let progress = |attempt: Attempt| {
            let sequence = &self.sequences[attempt.sequence];
            let left = sequence.timeout.checked_sub(at.since(attempt.started))?;
            Some(Progress {
                knock: sequence.name.clone(),
                matched: usize::from(attempt.stage),
                of: sequence.ports.len(),
                left,
            })
        };
        let is_under_way = |attempt: &Attempt| !(attempt.is_done() || attempt.is_barred());
        let under_way = attempts.into_iter().filter(is_under_way);
        under_way.filter_map(progress).collect()
    }

    /// Whether a source sweeps ports, so that its knocks open nothing.
    pub fn is_sweeping(&self, source: IpAddr, at: Time) -> bool {
        let sender = self.table.look_up(source);
        self.table.is_scanner(&sender, &self.guard, at)
    }

    /// The knocks that a source may not begin now because of strange ports that are near them, in the
    /// policy's order.
    pub fn kept_from(&self, source: IpAddr, at: Time) -> Vec<Kept> {
        let sender = self.table.look_up(source);
        let own = self
            .sequences
            .ids()
            .filter(|&id| !self.sequences[id].is_drop);
        let kept = own.filter_map(|id| {
            let left = self.kept_for(id, &sender, at)?;
            let knock = self.sequences[id].name.clone();
            Some(Kept { knock, left })
        });
        kept.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{address, appliance, packet};

    #[test]
    fn an_attempt_shows_how_far_it_is_and_how_long_it_still_may_take() {
        let mut matcher = Matcher::new(&appliance());
        let (source, other) = ("198.51.100.7", "198.51.100.8");
        let _ = matcher.handle(&packet(source, "1228", 1), true, Time::from_secs(10));
        let at = |secs| matcher.progress(address(source), Time::from_secs(secs));
        let [progress] = &at(14)[..] else {
            panic!("{:?}", at(14));
        };
        assert_eq!(progress.knock.as_str(), "opencloseSSH");
        assert_eq!((progress.matched, progress.of), (1, 2));
        assert_eq!(progress.left, Duration::from_secs(11));
        assert_eq!(at(25).len(), 1, "to the end");
        assert_eq!(at(26), []);
        assert_eq!(matcher.progress(address(other), Time::from_secs(14)), []);
        let _ = matcher.handle(&packet(source, "1227", 2), true, Time::from_secs(15));
        let after = matcher.progress(address(source), Time::from_secs(15));
        assert_eq!(after, [], "it is complete");
    }

    #[test]
    fn a_port_beside_the_knock_is_told_for_as_long_as_it_counts() {
        let mut matcher = Matcher::new(&appliance());
        let source = "198.51.100.7";
        let kept = |matcher: &Matcher, secs| {
            let kept = matcher.kept_from(address(source), Time::from_secs(secs));
            kept.into_iter()
                .map(|it| (it.knock.to_string(), it.left.as_secs()))
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&matcher, 10), []);
        let _ = matcher.handle(&packet(source, "1229", 1), true, Time::from_secs(10));
        assert_eq!(kept(&matcher, 12), [("opencloseSSH".to_owned(), 13)]);
        assert_eq!(kept(&matcher, 24).len(), 1);
        assert_eq!(kept(&matcher, 26), []);
        // Not for longer because of one that was touched before.
        let _ = matcher.handle(&packet(source, "1300", 2), true, Time::from_secs(27));
        assert_eq!(kept(&matcher, 27), []);
    }

    #[test]
    fn a_sweeper_is_told_until_it_has_been_quiet() {
        let mut matcher = Matcher::new(&appliance());
        let source = "198.51.100.7";
        for (unique, port) in (1u32..).zip(["1", "2", "3", "4", "5"]) {
            assert!(!matcher.is_sweeping(address(source), Time::from_secs(10)));
            let _ = matcher.handle(&packet(source, port, unique), true, Time::from_secs(10));
        }
        assert!(matcher.is_sweeping(address(source), Time::from_secs(85)));
        assert!(!matcher.is_sweeping(address(source), Time::from_secs(86)));
    }
}
