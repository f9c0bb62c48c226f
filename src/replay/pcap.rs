//! The classic format (draft-ietf-opsawg-pcap).

use std::io::Read;

use super::error::FormatError;
use super::file::Record;
use super::input::{Input, Order, Stop};
use super::link::Link;

/// A packet that says to be longer than this is none; libpcap's own limit is 256 KiB, for all but
/// the strangest links.
const LONGEST: u32 = 16 << 20;

/// What the header says.
#[derive(Debug)]
pub(super) struct Pcap {
    link: Link,
    /// How many nanoseconds a unit of the fraction is.
    unit: u64,
}

impl Pcap {
    /// Reads the header behind its first four bytes, if they are those of this format.
    pub(super) fn open<R: Read>(
        magic: [u8; 4],
        input: &mut Input<R>,
    ) -> Option<Result<Self, FormatOrStop>> {
        let (order, unit) = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1_000),
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1_000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
            _ => return None,
        };
        input.order = order;
        Some(Self::header(input, unit))
    }

    fn header<R: Read>(input: &mut Input<R>, unit: u64) -> Result<Self, FormatOrStop> {
        let major = input.u16()?;
        // Minor version, two reserved fields, and the longest packet, which nobody keeps to.
        input.skip(2 + 4 + 4 + 4)?;
        // The upper half tells of frame check sequences, which come behind the packet.
        let link = input.u32()? & 0xffff;
        if major != 2 {
            return Err(FormatError::Version(major, "pcap").into());
        }
        let link = Link::of(link).ok_or(FormatError::LinkType(link))?;
        Ok(Self { link, unit })
    }

    /// The next packet, its bytes in `place`.
    pub(super) fn next<R: Read>(
        &self,
        input: &mut Input<R>,
        place: &mut Vec<u8>,
    ) -> Result<Record, Stop> {
        let order = input.order;
        let seconds = u64::from(order.u32(input.begin()?));
        let fraction = u64::from(input.u32()?);
        let captured = input.u32()?;
        let _on_the_wire = input.u32()?;
        if captured > LONGEST {
            return Err(Stop::Damaged("a packet of more than 16 MiB"));
        }
        input.take_into(place, captured)?;
        Ok(Record {
            at: Some(seconds * 1_000_000_000 + fraction * self.unit),
            link: Some(self.link),
            interface: None,
            name: None,
        })
    }
}

/// Why a header is refused.
#[derive(Debug)]
pub(super) enum FormatOrStop {
    Format(FormatError),
    Stop(Stop),
}

impl From<FormatError> for FormatOrStop {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<Stop> for FormatOrStop {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}
