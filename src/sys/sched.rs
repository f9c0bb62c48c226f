//! When this thread gets its turn (`sched(7)`). Linux schedules threads: what is set here is the
//! calling thread's alone, and whatever it starts begins as everybody else does.

use std::io;
use std::mem::zeroed;
use std::time::Duration;

/// How a thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `SCHED_FIFO` with the lowest priority there: before all ordinary threads.
    RealTime,
    /// `SCHED_OTHER`.
    Ordinary,
}

/// Puts this thread into that class. EPERM without `CAP_SYS_NICE` or `RLIMIT_RTPRIO`, and where
/// the control group has no real-time share.
pub fn set_class(class: Class) -> io::Result<()> {
    let (policy, priority) = match class {
        Class::RealTime => (libc::SCHED_FIFO, 1),
        Class::Ordinary => (libc::SCHED_OTHER, 0),
    };
    // SAFETY: all zeros is a valid sched_param.
    let mut param: libc::sched_param = unsafe { zeroed() };
    param.sched_priority = priority;
    // SAFETY: `param` is valid for reading; 0 is the calling thread.
    let done = unsafe {
        libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const param)
    };
    check(done)
}

/// The class that this thread is in, as the kernel has it.
pub fn class() -> io::Result<Class> {
    // SAFETY: takes no pointers.
    let policy = unsafe { libc::sched_getscheduler(0) };
    check(policy.min(0))?;
    Ok(match policy & !libc::SCHED_RESET_ON_FORK {
        libc::SCHED_FIFO => Class::RealTime,
        _ => Class::Ordinary,
    })
}

/// Sets this thread's nice value, −20 to 19, which counts while it is an ordinary one. EACCES or
/// EPERM without `CAP_SYS_NICE` or `RLIMIT_NICE`.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes no pointers; 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })
}

/// The CPU time that this thread has used.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to; every thread has this clock.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
    }
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread that nobody else uses.
    fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn the_class_is_what_was_set_or_nothing_has_changed() {
        alone(|| {
            set_class(Class::Ordinary).unwrap();
            match set_class(Class::RealTime) {
                Ok(()) => assert_eq!(class().unwrap(), Class::RealTime),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
                    assert_eq!(class().unwrap(), Class::Ordinary);
                }
            }
            // Whoever is started begins as everybody does.
            assert_eq!(alone(|| class().unwrap()), Class::Ordinary);
            set_class(Class::Ordinary).unwrap();
            assert_eq!(class().unwrap(), Class::Ordinary);
        });
    }

    #[test]
    fn cpu_time_grows_with_work_alone() {
        alone(|| {
            let before = cpu_time();
            while cpu_time() == before {}
            let worked = cpu_time();
            std::thread::sleep(Duration::from_millis(20));
            assert!(cpu_time().saturating_sub(worked) < Duration::from_millis(15));
        });
    }
}
