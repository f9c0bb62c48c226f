//! What is wrong with the YAML itself, in words that do not speak of the library.

use serde_saphyr::Error;

use super::node::At;
use super::problem::{Problem, quote};

/// Explains why `text` could not be read.
pub(super) fn explain(error: &Error, text: &str) -> Problem {
    let error = error.without_snippet();
    let at = error.location().map_or(At::START, At::from);
    let (found, expected) = match error {
        Error::DuplicateMappingKey { key, .. } => {
            let found = match key {
                Some(key) => format!("the key {} a second time", quote(key)),
                None => String::from("a key a second time"),
            };
            (found, "each key once")
        }
        Error::MultipleDocuments { .. } => (
            String::from("a second document after `---`"),
            "one policy in a file",
        ),
        Error::UnknownAnchor { .. } => (
            String::from("an alias of an anchor that is not there"),
            "`*name` after an `&name`, or the text in quotes",
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => (
            String::from("an alias inside what it stands for"),
            "a mapping or list that ends",
        ),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            String::from("more nesting, entries or aliases than any policy needs"),
            "a policy of at most 64 gates and 1024 knocks",
        ),
        other => (bare(other), "valid YAML"),
    };
    let place = Place::of(text, at);
    Problem {
        line: place.at.line,
        column: place.at.column,
        found,
        expected: expected.to_owned(),
        help: place.help(),
    }
}

/// The message without the place, which is said in front already.
fn bare(error: &Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = match text.rfind(" at line ") {
        Some(end) => &text[..end],
        None => text,
    };
    let mut short: String = text.chars().take(200).filter(|c| !c.is_control()).collect();
    if short.is_empty() {
        short.push_str("text that is not YAML");
    }
    short
}

/// The line that the error points at.
struct Place<'a> {
    at: At,
    line: &'a str,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, at: At) -> Self {
        let index = usize::try_from(at.line - 1).unwrap_or(usize::MAX);
        Self {
            at,
            line: text.lines().nth(index).unwrap_or_default(),
        }
    }

    /// The usual causes, by what stands in the line.
    fn help(&self) -> Option<String> {
        let column = usize::try_from(self.at.column - 1).unwrap_or(usize::MAX);
        let here = self.line.chars().nth(column);
        if let Some(c @ ('@' | '`' | '%')) = here {
            return Some(format!("put text that begins with `{c}` in quotes"));
        }
        let tag = |word: &str| word.starts_with('!') && word.len() > 1;
        if self.line.split([' ', ',', '[', '{']).any(tag) {
            return Some(String::from(
                "put flags with `!` in quotes: `tcpflags: \"syn,!ack\"`",
            ));
        }
        None
    }
}
