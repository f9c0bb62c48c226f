use std::env;
use std::io::{IsTerminal, stdout};

/// Colours, on a terminal that wants them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    colours: bool,
}

impl Paint {
    /// None in a pipe, on a dumb terminal, or where `NO_COLOR` is set and not empty
    /// (<https://no-color.org>).
    pub(super) fn for_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            colours: stdout().is_terminal() && !refused && !dumb,
        }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.dressed("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.dressed("31", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.dressed("1", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.dressed("2", text)
    }

    /// ECMA-48, select graphic rendition.
    fn dressed(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
