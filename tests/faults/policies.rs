//! kill -9 at every step of a change of the policy: what is in force afterwards is the one policy or
//! the other as a whole, the file says so, and no gate that is still there has lost anybody.

use std::fs;

use portcullis::lab::LabError;
use serde_json::Value;

use crate::operations::Chance;
use crate::scenarios;
use crate::siege::{Cut, Siege, each_step};
use crate::world::{Tried, backend, long_policy, on_backend};

scenarios![
    at_any_step_of_an_apply_that_adds_a_gate,
    at_any_step_of_an_apply_that_removes_a_gate,
    at_any_step_of_an_apply_for_a_while,
    at_any_step_of_a_confirmation,
    at_any_step_of_a_rollback_of_a_trial,
    at_any_step_of_a_rollback_of_what_was_kept,
];

const WEB: &str = "gates:\n  web: { ports: [80], accept_timeout: 60s, ban_timeout: never }\n";

/// A policy with the gate `web` besides, and one without; which is in force at first.
struct Case {
    siege: Siege,
    texts: [String; 2],
    files: [String; 2],
}

/// How many gates a policy has, less one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Alone,
    Both,
}

use Rules::{Alone, Both};

/// How far apart the steps are where the kernel is told of it.
fn apart() -> usize {
    if backend() == "nftables" { 48 } else { 128 }
}

/// And where there are only files to write.
const OF_A_CONFIRMATION: usize = 6;

impl Case {
    /// With both gates in force, with members.
    fn begin() -> Result<Self, Box<dyn std::error::Error>> {
        let alone = long_policy().replace("action: accept }", "action: accept, gate: ssh }");
        let texts = [
            on_backend(&alone),
            on_backend(&alone.replace("gates:\n", WEB)),
        ];
        assert_ne!(texts[0], texts[1]);
        let mut siege = Siege::with_members(&texts[1])?;
        siege.people_try(&[false, true])?;
        let path = |name: &str| siege.world.lab.dir().join(name);
        let paths = [path("alone.yaml"), path("both.yaml")];
        for (path, text) in paths.iter().zip(&texts) {
            fs::write(path, text)?;
        }
        let files = paths.map(|path| path.to_string_lossy().into_owned());
        let mut case = Self {
            siege,
            texts,
            files,
        };
        case.put_into_web();
        Ok(case)
    }

    #[track_caller]
    fn put_into_web(&mut self) {
        for (verb, address, time) in [
            ("accept", "192.0.2.10", Some(800)),
            ("drop", "2001:db8::15", Some(1_100)),
            ("drop", "203.0.113.9", None),
        ] {
            self.siege.put(verb, "web", address, time);
        }
    }

    fn file(&self, rules: Rules) -> &str {
        &self.files[rules as usize]
    }

    /// Puts a policy into force, whichever is.
    #[track_caller]
    fn apply(&mut self, rules: Rules) {
        let file = self.file(rules).to_owned();
        self.siege.world.expect(0, &["apply", &file, "--force"]);
        match rules {
            Both => self.put_into_web(),
            Alone => self.siege.members.retain(|member| member.gate != "web"),
        }
    }

    /// Which policy is in force after that: one of them, in the file and in the kernel, with all
    /// members.
    #[track_caller]
    fn in_force(&mut self, cut: &Cut) -> Result<Rules, LabError> {
        let told = &cut.told;
        let reply = self.siege.world.ctl(&["-o", "json", "status"])?;
        let status: Value = serde_json::from_str(&reply.stdout).expect("JSON");
        let gates = status["gates"].as_array().map_or(0, Vec::len);
        let rules = if gates == 1 { Alone } else { Both };
        let text = fs::read_to_string(self.siege.world.daemon.policy_path()).expect("the policy");
        let is_said = reply.code == Some(5) && reply.stdout.contains("never confirmed");
        if !is_said {
            assert_eq!(reply.code, Some(0), "{told}: {reply:?}");
            assert_eq!(text, self.texts[rules as usize], "{told}");
        }
        if rules == Alone {
            self.siege.members.retain(|member| member.gate != "web");
            let (held, ..) = self.siege.held();
            let is_left = held.iter().any(|member| member.gate.as_str() == "web");
            assert!(!is_left, "{held:?} {told}");
        }
        self.siege.holds(told);
        if is_said {
            // In the midst of a confirmation: the file is the new one already, what is in force is
            // not, and that is said.
            assert_eq!(
                (rules, &text),
                (Both, &self.texts[Alone as usize]),
                "{told}"
            );
            assert!(!cut.is_done(), "{told}");
            self.apply(rules);
        }
        Ok(rules)
    }

    /// Every so many steps: `first` brings about what is there before `words`, and what is in force
    /// afterwards has to be right, too.
    fn each(
        mut self,
        what: &str,
        apart: usize,
        mut first: impl FnMut(&mut Self),
        words: &[&str],
        is_right: impl Fn(Rules, &Cut) -> bool,
    ) -> Tried {
        let mut chance = Chance::new(Chance::seed(what));
        let deaths = each_step(&mut chance, apart, |calls, step| {
            first(&mut self);
            let cut = self.siege.cut_short(words, calls, step)?;
            let rules = self.in_force(&cut)?;
            assert!(is_right(rules, &cut), "{rules:?} {}", cut.told);
            Ok(cut.died)
        })?;
        assert!(deaths > 0, "it never died");
        self.siege.say(what, deaths)
    }

    fn is_in_force(&self, rules: Rules) -> bool {
        let has_web = self.siege.members.iter().any(|member| member.gate == "web");
        has_web == (rules == Both)
    }
}

/// What was answered with "done" is done.
fn done_is(wanted: Rules) -> impl Fn(Rules, &Cut) -> bool {
    move |rules, cut| rules == wanted || !cut.is_done()
}

fn at_any_step_of_an_apply_that_adds_a_gate() -> Tried {
    let case = Case::begin()?;
    let file = case.file(Both).to_owned();
    let first = |case: &mut Case| case.apply(Alone);
    let words = ["apply", &file];
    case.each(
        "an apply that adds a gate",
        apart(),
        first,
        &words,
        done_is(Both),
    )
}

fn at_any_step_of_an_apply_that_removes_a_gate() -> Tried {
    let case = Case::begin()?;
    let file = case.file(Alone).to_owned();
    let first = |case: &mut Case| {
        if !case.is_in_force(Both) {
            case.apply(Both);
        }
    };
    let words = ["apply", &file];
    case.each(
        "an apply that removes a gate",
        apart(),
        first,
        &words,
        done_is(Alone),
    )
}

/// Nobody has confirmed it: after a death it is over, however far it had come.
fn at_any_step_of_an_apply_for_a_while() -> Tried {
    let case = Case::begin()?;
    let file = case.file(Alone).to_owned();
    let words = ["apply", &file, "--confirm", "60s"];
    let over = |rules: Rules, _: &Cut| rules == Both;
    case.each("an apply for a while", apart(), |_| {}, &words, over)
}

fn tried_out(case: &mut Case) {
    if !case.is_in_force(Both) {
        case.apply(Both);
    }
    let file = case.file(Alone).to_owned();
    let words = ["apply", &file, "--confirm", "60s"];
    case.siege.world.expect(0, &words);
}

fn at_any_step_of_a_confirmation() -> Tried {
    let case = Case::begin()?;
    case.each(
        "a confirmation",
        OF_A_CONFIRMATION,
        tried_out,
        &["confirm"],
        done_is(Alone),
    )
}

fn at_any_step_of_a_rollback_of_a_trial() -> Tried {
    let case = Case::begin()?;
    let over = |rules: Rules, _: &Cut| rules == Both;
    case.each(
        "a rollback of a trial",
        apart(),
        tried_out,
        &["rollback"],
        over,
    )
}

fn at_any_step_of_a_rollback_of_what_was_kept() -> Tried {
    let case = Case::begin()?;
    let first = |case: &mut Case| {
        case.apply(Alone);
        case.apply(Both);
    };
    let words = ["rollback"];
    case.each("a rollback", apart(), first, &words, done_is(Alone))
}
