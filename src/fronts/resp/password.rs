//! The password of clients.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::{is_secret, open_secret};
use rmbd_io::BindError;
use rmbd_names::Unresolved;

/// Bytes of the longest password.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Why a node cannot serve Redis's protocol as it was told to. It has not started.
#[derive(Debug, thiserror::Error)]
pub enum RespError {
    /// The address cannot be looked up.
    #[error("--resp: {0}")]
    Resolve(#[from] Unresolved),
    /// The address cannot be bound.
    #[error("--resp: {0}")]
    Bind(#[from] BindError),
    /// Everybody could reach the address and count.
    #[error(
        "--resp {0} is not loopback, so that anybody may count there: name those who may with --allow ADDRESS/BITS, or \
         ask them for a password with --resp-password-file FILE"
    )]
    Open(SocketAddr),
    /// The file of the password cannot be read.
    #[error("can't read --resp-password-file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has no password, or none that can be.
    #[error(
        "--resp-password-file {} has no password: write it into the first line, 1 to {PASSWORD_BYTES_MAX} bytes",
        path.display()
    )]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
}

/// A password, which is compared in a time that does not depend on what is right of it.
pub(super) struct Password(Box<[u8]>);

impl Password {
    /// Reads the first line of a file.
    pub(super) fn read(path: &Path) -> Result<Self, RespError> {
        let unreadable = |source| RespError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = open_secret(path, "count").map_err(unreadable)?;
        let mut bytes = Vec::new();
        let mut start = file.take(PASSWORD_BYTES_MAX as u64 + 2);
        start.read_to_end(&mut bytes).map_err(unreadable)?;
        let line = bytes.split(|&byte| byte == b'\n').next();
        let line = line.unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.len() > PASSWORD_BYTES_MAX {
            return Err(RespError::NoPassword {
                path: path.to_owned(),
            });
        }
        Ok(Self(line.into()))
    }

    /// Whether this is it. The time depends on the length of `given` alone.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        is_secret(&self.0, given)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &[u8]) -> Result<Password, RespError> {
        let name = format!("rmbd-resp-password-{}-{}", std::process::id(), text.len());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let password = Password::read(&path);
        std::fs::remove_file(&path).unwrap();
        password
    }

    #[test]
    fn a_password_is_the_first_line_and_all_of_it_counts() {
        for text in [&b"secret"[..], b"secret\n", b"secret\r\nmore\n"] {
            let password = read(text).unwrap();
            assert!(password.is(b"secret"));
            for wrong in [&b""[..], b"secre", b"secret ", b"Secret", b"secretsecret"] {
                assert!(!password.is(wrong), "{wrong:?}");
            }
            assert_eq!(format!("{password:?}"), "Password");
        }
        for text in [
            &b""[..],
            b"\n",
            b"\nsecret",
            &[b'x'; PASSWORD_BYTES_MAX + 1],
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains("has no password"), "{error}");
        }
        assert!(read(&[b'x'; PASSWORD_BYTES_MAX]).is_ok());
        let missing = Password::read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(missing.to_string().contains("can't read"), "{missing}");
    }
}
