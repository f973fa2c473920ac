//! An answer of any length on its way into a reply: its content is written first, then the code and the length in front
//! of it.

use crate::varint;

/// The content of an answer that begins with its length as a varint.
#[derive(Debug)]
pub(super) struct ContentWriter<'b> {
    out: &'b mut [u8],
    /// Bytes written, with the place for code and length.
    len: usize,
}

/// Where the content stands until its length is known: behind the code, and a length of two bytes.
const CONTENT_AT: usize = 3;
/// The longest content with a length of two bytes; a reply is shorter by far.
const CONTENT_BYTES_MAX: usize = (1 << 14) - 1;
/// The longest content with a length of one byte.
const SHORT_CONTENT_BYTES_MAX: usize = 0x7f;

impl<'b> ContentWriter<'b> {
    /// An answer at the front of `out`.
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        let bytes_max = out.len().min(CONTENT_AT + CONTENT_BYTES_MAX);
        Self {
            out: &mut out[..bytes_max],
            len: CONTENT_AT,
        }
    }

    /// Puts the code and the length in front; how many bytes the answer has.
    pub(super) fn finish(self, answer: u8) -> usize {
        let content = self.len - CONTENT_AT;
        let [code, low, high, ..] = self.out else {
            return 0;
        };
        *code = answer;
        if content <= SHORT_CONTENT_BYTES_MAX {
            *low = content as u8;
            self.out.copy_within(CONTENT_AT..self.len, CONTENT_AT - 1);
            return self.len - 1;
        }
        (*low, *high) = (content as u8 | 0x80, (content >> 7) as u8);
        self.len
    }

    /// Bytes that there is room for.
    pub(super) fn room(&self) -> usize {
        self.out.len().saturating_sub(self.len)
    }

    /// Whether there is room for so many bytes with their length in front of them.
    pub(super) fn has_room_for_field(&self, bytes: usize) -> bool {
        varint::bytes(bytes as u64) + bytes <= self.room()
    }

    /// Writes what there is room for.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(out) = self.out.get_mut(self.len..self.len + bytes.len()) {
            out.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    pub(super) fn varint(&mut self, number: u64) {
        let (bytes, length) = varint::encode(number);
        self.bytes(&bytes[..length]);
    }
}
