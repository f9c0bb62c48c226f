//! The client's half: blocking, with a limit on everything.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{MAX_RESPONSE, VERSION};
use super::{Refusal, Request, Response};

/// For the daemon to take the connection and the request.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// For the whole answer; longer than the server gives itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request itself is wrong; nobody was asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is nothing to ask.
    #[error(
        "knockd is not running (no control socket at {}): start it with `systemctl start knockd` \
         or `knockd -d`",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// Nobody listens: it was killed, and could not take its socket with it.
    #[error(
        "nobody answers at {}: knockd is not running; start it with `systemctl start knockd` or \
         `knockd -d`",
        .0.display()
    )]
    Gone(PathBuf),
    /// Not for this user.
    #[error(
        "no permission to use the control socket at {}: root may, and members of the group \
         knockd may use `status`, `list`, `why`, `history` and `ping`",
        .0.display()
    )]
    Denied(PathBuf),
    /// Something else went wrong.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// No answer in time.
    #[error("knockd does not answer at {}: see its log", .0.display())]
    Silent(PathBuf),
    /// The connection ended first.
    #[error("knockd closed the connection without an answer: is it stopping?")]
    Closed,
    /// An answer without end.
    #[error("the answer is longer than 64 MiB")]
    TooLong,
    /// Not an answer.
    #[error("cannot understand the answer of whatever listens at {}: {problem}", path.display())]
    Garbage {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An answer of another version.
    #[error(
        "knockd speaks version {0} of the control protocol, this knockctl version {VERSION}: they \
         must come from the same release"
    )]
    Version(u32),
}

impl ClientError {
    /// The exit code: 1 failed, 2 bad input, 3 not running, 4 refused by a safety rule.
    pub fn code(&self) -> u8 {
        match self {
            ClientError::Refused(refusal) => refusal.code(),
            ClientError::NotRunning(_) | ClientError::Gone(_) => 3,
            _ => 1,
        }
    }
}

/// Asks the daemon behind `socket`. What is wrong with the request is found before it is sent.
pub fn ask(socket: &Path, request: &Request) -> Result<Response, ClientError> {
    request.asked()?;
    let line = request.encode()?;
    let mut stream = connect(socket)?;
    let sent = stream.write_all(&line);
    match read_line(&mut stream, socket) {
        // A server that turns us away answers before it has read.
        Ok(answer) => understand(&answer, socket),
        Err(ClientError::Closed) => Err(match sent {
            Err(source) if source.kind() != ErrorKind::BrokenPipe => ClientError::Io {
                operation: "write to the control socket at",
                path: socket.to_owned(),
                source,
            },
            _ => ClientError::Closed,
        }),
        Err(error) => Err(error),
    }
}

fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => ClientError::NotRunning(path.to_owned()),
        ErrorKind::ConnectionRefused => ClientError::Gone(path.to_owned()),
        ErrorKind::PermissionDenied => ClientError::Denied(path.to_owned()),
        ErrorKind::WouldBlock => ClientError::Silent(path.to_owned()),
        _ => ClientError::Io {
            operation: "connect to the control socket at",
            path: path.to_owned(),
            source,
        },
    };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // It limits connecting, too: with a full backlog that waits (unix(7)).
    socket
        .set_write_timeout(Some(SEND_TIMEOUT))
        .map_err(failed)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    socket.connect(&address).map_err(failed)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

fn read_line(stream: &mut UnixStream, path: &Path) -> Result<Vec<u8>, ClientError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut line = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let read = match left {
            Duration::ZERO => Err(ErrorKind::WouldBlock.into()),
            left => stream
                .set_read_timeout(Some(left))
                .and_then(|()| stream.read(&mut chunk)),
        };
        let length = match read {
            Ok(0) => return Err(ClientError::Closed),
            Ok(length) => length,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock => return Err(ClientError::Silent(path.to_owned())),
                ErrorKind::ConnectionReset => return Err(ClientError::Closed),
                _ => {
                    return Err(ClientError::Io {
                        operation: "read from the control socket at",
                        path: path.to_owned(),
                        source: error,
                    });
                }
            },
        };
        match chunk[..length].iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                line.extend_from_slice(&chunk[..at]);
                return Ok(line);
            }
            None if line.len() + length > MAX_RESPONSE => return Err(ClientError::TooLong),
            None => line.extend_from_slice(&chunk[..length]),
        }
    }
}

fn understand(line: &[u8], path: &Path) -> Result<Response, ClientError> {
    let response: Response =
        serde_json::from_slice(line).map_err(|error| ClientError::Garbage {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
    if response.version == VERSION {
        Ok(response)
    } else {
        Err(ClientError::Version(response.version))
    }
}
