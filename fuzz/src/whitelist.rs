use portcullis::whitelist::edit::{Edit, text_with, text_without};
use portcullis::whitelist::{Host, MOST_BAD_LINES, parse};

use super::is_one_line;

/// A first line `HOST COMMENT`, then a file: any bytes can be read, and adding and removing that
/// host changes its own lines only.
pub fn whitelist(bytes: &[u8]) {
    let (first, text) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    read(text);
    let Ok(first) = std::str::from_utf8(first) else {
        return;
    };
    let (host, comment) = first.split_once(' ').unwrap_or((first, ""));
    if let Ok(host) = host.parse() {
        edit(text, &host, comment);
    }
}

fn read(text: &[u8]) {
    let parsed = parse(text);
    let lines = text.split(|byte| *byte == b'\n').count();
    let counts = parsed.counts();
    let all = counts.addresses + counts.networks + counts.names;
    assert_eq!(all, parsed.entries.len());
    assert!(all + parsed.bad.len() + parsed.more_bad <= lines);
    assert!(parsed.bad.len() <= MOST_BAD_LINES);
    assert!(parsed.entries.is_sorted_by_key(|entry| entry.line));
    for entry in &parsed.entries {
        assert!(entry.line >= 1 && entry.line <= lines);
        assert!(is_one_line(&entry.comment), "{entry:?}");
        assert!(is_one_line(&entry.host.to_string()), "{entry:?}");
        let again = entry.host.to_string().parse::<Host>();
        assert!(
            again.is_ok_and(|again| again.same(&entry.host)),
            "{entry:?}"
        );
    }
    for bad in &parsed.bad {
        assert!(is_one_line(&bad.to_string()), "{bad:?}");
    }
}

fn edit(text: &[u8], host: &Host, comment: &str) {
    let means = |text: &[u8]| {
        let entries = parse(text).entries.into_iter();
        entries.partition::<Vec<_>, _>(|entry| entry.host.same(host))
    };
    let (mine, others) = means(text);
    let Ok((with, edits)) = text_with(Some(text), &[(host.clone(), comment.to_owned())]) else {
        return;
    };
    assert!(with.starts_with(text), "what was there stays as it is");
    match edits.as_slice() {
        [Edit::AlreadyThere { line }] => {
            assert_eq!(with, text);
            assert!(mine.iter().any(|entry| entry.line == *line));
        }
        [Edit::Added { line, .. }] => {
            assert!(mine.is_empty());
            let (now, rest) = means(&with);
            assert_eq!(
                now.iter().map(|entry| entry.line).collect::<Vec<_>>(),
                [*line]
            );
            assert_eq!(rest, others);
        }
        other => panic!("{other:?}"),
    }
    let (without, _) = text_without(&with, std::slice::from_ref(host));
    let (left, rest) = means(&without);
    assert!(left.is_empty(), "{left:?}");
    let said = |entries: &[portcullis::whitelist::Entry]| -> Vec<_> {
        entries
            .iter()
            .map(|entry| (entry.host.clone(), entry.comment.clone()))
            .collect()
    };
    assert_eq!(said(&rest), said(&others));
    // A line that would trust everybody is removed too, though it does not count as an entry.
    if mine.is_empty() && !host.to_string().ends_with("/0") {
        let (again, _) = text_without(text, std::slice::from_ref(host));
        assert_eq!(again, text, "who is not there cannot be removed");
    }
}
