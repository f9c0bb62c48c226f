//! strace (https://strace.io), which kills a process at the n-th of its system calls of a kind, or
//! has that call fail: nothing in the program knows of it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis::lab::await_some;

const PATIENCE: Duration = Duration::from_secs(10);

/// Follows a process until dropped.
pub(crate) struct Tracer(Child);

impl Tracer {
    /// Attaches to a running process, and to all its threads: `inject` is in strace's words, such
    /// as `sendto:signal=KILL:when=3`. It counts from here on, each thread for itself.
    pub(crate) fn attach(pid: u32, inject: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let calls = inject.split(':').next().unwrap_or_default();
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={inject}")])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("strace: {error} (install the package strace)"))?;
        let tracer = Self(child);
        await_some("strace to follow knockd", PATIENCE, || {
            Ok(is_followed(pid).then_some(()))
        })?;
        Ok(tracer)
    }
}

impl Drop for Tracer {
    /// What it followed, where that still lives, goes on without it. Not SIGTERM: then strace waits
    /// for the process to stop, for ever if it has just died.
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
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

/// A program that starts knockd under strace, which comes after it: the process is knockd's.
pub(crate) fn script(knockd: &str) -> String {
    format!(
        "#!/bin/sh\n[ -n \"$FAULT\" ] || exec {knockd} \"$@\"\n\
         exec strace -D -f -qq -o /dev/null -e \"trace=${{FAULT%%:*}}\" -e \"inject=$FAULT\" \
         {knockd} \"$@\"\n"
    )
}
