use std::fmt;
use std::path::{Path, PathBuf};

/// The most problems that one report names.
pub(super) const MOST: usize = 100;

/// Something in the policy that is wrong, or that works but is unwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
    /// What stands there; printable.
    pub found: String,
    /// What should.
    pub expected: String,
    /// What to do about it, a sentence or a question without a full stop.
    pub help: Option<String>,
}

impl Problem {
    /// The problem with the name of its file in front, as compilers write it.
    pub fn in_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        InFile {
            file,
            problem: self,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            line,
            column,
            found,
            expected,
            help,
        } = self;
        write!(f, "{line}:{column}: found {found}, expected {expected}")?;
        match help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

struct InFile<'a> {
    file: &'a Path,
    problem: &'a Problem,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.problem)
    }
}

/// Everything that is wrong with a policy, in the order of the file. Displayed a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors {
    /// The file, as it was named.
    pub file: PathBuf,
    /// At least one, at most a hundred.
    pub problems: Vec<Problem>,
    /// How many more there were.
    pub omitted: usize,
}

impl PolicyErrors {
    /// `uncounted` are those that were not even written down.
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>, uncounted: usize) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        let omitted = problems.len().saturating_sub(MOST) + uncounted;
        problems.truncate(MOST);
        Self {
            file: file.to_owned(),
            problems,
            omitted,
        }
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.in_file(&self.file).fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\n{}: {} more", self.file.display(), self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// Text from the file as it may be shown: short, in backquotes, without control characters.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        show(c, &mut shown);
    }
    shown.push('`');
    shown
}

/// A path as it may be shown: whole, without control characters.
pub(super) fn path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Text as it may be shown: whole, without what would change how a terminal shows it.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        show(c, &mut shown);
    }
    shown
}

fn show(c: char, shown: &mut String) {
    if c.is_control() || is_invisible(c) {
        shown.extend(c.escape_unicode());
    } else {
        shown.push(c);
    }
}

/// Characters that change how a terminal shows what stands around them (Unicode's `Bidi_Control` and
/// zero-width characters).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The word that was probably meant, if one is near.
pub(super) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    let small = text.to_lowercase();
    words
        .into_iter()
        .map(|word| {
            let word_small = word.to_lowercase();
            let apart = strsim::damerau_levenshtein(&small, &word_small);
            (apart, word)
        })
        .filter(|(apart, word)| apart * 3 <= word.len().max(2))
        .min_by_key(|(apart, _)| *apart)
        .map(|(_, word)| word)
}

/// The question that goes with `nearest`.
pub(super) fn did_you_mean<'a>(
    text: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(text, words).map(|word| format!("did you mean `{word}`?"))
}

/// `a, b or c`, each in backquotes.
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::from("nothing"),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
