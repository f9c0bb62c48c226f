//! What is not as it should be, for `status`.

use std::collections::BTreeMap;

use tracing::{info, warn};

/// The topic of rules that are not as they were written.
pub(super) const RULES: &str = "rules";

/// The topic of rules that another backend has left.
pub(super) const FORMER: &str = "former backend";

/// The topic of problems with the whitelist file.
pub(super) const WHITELIST: &str = "whitelist";

/// The topic of somebody who undoes repairs.
pub(super) const FIGHT: &str = "repairs";

/// The topic of what the backend has to say and cannot mend.
pub(super) const COMPLAINTS: &str = "backend";
/// The topic of a policy that is not what its file says.
pub(super) const POLICY: &str = "policy";

/// The topic of what could not be kept of the policies.
pub(super) const KEPT: &str = "kept policies";

/// The topic of damaged state that nobody has looked at yet.
pub(super) const DAMAGED: &str = "damaged state";

/// The topic of problems with writing to the kernel.
pub(super) const FIREWALL: &str = "firewall";

/// The topic of a log file that cannot be opened.
pub(super) const LOG_FILE: &str = "log file";

/// The topic of a pid file that cannot be written.
pub(super) const PID_FILE: &str = "pid file";

/// The topic of a look at the ports that are listened on.
pub(super) const LISTENERS: &str = "listeners";

/// What is not as it should be, by topic; `status` shows it.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<&'static str, Vec<String>>);

impl Problems {
    /// Sets or clears a topic, and says so in the log when it changes.
    pub(super) fn set(&mut self, topic: &'static str, problem: Option<String>) {
        self.set_all(topic, problem.into_iter().collect());
    }

    /// Sets a topic that the log has heard of already.
    pub(super) fn said(&mut self, topic: &'static str, problem: Option<String>) {
        self.0.extend(problem.map(|text| (topic, vec![text])));
    }

    /// The same for a topic with several sides to it.
    pub(super) fn set_all(&mut self, topic: &'static str, problems: Vec<String>) {
        let before = self.0.remove(topic).unwrap_or_default();
        for text in problems.iter().filter(|text| !before.contains(text)) {
            warn!("{text}");
        }
        if !problems.is_empty() {
            self.0.insert(topic, problems);
            return;
        }
        for text in before {
            info!("mended: {text}");
        }
    }

    /// What stands of a topic.
    pub(super) fn get(&self, topic: &str) -> Option<&str> {
        self.0.get(topic)?.first().map(String::as_str)
    }

    /// What stands.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.values().flatten().map(String::as_str)
    }
}
