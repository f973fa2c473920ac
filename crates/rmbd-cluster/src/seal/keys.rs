//! The cluster's keys: the text file that holds them, and the key of a channel.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::Channel;

/// Keys in a file. A rotation takes two; each further one costs every stranger's datagram a try.
pub const KEYS_MAX: usize = 8;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Sets keys of channels apart from whatever else a cluster key may be used for.
const SALT: &[u8] = b"rmbd cluster channel";

/// The key where there is none. Everybody knows it: it keeps accidents away, not people.
const PUBLIC_KEY: &[u8; KEY_BYTES] = b"rmbd public key: hides nothing..";

/// The keys of a cluster: the first one seals, all of them open.
///
/// Clones share the secrets, which are wiped when the last one goes.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Prk>,
    public: bool,
}

/// A fault of a key file's text. No message shows any part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Nothing but comments and blank lines.
    #[error("the key file has no key: put one in it, made by `rmbd keygen`")]
    Empty,
    /// More keys than [`KEYS_MAX`].
    #[error("line {line} of the key file is key number {}: at most {KEYS_MAX} are allowed, remove old ones", KEYS_MAX + 1)]
    TooMany {
        /// Line of the first key too many, from 1 on.
        line: usize,
    },
    /// Not 64 characters.
    #[error(
        "line {line} of the key file has {characters} characters: a key is 64 hex digits (as of `rmbd keygen`), a comment starts with #"
    )]
    Length {
        /// The line, from 1 on.
        line: usize,
        /// How many there are, without a comment and the space around.
        characters: usize,
    },
    /// 64 characters, but not all of them hex digits.
    #[error(
        "line {line} of the key file has something else than a hex digit as character {character} of the key"
    )]
    NotHex {
        /// The line, from 1 on.
        line: usize,
        /// The first such character's position in the key, from 1 on.
        character: usize,
    },
    /// The same key twice: a rotation that did not happen.
    #[error("line {line} of the key file repeats the key of line {first}: remove one of them")]
    Repeated {
        /// The second line, from 1 on.
        line: usize,
        /// The line that has the key too.
        first: usize,
    },
}

impl KeyRing {
    /// Reads a key file's text: one key a line, as 64 hex digits; `#` starts a comment; blank lines do
    /// not count. The first key seals, all 1 to [`KEYS_MAX`] open.
    ///
    /// To rotate without a stop, give every node `old, new`, then every node `new, old`, then only `new`.
    ///
    /// # Errors
    /// [`KeyFileError`], with the line.
    ///
    /// ```
    /// use rmbd_cluster::seal::{KeyRing, generate_key_text};
    ///
    /// // Use the operating system's random bytes.
    /// let text = format!("# since May\n{}\n", generate_key_text([7; 32]));
    /// assert_eq!(KeyRing::parse(&text)?.len(), 1);
    /// # Ok::<(), rmbd_cluster::seal::KeyFileError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut secrets = Secrets::default();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            if !text.is_empty() {
                secrets.push(line, text)?;
            }
        }
        if secrets.0.is_empty() {
            return Err(KeyFileError::Empty);
        }
        let keys = secrets
            .0
            .iter()
            .map(|(_, secret)| extract(secret))
            .collect();
        Ok(Self {
            keys,
            public: false,
        })
    }

    /// Whether both seal with the same key.
    #[must_use]
    pub fn seals_like(&self, other: &Self) -> bool {
        self.name(0) == other.name(0)
    }

    /// The ring of clusters without a key file; everybody has it.
    #[must_use]
    pub fn public() -> Self {
        Self {
            keys: vec![extract(PUBLIC_KEY)],
            public: true,
        }
    }

    /// Whether everybody has this ring.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.public
    }

    /// Number of keys, from 1 to [`KEYS_MAX`].
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a ring is never empty")]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Where another ring has this ring's key number `index`.
    pub(super) fn position_in(&self, other: &Self, index: usize) -> Option<usize> {
        let name = self.name(index);
        (0..other.len()).find(|&at| other.name(at) == name)
    }

    /// What tells keys apart without being one. No channel's key is derived from as many bytes.
    fn name(&self, index: usize) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        self.keys[index]
            .expand(&[b"name"], KeyBytes)
            .and_then(|name| name.fill(&mut bytes))
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        bytes
    }

    /// The key of a channel, from the ring's key number `index`, which must be below [`Self::len`].
    pub(super) fn channel_key(&self, index: usize, channel: Channel) -> LessSafeKey {
        let mut bytes = self.channel_key_bytes(index, channel);
        let key = UnboundKey::new(&AES_256_GCM, &bytes);
        wipe(&mut bytes);
        LessSafeKey::new(key.expect("AES-256 takes a key of 32 bytes"))
    }

    pub(super) fn channel_key_bytes(&self, index: usize, channel: Channel) -> [u8; KEY_BYTES] {
        let (boot, id) = (channel.boot.0.to_le_bytes(), channel.id.to_le_bytes());
        let mut bytes = [0; KEY_BYTES];
        self.keys[index]
            .expand(&[&boot, &id], KeyBytes)
            .and_then(|key| key.fill(&mut bytes))
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        bytes
    }
}

/// The same keys in the same order.
impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        let names = (0..self.len()).map(|index| self.name(index));
        self.public == other.public && names.eq((0..other.len()).map(|index| other.name(index)))
    }
}

impl Eq for KeyRing {}

/// Neither keys nor anything derived from them.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("len", &self.len())
            .field("public", &self.public)
            .finish()
    }
}

/// A key file's line with this key, without a line end. `random` must come from a cryptographic source.
#[must_use]
pub fn generate_key_text(random: [u8; 32]) -> String {
    use fmt::Write as _;
    random
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Keys as they are read, with their lines; wiped at the end.
#[derive(Default)]
struct Secrets(Vec<(usize, [u8; KEY_BYTES])>);

impl Secrets {
    fn push(&mut self, line: usize, text: &str) -> Result<(), KeyFileError> {
        if self.0.len() == KEYS_MAX {
            return Err(KeyFileError::TooMany { line });
        }
        let secret = parse_key(line, text)?;
        if let Some(&(first, _)) = self.0.iter().find(|(_, known)| *known == secret) {
            return Err(KeyFileError::Repeated { line, first });
        }
        self.0.push((line, secret));
        Ok(())
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        for (_, secret) in &mut self.0 {
            wipe(secret);
        }
    }
}

fn parse_key(line: usize, text: &str) -> Result<[u8; KEY_BYTES], KeyFileError> {
    let characters = text.chars().count();
    if characters != 2 * KEY_BYTES {
        return Err(KeyFileError::Length { line, characters });
    }
    let mut secret = [0; KEY_BYTES];
    for (position, character) in text.chars().enumerate() {
        let Some(digit) = character.to_digit(16) else {
            let character = position + 1;
            return Err(KeyFileError::NotHex { line, character });
        };
        // A hex digit is below 16.
        secret[position / 2] = secret[position / 2] << 4 | digit as u8;
    }
    Ok(secret)
}

fn extract(secret: &[u8; KEY_BYTES]) -> Prk {
    Salt::new(HKDF_SHA256, SALT).extract(secret)
}

/// Zeroes that the compiler may not leave out because nobody reads them.
fn wipe(secret: &mut [u8; KEY_BYTES]) {
    secret.fill(0);
    std::hint::black_box(secret);
}

/// The length of a derived key.
struct KeyBytes;

impl KeyType for KeyBytes {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rmbd_proto::Boot;

    const CHANNEL: Channel = Channel {
        boot: Boot(1),
        id: 2,
    };

    fn line(key: u8) -> String {
        generate_key_text([key; 32])
    }

    fn channel_keys(ring: &KeyRing) -> Vec<[u8; KEY_BYTES]> {
        let key = |index| ring.channel_key_bytes(index, CHANNEL);
        (0..ring.len()).map(key).collect()
    }

    #[test]
    fn a_key_is_a_line_of_64_hex_digits() {
        let random = std::array::from_fn(|at| at as u8 * 7);
        let text = generate_key_text(random);
        assert!(text.starts_with("00070e15") && text.len() == 64);
        let mut secrets = Secrets::default();
        secrets.push(1, &text).unwrap();
        assert_eq!(secrets.0, [(1, random)]);
        secrets.0.clear();
        secrets.push(1, &text.to_uppercase()).unwrap();
        assert_eq!(secrets.0, [(1, random)]);
    }

    #[test]
    fn comments_blank_lines_and_line_ends_do_not_count() {
        let plain = KeyRing::parse(&format!("{}\n{}", line(1), line(2))).unwrap();
        let text = format!(
            "# both\r\n\r\n  {}\t# new\r\n   \n#{}\n{}#old\n\n",
            line(1),
            line(9),
            line(2)
        );
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(ring.len(), 2);
        assert_eq!(channel_keys(&ring), channel_keys(&plain));
    }

    #[test]
    fn channels_have_keys_of_their_own() {
        let ring = KeyRing::parse(&format!("{}\n{}", line(1), line(2))).unwrap();
        let mut keys = channel_keys(&ring);
        for channel in [
            Channel {
                boot: Boot(2),
                id: 1,
            },
            Channel {
                boot: Boot(1),
                id: 3,
            },
            Channel {
                boot: Boot(0),
                id: 2,
            },
        ] {
            keys.push(ring.channel_key_bytes(0, channel));
        }
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let many: String = (0..=KEYS_MAX as u8).map(|key| line(key) + "\n").collect();
        let allowed = many.lines().take(KEYS_MAX).collect::<Vec<_>>().join("\n");
        assert_eq!(KeyRing::parse(&allowed).unwrap().len(), KEYS_MAX);
        let cases = [
            (String::new(), KeyFileError::Empty),
            ("\n# nothing\n".to_owned(), KeyFileError::Empty),
            (many, KeyFileError::TooMany { line: KEYS_MAX + 1 }),
            (
                format!("\n{}", &line(1)[1..]),
                KeyFileError::Length {
                    line: 2,
                    characters: 63,
                },
            ),
            (
                format!("{}\n{}0 # long", line(1), line(2)),
                KeyFileError::Length {
                    line: 2,
                    characters: 65,
                },
            ),
            (
                format!("{}é", &line(1)[2..]),
                KeyFileError::Length {
                    line: 1,
                    characters: 63,
                },
            ),
            (
                format!("{}é0", &line(1)[2..]),
                KeyFileError::NotHex {
                    line: 1,
                    character: 63,
                },
            ),
            (
                format!("#\n#\n+{}", &line(1)[1..]),
                KeyFileError::NotHex {
                    line: 3,
                    character: 1,
                },
            ),
            (
                format!("{}\n\n{}\n{}", line(1), line(2), line(1)),
                KeyFileError::Repeated { line: 4, first: 1 },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(KeyRing::parse(&text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn messages_name_the_line_and_show_no_key() {
        let secret = line(0xa5);
        let texts = [
            format!("#\n{secret}\n{secret}"),
            format!("#\n#\n{secret}{secret}"),
            format!("#\n#\nz{}", &secret[1..]),
        ];
        for text in texts {
            let error = KeyRing::parse(&text).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(shown.contains('3'), "{shown}");
                assert!(!shown.contains("a5"), "{shown}");
            }
        }
    }
}
