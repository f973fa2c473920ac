//! Numbers as they stand on the command line, in variables and in files: who mistypes one is told what is possible.

use std::ops::{Bound, RangeBounds};

use clap::builder::TypedValueParser;
use thiserror::Error;

/// A parser of whole numbers in this range, which `T` holds.
pub(crate) fn whole<T>(range: impl RangeBounds<u64>) -> impl TypedValueParser<Value = T>
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    let least = match range.start_bound() {
        Bound::Included(&least) => least,
        Bound::Excluded(&below) => below.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let most = match range.end_bound() {
        Bound::Included(&most) => most,
        Bound::Excluded(&above) => above.saturating_sub(1),
        Bound::Unbounded => most_of::<T>(),
    };
    move |text: &str| parse_whole(text, least, most)
}

/// Parses any whole number that the type holds.
pub(crate) fn any_whole<T: TryFrom<u64>>(text: &str) -> Result<T, NumberError> {
    parse_whole(text, 0, most_of::<T>())
}

/// Parses a number that may have a point.
pub(crate) fn with_point(text: &str) -> Result<f64, NumberError> {
    text.parse().map_err(|_| NumberError::NoNumber)
}

/// Why a text is not the number that it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum NumberError {
    #[error("not a number: write digits, with a point where it is needed, such as 0.001")]
    NoNumber,
    #[error("not a whole number{}: write digits only", bounds(*.least, *.most))]
    NotWhole { least: u64, most: u64 },
    #[error("{text} is not in {least}..={most}")]
    OutOfRange { text: String, least: u64, most: u64 },
}

/// What bounds a number, for an error.
fn bounds(least: u64, most: u64) -> String {
    match (least, most) {
        (0, u64::MAX) => String::new(),
        (least, u64::MAX) => format!(" from {least} on"),
        (least, most) => format!(" from {least} to {most}"),
    }
}

fn parse_whole<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, NumberError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotWhole { least, most });
    }
    let number = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    (number.and_then(|number| T::try_from(number).ok())).ok_or_else(|| NumberError::OutOfRange {
        text: text.to_owned(),
        least,
        most,
    })
}

/// The largest number of a type of at most 64 bits.
fn most_of<T: TryFrom<u64>>() -> u64 {
    let mosts = [
        u64::MAX,
        u64::from(u32::MAX),
        u64::from(u16::MAX),
        u64::from(u8::MAX),
    ];
    let fits = |&most: &u64| T::try_from(most).is_ok();
    mosts.into_iter().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
        parse_whole(text, least, most).map_err(|error| error.to_string())
    }

    #[test]
    fn whole_numbers_are_those_of_their_range() {
        assert_eq!(parsed::<u32>("7", 1, 9), Ok(7));
        assert_eq!(parsed::<u32>("+9", 1, 9), Ok(9));
        assert_eq!(parsed("18446744073709551615", 0, u64::MAX), Ok(u64::MAX));
        for text in ["0", "10", "-1", "18446744073709551616"] {
            let problem = format!("{text} is not in 1..=9");
            assert_eq!(parsed::<u64>(text, 1, 9), Err(problem));
        }
    }

    #[test]
    fn what_is_no_number_is_told_what_one_would_be() {
        for text in [
            "", "-", "ten", "1k", "1.5", "1e3", "0x10", " 7", "7 ", "--7", "\u{0663}",
        ] {
            let problem = "not a whole number from 1 to 9: write digits only".to_owned();
            assert_eq!(parsed::<u64>(text, 1, 9), Err(problem), "{text:?}");
        }
        for (least, range) in [(0, ""), (1, " from 1 on")] {
            let problem = format!("not a whole number{range}: write digits only");
            assert_eq!(parsed::<u64>("ten", least, u64::MAX), Err(problem));
        }
        assert_eq!(with_point("1e-5"), Ok(1e-5));
        assert_eq!(with_point("1,5"), Err(NumberError::NoNumber));
    }

    #[test]
    fn an_open_range_ends_with_the_type() {
        assert_eq!(most_of::<u8>(), 255);
        assert_eq!(most_of::<u32>(), u64::from(u32::MAX));
        assert_eq!(most_of::<u64>(), u64::MAX);
    }
}
