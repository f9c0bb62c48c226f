//! Messages as they lie in a datagram, and the frame around a batch.

use std::io;

use super::{NetlinkError, REQUEST, attr};

/// `NLMSG_ERROR`.
pub(super) const TYPE_ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(super) const TYPE_DONE: u16 = 3;
/// The answer does not repeat the message (`NLM_F_CAPPED`).
const CAPPED: u16 = 0x100;
/// The answer says more, in attributes (`NLM_F_ACK_TLVS`).
const ACK_TLVS: u16 = 0x200;
/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
const BATCH_GENID: u16 = 1;
const FRAME: usize = HEADER + 4;

/// The length of a batch of messages of these lengths.
pub fn batch_length(lengths: impl Iterator<Item = usize>) -> usize {
    2 * FRAME + 8 + lengths.map(|l| l.next_multiple_of(4)).sum::<usize>()
}

/// `NFNL_MSG_BATCH_BEGIN` or `_END`: `struct nlmsghdr`, then `struct nfgenmsg`, whose last field
/// names the subsystem.
pub(super) fn frame(
    bytes: &mut Vec<u8>,
    kind: u16,
    subsystem: u8,
    sequence: u32,
    generation: Option<u32>,
) {
    let length: u32 = if generation.is_some() { 28 } else { 20 };
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0, 0, 0, subsystem]);
    if let Some(generation) = generation {
        bytes.extend_from_slice(&8u16.to_ne_bytes());
        bytes.extend_from_slice(&BATCH_GENID.to_ne_bytes());
        bytes.extend_from_slice(&generation.to_be_bytes());
    }
}

/// One message of a datagram.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Who sent it; of a notification, who brought it about.
    pub(super) port: u32,
    pub(super) payload: &'a [u8],
}

impl Message<'_> {
    /// What an `NLMSG_ERROR` or `NLMSG_DONE` says, as a positive errno.
    pub(super) fn code(&self) -> Option<i32> {
        let code = i32::from_ne_bytes(*self.payload.first_chunk()?);
        Some(code.checked_neg().unwrap_or(libc::EPROTO))
    }

    pub(super) fn refusal(&self, first: u32) -> NetlinkError {
        NetlinkError::Refused {
            index: Some(self.sequence.wrapping_sub(first) as usize),
            source: io::Error::from_raw_os_error(self.code().unwrap_or(libc::EPROTO)),
            text: self.text().map(str::to_owned),
        }
    }

    /// `NLMSGERR_ATTR_MSG` of an extended acknowledgement: after the code and the header of the
    /// message it answers, and all of that message unless it was capped.
    fn text(&self) -> Option<&str> {
        if self.kind != TYPE_ERROR || self.flags & ACK_TLVS == 0 {
            return None;
        }
        let mut skip = 4 + HEADER;
        if self.flags & CAPPED == 0 {
            let echoed = u32::from_ne_bytes(*self.payload.get(4..)?.first_chunk()?);
            skip = 4 + usize::try_from(echoed).ok()?.max(HEADER);
        }
        attr::find(self.payload.get(skip.next_multiple_of(4)..)?, 1)?.text()
    }
}

/// The messages of a datagram; ends where they stop making sense.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let [a, b, c, d, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let payload = self.0.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(4),
            flags: u16_at(6),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            payload,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn an_error_carries_the_errno_the_place_and_the_kernels_words() {
        let mut payload = (-libc::ENOENT).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        payload.extend_from_slice(&[9, 0, 1, 0]);
        payload.extend_from_slice(b"what\0\0\0\0");
        let bytes = message(TYPE_ERROR, CAPPED | ACK_TLVS, 12, &payload);
        let read = Messages(&bytes).next().unwrap();
        let error = read.refusal(10);
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(error.to_string().ends_with("(what)"), "{error}");
        assert!(matches!(
            error,
            NetlinkError::Refused { index: Some(2), .. }
        ));
    }

    #[test]
    fn a_batch_is_as_long_as_announced() {
        let mut bytes = Vec::new();
        frame(&mut bytes, BATCH_BEGIN, 10, 1, Some(7));
        frame(&mut bytes, BATCH_END, 10, 2, None);
        assert_eq!(bytes.len(), batch_length(std::iter::empty()));
    }

    proptest! {
        #[test]
        fn garbage_is_no_message_or_a_bounded_one(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            for message in Messages(&bytes) {
                let _ = (message.code(), message.text(), message.refusal(0));
                prop_assert!(message.payload.len() <= bytes.len());
            }
        }
    }
}
