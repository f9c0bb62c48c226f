use std::fmt;
use std::time::Duration;

use crate::model::Time;

/// What must show life in a round. The event loop is not among them: it is what asks and what
/// takes the answers, so that nothing shows life without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Packets that were waiting have been looked at.
    Packets,
    /// A question on the control socket has been answered.
    Control,
    /// The kernel's rules have been compared with what was installed, whatever came of it.
    Rules,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Packets => "the capture",
            Part::Control => "the control socket",
            Part::Rules => "the kernel's rules",
        })
    }
}

/// When to ask which part, and whether all have answered.
#[derive(Debug)]
pub struct Rounds {
    every: Duration,
    rules_every: Duration,
    next: Time,
    rules_next: Time,
    /// Parts that this round still waits for.
    missing: Vec<Part>,
}

impl Rounds {
    /// The first round is due at once, and includes the rules.
    pub fn new(every: Duration, rules_every: Duration, now: Time) -> Self {
        Self {
            every,
            rules_every,
            next: now,
            rules_next: now,
            missing: Vec::new(),
        }
    }

    /// When [`Rounds::begin`] is to be called.
    pub fn due(&self) -> Time {
        self.next
    }

    /// Begins a round: the parts to be asked now. A round that is not over goes on instead, and
    /// the parts that it waits for are asked again.
    pub fn begin(&mut self, now: Time) -> Vec<Part> {
        self.next = now.after(self.every);
        if self.missing.is_empty() {
            self.missing.extend([Part::Packets, Part::Control]);
            // Rounds are never quite on time; half of one is no reason to wait for the next.
            if self.rules_next <= now.after(self.every / 2) {
                self.missing.push(Part::Rules);
            }
        }
        self.missing.clone()
    }

    /// A part has shown life; whether that makes the round whole, and a beat is to be given.
    #[must_use]
    pub fn alive(&mut self, part: Part, now: Time) -> bool {
        let Some(at) = self.missing.iter().position(|&missing| missing == part) else {
            return false;
        };
        self.missing.swap_remove(at);
        if part == Part::Rules {
            self.rules_next = now.after(self.rules_every);
        }
        self.missing.is_empty()
    }

    /// The parts that this round still waits for.
    pub fn missing(&self) -> &[Part] {
        &self.missing
    }
}

/// Whether packets are looked at, judged by counters.
#[derive(Debug, Default)]
pub struct Flow {
    /// Had arrived when it was last seen to move.
    arrived: u64,
}

impl Flow {
    /// Whether all that had arrived by the last time has been taken since. Where nothing arrives,
    /// nothing stands still.
    #[must_use]
    pub fn moves(&mut self, arrived: u64, taken: u64) -> bool {
        let moves = taken >= self.arrived;
        if moves {
            self.arrived = arrived;
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(3);
    const RULES: Duration = Duration::from_secs(15);

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn a_beat_is_given_when_every_part_has_shown_life_and_not_before() {
        let mut rounds = Rounds::new(EVERY, RULES, at(10));
        assert_eq!(rounds.due(), at(10));
        assert_eq!(
            rounds.begin(at(10)),
            [Part::Packets, Part::Control, Part::Rules]
        );
        assert!(!rounds.alive(Part::Packets, at(10)));
        assert!(!rounds.alive(Part::Rules, at(10)));
        assert!(rounds.alive(Part::Control, at(10)));
        assert!(
            !rounds.alive(Part::Control, at(10)),
            "one round, one beat, however often a part answers"
        );
    }

    #[test]
    fn time_alone_never_makes_a_beat() {
        let mut rounds = Rounds::new(EVERY, RULES, at(0));
        for second in 0..1000 {
            let asked = rounds.begin(at(second));
            assert_eq!(asked, [Part::Packets, Part::Control, Part::Rules]);
            assert_eq!(rounds.missing(), asked);
        }
    }

    #[test]
    fn an_unfinished_round_asks_again_only_for_what_it_misses() {
        let mut rounds = Rounds::new(EVERY, RULES, at(0));
        rounds.begin(at(0));
        assert!(!rounds.alive(Part::Packets, at(0)));
        assert!(!rounds.alive(Part::Rules, at(0)));
        assert_eq!(rounds.due(), at(3));
        assert_eq!(rounds.begin(at(3)), [Part::Control]);
        assert_eq!(rounds.due(), at(6));
        assert!(rounds.alive(Part::Control, at(4)));
    }

    #[test]
    fn rules_are_asked_at_their_own_pace_though_rounds_come_late() {
        let mut rounds = Rounds::new(EVERY, RULES, at(0));
        let mut asked = Vec::new();
        let mut now = at(0);
        while now < at(61) {
            let parts = rounds.begin(now);
            if parts.contains(&Part::Rules) {
                asked.push(now.0 / 1_000_000_000);
            }
            let beats = parts.iter().filter(|&&part| rounds.alive(part, now));
            assert_eq!(beats.count(), 1);
            now = rounds.due().after(Duration::from_millis(5));
        }
        assert_eq!(asked, [0, 15, 30, 45, 60]);
    }

    #[test]
    fn packets_flow_if_what_was_there_has_been_taken() {
        let mut flow = Flow::default();
        assert!(flow.moves(0, 0));
        assert!(flow.moves(5, 0), "they have only just arrived");
        assert!(flow.moves(5, 5));
        assert!(flow.moves(5, 5), "nothing arrives, nothing stands still");
        assert!(flow.moves(9, 5));
        assert!(!flow.moves(9, 8), "one is left since the last time");
        assert!(!flow.moves(100, 8));
        assert!(flow.moves(100, 9), "that one counts, not those after it");
        assert!(!flow.moves(100, 9));
    }
}
