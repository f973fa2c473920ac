//! Numbers as clients write them.

/// Digits of the largest number.
const DIGITS_MAX: usize = 19;

/// The number that these bytes write in decimal, in the only form that Redis takes: without leading zeros, `+` or
/// blanks.
#[inline]
#[must_use]
pub fn integer(bytes: &[u8]) -> Option<i64> {
    // Most have one digit.
    if let &[digit @ b'0'..=b'9'] = bytes {
        return Some(i64::from(digit - b'0'));
    }
    let (is_negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'1'..=b'9', ..] if digits.len() <= DIGITS_MAX => {}
        _ => return None,
    }
    let mut value = 0_u64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits are below 2^64.
        value = value * 10 + u64::from(digit);
    }
    match is_negative {
        true => 0_i64.checked_sub_unsigned(value),
        false => i64::try_from(value).ok(),
    }
}
