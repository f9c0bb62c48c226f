//! Knocks with time-based sequences: which of them count at a moment, and for whom. The matcher
//! knows them as sequences like others for as long as they count; one that is complete counts for
//! the first address that knocked it, and for no other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{KnockName, KnockPort};
use crate::policy::{Knock, Policy, TimeBased};
use crate::totp::{Family, Secret, Used, counting};

/// All knocks with time-based sequences.
#[derive(Debug, Clone, Default)]
pub struct Timed {
    doors: BTreeMap<KnockName, Door>,
    step: u64,
}

#[derive(Debug, Clone)]
struct Door {
    what: TimeBased,
    /// Without one nobody can knock.
    secret: Option<Secret>,
    sequences: Vec<Sequence>,
    used: Used,
}

/// A sequence that counts.
#[derive(Debug, Clone)]
struct Sequence {
    step: u64,
    family: Family,
    ports: Vec<KnockPort>,
}

/// For whom a complete sequence counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Whose {
    /// For whoever knocks it: it is none of these.
    Anybodys,
    /// For whoever has just knocked it; this is used up now.
    Theirs(Used),
    /// For that address, which knocked it before.
    Anothers(IpAddr),
    /// For nobody who comes over this family, or its time has passed.
    Nobodys,
}

impl Timed {
    /// The time-based knocks of the policy, each with its secret and what was used of it. None of
    /// their sequences counts before [`Timed::turn`].
    pub fn new(
        policy: &Policy,
        mut known: impl FnMut(&Knock, &TimeBased) -> (Option<Secret>, Used),
    ) -> Self {
        let doors = policy.knocks.iter().filter_map(|knock| {
            let what = knock.time_based()?;
            let (secret, used) = known(knock, what);
            let door = Door {
                what: what.clone(),
                secret,
                sequences: Vec::new(),
                used,
            };
            Some((knock.name.clone(), door))
        });
        Self {
            doors: doors.collect(),
            step: 0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.doors.is_empty()
    }

    /// Has those count that count during this step; whether they are others than before.
    pub fn turn(&mut self, step: u64) -> bool {
        let is_new = self.step != step;
        self.step = step;
        let mut changed = false;
        for door in self.doors.values_mut() {
            if let Some(secret) = door.secret.as_ref()
                && (is_new || door.sequences.is_empty())
            {
                door.sequences = sequences(&door.what, secret, step);
                changed = true;
            }
        }
        changed
    }

    /// The policy with a knock of the same name for each sequence that counts, in the place of the
    /// time-based ones. A knock that has none stays, and nobody can knock it.
    pub fn filled_in(&self, policy: &Policy) -> Policy {
        let mut filled = policy.clone();
        filled.knocks.clear();
        for knock in &policy.knocks {
            let door = self.doors.get(&knock.name);
            let sequences = door.map_or(&[][..], |door| &door.sequences);
            if sequences.is_empty() {
                filled.knocks.push(knock.clone());
            }
            filled.knocks.extend(sequences.iter().map(|one| Knock {
                sequence: one.ports.clone(),
                ..knock.clone()
            }));
        }
        filled
    }

    /// Whether a sequence may have this port: which do is told to nobody.
    pub fn may_have(&self, port: KnockPort) -> bool {
        let mut doors = self.doors.values();
        doors.any(|door| door.what.shape.ports().contains(port))
    }

    /// Somebody has completed the sequence of these ports: for whom it counts. It is theirs if it
    /// was nobody's.
    pub fn complete(&mut self, knock: &KnockName, ports: &[KnockPort], source: IpAddr) -> Whose {
        let Some(door) = self.doors.get_mut(knock) else {
            return Whose::Anybodys;
        };
        let family = Family::of(source);
        let mut found = door.sequences.iter();
        let Some(found) = found.find(|one| one.family == family && one.ports == ports) else {
            return Whose::Nobodys;
        };
        match door.used.take(found.step, source, self.step) {
            Ok(()) => Whose::Theirs(door.used.clone()),
            Err(owner) => Whose::Anothers(owner),
        }
    }

    /// What was used of which knock's sequences.
    pub fn into_used(self) -> impl Iterator<Item = (KnockName, Used)> {
        self.doors.into_iter().map(|(name, door)| (name, door.used))
    }
}

fn sequences(what: &TimeBased, secret: &Secret, step: u64) -> Vec<Sequence> {
    let each = counting(step).flat_map(|step| Family::ALL.map(|family| (step, family)));
    let sequences = each.map(|(step, family)| Sequence {
        step,
        family,
        ports: what.shape.sequence(secret, step, family),
    });
    sequences.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{gate, knock, policy};
    use crate::policy::{Changing, KnockAction};
    use crate::totp::Shape;

    fn secret() -> Secret {
        Secret::new(b"12345678901234567890".to_vec()).unwrap()
    }

    fn shape() -> Shape {
        Shape::new("20000-40000".parse().unwrap(), 4).unwrap()
    }

    fn policy_with() -> Policy {
        let open = knock("open", "1228 1227", KnockAction::Accept);
        let travel = Knock {
            changing: Some(Changing::TimeBased(TimeBased {
                file: "secret".into(),
                shape: shape(),
            })),
            ..knock("travel", "", KnockAction::Accept)
        };
        policy(vec![gate("ssh")], vec![travel, open])
    }

    fn timed(known: Option<&Secret>) -> Timed {
        Timed::new(&policy_with(), |_, _| (known.cloned(), Used::default()))
    }

    fn name(text: &str) -> KnockName {
        KnockName::new(text).unwrap()
    }

    #[test]
    fn three_steps_count_for_each_family_in_the_place_of_the_knock() {
        let mut timed = timed(Some(&secret()));
        assert!(timed.turn(100), "the first time");
        assert!(!timed.turn(100));
        assert!(timed.turn(101));
        let knocks = timed.filled_in(&policy_with()).knocks;
        let names: Vec<&str> = knocks.iter().map(|knock| knock.name.as_str()).collect();
        assert_eq!(names, [&["travel"; 6][..], &["open"]].concat());
        for step in 100..=102 {
            for family in Family::ALL {
                let ports = shape().sequence(&secret(), step, family);
                let found = knocks.iter().filter(|knock| knock.sequence == ports);
                assert_eq!(found.count(), 1, "{step} {family:?}");
            }
        }
    }

    #[test]
    fn without_a_secret_there_is_nothing_to_knock() {
        let mut timed = timed(None);
        assert!(!timed.turn(100));
        assert_eq!(timed.filled_in(&policy_with()), policy_with());
        let [a, _, _] = people();
        assert_eq!(timed.complete(&name("travel"), &[], a), Whose::Nobodys);
    }

    fn people() -> [IpAddr; 3] {
        ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_sequence_counts_once_in_its_time_for_its_family() {
        let mut timed = timed(Some(&secret()));
        timed.turn(100);
        let [a, b, six] = people();
        let ports = |step, family| shape().sequence(&secret(), step, family);
        let mut tried =
            |step, family, who| timed.complete(&name("travel"), &ports(step, family), who);
        assert!(matches!(tried(100, Family::V4, a), Whose::Theirs(_)));
        assert_eq!(tried(100, Family::V4, b), Whose::Anothers(a));
        assert!(matches!(tried(100, Family::V4, a), Whose::Theirs(_)));
        assert!(matches!(tried(101, Family::V4, b), Whose::Theirs(_)));
        assert_eq!(tried(100, Family::V4, six), Whose::Nobodys, "not over IPv6");
        assert!(matches!(tried(100, Family::V6, six), Whose::Theirs(_)));
        for step in [98, 102] {
            assert_eq!(tried(step, Family::V4, a), Whose::Nobodys, "{step}");
        }
        assert_eq!(
            timed.complete(&name("open"), &[], a),
            Whose::Anybodys,
            "another knock"
        );
        // What is used is told, to be remembered.
        let used: Vec<_> = timed.into_used().collect();
        let [(_, used)] = used.as_slice() else {
            panic!("{used:?}");
        };
        assert_eq!(
            used.to_string(),
            "100=192.0.2.1 100=2001:db8::1 101=192.0.2.2"
        );
    }

    #[test]
    fn a_port_that_may_count_is_a_secret() {
        let timed = timed(Some(&secret()));
        assert!(timed.may_have(KnockPort::tcp(20_000)) && timed.may_have(KnockPort::tcp(40_000)));
        assert!(!timed.may_have(KnockPort::tcp(1228)) && !timed.may_have(KnockPort::udp(20_000)));
    }
}
