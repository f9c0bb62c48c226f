//! The newer format (draft-ietf-opsawg-pcapng): blocks, of which all that hold no packets and
//! describe no interface are skipped.

use std::io::Read;

use super::error::FormatError;
use super::file::Record;
use super::input::{Input, Order, Stop};
use super::interface::Name;
use super::link::Link;
use super::pcap::FormatOrStop;

/// The type of a section header, the same in either order of bytes.
pub(super) const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

/// Options of an interface: what it is called, the unit of its time stamps, and what is to be added
/// to them.
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const OFFSET: u16 = 14;

/// What a section may describe.
const MOST_INTERFACES: usize = 65_536;

/// What the section has described so far.
#[derive(Debug, Default)]
pub(super) struct PcapNg {
    interfaces: Vec<Interface>,
    /// Interfaces of sections before this one, so that no two have the same number.
    before: u32,
    /// The first link type about which nothing is known.
    pub(super) unknown: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: Option<Link>,
    /// The longest packet; 0 is without limit.
    snapshot: u32,
    clock: Clock,
    name: Option<Name>,
}

/// What a time stamp counts.
#[derive(Debug, Clone, Copy)]
struct Clock {
    per_second: u128,
    /// Seconds.
    offset: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            per_second: 1_000_000,
            offset: 0,
        }
    }
}

impl Clock {
    /// Nanoseconds since 1970; nothing before that or after 2554.
    fn read(self, ticks: u64) -> Option<u64> {
        let nanos = u128::from(ticks) * 1_000_000_000 / self.per_second;
        let nanos = i128::try_from(nanos).ok()? + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(nanos).ok()
    }

    /// The highest bit chooses between powers of two and of ten. Finer than 10^-38 no number can
    /// tell.
    fn set_resolution(&mut self, code: u8) -> Result<(), Stop> {
        let power = u32::from(code & 0x7f);
        let per_second = if code & 0x80 == 0 {
            10u128.checked_pow(power)
        } else {
            1u128.checked_shl(power)
        };
        self.per_second = per_second.ok_or(Stop::Damaged("an impossible unit of time"))?;
        Ok(())
    }
}

impl PcapNg {
    /// Reads the first section header behind its type.
    pub(super) fn open<R: Read>(input: &mut Input<R>) -> Result<Self, FormatOrStop> {
        let mut new = Self::default();
        let length = input.take()?;
        match new.section(input, length)? {
            1 => Ok(new),
            major => Err(FormatError::Version(major, "pcapng").into()),
        }
    }

    /// Begins a section; the major version of its format.
    fn section<R: Read>(&mut self, input: &mut Input<R>, length: [u8; 4]) -> Result<u16, Stop> {
        input.order = match input.take()? {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            _ => return Err(Stop::Damaged("a section without its byte-order mark")),
        };
        let length = input.order.u32(length);
        if length < 28 {
            return Err(Stop::Damaged("a section header that is too short"));
        }
        let major = input.u16()?;
        finish(input, length, 14)?;
        let described = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.before = self.before.wrapping_add(described);
        self.interfaces.clear();
        Ok(major)
    }

    /// The next packet, its bytes in `place`.
    pub(super) fn next<R: Read>(
        &mut self,
        input: &mut Input<R>,
        place: &mut Vec<u8>,
    ) -> Result<Record, Stop> {
        loop {
            let order = input.order;
            let kind = order.u32(input.begin()?);
            let length: [u8; 4] = input.take()?;
            if kind == SECTION_HEADER {
                if self.section(input, length)? != 1 {
                    return Err(Stop::Damaged("a section of an unknown version"));
                }
                continue;
            }
            let length = order.u32(length);
            if length < 12 {
                return Err(Stop::Damaged("a block that is too short"));
            }
            match kind {
                INTERFACE => self.describe(input, length)?,
                PACKET | OLD_PACKET => return self.packet(kind, input, length, place),
                SIMPLE_PACKET => return self.simple_packet(input, length, place),
                _ => finish(input, length, 8)?,
            }
        }
    }

    fn describe<R: Read>(&mut self, input: &mut Input<R>, length: u32) -> Result<(), Stop> {
        if length < 20 {
            return Err(Stop::Damaged("an interface that is too short"));
        }
        if self.interfaces.len() >= MOST_INTERFACES {
            return Err(Stop::Damaged("more than 65536 interfaces"));
        }
        let number = u32::from(input.u16()?);
        input.skip(2)?;
        let snapshot = input.u32()?;
        let (mut clock, mut name) = (Clock::default(), None);
        let mut taken = 16;
        while length - 4 - taken >= 4 {
            let (code, size) = (input.u16()?, input.u16()?);
            taken += 4;
            let padded = u32::from(size).next_multiple_of(4);
            if code == 0 {
                break;
            }
            if padded > length - 4 - taken {
                return Err(Stop::Damaged("an option that is longer than its block"));
            }
            match (code, size) {
                (RESOLUTION, 1) => clock.set_resolution(input.take::<4>()?[0])?,
                (OFFSET, 8) => clock.offset = input.u64()?.cast_signed(),
                (NAME, 1..=16) => {
                    let mut bytes = Vec::new();
                    input.take_into(&mut bytes, padded)?;
                    bytes.truncate(usize::from(size));
                    name = Name::of(&bytes);
                }
                _ => input.skip(u64::from(padded))?,
            }
            taken += padded;
        }
        let link = Link::of(number);
        if link.is_none() {
            self.unknown.get_or_insert(number);
        }
        self.interfaces.push(Interface {
            link,
            snapshot,
            clock,
            name,
        });
        finish(input, length, taken)
    }

    fn packet<R: Read>(
        &self,
        kind: u32,
        input: &mut Input<R>,
        length: u32,
        place: &mut Vec<u8>,
    ) -> Result<Record, Stop> {
        if length < 32 {
            return Err(Stop::Damaged("a packet block that is too short"));
        }
        let number = if kind == PACKET {
            input.u32()?
        } else {
            let number = u32::from(input.u16()?);
            input.skip(2)?;
            number
        };
        let ticks = u64::from(input.u32()?) << 32 | u64::from(input.u32()?);
        let captured = input.u32()?;
        let _on_the_wire = input.u32()?;
        let interface = self.interface(number)?;
        if captured > length - 32 {
            return Err(Stop::Damaged("a packet that is longer than its block"));
        }
        input.take_into(place, captured)?;
        finish(input, length, 28 + captured)?;
        Ok(Record {
            at: interface.clock.read(ticks),
            link: interface.link,
            interface: Some(self.before.wrapping_add(number)),
            name: interface.name,
        })
    }

    /// A packet of the first interface, without a time.
    fn simple_packet<R: Read>(
        &self,
        input: &mut Input<R>,
        length: u32,
        place: &mut Vec<u8>,
    ) -> Result<Record, Stop> {
        if length < 16 {
            return Err(Stop::Damaged("a packet block that is too short"));
        }
        let on_the_wire = input.u32()?;
        let interface = self.interface(0)?;
        let snapshot = match interface.snapshot {
            0 => u32::MAX,
            limit => limit,
        };
        let captured = on_the_wire.min(snapshot).min(length - 16);
        input.take_into(place, captured)?;
        finish(input, length, 12 + captured)?;
        Ok(Record {
            at: None,
            link: interface.link,
            interface: Some(self.before),
            name: interface.name,
        })
    }

    fn interface(&self, number: u32) -> Result<Interface, Stop> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        self.interfaces.get(place).copied().ok_or(Stop::Damaged(
            "a packet of an interface that is not described",
        ))
    }
}

/// Skips what is left of a block of which so many bytes were taken, and checks that its end
/// repeats its length.
fn finish<R: Read>(input: &mut Input<R>, length: u32, taken: u32) -> Result<(), Stop> {
    if !length.is_multiple_of(4) {
        return Err(Stop::Damaged("a block whose length is no multiple of four"));
    }
    let left = (length - 4).saturating_sub(taken);
    input.skip(u64::from(left))?;
    if input.u32()? == length {
        Ok(())
    } else {
        Err(Stop::Damaged("a block whose two lengths differ"))
    }
}
