//! What a knock with `action: run` starts.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Stands for the address of whoever knocked.
pub const ADDRESS_TOKEN: &str = "%IP%";

/// A command as it is to be started. [`ADDRESS_TOKEN`] in it stands for the address of whoever
/// knocked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CommandLine {
    /// A program and its arguments, without a shell; not empty.
    Words(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// Why a line is not a program with arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Nothing but white space, or an empty program.
    #[error("there is no program in it")]
    Empty,
    /// A quote without its end.
    #[error("the quote {0} is not closed")]
    Open(char),
    /// A backslash at the end.
    #[error("the backslash at the end escapes nothing")]
    Backslash,
}

impl CommandLine {
    /// Splits a line into words as a shell does: at white space, with quotes and backslashes, but
    /// nothing is expanded.
    pub fn words(line: &str) -> Result<Self, SplitError> {
        let words = split(line)?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(CommandLine::Words(words)),
            _ => Err(SplitError::Empty),
        }
    }

    /// With the address in the place of each [`ADDRESS_TOKEN`]. It is one that this program has
    /// written, digits, letters, dots and colons, so that nothing in it means anything to a shell.
    #[must_use]
    pub fn for_source(&self, source: IpAddr) -> Self {
        let source = source.to_canonical().to_string();
        let put = |text: &String| text.replace(ADDRESS_TOKEN, &source);
        match self {
            CommandLine::Words(words) => CommandLine::Words(words.iter().map(put).collect()),
            CommandLine::Shell(line) => CommandLine::Shell(put(line)),
        }
    }

    /// Whether a shell reads it.
    pub fn is_shell(&self) -> bool {
        matches!(self, CommandLine::Shell(_))
    }
}

fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(SplitError::Open('\''))? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(SplitError::Open('"'))? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(SplitError::Open('"'))? {
                            c @ ('"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => {
                let escaped = chars.next().ok_or(SplitError::Backslash)?;
                word.get_or_insert_default().push(escaped);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// As it is written in a policy.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandLine::Shell(line) => f.write_str(line),
            CommandLine::Words(words) => {
                for (index, word) in words.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    write_word(f, word)?;
                }
                Ok(())
            }
        }
    }
}

fn write_word(f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./%:=@+,-".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return f.write_str(word);
    }
    write!(f, "'{}'", word.replace('\'', r"'\''"))
}

/// A command for each address family; none is nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerFamily {
    /// For who knocks over IPv4.
    pub v4: Option<CommandLine>,
    /// For who knocks over IPv6.
    pub v6: Option<CommandLine>,
}

impl PerFamily {
    /// The command for whoever has this address.
    pub fn for_address(&self, address: IpAddr) -> Option<&CommandLine> {
        match address.to_canonical() {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        }
    }

    /// Whether there is nothing to do in either family.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The commands, each once.
    pub fn each(&self) -> impl Iterator<Item = &CommandLine> {
        let other = self.v6.as_ref().filter(|v6| self.v4.as_ref() != Some(v6));
        self.v4.iter().chain(other)
    }
}

/// What a completed sequence starts, and what it owes when the knock's `lifetime` is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// At once.
    pub start: PerFamily,
    /// When `Knock::lifetime` has passed since; there is a lifetime exactly where there is
    /// something to stop.
    pub stop: PerFamily,
    /// How long each of them may take.
    pub timeout: Duration,
}

impl Run {
    /// How long a command may take unless the policy says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
}

/// Nothing to start.
impl Default for Run {
    fn default() -> Self {
        Self {
            start: PerFamily::default(),
            stop: PerFamily::default(),
            timeout: Self::TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Result<Vec<String>, SplitError> {
        match CommandLine::words(line)? {
            CommandLine::Words(words) => Ok(words),
            CommandLine::Shell(_) => unreachable!("asked for words"),
        }
    }

    #[test]
    fn lines_split_as_a_shell_splits_them_and_nothing_is_expanded() {
        let cases: &[(&str, &[&str])] = &[
            ("/bin/x  a\tb ", &["/bin/x", "a", "b"]),
            (r#"x 'a b' "c 'd'" e\ f"#, &["x", "a b", "c 'd'", "e f"]),
            (r#"x "a\"b\\c\d" ''"#, &["x", r#"a"b\c\d"#, ""]),
            ("x $HOME * ; > y", &["x", "$HOME", "*", ";", ">", "y"]),
            ("x --ip=%IP%", &["x", "--ip=%IP%"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), *expected, "{line}");
        }
        assert_eq!(words("  "), Err(SplitError::Empty));
        assert_eq!(words("'' a"), Err(SplitError::Empty));
        assert_eq!(words("x 'a"), Err(SplitError::Open('\'')));
        assert_eq!(words("x \"a"), Err(SplitError::Open('"')));
        assert_eq!(words("x \\"), Err(SplitError::Backslash));
    }

    #[test]
    fn the_token_becomes_the_address_and_nothing_else_of_a_word_changes() {
        let command = CommandLine::words("/bin/x -s%IP% '%IP%; %IP%' %ip%").unwrap();
        let source = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(
            command.for_source(source),
            CommandLine::words("/bin/x -s192.0.2.1 '192.0.2.1; 192.0.2.1' %ip%").unwrap()
        );
        let shell = CommandLine::Shell("echo %IP% > '%IP%'".into());
        let told = shell.for_source("2001:db8::1".parse().unwrap());
        assert_eq!(told.to_string(), "echo 2001:db8::1 > '2001:db8::1'");
    }

    #[test]
    fn the_family_of_an_address_decides_and_a_mapped_one_is_ipv4() {
        let line = |text: &str| Some(CommandLine::Shell(text.into()));
        let both = PerFamily {
            v4: line("four"),
            v6: None,
        };
        let told = |address: &str| both.for_address(address.parse().unwrap()).cloned();
        assert_eq!(told("192.0.2.1"), line("four"));
        assert_eq!(told("::ffff:192.0.2.1"), line("four"));
        assert_eq!(told("2001:db8::1"), None);
    }

    proptest! {
        #[test]
        fn words_that_are_written_are_read_back(
            program in "[^\0\n]{1,8}",
            rest in prop::collection::vec("[^\0\n]{0,8}", 0..5),
        ) {
            let all: Vec<String> = [vec![program], rest].concat();
            let line = CommandLine::Words(all.clone()).to_string();
            prop_assert_eq!(words(&line), Ok(all));
        }
    }
}
