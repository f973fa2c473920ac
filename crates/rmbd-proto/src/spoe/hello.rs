//! The first frame of HAProxy (3.2.4).

use super::frame::Items;
use super::value::Value;
use super::{FRAME_BYTES_MIN, FrameError};

/// The major version that is spoken here.
const MAJOR: u64 = 2;

/// The first frame of a connection, of a HAProxy that this agent can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Bytes of the largest frame that HAProxy takes, [`FRAME_BYTES_MIN`] at least.
    pub frame_bytes_max: u32,
    /// It sends frames before the ones before have been acknowledged.
    pub has_pipelining: bool,
    /// It only looks whether there is an agent, and the connection ends with the answer.
    pub is_health_check: bool,
}

impl Hello {
    /// Reads the items. One that comes twice is what it says last, and others are left out.
    pub(super) fn of(items: Items<'_>) -> Result<Self, FrameError> {
        let (mut versions, mut frame_bytes_max, mut capabilities) = (None, None, None);
        let mut is_health_check = false;
        for item in items {
            match item? {
                (b"supported-versions", Value::Text(text)) => versions = Some(text),
                (b"capabilities", Value::Text(text)) => capabilities = Some(text),
                (b"healthcheck", Value::Bool(value)) => is_health_check = value,
                (b"max-frame-size", value @ (Value::Signed(_) | Value::Unsigned(_))) => {
                    frame_bytes_max = Some(value.unsigned());
                }
                (
                    b"supported-versions" | b"capabilities" | b"healthcheck" | b"max-frame-size",
                    _,
                ) => return Err(FrameError::Malformed),
                _ => {}
            }
        }
        let versions = versions.ok_or(FrameError::NoVersion)?;
        let frame_bytes_max = frame_bytes_max.ok_or(FrameError::NoFrameSize)?;
        let capabilities = capabilities.ok_or(FrameError::NoCapabilities)?;
        if !list(versions).any(is_known_version) {
            return Err(FrameError::UnsupportedVersion);
        }
        let frame_bytes_max = frame_bytes_max.and_then(|bytes| u32::try_from(bytes).ok());
        let frame_bytes_max = frame_bytes_max.filter(|&bytes| bytes >= FRAME_BYTES_MIN as u32);
        Ok(Self {
            frame_bytes_max: frame_bytes_max.ok_or(FrameError::FrameSize)?,
            has_pipelining: list(capabilities).any(|word| word == b"pipelining"),
            is_health_check,
        })
    }
}

/// The words between commas, without spaces.
fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether this is one of ours: whoever speaks a version speaks all of the same major one before it.
fn is_known_version(version: &[u8]) -> bool {
    let mut parts = version.splitn(2, |&byte| byte == b'.').map(number);
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    major == Some(MAJOR) && minor.is_some()
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()
}
