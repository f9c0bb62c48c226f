//! New sheets.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;

/// What a new sheet is to be like.
#[derive(Debug, Clone)]
pub struct Make {
    /// How many sequences, 1 to 10,000.
    pub count: usize,
    /// How many ports in each, 3 to 32.
    pub length: usize,
    /// Among these, all TCP.
    pub ports: RangeInclusive<u16>,
    /// Ports that are left out, though they are among them.
    pub without: fn(u16) -> bool,
}

/// Why there is no new sheet.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Too many or too few.
    #[error("from 1 to 10000 sequences, not {0}")]
    Count(usize),
    /// A sequence that is too easy to guess, or too long.
    #[error("sequences of 3 to 32 ports, not {0}")]
    Length(usize),
    /// Who guesses a sequence is to need a million tries for each that is on the sheet.
    #[error(
        "there are not enough different sequences of {length} ports among {first}-{last}: widen \
         the range, or make them longer"
    )]
    Ports {
        /// Of each sequence.
        length: usize,
        /// Of the range.
        first: u16,
        /// Of the range.
        last: u16,
    },
    /// No random numbers.
    #[error("cannot read /dev/urandom: {0}")]
    Random(#[from] io::Error),
}

/// Makes a sheet of random sequences (random(4)), no two of them alike, no port twice in one.
pub fn make(wanted: &Make) -> Result<String, MakeError> {
    let Make {
        count,
        length,
        ports,
        without,
    } = wanted;
    let (count, length) = (*count, *length);
    if !(1..=10_000).contains(&count) {
        return Err(MakeError::Count(count));
    }
    if !(3..=32).contains(&length) {
        return Err(MakeError::Length(length));
    }
    let ports: Vec<u16> = ports.clone().filter(|port| !without(*port)).collect();
    let different = (0..length).try_fold(1u128, |product, taken| {
        let left = ports.len().checked_sub(taken)?;
        Some(product.saturating_mul(left as u128))
    });
    if different.unwrap_or(0) < count as u128 * 1_000_000 {
        return Err(MakeError::Ports {
            length,
            first: *wanted.ports.start(),
            last: *wanted.ports.end(),
        });
    }
    let mut random = File::open("/dev/urandom")?;
    let mut made: HashSet<Vec<u16>> = HashSet::new();
    let mut sheet = String::from(
        "# One-time sequences: the first line without `#` is the next. knockd marks what was used.\n",
    );
    while made.len() < count {
        let mut sequence = Vec::with_capacity(length);
        while sequence.len() < length {
            let port = ports[below(ports.len(), &mut random)?];
            if !sequence.contains(&port) {
                sequence.push(port);
            }
        }
        if made.insert(sequence.clone()) {
            let ports: Vec<String> = sequence.iter().map(u16::to_string).collect();
            // Writing to a string cannot fail. The space is what knockd overwrites.
            let _ = writeln!(sheet, " {}", ports.join(","));
        }
    }
    Ok(sheet)
}

/// A random number below `end`, all of them as likely.
fn below(end: usize, random: &mut impl Read) -> io::Result<usize> {
    let end = u32::try_from(end).unwrap_or(u32::MAX);
    // The last, incomplete round of numbers would favour the small ones.
    let rounds = u32::MAX - u32::MAX % end;
    loop {
        let mut bytes = [0; 4];
        random.read_exact(&mut bytes)?;
        let number = u32::from_ne_bytes(bytes);
        if number < rounds {
            return Ok((number % end) as usize);
        }
    }
}
