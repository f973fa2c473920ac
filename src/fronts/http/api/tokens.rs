//! The tokens that clients show.

use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::{is_secret, open_secret};

/// Bytes of a token: fewer can be guessed, and more do not fit the head of a request.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;
/// Largest size of a file in bytes; usual ones have some hundred bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The tokens of a node. Each of them is as good as the others, so that they can be changed one client at a time.
#[derive(Default)]
pub(crate) struct Tokens(Vec<Box<[u8]>>);

/// Why a file gives no tokens. Nothing was started.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("can't read --http-token-file {}: {source}; `rmbd keygen --token -o FILE` makes one", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It has no token.
    #[error(
        "--http-token-file {} has no token: write one a line, such as what `rmbd keygen --token` prints", path.display()
    )]
    Empty {
        /// The path of the file.
        path: PathBuf,
    },
    /// A line is no token.
    #[error(
        "--http-token-file {}: line {line} is no token of 16 to 1024 letters, digits and -._~+/=: `rmbd keygen --token` \
         makes one", path.display()
    )]
    Line {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads a file of tokens, one a line; `#` begins a comment.
    ///
    /// # Errors
    /// Fails with [`TokenFileError`].
    pub(crate) fn read(path: &Path) -> Result<Self, TokenFileError> {
        let unreadable = |source| TokenFileError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = open_secret(path, "add").map_err(unreadable)?;
        let mut text = String::new();
        let mut start = file.take(FILE_BYTES_MAX);
        start.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text).map_err(|line| match line {
            None => TokenFileError::Empty {
                path: path.to_owned(),
            },
            Some(line) => TokenFileError::Line {
                path: path.to_owned(),
                line,
            },
        })
    }

    /// The error is the number of a line that is no token, or `None` where there is none.
    pub(super) fn parse(text: &str) -> Result<Self, Option<usize>> {
        let mut tokens = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            match text.as_bytes() {
                [] => {}
                token if is_token(token) => tokens.push(token.into()),
                _ => return Err(Some(line)),
            }
        }
        if tokens.is_empty() {
            return Err(None);
        }
        Ok(Self(tokens))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them. All are compared, and each to its end, so that the time tells nothing but
    /// lengths.
    pub(super) fn have(&self, shown: &[u8]) -> bool {
        let same = self
            .0
            .iter()
            .map(|token| black_box(is_secret(token, shown)));
        same.fold(false, |found, same| found | same)
    }
}

/// The characters of RFC 6750, 2.1.
fn is_token(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    TOKEN_BYTES.contains(&text.len()) && text.iter().all(is_part)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";
    const OTHER: &str = "YWJjZGVmZ2hpamtsbW5vcA==";

    #[test]
    fn each_line_is_a_token() {
        let text = format!("# of two clients\r\n\n {ONE} # one\n{OTHER}\n");
        let tokens = Tokens::parse(&text).unwrap();
        for (shown, is_one) in [
            (ONE, true),
            (OTHER, true),
            ("0123456789abcdee", false),
            ("0123456789abcdef0", false),
            ("0123456789abcde", false),
            ("", false),
        ] {
            assert_eq!(tokens.have(shown.as_bytes()), is_one, "{shown}");
        }
        assert!(!Tokens::default().have(b""));
        assert!(!format!("{tokens:?}").contains(ONE));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (text, line) in [
            ("", None),
            ("# only a comment\n", None),
            ("0123456789abcde", Some(1)),
            ("0123456789abcdef\n0123456789 bcdef", Some(2)),
            ("0123456789abcdéf", Some(1)),
            (&"a".repeat(1025), Some(1)),
        ] {
            assert_eq!(Tokens::parse(text).unwrap_err(), line, "{text}");
        }
        let error = Tokens::read(Path::new("/nowhere")).unwrap_err();
        assert!(
            error.to_string().contains("rmbd keygen --token -o FILE"),
            "{error}"
        );
    }
}
