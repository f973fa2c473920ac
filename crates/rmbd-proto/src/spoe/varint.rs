//! Variable-length integers of HAProxy (3.1): a value below 240 is one byte. Otherwise the first byte has its last
//! four bits, and what is left above 240 follows in groups of seven bits. Each value has one form.

use crate::reader::{ReadError, Reader};

/// Values from here on have more than one byte.
const FIRST_OF_TWO_BYTES: u64 = 240;
/// Number of bits of the value in the first of several bytes.
const FIRST_BITS: u32 = 4;
/// Number of bits in each further byte.
const BITS: u32 = 7;
/// A byte from here on has another behind it.
const MORE: u8 = 128;

impl Reader<'_> {
    /// Takes a number. On an error the reader stays where it is: [`ReadError::Form`] is for more than 64 bits.
    pub(super) fn spoe_varint(&mut self) -> Result<u64, ReadError> {
        let mut reader = *self;
        let mut value = u64::from(reader.byte()?);
        let mut shift = FIRST_BITS;
        let mut has_more = value >= FIRST_OF_TWO_BYTES;
        while has_more {
            let byte = reader.byte()?;
            let part = u64::from(byte);
            // The shift grows up to 67 only, with which no byte fits that has another behind it.
            if part.leading_zeros() < shift {
                return Err(ReadError::Form);
            }
            value = value.checked_add(part << shift).ok_or(ReadError::Form)?;
            shift += BITS;
            has_more = byte >= MORE;
        }
        *self = reader;
        Ok(value)
    }
}

/// Appends a number.
pub(super) fn write(value: u64, out: &mut Vec<u8>) {
    let Some(above) = value.checked_sub(FIRST_OF_TWO_BYTES) else {
        return out.push(value as u8);
    };
    out.push(value as u8 | FIRST_OF_TWO_BYTES as u8);
    let mut left = above >> FIRST_BITS;
    while let Some(above) = left.checked_sub(MORE.into()) {
        out.push(left as u8 | MORE);
        left = above >> BITS;
    }
    out.push(left as u8);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_in_the_length_of_the_specification() {
        for (first, bytes) in [
            (0, 1),
            (240, 2),
            (2_288, 3),
            (264_432, 4),
            (33_818_864, 5),
            (4_328_786_160, 6),
        ] {
            let length = |value: u64| {
                let mut out = Vec::new();
                write(value, &mut out);
                out.len()
            };
            assert_eq!(length(first), bytes);
            assert_eq!(length(first.saturating_sub(1)), (bytes - 1).max(1));
        }
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1, u64::MAX] {
                let mut out = Vec::new();
                write(value, &mut out);
                let mut reader = Reader::new(&out);
                assert_eq!(reader.spoe_varint(), Ok(value));
                assert!(reader.rest().is_empty());
                let mut cut = Reader::new(&out[..out.len() - 1]);
                assert_eq!(cut.spoe_varint(), Err(ReadError::CutOff), "{value}");
            }
        }
    }

    #[test]
    fn what_is_above_64_bits_is_refused() {
        let mut largest = Vec::new();
        write(u64::MAX, &mut largest);
        assert_eq!(largest.len(), 10);
        let last = largest.last_mut().unwrap();
        *last += 1;
        for bytes in [
            &largest[..],
            &[0xff; 11],
            &[0xff; 10_000],
            b"\xf0\x80\x80\x80\x80\x80\x80\x80\x80\x80\0",
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.spoe_varint(), Err(ReadError::Form), "{bytes:x?}");
            assert_eq!(reader.rest(), bytes);
        }
    }
}
