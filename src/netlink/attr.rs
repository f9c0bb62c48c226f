//! Netlink attributes (`struct nlattr`, linux/netlink.h): a two-byte length that counts the
//! header, a two-byte type in host order, the value, padding to four bytes.

use netlink_packet_core::{Emitable, Nla};

/// The two highest bits of the type say how the value is made (`NLA_F_NESTED`,
/// `NLA_F_NET_BYTEORDER`) and are not part of it.
const TYPE_MASK: u16 = 0x3fff;
/// `NLA_F_NESTED`.
pub const NESTED: u16 = 0x8000;

/// One attribute, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its type, without the flags.
    pub kind: u16,
    /// Whether it says that its value is a list of attributes (`NLA_F_NESTED`).
    pub is_nested: bool,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The attributes inside.
    pub fn nested(self) -> Attrs<'a> {
        attrs(self.value)
    }

    /// A number of four bytes in network order.
    pub fn u32_be(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A number of eight bytes in network order.
    pub fn u64_be(self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A text that ends with the first NUL.
    pub fn text(self) -> Option<&'a str> {
        let end = self.value.iter().position(|&b| b == 0);
        std::str::from_utf8(&self.value[..end.unwrap_or(self.value.len())]).ok()
    }
}

/// Walks over attributes; ends where they stop making sense.
#[derive(Debug, Clone)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

/// The attributes in these bytes.
pub fn attrs(bytes: &[u8]) -> Attrs<'_> {
    Attrs { rest: bytes }
}

/// The first attribute of that type.
pub fn find(bytes: &[u8], kind: u16) -> Option<Attr<'_>> {
    attrs(bytes).find(|attr| attr.kind == kind)
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let (header, _) = self.rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let Some(value) = self.rest.get(4..length) else {
            self.rest = &[];
            return None;
        };
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Attr {
            kind: kind & TYPE_MASK,
            is_nested: kind & NESTED != 0,
            value,
        })
    }
}

/// Appends an attribute. Values are short: no caller's comes near the 64 KiB that the length holds.
pub fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nest(bytes, kind, |bytes| bytes.extend_from_slice(value));
}

/// Appends an attribute whose value is what is written meanwhile.
pub fn nest(bytes: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    write(bytes);
    let length = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The bytes of a list of attributes.
pub fn emit<T: Nla>(list: &[T]) -> Vec<u8> {
    let mut bytes = vec![0; list.buffer_len()];
    list.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let bytes = emit(&[
            DefaultNla::new(1, b"abc\0".to_vec()),
            DefaultNla::new(2 | 0x8000, vec![0, 0, 0, 7]),
            DefaultNla::new(3, vec![1]),
        ]);
        let read: Vec<_> = attrs(&bytes).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].text(), Some("abc"));
        assert_eq!((read[1].kind, read[1].u32_be()), (2, Some(7)));
        assert_eq!(read[2].u32_be(), None);
        assert_eq!(find(&bytes, 3).unwrap().value, [1]);
    }

    #[test]
    fn what_is_put_is_what_the_library_makes() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1, b"abcde\0");
        nest(&mut bytes, 2 | NESTED, |bytes| put(bytes, 3, &[7]));
        let inner = emit(&[DefaultNla::new(3, vec![7])]);
        let library = emit(&[
            DefaultNla::new(1, b"abcde\0".to_vec()),
            DefaultNla::new(2 | NESTED, inner),
        ]);
        assert_eq!(bytes, library);
    }

    proptest! {
        #[test]
        fn garbage_ends_the_walk(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Each attribute takes at least its header, so the walk is bounded.
            prop_assert!(attrs(&bytes).count() <= bytes.len() / 4);
            for attr in attrs(&bytes) {
                let _ = (attr.text(), attr.u64_be(), attr.nested().count());
            }
        }
    }
}
