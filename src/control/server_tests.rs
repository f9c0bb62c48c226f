//! The server over a real socket, with clients of every kind.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::client::{ClientError, ask};
use super::protocol::{ListEntry, MAX_REQUEST};
use super::server::Limits;
use super::*;
use crate::model::{Chain, GateName};

struct Running {
    dir: TempDir,
    socket: PathBuf,
    server: JoinHandle<Result<(), ControlError>>,
    calls: mpsc::Receiver<Call>,
}

fn start_with(limits: Limits) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(dir.path()).unwrap().with_limits(limits);
    let socket = server.path().to_owned();
    let (sender, calls) = mpsc::channel(4);
    Running {
        server: tokio::spawn(server.run(sender)),
        dir,
        socket,
        calls,
    }
}

/// Answers every call: pings with who asked, the rest with what was asked.
fn answering(limits: Limits) -> (TempDir, PathBuf) {
    let Running {
        dir,
        socket,
        mut calls,
        ..
    } = start_with(limits);
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let line = format!("{:?} for {}", call.asked, call.who);
            let _ = call.reply.send(Response::new(0, vec![line], vec![]));
        }
    });
    (dir, socket)
}

fn quick() -> Limits {
    Limits {
        request: Duration::from_millis(100),
        answer: Duration::from_millis(200),
        response: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// A client that blocks, on a thread of its own.
async fn client<T: Send + 'static>(
    socket: &Path,
    act: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> T {
    let socket = socket.to_owned();
    let acted = spawn_blocking(move || {
        let stream = UnixStream::connect(socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        act(stream)
    });
    acted.await.unwrap()
}

fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            // Closed with something of ours unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(bytes).unwrap()
}

async fn asked(socket: &Path, request: Request) -> Result<Response, ClientError> {
    let socket = socket.to_owned();
    spawn_blocking(move || ask(&socket, &request))
        .await
        .unwrap()
}

fn ping() -> Request {
    Request::new(Verb::Ping, [""; 0])
}

#[tokio::test]
async fn a_request_is_answered_and_says_who_asked() {
    let (_dir, socket) = answering(Limits::default());
    let response = asked(&socket, ping()).await.unwrap();
    assert_eq!(response.code, 0);
    let who = &response.done[0];
    let pid = std::process::id();
    assert!(who.starts_with("Ping for knockctl by "), "{who}");
    assert!(who.ends_with(&format!("(pid {pid})")), "{who}");
    if nix::unistd::geteuid().is_root() {
        assert!(who.contains("by root"), "{who}");
    }
}

#[tokio::test]
async fn a_connection_carries_several_requests() {
    let (_dir, socket) = answering(Limits::default());
    let text = client(&socket, |mut stream| {
        let mut lines = ping().encode().unwrap();
        lines.extend(Request::new(Verb::Accept, ["nonsense"]).encode().unwrap());
        lines.extend(ping().encode().unwrap());
        // In pieces, as streams go.
        for piece in lines.chunks(7) {
            stream.write_all(piece).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(&mut stream)
    })
    .await;
    let codes: Vec<u8> = text
        .lines()
        .map(|line| serde_json::from_str::<Response>(line).unwrap().code)
        .collect();
    assert_eq!(codes, [0, 2, 0], "{text}");
}

#[tokio::test]
async fn the_server_trusts_no_client() {
    let (_dir, socket) = answering(Limits::default());
    // Past the check that the client does before it sends.
    let text = client(&socket, |mut stream| {
        stream
            .write_all(b"{\"version\":1,\"verb\":\"accept\",\"args\":[\"999.1.1.1\"]}\n")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(&mut stream)
    })
    .await;
    let response: Response = serde_json::from_str(&text).unwrap();
    assert_eq!(response.code, 2);
    assert!(response.refused[0].contains("`999.1.1.1` is not an address"));
}

#[tokio::test]
async fn garbage_gets_an_error_and_the_connection_ends() {
    let (_dir, socket) = answering(Limits::default());
    for garbage in [
        &b"\n"[..],
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x00\xff\xfe\n",
        b"{\"version\":9,\"verb\":\"ping\"}\n",
    ] {
        let text = client(&socket, move |mut stream| {
            stream.write_all(garbage).unwrap();
            read_all(&mut stream)
        })
        .await;
        let response: Response = serde_json::from_str(&text).unwrap();
        assert_eq!((response.code, response.refused.len()), (2, 1), "{text}");
    }
    assert_eq!(asked(&socket, ping()).await.unwrap().code, 0);
}

#[tokio::test]
async fn a_stream_without_end_is_cut_off_after_64_kib() {
    let (_dir, socket) = answering(Limits::default());
    let (sent, text) = client(&socket, |mut stream| {
        let chunk = vec![b'x'; MAX_REQUEST];
        let mut sent = 0;
        // 100 MB, if they were taken.
        while sent < 100_000_000 {
            match stream.write(&chunk) {
                Ok(length) => sent += length,
                Err(error) => {
                    assert!(matches!(
                        error.kind(),
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ));
                    break;
                }
            }
        }
        (sent, read_all(&mut stream))
    })
    .await;
    // The kernel's own buffers are all that it got rid of.
    assert!(sent < 2_000_000, "{sent}");
    let response: Response = serde_json::from_str(&text).unwrap();
    assert!(response.refused[0].contains("256 KiB"), "{text}");
    assert_eq!(asked(&socket, ping()).await.unwrap().code, 0);
}

#[tokio::test]
async fn half_frames_time_out_and_silence_is_ended() {
    let (_dir, socket) = answering(quick());
    let half = client(&socket, |mut stream| {
        stream.write_all(b"{\"version\":1,").unwrap();
        read_all(&mut stream)
    });
    let silent = client(&socket, |mut stream| read_all(&mut stream));
    let dripping = client(&socket, |mut stream| {
        // Each byte in time, the line not: the limit is for the whole of it.
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        read_all(&mut stream)
    });
    let ended = client(&socket, |mut stream| {
        stream.write_all(b"{\"version\":1,").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(&mut stream)
    });
    let (half, silent, dripping, ended) = tokio::join!(half, silent, dripping, ended);
    assert!(half.contains("did not end in time"), "{half}");
    assert_eq!(silent, "");
    assert!(dripping.contains("did not end in time"), "{dripping}");
    assert!(ended.contains("the line has no end"), "{ended}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let limits = Limits::default();
    let (_dir, socket) = answering(limits);
    let mut held = Vec::new();
    for _ in 0..limits.connections {
        let one = client(&socket, |mut stream| {
            stream.write_all(&ping().encode().unwrap()).unwrap();
            // The answer proves that the connection was taken.
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            stream
        });
        held.push(one.await);
    }
    let response = asked(&socket, ping()).await.unwrap();
    assert_eq!(response.code, 1);
    assert!(response.refused[0].contains("busy"), "{response:?}");
    drop(held);
    // The places come back; how soon is the scheduler's business.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while asked(&socket, ping()).await.unwrap().code != 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_blocks_nobody() {
    let mut running = start_with(quick());
    let entry = ListEntry {
        gate: GateName::new("ssh").unwrap(),
        chain: Chain::Trusted,
        net: "192.0.2.1/32".parse().unwrap(),
        expires_in_s: None,
        reason: "trusted".to_owned(),
    };
    let stuck = client(&running.socket, |mut stream| {
        let list = Request::new(Verb::List, [""; 0]);
        stream.write_all(&list.encode().unwrap()).unwrap();
        stream
    })
    .await;
    let call = running.calls.recv().await.unwrap();
    let entries = vec![entry; 50_000];
    call.reply
        .send(Response::with_data(0, Data::List { entries }))
        .unwrap();
    let second = tokio::spawn(asked_owned(running.socket.clone(), ping()));
    let call = running.calls.recv().await.unwrap();
    call.reply.send(Response::new(0, vec![], vec![])).unwrap();
    assert_eq!(second.await.unwrap().unwrap().code, 0);
    // What was begun is never finished.
    let text = spawn_blocking(move || {
        let mut stuck = stuck;
        let mut hung_up = [PollFd::new(stuck.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut hung_up, 10_000u16), Ok(1));
        read_all(&mut stuck)
    });
    let text = text.await.unwrap();
    assert!(!text.is_empty() && !text.ends_with('\n'));
}

async fn asked_owned(socket: PathBuf, request: Request) -> Result<Response, ClientError> {
    asked(&socket, request).await
}

#[tokio::test]
async fn a_hundred_thousand_members_arrive_whole() {
    let mut running = start_with(Limits::default());
    let list = tokio::spawn(asked_owned(
        running.socket.clone(),
        Request::new(Verb::List, ["trusted"]),
    ));
    let call = running.calls.recv().await.unwrap();
    assert_eq!(
        call.asked,
        Asked::List {
            chains: vec![Chain::Trusted],
            gates: vec![]
        }
    );
    let entries = (0..100_000u32)
        .map(|n| ListEntry {
            gate: GateName::new("ssh").unwrap(),
            chain: Chain::Trusted,
            net: std::net::IpAddr::from(n.to_be_bytes()).into(),
            expires_in_s: None,
            reason: "knockd.trusted".to_owned(),
        })
        .collect();
    call.reply
        .send(Response::with_data(0, Data::List { entries }))
        .unwrap();
    let Data::Json(data) = list.await.unwrap().unwrap().data else {
        panic!("no data");
    };
    assert_eq!(data["entries"].as_array().unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_daemon_that_is_busy_or_stopping_is_said_so() {
    let mut running = start_with(quick());
    let socket = running.socket.clone();
    let slow = asked(&socket, ping()).await.unwrap();
    assert_eq!(slow.code, 1);
    assert!(slow.refused[0].contains("did not answer in time"));
    let stopping = tokio::spawn(asked_owned(socket.clone(), ping()));
    // The first is the one that nobody answered.
    drop(running.calls.recv().await.unwrap());
    drop(running.calls.recv().await.unwrap());
    let stopping = stopping.await.unwrap().unwrap();
    assert!(stopping.refused[0].contains("stopping"), "{stopping:?}");
    drop(running.calls);
    running.server.await.unwrap().unwrap();
    assert!(!socket.exists());
    let gone = asked(&socket, ping()).await.unwrap_err();
    assert_eq!(gone.code(), 3);
    let told = gone.to_string();
    assert!(told.starts_with("knockd is not running (no control socket at"));
    // What a daemon that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let gone = asked(&socket, ping()).await.unwrap_err();
    assert_eq!(gone.code(), 3);
    let told = gone.to_string();
    assert!(told.starts_with("nobody answers at"), "{told}");
    assert!(told.contains("knockd is not running"), "{told}");
}

#[tokio::test]
async fn a_daemon_that_stops_delivers_its_last_answer() {
    let mut running = start_with(Limits::default());
    let idle = client(&running.socket, |stream| stream).await;
    let teardown = Request::new(Verb::Teardown, [""; 0]);
    let teardown = tokio::spawn(asked_owned(running.socket.clone(), teardown));
    let call = running.calls.recv().await.unwrap();
    assert_eq!(call.asked, Asked::Teardown);
    let last = Response::new(0, vec!["removed everything".to_owned()], vec![]);
    call.reply.send(last.clone()).unwrap();
    drop(running.calls);
    let stopped = tokio::time::timeout(Duration::from_secs(20), running.server).await;
    stopped.unwrap().unwrap().unwrap();
    assert_eq!(teardown.await.unwrap().unwrap(), last);
    drop(idle);
}

/// How often this thread has gone to sleep (proc(5)).
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn an_idle_server_and_resolver_do_not_wake_up() {
    let running = start_with(Limits::default());
    let (resolver, _events) = crate::resolver::Resolver::new();
    assert_eq!(asked_once_refused(&running.socket).await, 2);
    // One sleep to let them settle, one to watch.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = sleeps();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = sleeps();
    assert!(after - before <= 2, "{}", after - before);
    drop((running, resolver));
}

/// A whole conversation that does not concern the daemon.
async fn asked_once_refused(socket: &Path) -> u8 {
    let text = client(socket, |mut stream| {
        stream.write_all(b"garbage\n").unwrap();
        read_all(&mut stream)
    })
    .await;
    serde_json::from_str::<Response>(&text).unwrap().code
}

#[test]
fn the_client_tells_the_ways_of_failing_apart() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(SOCKET_NAME);
    let code = |error: ClientError| error.code();
    assert_eq!(code(ask(&socket, &ping()).unwrap_err()), 3);
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(code(ask(&socket, &ping()).unwrap_err()), 3);
    // Nobody is asked what makes no sense.
    let wrong = Request::new(Verb::Accept, ["999.1.1.1"]);
    assert_eq!(code(ask(&socket, &wrong).unwrap_err()), 2);
    let everybody = Request::new(Verb::Trust, ["::/0"]);
    assert_eq!(code(ask(&socket, &everybody).unwrap_err()), 4);
}
