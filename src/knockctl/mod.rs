//! `knockctl`: asks the daemon over its control socket, or does without one, and shows the answer.
//! `replay`, `import` and `handout` ask nobody.
#![forbid(unsafe_code)]

mod args;
mod handout;
mod history;
mod import;
mod output;
mod policy;
mod replay;
mod sequences;
mod show;
#[cfg(test)]
mod tests;
mod why;

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use serde_json::Value;

use crate::control::client::{self, ClientError};
use crate::control::{Data, Response, Verb};
use crate::knockd::direct;
use crate::operators;
use args::{Arguments, Output, Task};

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The program `knockctl`.
pub fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| told_where(error).exit());
    let asked = match &arguments.verb {
        Task::Ask(command) => command.request(),
        Task::Replay(replay) => return ExitCode::from(replay::run(replay, arguments.output)),
        Task::Handout(handout) => return ExitCode::from(handout::run(handout)),
        Task::Sequences(task) => return ExitCode::from(sequences::run(task)),
        Task::Import(import) => return ExitCode::from(import::run(import)),
    };
    let mut request = match asked {
        Ok(request) => request,
        Err(problem) => {
            let response = Response::refused(2, problem.to_string());
            return ExitCode::from(report(&arguments, Verb::Apply, response));
        }
    };
    if !request.verb.only_reads() {
        request.session = operators::own().map(|session| session.to_words());
    }
    let response = match arguments.direct.places() {
        Ok(Some(places)) => direct::ask(&request, &places),
        Ok(None) => client::ask(&arguments.socket, &request)
            .unwrap_or_else(|error| failed(request.verb, &error)),
        Err(wrong) => Response::refused(2, wrong.to_string()),
    };
    ExitCode::from(report(&arguments, request.verb, response))
}

/// Whoever looks for `check` here is told where it is.
fn told_where(mut error: clap::Error) -> clap::Error {
    let unknown = error.get(ContextKind::InvalidSubcommand);
    if matches!(unknown, Some(ContextValue::String(verb)) if verb == "check") {
        let tip = "`knockd check FILE` checks a policy".into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// A failure on our side is told in the form of an answer.
fn failed(verb: Verb, error: &ClientError) -> Response {
    let is_dead = matches!(error, ClientError::NotRunning(_) | ClientError::Gone(_));
    let hint = if is_dead && direct::does(verb) {
        "; `knockctl --direct` does without it"
    } else {
        ""
    };
    Response::refused(error.code(), format!("{error}{hint}"))
}

/// Shows the answer and returns the exit code.
fn report(arguments: &Arguments, verb: Verb, response: Response) -> u8 {
    for line in &response.refused {
        // Nobody is left to be told if that fails.
        let _ = writeln!(io::stderr(), "knockctl: {}", show::clean(line));
    }
    let answer = Answer::of(verb, response);
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match arguments.output {
        Output::Json => answer.write_json(&mut out),
        Output::Table => answer.write_table(&mut out, terminal),
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => answer.code,
        // `knockctl list | head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => answer.code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "knockctl: cannot write the answer: {error}");
            1
        }
    }
}

/// What is to be shown.
#[derive(Debug)]
struct Answer {
    verb: Verb,
    code: u8,
    done: Vec<String>,
    refused: Vec<String>,
    /// `None` where there is none, or where it would be half the truth.
    data: Option<Value>,
}

impl Answer {
    fn of(verb: Verb, response: Response) -> Self {
        let data = match response.data {
            Data::Nothing => None,
            Data::Json(value) => Some(value),
            typed => serde_json::to_value(typed).ok(),
        };
        let mut answer = Self {
            verb,
            code: response.code,
            done: response.done,
            refused: response.refused,
            data,
        };
        match (&mut answer.data, verb) {
            (Some(data), Verb::List) => show::sort_entries(data),
            (Some(data), Verb::Status)
                if data.get("state").and_then(Value::as_str) == Some("degraded")
                    && answer.code == 0 =>
            {
                answer.code = 5;
            }
            _ => {}
        }
        answer
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.data {
            Some(data) => serde_json::to_writer(&mut *out, data)?,
            None => serde_json::to_writer(
                &mut *out,
                &serde_json::json!({
                    "done": self.done,
                    "refused": self.refused,
                    "code": self.code,
                }),
            )?,
        }
        writeln!(out)
    }

    fn write_table(&self, out: &mut impl Write, terminal: bool) -> io::Result<()> {
        for line in &self.done {
            writeln!(out, "{}", show::clean(line))?;
        }
        match (&self.data, self.verb) {
            (Some(data), Verb::Status) => show::status(out, data, terminal),
            (Some(data), Verb::History) => history::table(out, data, terminal),
            (Some(data), Verb::List) => show::list(out, data, terminal),
            (Some(data), Verb::Why) => why::why(out, data),
            // It has been said in words.
            (Some(_), Verb::Diff) => Ok(()),
            (Some(data), _) => writeln!(out, "{data:#}"),
            (None, Verb::Ping) if self.code == 0 && self.done.is_empty() => {
                writeln!(out, "knockd answers")
            }
            (None, verb) if self.code == 0 && self.done.is_empty() && !verb.only_reads() => {
                writeln!(out, "nothing to do: it is so already")
            }
            _ => Ok(()),
        }
    }
}
