//! The rules of one family: written, taken out, put back.

use std::time::Instant;

use super::install::Before;
use super::names::{Family, policy_chain};
use super::rules::Wanted;
use super::saved::{Rule, Saved};
use super::tool::{Ended, LOCKED, Tool, UNDOING};
use super::verify::{Read, read_back};
use super::{Iptables, all_chains};
use crate::firewall::FirewallError;
use crate::model::GateName;

/// The rules are written again this often if the lock is held or they change meanwhile.
const TRIES: usize = 2;
/// And this often if they were written, and somebody has changed them before they were read back:
/// whoever takes out several rules does so with a program each.
const REWRITES: usize = 4;

/// What an installation has made so far.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) sets: Vec<String>,
    /// Families whose rules were written, or may have been: then nobody knows what there is.
    families: Vec<(Family, Option<Wanted>)>,
}

/// Rules that have to go from chains that are not ours: our own jumps, and those that led to
/// chains of the original script.
fn to_remove(saved: &Saved, gates: &[GateName]) -> Vec<Rule> {
    let chains = all_chains(gates);
    let policies: Vec<String> = gates.iter().map(policy_chain).collect();
    saved
        .rules
        .iter()
        .filter(|rule| !chains.contains(&rule.chain))
        .filter(|rule| rule.is_ours() || rule.target().is_some_and(|t| policies.contains(&t)))
        .cloned()
        .collect()
}

/// Brings the rules of one family to what is wanted, unless they are that already, and reads
/// them back.
pub(super) fn write_rules(
    backend: &mut Iptables,
    (family, wanted): (Family, &Wanted),
    before: &Before,
    made: &mut Made,
    until: Instant,
) -> Result<Read, FirewallError> {
    let Some((_, tool)) = backend.tools.iter().find(|(f, _)| *f == family) else {
        return Ok(Read::default());
    };
    let mut saved = before.saved(family).clone();
    let mut failure = FirewallError::Unverified("no rules were written".to_owned());
    let takes_lock = backend.tables.is_none();
    let mut refusals = 0;
    for attempt in 0..REWRITES {
        if attempt > 0 {
            saved = Saved::parse(&tool.read(until)?);
        }
        let read = Read::of(wanted, &saved);
        let known = backend.image.iter().flat_map(|image| image.families.iter());
        for (f, was_wanted, was_read) in known {
            let strays = to_remove(&saved, &before.own).len() != wanted.base.len();
            if *f == family && was_wanted == wanted && *was_read == read && !strays {
                return Ok(read);
            }
        }
        if let Some(tables) = &mut backend.tables {
            tables.make((family, "filter"))?;
        }
        let mut gates = before.own.clone();
        gates.extend(saved.gates().into_iter().filter(|gate| {
            wanted.chains.contains(&policy_chain(gate)) && !before.own.contains(gate)
        }));
        let gone: Vec<String> = all_chains(&before.own)
            .into_iter()
            .filter(|chain| saved.has_chain(chain) && !wanted.chains.contains(chain))
            .collect();
        let input = wanted.input(&to_remove(&saved, &gates), &gone);
        let ended = made.write((family, wanted), tool, &input, until)?;
        failure = if ended.code == Some(0) {
            match read_back(wanted, &Saved::parse(&tool.read(until)?)) {
                // Somebody has changed what we had just written.
                Err(error @ FirewallError::Unverified(_)) => error,
                read => return read,
            }
        } else {
            // Held by somebody else, or somebody has changed what we had read.
            refusals += 1;
            refused(ended, tool, takes_lock, "write the rules with")
        };
        if refusals == TRIES {
            break;
        }
    }
    Err(failure)
}

/// Only the legacy programs take the lock; the others have the same code for other things.
fn refused(ended: Ended, tool: &Tool, takes_lock: bool, operation: &'static str) -> FirewallError {
    if takes_lock && ended.code == Some(LOCKED) {
        return FirewallError::Locked {
            program: tool.restore.display().to_string(),
            tries: TRIES,
        };
    }
    ended.into_error(operation, &tool.restore)
}

pub(super) fn remove_rules(
    backend: &mut Iptables,
    own: &[GateName],
    until: Instant,
) -> Result<(), FirewallError> {
    for (family, tool) in &backend.tools {
        let mut failure = None;
        for _ in 0..TRIES {
            let saved = Saved::parse(&tool.read(until)?);
            let gone: Vec<String> = all_chains(own)
                .into_iter()
                .filter(|chain| saved.has_chain(chain))
                .collect();
            let remove = to_remove(&saved, own);
            if gone.is_empty() && remove.is_empty() {
                failure = None;
                break;
            }
            let ended = tool.write(&Wanted::default().input(&remove, &gone), until)?;
            if ended.code == Some(0) {
                failure = None;
                break;
            }
            failure = Some(ended);
        }
        if let Some(ended) = failure {
            let takes_lock = backend.tables.is_none();
            return Err(refused(ended, tool, takes_lock, "remove the rules with"));
        }
        if let Some(tables) = &mut backend.tables {
            let generation = tables.generation()?;
            if Saved::parse(&tool.read(until)?).is_bare() {
                tables.delete((*family, "filter"), generation)?;
            }
        }
    }
    Ok(())
}

/// Removes chains of these gates that are not ours, and the jumps to them; rules of ours stay.
pub(super) fn remove_chains(
    backend: &Iptables,
    gates: &[GateName],
    until: Instant,
) -> Result<(), FirewallError> {
    for (_, tool) in &backend.tools {
        let saved = Saved::parse(&tool.read(until)?);
        let mut gone = all_chains(gates);
        gone.retain(|chain| saved.has_chain(chain));
        let mut jumps = to_remove(&saved, gates);
        jumps.retain(|rule| !rule.is_ours());
        if gone.is_empty() && jumps.is_empty() {
            continue;
        }
        let ended = tool.write(&Wanted::default().input(&jumps, &gone), until)?;
        if ended.code != Some(0) {
            let takes_lock = backend.tables.is_none();
            return Err(refused(ended, tool, takes_lock, "remove the rules with"));
        }
    }
    Ok(())
}

/// What turns a table with these chains and jumps of ours back into the one from before: its
/// chains of these gates filled as they were, the jumps to them where they were.
fn back_to(before: &Saved, chains: &[String], jumps: &[Rule], gates: &[GateName]) -> String {
    let all = all_chains(gates);
    let were: Vec<&String> = all.iter().filter(|chain| before.has_chain(chain)).collect();
    let gone: Vec<&String> = chains
        .iter()
        .filter(|chain| !were.contains(chain))
        .collect();
    let mut lines = vec!["*filter".to_owned()];
    // Makes a chain, or empties it.
    let emptied = were.iter().chain(&gone);
    lines.extend(emptied.map(|chain| format!(":{chain} - [0:0]")));
    let rules = before.rules.iter().filter(|r| were.contains(&&r.chain));
    lines.extend(rules.map(|r| format!("-A {} {}", r.chain, r.text)));
    lines.extend(jumps.iter().map(|r| format!("-D {} {}", r.chain, r.text)));
    let to_come = to_remove(before, gates);
    let mut places = std::collections::HashMap::new();
    for rule in &before.rules {
        let place = places.entry(&rule.chain).or_insert(0);
        *place += 1;
        if to_come.contains(rule) {
            lines.push(format!("-I {} {place} {}", rule.chain, rule.text));
        }
    }
    lines.extend(gone.iter().map(|chain| format!("-X {chain}")));
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

impl Made {
    /// Has the rules of a family written, and keeps in mind what of that took place.
    fn write(
        &mut self,
        (family, wanted): (Family, &Wanted),
        tool: &Tool,
        input: &str,
        until: Instant,
    ) -> Result<Ended, FirewallError> {
        let of_family = |(f, _): &(Family, Option<Wanted>)| *f == family;
        let was = self.families.iter().position(of_family);
        let was = was.map(|index| self.families.remove(index));
        self.families.push((family, None));
        let ended = tool.write(input, until)?;
        if ended.code.is_some() {
            self.families.pop();
            let written = (ended.code == Some(0)).then(|| (family, Some(wanted.clone())));
            self.families.extend(written.or(was));
        }
        Ok(ended)
    }

    /// Takes back what an installation that failed has made. What cannot be taken back stays, and
    /// the next installation finds it.
    pub(super) fn undo(self, backend: &mut Iptables, before: &Before, desired: &[GateName]) {
        let until = Instant::now() + UNDOING;
        let gates = [before.own.clone(), desired.to_vec()].concat();
        // Those that are known need no reading.
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.families.iter().partition(|(_, w)| w.is_some());
        for (family, wanted) in known.into_iter().chain(unknown) {
            let Some((_, tool)) = backend.tools.iter().find(|(f, _)| f == family) else {
                continue;
            };
            let was = before.saved(*family);
            let input = if let Some(wanted) = wanted {
                back_to(was, &wanted.chains, &wanted.base, &gates)
            } else {
                let Ok(text) = tool.read(until) else { continue };
                let saved = Saved::parse(&text);
                let mut chains = all_chains(&gates);
                chains.retain(|chain| saved.has_chain(chain));
                if saved.rules == was.rules && chains.iter().all(|chain| was.has_chain(chain)) {
                    continue;
                }
                back_to(was, &chains, &to_remove(&saved, &gates), &gates)
            };
            drop(tool.write(&input, until));
        }
        if let Some(tables) = &mut backend.tables {
            for (family, tool) in &backend.tools {
                if !before.saved(*family).is_bare() {
                    continue;
                }
                let (Ok(generation), Ok(text)) = (tables.generation(), tool.read(until)) else {
                    continue;
                };
                if Saved::parse(&text).is_bare() {
                    drop(tables.delete((*family, "filter"), generation));
                }
            }
        }
        drop(backend.ipset.destroy_all(&self.sets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_back_to_what_it_was() {
        let before = Saved::parse(
            "*filter\n:INPUT DROP [0:0]\n:own - [0:0]\n:ssh_policy - [0:0]\n:ssh_banned - [0:0]\n\
             -A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -j ssh_policy\n-A own -j ssh_policy\n\
             -A ssh_policy -j ssh_banned\n-A ssh_policy -j DROP\nCOMMIT\n",
        );
        let jump = Rule {
            chain: "INPUT".to_owned(),
            text: "-p tcp --dport 22 -j ssh_policy".to_owned(),
        };
        let gate = GateName::new("ssh").unwrap();
        let chains = all_chains([&gate]);
        assert_eq!(
            back_to(&before, &chains, &[jump], &[gate]),
            "*filter\n:ssh_policy - [0:0]\n:ssh_banned - [0:0]\n:ssh_trusted - [0:0]\n\
             :ssh_filter - [0:0]\n-A ssh_policy -j ssh_banned\n-A ssh_policy -j DROP\n\
             -D INPUT -p tcp --dport 22 -j ssh_policy\n-I INPUT 2 -p tcp -j ssh_policy\n\
             -I own 1 -j ssh_policy\n-X ssh_trusted\n-X ssh_filter\nCOMMIT\n"
        );
    }
}
