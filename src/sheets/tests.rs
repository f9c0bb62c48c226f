use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;

fn sequence(text: &str) -> Vec<KnockPort> {
    ports(text.as_bytes()).unwrap()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sheet");
    fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn sequences_are_read_in_their_order_and_bad_lines_are_told_with_their_number() {
    let text = b"# a comment\n\n 7000,8000:udp\n#1,2\n  70x,8\n\t7001, 7002:TCP\r\n8000-8010\n1,\n0\n \xff\n9";
    let sheet = parse(text);
    let lines: Vec<_> = sheet
        .lines
        .iter()
        .map(|l| (l.number, l.ports.clone()))
        .collect();
    assert_eq!(
        lines,
        [
            (3, sequence("7000,8000:udp")),
            (6, sequence("7001,7002")),
            (11, sequence("9"))
        ]
    );
    let bad: Vec<usize> = sheet.bad.iter().map(|line| line.number).collect();
    assert_eq!(bad, [5, 7, 8, 9, 10]);
    assert_eq!(
        sheet.bad[0].to_string(),
        "5: found `70x,8`, expected ports such as `20311,4102:udp`, or `#`; skipped"
    );
    let many = parse("x\n".repeat(50).as_bytes());
    assert_eq!((many.bad.len(), many.more_bad), (MOST_BAD, 30));
}

#[test]
fn what_is_used_up_is_marked_in_place_wherever_it_stands_and_never_comes_back() {
    let (_dir, path) = file(" 1,2\nbad\n 3,4\n1,2\n 5,6");
    let inode = fs::metadata(&path).unwrap().ino();
    let first = open(&path).unwrap().lines[0].ports.clone();
    let left = use_up(&path, &first).unwrap();
    assert_eq!(left.lines[0].ports, sequence("3,4"));
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "#1,2\nbad\n 3,4\n#,2\n 5,6"
    );
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(open(&path).unwrap(), left);
    assert!(matches!(use_up(&path, &first), Err(SheetError::Gone(_))));
    use_up(&path, &sequence("3,4")).unwrap();
    let none = use_up(&path, &sequence("5,6")).unwrap();
    assert!(none.lines.is_empty());
}

#[test]
fn lines_that_were_moved_meanwhile_are_found_and_those_that_went_are_not() {
    let (_dir, path) = file(" 1,2\n");
    let first = open(&path).unwrap().lines[0].ports.clone();
    fs::write(&path, "# something new\n 9,9\n 1,2\n").unwrap();
    use_up(&path, &first).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "# something new\n 9,9\n#1,2\n"
    );
    fs::write(&path, " 9,9\n").unwrap();
    let error = use_up(&path, &first).unwrap_err().to_string();
    assert!(error.ends_with("sheet no more"), "{error}");
}

#[test]
fn the_ports_of_a_sheet_are_those_of_used_sequences_too() {
    // The mark has the place of a space, or of a digit.
    let text = "# a comment\n#2101,3402\n 4403 , 5404:udp\r\n7101,8102\nnone\n";
    let (_dir, path) = file(text);
    use_up(&path, &sequence("7101,8102")).unwrap();
    let every = every_port(&path).unwrap();
    let has = |text| sequence(text).iter().all(|port| every.contains(port));
    assert!(has("2101,3402,4403,5404:udp,7101,8102"), "{every:?}");
    assert!(!has("5404") && !has("403"), "{every:?}");
    // The only digit of a port may be the one that is lost.
    let (_dir, short) = file("7,8103\n9:udp,8104\n");
    use_up(&short, &sequence("7,8103")).unwrap();
    use_up(&short, &sequence("9:udp,8104")).unwrap();
    let every = every_port(&short).unwrap();
    let has = |text| sequence(text).iter().all(|port| every.contains(port));
    assert!(has("7,8103,9:udp,8104"), "{every:?}");
    let absent = every_port(&path.with_extension("not"))
        .unwrap_err()
        .to_string();
    assert!(
        absent.starts_with("cannot open the one-time sequences"),
        "{absent}"
    );
}

#[test]
fn what_is_no_file_is_no_sheet_and_says_what_to_do() {
    let (dir, path) = file(&"\n".repeat(MOST_BYTES + 1));
    assert!(matches!(open(&path), Err(SheetError::NoSheet(_))));
    assert!(matches!(open(dir.path()), Err(SheetError::NoSheet(_))));
    assert!(matches!(
        open(Path::new("/dev/null")),
        Err(SheetError::NoSheet(_))
    ));
    let missing = open(&dir.path().join("none")).unwrap_err().to_string();
    assert!(
        missing.contains("(`knockctl sequences new` makes one)"),
        "{missing}"
    );
}

#[test]
fn a_new_sheet_has_what_was_asked_for_and_no_sequence_twice() {
    let wanted = Make {
        count: 500,
        length: 4,
        ports: 20_000..=20_399,
        without: |port| port % 2 == 0,
    };
    let sheet = parse(make(&wanted).unwrap().as_bytes());
    assert_eq!((sheet.lines.len(), sheet.bad.len()), (500, 0));
    let different: HashSet<_> = sheet.lines.iter().map(|line| &line.ports).collect();
    assert_eq!(different.len(), 500);
    let mut used = HashSet::new();
    for line in &sheet.lines {
        let ports: HashSet<u16> = line.ports.iter().map(|port| port.port).collect();
        assert_eq!(ports.len(), 4);
        assert!(
            ports
                .iter()
                .all(|port| (20_000..20_400).contains(port) && port % 2 == 1)
        );
        used.extend(ports);
    }
    assert!(
        used.len() > 190,
        "all ports have their turn: {}",
        used.len()
    );
    let other = make(&wanted).unwrap();
    assert_ne!(parse(other.as_bytes()), sheet);
}

#[test]
fn sheets_that_could_be_guessed_are_not_made() {
    let wanted = |count, length, ports| Make {
        count,
        length,
        ports,
        without: |_| false,
    };
    for (wanted, words) in [
        (wanted(0, 4, 1..=60_000), "from 1 to 10000"),
        (wanted(5, 2, 1..=60_000), "3 to 32"),
        (wanted(5, 3, 1..=100), "not enough different"),
        (wanted(5, 4, 5..=7), "not enough different"),
    ] {
        let error = make(&wanted).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_what_is_read_can_be_used_up(bytes in prop::collection::vec(
        prop_oneof![Just(b'\n'), Just(b','), Just(b'#'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..200
    )) {
        let (_dir, path) = file("");
        fs::write(&path, &bytes).unwrap();
        let mut sheet = open(&path).unwrap();
        while let Some(line) = sheet.lines.first().cloned() {
            sheet = use_up(&path, &line.ports).unwrap();
            prop_assert!(sheet.lines.iter().all(|other| other.ports != line.ports));
        }
        let after = fs::read(&path).unwrap();
        prop_assert_eq!(after.len(), bytes.len());
        prop_assert!(open(&path).unwrap().lines.is_empty());
    }
}
