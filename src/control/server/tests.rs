use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::control::{PolicyText, Request, Verb};

#[tokio::test]
async fn a_change_by_a_reader_is_denied_and_reaches_nobody() {
    let (calls, mut received) = mpsc::channel(1);
    let shared = Shared {
        calls,
        limits: Limits::default(),
        lists: Semaphore::new(1),
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = tokio::spawn(async move {
        connection::serve(theirs, Peer::with_uid(54_321), &shared).await;
    });
    let (read, mut write) = ours.into_split();
    let mut lines = BufReader::new(read).lines();
    for verb in Verb::ALL {
        let args = match verb {
            Verb::Accept
            | Verb::Drop
            | Verb::Trust
            | Verb::Untrust
            | Verb::Unban
            | Verb::Flush
            | Verb::Why => &["192.0.2.1"][..],
            _ => &[],
        };
        let mut request = Request::new(verb, args.iter().copied());
        if matches!(verb, Verb::Diff | Verb::Apply) {
            request.policy = Some(PolicyText {
                file: "knockd.yaml".to_owned(),
                text: String::new(),
            });
        }
        let line = request.encode().unwrap();
        write.write_all(&line).await.unwrap();
        if verb.only_reads() {
            let call = received.recv().await.unwrap();
            call.reply.send(Response::new(0, vec![], vec![])).unwrap();
        }
        let answer = lines.next_line().await.unwrap().unwrap();
        let answer: Response = serde_json::from_str(&answer).unwrap();
        if verb.only_reads() {
            assert_eq!(answer.code, 0, "{verb}");
        } else {
            assert_eq!(answer.code, 1, "{verb}");
            let what = match verb {
                Verb::Diff => "see what the policy says",
                _ => "change the firewall",
            };
            let denied = format!("permission denied: only root may {what}");
            assert_eq!(answer.refused, [denied]);
        }
        assert!(received.try_recv().is_err());
    }
    drop((write, lines));
    served.await.unwrap();
}

#[test]
fn readers_leave_places_for_root() {
    let (all, readers) = (Arc::new(Semaphore::new(3)), Arc::new(Semaphore::new(2)));
    let reader = || admit(Peer::with_uid(54_321), &all, &readers);
    let root = || admit(Peer::with_uid(0), &all, &readers);
    let held = (reader().unwrap(), reader().unwrap());
    assert!(reader().is_none());
    let last = root().unwrap();
    assert!(root().is_none());
    drop(held.0);
    assert!(root().is_some());
    drop((held.1, last));
    let everything = [root().unwrap(), root().unwrap(), root().unwrap()];
    assert!(root().is_none() && reader().is_none());
    drop(everything);
    assert_eq!(
        (all.available_permits(), readers.available_permits()),
        (3, 2)
    );
}

#[test]
fn only_root_and_the_daemons_own_user_change_anything() {
    let own = nix::unistd::geteuid().as_raw();
    for verb in Verb::ALL {
        assert!(Peer::with_uid(0).may(verb));
        assert!(Peer::with_uid(own).may(verb));
        assert_eq!(
            Peer::with_uid(54_321).may(verb),
            verb.only_reads(),
            "{verb}"
        );
    }
}

#[tokio::test]
async fn who_is_named_by_user_and_process() {
    let root = Peer::with_uid(0).who().await;
    assert_eq!(root.0, "knockctl by root (pid 4711)");
    let nobody = Peer::with_uid(54_321).who().await;
    assert_eq!(nobody.0, "knockctl by uid 54321 (pid 4711)");
}

/// A stale socket, as a daemon that was killed leaves it.
fn leave_stale(dir: &Path) {
    drop(std::os::unix::net::UnixListener::bind(dir.join(SOCKET_NAME)).unwrap());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_ours_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    leave_stale(dir.path());
    fs::create_dir(dir.path().join(".new")).unwrap();
    fs::write(dir.path().join(".new/s"), "left by a crash").unwrap();
    let server = Server::bind(dir.path()).unwrap();
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [SOCKET_NAME]);
    drop(server);
    assert!(!dir.path().join(SOCKET_NAME).exists());

    // What a successor has put there stays.
    let server = Server::bind(dir.path()).unwrap();
    let successor = Server::bind(dir.path()).unwrap();
    drop(server);
    assert!(successor.path().exists());
}

#[tokio::test]
async fn only_root_and_the_group_may_connect() {
    let dir = tempfile::tempdir().unwrap();
    let mode_of = |server: &Server| {
        let found = fs::metadata(server.path()).unwrap();
        assert!(found.file_type().is_socket());
        (found.permissions().mode() & 0o777, found.gid())
    };
    let server = Server::bind_for_group(dir.path(), "no-such-group-here").unwrap();
    assert_eq!(mode_of(&server).0, 0o600);
    let gid = nix::unistd::getegid();
    let own = nix::unistd::Group::from_gid(gid).unwrap().unwrap().name;
    let server = Server::bind_for_group(dir.path(), &own).unwrap();
    assert_eq!(mode_of(&server), (0o660, gid.as_raw()));
}

#[tokio::test]
async fn places_where_no_socket_can_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Server::bind(&dir.path().join("missing")).unwrap_err();
    assert!(
        missing.to_string().contains("create the runtime directory"),
        "{missing}"
    );
    fs::write(dir.path().join(SOCKET_NAME), "").unwrap();
    let occupied = Server::bind(dir.path()).unwrap_err();
    assert!(
        matches!(occupied, ControlError::NotASocket(_)),
        "{occupied}"
    );
    let deep = dir.path().join("x".repeat(120));
    fs::create_dir(&deep).unwrap();
    let long = Server::bind(&deep).unwrap_err();
    assert!(long.to_string().contains("107 bytes"), "{long}");
}
