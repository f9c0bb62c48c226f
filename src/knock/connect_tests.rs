use std::net::{Ipv4Addr, TcpListener};

use super::*;

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(here(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn who_answers_is_reached_once() {
    let (listener, port) = listener();
    let Reached::Open(stream, to) = reach(&[here(0)], port, LONG) else {
        panic!("it listens");
    };
    assert_eq!(to, here(port));
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, stream.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let another = listener.accept().unwrap_err();
    assert_eq!(another.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn who_refuses_at_first_and_opens_then_is_reached() {
    let (first, port) = listener();
    drop(first);
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        TcpListener::bind(here(port)).unwrap()
    });
    let reached = reach(&[here(0)], port, LONG);
    assert!(matches!(reached, Reached::Open(..)), "{reached:?}");
    drop(late.join().unwrap());
}

#[test]
fn who_goes_on_refusing_is_given_up_early() {
    let (gone, port) = listener();
    drop(gone);
    let started = Instant::now();
    let reached = reach(&[here(0)], port, LONG);
    assert!(matches!(reached, Reached::Refused), "{reached:?}");
    assert!(started.elapsed() < LONG);
}

#[test]
fn an_address_without_a_way_to_it_is_said_to_have_none() {
    // TCP has no broadcast.
    let nowhere: SocketAddr = (Ipv4Addr::BROADCAST, 0).into();
    let reached = reach(&[nowhere], 22, LONG);
    assert!(matches!(reached, Reached::Unreachable(..)), "{reached:?}");
}

#[test]
fn the_next_address_need_not_wait_for_one_that_fails() {
    let (_listener, port) = listener();
    let nowhere: SocketAddr = (Ipv4Addr::BROADCAST, 0).into();
    // Nobody listens there.
    let refuses: SocketAddr = (Ipv4Addr::new(127, 7, 7, 7), 0).into();
    let reached = reach(&[nowhere, refuses, here(0)], port, LONG);
    let Reached::Open(_, to) = reached else {
        panic!("{reached:?}");
    };
    assert_eq!(to, here(port));
}

#[test]
fn who_does_not_answer_is_silent() {
    // A full backlog: the kernel drops further SYNs.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&here(0).into()).unwrap();
    socket.listen(0).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let mut held = Vec::new();
    let wait = Duration::from_millis(300);
    let silent = loop {
        match reach(&[here(0)], port, wait) {
            Reached::Open(stream, _) => held.push(stream),
            other => break other,
        }
        assert!(held.len() < 10, "the backlog does not fill");
    };
    assert!(matches!(silent, Reached::Silent), "{silent:?}");
}
