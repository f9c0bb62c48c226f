//! The programs `iptables-save` and `iptables-restore`, run without a shell, in an empty
//! environment and with an end.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Variant;
use super::names::Family;
use crate::firewall::FirewallError;
use crate::sys::ns::die_with_parent;

/// Where the programs may be; never searched for in an environment that somebody else made.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// How long an installation waits for all of them together. They take 2 ms each, and one that
/// waits for the lock a second more; meanwhile nobody's knock is answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long it takes to undo one that failed.
pub(super) const UNDOING: Duration = Duration::from_secs(1);
/// More than the rules of any machine.
const OUTPUT_MAX: u64 = 64 * 1024 * 1024;
/// `RESOURCE_PROBLEM` of xtables: among others, the lock was held.
pub(super) const LOCKED: i32 = 4;

/// The programs of one family.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) save: PathBuf,
    pub(super) restore: PathBuf,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) said: String,
}

fn program_name(family: Family, variant: Variant, what: &str) -> String {
    let stem = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let variant = match variant {
        Variant::Installed => "",
        Variant::Nft => "-nft",
        Variant::Legacy => "-legacy",
    };
    format!("{stem}{variant}-{what}")
}

fn find(name: &str, first: Option<&Path>) -> Option<PathBuf> {
    first
        .into_iter()
        .chain(DIRECTORIES.iter().map(Path::new))
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
}

impl Tool {
    /// Finds the programs, before all others those in `first`; the error is the name of the one
    /// that is missing.
    pub(super) fn find(
        family: Family,
        variant: Variant,
        first: Option<&Path>,
    ) -> Result<Self, String> {
        let find = |what| {
            let name = program_name(family, variant, what);
            find(&name, first).ok_or(name)
        };
        Ok(Self {
            save: find("save")?,
            restore: find("restore")?,
        })
    }

    /// The rules of all tables, as `iptables-save` prints them. Not of the filter table alone:
    /// where it does not exist yet, asking for it by name makes it.
    pub(super) fn read(&self, until: Instant) -> Result<String, FirewallError> {
        let ended = run(&self.save, &[], "", until)?;
        match ended.code {
            Some(0) => Ok(ended.out),
            _ => Err(ended.into_error("read the rules with", &self.save)),
        }
    }

    /// Carries out all of it or nothing.
    pub(super) fn write(&self, input: &str, until: Instant) -> Result<Ended, FirewallError> {
        run(&self.restore, &["--noflush", "--wait", "1"], input, until)
    }

    /// `iptables v1.8.9 (nf_tables)`, for people.
    pub(super) fn version(&self) -> Option<String> {
        let ended = run(&self.restore, &["--version"], "", Instant::now() + UNDOING).ok()?;
        let line = ended.out.lines().next()?.trim();
        Some(line.replacen("-restore", "", 1)).filter(|_| ended.code == Some(0))
    }
}

impl Ended {
    pub(super) fn into_error(self, operation: &'static str, program: &Path) -> FirewallError {
        let code = match self.code {
            Some(code) => format!("exit code {code}"),
            None => "it was killed".to_owned(),
        };
        let said: String = self
            .said
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        FirewallError::Program {
            operation,
            program: program.display().to_string(),
            problem: if said.is_empty() {
                code
            } else {
                format!("{code}: {said}")
            },
        }
    }
}

fn run(
    program: &Path,
    arguments: &[&str],
    input: &str,
    until: Instant,
) -> Result<Ended, FirewallError> {
    bounded(program, arguments, input, until).map_err(|source| FirewallError::Kernel {
        operation: "run",
        object: program.display().to_string(),
        hint: match source.kind() {
            io::ErrorKind::NotFound => " (install the package iptables)",
            io::ErrorKind::TimedOut => " (it did not end in time and was stopped)",
            _ => "",
        },
        source,
    })
}

fn memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"portcullis", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Input and complaints are files in memory, so that nobody waits for anybody; the end of the
/// output is the end of the program.
fn bounded(program: &Path, arguments: &[&str], input: &str, until: Instant) -> io::Result<Ended> {
    if Instant::now() >= until {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut said = memory(b"")?;
    let mut command = Command::new(program);
    // Nobody goes on writing when we are dead.
    die_with_parent(&mut command);
    let mut child = command
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(memory(input.as_bytes())?)
        .stdout(Stdio::piped())
        .stderr(said.try_clone()?)
        .process_group(0)
        .spawn()?;
    let out = match child.stdout.take() {
        Some(pipe) => collect(pipe, until),
        None => Ok(Vec::new()),
    };
    if out.is_err() {
        // With whatever it has started itself.
        let group = i32::try_from(child.id()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        let _ = child.kill();
    }
    let status = child.wait()?;
    let out = out?;
    said.rewind()?;
    let mut complaints = Vec::new();
    said.take(16 * 1024).read_to_end(&mut complaints)?;
    Ok(Ended {
        code: status.code(),
        out: String::from_utf8_lossy(&out).into_owned(),
        said: String::from_utf8_lossy(&complaints).into_owned(),
    })
}

fn collect(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut waiting = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, left) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buffer[..count]),
        }
        if all.len() as u64 > OUTPUT_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}
