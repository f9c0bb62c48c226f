use std::io::{self, Read};

/// Why reading a capture stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// Where a packet or a block would begin.
    End,
    /// In the middle of one.
    CutShort,
    /// What comes next makes no sense.
    Damaged(&'static str),
    /// The system says so.
    Io(io::Error),
}

/// Which byte of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        }
    }

    pub(super) fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Order::Big => u64::from_be_bytes(bytes),
            Order::Little => u64::from_le_bytes(bytes),
        }
    }
}

/// Bytes one after another, counted.
#[derive(Debug)]
pub(super) struct Input<R> {
    from: R,
    pub(super) order: Order,
    /// How many bytes were taken.
    pub(super) offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            order: Order::Little,
            offset: 0,
        }
    }

    /// Fills `place`; how many bytes there were is less only at the end of the input.
    fn fill(&mut self, place: &mut [u8]) -> Result<usize, Stop> {
        let mut filled = 0;
        while filled < place.len() {
            match self.from.read(&mut place[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Io(error)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// The next bytes, in the middle of something.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        match self.fill(&mut bytes)? {
            count if count < N => Err(Stop::CutShort),
            _ => Ok(bytes),
        }
    }

    /// The next bytes, where the input may also end.
    pub(super) fn begin<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        match self.fill(&mut bytes)? {
            0 => Err(Stop::End),
            count if count < N => Err(Stop::CutShort),
            _ => Ok(bytes),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        self.take().map(|bytes| self.order.u16(bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        self.take().map(|bytes| self.order.u32(bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        self.take().map(|bytes| self.order.u64(bytes))
    }

    /// Replaces what is in `place` by the next bytes; of more than it has room for, the first.
    pub(super) fn take_into(&mut self, place: &mut Vec<u8>, count: u32) -> Result<(), Stop> {
        let kept = usize::try_from(count).unwrap_or(usize::MAX).min(KEPT);
        place.resize(kept, 0);
        if self.fill(place)? < kept {
            return Err(Stop::CutShort);
        }
        self.skip(u64::from(count) - kept as u64)
    }

    pub(super) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        let mut rest = (&mut self.from).take(count);
        let skipped = io::copy(&mut rest, &mut io::sink()).map_err(Stop::Io)?;
        self.offset += skipped;
        if skipped < count {
            return Err(Stop::CutShort);
        }
        Ok(())
    }
}

/// So much of a packet is looked at: the longest IP packet without jumbo payload, and its link
/// header. What a file says about lengths never decides how much memory is taken.
const KEPT: usize = 65_535 + 64;
