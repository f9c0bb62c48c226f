//! A policy that is in force for a while: kept by `confirm`, or taken back by itself.

use tracing::{error, info, warn};

use crate::control::Response;
use crate::control::protocol::ChangeStatus;
use crate::engine::{Record, What, Who};
use crate::model::{Lifetime, Time};

use super::daemon::{Daemon, now};
use super::policies::Source;
use super::switch::Before;

/// A policy that is in force for a while.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) source: Source,
    pub(super) by: String,
    /// When it is taken back.
    pub(super) until: Time,
    pub(super) before: Before,
}

impl Daemon {
    /// Keeps what is being tried.
    pub(super) fn confirm(&mut self, who: &Who) -> Response {
        let Some(trial) = self.trial.take() else {
            // Whoever is too late is not to go away believing that it is kept.
            if let Some(reverted) = &self.policies.reverted {
                let text = format!("{} was taken back: apply it again", reverted.file);
                return self.recorded(What::Confirmed, who, Response::refused(1, text));
            }
            let line = "nothing waits to be confirmed".to_owned();
            return Response::new(0, vec![line], Vec::new());
        };
        let response = self.keep_trial(trial, who);
        self.recorded(What::Confirmed, who, response)
    }

    fn keep_trial(&mut self, trial: Trial, who: &Who) -> Response {
        let source = Source {
            file: self.policies.path().to_owned(),
            text: trial.source.text.clone(),
        };
        match self.commit(source) {
            Ok(mut response) => {
                let line = format!("{} is confirmed", trial.source.file.display());
                info!("{who}: {line}");
                response.done.insert(0, line);
                response
            }
            Err(error) => {
                let left = Lifetime::For(trial.until.since(now()));
                let text = format!("not confirmed, and taken back in {left}: {error}");
                self.trial = Some(trial);
                error!("{who}: {text}");
                Response::refused(1, text)
            }
        }
    }

    /// What a trial that goes on refuses everything else with.
    pub(super) fn pending(&self, who: &Who) -> Option<Response> {
        let text = self.waits_to_be_confirmed()?;
        warn!("{who}: refused: {text}");
        Some(Response::refused(4, text))
    }

    /// The same in words.
    pub(super) fn waits_to_be_confirmed(&self) -> Option<String> {
        let trial = self.trial.as_ref()?;
        Some(format!(
            "{}, applied by {}, waits to be confirmed for another {}: `knockctl confirm` or \
             `knockctl rollback` first",
            trial.source.file.display(),
            trial.by,
            Lifetime::For(trial.until.since(now()))
        ))
    }

    /// When the trial ends by itself.
    pub(super) fn trial_ends(&self) -> Option<Time> {
        self.trial.as_ref().map(|trial| trial.until)
    }

    /// Takes back what nobody has confirmed in time.
    pub(super) fn end_of_trial(&mut self) {
        let Some(trial) = self.trial.take_if(|trial| trial.until <= now()) else {
            return;
        };
        let Trial { source, by, .. } = trial;
        let file = source.file.display().to_string();
        let why = format!("{file}, applied by {by}, was not confirmed in time and is taken back");
        warn!("{why}");
        self.memory
            .record(Record::new(What::RolledBack, &by).saying(why).by_hand());
        self.go_back(trial.before);
        self.policies.end_trial();
        self.policies.reverted = Some(reverted(file, by));
    }

    /// Takes back what nobody has confirmed before the daemon ends: while it is stopped, nobody
    /// else would. The note stays, for the next start to say so. Whether there was something.
    pub(super) fn end_trial_with_daemon(&mut self) -> bool {
        let Some(Trial {
            source, by, before, ..
        }) = self.trial.take()
        else {
            return false;
        };
        let file = source.file.display().to_string();
        let why = format!("{file}, applied by {by}, was not confirmed and is taken back");
        warn!("{why}");
        self.memory
            .record(Record::new(What::RolledBack, &by).saying(why).by_hand());
        self.policies.trial_is_recorded();
        self.go_back(before);
        // Where the daemon does not end after all, whoever confirms is to hear of it.
        self.policies.reverted = Some(reverted(file, by));
        true
    }

    /// What `status` says about a change that nobody has confirmed.
    pub(super) fn change_status(&self) -> Option<ChangeStatus> {
        let Some(trial) = &self.trial else {
            return self.policies.reverted.clone();
        };
        Some(ChangeStatus {
            state: "unconfirmed".to_owned(),
            file: trial.source.file.display().to_string(),
            by: trial.by.clone(),
            expires_in_s: Some(trial.until.since(now()).as_secs()),
        })
    }
}

/// What `status` says about a change that was taken back.
fn reverted(file: String, by: String) -> ChangeStatus {
    ChangeStatus {
        state: "reverted".to_owned(),
        file,
        by,
        expires_in_s: None,
    }
}
