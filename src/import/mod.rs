//! A classic knockd.conf as a policy of our own: commands that open and close a port become
//! acceptances at a gate, which end by themselves and cost nothing to look up; the rest stays as
//! it is, run as a command.
//!
//! Pure: text in, text and remarks out.
#![forbid(unsafe_code)]

mod doors;
mod gates;
mod kept;
mod rule;
mod script;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::model::KnockName;
use crate::policy::{self, Interfaces, Notes, Policy, PolicyErrors, Problem};

use gates::Gates;

/// The policy's name in messages, where it has no file.
pub const MADE: &str = "(the policy made of it)";

/// A policy in YAML, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// It passes `policy::parse`.
    pub yaml: String,
    /// What is not as it was, and why; in the comments of the policy, too.
    pub remarks: Vec<Remark>,
    /// What was doubtful in the file as it is.
    pub warnings: Vec<Problem>,
    /// What is unwise about the policy; places are those of that.
    pub unwise: Vec<Problem>,
}

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// With which knock; `None`: with all of it.
    pub knock: Option<KnockName>,
    /// A sentence without a full stop, in characters that can be shown.
    pub text: String,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is something else.
    #[error("{0} is no knockd.conf: it does not begin with a section such as `[options]`")]
    NotClassic(String),
    /// The file is wrong.
    #[error(transparent)]
    File(PolicyErrors),
    /// The file is right, but a policy may not be like that.
    #[error(
        "a policy does not take what {file} says; mend that there, and import it again:\n{errors}"
    )]
    Refused {
        /// The file.
        file: String,
        /// What a policy made of it would be refused for. Places are those of that policy.
        errors: PolicyErrors,
    },
}

/// Makes a policy of a knockd.conf; `file` is only a name for messages.
pub fn knockd_conf(text: &str, file: &Path) -> Result<Imported, ImportError> {
    let name = policy::printable(&file.to_string_lossy());
    if !policy::is_classic(text) {
        return Err(ImportError::NotClassic(name));
    }
    let checked = policy::parse_to_import(text, file).map_err(ImportError::File)?;
    let mut remarks = Vec::new();
    let policy = everywhere_unless_said(text, checked.policy, &mut remarks);
    let policy = translated(policy, &mut remarks);
    for remark in &mut remarks {
        // They repeat paths and commands of the file.
        remark.text = policy::printable(&remark.text);
    }
    let yaml = policy::emit(&policy, &notes(&name, &policy, &remarks));
    match policy::parse(&yaml, Path::new(MADE)) {
        Ok(made) => Ok(Imported {
            yaml,
            remarks,
            warnings: checked.warnings,
            unwise: made.warnings,
        }),
        Err(errors) => Err(ImportError::Refused { file: name, errors }),
    }
}

/// A gate is shut on every interface. So where the file leaves it open which one is listened on, and
/// only the daemon's `-i` may have said, a policy has to hear knocks on all of them.
fn everywhere_unless_said(text: &str, classic: Policy, remarks: &mut Vec<Remark>) -> Policy {
    // In another section, or twice, the key would have been refused.
    let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
    let mut keys = text.lines().filter_map(key);
    if keys.any(|key| key.eq_ignore_ascii_case("interface")) {
        return classic;
    }
    let said = "the file names no `Interface`, so knocks are heard on all of them; the classic \
                daemon took eth0, unless `-i` told it otherwise";
    remarks.push(Remark {
        knock: None,
        text: said.to_owned(),
    });
    Policy {
        interfaces: Interfaces::Any,
        ..classic
    }
}

fn translated(classic: Policy, remarks: &mut Vec<Remark>) -> Policy {
    let mut about_all = |text: String| remarks.push(Remark { knock: None, text });
    if let Some(file) = &classic.pid_file {
        about_all(format!(
            "the pid file is no matter of the policy: start knockd with -p {}",
            file.display()
        ));
    }
    if classic.log.file.is_some() || classic.log.syslog {
        about_all(
            "the log keeps the classic words where there are such; lines about acceptances are \
             in this program's own"
                .to_owned(),
        );
    }
    let mut gates = Gates::default();
    let knocks = classic.knocks.iter();
    let knocks: Vec<_> = knocks
        .map(|knock| doors::translate(knock, &mut gates, remarks))
        .collect();
    let gates = gates.into_gates();
    remarks.extend(kept::remarks(&knocks, &gates));
    if !gates.is_empty() {
        let ports: Vec<String> = gates
            .iter()
            .flat_map(|gate| &gate.ports)
            .map(ToString::to_string)
            .collect();
        let ports = ports.join(", ");
        for text in [
            format!(
                "from now on knockd itself keeps {ports} shut, but for the accepted and the \
                 trusted: put those who must always get in into knockd.trusted before you start it"
            ),
            format!(
                "a rule of your own that drops new connections to {ports} has to go where knockd \
                 uses nftables: what one table drops another cannot let in"
            ),
        ] {
            remarks.push(Remark { knock: None, text });
        }
    }
    Policy {
        trusted: (!gates.is_empty()).then(|| "knockd.trusted".into()),
        knocks: doors::in_gates(knocks, &gates),
        gates,
        pid_file: None,
        ..classic
    }
}

fn notes(file: &str, policy: &Policy, remarks: &[Remark]) -> Notes {
    let mut head = vec![
        format!("Made by `knockctl import` of {file}."),
        "What is not as it was there:".to_owned(),
    ];
    let mut notes = Notes::default();
    for Remark { knock, text } in remarks {
        match knock {
            None => head.push(format!("- {text}.")),
            Some(name) if policy.knocks.iter().any(|knock| knock.name == *name) => {
                notes.knocks.push((name.clone(), format!("{text}.")));
            }
            Some(name) => notes.tail.push(format!("{name}: {text}.")),
        }
    }
    if head.len() == 2 {
        head.pop();
    }
    head.push(String::new());
    notes.head = head;
    notes
}
