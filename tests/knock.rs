//! The client `knock`, against listeners on the loopback interface.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin_cmd;

fn knock(arguments: &[&str]) -> (i32, String, String) {
    let output = cargo_bin_cmd!("knock")
        // Whoever runs the tests may have profiles.
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_udp_knock_is_one_zero_byte() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let expected = format!("hitting udp 127.0.0.1:{port}\n").repeat(2);
    let told = knock(&["-v", "-u", "127.0.0.1", &port, &format!("{port}:udp")]);
    assert_eq!(told, (0, expected, String::new()));
    for _ in 0..2 {
        let mut buffer = [9; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], 0);
    }
}

#[test]
fn tcp_knocks_arrive_in_order_and_are_closed_at_once() {
    let listeners: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let ports: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port().to_string())
        .collect();
    let mut client = Command::new(env!("CARGO_BIN_EXE_knock"))
        .args(["-d", "700", "127.0.0.1"])
        .args(&ports)
        .spawn()
        .unwrap();
    for (nth, listener) in listeners.iter().enumerate() {
        let (mut stream, _) = listener.accept().unwrap();
        for later in &listeners[nth + 1..] {
            later.set_nonblocking(true).unwrap();
            let early = later.accept().unwrap_err();
            assert_eq!(early.kind(), ErrorKind::WouldBlock);
            later.set_nonblocking(false).unwrap();
        }
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        match stream.read(&mut [0; 16]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(client.wait().unwrap().success());
}

#[test]
fn a_closed_port_can_be_knocked_on() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    assert_eq!(knock(&["127.0.0.1", &port, &port]).0, 0);
}

#[test]
fn mistakes_have_their_own_exit_codes() {
    // A label of more than 63 letters is never asked for.
    let unknown = format!("{}.example", "x".repeat(70));
    for (arguments, code, told) in [
        (&["127.0.0.1", "22x"][..], 2, "`22x` is not a port"),
        (&["127.0.0.1", "70000:udp"], 2, "`70000` is not a port"),
        (&["127.0.0.1"], 2, "no ports"),
        (&["--proxy", "127.0.0.1"], 2, "no port to connect to"),
        (
            &["--open-and-check", "x", "127.0.0.1", "1"],
            2,
            "--open-and-check",
        ),
        (&["--tries", "2", "127.0.0.1", "1"], 2, "--open-and-check"),
        (&["--proxy", &unknown, "22", "1"], 1, "cannot resolve"),
        (
            &["--proxy", "255.255.255.255", "22", "1"],
            1,
            "cannot knock on",
        ),
        (&[], 2, "HOST"),
        (&["-d", "soon", "127.0.0.1", "1"], 2, "soon"),
        (&["-4", "-6", "127.0.0.1", "1"], 2, "cannot be used with"),
        (&["-6", "127.0.0.1", "1"], 1, "has no IPv6 address"),
        (&[&unknown, "1"], 1, "cannot resolve"),
        (&["255.255.255.255", "1"], 1, "cannot knock on"),
    ] {
        let (found, out, err) = knock(arguments);
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        assert!(err.contains(told), "{err}");
    }
}

#[test]
fn help_and_version_are_there() {
    let (code, out, _) = knock(&["-V"]);
    assert_eq!(
        (code, out.trim()),
        (0, concat!("knock ", env!("CARGO_PKG_VERSION")))
    );
    let (code, out, _) = knock(&["-h"]);
    assert_eq!(code, 0);
    for word in [
        "HOST PORT",
        "-u",
        "-d",
        "-4",
        "-6",
        "-v",
        "--open-and-check",
        "--proxy",
        "--tries",
        "--wait",
        "knock.yaml",
        "Examples:",
        "Exit status:",
    ] {
        assert!(out.contains(word), "{out}");
    }
}

/// A port on which somebody listens, and one to knock on where nobody does.
fn ports() -> (TcpListener, String, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = |of: &TcpListener| of.local_addr().unwrap().port().to_string();
    let (open, closed) = (port(&listener), port(&free));
    (listener, open, closed)
}

#[test]
fn open_and_check_says_how_it_is() {
    let (listener, open, other) = ports();
    let (code, out, err) = knock(&["--open-and-check", &open, "127.0.0.1", &other]);
    let expected = format!("127.0.0.1:{open} is open, after knocking once\n");
    assert_eq!((code, out, err), (0, expected, String::new()));
    drop(listener);
    let tries = [
        "--tries",
        "2",
        "--open-and-check",
        &open,
        "127.0.0.1",
        &other,
    ];
    let (code, out, err) = knock(&tries);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("refuses connections"), "{err}");
}

#[test]
fn a_profile_stands_for_host_and_knocks() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("knock.yaml");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = cargo_bin_cmd!("knock")
            .env("XDG_CONFIG_HOME", dir.path())
            .args(["-v", "home"])
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let good = format!("home: {{ host: 127.0.0.1, knocks: [{port}], udp: true }}\n");
    let expected = format!("hitting udp 127.0.0.1:{port}\n");
    assert_eq!(run(&good), (Some(0), expected, String::new()));
    let (code, out, err) = run("home: { host: 127.0.0.1, knocks: [1228] }\nhome: {}\n");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("knock.yaml:2:1: found `home` a second time"),
        "{err}"
    );
    let (code, _, err) = run("home: [1228, 1227]\n");
    assert_eq!(code, Some(2));
    assert!(err.contains("knock.yaml:1:7: expected a mapping"), "{err}");
}

#[test]
fn a_proxy_joins_the_connection_to_its_input_and_output() {
    let (listener, open, other) = ports();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-here\r\n").unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        // Only now: the proxy has passed the end of its input on, and still reads.
        stream.write_all(&heard).unwrap();
    });
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let output = cargo_bin_cmd!("knock")
        .args(["-v", "--proxy", "127.0.0.1", &open, &other])
        .write_stdin(sent.clone())
        .output()
        .unwrap();
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.strip_prefix(b"SSH-2.0-here\r\n") == Some(&sent[..]));
    // What is said is not mixed with what comes.
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("hitting tcp 127.0.0.1:{other}\n"));
}

/// As ssh does when the other side is gone: it reads the end, and only then hangs up.
#[test]
fn a_proxy_closes_its_output_when_the_other_side_has_no_more_to_say() {
    let (listener, open, other) = ports();
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_knock"))
        .args(["--proxy", "127.0.0.1", &open, &other])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"bye").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    proxy
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "bye");
    // It is still there, and passes on what is said to it.
    let mut to = proxy.stdin.take().unwrap();
    to.write_all(b"one more thing").unwrap();
    drop(to);
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "one more thing");
    assert!(proxy.wait().unwrap().success());
}

#[test]
fn a_proxy_without_anybody_to_talk_to_ends_with_1() {
    let (listener, open, other) = ports();
    drop(listener);
    let one = ["--tries", "1", "--proxy", "127.0.0.1", &open, &other];
    let (code, out, err) = knock(&one);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("refuses connections"), "{err}");
}
