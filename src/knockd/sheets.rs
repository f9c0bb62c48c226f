//! Doors with one-time sequences: which sequence counts now, and what becomes of it when it is
//! knocked. It counts no more at once, is marked in its file by a thread of its own, and only when
//! that is on the disk does the knock count. For a while it is heard all the same: a sweep that
//! happened to begin with it shows afterwards only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tracing::info;

use crate::engine::Event;
use crate::model::{KnockName, KnockPort, Time};
use crate::policy::{Knock, LogStyle, Policy};
use crate::sheets::{self, Sheet, SheetError};

use super::daemon::{Daemon, now};

#[cfg(test)]
mod tests;

/// The topic of sheets that are used up, or of no use.
const SHEETS: &str = "one-time sequences";

/// So many used sequences of a door are heard for a while; the oldest goes first.
const MOST_SPENT: usize = 4;

/// Of every door with a sheet: what is to be knocked now.
#[derive(Debug)]
pub(super) struct Sheets {
    doors: BTreeMap<KnockName, Door>,
    marking: Vec<Marking>,
    tell: mpsc::UnboundedSender<Marked>,
    marked: mpsc::UnboundedReceiver<Marked>,
}

#[derive(Debug)]
struct Door {
    file: PathBuf,
    /// Nothing while a sequence is being marked, and where there is none.
    sequence: Vec<KnockPort>,
    /// What was used, and how long it is heard.
    spent: Vec<(Vec<KnockPort>, Time)>,
    problems: Vec<String>,
}

/// A sequence that is being marked.
#[derive(Debug)]
struct Marking {
    file: PathBuf,
    door: KnockName,
    source: IpAddr,
    /// Its source turned out to sweep ports.
    is_sweep: bool,
}

/// What became of marking a sequence.
#[derive(Debug)]
pub(super) struct Marked {
    file: PathBuf,
    /// Why it is not marked, if it is not.
    failed: Option<String>,
    /// What the file says now.
    sheet: Result<Sheet, SheetError>,
}

impl Default for Sheets {
    fn default() -> Self {
        let (tell, marked) = mpsc::unbounded_channel();
        Self {
            doors: BTreeMap::new(),
            marking: Vec::new(),
            tell,
            marked,
        }
    }
}

impl Sheets {
    /// The next sequence that was marked, or could not be.
    pub(super) async fn marked(&mut self) -> Option<Marked> {
        self.marked.recv().await
    }

    /// The policy with the sequences that count now, and behind its knocks once more those whose
    /// sequences were used a moment ago.
    pub(super) fn filled_in(&self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        let mut spent = Vec::new();
        for knock in &mut policy.knocks {
            let Some(door) = self.doors.get(&knock.name) else {
                continue;
            };
            knock.sequence.clone_from(&door.sequence);
            spent.extend(door.spent.iter().map(|(ports, _)| Knock {
                sequence: ports.clone(),
                ..knock.clone()
            }));
        }
        policy.knocks.extend(spent);
        policy
    }

    /// Reads the sheets of a policy. What is being marked is left alone: in the file it may not be
    /// marked yet.
    fn read(&mut self, policy: &Policy) {
        let mut doors = std::mem::take(&mut self.doors);
        for knock in &policy.knocks {
            let Some(file) = knock.one_time() else {
                continue;
            };
            let before = doors.remove(&knock.name);
            let before = before.filter(|door| door.file == file);
            let mut door = before.unwrap_or_else(|| Door::new(file));
            if self.is_marking(file) {
                door.sequence.clear();
            } else {
                door.take(knock, policy, sheets::open(file));
            }
            self.doors.insert(knock.name.clone(), door);
        }
    }

    /// Whether a sequence counts, and is used up thereby; if so, the file to mark.
    fn use_up(
        &mut self,
        source: IpAddr,
        name: &KnockName,
        ports: &[KnockPort],
        until: Time,
    ) -> Option<PathBuf> {
        let door = self.doors.get_mut(name)?;
        // A used one, one packet that completes it twice, or a second one that was here already.
        if door.sequence != ports {
            return None;
        }
        door.sequence.clear();
        if door.spent.len() == MOST_SPENT {
            door.spent.remove(0);
        }
        door.spent.push((ports.to_vec(), until));
        self.marking.push(Marking {
            file: door.file.clone(),
            door: name.clone(),
            source,
            is_sweep: false,
        });
        Some(door.file.clone())
    }

    /// What was being marked in a file is no more.
    fn marked_in(&mut self, file: &Path) -> Option<Marking> {
        let mut all = self.marking.iter();
        let place = all.position(|marking| marking.file == file)?;
        Some(self.marking.swap_remove(place))
    }

    /// Takes what is left of a file, for the door that has it now: a reload may have given the one
    /// that was knocked at another.
    fn goes_on(&mut self, file: &Path, sheet: Result<Sheet, SheetError>, policy: &Policy) {
        let mut doors = self.doors.iter_mut();
        if let Some((name, door)) = doors.find(|(_, door)| door.file == file)
            && let Some(knock) = policy.knocks.iter().find(|knock| knock.name == *name)
        {
            door.take(knock, policy, sheet);
        }
    }

    /// A knock turned out to be part of a sweep: if it is still being marked it will not count.
    pub(super) fn undone(&mut self, source: IpAddr, name: &KnockName) {
        for marking in &mut self.marking {
            marking.is_sweep |= marking.source == source && marking.door == *name;
        }
    }

    fn is_marking(&self, file: &Path) -> bool {
        self.marking.iter().any(|marking| marking.file == file)
    }

    /// When a used sequence need not be heard any longer.
    pub(super) fn due(&self) -> Option<Time> {
        let spent = self.doors.values().flat_map(|door| &door.spent);
        spent.map(|(_, until)| *until).min()
    }

    /// Whether any went.
    fn forget(&mut self, now: Time) -> bool {
        let is_over = self.due().is_some_and(|due| due <= now);
        for door in self.doors.values_mut() {
            door.spent.retain(|(_, until)| *until > now);
        }
        is_over
    }
}

impl Door {
    fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            sequence: Vec::new(),
            spent: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Takes the first sequence of the sheet that can be had.
    fn take(&mut self, door: &Knock, policy: &Policy, result: Result<Sheet, SheetError>) {
        self.problems.clear();
        self.sequence.clear();
        let sheet = match result {
            Ok(sheet) => sheet,
            Err(error) => {
                self.problems = vec![format!("{}: {error}: the door stays shut", door.name)];
                return;
            }
        };
        let file = self.file.display();
        for bad in &sheet.bad {
            self.problems.push(format!("{file}:{bad}"));
        }
        if sheet.more_bad > 0 {
            let more = sheet.more_bad;
            self.problems.push(format!("{file}: {more} more bad lines"));
        }
        for line in sheet.lines {
            match in_the_way(&line.ports, door, policy) {
                None => {
                    self.spent.retain(|(ports, _)| *ports != line.ports);
                    self.sequence = line.ports;
                    return;
                }
                Some(what) => {
                    let number = line.number;
                    self.problems
                        .push(format!("{file}:{number}: {what}; skipped"));
                }
            }
        }
        self.problems.push(format!(
            "no more sequences left in the one time sequences file for door {} --> disabling the door",
            door.name
        ));
    }
}

/// What speaks against a sequence beside the others, as when a policy is checked: those of a classic
/// file may be alike.
fn in_the_way(ports: &[KnockPort], door: &Knock, policy: &Policy) -> Option<String> {
    let guards = |port: &KnockPort| {
        let mut gates = policy.gates.iter();
        let gate = gates.find(|gate| gate.ports.iter().any(|range| range.contains(*port)))?;
        Some(format!("{port} is a port of the gate `{}`", gate.name))
    };
    if let Some(found) = ports.iter().find_map(guards) {
        return Some(found);
    }
    if policy.log.style == LogStyle::Classic {
        return None;
    }
    let mut others = policy
        .knocks
        .iter()
        .filter(|other| other.name != door.name && !other.sequence.is_empty());
    let other = others
        .find(|other| other.sequence.starts_with(ports) || ports.starts_with(&other.sequence))?;
    Some(format!(
        "one of this sequence and that of `{}` begins with the other",
        other.name
    ))
}

impl Daemon {
    /// Reads the sheets of the policy in force.
    pub(super) fn read_sheets(&mut self) {
        self.sheets.read(self.engine.policy());
        self.follow_sheets();
    }

    /// Has what counts now matched, and heard.
    fn follow_sheets(&mut self) {
        self.follow_sequences();
        let doors = self.sheets.doors.values();
        let problems = doors.flat_map(|door| door.problems.iter().cloned());
        self.problems.set_all(SHEETS, problems.collect());
    }

    /// Has exactly those sequences matched that count now.
    pub(super) fn follow_sequences(&mut self) {
        let with_sheets = self.sheets.filled_in(self.engine.policy());
        self.heard = self.clockwork.timed.filled_in(&with_sheets);
        self.matcher.reload(&self.heard);
        self.scope.set_gates(&self.heard);
    }

    /// Used sequences that nobody could have begun a sweep with any more are heard no longer.
    pub(super) fn forget_spent(&mut self) {
        if self.sheets.forget(now()) {
            self.follow_sheets();
            self.follow_interfaces();
            self.follow_untracked();
        }
    }

    /// A knock is complete: it counts now, or when its sequence is used up; or not at all, as one that
    /// was used up before does.
    pub(super) fn knocked(
        &mut self,
        source: IpAddr,
        knock: KnockName,
        ports: &[KnockPort],
    ) -> bool {
        if !self.sheets.doors.contains_key(&knock) {
            self.handle(Event::Knocked { source, knock });
            return true;
        }
        // As long as the matcher tells that it was part of a sweep.
        let sweep = self.engine.policy().scan_guard.within.saturating_mul(2);
        let until = now().after(sweep);
        let Some(file) = self.sheets.use_up(source, &knock, ports, until) else {
            return false;
        };
        let (used, tell) = (ports.to_vec(), self.sheets.tell.clone());
        self.follow_sheets();
        tokio::task::spawn_blocking(move || {
            let (failed, sheet) = match sheets::use_up(&file, &used) {
                Ok(sheet) => (None, Ok(sheet)),
                // Somebody has edited the file: what it says now counts.
                Err(gone @ SheetError::Gone(_)) => (Some(gone.to_string()), sheets::open(&file)),
                Err(error) => (Some(error.to_string()), Err(error)),
            };
            // The daemon may be ending; then the knock is lost, and the sequence is used.
            let _ = tell.send(Marked {
                file,
                failed,
                sheet,
            });
        });
        true
    }

    /// A sequence is marked on the disk: the knock counts. Or it is not, and does not.
    pub(super) fn sequence_marked(&mut self, marked: Marked) {
        let Marked {
            file,
            failed,
            sheet,
        } = marked;
        let left = sheet.as_ref().map(|sheet| sheet.lines.len()).ok();
        let Some(marking) = self.sheets.marked_in(&file) else {
            return;
        };
        let Marking {
            door: knock,
            source,
            is_sweep,
            ..
        } = marking;
        let sweep = is_sweep.then(|| "it was part of a sweep".to_owned());
        let why_not = failed.or(sweep);
        if why_not.is_none() {
            let knock = knock.clone();
            self.handle(Event::Knocked { source, knock });
        }
        self.sheets.goes_on(&file, sheet, self.engine.policy());
        match (why_not, left) {
            (Some(why), _) => info!("{source}: {knock}: the knock does not count: {why}"),
            (None, Some(left)) => info!("{knock}: {left} one-time sequences are left"),
            (None, None) => {}
        }
        self.follow_sheets();
        self.follow_interfaces();
        self.follow_untracked();
    }
}
