use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("knockd.trusted");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn nets(roster: &Roster) -> Vec<String> {
    roster
        .trusted()
        .iter()
        .map(|(net, _)| net.to_string())
        .collect()
}

#[test]
fn at_start_a_bad_line_is_reported_with_its_number_and_skipped() {
    let (_dir, path) = file("192.0.2.1\n999.0.0.1 oops\n192.0.2.2\n");
    let (roster, complaints, problem) = Roster::at_start(Some(&path));
    assert_eq!(nets(&roster), ["192.0.2.1/32", "192.0.2.2/32"]);
    assert!(
        complaints.len() == 1 && complaints[0].contains("line 2"),
        "{complaints:?}"
    );
    assert!(problem.is_some_and(|it| it.starts_with("line 2 of ")));
}

#[test]
fn at_start_a_file_with_nothing_in_it_is_a_problem_and_one_of_comments_is_not() {
    for (text, expected) in [
        ("", true),
        (" \n\t\n", true),
        ("\u{feff}", true),
        ("# nobody\n", false),
        ("192.0.2.1\n", false),
    ] {
        let (_dir, path) = file(text);
        let (_, complaints, problem) = Roster::at_start(Some(&path));
        assert!(complaints.is_empty(), "{text:?}: {complaints:?}");
        assert_eq!(problem.is_some(), expected, "{text:?}: {problem:?}");
        assert!(problem.is_none_or(|it| it.contains("has a comment")));
    }
}

#[test]
fn at_reload_a_bad_line_a_missing_or_an_empty_file_changes_nothing() {
    let (_dir, path) = file("192.0.2.1\n");
    let (roster, ..) = Roster::at_start(Some(&path));
    std::fs::write(&path, "192.0.2.1\n999.0.0.1\n").unwrap();
    assert!(matches!(
        roster.reloaded(Some(&path)),
        Err(RosterError::BadLines { .. })
    ));
    std::fs::write(&path, " \n").unwrap();
    assert!(matches!(
        roster.reloaded(Some(&path)),
        Err(RosterError::Empty(_))
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        roster.reloaded(Some(&path)),
        Err(RosterError::File(_))
    ));
}

#[test]
fn a_file_of_comments_only_empties_the_whitelist() {
    let (_dir, path) = file("192.0.2.1\n");
    let (roster, ..) = Roster::at_start(Some(&path));
    std::fs::write(&path, "# nobody\n").unwrap();
    assert_eq!(nets(&roster.reloaded(Some(&path)).unwrap()), [""; 0]);
}

#[test]
fn a_file_that_cannot_be_read_at_start_is_a_problem() {
    let (dir, _) = file("");
    let (roster, complaints, problem) = Roster::at_start(Some(&dir.path().join("none")));
    assert!(complaints.is_empty());
    let problem = problem.unwrap();
    for part in ["there is no whitelist at ", "nobody is trusted", "reload"] {
        assert!(problem.contains(part), "{part} in {problem}");
    }
    assert!(nets(&roster).is_empty());
    assert!(
        Roster::at_start(Some(dir.path())).2.is_some(),
        "a directory"
    );
}

#[test]
fn what_changes_is_what_differs() {
    let (_dir, path) = file("192.0.2.1\ngw.example.org\nother.example.org\n");
    let (mut roster, ..) = Roster::at_start(Some(&path));
    let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    roster.resolved("other.example.org", addresses(&["192.0.2.3"]));
    roster.resolved(
        "gw.example.org",
        addresses(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
    );
    let change = roster
        .resolved("gw.example.org", addresses(&["192.0.2.4"]))
        .unwrap();
    let removed: Vec<_> = change.remove.iter().map(ToString::to_string).collect();
    assert_eq!(
        removed,
        ["192.0.2.2/32"],
        "the others have lines of their own"
    );
    assert_eq!(change.add.len(), 1);
    let host = |text: &str| text.parse::<Host>().unwrap();
    let change = roster.remove(&[host("192.0.2.1"), host("gw.example.org")]);
    let removed: Vec<_> = change.remove.iter().map(ToString::to_string).collect();
    assert_eq!(removed, ["192.0.2.1/32", "192.0.2.4/32"]);
    let change = roster.add(vec![
        (host("192.0.2.9"), "new".into()),
        (host("192.0.2.9"), String::new()),
    ]);
    assert_eq!(change.add.len(), 1);
}

#[test]
fn what_is_taken_back_is_the_list_from_before_with_what_commands_have_changed_since() {
    let (_dir, path) = file("192.0.2.1\n192.0.2.2\ngw.example.org\n");
    let (before, ..) = Roster::at_start(Some(&path));
    std::fs::write(&path, "192.0.2.2\n192.0.2.3\n192.0.2.4\nGW.example.org\n").unwrap();
    let applied = before.reloaded(Some(&path)).unwrap();
    let mut now = applied.clone();
    let host = |text: &str| text.parse::<Host>().unwrap();
    now.add(vec![(host("192.0.2.5"), "by command".into())]);
    now.remove(&[host("192.0.2.2"), host("192.0.2.4")]);
    now.resolved("gw.example.org", vec!["192.0.2.9".parse().unwrap()]);
    let back = before.clone().taken_back(&applied, &now);
    let expected = ["192.0.2.1/32", "192.0.2.9/32", "192.0.2.5/32"];
    assert_eq!(nets(&back), expected);
    assert!(!back.lists_the_same(&now) && back.lists_the_same(&back.clone()));
    // Another list was tried: what commands have changed is in that one's file.
    let mut elsewhere = now;
    elsewhere.file = None;
    let back = before.clone().taken_back(&applied, &elsewhere);
    assert_eq!(
        nets(&back),
        ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.9/32"]
    );
}

#[test]
fn names_stand_for_their_addresses_and_keep_them_over_a_reload() {
    let (_dir, path) = file("Gate.Example.org the gateway\n");
    let (mut roster, ..) = Roster::at_start(Some(&path));
    assert_eq!(roster.names().count(), 1);
    assert!(nets(&roster).is_empty());
    let address: IpAddr = "2001:db8::1".parse().unwrap();
    assert!(roster.resolved("gate.example.org", vec![address]).is_some());
    assert!(
        roster.resolved("gate.example.org", vec![address]).is_none(),
        "nothing new"
    );
    let roster = roster.reloaded(Some(&path)).unwrap();
    assert_eq!(nets(&roster), ["2001:db8::1/128"]);
    assert!(roster.trusted()[0].1.contains("the gateway"));
}

#[test]
fn a_name_that_did_not_resolve_is_a_problem_as_long_as_it_is_listed_and_stands_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    std::fs::write(&path, "GW.example\ngw.example again\nb.example\n").unwrap();
    let (mut roster, ..) = Roster::at_start(Some(&path));
    let failed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    // One is still asked for, and a gate's is not about trust.
    assert_eq!(roster.not_resolved(&failed(&[])), None);
    assert_eq!(roster.not_resolved(&failed(&["gate.example"])), None);
    let told = roster.not_resolved(&failed(&["gw.example"])).unwrap();
    assert!(told.starts_with("not resolved: gw.example: "), "{told}");
    let both = failed(&["gw.example", "b.example"]);
    let told = roster.not_resolved(&both).unwrap();
    let expected = "not resolved: 2 names: b.example, gw.example: ";
    assert!(told.starts_with(expected), "{told}");
    // Its last good addresses serve.
    roster.resolved("gw.example", vec!["192.0.2.1".parse().unwrap()]);
    let told = roster.not_resolved(&both).unwrap();
    assert!(told.starts_with("not resolved: b.example: "), "{told}");
    roster.remove(&["b.example".parse().unwrap()]);
    assert_eq!(roster.not_resolved(&both), None);
    // They do not count for ever.
    roster.resolved("gw.example", Vec::new());
    assert!(roster.not_resolved(&both).is_some());

    let many: Vec<String> = (0..9).map(|n| format!("h{n}.example")).collect();
    std::fs::write(&path, many.join("\n")).unwrap();
    let (roster, ..) = Roster::at_start(Some(&path));
    let told = roster.not_resolved(&many.into_iter().collect()).unwrap();
    assert!(told.contains("9 names: h0.example, "), "{told}");
    assert!(told.contains("h4.example and 4 more: "), "{told}");
}
