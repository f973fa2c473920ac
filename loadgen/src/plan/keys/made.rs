//! Keys made from their numbers.

use rmbd_proto::compact::KEY_BYTES_MAX;

use super::super::format::Format;
use super::error::KeysError;

/// Number of hexadecimal digits of the largest number.
const DIGITS_MAX: usize = 16;

/// Keys made from their numbers: a prefix, zeros, and the number in hexadecimal.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) keys: u64,
    /// A key with all digits 0.
    pub(super) template: Box<[u8]>,
    pub(super) bytes: usize,
    /// Number of digits at the end of a key.
    digits: usize,
}

impl Made {
    pub(super) fn new(
        keys: u64,
        bytes: usize,
        prefix: &str,
        format: Format,
    ) -> Result<Self, KeysError> {
        if bytes > format.key_bytes_max() {
            return Err(KeysError::TooLong { bytes, format });
        }
        let needed = prefix.len() + digits(keys - 1);
        if bytes < needed {
            return Err(KeysError::TooShort {
                keys,
                bytes,
                prefix_bytes: prefix.len(),
                needed,
            });
        }
        let mut template = vec![b'0'; bytes].into_boxed_slice();
        template[..prefix.len()].copy_from_slice(prefix.as_bytes());
        Ok(Self {
            keys,
            template,
            bytes,
            digits: (bytes - prefix.len()).min(DIGITS_MAX),
        })
    }

    /// Writes the digits at the end of a key whose other bytes are there already.
    #[inline]
    pub(super) fn write_digits(&self, number: u64, key: &mut [u8; KEY_BYTES_MAX]) {
        let digits = hexadecimal(number);
        key[self.bytes - self.digits..self.bytes]
            .copy_from_slice(&digits[DIGITS_MAX - self.digits..]);
    }
}

/// Number of hexadecimal digits of a number, at least 1.
pub(super) fn digits(number: u64) -> usize {
    (number.max(1).ilog2() as usize) / 4 + 1
}

/// Writes 16 lower-case digits at once: there is one byte for each nibble, `0` is added to it, and the distance from
/// `9` to `a` if it is above 9.
#[inline]
pub(super) fn hexadecimal(number: u64) -> [u8; DIGITS_MAX] {
    const LOW_NIBBLES: u128 = u128::from_ne_bytes([0x0f; DIGITS_MAX]);
    const ONES: u128 = u128::from_ne_bytes([1; DIGITS_MAX]);
    let n = u128::from(number);
    let n = (n | (n << 32)) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    let n = (n | (n << 16)) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    let n = (n | (n << 8)) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    let nibbles = (n | (n << 4)) & LOW_NIBBLES;
    let above_nine = ((nibbles + ONES * 6) >> 4) & ONES;
    let letters = above_nine * u128::from(b'a' - b'9' - 1);
    (nibbles + ONES * u128::from(b'0') + letters).to_be_bytes()
}
