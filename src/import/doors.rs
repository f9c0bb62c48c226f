//! Door by door: what its commands amount to.

use std::time::Duration;

use crate::model::{GateName, Lifetime};
use crate::policy::{CommandLine, Gate, Knock, KnockAction, PerFamily, Run, TcpFlags};

use super::Remark;
use super::gates::Gates;
use super::rule::Rule;
use super::script::{self, Verb};

/// The least that `for` takes.
const MOMENT: Lifetime = Lifetime::For(Duration::from_secs(1));

/// The knock for a door.
pub(super) fn translate(door: &Knock, gates: &mut Gates, remarks: &mut Vec<Remark>) -> Knock {
    let mut remark = |text: String| {
        remarks.push(Remark {
            knock: Some(door.name.clone()),
            text,
        });
    };
    let mut knock = Knock {
        flags: flags(door.flags, &mut remark),
        ..door.clone()
    };
    let KnockAction::Run(run) = &door.action else {
        return knock;
    };
    let Some((action, lifetime, named)) = meaning(run, door.lifetime, gates, &mut remark) else {
        if knock.lifetime == Some(Lifetime::For(Duration::ZERO)) {
            knock.lifetime = Some(MOMENT);
            remark("`Cmd_Timeout = 0` is a second here".to_owned());
        }
        return knock;
    };
    Knock {
        action,
        lifetime,
        gates: named,
        ..knock
    }
}

/// Knocks that run commands concern every gate of the policy unless they say otherwise.
pub(super) fn in_gates(mut knocks: Vec<Knock>, gates: &[Gate]) -> Vec<Knock> {
    for knock in &mut knocks {
        if matches!(knock.action, KnockAction::Run(_)) {
            knock.gates = gates.iter().map(|gate| gate.name.clone()).collect();
        }
    }
    knocks
}

/// The flags that a policy has words for.
fn flags(flags: TcpFlags, remark: &mut impl FnMut(String)) -> TcpFlags {
    let all = TcpFlags { set: 0, clear: 0 };
    let syn = TcpFlags {
        set: TcpFlags::SYN,
        clear: 0,
    };
    if flags == all {
        remark(
            "without `TCPFlags` every TCP packet counted; now it is the first of a connection, \
             SYN without ACK"
                .to_owned(),
        );
        TcpFlags::OPENING
    } else if flags == syn {
        // What replies to us is no knock, and nobody has ever knocked like that.
        TcpFlags::OPENING
    } else {
        flags
    }
}

type Meaning = (KnockAction, Option<Lifetime>, Vec<GateName>);

/// What the commands amount to, if it is something that gates do better.
fn meaning(
    run: &Run,
    lifetime: Option<Lifetime>,
    gates: &mut Gates,
    remark: &mut impl FnMut(String),
) -> Option<Meaning> {
    if let Some(verb) = of_script(&run.start) {
        return scripted(verb, run, lifetime, gates, remark);
    }
    let start = of_rules(&run.start)?;
    let stop = if run.stop.is_empty() {
        None
    } else {
        // Another stop command is to be run as it is.
        Some(of_rules(&run.stop)?)
    };
    let (meaning, text) = match (start.rule.adds, stop) {
        (false, None) => (
            (KnockAction::Flush, None),
            "the iptables rule that it deleted is an acceptance now, which it ends".to_owned(),
        ),
        (true, None) => (
            (KnockAction::Accept, Some(Lifetime::Never)),
            "its iptables rule is an acceptance now, which lasts until it is flushed, as the rule \
             did; better give it a time, such as `for: 300s`"
                .to_owned(),
        ),
        (true, Some(stop)) if stop.rule.undoes(&start.rule) => {
            let lifetime = match lifetime? {
                Lifetime::For(Duration::ZERO) => MOMENT,
                lifetime => lifetime,
            };
            (
                (KnockAction::Accept, Some(lifetime)),
                format!(
                    "its iptables rules are an acceptance for {lifetime} now; sessions opened \
                     meanwhile live on, and knocking again restores the full time"
                ),
            )
        }
        _ => return None,
    };
    let named = gates.of(&start.rule.ports)?;
    remark(text);
    if let Some(text) = start.ipv6.filter(|_| start.rule.adds) {
        remark(text.to_owned());
    }
    let (action, lifetime) = meaning;
    Some((action, lifetime, named))
}

fn scripted(
    verb: Verb,
    run: &Run,
    lifetime: Option<Lifetime>,
    gates: &mut Gates,
    remark: &mut impl FnMut(String),
) -> Option<Meaning> {
    let action = match verb {
        Verb::Accept => KnockAction::Accept,
        Verb::Drop => KnockAction::Drop,
        Verb::Trust => KnockAction::Trust,
        Verb::Flush => KnockAction::Flush,
    };
    let lifetime = if run.stop.is_empty() {
        None
    } else {
        let undone = of_script(&run.stop) == Some(Verb::Flush) && verb == Verb::Accept;
        Some(lifetime.filter(|_| undone)?)
    };
    let named = gates.ssh()?;
    remark(
        "the script's command is an action of the gate `ssh` now; if it guards another port than \
         22, change that"
            .to_owned(),
    );
    Some((action, lifetime, named))
}

/// The same verb for all who have a command.
fn of_script(commands: &PerFamily) -> Option<Verb> {
    let mut verbs = commands
        .each()
        .map(|command| script::parse(&words(command)?));
    let verb = verbs.next()??;
    verbs.all(|other| other == Some(verb)).then_some(verb)
}

/// A rule, and what is to be said about IPv6.
struct Rules {
    rule: Rule,
    ipv6: Option<&'static str>,
}

/// The same rule in both families, or one for IPv4 alone.
fn of_rules(commands: &PerFamily) -> Option<Rules> {
    let rule = |command: &CommandLine| Rule::parse(&words(command)?);
    let v4 = rule(commands.v4.as_ref()?)?;
    if v4.is_ipv6 {
        return None;
    }
    let ipv6 = match &commands.v6 {
        None => Some("it lets in over IPv6, too, where it did nothing before"),
        same if *same == commands.v4 => {
            Some("it lets in over IPv6, too, where `iptables` could not")
        }
        Some(command) => {
            let v6 = rule(command)?;
            let same = v6.is_ipv6 && (v6.adds, &v6.ports) == (v4.adds, &v4.ports);
            if !same {
                return None;
            }
            None
        }
    };
    Some(Rules { rule: v4, ipv6 })
}

/// The words of a line that means the same with a shell as without.
fn words(command: &CommandLine) -> Option<Vec<String>> {
    match command {
        CommandLine::Words(words) => Some(words.clone()),
        CommandLine::Shell(line) => {
            let special = |c: char| ";&|<>$`()*?[]{}~#!\n".contains(c);
            if line.contains(special) {
                return None;
            }
            match CommandLine::words(line).ok()? {
                CommandLine::Words(words) => Some(words),
                CommandLine::Shell(_) => None,
            }
        }
    }
}
