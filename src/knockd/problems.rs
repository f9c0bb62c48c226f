//! What is not as it should be, for `status`.

use std::collections::BTreeMap;

use tracing::{info, warn};

/// The topic of problems with writing to the kernel.
pub(super) const FIREWALL: &str = "firewall";

/// What is not as it should be, by topic; `status` shows it.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<&'static str, String>);

impl Problems {
    /// Sets or clears a topic, and says so in the log when it changes.
    pub(super) fn set(&mut self, topic: &'static str, problem: Option<String>) {
        match problem {
            Some(text) if self.0.get(topic) != Some(&text) => {
                warn!("{text}");
                self.0.insert(topic, text);
            }
            Some(_) => {}
            None => {
                if self.0.remove(topic).is_some() {
                    info!("{topic}: all is well again");
                }
            }
        }
    }

    /// What stands of a topic.
    pub(super) fn get(&self, topic: &str) -> Option<&str> {
        self.0.get(topic).map(String::as_str)
    }

    /// What stands.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str)
    }
}
