//! What this machine has.

use std::path::Path;

use super::tool::Tool;

/// Whether the kernel has IPv6 at all: `ipv6.disable=1` leaves no such file.
pub(super) fn knows_ipv6() -> bool {
    Path::new("/proc/thread-self/net/if_inet6").exists()
}

/// Whether an interface speaks IPv6, or will when it appears. `conf/all` says nothing about that:
/// every interface has a switch of its own, which anybody may turn later.
pub(super) fn speaks_ipv6() -> bool {
    let Ok(interfaces) = std::fs::read_dir("/proc/sys/net/ipv6/conf") else {
        return knows_ipv6();
    };
    let speaks = |name: &std::ffi::OsStr| {
        let switch = Path::new("/proc/sys/net/ipv6/conf")
            .join(name)
            .join("disable_ipv6");
        std::fs::read_to_string(switch).is_ok_and(|value| value.trim() == "0")
    };
    knows_ipv6()
        && interfaces
            .flatten()
            .map(|interface| interface.file_name())
            .any(|name| name != "all" && name != "lo" && speaks(&name))
}

/// Debian's alternatives lead to `xtables-nft-multi` or `xtables-legacy-multi`.
pub(super) fn is_over_nft(tool: &Tool) -> bool {
    let program = tool.restore.canonicalize();
    program.is_ok_and(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().contains("nft"))
    })
}
