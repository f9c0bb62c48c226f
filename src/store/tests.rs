use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::Time;

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(secs)
}

/// Late enough that opening does not prune rows seen then.
fn today() -> SystemTime {
    SystemTime::now()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn the_last_good_addresses_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let now = today();
    let good = addresses(&["192.0.2.1", "2001:db8::1"]);
    {
        let mut store = Store::open_as(dir.path(), "boot").unwrap();
        store
            .remember_name("gw.example.org", &addresses(&["192.0.2.9"]), now)
            .unwrap();
        store.remember_name("gw.example.org", &good, now).unwrap();
    }
    let store = Store::open_as(dir.path(), "boot").unwrap();
    assert_eq!(store.moved_aside(), None);
    let names = store.names(now + Duration::from_secs(60)).unwrap();
    assert_eq!(
        names,
        [KnownName {
            name: "gw.example.org".to_owned(),
            addresses: good
                .into_iter()
                .map(|address| (address, Duration::from_secs(60)))
                .collect(),
        }]
    );
}

#[test]
fn an_address_that_is_only_kept_is_not_good_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "boot").unwrap();
    let [four, six, lost] =
        ["192.0.2.1", "2001:db8::1", "2001:db8::2"].map(|text| text.parse::<IpAddr>().unwrap());
    let (start, day) = (1_800_000_000, 86_400);
    let days = |number| Duration::from_secs(number * day);
    for today in 0..=7 {
        let clocks = Clocks {
            boot_id: "boot".to_owned(),
            boot: Time::from_secs(today * day),
            wall_ms: i64::try_from((start + today * day) * 1_000).unwrap(),
        };
        // That of IPv6 is not answered any more; one of them is not on the disk.
        let mut good = vec![(four, Duration::ZERO), (six, days(today))];
        if today == 5 {
            good.push((lost, days(5)));
        }
        let batch = Batch {
            names: vec![("gw.example.org".to_owned(), good)],
            ..Batch::default()
        };
        store.write(&batch, &clocks).unwrap();
        let names = store.names(at(start + today * day)).unwrap();
        let mut expected = vec![(four, Duration::ZERO), (six, days(today))];
        if today == 5 {
            expected.push((lost, days(5)));
        }
        assert_eq!(names[0].addresses, expected, "{today}");
    }
    let names = store.names(at(start + 7 * day + 1)).unwrap();
    assert_eq!(names[0].addresses, [(four, Duration::from_secs(1))]);
}

#[test]
fn the_last_good_addresses_count_for_seven_days() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "boot").unwrap();
    let start = 1_800_000_000;
    store
        .remember_name("a", &addresses(&["192.0.2.1"]), at(start))
        .unwrap();
    let week = 7 * 86_400;
    assert_eq!(store.names(at(start + week)).unwrap().len(), 1);
    assert_eq!(store.names(at(start + week + 1)).unwrap().len(), 0);
    // The clock was set back, even before 1970.
    let age = |now| store.names(now).unwrap()[0].addresses[0].1;
    assert_eq!(age(at(5)), Duration::ZERO);
    let before = UNIX_EPOCH - Duration::from_secs(5);
    assert_eq!(age(before), Duration::ZERO);
}

#[test]
fn trust_lasts_until_reboot() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = GateName::new("ssh").unwrap();
    {
        let mut store = Store::open_as(dir.path(), "boot 1").unwrap();
        store.add_trust(None, net("192.0.2.0/24"), "one").unwrap();
        store.add_trust(None, net("192.0.2.0/24"), "two").unwrap();
        store
            .add_trust(Some(&ssh), net("192.0.2.0/24"), "ssh only")
            .unwrap();
        store.add_trust(None, net("2001:db8::1/128"), "").unwrap();
        store.remove_trust(None, net("2001:db8::1/128")).unwrap();
        store.remove_trust(None, net("203.0.113.1/32")).unwrap();
    }
    let expected = [
        RuntimeTrust {
            gate: None,
            net: net("192.0.2.0/24"),
            reason: "two".to_owned(),
        },
        RuntimeTrust {
            gate: Some(ssh.clone()),
            net: net("192.0.2.0/24"),
            reason: "ssh only".to_owned(),
        },
    ];
    {
        let mut store = Store::open_as(dir.path(), "boot 1").unwrap();
        assert_eq!(store.trust().unwrap(), expected);
        store.remove_trust(None, net("192.0.2.0/24")).unwrap();
        assert_eq!(store.trust().unwrap(), expected[1..]);
    }
    let store = Store::open_as(dir.path(), "boot 2").unwrap();
    assert_eq!(store.trust().unwrap(), []);
    drop(store);
    let store = Store::open_as(dir.path(), "boot 1").unwrap();
    assert_eq!(store.trust().unwrap(), []);
}

#[test]
fn only_the_owner_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("lib/knockd");
    let mut store = Store::open_as(&state, "boot").unwrap();
    store.add_trust(None, net("192.0.2.0/24"), "one").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&state.join(format!("{FILE_NAME}{suffix}"))), 0o600);
    }
    assert_eq!(mode(&state) & 0o027, 0);
    drop(store);
    fs::set_permissions(state.join(FILE_NAME), fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Store::open_as(&state, "boot").unwrap();
    assert_eq!(mode(&state.join(FILE_NAME)), 0o600);
}

#[test]
fn a_damaged_file_is_moved_aside_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    fs::write(
        &file,
        "this is not a database, whatever it is called. ".repeat(50),
    )
    .unwrap();
    let mut store = Store::open_as(dir.path(), "boot").unwrap();
    let aside = dir.path().join("knockd.db.corrupt-1");
    assert_eq!(store.moved_aside(), Some(aside.as_path()));
    assert!(fs::read(&aside).unwrap().starts_with(b"this is not"));
    let many = addresses(&["192.0.2.1"]);
    for n in 0..2000 {
        store
            .remember_name(&format!("host-{n}.example.org"), &many, today())
            .unwrap();
    }
    drop(store);

    // Damage in the middle, behind an intact header.
    let mut bytes = fs::read(&file).unwrap();
    assert!(bytes.len() > 40_000);
    bytes[8192..36_000].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let store = Store::open_as(dir.path(), "boot").unwrap();
    let aside = dir.path().join("knockd.db.corrupt-2");
    assert_eq!(store.moved_aside(), Some(aside.as_path()));
    assert_eq!(store.names(today()).unwrap(), []);
}

#[test]
fn a_setting_is_what_was_set_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_as(dir.path(), "a").unwrap();
    assert_eq!(store.setting("backend").unwrap(), None);
    store.set_setting("backend", "iptables").unwrap();
    store.set_setting("backend", "nftables").unwrap();
    drop(store);
    let store = Store::open_as(dir.path(), "another boot").unwrap();
    assert_eq!(
        store.setting("backend").unwrap().as_deref(),
        Some("nftables")
    );
}

#[test]
fn a_store_of_the_first_version_gets_settings_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "a").unwrap();
    store
        .add_trust(None, net("192.0.2.0/24"), "somebody")
        .unwrap();
    drop(store);
    let path = dir.path().join(FILE_NAME);
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch("DROP TABLE settings; DROP TABLE members; DROP TABLE clocks; DROP TABLE history; DROP TABLE owed; PRAGMA user_version = 1;")
        .unwrap();
    let store = Store::open_as(dir.path(), "a").unwrap();
    assert_eq!(store.setting("backend").unwrap(), None);
    store.set_setting("backend", "iptables").unwrap();
    assert_eq!(store.trust().unwrap().len(), 1);
}

#[test]
fn a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open_as(dir.path(), "boot").unwrap());
    let file = dir.path().join(FILE_NAME);
    Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = Store::open_as(dir.path(), "boot").unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 7, .. }),
        "{error}"
    );
    assert!(file.exists());
    assert!(!dir.path().join("knockd.db.corrupt-1").exists());
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_spoils_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_as(dir.path(), "boot").unwrap();
    store
        .remember_name("kept", &addresses(&["192.0.2.1"]), today())
        .unwrap();
    let pages: i64 = store
        .database
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    store
        .database
        .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .unwrap();
    let many: Vec<IpAddr> = (0..5000u32)
        .map(|n| std::net::Ipv4Addr::from(0xc000_0200 + n).into())
        .collect();
    let error = store.remember_name("kept", &many, today()).unwrap_err();
    assert!(
        error.to_string().contains("make room on the disk"),
        "{error}"
    );
    assert_eq!(store.names(today()).unwrap()[0].addresses.len(), 1);
}

#[test]
fn places_where_nothing_can_be_kept_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open_as(&file, "boot").unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
    let error = Store::open_as(&file.join("below"), "boot").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot create the state directory"),
        "{error}"
    );
    // procfs takes no files, whoever asks.
    let error = Store::open_as(Path::new("/proc/self"), "boot").unwrap_err();
    assert!(
        error.to_string().contains("/proc/self/knockd.db"),
        "{error}"
    );
    assert!(error.to_string().starts_with("cannot open"), "{error}");
    fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
    let error = Store::open_as(dir.path(), "boot").unwrap_err();
    assert!(error.to_string().starts_with("cannot open"), "{error}");
}

#[test]
fn this_boot_has_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Readers::Nobody).unwrap();
    assert_eq!(store.boot_id.len(), 36);
}

#[test]
fn rows_edited_into_nonsense_trust_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_as(dir.path(), "boot").unwrap();
    store
        .database
        .execute_batch(
            "INSERT INTO runtime_trust VALUES (NULL, 'everybody', '', 'boot');
             INSERT INTO runtime_trust VALUES ('No Gate', '192.0.2.0/24', '', 'boot');
             INSERT INTO names VALUES ('a', 'nowhere', 4000000000);",
        )
        .unwrap();
    assert_eq!(store.trust().unwrap(), []);
    assert_eq!(store.names(today()).unwrap(), []);
}
