//! What verbs that ask nobody have to say.

use std::io::{self, ErrorKind, Write};

use super::show;

/// A line on standard error.
pub(super) fn say(line: &str) {
    // Nobody is left to be told if that fails.
    let _ = writeln!(io::stderr(), "knockctl: {}", show::clean(line));
}

/// All of it on standard output. Whoever closed that has seen enough.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
