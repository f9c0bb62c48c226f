use std::fs;

use super::*;
use crate::engine::{Kept, Memo, What};
use crate::model::{Chain, GateName};
use crate::store::{FILE_NAME, Query, read_history};

const RETENTION: Retention = Retention {
    keep: Duration::from_secs(86_400),
    rows: 1_000,
};

fn start(dir: &Path) -> Memory {
    let store = Store::open(dir, Readers::Nobody);
    Memory::start(dir, Readers::Nobody, store, RETENTION, Unread::default())
}

fn kept(last: u8) -> Kept {
    Kept {
        gate: GateName::new("ssh").unwrap(),
        chain: Chain::Banned,
        net: IpAddr::from([192, 0, 2, last]).into(),
        deadline: Deadline::Never,
        reason: "decoy".into(),
        by_knock: Some(last.into()),
    }
}

fn ban(last: u8) -> News {
    News {
        memos: vec![Memo::Keep(kept(last))],
        records: vec![Record::new(What::Banned, "decoy")],
        ..News::default()
    }
}

fn members(dir: &Path) -> Vec<Kept> {
    let store = Store::open(dir, Readers::Nobody).unwrap();
    store.members(&clocks(store.boot_id())).unwrap()
}

/// Waits for it; far longer than it takes.
fn await_that(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_written(memory: &Memory) -> Result<(), String> {
    memory.written().told.blocking_recv().unwrap()
}

#[test]
fn what_is_decided_is_on_the_disk_when_whoever_waits_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let memory = start(dir.path());
    memory.news(ban(1));
    is_written(&memory).unwrap();
    assert_eq!(members(dir.path()), [kept(1)]);
    // And at the end, whoever waits or not.
    memory.news(ban(2));
    memory.record(Record::new(What::Stopped, "told to"));
    drop(memory);
    assert_eq!(members(dir.path()), [kept(1), kept(2)]);
    let query = Query {
        limit: 10,
        ..Query::default()
    };
    let history = read_history(dir.path(), &query).unwrap();
    let words: Vec<_> = history.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(words, ["banned", "banned", "stopped"]);
}

#[test]
fn while_the_disk_is_of_no_use_nobody_waits_and_afterwards_everything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // Something is in the way.
    fs::write(&state, "").unwrap();
    let memory = start(&state);
    let problem = memory.problem().unwrap();
    assert!(problem.contains("state"), "{problem}");
    memory.news(ban(1));
    assert!(is_written(&memory).is_err());
    fs::remove_file(&state).unwrap();
    await_that("the problem is over", || memory.problem().is_none());
    // All that holds is asked for.
    let wanted = memory.wanted();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let asked = tokio::time::timeout(Duration::from_secs(20), wanted.notified());
        asked.await.unwrap();
    });
    memory.everything(Everything {
        members: vec![kept(1), kept(2)],
        ..Everything::default()
    });
    is_written(&memory).unwrap();
    assert!(!memory.is_incomplete());
    assert_eq!(members(&state), [kept(1), kept(2)]);
}

#[test]
fn a_database_that_is_damaged_meanwhile_is_moved_aside_and_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let memory = start(dir.path());
    // More than the connection keeps in its cache.
    let many = || {
        let member = |n: u32| Kept {
            net: IpAddr::from((0x0a00_0000 + n).to_be_bytes()).into(),
            reason: "x".repeat(200),
            ..kept(1)
        };
        memory.news(News {
            memos: (0..5_000).map(member).map(Memo::Keep).collect(),
            ..News::default()
        });
    };
    many();
    is_written(&memory).unwrap();
    for name in [FILE_NAME, "knockd.db-wal"] {
        let file = dir.path().join(name);
        let length = fs::metadata(&file).unwrap().len();
        fs::write(&file, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    }
    await_that("the damage is noticed", || {
        many();
        let _ = is_written(&memory);
        dir.path().join("knockd.db.corrupt-1").exists()
    });
    await_that("it works again", || memory.problem().is_none());
    memory.everything(Everything {
        members: vec![kept(9)],
        ..Everything::default()
    });
    is_written(&memory).unwrap();
    drop(memory);
    assert_eq!(members(dir.path()), [kept(9)]);
}

#[test]
fn a_database_that_somebody_takes_away_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let memory = start(&state);
    memory.news(ban(1));
    is_written(&memory).unwrap();
    fs::remove_dir_all(&state).unwrap();
    memory.news(ban(2));
    is_written(&memory).unwrap();
    assert_eq!(members(&state), [kept(2)]);
    assert!(memory.is_incomplete(), "all that holds is asked for");
}

#[test]
fn what_could_not_be_read_at_the_start_is_read_before_it_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "another boot").unwrap();
    let batch = Batch {
        everything: Some(Everything {
            members: vec![kept(1)],
            ..Everything::default()
        }),
        ..Batch::default()
    };
    store.write(&batch, &clocks("another boot")).unwrap();
    drop(store);
    let error = StoreError::File {
        operation: "open",
        path: dir.path().to_owned(),
        source: std::io::ErrorKind::Other.into(),
        hint: "",
    };
    let memory = Memory::start(
        dir.path(),
        Readers::Nobody,
        Err(error),
        RETENTION,
        Unread::ALL,
    );
    let all = |members: &[Kept]| Everything {
        members: members.to_vec(),
        ..Everything::default()
    };
    memory.everything(all(&[kept(2)]));
    let mut found = None;
    await_that("what was unread is found", || {
        found = found.take().or_else(|| memory.take_found());
        found.is_some()
    });
    assert_eq!(found.unwrap().members, [kept(1)]);
    await_that("it can be written", || memory.problem().is_none());
    assert_eq!(members(dir.path()), [kept(1)]);
    assert!(memory.is_incomplete());
    memory.everything(all(&[kept(1), kept(2)]));
    is_written(&memory).unwrap();
    assert_eq!(members(dir.path()), [kept(1), kept(2)]);
    assert_eq!(memory.take_found(), None);
}
