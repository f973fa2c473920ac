//! Variable-length integers: unsigned LEB128 of at most 64 bits, in its shortest form.

/// Why a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The bytes end before the value does.
    CutOff,
    /// The value breaks a rule of the format.
    Form,
}

/// Bytes of the longest integer: each has seven bits, and the last one holds one.
const BYTES_MAX: usize = 10;

/// Takes a number from the front of `rest`. On an error `rest` stays as it is: [`ReadError::Form`] is for a number of
/// more than 64 bits, or one that is not in its shortest form.
#[inline]
pub(super) fn read(rest: &mut &[u8]) -> Result<u64, ReadError> {
    let mut value = 0;
    for (at, &byte) in rest.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            let is_too_long = byte == 0 && at > 0;
            let is_too_large = at == BYTES_MAX - 1 && byte > 1;
            if is_too_long || is_too_large {
                return Err(ReadError::Form);
            }
            *rest = &rest[at + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < BYTES_MAX {
        ReadError::CutOff
    } else {
        ReadError::Form
    })
}

/// Appends a number.
#[inline]
pub(super) fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number's bytes, and how many of them it has.
pub(super) fn encode(mut value: u64) -> ([u8; BYTES_MAX], usize) {
    let mut out = [0; BYTES_MAX];
    let length = bytes(value);
    for (at, byte) in out.iter_mut().take(length).enumerate() {
        let more = if at + 1 < length { 0x80 } else { 0 };
        *byte = (value as u8 & 0x7f) | more;
        value >>= 7;
    }
    (out, length)
}

/// Number of bytes that [`write`] appends.
#[inline]
pub(super) fn bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_has_the_length_said() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1, u64::MAX] {
                let mut out = Vec::new();
                write(value, &mut out);
                assert_eq!(out.len(), bytes(value), "{value}");
                let (encoded, length) = encode(value);
                assert_eq!(encoded[..length], out, "{value}");
                let mut rest = out.as_slice();
                assert_eq!(read(&mut rest), Ok(value));
                assert!(rest.is_empty());
                let mut cut = &out[..out.len() - 1];
                assert_eq!(read(&mut cut), Err(ReadError::CutOff));
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bytes in [&[0x80, 0][..], &[0xff; 11], &[0x80; 10]] {
            assert_eq!(read(&mut &*bytes), Err(ReadError::Form), "{bytes:x?}");
        }
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(read(&mut &too_large[..]), Err(ReadError::Form));
    }
}
