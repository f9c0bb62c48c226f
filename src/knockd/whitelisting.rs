//! `trust` and `untrust`: the whitelist file first, then what follows from it, for the daemon and
//! for `knockctl --direct`.

use ipnet::IpNet;

use crate::control::{Entry, Response};
use crate::engine::{Command, Engine, Event, Outcome, Record, What, Who};
use crate::files::FileError;
use crate::model::host_net;
use crate::whitelist::edit::{self, Covered, Edit};
use crate::whitelist::{Host, WhitelistError};

use super::daemon::Daemon;
use super::problems::{FIREWALL, WHITELIST};
use super::requests::{answer, nets};
use super::roster::Roster;
use super::shelved;

impl Whitelisting for Daemon {
    const LOOKED_UP: &'static str = "its addresses are looked up";

    fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn handle(&mut self, event: Event) -> Option<Outcome> {
        Daemon::handle(self, event)
    }

    fn whitelist_was_written(&mut self, hosts: &[Host]) -> Result<(), FileError> {
        if let Some(trial) = &mut self.trial {
            trial.before.settle(hosts);
        }
        let settled = shelved::settle(self.memory.dir(), self.roster.file(), hosts);
        let stands = self.problems.get(WHITELIST).is_some();
        // What else is in the file may still not be in force.
        if stands && self.roster.is_what_its_file_says() {
            self.problems.set(WHITELIST, None);
            shelved::forget(self.memory.dir());
            if !shelved::is_kept(self.memory.dir()) {
                return Ok(());
            }
        }
        settled
    }

    fn only_tried(&self) -> Option<String> {
        let before = self.trial.as_ref()?.before.whitelist();
        let tried = self.roster.file();
        if tried == before {
            return None;
        }
        let this = match tried {
            Some(file) => format!("this is of {}, which", file.display()),
            None => "this is of a policy without a whitelist, which".to_owned(),
        };
        let then = match before {
            Some(file) => format!("{} says again who is trusted", file.display()),
            None => "nobody is trusted by a whitelist".to_owned(),
        };
        Some(format!(
            "{this} is only tried: unless `knockctl confirm` comes first, {then} when that is over"
        ))
    }

    fn record(&mut self, record: Record) {
        self.memory.record(record);
    }

    fn follow_names(&mut self) {
        Daemon::follow_names(self);
    }

    fn not_in_force(&self) -> Option<String> {
        self.problems.get(FIREWALL).map(str::to_owned)
    }
}

/// Whoever keeps a whitelist in force.
pub(super) trait Whitelisting {
    /// What becomes of a name that is added.
    const LOOKED_UP: &'static str;

    /// The whitelist.
    fn roster(&mut self) -> &mut Roster;

    /// What is decided.
    fn engine(&self) -> &Engine;

    /// Lets the engine decide, and carries out what it decides.
    fn handle(&mut self, event: Event) -> Option<Outcome>;

    /// The file has these hosts, or has them no more, because somebody asked for it: no edit that
    /// was only tried is to change that. What was wrong with the file may not be any more.
    fn whitelist_was_written(&mut self, hosts: &[Host]) -> Result<(), FileError>;

    /// What is said where the whitelist is another only as long as a policy is tried: the file keeps
    /// what a command has written, but is not in force after that.
    fn only_tried(&self) -> Option<String> {
        None
    }

    /// Remembers what happened.
    fn record(&mut self, record: Record);

    /// Names have come or gone.
    fn follow_names(&mut self);

    /// Why the kernel does not hold what is decided.
    fn not_in_force(&self) -> Option<String>;

    /// Puts entries into the whitelist file, all of them or none, then into force.
    fn trust(&mut self, entries: &[Entry], note: Option<&str>, force: bool, who: &Who) -> Response {
        let Some(file) = self.roster().file().map(ToOwned::to_owned) else {
            return Response::refused(1, "the policy names no whitelist file; use --runtime");
        };
        if self.roster().has_entries() && !file.exists() {
            // Writing a new one would lose all that are in force at the next reload.
            let text = format!(
                "the whitelist {} is gone, while its entries are in force: put it back first",
                file.display()
            );
            return Response::refused(1, text);
        }
        let note = note.unwrap_or(&who.0);
        let written: Vec<(Host, String)> = entries
            .iter()
            .map(|entry| {
                let host = host(entry);
                // The word by which the file's reader knows that everybody is meant.
                let word = if force && host.is_everything() {
                    "--force "
                } else {
                    ""
                };
                (host, format!("{word}{note}"))
            })
            .collect();
        let edits = match edit::add_all(&file, &written) {
            Ok(edits) => edits,
            Err(error) => return Response::refused(1, error.to_string()),
        };
        let mut done = Vec::new();
        for (entry, edit) in entries.iter().zip(edits) {
            let in_force = self.roster().lists(&host(entry));
            let again = in_force && self.is_withheld(entry);
            if !matches!(edit, Edit::AlreadyThere { .. }) || !in_force || again {
                self.recall(What::Trusted, entry, who);
            }
            done.push(match edit {
                Edit::AlreadyThere { line } if again => {
                    let file = file.display();
                    format!("{entry} trusted again, as line {line} of {file} says")
                }
                Edit::AlreadyThere { line } if in_force => {
                    format!("{entry} is in {} already, on line {line}", file.display())
                }
                Edit::AlreadyThere { line } => {
                    format!("{entry} trusted, as line {line} of {} says", file.display())
                }
                _ if matches!(entry, Entry::Name(_)) => {
                    format!("{entry} added to {}; {}", file.display(), Self::LOOKED_UP)
                }
                Edit::Added { created: true, .. } => {
                    format!(
                        "{entry} trusted; {} did not exist and is made",
                        file.display()
                    )
                }
                _ => format!("{entry} trusted, and added to {}", file.display()),
            });
        }
        let change = self.roster().add(written);
        let settled = self.whitelist_was_written(&hosts(entries));
        self.handle(Event::WhitelistEdit {
            add: change.add,
            remove: change.remove,
        });
        let asked = entries.iter().flat_map(|entry| self.stands_for(entry));
        let asked = asked.collect();
        self.handle(Event::Relisted(asked));
        self.follow_names();
        log(who, &done);
        self.told(who, done, unsettled(settled).into_iter().collect())
    }

    /// Takes entries out of the whitelist file and out of force, and what was trusted until
    /// reboot with them.
    fn untrust(&mut self, entries: &[Entry], who: &Who) -> Response {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        let mut unlisted = Vec::new();
        let hosts = hosts(entries);
        let edits = match self
            .roster()
            .file()
            .map(|file| edit::remove_all(file, &hosts))
        {
            None | Some(Err(WhitelistError::Missing(_))) => Vec::new(),
            Some(Ok(edits)) => edits,
            Some(Err(error)) => return Response::refused(1, error.to_string()),
        };
        let mut edits = edits.into_iter();
        for (entry, host) in entries.iter().zip(&hosts) {
            // Without a file, or with one that was edited, whoever is in force goes all the same.
            let in_force = self.roster().lists(host);
            let edit = edits.next().unwrap_or(Edit::NotThere { covered: None });
            match edit {
                Edit::Removed { covered, .. } => {
                    self.recall(What::Untrusted, entry, who);
                    done.push(format!("{entry} taken off the whitelist"));
                    done.extend(covered.map(|covered| still_trusted(entry, covered)));
                }
                Edit::NotThere { covered } if in_force => {
                    self.recall(What::Untrusted, entry, who);
                    done.push(format!(
                        "{entry} trusted no more; the whitelist has no line for it"
                    ));
                    done.extend(covered.map(|covered| still_trusted(entry, covered)));
                }
                Edit::NotThere {
                    covered: Some(covered),
                } => refused.push(format!(
                    "{entry} has no line of its own: it is trusted as part of {} (line {})",
                    covered.by, covered.line
                )),
                _ => unlisted.push(entry),
            }
        }
        let change = self.roster().remove(&hosts);
        refused.extend(unsettled(self.whitelist_was_written(&hosts)));
        self.handle(Event::WhitelistEdit {
            add: change.add,
            remove: change.remove,
        });
        self.follow_names();
        log(who, &done);
        let more = self.untrust_at_runtime(entries, unlisted, who);
        self.told(who, [done, more.0].concat(), [refused, more.1].concat())
    }

    /// Withdraws what was trusted until reboot. Returns what was done and what was not; of those who
    /// are `unlisted` too, it says that they are not trusted.
    fn untrust_at_runtime(
        &mut self,
        entries: &[Entry],
        mut unlisted: Vec<&Entry>,
        who: &Who,
    ) -> (Vec<String>, Vec<String>) {
        let command = Command::Untrust {
            nets: nets(entries),
            gates: Vec::new(),
        };
        let Some(outcome) = self.handle(Event::Command {
            who: who.clone(),
            command,
        }) else {
            return (Vec::new(), Vec::new());
        };
        let nothing = |entry: &Entry| match entry {
            Entry::Net(net) => outcome.unchanged.iter().any(|(it, _)| it == net),
            Entry::Name(_) => true,
        };
        unlisted.retain(|entry| nothing(entry));
        let untrusted = |entry: &Entry| format!("{entry} is not trusted");
        let unlisted: Vec<String> = unlisted.into_iter().map(untrusted).collect();
        // What it has done, the engine has logged.
        log(who, &unlisted);
        ([outcome.done, unlisted].concat(), outcome.refused)
    }

    /// The networks that the entry trusts now.
    fn stands_for(&mut self, entry: &Entry) -> Vec<IpNet> {
        match entry {
            Entry::Net(net) => vec![*net],
            Entry::Name(name) => {
                let addresses = self.roster().addresses(name);
                addresses.iter().copied().map(host_net).collect()
            }
        }
    }

    /// Whether a forced ban has withdrawn trust in something of the entry.
    fn is_withheld(&mut self, entry: &Entry) -> bool {
        let nets = self.stands_for(entry);
        nets.into_iter().any(|net| self.engine().is_withheld(net))
    }

    fn recall(&mut self, what: What, entry: &Entry, who: &Who) {
        let record = Record::new(what, &who.0).by_hand();
        self.record(match entry {
            Entry::Net(net) => record.to(*net),
            Entry::Name(name) => record.saying(name.as_str()),
        });
    }

    fn told(&self, who: &Who, mut done: Vec<String>, mut refused: Vec<String>) -> Response {
        if let Some(tried) = self.only_tried() {
            log(who, std::slice::from_ref(&tried));
            done.push(tried);
        }
        if let Some(problem) = self.not_in_force() {
            refused.push(format!("not in force yet: {problem}"));
        }
        answer(u8::from(!refused.is_empty()), done, refused)
    }
}

fn log(who: &Who, done: &[String]) {
    for line in done {
        tracing::info!("{who}: {line}");
    }
}

fn still_trusted(entry: &Entry, covered: Covered) -> String {
    let Covered { by, line } = covered;
    format!("{entry} is still trusted as part of {by} (line {line})")
}

/// What is said where the next start would have it otherwise.
fn unsettled(settled: Result<(), FileError>) -> Option<String> {
    let error = settled.err()?;
    Some(format!(
        "this holds until the next start only, which takes the whitelist as it was before a trial: \
         {error}; `knockctl reload` puts the file into force for good"
    ))
}

/// The entries as the file has them.
pub(super) fn hosts(entries: &[Entry]) -> Vec<Host> {
    entries.iter().map(host).collect()
}

fn host(entry: &Entry) -> Host {
    match entry {
        Entry::Net(net) => Host::Net(*net),
        Entry::Name(name) => Host::Name(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Action;
    use crate::fixtures::{address, appliance};
    use crate::model::Time;

    struct Desk(Roster, Engine);

    impl Whitelisting for Desk {
        const LOOKED_UP: &'static str = "never";

        fn roster(&mut self) -> &mut Roster {
            &mut self.0
        }

        fn engine(&self) -> &Engine {
            &self.1
        }

        fn handle(&mut self, event: Event) -> Option<Outcome> {
            let actions = self.1.handle(event, Time(0)).into_iter();
            let mut replies = actions.filter_map(|action| match action {
                Action::Reply(outcome) => Some(outcome),
                _ => None,
            });
            replies.next()
        }

        fn whitelist_was_written(&mut self, _: &[Host]) -> Result<(), FileError> {
            Ok(())
        }

        fn record(&mut self, _: Record) {}

        fn follow_names(&mut self) {}

        fn not_in_force(&self) -> Option<String> {
            None
        }
    }

    #[test]
    fn trust_of_a_name_gives_back_what_a_forced_ban_withdrew_from_its_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knockd.trusted");
        std::fs::write(&path, "host.example\n").unwrap();
        let mut roster = Roster::at_start(Some(&path)).0;
        let who = Who("root".to_owned());
        let net = host_net(address("192.0.2.1"));
        drop(roster.resolved("host.example", vec![net.addr()]));
        let listed = roster.trusted();
        let mut desk = Desk(roster, Engine::new(appliance()));
        desk.handle(Event::Whitelist(listed));
        let command = Command::Drop {
            nets: vec![net],
            gates: Vec::new(),
            lifetime: None,
            force: true,
        };
        desk.handle(Event::Command {
            who: who.clone(),
            command,
        });
        assert!(desk.engine().is_withheld(net));
        let name = [Entry::Name("host.example".parse().unwrap())];
        let told = desk.trust(&name, None, false, &who).done;
        assert!(told[0].contains("trusted again"), "{told:?}");
        assert!(!desk.engine().is_withheld(net));
        let told = desk.trust(&name, None, false, &who).done;
        assert!(told[0].contains("already"), "{told:?}");
    }
}
