//! What must be there before anything can be shown.

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Programs and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 25] = [
    ("nft", "nftables"),
    ("knock", "knockd"),
    ("knockd", "knockd"),
    ("nc", "netcat-openbsd"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("nmap", "nmap"),
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("iptables-nft", "iptables"),
    ("iptables-legacy", "iptables"),
    ("ipset", "ipset"),
    ("tcpdump", "tcpdump"),
    ("bash", "bash"),
    ("sh", "dash"),
    ("telnet", "telnet"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("iptables-nft-restore", "iptables"),
    ("fail2ban-regex", "fail2ban"),
    ("fwknopd", "fwknop-server"),
    ("fwknop", "fwknop-client"),
];

/// Debian keeps some of them where not everybody looks.
const BESIDES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Whether everything is there; if not, what is missing.
pub(crate) fn ready() -> Result<(), String> {
    let missing: Vec<String> = PROGRAMS
        .iter()
        .filter(|(name, _)| find(name).is_none())
        .map(|(name, package)| format!("{name} is missing: apt-get install {package}"))
        .collect();
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    if !geteuid().is_root() {
        return Err("the system tests need root, as sshd does: run `make system`".to_owned());
    }
    Ok(())
}

/// The names of all of them.
pub(crate) fn names() -> String {
    PROGRAMS.map(|(name, _)| name).join(", ")
}

/// Where a program is; it was there when [`ready`] looked.
#[track_caller]
pub(crate) fn path(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is missing"))
}

fn find(name: &str) -> Option<PathBuf> {
    let found = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&found)
        .chain(BESIDES.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| Path::is_file(path))
}
