//! The client `knock`, against listeners on the loopback interface.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin_cmd;

fn knock(arguments: &[&str]) -> (i32, String, String) {
    let output = cargo_bin_cmd!("knock").args(arguments).output().unwrap();
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
        (&["127.0.0.1"], 2, "PORT"),
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
    for word in ["HOST PORT", "-u", "-d", "-4", "-6", "-v", "Examples:"] {
        assert!(out.contains(word), "{out}");
    }
}
