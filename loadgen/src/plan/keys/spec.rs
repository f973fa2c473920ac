//! Specifications of keys, as the command line names them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rand_distr::Zipf;
use thiserror::Error;

/// The keys of a run: `uniform:N`, `zipf:S:N`, `sequential:N`, `file:PATH` or `-`.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySpec {
    /// Each of `keys` keys comes with the same probability.
    Uniform {
        /// Number of different keys, at least 1.
        keys: u64,
    },
    /// Key *i* (from 1) comes with a probability in proportion to *i*^-exponent.
    Zipf {
        /// The exponent, not below 0.
        exponent: f64,
        /// Number of different keys, 1 to 2^53.
        keys: u64,
    },
    /// Each of `keys` keys comes in turn.
    Sequential {
        /// Number of different keys, at least 1.
        keys: u64,
    },
    /// The lines of a file come in order.
    File(PathBuf),
    /// The lines of standard input come in order. It is read to its end before the run.
    Stdin,
}

/// Largest number of ranks. A larger rank is not exact in the arithmetic of the distribution.
const ZIPF_KEYS_MAX: u64 = 1 << f64::MANTISSA_DIGITS;

/// The error for a text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySpecError {
    /// The text has another form.
    #[error(
        "not a key stream: write uniform:N, zipf:S:N, sequential:N, file:PATH, or - for standard input"
    )]
    Form,
    /// The number of keys is missing or wrong.
    #[error("the number of keys must be a whole number from 1, such as 1000000")]
    Keys,
    /// The exponent is missing or wrong.
    #[error("zipf's exponent must be a number from 0, such as 1.1, and its keys at most 2^53")]
    Zipf,
}

impl FromStr for KeySpec {
    type Err = KeySpecError;

    fn from_str(text: &str) -> Result<Self, KeySpecError> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let (form, rest) = text.split_once(':').ok_or(KeySpecError::Form)?;
        match form {
            "uniform" => Ok(Self::Uniform { keys: keys(rest)? }),
            "sequential" => Ok(Self::Sequential { keys: keys(rest)? }),
            "zipf" => zipf_spec(rest),
            "file" if !rest.is_empty() => Ok(Self::File(rest.into())),
            _ => Err(KeySpecError::Form),
        }
    }
}

fn keys(text: &str) -> Result<u64, KeySpecError> {
    let text = text.replace('_', "");
    text.parse()
        .ok()
        .filter(|&keys| keys > 0)
        .ok_or(KeySpecError::Keys)
}

fn zipf_spec(text: &str) -> Result<KeySpec, KeySpecError> {
    let (exponent, rest) = text.split_once(':').ok_or(KeySpecError::Form)?;
    let keys = keys(rest)?;
    match exponent.parse() {
        Ok(exponent) if f64::is_finite(exponent) && exponent >= 0.0 && keys <= ZIPF_KEYS_MAX => {
            Ok(KeySpec::Zipf { exponent, keys })
        }
        _ => Err(KeySpecError::Zipf),
    }
}

/// The distribution of a [`KeySpec::Zipf`].
pub(super) fn zipf(exponent: f64, keys: u64) -> Zipf<f64> {
    Zipf::new(keys.max(1) as f64, exponent.max(0.0))
        .expect("at least one key and an exponent that is not negative")
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { keys } => write!(f, "uniform:{keys}"),
            Self::Zipf { exponent, keys } => write!(f, "zipf:{exponent}:{keys}"),
            Self::Sequential { keys } => write!(f, "sequential:{keys}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Stdin => f.write_str("-"),
        }
    }
}
