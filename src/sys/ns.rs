//! Namespaces for commands and threads: `namespaces(7)`, `user_namespaces(7)`,
//! `network_namespaces(7)`.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid, write};

/// Whether the kernel lets an ordinary user make namespaces.
const CLONE_SYSCTL: &str = "kernel.unprivileged_userns_clone";
/// Whether `AppArmor` takes the capabilities away again.
const APPARMOR_SYSCTL: &str = "kernel.apparmor_restrict_unprivileged_userns";
/// How many user namespaces there may be.
const LIMIT_SYSCTL: &str = "user.max_user_namespaces";

/// Why there are no namespaces of our own.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A sysctl forbids them to ordinary users.
    #[error(
        "cannot make a network namespace as an ordinary user: {sysctl} is {value} ({source}); \
         set it with `sysctl {sysctl}={wanted}`, or run as root"
    )]
    Forbidden {
        /// The sysctl.
        sysctl: &'static str,
        /// What it is.
        value: String,
        /// What it would have to be.
        wanted: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Refused, and no sysctl that we know of says why.
    #[error("cannot make a network namespace: {0} (run as root, with CAP_SYS_ADMIN)")]
    Refused(io::Error),
    /// The program could not be started.
    #[error("cannot start {program} in namespaces of its own: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Names the cause of a failed start of a command prepared by [`enter_namespaces`].
pub fn explain(program: &str, source: io::Error) -> NamespaceError {
    let sysctl = |name: &str| {
        fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")))
            .map(|text| text.trim().to_owned())
            .ok()
    };
    let known = [
        (CLONE_SYSCTL, "0", "1"),
        (LIMIT_SYSCTL, "0", "10000"),
        (APPARMOR_SYSCTL, "1", "0"),
    ];
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS) => {
            for (name, forbidding, wanted) in known {
                if sysctl(name).is_some_and(|value| value == forbidding) {
                    return NamespaceError::Forbidden {
                        sysctl: name,
                        value: forbidding.to_owned(),
                        wanted,
                        source,
                    };
                }
            }
            NamespaceError::Refused(source)
        }
        _ => NamespaceError::Start {
            program: program.to_owned(),
            source,
        },
    }
}

/// Makes `command` start in network and mount namespaces of its own, with an empty `/run` that
/// nobody else sees, and die with the thread that starts it. With a user namespace as well it is
/// root in there, whoever it is outside; without one that takes `CAP_SYS_ADMIN`.
///
/// The child makes the namespaces, not the caller: `unshare(CLONE_NEWUSER)` is refused to a
/// process with threads, and a child fresh from `fork` has one.
pub fn enter_namespaces(command: &mut Command, with_user_namespace: bool) {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    // Formatted here: after fork nothing may allocate.
    let uid_map = format!("0 {} 1", geteuid());
    let gid_map = format!("0 {} 1", getegid());
    let parent = std::process::id();
    let prepare = move || {
        if with_user_namespace {
            unshare(own | CloneFlags::CLONE_NEWUSER)?;
            write_to(c"/proc/self/setgroups", b"deny")?;
            write_to(c"/proc/self/uid_map", uid_map.as_bytes())?;
            write_to(c"/proc/self/gid_map", gid_map.as_bytes())?;
        } else {
            unshare(own)?;
        }
        // Without this, mounts made here would show in the namespace we came from.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&CStr>, c"/", None::<&CStr>, private, None::<&CStr>)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let tmpfs = Some(c"tmpfs");
        mount(tmpfs, c"/run", tmpfs, flags, Some(c"mode=0755"))?;
        // Last, since a change of credentials clears it: prctl(2).
        end_with(parent)
    };
    // SAFETY: the closure runs between fork and exec in a process that may have had other
    // threads. It only makes system calls (open, write, close, unshare, mount, prctl, getppid),
    // takes no lock and does not allocate: its strings were made before, paths are `CStr`.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Makes `command` start in that network namespace.
pub fn in_netns(command: &mut Command, netns: BorrowedFd<'_>) -> io::Result<()> {
    let netns = netns.try_clone_to_owned()?;
    let prepare = move || Ok(setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?);
    // SAFETY: between fork and exec the closure makes one system call on a descriptor that it
    // owns; it takes no lock and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
    Ok(())
}

/// Makes `command` be killed when the thread that starts it ends, however it ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let prepare = move || end_with(parent);
    // SAFETY: between fork and exec the closure makes two system calls (prctl, getppid); it
    // takes no lock and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Makes `command` start without any capability, though it may be root, and not get them back.
pub fn without_capabilities(command: &mut Command) {
    let prepare = || {
        // With this bit execve(2) gives root nothing for being root: capabilities(7).
        let bits: libc::c_ulong = 1; // SECBIT_NOROOT
        // SAFETY: PR_SET_SECUREBITS takes one integer and touches no memory of ours.
        let done = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) };
        Errno::result(done).map(drop).map_err(io::Error::from)
    };
    // SAFETY: between fork and exec the closure makes one system call; it takes no lock and does
    // not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

fn end_with(parent: u32) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the call; nothing would kill us then.
    if parent_id() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH.into())
    }
}

fn write_to(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // These files take what they are given in one write or not at all: user_namespaces(7).
    write(&file, bytes)?;
    Ok(())
}

/// A new network namespace. It lives as long as the descriptor, what runs in it, and the
/// sockets made in it.
pub fn new_netns() -> io::Result<OwnedFd> {
    let make = || {
        // Only this thread moves, and it ends here.
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    };
    on_own_thread(make)
}

/// Runs `work` in that network namespace, on a thread of its own, and waits for it. Sockets made
/// there stay in that namespace wherever they are used afterwards. A panic goes on in the caller.
pub fn with_netns<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    on_own_thread(move || {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
