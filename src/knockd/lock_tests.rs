use super::*;

fn claim(runtime_dir: &Path, pid_path: &Path) -> Claim {
    Claim {
        runtime_dir: runtime_dir.to_owned(),
        pid_path: pid_path.to_owned(),
        state_dir: None,
    }
}

/// The state directory of a daemon whose runtime directory has this name.
fn claim_state(dir: &Path, runtime: &str) -> Claim {
    let runtime_dir = dir.join(runtime);
    Claim {
        pid_path: runtime_dir.join("knockd.pid"),
        runtime_dir,
        state_dir: Some(dir.join("state")),
    }
}

#[test]
fn a_second_daemon_is_refused_and_the_first_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (run, pid) = (dir.path().join("run"), dir.path().join("pid"));
    let mut first = Lock::take(&claim(&run, &pid)).unwrap();
    first.write_pid(&pid).unwrap();
    let refused = Lock::take(&claim(&run, &pid)).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    drop(first);
    assert!(!pid.exists());
    Lock::take(&claim(&run, &pid)).unwrap();
}

/// More than any kernel numbers its processes (PID_MAX_LIMIT in linux/threads.h).
const NOBODY: &str = "4194305\n";

#[test]
fn what_a_dead_daemon_leaves_running_for_a_moment_is_waited_for() {
    for text in [Some(NOBODY), None] {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        if let Some(text) = text {
            fs::write(&pid, text).unwrap();
        }
        let left = Lock::take(&claim(dir.path(), &pid)).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(left);
        });
        let taken = Lock::take(&claim(dir.path(), &pid));
        assert!(taken.is_ok(), "{text:?}: {taken:?}");
        ends.join().unwrap();
    }
}

/// Whoever is to wait for it may be slow, or busy with the very start that finds the lock held.
#[test]
fn a_dead_daemon_that_nobody_has_waited_for_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    fs::write(&pid, format!("{}\n", dead.id())).unwrap();
    let left = Lock::take(&claim(dir.path(), &pid)).unwrap();
    let started = Instant::now();
    while !has_ended(i32::try_from(dead.id()).unwrap()) {
        assert!(started.elapsed() < MOMENT, "it does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(left);
    });
    let taken = Lock::take(&claim(dir.path(), &pid));
    assert!(taken.is_ok(), "{taken:?}");
    ends.join().unwrap();
    dead.wait().unwrap();
}

#[test]
fn what_does_not_end_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    fs::write(&pid, NOBODY).unwrap();
    let _held = Lock::take(&claim(dir.path(), &pid)).unwrap();
    let refused = Lock::take(&claim(dir.path(), &pid));
    assert!(
        matches!(refused, Err(LockError::Busy { .. })),
        "{refused:?}"
    );
    let refused = refused.unwrap_err();
    assert!(!refused.is_running(), "a dead one does not run");
    assert!(refused.to_string().contains("try again"), "{refused}");
}

#[test]
fn a_pid_file_that_cannot_be_written_is_told_unless_it_is_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let [own, other] = ["pid", "nowhere/pid"].map(|name| dir.path().join(name));
    let mut lock = Lock::take(&claim(dir.path(), &own)).unwrap();
    lock.write_pids(&[own.clone(), other.clone()]).unwrap();
    assert_eq!(unwritten(std::slice::from_ref(&own)), None);
    let told = unwritten(&[own.clone(), other.clone()]).unwrap();
    assert!(told.contains("nowhere/pid is not written"), "{told}");
    assert!(lock.write_pids(&[other, own.clone()]).is_err());
    drop(lock);
    assert!(!own.exists());
}

#[test]
fn a_daemon_that_fails_can_leave_its_pid_file() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let mut lock = Lock::take(&claim(dir.path(), &pid)).unwrap();
    lock.write_pid(&pid).unwrap();
    lock.leave_pid_files();
    drop(lock);
    assert!(pid.exists());
    Lock::take(&claim(dir.path(), &pid)).unwrap();
}

#[test]
fn a_stale_pid_file_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    fs::write(&pid, "garbage\n").unwrap();
    Lock::take(&claim(dir.path(), &pid))
        .unwrap()
        .write_pid(&pid)
        .unwrap();
}

#[test]
fn a_second_daemon_with_the_state_directory_is_refused_and_the_first_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["one", "two"].map(|runtime| claim_state(dir.path(), runtime));
    let mut held = Lock::take(&first).unwrap();
    held.write_pids(std::slice::from_ref(&first.pid_path))
        .unwrap();
    let since = Instant::now();
    let refused = Lock::take(&second).unwrap_err();
    assert!(since.elapsed() < MOMENT, "it lives: nothing to wait for");
    assert!(refused.is_running());
    let refused = refused.to_string();
    for part in [
        format!("process {}", std::process::id()),
        format!("the state directory {}/state", dir.path().display()),
        format!("runtime directory than {}/two", dir.path().display()),
    ] {
        assert!(refused.contains(&part), "{part} in {refused}");
    }
    drop(held);
    let taken = Lock::take(&second).unwrap();
    assert_eq!(taken.unguarded(), None);
    assert_eq!(recorded(&dir.path().join("state/lock")), None);
}

#[test]
fn who_is_dead_is_not_named_by_the_state_directory_either() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(dir.path().join("state/lock"), NOBODY).unwrap();
    let _held = Lock::take(&claim_state(dir.path(), "one")).unwrap();
    let refused = Lock::take(&claim_state(dir.path(), "two")).unwrap_err();
    assert!(matches!(refused, LockError::Busy { .. }), "{refused:?}");
}

#[test]
fn a_state_directory_that_cannot_be_locked_is_told_of_and_gone_without() {
    let dir = tempfile::tempdir().unwrap();
    // No right is needed to be refused that.
    fs::write(dir.path().join("state"), "no directory").unwrap();
    let lock = Lock::take(&claim_state(dir.path(), "one")).unwrap();
    let told = lock.unguarded().unwrap();
    for part in ["cannot create", "/state: ", "would not be noticed"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}
