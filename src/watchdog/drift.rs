//! When to compare the kernel's rules with what they should be, and when to stop fighting over
//! them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Time;

/// From the news that something has changed to a look at it.
///
/// Changes come in bursts: whoever reloads a firewall writes thousands of rules, in one transaction
/// or in many. One look is to be enough for a burst, and looking must never take more than a tenth
/// of the time; but a look must not be put off beyond what was promised.
#[derive(Debug)]
pub struct Pace {
    quiet: Duration,
    most: Duration,
    /// When the first news of a burst came, and the last.
    heard: Option<(Time, Time)>,
    /// Not before that.
    next: Time,
    begun: Time,
}

/// The longest pause after a look that took its time.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The shortest one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

impl Pace {
    /// Waits until nothing was heard for `quiet`, but no longer than `most`; 0 looks at once.
    pub fn new(quiet: Duration, most: Duration) -> Self {
        Self {
            quiet,
            most,
            heard: None,
            next: Time(0),
            begun: Time(0),
        }
    }

    /// Something has changed.
    pub fn hear(&mut self, now: Time) {
        let first = self.heard.map_or(now, |(first, _)| first);
        self.heard = Some((first, now));
    }

    /// When to look; `None` if there is nothing to look at.
    pub fn due(&self) -> Option<Time> {
        let (first, last) = self.heard?;
        let calm = last.after(self.quiet).min(first.after(self.most));
        Some(calm.max(self.next))
    }

    /// A look begins, at what was heard until now.
    pub fn begin(&mut self, now: Time) {
        self.heard = None;
        self.begun = now;
    }

    /// It is over, with all that it entailed.
    pub fn end(&mut self, now: Time) {
        let took = now.since(self.begun);
        let pause = (took * 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.next = now.after(pause);
    }

    /// It is over, and something was repaired: whoever takes our rules out one by one has the next
    /// one put back as soon. How often that may be is for [`Repairs`] to say.
    pub fn end_with_repair(&mut self, now: Time) {
        self.next = now.after(SHORTEST_PAUSE);
    }
}

/// So many repairs within `WITHIN` are a fight.
const MANY: usize = 3;
/// How long repairs count, and how long it must be quiet before a fight is over.
const WITHIN: Duration = Duration::from_secs(60);
/// How long one waits for the next repair in a fight. Meanwhile what was removed does not guard
/// anything, so it is not longer than what two programs can insist on without harm.
const TRUCE: Duration = Duration::from_secs(10);

/// Counts repairs, and holds them back when somebody undoes them again and again: two programs
/// that both insist would do nothing else.
#[derive(Debug, Default)]
pub struct Repairs {
    total: u64,
    last: Option<(Time, String)>,
    /// The latest `MANY`.
    recent: VecDeque<Time>,
    /// In a fight: when there was something to be repaired last.
    fight: Option<Time>,
    /// There is damage that is not to be repaired yet.
    stands: bool,
}

/// Whether to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Leave {
    /// Now.
    Now,
    /// Then, if it is still needed.
    NotBefore(Time),
}

impl Repairs {
    /// There is damage.
    pub fn damaged(&mut self, now: Time) -> Leave {
        if self.fight.is_some() {
            self.fight = Some(now);
        }
        match self.held_back(now) {
            Some(at) => {
                self.stands = true;
                Leave::NotBefore(at)
            }
            None => Leave::Now,
        }
    }

    /// Until when nothing is to be repaired, whatever is damaged.
    pub fn held_back(&self, now: Time) -> Option<Time> {
        let last = self.fight.and(self.recent.back())?;
        let at = last.after(TRUCE);
        (now < at).then_some(at)
    }

    /// It is repaired: what was missing.
    pub fn done(&mut self, what: String, now: Time) {
        self.total += 1;
        self.last = Some((now, what));
        self.stands = false;
        self.recent.push_back(now);
        if self.recent.len() > MANY {
            self.recent.pop_front();
        }
        let many = self.recent.len() == MANY;
        let first = self.recent.front().copied().unwrap_or(now);
        if self.fight.is_some() || many && now.since(first) <= WITHIN {
            self.fight = Some(now);
        }
    }

    /// Whether damage that was left alone may be repaired by now, and has to be looked at once
    /// more. Said once: whoever then fails tries again at a pace of their own.
    pub fn may_go_on(&mut self, now: Time) -> bool {
        let may = self.stands && self.held_back(now).is_none();
        if may {
            self.stands = false;
            self.fight = self.fight.and(Some(now));
        }
        may
    }

    /// Nothing is missing.
    pub fn fine(&mut self) {
        self.stands = false;
    }

    /// Time passes; whether a fight is over with that.
    pub fn pass(&mut self, now: Time) -> bool {
        let is_over = self.due().is_some_and(|due| due <= now) && !self.stands;
        if is_over {
            self.fight = None;
            self.recent.clear();
        }
        is_over
    }

    /// When to look again: at damage that stands, or whether the fight is over.
    pub fn due(&self) -> Option<Time> {
        let quiet = self.fight?.after(WITHIN);
        let again = self.recent.back().map(|last| last.after(TRUCE));
        Some(again.filter(|_| self.stands).unwrap_or(quiet))
    }

    /// Whether somebody undoes what is repaired.
    pub fn is_fight(&self) -> bool {
        self.fight.is_some()
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When the last one was, and what was missing.
    pub fn last(&self) -> Option<(Time, &str)> {
        let (at, what) = self.last.as_ref()?;
        Some((*at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn without_patience_a_change_is_looked_at_at_once_and_the_next_after_a_pause() {
        let mut pace = Pace::new(ms(0), ms(0));
        assert_eq!(pace.due(), None);
        pace.hear(at(1_000));
        assert_eq!(pace.due(), Some(at(1_000)));
        pace.begin(at(1_000));
        assert_eq!(pace.due(), None);
        pace.hear(at(1_001));
        pace.end(at(1_002));
        assert_eq!(pace.due(), Some(at(1_022)), "ten times as long as it took");
    }

    #[test]
    fn after_a_repair_the_next_look_is_not_put_off() {
        let mut pace = Pace::new(ms(60), ms(300));
        pace.hear(at(1_000));
        pace.begin(at(1_060));
        pace.hear(at(1_100));
        pace.end_with_repair(at(1_200));
        assert_eq!(pace.due(), Some(at(1_205)));
    }

    #[test]
    fn a_burst_is_one_look_and_an_endless_one_is_looked_at_all_the_same() {
        let mut pace = Pace::new(ms(60), ms(300));
        for millis in (1_000..1_200).step_by(10) {
            pace.hear(at(millis));
        }
        assert_eq!(pace.due(), Some(at(1_250)));
        for millis in (1_200..2_000).step_by(10) {
            pace.hear(at(millis));
        }
        assert_eq!(pace.due(), Some(at(1_300)));
    }

    #[test]
    fn whatever_a_look_takes_the_next_is_not_put_off_beyond_a_second() {
        let mut pace = Pace::new(ms(60), ms(300));
        pace.hear(at(0));
        pace.begin(at(100));
        pace.hear(at(101));
        pace.end(at(900));
        assert_eq!(pace.due(), Some(at(1_300)));
    }

    /// Damage at these seconds, with a look at each and whenever one is due; when it was repaired.
    fn repaired(damage: &[u64], until: u64) -> (Vec<u64>, Repairs) {
        let mut repairs = Repairs::default();
        let (mut is_damaged, mut done) = (false, Vec::new());
        for second in 0..=until {
            is_damaged |= damage.contains(&second);
            let now = at(second * 1_000);
            if is_damaged && repairs.damaged(now) == Leave::Now {
                repairs.done(format!("at {second}"), now);
                done.push(second);
                is_damaged = false;
            }
            let _ = repairs.pass(now);
        }
        (done, repairs)
    }

    #[test]
    fn repairs_are_made_at_once_until_they_are_a_fight() {
        let cases: [(&[u64], &[u64], bool); 9] = [
            (&[], &[], false),
            (&[5], &[5], false),
            (&[5, 6], &[5, 6], false),
            (&[5, 6, 7], &[5, 6, 7], true),
            (&[5, 6, 7, 8], &[5, 6, 7, 17], true),
            (&[5, 6, 7, 8, 18], &[5, 6, 7, 17, 27], true),
            (&[5, 6, 7, 30], &[5, 6, 7, 30], true),
            (&[5, 35, 65], &[5, 35, 65], true),
            (&[5, 35, 66], &[5, 35, 66], false),
        ];
        for (damage, expected, is_fight) in cases {
            let until = expected.last().copied().unwrap_or(0);
            let (done, repairs) = repaired(damage, until);
            assert_eq!(done, expected, "{damage:?}");
            assert_eq!(repairs.is_fight(), is_fight, "{damage:?}");
            assert_eq!(repairs.total(), expected.len() as u64);
            let last = repairs.last().map(|(_, what)| what.to_owned());
            assert_eq!(last, expected.last().map(|second| format!("at {second}")));
        }
    }

    #[test]
    fn a_fight_is_over_after_a_quiet_minute_and_begins_anew_after_three_more() {
        let (_, repairs) = repaired(&[1, 2, 3], 62);
        assert!(repairs.is_fight());
        assert_eq!(repairs.due(), Some(at(63_000)));
        let (_, repairs) = repaired(&[1, 2, 3], 63);
        assert!(!repairs.is_fight());
        assert_eq!(repairs.due(), None);
        let (done, repairs) = repaired(&[1, 2, 3, 64, 65, 66, 67], 130);
        assert_eq!(done, [1, 2, 3, 64, 65, 66, 76]);
        assert!(repairs.is_fight());
    }

    #[test]
    fn never_more_than_three_and_one_in_ten_seconds_however_fast_it_is_damaged() {
        let damage: Vec<u64> = (0..600).collect();
        let (done, _) = repaired(&damage, 600);
        assert!(done.len() <= 3 + 60, "{done:?}");
        assert!(done.windows(2).skip(2).all(|pair| pair[1] - pair[0] >= 10));
    }

    #[test]
    fn what_stands_keeps_the_fight_and_what_mends_itself_does_not() {
        let mut repairs = Repairs::default();
        for second in 0..3 {
            assert_eq!(repairs.damaged(at(second)), Leave::Now);
            repairs.done(String::new(), at(second));
        }
        assert_eq!(repairs.damaged(at(10_000)), Leave::NotBefore(at(10_002)));
        assert_eq!(repairs.due(), Some(at(10_002)));
        assert!(!repairs.pass(at(10_002)), "it has to be repaired first");
        repairs.fine();
        assert_eq!(repairs.due(), Some(at(70_000)));
        assert!(repairs.pass(at(70_000)));
    }

    #[test]
    fn what_stood_is_looked_at_once_more_and_not_again_and_again_where_repairing_it_fails() {
        let mut repairs = Repairs::default();
        for second in 0..3 {
            assert_eq!(repairs.damaged(at(second)), Leave::Now);
            repairs.done(String::new(), at(second));
        }
        assert_eq!(repairs.damaged(at(10_000)), Leave::NotBefore(at(10_002)));
        assert!(!repairs.may_go_on(at(10_001)));
        assert!(repairs.may_go_on(at(10_002)));
        // Neither before the look, nor while it lasts, nor after it has failed.
        assert!(!repairs.may_go_on(at(10_002)));
        assert_eq!(repairs.due(), Some(at(70_002)));
        assert_eq!(repairs.damaged(at(10_100)), Leave::Now);
        assert!(!repairs.may_go_on(at(10_200)));
        assert_eq!(repairs.due(), Some(at(70_100)), "it is still a fight");
    }
}
