//! `diff`: what a policy would change about the one in force, and what is in the way of `apply`.

use std::path::Path;

use serde_json::json;

use crate::control::protocol::Data;
use crate::control::{PolicyText, Response};
use crate::policy::{self, Checked};

use super::change::{Found, said};
use super::daemon::Daemon;
use super::guard::check_as;

impl Daemon {
    /// What a policy would change about the one in force.
    pub(super) fn diff(&self, new: &PolicyText, checked: Found) -> Response {
        let file = Path::new(&new.file);
        let checked = checked.unwrap_or_else(|| check_as(&new.text, self.policies.path(), file));
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => return Response::refused(2, error.to_string()),
        };
        let differences = policy::diff(self.engine.policy(), &checked.policy);
        let changes: Vec<_> = differences
            .iter()
            .map(|it| json!({"of": it.of, "key": it.key, "from": it.from, "to": it.to}))
            .collect();
        let mut lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        if lines.is_empty() {
            lines.push("nothing would change".to_owned());
        }
        let mut warnings = said(&checked, file);
        warnings.extend(self.hindrances(&new.text, &checked, file));
        Response {
            data: Data::Json(json!({"changes": changes, "warnings": warnings})),
            ..Response::new(0, lines, warnings)
        }
    }

    /// What `apply` would complain of now besides the policy itself, in its words. Who would be shut
    /// out is not asked: whoever wants to know what would change need not be the one who applies it.
    fn hindrances(&self, text: &str, checked: &Checked, file: &Path) -> Vec<String> {
        let refused = |why: &dyn ToString| {
            let why = why.to_string();
            format!("warning: `apply` would be refused: {why}")
        };
        let mut found = Vec::new();
        if let Err(error) = self.has_memory_for(&checked.policy, file) {
            found.push(refused(&error));
        }
        found.extend(self.waits_to_be_confirmed().map(|why| refused(&why)));
        match self.roster.reloaded(checked.policy.trusted.as_deref()) {
            Ok(mut roster) => {
                let doubts = roster.take_doubts().into_iter();
                found.extend(doubts.map(|doubt| format!("warning: {doubt}")));
            }
            Err(error) => found.push(refused(&error)),
        }
        if let Err(error) = self.policies.can_write_file(text) {
            found.push(refused(&error));
        }
        found
    }
}
