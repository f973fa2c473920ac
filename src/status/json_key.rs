//! Keys in JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A key in the form that every JSON document of this program has: a member `key` if its bytes are UTF-8, and else a
/// member `key_base64` (RFC 4648, 4: the standard alphabet, with padding), never both. So two keys never have the
/// same text, and the text determines the key's bytes.
///
/// It is flattened into the object about the key: `#[serde(flatten)] key: JsonKey<'_>`.
///
/// ```
/// use rmbd::status::JsonKey;
///
/// let json = |key: &[u8]| serde_json::to_string(&JsonKey::from(key)).unwrap();
/// assert_eq!(json("pérou".as_bytes()), r#"{"key":"pérou"}"#);
/// assert_eq!(json(b"\xff\xfe"), r#"{"key_base64":"//4="}"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "Members")]
pub struct JsonKey<'k>(Cow<'k, [u8]>);

impl JsonKey<'_> {
    /// The bytes of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'k> From<&'k [u8]> for JsonKey<'k> {
    fn from(key: &'k [u8]) -> Self {
        Self(Cow::Borrowed(key))
    }
}

impl From<Vec<u8>> for JsonKey<'_> {
    fn from(key: Vec<u8>) -> Self {
        Self(Cow::Owned(key))
    }
}

impl Serialize for JsonKey<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("JsonKey", 1)?;
        match std::str::from_utf8(&self.0) {
            Ok(text) => members.serialize_field("key", text)?,
            Err(_) => members.serialize_field("key_base64", &STANDARD.encode(&self.0))?,
        }
        members.end()
    }
}

#[derive(Deserialize)]
struct Members {
    key: Option<String>,
    key_base64: Option<String>,
}

/// The error for a document that does not name exactly one key.
#[derive(Debug, Error)]
enum NoKey {
    #[error("no member `key` or `key_base64`")]
    Missing,
    #[error("both `key` and `key_base64`")]
    Both,
    #[error("`key_base64`: {0}")]
    Base64(#[from] base64::DecodeError),
}

impl TryFrom<Members> for JsonKey<'_> {
    type Error = NoKey;

    fn try_from(members: Members) -> Result<Self, NoKey> {
        Ok(Self::from(match members {
            Members {
                key: Some(_),
                key_base64: Some(_),
            } => return Err(NoKey::Both),
            Members { key: Some(key), .. } => key.into_bytes(),
            Members {
                key_base64: Some(text),
                ..
            } => STANDARD.decode(text)?,
            _ => return Err(NoKey::Missing),
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// An object about a key, as documents have it.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct About {
        #[serde(flatten)]
        key: JsonKey<'static>,
        count: u64,
    }

    /// Keys that are text, bytes, or text with one wrong byte.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let text = any::<String>().prop_map(String::into_bytes);
        let spoilt = (any::<String>(), any::<u8>(), any::<prop::sample::Index>());
        let spoilt = spoilt.prop_map(|(text, byte, at)| {
            let mut bytes = text.into_bytes();
            bytes.insert(at.index(bytes.len() + 1), byte);
            bytes
        });
        prop_oneof![text, prop::collection::vec(any::<u8>(), 0..40), spoilt]
    }

    proptest! {
        #[test]
        fn from_the_text_follows_the_key(key in keys(), count in any::<u64>()) {
            let about = About { key: key.clone().into(), count };
            let text = serde_json::to_string(&about).unwrap();
            let read: About = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &about);
            prop_assert_eq!(read.key.bytes(), &key);
            let value: Value = serde_json::from_str(&text).unwrap();
            let is_text = std::str::from_utf8(&key).is_ok();
            prop_assert_eq!(value.get("key").is_some(), is_text);
            prop_assert_eq!(value.get("key_base64").is_some(), !is_text);
            prop_assert_eq!(value.as_object().unwrap().len(), 2);
        }

        #[test]
        fn different_keys_are_different_texts(one in keys(), other in keys()) {
            let text = |key: &[u8]| serde_json::to_string(&JsonKey::from(key)).unwrap();
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }
    }

    #[test]
    fn base64_is_the_standard_one_with_padding() {
        let text = serde_json::to_string(&JsonKey::from(&b"\xfb\xff\xfe\xff"[..])).unwrap();
        assert_eq!(text, r#"{"key_base64":"+//+/w=="}"#);
    }

    #[test]
    fn what_names_no_key_is_said() {
        for (text, word) in [
            (r#"{}"#, "no member"),
            (r#"{"key":"a","key_base64":"YQ=="}"#, "both"),
            (r#"{"key_base64":"YQ"}"#, "key_base64"),
            (r#"{"key_base64":"_w=="}"#, "key_base64"),
        ] {
            let error = serde_json::from_str::<JsonKey<'_>>(text).unwrap_err();
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }
}
