use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::model::{KnockPort, PortRange};

use super::Secret;

/// The longest sequence, as everywhere.
pub const MOST_PORTS: u8 = 32;
/// The shortest: two ports out of a range are guessed too soon.
const FEWEST_PORTS: u8 = 3;

/// So many sequences at least, or who tries them one after another gets in.
const FEWEST_SEQUENCES: u128 = 1_000_000_000;

/// What the sequences of a secret look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    ports: PortRange,
    length: u8,
}

/// Why there is no such shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Too easy to guess, or too long.
    #[error("a sequence of {0} ports: expected 3 to 32")]
    Length(u8),
    /// Too easy to guess.
    #[error(
        "{length} ports among {first}-{last} are too few sequences: a billion are not guessed, so \
         widen the range or make them longer"
    )]
    Few {
        /// Of each sequence.
        length: u8,
        /// Of the range.
        first: u16,
        /// Of the range.
        last: u16,
    },
}

/// Over which protocol one knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address that packets come from.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Over which packets to this address arrive: those to one of NAT64's own prefix (RFC 6052,
    /// section 2.1, 64:ff9b::/96) do over IPv4.
    pub fn towards(address: IpAddr) -> Self {
        match address {
            IpAddr::V6(six) if six.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => Family::V4,
            address => Family::of(address),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

impl Shape {
    /// `length` different ports out of `ports`.
    pub fn new(ports: PortRange, length: u8) -> Result<Self, ShapeError> {
        if !(FEWEST_PORTS..=MOST_PORTS).contains(&length) {
            return Err(ShapeError::Length(length));
        }
        let count = u128::from(ports.last - ports.first) + 1;
        let sequences = (0..u128::from(length)).try_fold(1u128, |product, taken| {
            Some(product.saturating_mul(count.checked_sub(taken)?))
        });
        if sequences.is_none_or(|sequences| sequences < FEWEST_SEQUENCES) {
            return Err(ShapeError::Few {
                length,
                first: ports.first,
                last: ports.last,
            });
        }
        Ok(Self { ports, length })
    }

    /// Where its ports are.
    pub fn ports(self) -> PortRange {
        self.ports
    }

    /// How many ports a sequence has.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The sequence of a step for those who come over `family`.
    pub fn sequence(self, secret: &Secret, step: u64, family: Family) -> Vec<KnockPort> {
        let Ok(keyed) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else {
            // HMAC takes keys of every length (RFC 2104).
            return Vec::new();
        };
        let count = u64::from(self.ports.last - self.ports.first) + 1;
        let length = usize::from(self.length);
        let mut sequence: Vec<KnockPort> = Vec::with_capacity(length);
        let mut draws = 0_u32..;
        while sequence.len() < length {
            let draw = draws.next().unwrap_or_default();
            let mut mac = keyed.clone();
            mac.update(&step.to_be_bytes());
            mac.update(&[family.number()]);
            mac.update(&draw.to_be_bytes());
            let digest = mac.finalize().into_bytes();
            let number = digest
                .iter()
                .take(8)
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            // A range has at most 65,535 ports, and the sum is its last at most.
            let offset = u16::try_from(number % count).unwrap_or_default();
            let port = KnockPort {
                port: self.ports.first.saturating_add(offset),
                proto: self.ports.proto,
            };
            if !sequence.contains(&port) {
                sequence.push(port);
            }
        }
        sequence
    }
}
