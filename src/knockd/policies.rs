//! The policy's file, and what the state directory keeps of it: the last good one, the one from
//! before, and the one that is being tried.

use std::collections::HashSet;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::control::protocol::ChangeStatus;
use crate::files::{self, FileError};
use crate::matcher::Matcher;
use crate::model::GateName;
use crate::policy::{self, Checked, LoadError, MOST_BYTES, Policy};

/// What was in force last, for a start at which the policy's file is of no use.
const GOOD: &str = "policy.good";
/// What was in force before that, for `rollback`.
const PREVIOUS: &str = "policy.previous";
/// What is being tried, until it is confirmed or taken back.
const UNCONFIRMED: &str = "policy.unconfirmed";
/// What `apply` found in the policy's place without having read it before: an edit by hand that
/// was never in force.
const REPLACED: &str = "policy.replaced";

/// What the note about a trial ends with once the history has that it was taken back.
const TAKEN_BACK: &str = " (taken back)";

/// Knocks are secrets: these files are for root alone.
const MODE: u32 = 0o600;
/// The mode of a policy's file that did not exist.
const NEW_MODE: u32 = 0o640;

/// A policy as it is written, with the file that it is from: relative paths in it count from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl Source {
    pub(super) fn check(&self) -> Result<Checked, LoadError> {
        let checked = policy::parse(&self.text, &self.file)?;
        fits_in_memory(&checked.policy, &self.file)?;
        Ok(checked)
    }
}

/// Nothing can be refused any more when the matcher takes its memory.
pub(super) fn fits_in_memory(policy: &Policy, file: &Path) -> Result<(), LoadError> {
    let memory = policy.memory;
    if Matcher::has_memory(memory) {
        return Ok(());
    }
    let file = file.to_owned();
    Err(LoadError::Memory { file, memory })
}

/// The policy's file, what is in force, and what is kept beside it.
#[derive(Debug)]
pub(super) struct Policies {
    path: PathBuf,
    state_dir: PathBuf,
    /// What is in force and confirmed.
    running: Source,
    /// A change that was taken back.
    pub(super) reverted: Option<ChangeStatus>,
    /// Why a start did not take what the policy's file says.
    pub(super) problem: Option<String>,
}

/// Why a policy could not be put into the policy's file.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the policy, so nothing was changed: {source}{}", self.hint())]
pub(super) struct Unkeepable {
    source: FileError,
}

impl From<FileError> for Unkeepable {
    fn from(source: FileError) -> Self {
        Self { source }
    }
}

impl Unkeepable {
    fn hint(&self) -> &'static str {
        match self.source {
            FileError::ReadOnly(_) => {
                " (under systemd knockd can write in /etc/knockd: move the policy there; or edit it \
                 where it is, and `knockctl apply` it)"
            }
            _ => "",
        }
    }
}

/// The policy to start with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) policies: Policies,
    pub(super) checked: Checked,
}

/// The policy's path where nobody names one.
pub(super) fn usual_path(state_dir: &Path) -> PathBuf {
    policy::usual_path_after(|| kept(state_dir, GOOD).map(|kept| kept.source.file))
}

/// The policy for somebody who works in the place of a daemon: the one that a start would take, and why
/// it is not what the file says.
pub(super) fn without_daemon(
    path: &Path,
    state_dir: &Path,
) -> Result<(Policy, Option<String>), LoadError> {
    // What is doubtful about it is the daemon's to say.
    let Start { policies, checked } = at_start(path, state_dir)?;
    Ok((checked.policy, policies.problem))
}

/// Reads the policy's file. Where that is of no use, or was tried and never confirmed, the last
/// good one is taken; fails if there is none.
pub(super) fn at_start(path: &Path, state_dir: &Path) -> Result<Start, LoadError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let good = kept(state_dir, GOOD).map(|kept| kept.source);
    let tried = kept(state_dir, UNCONFIRMED);
    let start = |running: Source, checked, problem| Start {
        policies: Policies {
            path: path.clone(),
            state_dir: state_dir.to_owned(),
            running,
            reverted: tried.as_ref().map(Kept::reverted),
            problem,
        },
        checked,
    };
    let found = policy::read(&path).and_then(|text| {
        let file = path.clone();
        let source = Source { file, text };
        source.check().map(|checked| (source, checked))
    });
    let (why, error) = match found {
        Ok((source, checked)) => {
            let unconfirmed = tried
                .as_ref()
                .is_some_and(|tried| tried.source.text == source.text);
            if !unconfirmed || good.as_ref().is_none_or(|good| good.text == source.text) {
                return Ok(start(source, checked, None));
            }
            let why = format!(
                "{} was applied for a time and never confirmed; `knockctl reload` puts it into \
                 force",
                path.display()
            );
            (why, None)
        }
        Err(error) => (error.to_string().replace('\n', "; "), Some(error)),
    };
    match good.and_then(|good| good.check().ok().map(|checked| (good, checked))) {
        Some((good, checked)) => {
            let file = good.file.display();
            let problem = format!("{why}; the last good policy, from {file}, is in force instead");
            Ok(start(good, checked, Some(problem)))
        }
        None => match error {
            Some(error) => Err(error),
            // Unconfirmed, and there was nothing before it.
            None => Err(LoadError::Missing(state_dir.join(GOOD))),
        },
    }
}

/// The gates of a policy that were not there when the daemon died, since it tried another one.
pub(super) fn removed_by_trial(state_dir: &Path, policy: &Policy) -> HashSet<GateName> {
    let tried = kept(state_dir, UNCONFIRMED).filter(|tried| !tried.is_recorded());
    let Some(Ok(tried)) = tried.map(|tried| tried.source.check()) else {
        return HashSet::new();
    };
    let names = policy.gates.iter().map(|gate| &gate.name);
    let gone = names.filter(|name| tried.policy.gate(name).is_none());
    gone.cloned().collect()
}

impl Policies {
    /// The policy's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in force and confirmed.
    pub(super) fn running(&self) -> &Source {
        &self.running
    }

    /// Keeps what is in force as the last good policy, and the last good one, if it was another,
    /// as the one from before.
    pub(super) fn keep(&self) -> Result<(), FileError> {
        let good = kept(&self.state_dir, GOOD).map(|kept| kept.source);
        if good.as_ref() == Some(&self.running) {
            return Ok(());
        }
        if let Some(good) = good
            && good.file == self.running.file
            && good.text != self.running.text
        {
            write(&self.state_dir, PREVIOUS, &good, "in force before")?;
        }
        write(&self.state_dir, GOOD, &self.running, "in force last")
    }

    /// Takes down that something else is in force now, for good.
    pub(super) fn now_running(&mut self, source: Source) -> Result<(), FileError> {
        self.running = source;
        self.reverted = None;
        self.forget_trial();
        self.keep()
    }

    /// Whether the policy's file says that. Comments in it may be of an older encoding, which a text
    /// never has.
    fn file_says(&self, text: &str) -> bool {
        policy::read(&self.path).is_ok_and(|found| found == text)
    }

    /// Whether a text could be put into the policy's file.
    pub(super) fn can_write_file(&self, text: &str) -> Result<(), Unkeepable> {
        if self.file_says(text) {
            return Ok(());
        }
        Ok(files::can_replace(&self.path)?)
    }

    /// Puts a text into the policy's file. An edit by hand that was never in force is kept
    /// elsewhere; where, is returned.
    pub(super) fn write_file(&self, text: &str) -> Result<Option<PathBuf>, FileError> {
        let Some(target) = files::target(&self.path)? else {
            files::create(&self.path, text.as_bytes(), NEW_MODE)?;
            return Ok(None);
        };
        let found = files::read(&target, MOST_BYTES)?;
        if self.file_says(text) {
            return Ok(None);
        }
        let known = self.running.file == self.path && self.file_says(&self.running.text);
        let aside = (!known).then(|| self.state_dir.join(REPLACED));
        if let Some(aside) = &aside {
            files::put(aside, &found.bytes, MODE)?;
        }
        files::replace(&target, &found, text.as_bytes())?;
        Ok(aside)
    }

    /// The policy from before the one in force.
    pub(super) fn previous(&self) -> Option<Source> {
        kept(&self.state_dir, PREVIOUS).map(|kept| kept.source)
    }

    /// Writes down what is being tried, so that the next start knows if we do not live to see its
    /// end.
    pub(super) fn note_trial(&self, tried: &Source, by: &str) -> Result<(), FileError> {
        write(&self.state_dir, UNCONFIRMED, tried, by)
    }

    /// The trial is over, and the history has it. Where its policy is what the policy's file says,
    /// the note stays: a start must not take up what nobody has confirmed.
    pub(super) fn end_trial(&self) {
        let tried = kept(&self.state_dir, UNCONFIRMED).map(|kept| kept.source.text);
        let on_disk = policy::read(&self.path).ok();
        if tried.is_none() || tried != on_disk || on_disk.as_ref() == Some(&self.running.text) {
            self.forget_trial();
        } else {
            self.trial_is_recorded();
        }
    }

    /// What was being tried when the daemon died, if the history does not have yet that it is taken
    /// back.
    pub(super) fn unrecorded(&self) -> Option<ChangeStatus> {
        let tried = kept(&self.state_dir, UNCONFIRMED)?;
        (!tried.is_recorded()).then(|| tried.reverted())
    }

    /// The history has that what was tried is taken back; the note goes on.
    pub(super) fn trial_is_recorded(&self) {
        let tried = kept(&self.state_dir, UNCONFIRMED);
        let Some(tried) = tried.filter(|tried| !tried.is_recorded()) else {
            return;
        };
        let note = format!("{}{TAKEN_BACK}", tried.note);
        if let Err(error) = write(&self.state_dir, UNCONFIRMED, &tried.source, &note) {
            warn!("{error}; the history has the change again after the next start");
        }
    }

    fn forget_trial(&self) {
        let note = self.state_dir.join(UNCONFIRMED);
        match std::fs::remove_file(&note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!("cannot remove {}: {error}", note.display());
            }
            _ => {}
        }
    }
}

/// A file of the state directory: two lines about the policy, then the policy.
struct Kept {
    source: Source,
    note: String,
}

impl Kept {
    fn is_recorded(&self) -> bool {
        self.note.ends_with(TAKEN_BACK)
    }

    fn reverted(&self) -> ChangeStatus {
        let by = self.note.strip_suffix(TAKEN_BACK).unwrap_or(&self.note);
        ChangeStatus {
            state: "reverted".to_owned(),
            file: self.source.file.display().to_string(),
            by: by.to_owned(),
            expires_in_s: None,
        }
    }
}

const FROM: &[u8] = b"# from ";
const NOTE: &str = "# ";

fn write(state_dir: &Path, name: &str, source: &Source, note: &str) -> Result<(), FileError> {
    let mut bytes = FROM.to_vec();
    bytes.extend_from_slice(source.file.as_os_str().as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(format!("{NOTE}{note}\n{}", source.text).as_bytes());
    files::put(&state_dir.join(name), &bytes, MODE)
}

/// What is kept under this name; what cannot be understood is as if it were not there.
fn kept(state_dir: &Path, name: &str) -> Option<Kept> {
    let path = state_dir.join(name);
    let found = match files::read(&path, MOST_BYTES + 16 * 1024) {
        Ok(found) => found.bytes,
        Err(FileError::Missing(_)) => return None,
        Err(error) => {
            warn!("{error}");
            return None;
        }
    };
    let understood = read_kept(&found);
    if understood.is_none() {
        warn!("cannot understand {}: it is left alone", path.display());
    }
    understood
}

fn read_kept(bytes: &[u8]) -> Option<Kept> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (first, rest) = bytes.split_at(end);
    let file = first.strip_prefix(FROM)?;
    let file = PathBuf::from(std::ffi::OsString::from_vec(file.to_vec()));
    let (note, text) = std::str::from_utf8(&rest[1..]).ok()?.split_once('\n')?;
    let note = note.strip_prefix(NOTE)?.to_owned();
    let text = text.to_owned();
    Some(Kept {
        source: Source { file, text },
        note,
    })
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
