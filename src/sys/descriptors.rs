//! What programs that are started inherit (`close_range(2)`).

use std::fs;
use std::io;
use std::os::raw::c_int;

/// Has every descriptor but the first three close when a program is started. Ours all do so
/// anyway; those that we were started with may not.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: takes no pointers. The flag closes nothing here.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Before Linux 5.11.
        Some(libc::ENOSYS | libc::EINVAL) => one_by_one(),
        _ => Err(error),
    }
}

fn one_by_one() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<c_int>().ok()) else {
            continue;
        };
        if fd > 2 {
            // The directory itself may be closed by now, which is as good.
            // SAFETY: takes no pointers, and changes nothing but the flag.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    #[test]
    fn no_descriptor_is_inherited_that_was_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        for close in [close_on_exec, one_by_one] {
            let file = fs::File::create(&mark).unwrap();
            // SAFETY: changes nothing but the flag.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
            let held = || {
                let ls = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
                String::from_utf8_lossy(&ls.unwrap().stdout).contains("/mark")
            };
            assert!(held());
            close().unwrap();
            assert!(!held());
        }
    }
}
