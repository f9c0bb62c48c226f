//! Who is logged in over ssh: from the processes' environments, where sshd writes
//! `SSH_CONNECTION` once it has let somebody in (ssh(1)), and from the login manager, which is told
//! then too (`pam_systemd(8)`, `sd-login(3)`). Connections that nobody has let in yet are in
//! neither, so that whoever knocks at sshd's door is no operator.
//!
//! It is told what it finds and judges nothing: whether such a session exists is for the kernel to
//! say.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::model::{SshConnection, canonical};

/// Where processes are.
const PROCESSES: &str = "/proc";

/// Where the login manager keeps its sessions, a file each.
const LOGINS: &str = "/run/systemd/sessions";

/// The variable that sshd sets.
const VARIABLE: &[u8] = b"SSH_CONNECTION=";

/// The most bytes of an environment, or of a session's file, that are looked at. The variable is
/// among the first that sshd sets.
const MOST_BYTES: u64 = 64 * 1024;

/// The most processes that are looked at.
const MOST_PROCESSES: usize = 32 * 1024;

/// The most sessions that are told of.
const MOST_SESSIONS: usize = 256;

/// The most ancestors that are asked.
const MOST_ANCESTORS: usize = 64;

/// Those who are logged in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggedIn {
    /// By their sessions.
    pub sessions: BTreeSet<SshConnection>,
    /// By their addresses, where no more is known.
    pub addresses: BTreeSet<IpAddr>,
}

/// The ssh session that this process runs in: its own or that of the nearest ancestor that has
/// one. sudo(8) takes the variable from its children, the login shell above still has it.
pub fn own() -> Option<SshConnection> {
    if let Some(session) = std::env::var("SSH_CONNECTION")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return Some(session);
    }
    session_of_ancestors(Path::new(PROCESSES), std::process::id())
}

/// Everybody who is logged in over ssh, as far as this process may know. Reads what may be some
/// thousand small files: not for an event loop.
pub fn logged_in() -> LoggedIn {
    LoggedIn {
        sessions: sessions_of_processes(Path::new(PROCESSES)),
        addresses: addresses_of_logins(Path::new(LOGINS)),
    }
}

fn session_of_ancestors(processes: &Path, pid: u32) -> Option<SshConnection> {
    let mut pid = pid;
    for _ in 0..MOST_ANCESTORS {
        let process = processes.join(pid.to_string());
        if let Some(session) = session(&process) {
            return Some(session);
        }
        pid = parent(&process).filter(|parent| *parent > 0)?;
    }
    None
}

/// `PPid:` in /proc/PID/status (proc_pid_status(5)).
fn parent(process: &Path) -> Option<u32> {
    let status = read(&process.join("status"))?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// The session in a process's environment. Kernel threads have none, and those of others may not
/// be read.
fn session(process: &Path) -> Option<SshConnection> {
    let environment = read(&process.join("environ"))?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(VARIABLE))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn sessions_of_processes(processes: &Path) -> BTreeSet<SshConnection> {
    let Ok(entries) = fs::read_dir(processes) else {
        return BTreeSet::new();
    };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
        .take(MOST_PROCESSES)
        .filter_map(|entry| session(&entry.path()))
        .take_distinct(MOST_SESSIONS)
}

/// Collects distinct values until there are so many.
trait TakeDistinct<T> {
    fn take_distinct(self, most: usize) -> BTreeSet<T>;
}

impl<T: Ord, I: Iterator<Item = T>> TakeDistinct<T> for I {
    fn take_distinct(self, most: usize) -> BTreeSet<T> {
        let mut found = BTreeSet::new();
        for value in self {
            found.insert(value);
            if found.len() == most {
                break;
            }
        }
        found
    }
}

/// `REMOTE_HOST=` of sessions with `SERVICE=sshd`; a host name there is of no use.
fn addresses_of_logins(logins: &Path) -> BTreeSet<IpAddr> {
    let Ok(entries) = fs::read_dir(logins) else {
        return BTreeSet::new();
    };
    let address = |path: &Path| {
        let text = read(path)?;
        let text = String::from_utf8_lossy(&text);
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
        (field("SERVICE=") == Some("sshd"))
            .then(|| field("REMOTE_HOST="))
            .flatten()
            .and_then(|host| host.split('%').next()?.parse::<IpAddr>().ok())
            .map(canonical)
    };
    // `1.ref` is a pipe by which the login manager knows that session 1 is alive.
    let is_session = |name: &str| !name.contains('.');
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_session))
        .take(MOST_PROCESSES)
        .filter_map(|entry| address(&entry.path()))
        .take_distinct(MOST_SESSIONS)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // A pipe must not make anybody wait.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .ok()?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as /proc: (PID, parent, environment).
    fn processes(of: &[(u32, u32, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (pid, parent, environment) in of {
            let process = dir.path().join(pid.to_string());
            fs::create_dir(&process).unwrap();
            let status = format!("Name:\tsh\nPid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0\n");
            fs::write(process.join("status"), status).unwrap();
            fs::write(process.join("environ"), environment).unwrap();
        }
        dir
    }

    const SHELL: &[u8] = b"USER=root\0SSH_CLIENT=198.51.100.7 51022 22\0\
                           SSH_CONNECTION=198.51.100.7 51022 203.0.113.1 22\0HOME=/root\0";

    fn shell() -> SshConnection {
        "198.51.100.7 51022 203.0.113.1 22".parse().unwrap()
    }

    #[test]
    fn the_login_shell_above_sudo_has_the_session() {
        let proc = processes(&[
            (1, 0, b"HOME=/\0"),
            (10, 1, b""),
            (11, 10, SHELL),
            (12, 11, b"SUDO_USER=alice\0"),
            (13, 12, b"PATH=/bin\0"),
            (20, 1, b"PATH=/bin\0"),
        ]);
        assert_eq!(session_of_ancestors(proc.path(), 13), Some(shell()));
        assert_eq!(session_of_ancestors(proc.path(), 20), None, "cron");
        assert_eq!(session_of_ancestors(proc.path(), 99), None, "gone");
    }

    #[test]
    fn a_circle_of_parents_has_an_end() {
        let proc = processes(&[(5, 6, b""), (6, 5, b"")]);
        assert_eq!(session_of_ancestors(proc.path(), 5), None);
    }

    #[test]
    fn every_environment_is_asked_and_garbage_is_nobody() {
        let proc = processes(&[
            (11, 1, SHELL),
            (12, 11, SHELL),
            (13, 1, b"SSH_CONNECTION=2001:db8::7 51022 2001:db8::1 22"),
            (14, 1, b"SSH_CONNECTION=\xff\xfe\0"),
            (15, 1, b"XSSH_CONNECTION=192.0.2.9 1 192.0.2.1 22\0"),
            (16, 1, b""),
        ]);
        fs::create_dir(proc.path().join("sys")).unwrap();
        fs::create_dir(proc.path().join("17")).unwrap();
        let found = sessions_of_processes(proc.path());
        let six = "2001:db8::7 51022 2001:db8::1 22".parse().unwrap();
        assert_eq!(found, BTreeSet::from([shell(), six]));
        assert_eq!(
            sessions_of_processes(&proc.path().join("none")),
            BTreeSet::new()
        );
    }

    #[test]
    fn the_login_manager_tells_where_ssh_sessions_come_from() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "1",
                "UID=0\nREMOTE=1\nREMOTE_HOST=198.51.100.7\nSERVICE=sshd\n",
            ),
            ("2", "REMOTE_HOST=fe80::7%eth0\nSERVICE=sshd\n"),
            ("3", "REMOTE_HOST=192.0.2.9\nSERVICE=cockpit\n"),
            ("4", "REMOTE_HOST=host.example.org\nSERVICE=sshd\n"),
            ("5", "TTY=tty1\nSERVICE=login\n"),
            ("6.ref", "REMOTE_HOST=192.0.2.10\nSERVICE=sshd\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let expected: BTreeSet<IpAddr> = ["198.51.100.7", "fe80::7"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(addresses_of_logins(dir.path()), expected);
    }
}
