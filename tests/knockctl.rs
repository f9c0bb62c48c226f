//! `knockctl` against a daemon that answers what the test says.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use portcullis::control::protocol::{GateStatus, ListEntry, Status};
use portcullis::control::{Data, Request, Response, Verb};
use portcullis::lab::write_program;
use portcullis::model::{Chain, GateName};
use serde_json::{Value, json};
use tempfile::TempDir;

const KNOCKCTL: &str = env!("CARGO_BIN_EXE_knockctl");

/// Answers one request with these bytes and hands back the request.
struct Daemon {
    _dir: TempDir,
    socket: PathBuf,
    thread: JoinHandle<Request>,
}

fn answering_bytes(answer: Vec<u8>) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = Vec::new();
        BufReader::new(&stream)
            .read_until(b'\n', &mut line)
            .unwrap();
        // A client that has seen enough may be gone.
        let _ = stream.write_all(&answer);
        Request::decode(&line).unwrap()
    });
    Daemon {
        _dir: dir,
        socket,
        thread,
    }
}

fn answering(response: &Response) -> Daemon {
    let mut line = serde_json::to_vec(response).unwrap();
    line.push(b'\n');
    answering_bytes(line)
}

struct Told {
    code: i32,
    out: String,
    err: String,
}

fn run(socket: &Path, words: &[&str]) -> Told {
    let output = Command::new(KNOCKCTL)
        .args(words)
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap();
    Told {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn asking(response: &Response, words: &[&str]) -> (Told, Request) {
    let daemon = answering(response);
    let told = run(&daemon.socket, words);
    (told, daemon.thread.join().unwrap())
}

fn entry(chain: Chain, net: &str, expires_in_s: Option<u64>) -> ListEntry {
    ListEntry {
        gate: GateName::new("ssh").unwrap(),
        chain,
        net: net.parse().unwrap(),
        expires_in_s,
        reason: "knock opencloseSSH".to_owned(),
    }
}

fn members() -> Response {
    let entries = vec![
        entry(Chain::Filter, "192.0.2.10/32", Some(299)),
        entry(Chain::Filter, "192.0.2.9/32", Some(61)),
        entry(Chain::Trusted, "2001:db8::/64", None),
        entry(Chain::Trusted, "198.51.100.0/24", None),
        entry(Chain::Banned, "203.0.113.1/32", None),
    ];
    Response::with_data(0, Data::List { entries })
}

fn status(state: &str) -> Response {
    Response::with_data(
        0,
        Data::Status(Box::new(Status {
            backend: "nftables".to_owned(),
            backend_reason: "no iptables command".to_owned(),
            state: state.to_owned(),
            uptime_s: 3_725,
            gates: vec![GateStatus {
                name: "ssh".to_owned(),
                ports: vec!["22/tcp".to_owned()],
                accepted: 2,
                ..GateStatus::default()
            }],
            ..Status::default()
        })),
    )
}

#[test]
fn bad_input_is_refused_before_anybody_is_asked() {
    let nowhere = Path::new("/nonexistent/control.sock");
    for (words, code, told) in [
        (
            &["accept", "999.1.1.1"][..],
            2,
            "`999.1.1.1` is not an address",
        ),
        (&["accept", "example.org"], 2, "names are for `trust`"),
        (&["accept", "10.0.0.0/24"], 2, "takes single addresses"),
        (&["accept", "192.0.2.1", "--for", "300"], 2, "write `300s`"),
        (&["accept"], 2, "<IP>"),
        (&["acept", "192.0.2.1"], 2, "accept"),
        (&["flush"], 2, "required"),
        (&["list", "everything"], 2, "cannot be listed"),
        (&["trust", "192.0.2.1", "--gate", "ssh"], 2, "--runtime"),
        (&["trust", "0.0.0.0/0"], 4, "--force"),
        (&["ping", "-o", "xml"], 2, "xml"),
        (
            &["accept", "192.0.2.1"],
            3,
            "knockd is not running (no control socket at /non",
        ),
    ] {
        let found = run(nowhere, words);
        assert_eq!(
            (found.code, found.out.as_str()),
            (code, ""),
            "{}",
            found.err
        );
        assert!(found.err.contains(told), "{}", found.err);
    }
    let found = run(nowhere, &["-o", "json", "accept", "999.1.1.1"]);
    let shown: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(shown["code"], 2);
    assert!(found.err.contains("999.1.1.1"));
}

#[test]
fn requests_carry_what_was_typed() {
    let done = Response::new(
        0,
        vec!["accepted 192.0.2.1 at ssh for 10m".to_owned()],
        vec![],
    );
    let words = [
        "accept",
        "192.0.2.1",
        "2001:db8::1",
        "--for",
        "10m",
        "--gate",
        "ssh",
        "--gate",
        "web",
        "--force",
    ];
    let (told, request) = asking(&done, &words);
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(told.out, "accepted 192.0.2.1 at ssh for 10m\n");
    let expected = Request {
        gates: vec!["ssh".to_owned(), "web".to_owned()],
        lifetime: Some("10m".to_owned()),
        force: true,
        ..Request::new(Verb::Accept, ["192.0.2.1", "2001:db8::1"])
    };
    assert_eq!(request, expected);
    let words = ["trust", "gw.example.org", "--comment", "the gateway"];
    let expected = Request {
        comment: Some("the gateway".to_owned()),
        ..Request::new(Verb::Trust, ["gw.example.org"])
    };
    assert_eq!(asking(&done, &words).1, expected);
    let nothing = [""; 0];
    for (words, expected) in [
        (
            &["untrust", "192.0.2.1", "--runtime"][..],
            Request {
                runtime: true,
                ..Request::new(Verb::Untrust, ["192.0.2.1"])
            },
        ),
        (
            &["drop", "192.0.2.0/24"],
            Request::new(Verb::Drop, ["192.0.2.0/24"]),
        ),
        (
            &["unban", "192.0.2.1"],
            Request::new(Verb::Unban, ["192.0.2.1"]),
        ),
        (
            &["flush", "filter", "192.0.2.1"],
            Request::new(Verb::Flush, ["filter", "192.0.2.1"]),
        ),
        (
            &["open", "--for", "60s"],
            Request {
                lifetime: Some("60s".to_owned()),
                ..Request::new(Verb::Open, nothing)
            },
        ),
        (&["close"], Request::new(Verb::Close, nothing)),
        (&["reload"], Request::new(Verb::Reload, nothing)),
        (&["ping"], Request::new(Verb::Ping, nothing)),
        (&["list", "banned"], Request::new(Verb::List, ["banned"])),
        (&["status"], Request::new(Verb::Status, nothing)),
    ] {
        assert_eq!(asking(&Response::new(0, vec![], vec![]), words).1, expected);
    }
}

#[test]
fn exit_codes_are_the_daemons() {
    for code in [0, 1, 2, 4, 5] {
        let response = Response::new(
            code,
            vec!["accepted 192.0.2.1".to_owned()],
            vec!["192.0.2.2 is banned\u{1b}[2J".to_owned()],
        );
        let (told, _) = asking(&response, &["accept", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(told.code, i32::from(code));
        assert_eq!(told.out, "accepted 192.0.2.1\n");
        assert_eq!(told.err, "knockctl: 192.0.2.2 is banned\u{fffd}[2J\n");
        let (told, _) = asking(
            &response,
            &["-o", "json", "accept", "192.0.2.1", "192.0.2.2"],
        );
        assert_eq!(told.code, i32::from(code));
        let shown: Value = serde_json::from_str(&told.out).unwrap();
        let expected = json!({"done": response.done, "refused": response.refused, "code": code});
        assert_eq!(shown, expected);
    }
    let (told, _) = asking(&Response::new(0, vec![], vec![]), &["close"]);
    assert_eq!(
        (told.code, told.out.as_str()),
        (0, "nothing to do: it is so already\n")
    );
    let (told, _) = asking(&Response::new(0, vec![], vec![]), &["ping"]);
    assert_eq!((told.code, told.out.as_str()), (0, "knockd answers\n"));
}

#[test]
fn lists_are_sorted_and_plain_where_nobody_looks() {
    let (told, _) = asking(&members(), &["list"]);
    let expected = "\
GATE  CHAIN        ADDRESS          EXPIRES  REASON
ssh   ssh_banned   203.0.113.1        never  knock opencloseSSH
ssh   ssh_trusted  198.51.100.0/24    never  knock opencloseSSH
ssh   ssh_trusted  2001:db8::/64      never  knock opencloseSSH
ssh   ssh_filter   192.0.2.9           1m1s  knock opencloseSSH
ssh   ssh_filter   192.0.2.10         4m59s  knock opencloseSSH
";
    assert_eq!((told.code, told.out.as_str()), (0, expected));
    let (told, _) = asking(&members(), &["list", "-o", "json"]);
    let shown: Value = serde_json::from_str(&told.out).unwrap();
    let entries = shown["entries"].as_array().unwrap();
    assert_eq!(entries[0]["address"], "203.0.113.1");
    assert_eq!(entries[0]["expires_in_s"], Value::Null);
    assert_eq!(entries[4]["expires_in_s"], 299);
    assert_eq!(shown.as_object().unwrap().len(), 1);
    let mut fields: Vec<_> = entries[0].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        ["address", "chain", "expires_in_s", "gate", "reason"]
    );
}

#[test]
fn status_exits_5_when_degraded() {
    let (told, _) = asking(&status("running"), &["status"]);
    assert_eq!(told.code, 0);
    let expected = "\
state     running
backend   nftables (no iptables command)
uptime    1h2m5s

GATE  PORTS   ACCEPTED  BANNED  TRUSTED  OPEN
ssh   22/tcp         2       0        0  no
";
    assert_eq!(told.out, expected);
    let (told, _) = asking(&status("degraded"), &["status", "-o", "json"]);
    assert_eq!(told.code, 5);
    let shown: Value = serde_json::from_str(&told.out).unwrap();
    for field in ["backend", "state", "uptime_s", "gates"] {
        assert!(!shown[field].is_null(), "{shown}");
    }
}

#[test]
fn a_broken_pipe_is_no_panic() {
    let entries = (0..20_000u32)
        .map(|n| ListEntry {
            net: IpAddr::from(n.to_be_bytes()).into(),
            ..entry(Chain::Trusted, "192.0.2.1/32", None)
        })
        .collect();
    let response = Response::with_data(0, Data::List { entries });
    for words in [&["list"][..], &["list", "-o", "json"]] {
        let daemon = answering(&response);
        let mut client = Command::new(KNOCKCTL)
            .args(words)
            .arg("--socket")
            .arg(&daemon.socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(client.stdout.take());
        let mut err = String::new();
        client
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!(client.wait().unwrap().code(), Some(0), "{err}");
        assert_eq!(err, "");
    }
}

#[test]
fn whatever_else_listens_there_is_told_apart() {
    for (answer, told) in [
        (&b""[..], "without an answer"),
        (b"HTTP/1.1 400 Bad Request\n", "cannot understand"),
        (b"{\"version\":1,\"code\":0", "without an answer"),
        (b"{\"version\":7,\"code\":0}\n", "version 7"),
    ] {
        let daemon = answering_bytes(answer.to_vec());
        let found = run(&daemon.socket, &["ping"]);
        assert_eq!(found.code, 1);
        assert!(found.err.contains(told), "{}", found.err);
    }
}

/// Permissions do not bind root: then the program runs as somebody else.
#[test]
fn a_socket_without_permission_says_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let program = dir.path().join("knockctl");
    write_program(&program, &fs::read(KNOCKCTL).unwrap()).unwrap();
    for (path, mode) in [(dir.path(), 0o755), (&socket, 0o000)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(&program);
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command
        .arg("ping")
        .arg("--socket")
        .arg(&socket)
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("root may, and members of the group knockd"),
        "{err}"
    );
}
