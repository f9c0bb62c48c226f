//! `knockctl import`, what `knockd check` says about what comes out, and what a page tells of it.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const KNOCKCTL: &str = env!("CARGO_BIN_EXE_knockctl");
const KNOCKD: &str = env!("CARGO_BIN_EXE_knockd");

const CLASSIC: &str = "[options]
    UseSyslog

[openSSH]
    sequence      = 7000,8000,9000
    seq_timeout   = 5
    start_command = /sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
    cmd_timeout   = 30
    stop_command  = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
    tcpflags      = syn

[wake]
    sequence      = 9000,8000
    tcpflags      = syn
    command       = /usr/bin/wakeup \"the printer\" > /dev/null; logger %IP%
";

struct Told {
    code: i32,
    out: String,
    err: String,
}

fn run(program: &str, arguments: &[&str]) -> Told {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn named(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_imported_policy_passes_knockd_check_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (
        dir.path().join("knockd.conf"),
        dir.path().join("knockd.yaml"),
    );
    fs::write(&from, CLASSIC).unwrap();
    fs::write(dir.path().join("knockd.trusted"), "").unwrap();
    let shown = run(KNOCKCTL, &["import", named(&from)]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    for part in [
        "knockctl: openSSH: its iptables rules are an acceptance for 30s now",
        "knockctl: from now on knockd itself keeps 22/tcp shut",
    ] {
        assert!(shown.err.contains(part), "{part}\n{}", shown.err);
    }
    let written = run(KNOCKCTL, &["import", named(&from), "--out", named(&to)]);
    assert_eq!((written.code, written.out.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&to).unwrap(), shown.out);
    assert_eq!(
        fs::metadata(&to).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let check = run(KNOCKD, &["check", named(&to)]);
    assert_eq!(check.code, 0, "{}\n{}", check.err, shown.out);
    for line in [
        "  ssh: guards 22/tcp on every address of this host.\n",
        "  openSSH: TCP SYN to 7000 then 8000 then 9000 within 5s lets the sender in to ssh for 30s.\n",
        "  wake: TCP SYN to 9000 then 8000 within 25s runs `/usr/bin/wakeup \"the printer\" > /dev/null; logger %IP%`.\n",
    ] {
        assert!(check.out.contains(line), "{line}\n{}", check.out);
    }
}

#[test]
fn a_file_that_is_there_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (
        dir.path().join("knockd.conf"),
        dir.path().join("knockd.yaml"),
    );
    fs::write(&from, CLASSIC).unwrap();
    fs::write(&to, "mine").unwrap();
    let told = run(KNOCKCTL, &["import", named(&from), "--out", named(&to)]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("is there already"), "{}", told.err);
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    let nowhere = dir.path().join("no/such/dir");
    assert_eq!(
        run(
            KNOCKCTL,
            &["import", named(&from), "--out", named(&nowhere)]
        )
        .code,
        1
    );
}

#[test]
fn a_file_that_is_not_there_is_not_to_be_created() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("nothere"), dir.path().join("knockd.yaml"));
    let told = run(KNOCKCTL, &["import", named(&from), "--out", named(&to)]);
    assert_eq!(told.code, 2);
    let expected = format!(
        "knockctl: cannot import {}: there is no such file\n",
        from.display()
    );
    assert_eq!(told.err, expected);
    assert!(!to.exists());
}

#[test]
fn what_cannot_be_imported_says_why_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (
        dir.path().join("knockd.conf"),
        dir.path().join("knockd.yaml"),
    );
    let cases = [
        (
            "[a]\nsequence = 7000,abc\ncommand = x\n",
            "knockd.conf:2:17: found `abc`",
        ),
        ("gates: { ssh: { ports: [22] } }\n", "is no knockd.conf"),
        (
            "[a]\nsequence=7000,8000\ncommand=x\n[b]\nsequence=7000,8000\ncommand=y\n",
            "the sequence of `a` a second time",
        ),
    ];
    for (text, expected) in cases {
        fs::write(&from, text).unwrap();
        let told = run(KNOCKCTL, &["import", named(&from), "--out", named(&to)]);
        assert_eq!((told.code, told.out.as_str()), (2, ""), "{text}");
        assert!(told.err.contains(expected), "{}", told.err);
        assert!(told.err.lines().all(|line| line.starts_with("knockctl: ")));
        assert!(!to.exists());
    }
    let missing = run(KNOCKCTL, &["import", named(&to)]);
    assert_eq!(missing.code, 2, "{}", missing.err);
}

#[test]
fn knockd_check_reads_a_classic_file_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("knockd.conf");
    fs::write(&file, CLASSIC).unwrap();
    let told = run(KNOCKD, &["check", named(&file)]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(
        told.out
            .contains("None: nothing is installed in the firewall."),
        "{}",
        told.out
    );
    assert!(
        told.out.contains(", and `/sbin/iptables -D INPUT"),
        "{}",
        told.out
    );
    fs::write(&file, CLASSIC.replace("= 5", "= 5s")).unwrap();
    let told = run(KNOCKD, &["check", named(&file)]);
    assert_eq!(told.code, 2);
    assert!(
        told.err.contains("knockd.conf:6:21: found `5s`"),
        "{}",
        told.err
    );
}

#[test]
fn a_page_tells_of_a_classic_files_door_as_import_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("knockd.conf");
    fs::write(&file, CLASSIC).unwrap();
    let page = |file: &Path| {
        run(
            KNOCKCTL,
            &["handout", "--host", "h.example", "-c", named(file)],
        )
    };
    let told = page(&file);
    assert_eq!(told.code, 0, "{}", told.err);
    for part in [
        "data-ports=\"7000 8000 9000\"",
        "data-accept=\"30\"",
        "knock h.example 7000 8000 9000",
    ] {
        assert!(told.out.contains(part), "{part}\n{}", told.out);
    }
    assert!(
        told.err.contains("the commands of openSSH are told of"),
        "{}",
        told.err
    );
    // What its commands open nobody can tell.
    let (_, wake) = CLASSIC.split_once("[wake]").unwrap();
    fs::write(&file, format!("[wake]{wake}")).unwrap();
    let told = page(&file);
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert!(told.err.contains("`knockctl import`"), "{}", told.err);
}

#[test]
fn there_is_no_page_about_a_sequence_that_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("knockd.yaml");
    let sheet = dir.path().join("travel.sheet");
    fs::write(
        &file,
        "interface: any\ngates: { ssh: { ports: [22] } }\nknocks:\n  travel: { sequence: \
         { one_time: travel.sheet }, action: accept }\n",
    )
    .unwrap();
    let told = run(
        KNOCKCTL,
        &["handout", "--host", "h.example", "-c", named(&file)],
    );
    assert_eq!((told.code, told.out.as_str()), (2, ""), "{}", told.err);
    assert!(told.err.contains(named(&sheet)), "{}", told.err);
}
