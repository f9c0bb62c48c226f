//! Members and history, as they are written and read.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::engine::{Record, What};
use crate::model::{Chain, Deadline, Time};

const NOON: i64 = 1_800_000_000_000;

fn clocks(boot_id: &str, secs: u64, wall_ms: i64) -> Clocks {
    Clocks {
        boot_id: boot_id.to_owned(),
        boot: Time::from_secs(secs),
        wall_ms,
    }
}

fn gate() -> GateName {
    GateName::new("ssh").unwrap()
}

fn kept(chain: Chain, net: &str, end: Option<u64>, by_knock: Option<u64>) -> Kept {
    Kept {
        gate: gate(),
        chain,
        net: net.parse().unwrap(),
        deadline: end.map_or(Deadline::Never, |secs| Deadline::At(Time::from_secs(secs))),
        reason: "open".to_owned(),
        by_knock,
    }
}

fn everything(members: &[Kept]) -> Batch {
    Batch {
        everything: Some(Everything {
            members: members.to_vec(),
            ..Everything::default()
        }),
        ..Batch::default()
    }
}

fn memos(memos: &[Memo]) -> Batch {
    Batch {
        memos: memos.to_vec(),
        ..Batch::default()
    }
}

fn happened(at_ms: i64, record: Record) -> Happened {
    Happened {
        at_ms,
        record,
        until_ms: None,
    }
}

fn history(entries: &[Happened]) -> Batch {
    Batch {
        happened: entries.to_vec(),
        ..Batch::default()
    }
}

#[test]
fn members_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let now = clocks("a", 100, NOON);
    let all = [
        kept(Chain::Banned, "192.0.2.0/24", None, None),
        kept(Chain::Banned, "192.0.2.7/32", Some(500), Some(12)),
        kept(Chain::Filter, "0.0.0.0/0", Some(160), Some(0)),
        kept(Chain::Filter, "2001:db8::7/128", Some(400), Some(0)),
    ];
    {
        let mut store = Store::open_as(dir.path(), "a").unwrap();
        store.write(&everything(&all), &now).unwrap();
    }
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let later = clocks("a", 200, NOON - 86_400_000);
    let open_is_over = [all[0].clone(), all[1].clone(), all[3].clone()];
    assert_eq!(store.members(&later).unwrap(), open_is_over);
    assert_eq!(store.noted().unwrap(), Some(now));

    let renewed = kept(Chain::Filter, "2001:db8::7/128", Some(900), None);
    let change = memos(&[
        Memo::Keep(renewed.clone()),
        Memo::Forget(gate(), Chain::Banned, all[0].net),
    ]);
    store.write(&change, &later).unwrap();
    let expected = [all[1].clone(), renewed];
    assert_eq!(store.members(&later).unwrap(), expected);
    store
        .write(&memos(&[Memo::ForgetGate(gate())]), &later)
        .unwrap();
    assert_eq!(store.members(&later).unwrap(), []);
}

#[test]
fn all_that_holds_takes_the_place_of_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let now = clocks("a", 100, NOON);
    let many: Vec<Kept> = (0..500u32)
        .map(|n| {
            kept(
                Chain::Banned,
                &format!("10.0.{}.{}/32", n >> 8, n & 255),
                None,
                None,
            )
        })
        .collect();
    store.write(&everything(&many[..300]), &now).unwrap();
    store.write(&everything(&many[200..]), &now).unwrap();
    let mut found = store.members(&now).unwrap();
    found.sort_by_key(|kept| kept.net);
    assert_eq!(found, many[200..]);
    // What stands there already is not written again.
    let before = store.database.total_changes();
    store.write(&everything(&many[200..]), &now).unwrap();
    let written = store.database.total_changes() - before;
    assert!(written <= 2, "{written} rows");
}

#[test]
fn in_another_boot_only_what_ends_or_is_another_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let mut all: Vec<Kept> = (0..100u8)
        .map(|n| {
            kept(
                Chain::Banned,
                &format!("10.0.0.{n}/32"),
                None,
                Some(n.into()),
            )
        })
        .collect();
    all.push(kept(Chain::Filter, "192.0.2.1/32", Some(1_000), None));
    all.push(kept(Chain::Banned, "192.0.2.1/32", None, None));
    let now = clocks("a", 100, NOON);
    store.write(&everything(&all), &now).unwrap();
    let now = clocks("b", 10, NOON);
    all[100].deadline = Deadline::At(Time::from_secs(910));
    all[101].reason = "by hand".to_owned();
    all[7].by_knock = None;
    let before = store.database.total_changes();
    store.write(&everything(&all), &now).unwrap();
    let written = store.database.total_changes() - before;
    assert!((3..=5).contains(&written), "{written} rows");
    let by_net = |kept: &Kept| (kept.net, kept.chain);
    let mut found = store.members(&clocks("b", 20, NOON + 3_600_000)).unwrap();
    found.sort_by_key(by_net);
    all.sort_by_key(by_net);
    assert_eq!(found, all);
}

#[test]
fn after_a_reboot_what_is_left_is_told_by_the_wall_clock() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut store = Store::open_as(dir.path(), "a").unwrap();
        let all = [
            kept(Chain::Filter, "192.0.2.1/32", Some(1_000), None),
            kept(Chain::Filter, "192.0.2.2/32", Some(200), None),
            kept(Chain::Banned, "192.0.2.3/32", None, None),
        ];
        store
            .write(&everything(&all), &clocks("a", 100, NOON))
            .unwrap();
        // The clocks are noted with every writing.
        store
            .write(&Batch::default(), &clocks("a", 150, NOON + 50_000))
            .unwrap();
    }
    let store = Store::open_as(dir.path(), "b").unwrap();
    let left = |wall_ms| {
        let now = clocks("b", 10, wall_ms);
        let members = store.members(&now).unwrap();
        let left = |kept: &Kept| kept.deadline.remaining(now.boot).as_secs();
        members.iter().map(left).collect::<Vec<_>>()
    };
    assert_eq!(left(NOON + 150_000), [None, Some(750)]);
    assert_eq!(left(NOON + 60_000), [None, Some(840), Some(40)]);
    assert_eq!(left(NOON - 86_400_000), [None, Some(850), Some(50)]);
    assert_eq!(left(NOON + 86_400_000), [None]);
}

#[test]
fn a_store_of_the_second_version_gets_the_new_tables_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let net = "192.0.2.0/24".parse().unwrap();
    store.add_trust(None, net, "somebody").unwrap();
    store.set_setting("backend", "iptables").unwrap();
    drop(store);
    rusqlite::Connection::open(dir.path().join(FILE_NAME))
        .unwrap()
        .execute_batch(
            "DROP TABLE members; DROP TABLE clocks; DROP TABLE history; DROP TABLE owed;
             PRAGMA user_version = 2;",
        )
        .unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    assert_eq!(store.trust().unwrap().len(), 1);
    assert_eq!(store.setting("backend").unwrap().unwrap(), "iptables");
    let now = clocks("a", 100, NOON);
    assert_eq!(store.members(&now).unwrap(), []);
    assert_eq!(store.noted().unwrap(), None);
    let all = [kept(Chain::Banned, "192.0.2.3/32", None, None)];
    store.write(&everything(&all), &now).unwrap();
    assert_eq!(store.members(&now).unwrap(), all);
}

#[test]
fn an_earlier_version_is_read_where_nothing_can_be_written() {
    let changes = [
        (3, "DROP TABLE owed;"),
        (
            2,
            "DROP TABLE members; DROP TABLE clocks; DROP TABLE history;",
        ),
        (1, "DROP TABLE settings;"),
        (0, "DROP TABLE names; DROP TABLE runtime_trust;"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let (now, wall) = (clocks("a", 100, NOON), std::time::SystemTime::now());
    let all = [kept(Chain::Banned, "192.0.2.3/32", None, None)];
    store.write(&everything(&all), &now).unwrap();
    store.set_setting("backend", "iptables").unwrap();
    let address = "192.0.2.7".parse().unwrap();
    store.remember_name("gw", &[address], wall).unwrap();
    drop(store);
    let path = dir.path().join(FILE_NAME);
    for (version, change) in changes {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch(change).unwrap();
        database
            .pragma_update(None, "user_version", version)
            .unwrap();
        drop(database);
        let before = std::fs::read(&path).unwrap();
        let store = Store::open_to_read(dir.path()).unwrap();
        let members = store.members(&now).unwrap();
        assert_eq!(members, all[..usize::from(version >= 3)], "{version}");
        assert_eq!(store.noted().unwrap().is_some(), version >= 3);
        assert_eq!(store.owed(&now).unwrap(), []);
        let backend = store.setting("backend").unwrap();
        assert_eq!(backend.is_some(), version >= 2, "{version}");
        let names = store.names(wall).unwrap().len();
        assert_eq!(names, usize::from(version >= 1), "{version}");
        assert_eq!(store.trust().unwrap(), []);
        drop(store);
        assert_eq!(std::fs::read(&path).unwrap(), before, "{version}");
    }
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = Store::open_to_read(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
}

#[test]
fn rows_edited_into_nonsense_are_no_members() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_as(dir.path(), "a").unwrap();
    store
        .database
        .execute_batch(
            "INSERT INTO members VALUES ('ssh', 'banned', 'everybody', '', NULL, 'a', NULL, 0, 0);
             INSERT INTO members VALUES ('No Gate', 'banned', '192.0.2.1', '', NULL, 'a', NULL, 0, 0);
             INSERT INTO members VALUES ('ssh', 'trusted', '192.0.2.1/32', '', NULL, 'a', NULL, 0, 0);
             INSERT INTO members VALUES ('ssh', 'filter', '192.0.2.1/32', '', -5, 'b', -5, -5, -5);",
        )
        .unwrap();
    assert_eq!(store.members(&clocks("a", 100, NOON)).unwrap(), []);
}

#[test]
fn the_group_reads_it_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("knockd");
    let gid = nix::unistd::getegid().as_raw();
    let mode = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        assert_eq!(found.gid(), gid);
        found.permissions().mode() & 0o777
    };
    let mut store = Store::open_for(&state, "a", Readers::Group(gid)).unwrap();
    store.write(&history(&[]), &clocks("a", 1, NOON)).unwrap();
    assert_eq!(mode(&state), 0o750);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&state.join(format!("{FILE_NAME}{suffix}"))), 0o640);
    }
    drop(store);
    // Early at boot the group is not looked up, and stays what it was.
    let file = state.join(FILE_NAME);
    drop(Store::open_for(&state, "a", Readers::AsBefore).unwrap());
    assert_eq!(mode(&file), 0o640);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    drop(Store::open_for(&state, "a", Readers::AsBefore).unwrap());
    assert_eq!(mode(&file), 0o640);
    drop(Store::open_for(&state, "a", Readers::Nobody).unwrap());
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn the_history_is_asked_by_address_gate_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let of = |what, address: &str| Record::new(what, "open").of(&gate(), net(address));
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let entries = [
        happened(NOON, Record::new(What::Started, "knockd")),
        happened(NOON + 1_000, of(What::Accepted, "192.0.2.7/32")),
        happened(NOON + 2_000, of(What::Banned, "192.0.2.0/24")),
        happened(
            NOON + 3_000,
            of(What::Banned, "2001:db8::7/128").saying("x".repeat(9_000)),
        ),
        happened(
            NOON + 4_000,
            Record::new(What::Opened, "root").at(&GateName::new("vpn").unwrap()),
        ),
    ];
    store
        .write(&history(&entries), &clocks("a", 1, NOON))
        .unwrap();
    let asked = |nets: &[&str], gates: &[&str], limit| {
        let query = Query {
            nets: nets.iter().map(|text| net(text)).collect(),
            gates: gates.iter().map(|&text| text.to_owned()).collect(),
            limit,
        };
        let entries = read_history(dir.path(), &query).unwrap();
        entries.into_iter().map(|e| e.what).collect::<Vec<_>>()
    };
    let all = ["started", "accepted", "banned", "banned", "opened"];
    assert_eq!(asked(&[], &[], 100), all);
    assert_eq!(asked(&[], &[], 2), all[3..]);
    // An address's history is also that of the networks that it is in, and the other way round.
    assert_eq!(asked(&["192.0.2.7/32"], &[], 100), all[1..3]);
    assert_eq!(asked(&["192.0.2.8/32"], &[], 100), all[2..3]);
    assert_eq!(asked(&["192.0.0.0/16"], &[], 100), all[1..3]);
    assert_eq!(
        asked(&["2001:db8::/32", "192.0.2.8/32"], &[], 100),
        all[2..4]
    );
    assert!(asked(&["198.51.100.1/32"], &[], 100).is_empty());
    assert_eq!(asked(&[], &["vpn"], 100), ["started", "opened"]);
    // As many as a request has room for.
    let many = vec!["192.0.2.7/32"; 5_000];
    assert_eq!(asked(&many, &vec!["vpn"; 5_000], 100), [""; 0]);
    assert_eq!(asked(&many, &["vpn", "ssh"], 100), all[1..3]);

    let query = Query {
        nets: vec![net("2001:db8::7/128")],
        limit: 1,
        ..Query::default()
    };
    let entry = read_history(dir.path(), &query).unwrap().remove(0);
    assert_eq!(entry.time, "2027-01-15T08:00:03Z");
    assert_eq!(entry.address.as_deref(), Some("2001:db8::7"));
    assert_eq!((entry.note.len(), entry.until), (500, None));
}

#[test]
fn what_is_too_old_or_too_much_goes_and_packets_crowd_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    let by_hand = |at| happened(at, Record::new(What::Flushed, "root").by_hand());
    let by_packet = |at| happened(at, Record::new(What::Swept, "scan_guard"));
    let mut entries = vec![
        by_packet(NOON - 100_000),
        by_hand(NOON - 100_000),
        by_hand(NOON),
    ];
    entries.extend((0..50).map(|n| by_packet(NOON + n)));
    let mut batch = history(&entries);
    batch.prune = Some(Retention {
        keep: Duration::from_secs(90),
        rows: 10,
    });
    store.write(&batch, &clocks("a", 1, NOON)).unwrap();
    let query = Query {
        limit: 100,
        ..Query::default()
    };
    let left = read_history(dir.path(), &query).unwrap();
    let count = |what| left.iter().filter(|entry| entry.what == what).count();
    assert_eq!((count("swept"), count("flushed")), (10, 1));
}

#[test]
fn a_store_that_cannot_be_written_is_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let this_boot = boot_id().unwrap();
    let now = clocks(&this_boot, 100, NOON);
    let all = [kept(Chain::Banned, "192.0.2.3/32", None, None)];
    let mut store = Store::open_as(dir.path(), &this_boot).unwrap();
    store.write(&everything(&all), &now).unwrap();
    // As a daemon that was killed leaves it: with its write-ahead log.
    let copy = tempfile::tempdir().unwrap();
    for name in [FILE_NAME, "knockd.db-wal", "knockd.db-shm"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let read = Store::open_to_read(copy.path()).unwrap();
    assert_eq!(read.members(&now).unwrap(), all);
    drop(store);
    let odd = dir.path().join("a?b #%41");
    fs::create_dir(&odd).unwrap();
    fs::copy(dir.path().join(FILE_NAME), odd.join(FILE_NAME)).unwrap();
    let read = Store::open_to_read(&odd).unwrap();
    assert_eq!(read.members(&now).unwrap(), all);
}
