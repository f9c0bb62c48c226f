use std::io::{self, Read};

use super::error::FormatError;
use super::input::{Input, Stop};
use super::interface::Name;
use super::link::Link;
use super::pcap::{FormatOrStop, Pcap};
use super::pcapng::{self, PcapNg};

/// A capture, packet by packet. Takes a fixed amount of memory, whatever the file says.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: Input<R>,
    format: Format,
    /// The packet at hand, or its beginning.
    packet: Vec<u8>,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// What a file says about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Nanoseconds since 1970, UTC; `None` where the file does not say.
    pub(super) at: Option<u64>,
    /// What the packet begins with; `None` for one of which nothing is known.
    pub(super) link: Option<Link>,
    /// Which of several interfaces it was captured on.
    pub(super) interface: Option<u32>,
    /// What that is called.
    pub(super) name: Option<Name>,
}

/// How a capture ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With its last packet.
    Whole,
    /// In the middle of a packet: whoever wrote it was interrupted, or a copy was.
    CutShort,
    /// What follows that many bytes cannot be read.
    Damaged {
        /// From the start of the file.
        offset: u64,
        /// What was found there.
        why: &'static str,
    },
}

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub(super) fn open(from: R) -> Result<Self, OpenError> {
        let mut input = Input::new(from);
        let format = match Self::header(&mut input) {
            Ok(format) => format,
            Err(FormatOrStop::Format(error)) => return Err(error.into()),
            Err(FormatOrStop::Stop(Stop::Io(error))) => return Err(error.into()),
            Err(FormatOrStop::Stop(Stop::End)) => return Err(FormatError::Empty.into()),
            Err(FormatOrStop::Stop(Stop::CutShort)) if input.offset < 4 => {
                return Err(FormatError::NotACapture.into());
            }
            Err(FormatOrStop::Stop(Stop::CutShort)) => return Err(FormatError::Header.into()),
            Err(FormatOrStop::Stop(Stop::Damaged(_))) => {
                return Err(FormatError::NotACapture.into());
            }
        };
        Ok(Self {
            input,
            format,
            packet: Vec::new(),
        })
    }

    fn header(input: &mut Input<R>) -> Result<Format, FormatOrStop> {
        let magic: [u8; 4] = input.begin()?;
        if magic == pcapng::SECTION {
            return PcapNg::open(input).map(Format::PcapNg);
        }
        if let Some(opened) = Pcap::open(magic, input) {
            return opened.map(Format::Pcap);
        }
        let compressed = [&[0x1f, 0x8b][..], b"\xfd7zX", b"BZh", b"\x28\xb5\x2f\xfd"];
        let is_compressed = compressed.iter().any(|start| magic.starts_with(start));
        Err(if is_compressed {
            FormatError::Compressed
        } else {
            FormatError::NotACapture
        }
        .into())
    }

    /// The next packet and what the file says about it, or how the file ended.
    pub(super) fn next(&mut self) -> io::Result<Result<(Record, &[u8]), Ending>> {
        let Self {
            input,
            format,
            packet,
        } = self;
        let next = match format {
            Format::Pcap(pcap) => pcap.next(input, packet),
            Format::PcapNg(pcapng) => pcapng.next(input, packet),
        };
        Ok(match next {
            Ok(record) => Ok((record, packet)),
            Err(Stop::End) => Err(Ending::Whole),
            Err(Stop::CutShort) => Err(Ending::CutShort),
            Err(Stop::Damaged(why)) => Err(Ending::Damaged {
                offset: input.offset,
                why,
            }),
            Err(Stop::Io(error)) => return Err(error),
        })
    }

    /// A link type that was met and about which nothing is known.
    pub(super) fn unknown_link(&self) -> Option<u32> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::PcapNg(pcapng) => pcapng.unknown,
        }
    }
}
