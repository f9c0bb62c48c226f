use std::io::{self, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use super::{Call, Peer, Shared};
use crate::control::protocol::{MAX_REQUEST, MAX_RESPONSE};
use crate::control::{Asked, Data, Refusal, Request, Response, Verb};
use crate::model::SshConnection;

/// More members than this are turned into JSON away from the event loop, where packets wait.
const LONG_LIST: usize = 1_000;

enum Frame {
    Line(Vec<u8>),
    End,
    Bad(Refusal),
}

pub(super) async fn serve(mut stream: UnixStream, peer: Peer, shared: &Shared) {
    let mut buffer = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = timeout(shared.limits.request, read_frame(&mut stream, &mut buffer)) => frame,
            () = shared.calls.closed() => return,
        };
        let line = match frame {
            Ok(Ok(Frame::Line(line))) => line,
            Ok(Ok(Frame::Bad(refusal))) => return say_and_close(stream, &refusal, shared).await,
            Ok(Ok(Frame::End) | Err(_)) => return,
            // Silence is no mistake, half a request is.
            Err(_) if buffer.is_empty() => return,
            Err(_) => {
                let half = Refusal::Garbage("the line did not end in time".to_owned());
                return say_and_close(stream, &half, shared).await;
            }
        };
        let request = match Request::decode(&line) {
            Ok(request) => request,
            Err(refusal) => return say_and_close(stream, &refusal, shared).await,
        };
        drop(line);
        if let Err(error) = answer(&mut stream, peer, &request, shared).await {
            debug!("a control connection ended before its answer: {error}");
            return;
        }
    }
}

async fn read_frame(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<Frame> {
    let mut chunk = [0; 4096];
    let mut searched = 0;
    loop {
        if let Some(at) = buffer[searched..].iter().position(|&byte| byte == b'\n') {
            let rest = buffer.split_off(searched + at + 1);
            let mut line = std::mem::replace(buffer, rest);
            line.pop();
            return Ok(Frame::Line(line));
        }
        searched = buffer.len();
        let room = (MAX_REQUEST - searched).min(chunk.len());
        if room == 0 {
            return Ok(Frame::Bad(Refusal::TooLong));
        }
        match stream.read(&mut chunk[..room]).await? {
            0 if buffer.is_empty() => return Ok(Frame::End),
            0 => {
                let half = Refusal::Garbage("the line has no end".to_owned());
                return Ok(Frame::Bad(half));
            }
            length => buffer.extend_from_slice(&chunk[..length]),
        }
    }
}

async fn say_and_close(mut stream: UnixStream, refusal: &Refusal, shared: &Shared) {
    let response = Response::refused(refusal.code(), refusal.to_string());
    if let Err(error) = send(&mut stream, response, shared).await {
        debug!("a control connection ended before its answer: {error}");
    }
}

async fn answer(
    stream: &mut UnixStream,
    peer: Peer,
    request: &Request,
    shared: &Shared,
) -> io::Result<()> {
    if !peer.may(request.verb) {
        let denied = match request.verb {
            Verb::Diff => "permission denied: only root may see what the policy says",
            _ => "permission denied: only root may change the firewall",
        };
        return send(stream, Response::refused(1, denied), shared).await;
    }
    let judged = request
        .asked()
        .and_then(|asked| Ok((asked, request.session()?)));
    let (asked, session) = match judged {
        Ok(judged) => judged,
        Err(refusal) => {
            let response = Response::refused(refusal.code(), refusal.to_string());
            return send(stream, response, shared).await;
        }
    };
    let long = matches!(asked, Asked::List { .. } | Asked::History { .. });
    let list = long && !peer.may_change();
    // Held until the list is written.
    let permit = list.then(|| shared.lists.try_acquire());
    if matches!(permit, Some(Err(_))) {
        let busy = "knockd is busy: too many lists are being read; try again";
        return send(stream, Response::refused(1, busy), shared).await;
    }
    let response = ask_daemon(asked, session, peer, shared).await;
    send(stream, response, shared).await
}

async fn ask_daemon(
    asked: Asked,
    session: Option<SshConnection>,
    peer: Peer,
    shared: &Shared,
) -> Response {
    let (reply, answer) = oneshot::channel();
    let call = Call {
        asked,
        who: peer.who().await,
        session,
        reply,
    };
    let answered = timeout(shared.limits.answer, async {
        shared.calls.send(call).await.ok()?;
        answer.await.ok()
    });
    match answered.await {
        Ok(Some(response)) => response,
        Ok(None) => Response::refused(1, "knockd is stopping: it did not answer"),
        Err(_) => Response::refused(1, "knockd did not answer in time; see its log"),
    }
}

async fn send(stream: &mut UnixStream, response: Response, shared: &Shared) -> io::Result<()> {
    let line = match &response.data {
        Data::List { entries } if entries.len() > LONG_LIST => encode_apart(response).await?,
        Data::History { entries } if entries.len() > LONG_LIST => encode_apart(response).await?,
        _ => encode(&response)?,
    };
    match timeout(shared.limits.response, stream.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn encode_apart(response: Response) -> io::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || encode(&response))
        .await
        .map_err(io::Error::other)?
}

fn encode(response: &Response) -> io::Result<Vec<u8>> {
    let mut line = Capped(Vec::new());
    if serde_json::to_writer(&mut line, response).is_err() {
        let long = "the answer is longer than 64 MiB: ask for one gate or one kind of member";
        line.0.clear();
        serde_json::to_writer(&mut line, &Response::refused(1, long))?;
    }
    line.0.push(b'\n');
    Ok(line.0)
}

/// Takes no more than a response may have.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() >= MAX_RESPONSE {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
