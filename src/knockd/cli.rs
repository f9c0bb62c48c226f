//! The command line. The short flags mean what they do in the classic daemon.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tracing::warn;

use crate::policy::{self, LogSettings, Policy};

use super::lock::{Claim, Lock, LockError};
use super::policies;

/// Where state is kept unless a flag says otherwise.
pub(super) const STATE_DIR: &str = "/var/lib/knockd";

/// Where socket, lock and pid file are unless a flag says otherwise.
pub(super) const RUNTIME_DIR: &str = "/run/knockd";

/// Where the classic daemon has its pid file, in the background (knockd(1), `PidFile`).
const CLASSIC_PID_FILE: &str = "/var/run/knockd.pid";

/// Keeps an SSH host's port shut to everyone but whitelisted machines and addresses that have
/// just knocked, and shuts out whoever steps on a decoy.
///
/// Without a subcommand it runs in the foreground until it is told to stop (SIGTERM, SIGINT).
/// SIGHUP reads the policy and the whitelist again and reopens the log.
#[derive(Debug, Parser)]
#[command(
    name = "knockd",
    version,
    disable_version_flag = true,
    after_help = "Exit status: 0 done, or nothing to do; 1 failed; 2 bad arguments, or a bad policy."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(subcommand)]
    pub(super) task: Option<Task>,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// What every subcommand takes too.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Options {
    /// The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]
    #[arg(short = 'c', long = "config", value_name = "POLICY", global = true)]
    policy: Option<PathBuf>,
    /// Listen on this interface, whatever the policy says
    #[arg(short, long, value_name = "IFACE", global = true)]
    pub(super) interface: Option<String>,
    /// Run in the background, supervised
    #[arg(short, long, global = true)]
    pub(super) daemon: bool,
    /// Log everything, for finding faults
    #[arg(short = 'D', long, global = true)]
    pub(super) debug: bool,
    /// Log more
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
    /// Take knocks over IPv4 only; gates are shut over IPv6 all the same
    #[arg(short = '4', long, alias = "only-ip-v4", global = true)]
    pub(super) only_ipv4: bool,
    /// Look up the host names of those who knock, for the log
    #[arg(short, long, global = true)]
    pub(super) lookup: bool,
    /// Another pid file, beside knockd.pid in the runtime directory
    #[arg(short, long, value_name = "PIDFILE", global = true)]
    pub(super) pidfile: Option<PathBuf>,
    /// The pid file that the policy names, or that the classic daemon has
    #[arg(skip)]
    policy_pidfile: Option<PathBuf>,
    /// Log to this file
    #[arg(short = 'g', long = "logfile", value_name = "LOGFILE", global = true)]
    pub(super) logfile: Option<PathBuf>,
    /// What outlives the daemon is kept here
    #[arg(
        long,
        value_name = "DIR",
        default_value = STATE_DIR,
        global = true
    )]
    pub(super) state_dir: PathBuf,
    /// The control socket and the pid file are here
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR, global = true)]
    pub(super) runtime_dir: PathBuf,
    /// The part that this process plays for a daemon in the background
    #[arg(long, hide = true, global = true)]
    pub(super) role: Option<Role>,
    /// What the policy says about the log
    #[arg(skip)]
    pub(super) log: LogSettings,
}

/// The processes of a daemon in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Role {
    /// Starts the worker, and starts it again when it dies.
    Supervisor,
    /// Does the work.
    Worker,
}

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Check a policy, and say in words what it does and which ports the site's border must let
    /// through
    Check {
        /// The policy [default: that of -c]
        #[arg(value_name = "POLICY")]
        file: Option<PathBuf>,
    },
    /// Show the main job at work, in throw-away network namespaces
    Demo,
    /// Install the rules and end; does nothing while a daemon runs
    Setup,
    /// Remove every rule of ours; a running daemon does it, and ends
    Teardown,
}

impl Options {
    /// Takes from the policy what the command line leaves open and is needed before anything
    /// else: where the log goes, how it looks, and the pid file. What is wrong with the policy is
    /// said when it is read to be put in force.
    pub(super) fn completed(mut self) -> Self {
        let path = self.policy_path();
        // What comes through a pipe comes once, and whoever writes into it may be slow.
        if !path.is_file() {
            return self;
        }
        let Ok(checked) = policy::load(&path) else {
            return self;
        };
        let Policy { log, pid_file, .. } = checked.policy;
        self.logfile = self.logfile.or_else(|| log.file.clone());
        let is_classic = policy::read(&path).is_ok_and(|text| policy::is_classic(&text));
        let usual = (is_classic && self.daemon).then(|| PathBuf::from(CLASSIC_PID_FILE));
        self.policy_pidfile = pid_file.or(usual);
        self.log = log;
        self
    }

    /// The policy's path.
    pub(super) fn policy_path(&self) -> PathBuf {
        let usual = || policies::usual_path(&self.state_dir);
        self.policy.clone().unwrap_or_else(usual)
    }

    /// Whether none of the paths changes its meaning with the working directory.
    pub(super) fn paths_are_absolute(&self) -> bool {
        let given = [&self.policy, &self.pidfile, &self.logfile];
        let given = given.into_iter().flatten();
        given
            .chain([&self.state_dir, &self.runtime_dir])
            .all(|path| path.is_absolute())
    }

    /// The path of the pid file that init scripts look at.
    pub(super) fn pid_path(&self) -> PathBuf {
        self.pidfile.clone().unwrap_or_else(|| self.own_pid_path())
    }

    /// Takes the directories; says in the log if the state directory cannot be locked.
    pub(super) fn lock(&self) -> Result<Lock, LockError> {
        self.lock_with(Some(self.state_dir.clone()))
    }

    /// The same, but makes no state directory.
    pub(super) fn lock_what_is_there(&self) -> Result<Lock, LockError> {
        self.lock_with(Some(self.state_dir.clone()).filter(|dir| dir.exists()))
    }

    fn lock_with(&self, state_dir: Option<PathBuf>) -> Result<Lock, LockError> {
        let lock = Lock::take(&Claim {
            runtime_dir: self.runtime_dir.clone(),
            pid_path: self.pid_path(),
            state_dir,
        })?;
        if let Some(problem) = lock.unguarded() {
            warn!("{problem}");
        }
        Ok(lock)
    }

    fn own_pid_path(&self) -> PathBuf {
        self.runtime_dir.join("knockd.pid")
    }

    /// All pid files; the first is in the runtime directory.
    pub(super) fn pid_paths(&self) -> Vec<PathBuf> {
        let other = self.pidfile.as_ref().or(self.policy_pidfile.as_ref());
        let mut paths = vec![self.own_pid_path()];
        paths.extend(other.filter(|path| **path != paths[0]).cloned());
        paths
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_classic_flags_are_understood_before_and_after_a_subcommand() {
        let cli = Cli::parse_from("knockd -c a.yaml -i eth0 -d -D -v -4 -l -p x -g y".split(' '));
        let options = cli.options;
        assert!(options.daemon && options.debug && options.verbose);
        assert!(options.only_ipv4 && options.lookup);
        assert_eq!(options.pid_path(), PathBuf::from("x"));
        let both = ["/run/knockd/knockd.pid", "x"].map(PathBuf::from);
        assert_eq!(options.pid_paths(), both);
        let long = "--interface e --daemon --config c --debug --lookup --pidfile p --logfile l \
                    --verbose --only-ip-v4";
        let long = Cli::parse_from(["knockd"].into_iter().chain(long.split_whitespace()));
        assert!(long.options.only_ipv4 && long.options.lookup && long.options.daemon);
        let cli = Cli::parse_from("knockd setup -c a.yaml --runtime-dir /tmp/r".split(' '));
        assert_eq!(cli.options.policy_path(), PathBuf::from("a.yaml"));
        assert_eq!(cli.options.pid_path(), PathBuf::from("/tmp/r/knockd.pid"));
    }
}
