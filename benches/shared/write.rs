//! Figures into a document, in place of those that are there; every bench with a table has this.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What follows `--write` on the command line.
pub(crate) fn asked_for() -> Option<PathBuf> {
    let mut arguments = std::env::args().skip_while(|it| it != "--write");
    arguments.nth(1).map(PathBuf::from)
}

/// Writes between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
pub(crate) fn write_into(path: &Path, name: &str, figures: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let marks = ["begin", "end"].map(|which| format!("<!-- {name}: {which} -->\n"));
    match [text.find(&marks[0]), text.find(&marks[1])] {
        [Some(begin), Some(end)] if begin < end => {
            let (head, tail) = (&text[..begin + marks[0].len()], &text[end..]);
            let figures = figures.trim_end();
            fs::write(path, format!("{head}{figures}\n{tail}"))
        }
        _ => Err(io::Error::other(format!("it has no lines {marks:?}"))),
    }
}

/// The same where it is asked for; whether nothing went wrong.
pub(crate) fn write_if_asked(name: &str, figures: &str) -> bool {
    let Some(path) = asked_for() else { return true };
    let result = write_into(&path, name, figures);
    if let Err(error) = &result {
        eprintln!("cannot write the figures into {}: {error}", path.display());
    }
    result.is_ok()
}
