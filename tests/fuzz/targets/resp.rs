//! The target for commands of Redis's protocol.

use rmbd_proto::resp::{
    COMMAND_BYTES_MAX, CommandLimits, CommandParser, INLINE_BYTES_MAX, Parsed, ProtocolError,
    WORD_BYTES_MAX, WORDS_MAX, Words,
};

/// The parser must see in pieces of a stream what a naive one sees in the whole of it. The first byte says how long
/// the pieces are, and who sends them.
pub fn commands(input: &[u8]) {
    let &[how, ref stream @ ..] = input else {
        return;
    };
    let is_stranger = how & 1 == 1;
    let limits = match is_stranger {
        true => CommandLimits::BEFORE_PASSWORD,
        false => CommandLimits::FULL,
    };
    let naive = naive(stream, is_stranger);
    let seed = usize::from(how >> 1);
    let whole = ours(std::iter::once(stream), limits);
    assert_eq!(whole, naive);
    assert_eq!(ours(pieces(stream, seed), limits), naive, "{seed}");
}

/// Pieces of lengths that look random.
fn pieces(stream: &[u8], mut seed: usize) -> impl Iterator<Item = &[u8]> {
    let mut left = stream;
    std::iter::from_fn(move || {
        seed = seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e);
        let length = (1 + (seed >> 40) % 23).min(left.len());
        let (piece, rest) = left.split_at(length);
        left = rest;
        (length > 0).then_some(piece)
    })
}

type Seen = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn ours<'p>(pieces: impl Iterator<Item = &'p [u8]>, limits: CommandLimits) -> Seen {
    let (mut parser, mut words) = (CommandParser::default(), Words::default());
    let (mut waiting, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            match parser.next(&waiting, limits, &mut words) {
                Ok(Parsed::More) => break,
                Ok(Parsed::Nothing { end }) => drop(waiting.drain(..end)),
                Ok(Parsed::Command { end }) => {
                    seen.push(words.of(&waiting).iter().map(<[u8]>::to_vec).collect());
                    waiting.drain(..end);
                }
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

/// A line up to its end, as text where it is one.
fn line(stream: &[u8], start: usize) -> Option<(String, usize)> {
    let end = (start..stream.len()).find(|&at| stream[at] == b'\n')?;
    let text: String = stream[start..end]
        .iter()
        .map(|&byte| char::from(byte))
        .collect();
    Some((text, end + 1))
}

/// A number with the end of a line behind it: `Ok(None)` where more has to come.
fn number(stream: &[u8], start: usize) -> Result<Option<(i64, usize)>, ()> {
    let mut digits = String::new();
    let mut at = start;
    while at < stream.len() && (stream[at] == b'-' || stream[at].is_ascii_digit()) {
        digits.push(char::from(stream[at]));
        at += 1;
    }
    if digits.len() > 20 {
        return Err(());
    }
    match stream.get(at..) {
        None | Some([] | [b'\r']) => Ok(None),
        Some([b'\r', b'\n', ..]) => {
            let value: i64 = digits.parse().map_err(|_| ())?;
            // One number is written in one way.
            if value.to_string() == digits {
                Ok(Some((value, at + 2)))
            } else {
                Err(())
            }
        }
        Some(_) => Err(()),
    }
}

fn naive(stream: &[u8], is_stranger: bool) -> Seen {
    let mut seen = Vec::new();
    let mut start = 0;
    while start < stream.len() {
        let found = if stream[start] == b'*' {
            list(stream, start, is_stranger)
        } else {
            inline(stream, start)
        };
        match found {
            Err(error) => return (seen, Some(error)),
            Ok(None) => break,
            Ok(Some((words, end))) => {
                if !words.is_empty() {
                    seen.push(words);
                }
                start = end;
            }
        }
    }
    (seen, None)
}

type Found = Result<Option<(Vec<Vec<u8>>, usize)>, ProtocolError>;

fn list(stream: &[u8], start: usize, is_stranger: bool) -> Found {
    let Some((count, mut at)) = number(stream, start + 1).map_err(|()| ProtocolError::WordCount)?
    else {
        return Ok(None);
    };
    if count > 10 && is_stranger {
        return Err(ProtocolError::WordCountOfStranger);
    }
    if count > WORDS_MAX as i64 {
        return Err(ProtocolError::WordCount);
    }
    let mut words = Vec::new();
    for _ in 0..count.max(0) {
        match stream.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::NoLength(other)),
        }
        let length = number(stream, at + 1).map_err(|()| ProtocolError::WordLength)?;
        let Some((length, begin)) = length else {
            return Ok(None);
        };
        if length > 16_384 && is_stranger {
            return Err(ProtocolError::WordLengthOfStranger);
        }
        if length < 0 || length > WORD_BYTES_MAX as i64 {
            return Err(ProtocolError::WordLength);
        }
        let end = begin + length as usize;
        if end + 2 - start > COMMAND_BYTES_MAX {
            return Err(ProtocolError::TooLong);
        }
        if stream.len() < end + 2 {
            return Ok(None);
        }
        if stream[end] != b'\r' || stream[end + 1] != b'\n' {
            return Err(ProtocolError::WordEnd);
        }
        words.push(stream[begin..end].to_vec());
        at = end + 2;
    }
    Ok(Some((words, at)))
}

fn inline(stream: &[u8], start: usize) -> Found {
    let Some((text, end)) = line(stream, start) else {
        return match stream.len() - start > INLINE_BYTES_MAX {
            true => Err(ProtocolError::InlineTooLong),
            false => Ok(None),
        };
    };
    if text.chars().count() > INLINE_BYTES_MAX {
        return Err(ProtocolError::InlineTooLong);
    }
    let chars: Vec<char> = text.chars().collect();
    let is_blank = |c: char| " \t\n\r\x0b\x0c".contains(c);
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if is_blank(chars[at]) {
            at += 1;
            continue;
        }
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            let rest = &chars[at.min(chars.len())..];
            match (quote, rest) {
                (None, []) => break,
                (None, [c, ..]) if is_blank(*c) => break,
                (None, [c @ ('"' | '\''), ..]) => {
                    quote = Some(*c);
                    at += 1;
                }
                (Some(_), []) => return Err(ProtocolError::Quotes),
                (Some('"'), ['\\', 'x', a, b, ..])
                    if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() =>
                {
                    let digits: String = [*a, *b].iter().collect();
                    word.push(u8::from_str_radix(&digits, 16).unwrap());
                    at += 4;
                }
                (Some('"'), ['\\', c, ..]) => {
                    let escapes = [('n', 10), ('r', 13), ('t', 9), ('b', 8), ('a', 7)];
                    let known = escapes.iter().find(|(name, _)| name == c);
                    word.push(known.map_or(*c as u8, |(_, byte)| *byte));
                    at += 2;
                }
                (Some('\''), ['\\', '\'', ..]) => {
                    word.push(b'\'');
                    at += 2;
                }
                (Some(q), [c, after @ ..]) if *c == q => {
                    if after.first().is_some_and(|&c| !is_blank(c)) {
                        return Err(ProtocolError::Quotes);
                    }
                    at += 1;
                    break;
                }
                (_, [c, ..]) => {
                    word.push(*c as u8);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
    Ok(Some((words, end)))
}
