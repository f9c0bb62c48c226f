use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Host, LabError, await_some};

/// A program under the name it is called by, since one binary may be several programs.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    name: String,
}

impl Program {
    /// The program at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or(OsStr::new("program"));
        let name = name.to_string_lossy().into_owned();
        Self { path, name }
    }

    /// The running program itself, called by another name.
    pub fn this(name: &str) -> Self {
        Self {
            path: "/proc/self/exe".into(),
            name: name.to_owned(),
        }
    }

    /// A command that runs it on that host.
    pub fn on(&self, host: &Host) -> Result<Command, LabError> {
        let mut command = host.command(&self.path)?;
        command.arg0(&self.name);
        Ok(command)
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Writes a program or script that everybody may run. Another process does it: what this one has
/// open for writing may be inherited, until it calls `exec`, by a process that another thread starts,
/// and as long cannot be executed (`ETXTBSY`, execve(2)).
///
/// # Errors
/// The shell cannot be started, or what it said.
pub fn write_program(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", r#"cat >"$1" && chmod 755 "$1""#, "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    let written = match shell.stdin.take() {
        Some(mut stdin) => stdin.write_all(contents),
        None => Ok(()),
    };
    if !shell.wait()?.success() {
        let why = format!("cannot write the program {}", path.display());
        return Err(io::Error::other(why));
    }
    written
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs a command, with nothing to read, to its end; kills it when `within` is over.
pub fn run_bounded(
    command: &mut Command,
    dir: &Path,
    within: Duration,
) -> Result<Finished, LabError> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = |kind: &str| dir.join(format!("{kind}-{number}"));
    let create = |path: &Path| {
        File::create(path).map_err(LabError::system("create", path.to_string_lossy()))
    };
    let (out, err) = (file("stdout"), file("stderr"));
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&err)?)
        .spawn()
        .map_err(LabError::system("start", name.as_str()))?;
    let ended = await_some(&format!("the end of {name}"), within, || {
        child
            .try_wait()
            .map_err(LabError::system("wait for", name.as_str()))
    });
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        let _ = fs::remove_file(path);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (read(&out), read(&err));
    Ok(Finished {
        status: ended?,
        stdout,
        stderr,
    })
}
