//! A connection joined to standard input and output.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::error::KnockError;

/// At a time.
const CHUNK: usize = 64 * 1024;

/// How a direction ended.
#[derive(Debug)]
enum Ended {
    /// Whoever wrote has no more to say.
    Whole,
    /// It cannot be read.
    Reading(io::Error),
    /// Nobody takes it any more.
    Writing(io::Error),
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From standard input to the network.
    Up,
    /// From the network to standard output.
    Down,
}

/// Passes on what comes from either side, until both have ended. What ends first does not end the
/// other: end of file on one side is passed on as such.
pub(super) fn join<I, O>(
    stream: &TcpStream,
    input: I,
    output: O,
    close_output: impl FnOnce() -> bool,
) -> Result<(), KnockError>
where
    I: Read + Send + 'static,
    O: Write + Send + 'static,
{
    let (tell, told) = channel();
    let network = || {
        let failed = |source| KnockError::Local {
            operation: "use the connection",
            source,
        };
        stream.try_clone().map_err(failed)
    };
    let (mut to, mut from) = (network()?, network()?);
    let mut input = input;
    // Nobody can end a read of standard input, so neither is waited for when it is over.
    pass_on(Direction::Up, tell.clone(), move || {
        let ended = copy(&mut input, &mut to);
        // The other side may be gone already.
        let _ = to.shutdown(Shutdown::Write);
        ended
    });
    let mut output = output;
    pass_on(Direction::Down, tell, move || copy(&mut from, &mut output));

    let mut close_output = Some(close_output);
    let mut up_is_over = false;
    while let Ok((direction, ended)) = told.recv() {
        match (direction, ended) {
            (Direction::Up, Ended::Reading(source)) => {
                return Err(KnockError::Local {
                    operation: "read standard input",
                    source,
                });
            }
            // What it still has to say is read all the same.
            (Direction::Up, Ended::Whole | Ended::Writing(_)) => up_is_over = true,
            (Direction::Down, Ended::Whole) => {
                let closed = close_output.take().is_some_and(|close| close());
                if up_is_over || !closed {
                    return Ok(());
                }
                // Then the end of the input is the end.
                while let Ok((Direction::Up, ended)) = told.recv() {
                    if let Ended::Reading(source) = ended {
                        return Err(KnockError::Local {
                            operation: "read standard input",
                            source,
                        });
                    }
                }
                return Ok(());
            }
            (Direction::Down, Ended::Reading(source)) => return Err(KnockError::Broken(source)),
            // Whoever reads our output has seen enough.
            (Direction::Down, Ended::Writing(error))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                return Ok(());
            }
            (Direction::Down, Ended::Writing(source)) => {
                return Err(KnockError::Local {
                    operation: "write to standard output",
                    source,
                });
            }
        }
    }
    Ok(())
}

fn pass_on(
    direction: Direction,
    tell: Sender<(Direction, Ended)>,
    work: impl FnOnce() -> Ended + Send + 'static,
) {
    thread::spawn(move || {
        let ended = work();
        // Nobody listens any more when the other direction has decided.
        let _ = tell.send((direction, ended));
    });
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Ended {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => return Ended::Whole,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ended::Reading(error),
        };
        if let Err(error) = to.write_all(&chunk[..count]).and_then(|()| to.flush()) {
            return Ended::Writing(error);
        }
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
