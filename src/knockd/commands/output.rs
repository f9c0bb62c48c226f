//! What a command prints: its first lines go to the log, the rest nowhere.

use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tracing::info;

use super::Shared;
use crate::model::KnockName;

/// How much of a command's output is logged.
const MOST_LINES: u32 = 20;
const LONGEST_LINE: usize = 500;

/// A quarter of what a pipe holds (pipe(7)): hundreds of commands may run.
const BUFFER: usize = 16_384;

/// What has been printed so far.
pub(super) struct Output {
    knock: KnockName,
    buffer: Box<[u8]>,
    line: Vec<u8>,
    lines: u32,
    left_out: u64,
}

impl Output {
    pub(super) fn new(knock: &KnockName) -> Self {
        Self {
            knock: knock.clone(),
            buffer: vec![0; BUFFER].into(),
            line: Vec::new(),
            lines: 0,
            left_out: 0,
        }
    }

    /// Reads what there is, as soon as there is something; whether there may be more.
    pub(super) async fn read(&mut self, pipe: &mut Receiver, shared: &Shared) -> bool {
        // A pipe that cannot be read has nothing more to say.
        let read = pipe.read(&mut self.buffer).await.unwrap_or(0);
        self.take(read, shared);
        read > 0
    }

    /// The command has ended. What it has left behind may go on printing, unheard.
    pub(super) fn end(mut self, mut pipe: Receiver, shared: &Shared) {
        let mut over = false;
        // Twice what a pipe holds: somebody who goes on printing must not keep us here.
        for _ in 0..8 {
            match pipe.try_read(&mut self.buffer) {
                Ok(0) => {
                    over = true;
                    break;
                }
                Ok(read) => self.take(read, shared),
                Err(_) => break,
            }
        }
        self.end_line(shared);
        if self.left_out > 0 {
            let Self {
                knock, left_out, ..
            } = &self;
            info!("{knock}: command printed {left_out} bytes more");
        }
        if over {
            return;
        }
        // A pipe that nobody reads would stop them, and one that is closed end them.
        if let Ok(permit) = Arc::clone(&shared.left_behind).try_acquire_owned() {
            tokio::spawn(async move {
                while pipe.read(&mut self.buffer).await.is_ok_and(|read| read > 0) {}
                drop(permit);
            });
        }
    }

    fn take(&mut self, read: usize, shared: &Shared) {
        let mut start = 0;
        while start < read {
            if self.lines >= MOST_LINES {
                self.left_out += (read - start) as u64;
                return;
            }
            let rest = &self.buffer[start..read];
            let room = LONGEST_LINE - self.line.len();
            let end = rest.iter().take(room).position(|byte| *byte == b'\n');
            let length = end.unwrap_or(rest.len().min(room));
            self.line.extend_from_slice(&rest[..length]);
            start += length + usize::from(end.is_some());
            if end.is_some() || self.line.len() == LONGEST_LINE {
                self.end_line(shared);
            }
        }
    }

    fn end_line(&mut self, shared: &Shared) {
        let line = std::mem::take(&mut self.line);
        let text = printable(&line);
        if text.is_empty() {
            return;
        }
        if self.lines < MOST_LINES && shared.may_log() {
            self.lines += 1;
            info!("{}: command printed: {text}", self.knock);
        } else {
            self.left_out += line.len() as u64;
        }
    }
}

/// On one line, and nothing that a terminal would obey.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bucket;
    use std::sync::Mutex;
    use tokio::sync::{Semaphore, watch};

    fn fed(parts: &[&[u8]]) -> Output {
        let shared = Shared {
            lines: Mutex::new(Bucket::new(1, 1000)),
            left_behind: Arc::new(Semaphore::new(1)),
            over: watch::channel(false).1,
        };
        let mut output = Output::new(&KnockName::new("a").unwrap());
        for part in parts {
            output.buffer[..part.len()].copy_from_slice(part);
            output.take(part.len(), &shared);
        }
        output
    }

    #[test]
    fn lines_and_their_length_are_bounded_and_the_rest_is_counted() {
        let one = fed(&[b"a", b"b\n\nc"]);
        assert_eq!((one.lines, one.left_out), (1, 0));
        assert_eq!(one.line, b"c");
        let long = fed(&[&[b'x'; 1200]]);
        assert_eq!((long.lines, long.line.len(), long.left_out), (2, 200, 0));
        let many = fed(&[b"x\n".repeat(25).as_slice(), b"yy"]);
        assert_eq!((many.lines, many.left_out), (MOST_LINES, 12));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(printable(b"a\x1b[2Jb\xff \t\r"), "a?[2Jb\u{fffd}");
    }
}
