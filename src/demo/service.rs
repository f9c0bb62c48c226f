use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::DemoError;
use crate::lab::{Host, Lab, LabError, Service, Session, run_bounded};

const SSHD: &str = "/usr/sbin/sshd";
const KEYGEN: &str = "/usr/bin/ssh-keygen";
/// Where Debian's sshd separates its privileges; in here `/run` is our own.
const SEPARATION: &str = "/run/sshd";
const PORT: u16 = 22;

/// What is behind the gate.
pub(super) enum Guarded {
    /// The real thing.
    Sshd(Child),
    /// Where there is no sshd, or no root to run it.
    Banner { _running: Service },
}

impl Guarded {
    pub(super) fn start(lab: &Lab, server: &Host) -> Result<Self, LabError> {
        if is_real_root()
            && Path::new(SSHD).exists()
            && Path::new(KEYGEN).exists()
            && let Some(child) = start_sshd(lab, server)?
        {
            return Ok(Self::Sshd(child));
        }
        let running = Service::start(server, PORT)?;
        Ok(Self::Banner { _running: running })
    }

    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Sshd(_) => "sshd, on port 22",
            Self::Banner { .. } => "a small service that greets as sshd does, on port 22",
        }
    }

    /// Whether somebody at the other end still answers. Once a session, with sshd: what it
    /// answers to is the client's half of the greeting (RFC 4253, section 4.2).
    pub(super) fn answers(&self, session: &mut Session) -> Result<bool, DemoError> {
        let banner = session.banner()?;
        if !banner.starts_with("SSH-2.0-") {
            return Ok(false);
        }
        Ok(match self {
            Self::Sshd(_) => session.answers("SSH-2.0-portcullis_demo\r\n")?,
            Self::Banner { .. } => session.echoes("still here?")?,
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Self::Sshd(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Root of the machine, not of a user namespace: sshd changes users and groups, which it cannot
/// do with one of each.
fn is_real_root() -> bool {
    // In the first user namespace everybody is mapped to themselves: user_namespaces(7).
    nix::unistd::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

/// `None` where it does not like its configuration or the machine; the banner will do then.
fn start_sshd(lab: &Lab, server: &Host) -> Result<Option<Child>, LabError> {
    let key = lab.dir().join("host_key");
    let mut keygen = server.command(KEYGEN)?;
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key);
    let within = Duration::from_secs(5);
    if !run_bounded(&mut keygen, lab.dir(), within)?
        .status
        .success()
    {
        return Ok(None);
    }
    // There already, if it was there before: not an error.
    let _ = DirBuilder::new().mode(0o755).create(SEPARATION);
    let command = |penalties: bool| -> Result<Command, LabError> {
        let mut command = server.command(SSHD)?;
        command.args(["-f", "/dev/null", "-o", "PidFile=none", "-o", "UsePAM=no"]);
        // The demo connects often and never logs in.
        command.args(["-o", "MaxStartups=1000", "-o", "LoginGraceTime=0"]);
        if penalties {
            command.args(["-o", "PerSourcePenalties=no"]);
        }
        command.arg("-h").arg(&key);
        Ok(command)
    };
    // Only sshd 9.8 and later penalise clients that do not log in, and know the word for it.
    for penalties in [true, false] {
        let mut test = command(penalties)?;
        test.arg("-t");
        if run_bounded(&mut test, lab.dir(), within)?.status.success() {
            let mut sshd = command(penalties)?;
            sshd.args(["-D", "-e"]);
            let quiet = sshd
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child = quiet.spawn().map_err(LabError::system("start", SSHD))?;
            return Ok(Some(child));
        }
    }
    Ok(None)
}
