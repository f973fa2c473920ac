//! Inline commands: words with blanks between them, which may stand in quotes.

use super::ProtocolError;

/// Takes the next word off a line, and writes it behind `out` without its quotes; `None` at the line's end.
///
/// In `"` stand escapes: `\n`, `\r`, `\t`, `\b`, `\a`, `\x` with two hexadecimal digits, and else the byte behind the
/// `\`. In `'` stands only `\'`. Behind a closing quote comes a blank, or the end.
pub(super) fn next_word(line: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<()>, ProtocolError> {
    let start = line.iter().position(|&byte| !is_blank(byte));
    let Some(start) = start else {
        *line = &[];
        return Ok(None);
    };
    *line = &line[start..];
    loop {
        match line {
            [] => break,
            [byte, ..] if is_blank(*byte) => break,
            [b'"', rest @ ..] => return in_double_quotes(line, rest, out).map(Some),
            [b'\'', rest @ ..] => return in_single_quotes(line, rest, out).map(Some),
            [byte, rest @ ..] => {
                out.push(*byte);
                *line = rest;
            }
        }
    }
    Ok(Some(()))
}

fn in_double_quotes<'l>(
    line: &mut &'l [u8],
    mut rest: &'l [u8],
    out: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    loop {
        match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = after;
            }
            [b'\\', byte, after @ ..] => {
                out.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = after;
            }
            [b'"', after @ ..] => return behind_quotes(line, after),
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
            [] => return Err(ProtocolError::Quotes),
        }
    }
}

fn in_single_quotes<'l>(
    line: &mut &'l [u8],
    mut rest: &'l [u8],
    out: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    loop {
        match rest {
            [b'\\', b'\'', after @ ..] => {
                out.push(b'\'');
                rest = after;
            }
            [b'\'', after @ ..] => return behind_quotes(line, after),
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
            [] => return Err(ProtocolError::Quotes),
        }
    }
}

fn behind_quotes<'l>(line: &mut &'l [u8], after: &'l [u8]) -> Result<(), ProtocolError> {
    match after.first() {
        Some(byte) if !is_blank(*byte) => Err(ProtocolError::Quotes),
        _ => {
            *line = after;
            Ok(())
        }
    }
}

/// As C has it: vertical tab and form feed are among them.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}
