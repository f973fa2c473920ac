//! Replies to commands.

/// Bytes of the longest reply that is a number.
pub const INTEGER_REPLY_BYTES_MAX: usize = 1 + DIGITS_MAX + 2;
/// Digits of the largest number that a reply can have, 2^63 - 1.
const DIGITS_MAX: usize = 19;
/// Room for the digits of any `u64` and the end of a line.
const LINE_BYTES: usize = 20 + 2;

/// Which of the two versions a client has asked for. They write the same things differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// The one that connections begin with.
    #[default]
    Resp2,
    /// The one with maps, truth values and a null of its own.
    Resp3,
}

/// Writes replies behind what is there. It allocates only where the room of `out` does not suffice.
#[derive(Debug)]
pub struct ReplyWriter<'o> {
    out: &'o mut Vec<u8>,
    version: Version,
}

impl<'o> ReplyWriter<'o> {
    /// A writer for a client of this version.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// A word such as `OK`, without ends of lines.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error; its first word is a code. Ends of lines in it become blanks.
    pub fn error(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    /// A number, at most 2^63 - 1.
    #[inline]
    pub fn integer(&mut self, value: u64) {
        self.head(b':', value.min(i64::MAX as u64));
    }

    /// A number that may be below 0.
    pub fn signed(&mut self, value: i64) {
        if value < 0 {
            self.out.extend_from_slice(b":-");
            self.number(value.unsigned_abs());
        } else {
            self.head(b':', value.unsigned_abs());
        }
    }

    /// Any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A text for people.
    pub fn text(&mut self, text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.head(b'=', text.len() as u64 + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A number that is no whole one, in digits.
    pub fn double(&mut self, digits: &str) {
        match self.version {
            Version::Resp2 => self.bulk(digits.as_bytes()),
            Version::Resp3 => self.line(b',', digits.as_bytes()),
        }
    }

    /// Yes or no.
    pub fn boolean(&mut self, value: bool) {
        let text: &[u8] = match (self.version, value) {
            (Version::Resp2, false) => b":0\r\n",
            (Version::Resp2, true) => b":1\r\n",
            (Version::Resp3, false) => b"#f\r\n",
            (Version::Resp3, true) => b"#t\r\n",
        };
        self.out.extend_from_slice(text);
    }

    /// Nothing.
    pub fn null(&mut self) {
        let text: &[u8] = match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        };
        self.out.extend_from_slice(text);
    }

    /// The head of a list: so many replies follow.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.head(b'*', length as u64);
    }

    /// The head of a map: so many pairs of replies follow.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.array(2 * pairs),
            Version::Resp3 => self.head(b'%', pairs as u64),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let shown = text.iter().map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => *byte,
        });
        self.out.extend(shown);
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn head(&mut self, kind: u8, number: u64) {
        // Most have one digit, and are written as one word.
        if number < 10 {
            let line = [kind, b'0' + number as u8, b'\r', b'\n'];
            return self.out.extend_from_slice(&line);
        }
        self.out.push(kind);
        self.number(number);
    }

    /// A number, and the end of the line.
    #[inline]
    fn number(&mut self, number: u64) {
        let (mut line, mut start, mut left) = ([0; LINE_BYTES], LINE_BYTES - 2, number);
        line[start..].copy_from_slice(b"\r\n");
        loop {
            start -= 1;
            line[start] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 || start == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&line[start..]);
    }
}
