//! What is wrong with the YAML itself, in words that do not speak of the library.

use serde_saphyr::Error;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;

use super::node::At;
use super::problem::{Problem, quote};

const TOO_MUCH: (&str, &str) = (
    "more nesting, entries or aliases than any policy needs",
    "a policy of at most 64 gates and 1024 knocks",
);

/// Explains why `text` could not be read.
pub(super) fn explain(error: &Error, text: &str) -> Problem {
    let error = error.without_snippet();
    let at = error.location().map_or(At::START, At::from);
    let index = usize::try_from(at.line - 1).unwrap_or(usize::MAX);
    let line = text.lines().nth(index).unwrap_or_default();
    let (found, expected) = cause(error);
    let mut problem = Problem {
        line: at.line,
        column: at.column,
        found,
        expected: expected.to_owned(),
        help: quoting(line, at.column),
    };
    if let Error::UnsupportedTag { tag, .. } = error {
        // The library points behind the tag.
        if let Some(start) = line.find(tag.as_str()) {
            problem.column = line[..start].chars().count() as u64 + 1;
        }
        problem.help = Some("write flags with `!` in quotes: `tcpflags: \"syn,!ack\"`".into());
    }
    problem
}

/// What was found, and what was expected.
fn cause(error: &Error) -> (String, &'static str) {
    let (found, expected) = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            return (
                format!("the key {} a second time", quote(key)),
                "each key once",
            );
        }
        Error::UnsupportedTag { tag, .. } => {
            return (format!("the YAML tag {}", quote(tag)), "text without a tag");
        }
        Error::DuplicateMappingKey { key: None, .. } => ("a key a second time", "each key once"),
        Error::MultipleDocuments { .. } => {
            ("a second document after `---`", "one policy in a file")
        }
        Error::UnknownAnchor { .. } => (
            "an alias of an anchor that is not there",
            "`*name` after an `&name`, or the text in quotes",
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => (
            "an alias inside what it stands for",
            "a mapping or list that ends",
        ),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => TOO_MUCH,
        Error::ExternalMessage { source, .. } if is_depth(source) => TOO_MUCH,
        Error::AliasError { error, .. } => return cause(error.without_snippet()),
        other => return (format!("a syntax error: {}", bare(other)), "valid YAML"),
    };
    (found.to_owned(), expected)
}

fn is_depth(source: &ExternalMessageSource) -> bool {
    let ExternalMessageSource::Parser(error) = source else {
        return false;
    };
    matches!(error.kind(), ErrorKind::RecursionLimitExceeded)
}

/// The message without the place, which is said in front already, and on one line.
fn bare(error: &Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.rfind(" at line ").map_or(text, |end| &text[..end]);
    text.chars().take(200).filter(|c| !c.is_control()).collect()
}

/// Text that begins with a character that YAML keeps for itself.
fn quoting(line: &str, column: u64) -> Option<String> {
    let index = usize::try_from(column - 1).ok()?;
    match line.chars().nth(index)? {
        c @ ('@' | '`' | '%') => Some(format!("put text that begins with `{c}` in quotes")),
        _ => None,
    }
}
