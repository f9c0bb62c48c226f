use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Host, LabError};

/// What the service says to everyone who gets through.
pub const BANNER: &str = "SSH-2.0-portcullis demo\r\n";

/// A small TCP service on a host, IPv4 and IPv6: sends [`BANNER`], then echoes until the other
/// side closes. Ends when dropped.
#[derive(Debug)]
pub struct Service {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts it on all addresses of the host.
    pub fn start(host: &Host, port: u16) -> Result<Self, LabError> {
        let object = format!("port {port}");
        let listener = host.with("listen on", &object, || listen(port))?;
        let (stop, stopped) =
            UnixStream::pair().map_err(LabError::system("create", "a socket pair"))?;
        let thread = thread::Builder::new()
            .name(format!("service {port}"))
            .spawn(move || serve(&listener, &stopped))
            .map_err(LabError::system("start", "a thread"))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Closing our end wakes the thread.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener, stopped: &UnixStream) {
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        let ready = {
            let mut waiting: Vec<PollFd> = [stopped.as_fd(), listener.as_fd()]
                .into_iter()
                .chain(clients.iter().map(AsFd::as_fd))
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            if poll(&mut waiting, PollTimeout::NONE).is_err() {
                continue;
            }
            let has_news = |fd: &PollFd| fd.any().unwrap_or(true);
            waiting.iter().map(has_news).collect::<Vec<_>>()
        };
        if ready[0] {
            return;
        }
        let mut news = ready[2..].iter();
        clients.retain_mut(|client| match news.next() {
            Some(true) => echo(client),
            _ => true,
        });
        if ready[1] {
            while let Ok((client, _)) = listener.accept() {
                if client.set_nonblocking(true).is_ok()
                    && (&client).write_all(BANNER.as_bytes()).is_ok()
                {
                    clients.push(client);
                }
            }
        }
    }
}

/// Whether the connection goes on.
fn echo(client: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    match client.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => client.write_all(&buffer[..length]).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
