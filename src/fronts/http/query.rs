//! Parameters of questions, with percent-encoded bytes (RFC 3986, 2.1). A plus is a plus.

use thiserror::Error;

/// Why a query has no parameters that are understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ParameterError {
    #[error("no such parameter")]
    Unknown,
    #[error("{0} is given twice")]
    Twice(&'static str),
    #[error("a % stands before two hexadecimal digits")]
    Encoding,
}

/// The values of these parameters, each at most once and in any order.
pub(super) fn parameters<const N: usize>(
    query: &str,
    names: [&'static str; N],
) -> Result<[Option<Vec<u8>>; N], ParameterError> {
    let mut values = [const { None }; N];
    if query.is_empty() {
        return Ok(values);
    }
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let mut places = names.iter().zip(&mut values);
        let place = places.find(|(known, _)| **known == name);
        let (name, place) = place.ok_or(ParameterError::Unknown)?;
        let value = percent_decoded(value).ok_or(ParameterError::Encoding)?;
        if place.replace(value).is_some() {
            return Err(ParameterError::Twice(name));
        }
    }
    Ok(values)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let ([high, low], after) = rest.split_first_chunk()?;
        // Both digits are at most 15.
        decoded.push((digit(high)? * 16 + digit(low)?) as u8);
        rest = after;
    }
    Some(decoded)
}
