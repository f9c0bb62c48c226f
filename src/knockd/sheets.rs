//! Doors with one-time sequences: which sequence counts now, and what becomes of it when it is
//! knocked. It is taken off the matcher at once, marked in its file by a thread of its own, and
//! only when that is on the disk does the knock count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tracing::info;

use crate::engine::Event;
use crate::model::{KnockName, KnockPort};
use crate::policy::{Knock, LogStyle, Policy};
use crate::sheets::{self, Sheet, SheetError};

use super::daemon::Daemon;

/// The topic of sheets that are used up, or of no use.
const SHEETS: &str = "one-time sequences";

/// Of every door with a sheet: what is to be knocked now.
#[derive(Debug)]
pub(super) struct Sheets {
    doors: BTreeMap<KnockName, Door>,
    tell: mpsc::UnboundedSender<Marked>,
    marked: mpsc::UnboundedReceiver<Marked>,
}

#[derive(Debug)]
struct Door {
    file: PathBuf,
    /// Nothing while a sequence is being marked, and where there is none.
    sequence: Vec<KnockPort>,
    is_marking: bool,
    problems: Vec<String>,
}

/// What became of marking a sequence.
#[derive(Debug)]
pub(super) struct Marked {
    door: KnockName,
    source: IpAddr,
    result: Result<Sheet, SheetError>,
}

impl Default for Sheets {
    fn default() -> Self {
        let (tell, marked) = mpsc::unbounded_channel();
        Self {
            doors: BTreeMap::new(),
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

    /// The policy with the sequences that count now.
    pub(super) fn filled_in(&self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        for knock in &mut policy.knocks {
            if let Some(door) = self.doors.get(&knock.name) {
                knock.sequence.clone_from(&door.sequence);
            }
        }
        policy
    }
}

impl Door {
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
    /// Reads the sheets of the policy in force. What is being marked is left alone: in the file it
    /// may not be marked yet.
    pub(super) fn read_sheets(&mut self) {
        let policy = self.engine.policy();
        let mut doors = std::mem::take(&mut self.sheets.doors);
        for knock in &policy.knocks {
            let Some(file) = &knock.one_time_sequences else {
                continue;
            };
            let before = doors.remove(&knock.name);
            let marking = before.filter(|door| door.is_marking && door.file == *file);
            let door = marking.unwrap_or_else(|| {
                let mut door = Door {
                    file: file.clone(),
                    sequence: Vec::new(),
                    is_marking: false,
                    problems: Vec::new(),
                };
                door.take(knock, policy, sheets::open(file));
                door
            });
            self.sheets.doors.insert(knock.name.clone(), door);
        }
        self.follow_sheets();
    }

    /// Has what counts now matched, and heard.
    fn follow_sheets(&mut self) {
        self.heard = self.sheets.filled_in(self.engine.policy());
        self.matcher.reload(&self.heard);
        self.scope.set_gates(&self.heard);
        let doors = self.sheets.doors.values();
        let problems = doors.flat_map(|door| door.problems.iter().cloned());
        self.problems.set_all(SHEETS, problems.collect());
    }

    /// A knock is complete: it counts now, or when its sequence is used up.
    pub(super) fn knocked(&mut self, source: IpAddr, knock: KnockName) {
        let Some(door) = self.sheets.doors.get_mut(&knock) else {
            self.handle(Event::Knocked { source, knock });
            return;
        };
        let used = std::mem::take(&mut door.sequence);
        if used.is_empty() {
            // One packet that completes it twice, or a second one that was here already.
            return;
        }
        door.is_marking = true;
        let (file, tell) = (door.file.clone(), self.sheets.tell.clone());
        self.follow_sheets();
        tokio::task::spawn_blocking(move || {
            let result = sheets::use_up(&file, &used);
            // The daemon may be ending; then the knock is lost, and the sequence is used.
            let _ = tell.send(Marked {
                door: knock,
                source,
                result,
            });
        });
    }

    /// A sequence is marked on the disk: the knock counts. Or it is not, and does not.
    pub(super) fn sequence_marked(&mut self, marked: Marked) {
        let Marked {
            door: name,
            source,
            result,
        } = marked;
        let left = result.as_ref().map(|sheet| sheet.lines.len()).ok();
        if left.is_some() {
            let knock = name.clone();
            self.handle(Event::Knocked { source, knock });
        }
        let policy = self.engine.policy();
        let knock = policy.knocks.iter().find(|knock| knock.name == name);
        if let (Some(knock), Some(door)) = (knock, self.sheets.doors.get_mut(&name)) {
            door.is_marking = false;
            door.take(knock, policy, result);
        }
        if let Some(left) = left {
            info!("{name}: {left} one-time sequences are left");
        } else {
            info!("{source}: {name}: the knock does not count");
        }
        self.follow_sheets();
        self.follow_interfaces();
        self.follow_untracked();
    }
}
