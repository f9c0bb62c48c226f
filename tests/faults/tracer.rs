//! strace (https://strace.io), which kills a process at the n-th of its system calls of a kind, or
//! has that call fail: nothing in the program knows of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis::lab::{Host, LabError, await_some};

const PATIENCE: Duration = Duration::from_secs(10);

/// Follows a process until dropped.
pub(crate) struct Tracer {
    child: Child,
    traces: PathBuf,
}

impl Tracer {
    /// Attaches to a running process, and to all its threads: `inject` is in strace's words, such
    /// as `sendto:signal=KILL:when=3`. It counts from here on, each thread for itself.
    pub(crate) fn attach(pid: u32, inject: &str) -> Result<Self, Box<dyn std::error::Error>> {
        Self::begin(pid, inject, &["-f", "-p", &pid.to_string()])
    }

    /// The same without the programs that it starts.
    pub(crate) fn attach_to_it_alone(
        pid: u32,
        inject: &str,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut threads = Vec::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            threads.push("-p".to_owned());
            threads.push(thread?.file_name().to_string_lossy().into_owned());
        }
        let threads: Vec<&str> = threads.iter().map(String::as_str).collect();
        Self::begin(pid, inject, &threads)
    }

    fn begin(pid: u32, inject: &str, whom: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let calls = inject.split(':').next().unwrap_or_default();
        let traces = std::env::temp_dir().join(format!("traces-of-{pid}"));
        let child = Command::new("strace")
            .args(["-q", "-o"])
            .arg(&traces)
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={inject}")])
            .args(whom)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("strace: {error} (install the package strace)"))?;
        let following = Self { child, traces };
        await_some("strace to follow knockd", PATIENCE, || {
            Ok(is_followed(pid).then_some(()))
        })?;
        Ok(following)
    }

    /// Whether it has killed the process, or one that this has started.
    pub(crate) fn has_killed(&self) -> io::Result<bool> {
        Ok(fs::read_to_string(&self.traces)?.contains("SIGKILL"))
    }
}

/// A program under it, without its arguments, and with those that it starts or without them; it
/// ends as the program does, or by that signal.
pub(crate) fn traced(
    host: &Host,
    inject: &str,
    traces: &Path,
    follows: bool,
) -> Result<Command, LabError> {
    let calls = inject.split(':').next().unwrap_or_default();
    let mut command = host.command("strace")?;
    if follows {
        command.arg("-f");
    }
    command
        .args(["-q", "-o"])
        .arg(traces)
        .args(["-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={inject}")]);
    Ok(command)
}

impl Drop for Tracer {
    /// What it followed, where that still lives, goes on without it. Not SIGTERM: then strace waits
    /// for the process to stop, for ever if it has just died.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(&self.traces));
    }
}

/// Whether every thread is traced, or there is no such process any more.
fn is_followed(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_none_or(|tracer| tracer.trim() != "0")
    })
}

/// A program that starts knockd under strace, which comes after it: the process is knockd's. With
/// `FOLLOW` empty its main thread alone is followed, and no program that it starts.
pub(crate) fn script(knockd: &str) -> String {
    format!(
        "#!/bin/sh\n[ -n \"$FAULT\" ] || exec {knockd} \"$@\"\n\
         exec strace -D ${{FOLLOW--f}} -q -o \"${{TRACES:-/dev/null}}\" -e \"trace=${{FAULT%%:*}}\" -e \"inject=$FAULT\" \
         {knockd} \"$@\"\n"
    )
}
