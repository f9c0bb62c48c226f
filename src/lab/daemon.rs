use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, Lab, LabError, Program, await_some, run_bounded};
use crate::control::client::{self, ClientError};
use crate::control::{Request, Response, Verb};

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The daemon.
    pub knockd: Program,
    /// Its control program; not needed where [`Daemon::ask`] is enough.
    pub knockctl: Option<Program>,
}

/// The daemon on a host, with directories and files of its own. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    host: Host,
    programs: Programs,
    dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

/// What `knockctl` answered.
#[derive(Debug)]
pub struct Reply {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// How long the daemon may take to answer, and `knockctl` to end. Far more than they need: the
/// machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

const NOTHING: [String; 0] = [];

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    /// Writes the policy, and beside it the whitelist `knockd.trusted`; starts nothing yet.
    pub fn prepare(
        lab: &Lab,
        host: &Host,
        programs: &Programs,
        policy: &str,
        trusted: &str,
    ) -> Result<Self, LabError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = lab.dir().join(format!("{}-{number}", host.name()));
        for part in ["etc", "state", "run"] {
            let dir = dir.join(part);
            fs::create_dir_all(&dir)
                .map_err(LabError::system("create directory", dir.to_string_lossy()))?;
        }
        let daemon = Self {
            host: host.clone(),
            programs: programs.clone(),
            dir,
            arguments: Vec::new(),
            environment: Vec::new(),
            child: None,
        };
        daemon.write_policy(policy)?;
        daemon.write_trusted(trusted)?;
        Ok(daemon)
    }

    /// Writes the files and starts the daemon; returns when it answers.
    pub fn launch(
        lab: &Lab,
        host: &Host,
        programs: &Programs,
        policy: &str,
        trusted: &str,
    ) -> Result<Self, LabError> {
        let mut daemon = Self::prepare(lab, host, programs, policy, trusted)?;
        daemon.start()?;
        Ok(daemon)
    }

    /// Variables of its environment at the next starts.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        self.environment = variables.iter().map(owned).collect();
    }

    /// Further arguments for the next starts.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&text| text.to_owned()).collect();
    }

    /// The policy file.
    pub fn policy_path(&self) -> PathBuf {
        self.dir.join("etc/knockd.yaml")
    }

    /// The whitelist file.
    pub fn trusted_path(&self) -> PathBuf {
        self.dir.join("etc/knockd.trusted")
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The runtime directory.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The control socket.
    pub fn socket_path(&self) -> PathBuf {
        self.runtime_dir().join("control.sock")
    }

    /// Replaces the policy; the daemon learns of it at the next reload.
    pub fn write_policy(&self, text: &str) -> Result<(), LabError> {
        write(&self.policy_path(), text)
    }

    /// Replaces the whitelist; the daemon learns of it at the next reload.
    pub fn write_trusted(&self, text: &str) -> Result<(), LabError> {
        write(&self.trusted_path(), text)
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) -> Result<(), LabError> {
        self.spawn()?;
        self.await_ready()
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) -> Result<(), LabError> {
        self.stop_child();
        let log = self.log_path();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(LabError::system("open", log.to_string_lossy()))?;
        let out = log
            .try_clone()
            .map_err(LabError::system("duplicate", "a descriptor"))?;
        let child = self
            .knockd(&[])?
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .map_err(LabError::system("start", "knockd"))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers.
    pub fn await_ready(&mut self) -> Result<(), LabError> {
        let socket = self.socket_path();
        let mut died = None;
        let ready = await_some("the daemon's first answer", PATIENCE, || {
            died = self.ended()?;
            if died.is_some() {
                return Ok(Some(()));
            }
            let answer = client::ask(&socket, &Request::new(Verb::Ping, NOTHING));
            Ok(answer.is_ok().then_some(()))
        });
        match (died, ready) {
            (Some(status), _) => Err(LabError::DaemonEnded {
                status: status.to_string(),
                log: self.log_tail(20),
            }),
            (None, Ok(())) => Ok(()),
            (None, Err(LabError::TooLate { what, within, .. })) => Err(LabError::TooLate {
                what,
                within,
                detail: format!("; its log:\n{}", self.log_tail(20)),
            }),
            (None, Err(error)) => Err(error),
        }
    }

    /// A command for `knockd SUBCOMMAND…` with this daemon's files, on its host.
    pub fn knockd(&self, subcommand: &[&str]) -> Result<std::process::Command, LabError> {
        let mut command = self.programs.knockd.on(&self.host)?;
        command
            .args(subcommand)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg("-c")
            .arg(self.policy_path())
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--runtime-dir")
            .arg(self.runtime_dir());
        Ok(command)
    }

    /// Runs `knockd SUBCOMMAND…` to its end.
    pub fn run_knockd(&self, subcommand: &[&str]) -> Result<Reply, LabError> {
        let finished = run_bounded(&mut self.knockd(subcommand)?, &self.dir, PATIENCE)?;
        Ok(finished.into())
    }

    /// Runs `knockctl` with these arguments against this daemon.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Reply, LabError> {
        self.ctl_with(arguments, &[])
    }

    /// The same with these variables in its environment.
    pub fn ctl_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Reply, LabError> {
        let knockctl = self.programs.knockctl.as_ref();
        let mut command = knockctl.ok_or(LabError::NoKnockctl)?.on(&self.host)?;
        command
            .arg("--socket")
            .arg(self.socket_path())
            .args(arguments)
            .envs(variables.iter().copied());
        Ok(run_bounded(&mut command, &self.dir, PATIENCE)?.into())
    }

    /// Runs `knockctl --direct` with these arguments and this daemon's paths.
    pub fn ctl_direct(&self, arguments: &[&str]) -> Result<Reply, LabError> {
        self.ctl_direct_with(arguments, &[])
    }

    /// The same, with these in its environment.
    pub fn ctl_direct_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Reply, LabError> {
        let knockctl = self.programs.knockctl.as_ref();
        let mut command = knockctl.ok_or(LabError::NoKnockctl)?.on(&self.host)?;
        command.arg("--direct").arg("-c").arg(self.policy_path());
        command.arg("--state-dir").arg(self.state_dir());
        command.arg("--runtime-dir").arg(self.runtime_dir());
        command.args(arguments).envs(variables.iter().copied());
        Ok(run_bounded(&mut command, &self.dir, PATIENCE)?.into())
    }

    /// Asks the daemon without `knockctl`.
    pub fn ask(&self, request: &Request) -> Result<Response, ClientError> {
        client::ask(&self.socket_path(), request)
    }

    /// The process, if it was started and not waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        match &mut self.child {
            Some(child) => child
                .try_wait()
                .map_err(LabError::system("wait for", "knockd")),
            None => Ok(None),
        }
    }

    /// Waits until it ends by itself.
    pub fn await_end(&mut self) -> Result<ExitStatus, LabError> {
        let status = await_some("the daemon's end", PATIENCE, || self.ended())?;
        self.child = None;
        Ok(status)
    }

    /// Ends it the hard way: SIGKILL.
    pub fn kill_9(&mut self) {
        self.stop_child();
    }

    /// Ends it the soft way, SIGTERM, and waits.
    pub fn terminate(&mut self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGTERM)?;
        self.await_end()
    }

    /// Makes it reload: SIGHUP.
    pub fn hang_up(&self) -> Result<(), LabError> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        pid.ok_or_else(missing)
            .and_then(|pid| Ok(kill(Pid::from_raw(pid), signal)?))
            .map_err(LabError::system("send a signal to", "knockd"))
    }

    /// All that it has written, over all its starts.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of that.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(lines).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until the log contains `text` at least `times` times.
    pub fn await_log(&self, text: &str, times: usize) -> Result<(), LabError> {
        let what = format!("`{text}` in the daemon's log");
        await_some(&what, PATIENCE, || {
            Ok((self.log().matches(text).count() >= times).then_some(()))
        })
        .map_err(|error| match error {
            LabError::TooLate { what, within, .. } => LabError::TooLate {
                what,
                within,
                detail: format!("; it says:\n{}", self.log_tail(20)),
            },
            error => error,
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn stop_child(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop_child();
    }
}

impl From<super::Finished> for Reply {
    fn from(finished: super::Finished) -> Self {
        Self {
            code: finished.status.code(),
            stdout: finished.stdout,
            stderr: finished.stderr,
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(LabError::system("write", path.to_string_lossy()))
}
