//! `One_Time_Sequences`.

use std::fs;

use portcullis::lab::LabError;

use super::{DOOR, Outcome, SERVER, SERVER_6, Side, Whose, alike};
use crate::cases;
use crate::world::Tried;

cases![
    one_time_sequences_are_marked_and_the_next_one_follows,
    one_time_sequences_that_run_out_end_theirs_alone,
    a_line_that_is_no_sequence_is_skipped_by_ours_alone,
    the_second_one_time_sequence_opens_over_ipv6_with_ours_alone,
];

/// With `One_Time_Sequences`, in a file `sheet` that has this; what is in it at the end, too.
fn sheet<T>(
    lines: &str,
    story: impl Fn(&mut Side) -> T,
) -> Result<[Outcome<(T, String)>; 2], LabError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("sheet");
    let door = format!("One_Time_Sequences = {}", path.display());
    let config = DOOR.replace("Sequence = 7000,8000:udp,9000:tcp", &door);
    let run = |whose| -> Result<Outcome<(T, String)>, LabError> {
        fs::write(&path, lines).expect("it can be written");
        let mut side = Side::start(whose, &config)?;
        let told = story(&mut side);
        let left = fs::read_to_string(&path).expect("it is there");
        Ok(((told, left), side.rules().len()))
    };
    Ok([run(Whose::Theirs)?, run(Whose::Ours)?])
}

/// Who was let in, in order.
fn opened(noted: &str) -> Vec<String> {
    let opened = noted.lines().filter_map(|line| line.strip_prefix("open "));
    opened.map(str::to_owned).collect()
}

fn one_time_sequences_are_marked_and_the_next_one_follows() -> Tried {
    // Theirs marks it after the command was started, ours before.
    let outcomes = sheet(" 7000,8000:udp\n# 1,2\n 7100,8100\n 7200,8200\n", |side| {
        side.knocks(&["7000", "8000:udp"]);
        side.noted(1);
        side.knocks_from("192.0.2.11", SERVER, &["7100", "8100"]);
        side.noted(2);
        // The first again.
        side.knocks(&["7000", "8000:udp"]);
        opened(&side.noted(2))
    })?;
    let manual = "After each successful knock attempt this sequence will be disabled by writing a \
                  '#' character at the first position of the line containing the used sequence. \
                  That used sequence will then be replaced by the next valid sequence from the file.";
    let opened = vec!["192.0.2.10".to_owned(), "192.0.2.11".to_owned()];
    let left = "#7000,8000:udp\n# 1,2\n#7100,8100\n 7200,8200\n".to_owned();
    alike(&outcomes, &(opened, left), 2, manual);
    Ok(())
}

fn one_time_sequences_that_run_out_end_theirs_alone() -> Tried {
    let [theirs, ours] = sheet(" 7000,8000:udp\n", |side| {
        for source in ["192.0.2.10", "192.0.2.11"] {
            side.knocks_from(source, SERVER, &["7000", "8000:udp"]);
            side.noted(1);
        }
        (opened(&side.noted(1)).len(), side.ended().is_some())
    })?;
    let left = "#7000,8000:udp\n".to_owned();
    assert_eq!(theirs, (((1, true), left.clone()), 1), "a fault of theirs");
    assert_eq!(ours, (((1, false), left), 1));
    Ok(())
}

fn a_line_that_is_no_sequence_is_skipped_by_ours_alone() -> Tried {
    let [theirs, ours] = sheet(" 7000,8000\n 70000,1\n 7100,8100\n", |side| {
        for (source, ports) in [
            ("192.0.2.10", ["7000", "8000"]),
            // Again, and then what follows.
            ("192.0.2.11", ["7000", "8000"]),
            ("192.0.2.10", ["7100", "8100"]),
        ] {
            side.knocks_from(source, SERVER, &ports);
            side.noted(1);
        }
        opened(&side.noted(1))
    })?;
    let left = "#7000,8000\n 70000,1\n#7100,8100\n".to_owned();
    let twice = vec!["192.0.2.10".to_owned(); 2];
    let expected = ((twice, left), 2);
    // It goes on with memory that it has freed: mostly the used sequence is good again.
    assert_ne!(theirs, expected, "a fault of theirs");
    assert_eq!(ours, expected);
    Ok(())
}

fn the_second_one_time_sequence_opens_over_ipv6_with_ours_alone() -> Tried {
    // Their filter for IPv6 stays that of the first.
    let [theirs, ours] = sheet(" 7000,8000\n 7100,8100\n", |side| {
        for (ports, lines) in [(["7000", "8000"], 1), (["7100", "8100"], 2)] {
            side.knocks_from("2001:db8::10", SERVER_6, &ports);
            // Theirs notes one line however long it is waited for.
            let lines = if side.whose == Whose::Theirs {
                1
            } else {
                lines
            };
            side.noted(lines);
        }
        opened(&side.read("notes")).len()
    })?;
    // No rule of iptables for an address of IPv6.
    let left = "#7000,8000\n 7100,8100\n".to_owned();
    assert_eq!(theirs, ((1, left), 0), "a fault of theirs");
    let left = "#7000,8000\n#7100,8100\n".to_owned();
    assert_eq!(ours, ((2, left), 0));
    Ok(())
}
