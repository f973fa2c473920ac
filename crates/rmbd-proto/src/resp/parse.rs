//! The parser of commands.

use super::inline::next_word;
use super::integer::integer;
use super::{COMMAND_BYTES_MAX, CommandLimits, INLINE_BYTES_MAX, ProtocolError, WORDS_MAX};

/// Bytes of the longest number that is looked at, with its sign.
const NUMBER_BYTES_MAX: usize = 20;
/// Bytes of the end of a line.
const END_BYTES: usize = 2;

/// How far one connection's command at hand was understood. It is as good as new whenever it has returned a command,
/// or that there is [none](Parsed::Nothing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandParser {
    /// What lies before this byte of the command was understood.
    at: usize,
    /// Words that are still to come.
    left: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Start,
    Inline,
    Words,
}

/// What was found at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A command that ends before byte `end`. [`Words`] has its words.
    Command {
        /// Bytes of the command.
        end: usize,
    },
    /// An empty command, which is not answered.
    Nothing {
        /// Bytes of it.
        end: usize,
    },
    /// The beginning of a command.
    More,
}

/// The words of the command that was parsed last, on whichever connection. It allocates when it is made, and never
/// again.
#[derive(Debug)]
pub struct Words {
    /// Where words begin and end.
    places: Vec<(u32, u32)>,
    /// The words of an inline command without their quotes.
    unquoted: Vec<u8>,
    is_inline: bool,
}

/// The words of a command, at least one.
#[derive(Debug, Clone, Copy)]
pub struct Command<'b> {
    bytes: &'b [u8],
    places: &'b [(u32, u32)],
}

impl Default for Words {
    fn default() -> Self {
        Self {
            places: Vec::with_capacity(WORDS_MAX),
            unquoted: Vec::with_capacity(INLINE_BYTES_MAX),
            is_inline: false,
        }
    }
}

impl Words {
    /// The command that was parsed last, from these bytes.
    #[inline]
    #[must_use]
    pub fn of<'b>(&'b self, bytes: &'b [u8]) -> Command<'b> {
        Command {
            bytes: if self.is_inline {
                &self.unquoted
            } else {
                bytes
            },
            places: &self.places,
        }
    }

    #[inline]
    fn begin(&mut self) {
        self.places.clear();
        self.is_inline = false;
    }
}

impl<'b> Command<'b> {
    /// Number of words.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no command is empty")]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// A word, or nothing behind the last.
    #[inline]
    #[must_use]
    pub fn word(&self, at: usize) -> &'b [u8] {
        self.places.get(at).map_or(&[], |place| self.at(place))
    }

    /// All words.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'b [u8]> + Clone + use<'b> {
        let Self { bytes, places } = *self;
        places
            .iter()
            .map(move |place| Self { bytes, places }.at(place))
    }

    #[inline]
    fn at(&self, &(start, end): &(u32, u32)) -> &'b [u8] {
        self.bytes
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }
}

impl CommandParser {
    /// Looks for a command at the start of `bytes`: all that its connection has sent and that was not yet taken. Where
    /// it ends with [`Parsed::More`], the next call gets the same bytes and more behind them.
    ///
    /// # Errors
    /// [`ProtocolError`]: nothing that comes on this connection can be understood any more.
    #[inline]
    pub fn next(
        &mut self,
        bytes: &[u8],
        limits: CommandLimits,
        words: &mut Words,
    ) -> Result<Parsed, ProtocolError> {
        let is_new = self.stage == Stage::Start;
        if is_new {
            words.begin();
            let Some(parsed) = self.start(bytes, limits)? else {
                return self.go_on(bytes, limits, words, true);
            };
            return Ok(parsed);
        }
        self.go_on(bytes, limits, words, false)
    }

    /// Looks how a command begins; `None` where it goes on.
    #[inline]
    fn start(
        &mut self,
        bytes: &[u8],
        limits: CommandLimits,
    ) -> Result<Option<Parsed>, ProtocolError> {
        match bytes.first() {
            None => return Ok(Some(Parsed::More)),
            Some(b'*') => {}
            Some(_) => {
                self.stage = Stage::Inline;
                return Ok(None);
            }
        }
        let Some((count, end)) = number(bytes, 1, ProtocolError::WordCount)? else {
            return Ok(Some(Parsed::More));
        };
        let Ok(count @ 1..) = usize::try_from(count) else {
            return Ok(Some(Parsed::Nothing { end }));
        };
        if count > limits.words {
            return Err(match limits.is_for_strangers {
                true => ProtocolError::WordCountOfStranger,
                false => ProtocolError::WordCount,
            });
        }
        *self = Self {
            at: end,
            left: count,
            stage: Stage::Words,
        };
        Ok(None)
    }

    #[inline]
    fn go_on(
        &mut self,
        bytes: &[u8],
        limits: CommandLimits,
        words: &mut Words,
        is_new: bool,
    ) -> Result<Parsed, ProtocolError> {
        match self.stage {
            Stage::Inline => self.inline(bytes, words),
            _ => self.words(bytes, limits, words, is_new),
        }
    }

    /// Goes over the words that are still to come. `is_new`: all of this command's words are in `words`.
    #[inline]
    fn words(
        &mut self,
        bytes: &[u8],
        limits: CommandLimits,
        words: &mut Words,
        is_new: bool,
    ) -> Result<Parsed, ProtocolError> {
        while self.left > 0 {
            let Some((start, end)) = word(bytes, self.at, limits)? else {
                return Ok(Parsed::More);
            };
            if is_new {
                // Below 2^32, as `COMMAND_BYTES_MAX` is.
                words.places.push((start as u32, end as u32));
            }
            self.at = end + END_BYTES;
            self.left -= 1;
        }
        let end = self.at;
        *self = Self::default();
        if is_new {
            return Ok(Parsed::Command { end });
        }
        // It came in pieces, between which others may have used `words`. Now that all of it is here, once more.
        self.next(bytes, limits, words)
    }

    fn inline(&mut self, bytes: &[u8], words: &mut Words) -> Result<Parsed, ProtocolError> {
        let looked = bytes.get(self.at..).unwrap_or_default();
        let found = looked.iter().position(|&byte| byte == b'\n');
        let line_bytes = self.at + found.unwrap_or(looked.len());
        if line_bytes > INLINE_BYTES_MAX {
            return Err(ProtocolError::InlineTooLong);
        }
        if found.is_none() {
            self.at = line_bytes;
            return Ok(Parsed::More);
        }
        let end = line_bytes + 1;
        *self = Self::default();
        words.begin();
        words.is_inline = true;
        words.unquoted.clear();
        let mut line = bytes.get(..line_bytes).unwrap_or_default();
        loop {
            let start = words.unquoted.len() as u32;
            let Some(()) = next_word(&mut line, &mut words.unquoted)? else {
                break;
            };
            words.places.push((start, words.unquoted.len() as u32));
        }
        Ok(match words.places.is_empty() {
            true => Parsed::Nothing { end },
            false => Parsed::Command { end },
        })
    }
}

/// Where the word begins and ends whose length stands at this place; `None` where it is not all there.
#[inline]
fn word(
    bytes: &[u8],
    at: usize,
    limits: CommandLimits,
) -> Result<Option<(usize, usize)>, ProtocolError> {
    match bytes.get(at) {
        None => return Ok(None),
        Some(b'$') => {}
        Some(&other) => return Err(ProtocolError::NoLength(other)),
    }
    let Some((length, start)) = number(bytes, at + 1, ProtocolError::WordLength)? else {
        return Ok(None);
    };
    let length = usize::try_from(length).map_err(|_| ProtocolError::WordLength)?;
    if length > limits.word_bytes {
        return Err(match limits.is_for_strangers {
            true => ProtocolError::WordLengthOfStranger,
            false => ProtocolError::WordLength,
        });
    }
    let end = start + length;
    if end + END_BYTES > COMMAND_BYTES_MAX {
        return Err(ProtocolError::TooLong);
    }
    match bytes.get(end..end + END_BYTES) {
        Some(b"\r\n") => Ok(Some((start, end))),
        Some(_) => Err(ProtocolError::WordEnd),
        None => Ok(None),
    }
}

/// The number that stands at a place, and where the line behind it ends; `None` where that is not there yet.
#[inline]
fn number(
    bytes: &[u8],
    start: usize,
    wrong: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    // Most lengths have one or two digits.
    if let Some(&[digit @ b'1'..=b'9', b'\r', b'\n']) = bytes.get(start..start + 3) {
        return Ok(Some((i64::from(digit - b'0'), start + 3)));
    }
    if let Some(&[ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', b'\n']) = bytes.get(start..start + 4)
    {
        let value = i64::from(ten - b'0') * 10 + i64::from(one - b'0');
        return Ok(Some((value, start + 4)));
    }
    any_number(bytes, start, wrong)
}

fn any_number(
    bytes: &[u8],
    start: usize,
    wrong: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let line = bytes.get(start..).unwrap_or_default();
    let is_digit = |&byte: &u8| byte.is_ascii_digit() || byte == b'-';
    let digits = line
        .iter()
        .take(NUMBER_BYTES_MAX + 1)
        .take_while(|byte| is_digit(byte));
    let length = digits.count();
    match line.get(length..) {
        _ if length > NUMBER_BYTES_MAX => Err(wrong),
        None | Some([] | [b'\r']) => Ok(None),
        Some([b'\r', b'\n', ..]) => {
            let value = integer(line.get(..length).unwrap_or_default()).ok_or(wrong)?;
            Ok(Some((value, start + length + END_BYTES)))
        }
        Some(_) => Err(wrong),
    }
}
