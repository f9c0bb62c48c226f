//! Changes of the policy: `apply`, `confirm`, `rollback`, `reload`. Checked first, put into
//! force whole or not at all, and taken back whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::control::{PolicyText, Response};
use crate::engine::{Event, Record, What, Who};
use crate::files::FileError;
use crate::firewall::FirewallError;
use crate::model::Lifetime;
use crate::policy::{self, Checked, LoadError, Policy, PolicyErrors};

use super::daemon::{Daemon, now};
use super::guard::{self, Operators, check_as};
use super::policies::{Source, Unkeepable, fits_in_memory};
use super::problems::{FIREWALL, KEPT, POLICY};
use super::roster::{Roster, RosterError};
use super::shelved;
use super::trial::Trial;
use super::wants::gate_addresses;

/// What lets an apply happen that would shut somebody out.
const FORCE_OR_CONFIRM: &str =
    "--confirm 120s takes it back by itself, --force does it all the same";

/// What is known already of a policy that is to be put into force.
pub(super) type Found = Option<Result<Checked, PolicyErrors>>;

/// A policy that could be put into force.
struct Candidate {
    source: Source,
    checked: Checked,
    roster: Roster,
}

impl Candidate {
    /// What is doubtful about the policy and its whitelist, a line each. What it is about the
    /// whitelist stands in the log, too: whoever edited it may be somebody else.
    fn warnings(&mut self, file: &Path, who: &Who) -> Vec<String> {
        let mut warnings = said(&self.checked, file);
        for doubt in self.roster.take_doubts() {
            warn!("{who}: {doubt}");
            warnings.push(format!("warning: {doubt}"));
        }
        warnings
    }
}

/// Why a policy is not put into force.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    /// The policy itself.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// The whitelist that it names.
    #[error(transparent)]
    Whitelist(#[from] RosterError),
    /// The kernel.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// What a start must know of a policy that is only tried.
    #[error("cannot note what is tried, so nothing was changed: {0}")]
    Note(FileError),
    /// The policy's file, before anything was done.
    #[error(transparent)]
    Unkeepable(#[from] Unkeepable),
    /// The same, afterwards.
    #[error("cannot keep the policy, so the one from before is in force again: {0}")]
    File(FileError),
}

impl ChangeError {
    fn code(&self) -> u8 {
        match self {
            ChangeError::Policy(_) | ChangeError::Whitelist(_) => 2,
            _ => 1,
        }
    }

    fn refused(&self, what: &str, who: &Who) -> Response {
        let text = self.to_string();
        error!("{who}: {what} refused, everything stays as it was: {text}");
        Response::refused(self.code(), text)
    }
}

impl Daemon {
    /// Takes down in the history what became of a change. Where it was made, whoever asked is told
    /// when it is on the disk: whatever happens then, the next start knows of it.
    pub(super) fn recorded(&mut self, what: What, who: &Who, response: Response) -> Response {
        self.record_answer(what, who, &response);
        if response.code == 0 {
            self.unwritten.push(self.memory.written());
        }
        response
    }

    /// The same, where nobody waits for the disk.
    pub(super) fn record_answer(&self, what: What, who: &Who, response: &Response) {
        let (what, lines) = match response.code {
            0 => (what, &response.done),
            _ => (What::Refused, &response.refused),
        };
        let note = lines.first().cloned().unwrap_or_default();
        self.memory
            .record(Record::new(what, &who.0).saying(note).by_hand());
    }

    /// Puts a policy into force: for good, or for a while.
    pub(super) fn apply_policy(
        &mut self,
        new: PolicyText,
        checked: Found,
        confirm: Option<Duration>,
        force: bool,
        who: &Who,
        operators: &Operators,
    ) -> Response {
        let response = self.apply_checked(new, checked, confirm, force, who, operators);
        self.recorded(What::Applied, who, response)
    }

    fn apply_checked(
        &mut self,
        new: PolicyText,
        checked: Found,
        confirm: Option<Duration>,
        force: bool,
        who: &Who,
        operators: &Operators,
    ) -> Response {
        if let Some(pending) = self.pending(who) {
            return pending;
        }
        let file = PathBuf::from(new.file);
        let mut candidate = match self.candidate(new.text, &file, checked) {
            Ok(candidate) => candidate,
            Err(error) => return error.refused("apply", who),
        };
        if !force
            && confirm.is_none()
            && let Some(objection) = self.objection(&candidate, operators)
        {
            return guard::refusal(who, &objection, FORCE_OR_CONFIRM);
        }
        let warnings = candidate.warnings(&file, who);
        let told = match confirm {
            Some(time) => self.try_out(candidate, &file, time, who),
            None => self.keep_applied(candidate),
        };
        match told {
            Ok(mut response) => {
                for line in &response.done {
                    info!("{who}: {line}");
                }
                response
                    .done
                    .splice(0..0, [format!("{} is in force", file.display())]);
                response.done.extend(warnings);
                response
            }
            Err(error) => error.refused("apply", who),
        }
    }

    /// Puts a policy into force and into the policy's file, or does neither.
    fn keep_applied(&mut self, candidate: Candidate) -> Result<Response, ChangeError> {
        let source = candidate.source;
        self.policies.can_write_file(&source.text)?;
        let before = self.switch(candidate.checked.policy, candidate.roster)?;
        match self.commit(source) {
            Ok(response) => Ok(response),
            Err(error) => {
                self.go_back(before);
                Err(ChangeError::File(error))
            }
        }
    }

    /// Puts a policy into force until it is confirmed, or this time is over.
    fn try_out(
        &mut self,
        candidate: Candidate,
        file: &Path,
        time: Duration,
        who: &Who,
    ) -> Result<Response, ChangeError> {
        // Whoever tries it and is content is to be able to keep it.
        self.policies.can_write_file(&candidate.source.text)?;
        let source = Source {
            file: file.to_owned(),
            text: candidate.source.text,
        };
        let shelved_before = shelved::is_kept(self.memory.dir());
        // Without it, a start in the middle of it would take up what nobody has confirmed.
        let noted = shelved::keep(self.memory.dir(), &self.roster, &candidate.roster)
            .and_then(|()| self.policies.note_trial(&source, &who.0));
        let switched = match noted {
            Ok(()) => self
                .switch(candidate.checked.policy, candidate.roster)
                .map_err(ChangeError::from),
            Err(error) => Err(ChangeError::Note(error)),
        };
        let before = switched.inspect_err(|_| {
            // An earlier trial's edit is still one that nobody has confirmed.
            if !shelved_before {
                shelved::forget(self.memory.dir());
            }
            self.policies.end_trial();
        })?;
        self.trial = Some(Trial {
            source,
            by: who.0.clone(),
            until: now().after(time),
            before,
        });
        self.remember_everything();
        self.policies.reverted = None;
        let time = Lifetime::For(time);
        let line = format!("it is taken back in {time} unless `knockctl confirm` comes first");
        Ok(Response::new(0, vec![line], Vec::new()))
    }

    /// Takes back what is being tried; otherwise goes back to the policy from before.
    pub(super) fn rollback(&mut self, force: bool, who: &Who, operators: &Operators) -> Response {
        let response = self.take_back(force, who, operators);
        self.recorded(What::RolledBack, who, response)
    }

    fn take_back(&mut self, force: bool, who: &Who, operators: &Operators) -> Response {
        if let Some(trial) = self.trial.take() {
            let line = format!("{} is taken back", trial.source.file.display());
            info!("{who}: {line}");
            self.go_back(trial.before);
            self.policies.end_trial();
            return self.answered(vec![line]);
        }
        let Some(previous) = self.policies.previous() else {
            return Response::refused(1, "there is no policy from before to go back to");
        };
        let file = self.policies.path().to_owned();
        let candidate = match self.candidate(previous.text, &file, None) {
            Ok(candidate) => candidate,
            Err(error) => return error.refused("rollback", who),
        };
        if !force && let Some(objection) = self.objection(&candidate, operators) {
            return guard::refusal(who, &objection, guard::FORCE);
        }
        match self.keep_applied(candidate) {
            Ok(mut response) => {
                let line = "the policy from before is in force again".to_owned();
                info!("{who}: {line}");
                response.done.insert(0, line);
                response
            }
            Err(error) => error.refused("rollback", who),
        }
    }

    /// Reads policy and whitelist again; all of it is taken, or nothing.
    pub(super) fn reload(&mut self, force: bool, who: &Who, operators: &Operators) -> Response {
        let response = self.read_again(force, who, operators);
        self.recorded(What::Reloaded, who, response)
    }

    fn read_again(&mut self, force: bool, who: &Who, operators: &Operators) -> Response {
        if let Some(pending) = self.pending(who) {
            return pending;
        }
        let file = self.policies.path().to_owned();
        let read = policy::read(&file).map_err(ChangeError::from);
        let mut candidate = match read.and_then(|text| self.candidate(text, &file, None)) {
            Ok(candidate) => candidate,
            Err(error) => return error.refused("reload", who),
        };
        if !force && let Some(objection) = self.objection(&candidate, operators) {
            return guard::refusal(who, &objection, guard::FORCE);
        }
        let warnings = candidate.warnings(&file, who);
        if let Err(error) = self.switch(candidate.checked.policy, candidate.roster) {
            return ChangeError::from(error).refused("reload", who);
        }
        self.kept(candidate.source);
        let done = "policy and whitelist read again".to_owned();
        info!("{who}: {done}");
        Response::new(0, [vec![done], warnings].concat(), Vec::new())
    }

    /// Refuses a policy whose memory the machine does not give, unless the matcher has as much already.
    pub(super) fn has_memory_for(&self, policy: &Policy, file: &Path) -> Result<(), LoadError> {
        if policy.memory == self.engine.policy().memory {
            return Ok(());
        }
        fits_in_memory(policy, file)
    }

    /// A policy as it will be in the place of the running one, with its whitelist, unless it was
    /// checked before.
    fn candidate(
        &self,
        text: String,
        file: &Path,
        checked: Found,
    ) -> Result<Candidate, ChangeError> {
        let checked = checked.unwrap_or_else(|| check_as(&text, self.policies.path(), file));
        let checked = checked.map_err(LoadError::from)?;
        self.has_memory_for(&checked.policy, file)?;
        let roster = self.roster.reloaded(checked.policy.trusted.as_deref())?;
        let source = Source {
            file: self.policies.path().to_owned(),
            text,
        };
        Ok(Candidate {
            source,
            checked,
            roster,
        })
    }

    /// Why a policy must not be put into force.
    fn objection(&self, candidate: &Candidate, operators: &Operators) -> Option<String> {
        operators.objection(&self.engine, |engine| {
            let policy = Box::new(candidate.checked.policy.clone());
            engine.handle(Event::Policy(policy), now());
            let gates = gate_addresses(engine.policy(), &candidate.roster);
            engine.handle(Event::GateAddresses(gates), now());
            engine.handle(Event::Whitelist(candidate.roster.trusted()), now());
        })
    }

    /// Puts what is in force into the policy's file too.
    pub(super) fn commit(&mut self, source: Source) -> Result<Response, FileError> {
        let aside = self.policies.write_file(&source.text)?;
        let mut done = vec![format!("written to {}", self.policies.path().display())];
        if let Some(aside) = aside {
            let aside = aside.display();
            done.push(format!(
                "what was there had never been in force, and is kept as {aside}"
            ));
        }
        self.kept(source);
        Ok(self.answered(done))
    }

    /// Takes down what is in force from now on; if the disk does not take it, `status` says so.
    fn kept(&mut self, source: Source) {
        let kept = self.policies.now_running(source);
        shelved::forget(self.memory.dir());
        self.settled();
        self.problems.set(POLICY, None);
        self.problems
            .set(KEPT, kept.err().map(|error| error.to_string()));
    }

    /// The answer, with what could not be kept or is not in the kernel yet.
    fn answered(&self, done: Vec<String>) -> Response {
        let problems = [KEPT, FIREWALL].into_iter();
        let refused: Vec<String> = problems
            .filter_map(|topic| self.problems.get(topic).map(ToOwned::to_owned))
            .collect();
        Response::new(u8::from(!refused.is_empty()), done, refused)
    }
}

/// What is doubtful about a policy, a line each.
pub(super) fn said(checked: &Checked, file: &Path) -> Vec<String> {
    let warnings = checked.warnings.iter();
    warnings
        .map(|warning| format!("warning: {}", warning.in_file(file)))
        .collect()
}
