//! What goes over the socket about changes of the policy.

use serde::{Deserialize, Serialize};

/// A policy on its way to the daemon, which need not be able to read the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// The file that it comes from, for messages.
    pub file: String,
    /// What the file says.
    pub text: String,
}

/// A change of the policy that nobody has confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeStatus {
    /// `unconfirmed`: in force for a while; `reverted`: taken back.
    pub state: String,
    /// The file that it came from.
    pub file: String,
    /// Who applied it.
    pub by: String,
    /// When it is taken back, in whole seconds; null if it has been.
    pub expires_in_s: Option<u64>,
}
