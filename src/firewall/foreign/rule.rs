//! What one rule does with the packet: the kernel's little machine with values that may be
//! unknown.

use super::elements::{self, Found};
use super::packet::{Byte, Hook, Packet, Value};
use super::read::{Element, Verdict, data, expressions, number, verdict};
use super::xt::{self, Target};
use crate::netlink::attr::{Attr, find};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fits {
    Yes,
    No,
    Maybe,
}

impl Fits {
    pub(super) fn known(holds: bool) -> Self {
        if holds { Fits::Yes } else { Fits::No }
    }

    pub(super) fn inverted(self) -> Self {
        match self {
            Fits::Yes => Fits::No,
            Fits::No => Fits::Yes,
            Fits::Maybe => Fits::Maybe,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Fits::No, _) | (_, Fits::No) => Fits::No,
            (Fits::Yes, Fits::Yes) => Fits::Yes,
            _ => Fits::Maybe,
        }
    }
}

/// What becomes of a packet that the rule fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    GoesOn,
    Accepts,
    Drops,
    /// Hands it to a program, which decides.
    Asks,
    Returns,
    Jumps(String),
    GoesTo(String),
}

/// The elements of a set by name; `None` if there are too many or they cannot be had.
pub(super) type Sets<'a> = &'a mut dyn FnMut(&str) -> Option<std::rc::Rc<Vec<Element>>>;

/// What the rule does, each with whether; several only where a map decides.
pub(super) fn judge(list: &[u8], packet: &Packet, sets: Sets<'_>) -> Vec<(Fits, Effect)> {
    let mut machine = Machine {
        packet,
        registers: [Byte::Unknown; REGISTERS],
        fits: Fits::Yes,
        effects: Vec::new(),
    };
    for (name, attributes) in expressions(list) {
        machine.step(name, attributes, sets);
        if machine.fits == Fits::No || !machine.effects.is_empty() {
            break;
        }
    }
    let fits = machine.fits;
    let effects = machine.effects.into_iter();
    effects
        .map(|(when, effect)| (fits.and(when), effect))
        .filter(|(when, _)| *when != Fits::No)
        .collect()
}

/// 16 registers of four bytes; the first four times 16 bytes have numbers of their own.
const REGISTERS: usize = 64;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

struct Machine<'a> {
    packet: &'a Packet,
    registers: [Byte; REGISTERS],
    fits: Fits,
    effects: Vec<(Fits, Effect)>,
}

/// Where a register lies (`enum nft_registers`); `None` is the verdict.
fn place(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 16),
        8..=23 => Some((register as usize - 8) * 4),
        _ => None,
    }
}

fn words(length: usize) -> usize {
    length.next_multiple_of(4)
}

impl Machine<'_> {
    fn load(&self, register: u32, length: usize) -> Value {
        place(register)
            .and_then(|at| self.registers.get(at..at.checked_add(length)?))
            .map_or(Value::Unknown, Value::of)
    }

    fn store(&mut self, register: u32, bytes: &[Byte]) {
        let Some(at) = place(register) else { return };
        let padded = bytes
            .iter()
            .copied()
            .chain(std::iter::repeat(Byte::Known(0)));
        let room = self.registers.iter_mut().skip(at).take(words(bytes.len()));
        for (cell, byte) in room.zip(padded) {
            *cell = byte;
        }
    }

    fn require(&mut self, fits: Fits) {
        self.fits = self.fits.and(fits);
    }

    fn step(&mut self, name: &str, a: &[u8], sets: Sets<'_>) {
        match name {
            "meta" => self.meta(a),
            "payload" => self.payload(a),
            "ct" => self.ct(a),
            "fib" => self.fib(a),
            "cmp" => self.compare(a),
            "range" => self.range(a),
            "bitwise" => self.bitwise(a),
            "lookup" => self.lookup(a, sets),
            "immediate" => self.immediate(a),
            "limit" => {
                let is_over = number(a, 5).unwrap_or(0) & 1 != 0;
                self.require(Fits::known(!is_over));
            }
            "counter" | "log" | "notrack" | "objref" | "last" => {}
            "reject" => self.effects.push((Fits::Yes, Effect::Drops)),
            "queue" => self.effects.push((Fits::Yes, Effect::Asks)),
            "nat" | "masq" | "redir" | "tproxy" | "synproxy" => {
                self.effects.push((Fits::Yes, Effect::Accepts));
            }
            "match" => {
                let name = find(a, 1).and_then(Attr::text).unwrap_or_default();
                let info = find(a, 3).map_or(&[][..], |info| info.value);
                let revision = number(a, 2).unwrap_or(0);
                self.require(xt::fits(name, revision, info, self.packet));
            }
            "target" => {
                let name = find(a, 1).and_then(Attr::text).unwrap_or_default();
                let effect = match xt::target(name) {
                    Target::Drops => Effect::Drops,
                    Target::Accepts => Effect::Accepts,
                    Target::Asks => Effect::Asks,
                    Target::GoesOn => return,
                };
                self.effects.push((Fits::Yes, effect));
            }
            // Beyond us: it may hold, and may have written to any register.
            _ => {
                self.registers = [Byte::Unknown; REGISTERS];
                self.require(Fits::Maybe);
            }
        }
    }

    /// `enum nft_meta_keys`.
    fn meta(&mut self, a: &[u8]) {
        let Some(register) = number(a, 1) else { return };
        let (name, index) = &self.packet.interface;
        let mut padded = [0; 16];
        padded
            .iter_mut()
            .zip(name.bytes())
            .for_each(|(to, b)| *to = b);
        let protocol: u16 = if self.packet.is_v6 { 0x86dd } else { 0x0800 };
        let value = match number(a, 2) {
            Some(1) => known(&protocol.to_be_bytes()),
            Some(4) => known(&index.to_ne_bytes()),
            Some(6) => known(&padded),
            // Nothing goes out by an interface on the way in.
            Some(5) if self.packet.hook != Hook::Forward => known(&[0; 4]),
            Some(7) if self.packet.hook != Hook::Forward => known(&[0; 16]),
            Some(15) => known(&[if self.packet.is_v6 { 10 } else { 2 }]),
            Some(16) => known(&[self.packet.proto.number()]),
            // PACKET_HOST
            Some(19) => known(&[0]),
            Some(7) => vec![Byte::Unknown; 16],
            _ => vec![Byte::Unknown; 4],
        };
        self.store(register, &value);
    }

    fn payload(&mut self, a: &[u8]) {
        let Some(register) = number(a, 1) else { return };
        let size = |kind| number(a, kind).map_or(0, |n| (n as usize).min(REGISTERS));
        let (offset, length) = (size(3), size(4));
        let value = match number(a, 2) {
            Some(1) => self.packet.network(offset, length),
            Some(2) => self.packet.transport(offset, length),
            _ => vec![Byte::Unknown; length],
        };
        self.store(register, &value);
    }

    /// `enum nft_ct_keys`; the bits of the state are in host order.
    fn ct(&mut self, a: &[u8]) {
        const NEW: u32 = 1 << 3;
        let Some(register) = number(a, 1) else { return };
        let value = match number(a, 2) {
            Some(0) => known(&NEW.to_ne_bytes()),
            Some(1) => known(&[0]),
            // Neither expected nor translated; on its way through us, who knows.
            Some(2) if self.packet.hook == Hook::Input => known(&[0; 4]),
            _ => vec![Byte::Unknown; 16],
        };
        self.store(register, &value);
    }

    /// `enum nft_fib_result` and `nft_fib_flags`.
    fn fib(&mut self, a: &[u8]) {
        const ADDRESS_TYPE: u32 = 3;
        const OF_SOURCE: u32 = 1;
        const UNICAST: u32 = 1;
        const LOCAL: u32 = 2;
        let Some(register) = number(a, 1) else { return };
        let of_source = number(a, 3).unwrap_or(0) & OF_SOURCE != 0;
        let value = match (number(a, 2), self.packet.hook) {
            (Some(ADDRESS_TYPE), _) if of_source => known(&UNICAST.to_ne_bytes()),
            (Some(ADDRESS_TYPE), Hook::Input) => known(&LOCAL.to_ne_bytes()),
            (Some(ADDRESS_TYPE), Hook::Forward) => known(&UNICAST.to_ne_bytes()),
            _ => vec![Byte::Unknown; 16],
        };
        self.store(register, &value);
    }

    fn compare(&mut self, a: &[u8]) {
        let operator = number(a, 2);
        let against = find(a, 3).map_or_else(Vec::new, |nested| data(nested.value));
        let value = self.load(number(a, 1).unwrap_or(0), against.len());
        let fits = match (value, operator) {
            (Value::Known(is), Some(operator)) => match operator {
                EQUAL => Fits::known(is == against),
                NOT_EQUAL => Fits::known(is != against),
                2 => Fits::known(is < against),
                3 => Fits::known(is <= against),
                4 => Fits::known(is > against),
                5 => Fits::known(is >= against),
                _ => Fits::Maybe,
            },
            (Value::Stranger, operator) => Fits::known(operator == Some(NOT_EQUAL)),
            (Value::Own, Some(EQUAL)) if is_no_host(&against) => Fits::No,
            (Value::Own, Some(NOT_EQUAL)) if is_no_host(&against) => Fits::Yes,
            _ => Fits::Maybe,
        };
        self.require(fits);
    }

    fn range(&mut self, a: &[u8]) {
        let bound = |kind| find(a, kind).map_or_else(Vec::new, |nested| data(nested.value));
        let (first, last) = (bound(3), bound(4));
        let inverted = number(a, 2) == Some(NOT_EQUAL);
        let fits = match self.load(number(a, 1).unwrap_or(0), first.len()) {
            Value::Known(is) => Fits::known((first <= is && is <= last) != inverted),
            Value::Stranger => Fits::known(inverted),
            _ => Fits::Maybe,
        };
        self.require(fits);
    }

    /// `(register & mask) ^ xor`.
    fn bitwise(&mut self, a: &[u8]) {
        let Some(to) = number(a, 2) else { return };
        let length = number(a, 3).map_or(0, |n| (n as usize).min(REGISTERS));
        let bytes = |kind| find(a, kind).map(|nested| data(nested.value));
        let from = number(a, 1).and_then(place).unwrap_or(REGISTERS);
        let is_mask = number(a, 6).unwrap_or(0) == 0;
        let value: Vec<Byte> = match (bytes(4), bytes(5)) {
            (Some(mask), Some(xor)) if is_mask => (0..length)
                .map(|i| {
                    let (mask, xor) = (*mask.get(i).unwrap_or(&0), *xor.get(i).unwrap_or(&0));
                    match self.registers.get(from + i) {
                        _ if mask == 0 => Byte::Known(xor),
                        Some(Byte::Known(byte)) => Byte::Known(byte & mask ^ xor),
                        Some(other) => *other,
                        None => Byte::Unknown,
                    }
                })
                .collect(),
            _ => vec![Byte::Unknown; length],
        };
        self.store(to, &value);
    }

    fn immediate(&mut self, a: &[u8]) {
        let value = find(a, 2).map_or(&[][..], |nested| nested.value);
        let register = number(a, 1).unwrap_or(0);
        if place(register).is_some() {
            self.store(register, &known(&data(value)));
        } else if let Some(code) = find(value, 2).and_then(|nested| verdict(nested.value)) {
            self.effects.push((Fits::Yes, effect(code)));
        }
    }

    fn lookup(&mut self, a: &[u8], sets: Sets<'_>) {
        const INVERTED: u32 = 1;
        let inverted = number(a, 5).unwrap_or(0) & INVERTED != 0;
        let target = number(a, 3);
        let register = number(a, 2).unwrap_or(0);
        if target.is_none() && self.load(register, 1) == Value::Stranger {
            // Without reading a list of addresses, which may be long.
            return self.require(Fits::known(inverted));
        }
        let elements = find(a, 1).and_then(Attr::text).and_then(sets);
        let length = elements
            .as_ref()
            .and_then(|list| list.iter().map(|e| e.key.len()).max())
            .unwrap_or(1);
        let value = self.load(register, length);
        let found = match (&value, &elements) {
            (Value::Stranger, Some(list)) => elements::find_any(list),
            (Value::Stranger, None) => Found::Nowhere,
            (Value::Known(key), Some(list)) => elements::find(list, key),
            _ => Found::Unclear,
        };
        match target {
            None if inverted => self.require(found.fits().inverted()),
            None => self.require(found.fits()),
            // A map of verdicts.
            Some(0) => self.decide(found, elements.as_deref()),
            Some(register) => {
                self.store(register, &[Byte::Unknown; 16]);
                self.require(found.fits());
            }
        }
    }

    fn decide(&mut self, found: Found<'_>, elements: Option<&Vec<Element>>) {
        let verdict = |element: &Element| element.verdict.clone().map(effect);
        match (found, elements) {
            (Found::In(element), _) => {
                let effect = verdict(element).unwrap_or(Effect::GoesOn);
                self.effects.push((Fits::Yes, effect));
            }
            (Found::Nowhere, _) => self.require(Fits::No),
            (Found::Unclear, Some(list)) => {
                let effects = list.iter().filter_map(verdict);
                self.effects
                    .extend(effects.map(|effect| (Fits::Maybe, effect)));
            }
            // Whatever it says, it may accept.
            (Found::Unclear, None) => self.effects.push((Fits::Maybe, Effect::Accepts)),
        }
    }
}

fn known(bytes: &[u8]) -> Vec<Byte> {
    bytes.iter().map(|byte| Byte::Known(*byte)).collect()
}

/// Whether these are the first bytes of addresses that are no host's: loopback, multicast,
/// broadcast.
fn is_no_host(address: &[u8]) -> bool {
    match address.len() {
        1..=4 => address[0] == 127 || address[0] >= 224,
        _ => address.first() == Some(&0xff),
    }
}

fn effect((code, chain): Verdict) -> Effect {
    match (code, chain) {
        (0, _) => Effect::Drops,
        (1, _) => Effect::Accepts,
        (3, _) => Effect::Asks,
        (-3, Some(chain)) => Effect::Jumps(chain),
        (-4, Some(chain)) => Effect::GoesTo(chain),
        (-5, _) => Effect::Returns,
        _ => Effect::GoesOn,
    }
}
