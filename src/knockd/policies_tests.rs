use std::fs;

use super::*;

const ONE: &str = "gates: { ssh: { ports: [22] } }\n";
const TWO: &str = "gates: { ssh: { ports: [2222] } }\n";

/// A policy's directory, and a state directory.
struct Places {
    dir: tempfile::TempDir,
}

impl Places {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for part in ["etc", "state"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let places = Self { dir };
        places.write(text);
        places
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("etc/knockd.yaml")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn start(&self) -> Start {
        let start = at_start(&self.path(), &self.state()).unwrap();
        start.policies.keep().unwrap();
        start
    }

    fn previous(&self) -> Option<String> {
        kept(&self.state(), PREVIOUS).map(|kept| kept.source.text)
    }
}

#[test]
fn what_is_kept_is_what_was_written() {
    let places = Places::new(ONE);
    for text in [
        "",
        "\n",
        ONE,
        "# from /elsewhere\n# note\ngates: 5",
        "no newline",
    ] {
        let source = Source {
            file: PathBuf::from("/etc/k n\u{e9}/knockd.yaml"),
            text: text.to_owned(),
        };
        write(&places.state(), GOOD, &source, "a note").unwrap();
        let kept = kept(&places.state(), GOOD).unwrap();
        assert_eq!((kept.source, kept.note.as_str()), (source, "a note"));
    }
    for garbage in [
        &b""[..],
        b"\n",
        b"# from /x",
        b"# from /x\ny\n",
        b"# from /x\n# y\n\xff",
    ] {
        assert!(read_kept(garbage).is_none(), "{garbage:?}");
    }
}

#[test]
fn the_one_from_before_is_the_last_that_was_in_force_and_is_not_now() {
    let places = Places::new(ONE);
    places.start();
    assert_eq!(places.previous(), None);
    places.start();
    assert_eq!(places.previous(), None, "the same again");
    places.write(TWO);
    places.start();
    assert_eq!(places.previous().as_deref(), Some(ONE));
    places.start();
    assert_eq!(places.previous().as_deref(), Some(ONE));
    // A policy from elsewhere is not from before.
    let other = places.dir.path().join("etc/other.yaml");
    fs::write(&other, ONE).unwrap();
    let start = at_start(&other, &places.state()).unwrap();
    start.policies.keep().unwrap();
    assert_eq!(places.previous().as_deref(), Some(ONE));
}

#[test]
fn the_last_good_policy_counts_paths_from_where_it_was() {
    let places = Places::new(&format!("trusted: list\n{ONE}"));
    places.start();
    fs::remove_file(places.path()).unwrap();
    let elsewhere = places.dir.path().join("state/moved.yaml");
    let start = at_start(&elsewhere, &places.state()).unwrap();
    let trusted = start.checked.policy.trusted.unwrap();
    assert_eq!(trusted, places.dir.path().join("etc/list"));
    let problem = start.policies.problem.unwrap();
    for part in ["moved.yaml", "etc/knockd.yaml", "last good"] {
        assert!(problem.contains(part), "{part} in {problem}");
    }
}

#[test]
fn a_last_good_policy_that_is_bad_by_now_helps_nobody() {
    let places = Places::new(ONE);
    places.start();
    let good = fs::read_to_string(places.state().join(GOOD)).unwrap();
    let spoilt = good.replace("ports", "prots");
    fs::write(places.state().join(GOOD), spoilt).unwrap();
    places.write("gates: 5\n");
    let error = at_start(&places.path(), &places.state()).unwrap_err();
    assert!(error.to_string().contains("knockd.yaml:1:"), "{error}");
}

#[test]
fn all_that_is_wrong_is_one_line() {
    let places = Places::new(ONE);
    places.start();
    places.write("gates: { ssh: { ports: [0, 99999], hok: 5 } }\n");
    let problem = places.start().policies.problem.unwrap();
    assert!(!problem.contains('\n'), "{problem}");
    assert!(problem.matches("knockd.yaml:1:").count() >= 2, "{problem}");
}

#[test]
fn what_was_tried_and_not_confirmed_is_not_taken_up() {
    let places = Places::new(ONE);
    let mut policies = places.start().policies;
    let tried = Source {
        file: PathBuf::from("/root/new.yaml"),
        text: TWO.to_owned(),
    };
    policies.note_trial(&tried, "root").unwrap();
    let start = places.start();
    assert!(start.policies.problem.is_none(), "the file is as it was");
    let reverted = start.policies.reverted.clone().unwrap();
    assert_eq!(
        (reverted.file.as_str(), reverted.by.as_str()),
        ("/root/new.yaml", "root")
    );
    start.policies.end_trial();
    assert!(places.start().policies.reverted.is_none(), "said once");

    policies.note_trial(&tried, "root").unwrap();
    places.write(TWO);
    for _ in 0..2 {
        let start = places.start();
        assert_eq!(start.policies.running().text, ONE);
        assert!(start.policies.problem.is_some());
        start.policies.end_trial();
    }
    let running = Source {
        file: places.path(),
        text: TWO.to_owned(),
    };
    policies.now_running(running).unwrap();
    assert_eq!(places.start().policies.running().text, TWO);
}

#[test]
fn what_a_trial_has_removed_is_gone_until_the_history_has_that_it_is_back() {
    let both = format!(
        "{}  web: {{ ports: [443] }}\n",
        ONE.replace("{ ssh: { ports: [22] } }", "\n  ssh: { ports: [22] }")
    );
    let places = Places::new(&both);
    let Start { policies, checked } = places.start();
    let removed = || removed_by_trial(&places.state(), &checked.policy);
    assert!(removed().is_empty());
    let tried = |text: &str| Source {
        file: places.path(),
        text: text.to_owned(),
    };
    policies.note_trial(&tried(ONE), "root").unwrap();
    assert_eq!(removed(), [GateName::new("web").unwrap()].into());
    policies.trial_is_recorded();
    assert!(removed().is_empty());
    policies.note_trial(&tried("gates: 5"), "root").unwrap();
    assert!(removed().is_empty());
}
