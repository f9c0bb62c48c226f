use std::fmt;
use std::sync::Arc;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A gate's name becomes a chain's name.
    #[error(
        "`{0}` is not a gate name: expected a small letter, then up to 15 small letters or digits"
    )]
    Gate(String),
    /// A knock's name goes into logs and set comments.
    #[error("`{0}` is not a knock name: expected 1 to 64 letters, digits, `_`, `-`, `.` or `:`")]
    Knock(String),
}

/// A gate's name, which is also the prefix of its chains: `ssh` makes `ssh_policy`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GateName(Arc<str>);

impl GateName {
    /// Checks `[a-z][a-z0-9]{0,15}`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        let good = bytes.next().is_some_and(|b| b.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && text.len() <= 16;
        if good {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Gate(text.to_owned()))
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A knock's name, as it appears in the log, in `list` and as the reason of a member.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KnockName(Arc<str>);

impl KnockName {
    /// Checks that the name cannot confuse a log line.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let good = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Knock(text.to_owned()))
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shows_as_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    )*};
}
shows_as_text!(GateName, KnockName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_names_are_chain_prefixes() {
        for good in ["ssh", "s", "a234567890123456"] {
            assert!(GateName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Ssh",
            "1ssh",
            "ssh_x",
            "ssh-x",
            "a2345678901234567",
            "é",
        ] {
            assert!(GateName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn knock_names_cannot_forge_log_lines() {
        for good in ["opencloseSSH", "banned1", "a-b_c.d:e"] {
            assert!(KnockName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\nb", "a\"b"] {
            assert!(KnockName::new(bad).is_err(), "{bad}");
        }
    }
}
