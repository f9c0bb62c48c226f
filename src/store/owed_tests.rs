use std::time::Duration;

use super::*;
use crate::engine::Owed;
use crate::model::{Deadline, KnockName, Time};
use crate::policy::CommandLine;

const NOON: i64 = 1_800_000_000_000;

fn clocks(boot_id: &str, secs: u64, wall_ms: i64) -> Clocks {
    Clocks {
        boot_id: boot_id.to_owned(),
        boot: Time::from_secs(secs),
        wall_ms,
    }
}

fn owed(id: u64, command: CommandLine, secs: u64) -> Owed {
    Owed {
        id,
        knock: KnockName::new("door").unwrap(),
        source: "2001:db8::7".parse().unwrap(),
        gates: vec![GateName::new("a").unwrap(), GateName::new("b").unwrap()],
        command,
        timeout: Duration::from_millis(1_500),
        due: Deadline::At(Time::from_secs(secs)),
    }
}

fn written(store: &mut Store, memos: Vec<Memo>, now: &Clocks) {
    let batch = Batch {
        memos,
        ..Batch::default()
    };
    store.write(&batch, now).unwrap();
}

#[test]
fn what_is_owed_is_read_back_until_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let now = clocks("a", 100, NOON);
    let words = owed(3, CommandLine::words("/bin/x 'a b' %IP%").unwrap(), 150);
    let shell = owed(7, CommandLine::Shell("x; y > 'z".into()), 160);
    let both = vec![words.clone(), shell.clone()];
    let memos = both.iter().cloned().map(Memo::Owe).collect();
    written(&mut store, memos, &now);
    assert_eq!(store.owed(&now).unwrap(), both);
    drop(store);
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let later = clocks("a", 155, NOON + 55_000);
    assert_eq!(store.owed(&later).unwrap(), both, "due is not done");
    let again = Owed {
        due: Deadline::At(Time::from_secs(200)),
        ..words
    };
    written(
        &mut store,
        vec![Memo::Owe(again.clone()), Memo::Settled(7)],
        &later,
    );
    assert_eq!(store.owed(&later).unwrap(), [again]);
    let everything = Batch {
        everything: Some(Everything {
            owed: vec![shell.clone()],
            ..Everything::default()
        }),
        ..Batch::default()
    };
    store.write(&everything, &later).unwrap();
    assert_eq!(store.owed(&later).unwrap(), [shell]);
}

#[test]
fn after_a_reboot_it_is_owed_still_and_due_when_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let x = || CommandLine::words("x").unwrap();
    let memos = vec![Memo::Owe(owed(1, x(), 110)), Memo::Owe(owed(2, x(), 400))];
    written(&mut store, memos, &clocks("a", 100, NOON));
    drop(store);
    let store = Store::open_as(dir.path(), "b").unwrap();
    let now = clocks("b", 20, NOON + 60_000);
    let due: Vec<Deadline> = store.owed(&now).unwrap().iter().map(|o| o.due).collect();
    let at = |secs| Deadline::At(Time::from_secs(secs));
    assert_eq!(due, [at(20), at(260)]);
}

#[test]
fn a_store_of_the_third_version_gets_the_table_and_rows_of_nonsense_run_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open_as(dir.path(), "a").unwrap());
    rusqlite::Connection::open(dir.path().join(FILE_NAME))
        .unwrap()
        .execute_batch("DROP TABLE owed; PRAGMA user_version = 3;")
        .unwrap();
    let store = Store::open_as(dir.path(), "a").unwrap();
    let now = clocks("a", 100, NOON);
    assert_eq!(store.owed(&now).unwrap(), []);
    store
        .database
        .execute_batch(
            "INSERT INTO owed VALUES (1, 'a b', '192.0.2.1', '', 'x', 0, 1, 'a', 1, 1, 1);
             INSERT INTO owed VALUES (2, 'a', '192.0.2.1; reboot', '', 'x', 0, 1, 'a', 1, 1, 1);
             INSERT INTO owed VALUES (3, 'a', '192.0.2.1', 'No Gate', 'x', 0, 1, 'a', 1, 1, 1);
             INSERT INTO owed VALUES (4, 'a', '192.0.2.1', '', ' ', 0, 1, 'a', 1, 1, 1);
             INSERT INTO owed VALUES (-5, 'a', '192.0.2.1', '', 'x', 0, -1, 'b', -5, -5, -5);",
        )
        .unwrap();
    let left = store.owed(&now).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].due, Deadline::At(now.boot));
}
