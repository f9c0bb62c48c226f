use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use super::*;

/// Both ends of a connection: ours, and whoever we are connected to.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Standard output that can be looked at.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that ends with an error.
struct Broken(io::ErrorKind);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_end_of_the_input_is_passed_on_and_the_answer_is_read_all_the_same() {
    let (ours, mut theirs) = connected();
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ 0x35)
        .collect();
    let expected = sent.clone();
    let server = thread::spawn(move || {
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).unwrap();
        // Nothing is answered before the end was heard.
        theirs.write_all(&heard).unwrap();
        heard.len()
    });
    let seen = Seen::default();
    join(&ours, io::Cursor::new(sent), seen.clone(), || true).unwrap();
    assert_eq!(server.join().unwrap(), expected.len());
    assert!(*seen.0.lock().unwrap() == expected);
}

#[test]
fn whoever_has_no_more_to_say_is_still_told() {
    let (ours, mut theirs) = connected();
    theirs.write_all(b"that is all").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    // An input that goes on when the output was closed.
    let (to_input, from_us) = connected();
    let (tell, told) = channel();
    let close = move || {
        tell.send(()).unwrap();
        true
    };
    let seen = Seen::default();
    let relay = {
        let seen = seen.clone();
        thread::spawn(move || join(&ours, from_us, seen, close))
    };
    told.recv().unwrap();
    assert_eq!(*seen.0.lock().unwrap(), b"that is all");
    (&to_input).write_all(b"one more thing").unwrap();
    drop(to_input);
    let mut heard = String::new();
    theirs.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "one more thing");
    relay.join().unwrap().unwrap();
}

#[test]
fn where_the_output_cannot_be_closed_the_end_says_it() {
    let (ours, theirs) = connected();
    drop(theirs);
    let (_held, never_ends) = connected();
    join(&ours, never_ends, Seen::default(), || false).unwrap();
}

#[test]
fn what_goes_wrong_is_said() {
    let (ours, _theirs) = connected();
    let input = Broken(io::ErrorKind::Other);
    let error = join(&ours, input, Seen::default(), || true).unwrap_err();
    assert!(error.to_string().contains("standard input"), "{error}");

    let (ours, mut theirs) = connected();
    theirs.write_all(b"x").unwrap();
    let (_held, quiet) = connected();
    let output = Broken(io::ErrorKind::StorageFull);
    let error = join(&ours, quiet, output, || true).unwrap_err();
    assert!(error.to_string().contains("standard output"), "{error}");

    // Whoever reads has seen enough.
    let (ours, mut theirs) = connected();
    theirs.write_all(b"x").unwrap();
    let (_held, quiet) = connected();
    join(&ours, quiet, Broken(io::ErrorKind::BrokenPipe), || true).unwrap();

    let (ours, theirs) = connected();
    // Closed without the usual farewell: reset.
    socket2::SockRef::from(&theirs)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(theirs);
    let (_held, quiet) = connected();
    let error = join(&ours, quiet, Seen::default(), || true).unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
}
