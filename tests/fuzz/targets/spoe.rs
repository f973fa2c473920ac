//! The target for frames of HAProxy.

use rmbd_proto::spoe::{Frame, FrameError, Hello, Value, next_frame};

/// Ours must see in pieces of a stream what a naive reader sees in the whole of it. The first byte says how large
/// frames may be, and how long the pieces are.
pub fn frames(input: &[u8]) {
    let &[how, ref stream @ ..] = input else {
        return;
    };
    let max = 256 << (how & 7);
    let naive = naive(stream, max);
    assert_eq!(ours(std::iter::once(stream), max), naive);
    let length = 1 + usize::from(how >> 3);
    assert_eq!(ours(stream.chunks(length), max), naive, "{length}");
}

/// Frames in words, and the number of the error that ended them.
type Seen = (Vec<String>, Option<u8>);

fn ours<'p>(pieces: impl Iterator<Item = &'p [u8]>, max: usize) -> Seen {
    let (mut waiting, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let next = next_frame(&waiting, max);
            let described = match next {
                Ok(None) => break,
                Ok(Some((bytes, end))) => Frame::parse(bytes).map(|frame| (describe(frame), end)),
                Err(error) => Err(error),
            };
            match described {
                Ok((text, end)) => {
                    seen.push(text);
                    waiting.drain(..end);
                }
                Err(error) => return (seen, Some(number(error))),
            }
        }
    }
    (seen, None)
}

fn number(error: FrameError) -> u8 {
    error.status_code() as u8
}

fn describe(frame: Frame<'_>) -> String {
    let notify = match frame {
        Frame::Hello(Hello {
            frame_bytes_max,
            has_pipelining,
            is_health_check,
        }) => return format!("hello {frame_bytes_max} {has_pipelining} {is_health_check}"),
        Frame::Disconnect => return "disconnect".to_owned(),
        Frame::Unknown => return "unknown".to_owned(),
        Frame::Notify(notify) => notify,
    };
    let mut text = format!("notify {} {}", notify.stream_id, notify.frame_id);
    for message in notify.messages() {
        text += &format!(" {:?}", message.name);
        for (name, value) in message.args() {
            text += &format!(" {name:?}={}", described(value));
        }
    }
    text
}

fn described(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Signed(value) => format!("signed {value}"),
        Value::Unsigned(value) => format!("unsigned {value}"),
        Value::Ipv4(address) => format!("address {:?}", address.octets()),
        Value::Ipv6(address) => format!("address {:?}", address.octets()),
        Value::Text(bytes) => format!("text {bytes:?}"),
        Value::Binary(bytes) => format!("binary {bytes:?}"),
    }
}

const MALFORMED: u8 = 4;

fn naive(stream: &[u8], max: usize) -> Seen {
    let (mut seen, mut at) = (Vec::new(), 0);
    while at + 4 <= stream.len() {
        let length = stream[at..at + 4]
            .iter()
            .fold(0, |length, byte| length * 256 + usize::from(*byte));
        if length > max {
            return (seen, Some(3));
        }
        if length < 7 {
            return (seen, Some(MALFORMED));
        }
        if at + 4 + length > stream.len() {
            break;
        }
        match one(&stream[at + 4..at + 4 + length]) {
            Ok(text) => seen.push(text),
            Err(error) => return (seen, Some(error)),
        }
        at += 4 + length;
    }
    (seen, None)
}

fn one(frame: &[u8]) -> Result<String, u8> {
    let kind = frame[0];
    if kind == 0 {
        return Err(10);
    }
    if kind > 3 {
        return Ok("unknown".to_owned());
    }
    if frame[4].is_multiple_of(2) {
        return Err(10);
    }
    let mut at = 5;
    let stream_id = varint(frame, &mut at)?;
    let frame_id = varint(frame, &mut at)?;
    if kind == 3 {
        let mut text = format!("notify {stream_id} {frame_id}");
        while at < frame.len() {
            text += &format!(" {:?}", string(frame, &mut at)?);
            let count = *frame.get(at).ok_or(MALFORMED)?;
            at += 1;
            for _ in 0..count {
                let name = string(frame, &mut at)?;
                text += &format!(" {name:?}={}", value(frame, &mut at)?.0);
            }
        }
        return Ok(text);
    }
    if stream_id != 0 || frame_id != 0 {
        return Err(MALFORMED);
    }
    let (mut versions, mut max, mut capabilities, mut check) = (None, None, None, false);
    while at < frame.len() {
        let name = string(frame, &mut at)?;
        let name: String = name.into_iter().map(char::from).collect();
        let (text, of) = value(frame, &mut at)?;
        if kind == 2 {
            continue;
        }
        match (&*name, of) {
            ("supported-versions", Of::Text(words)) => versions = Some(words),
            ("capabilities", Of::Text(words)) => capabilities = Some(words),
            ("max-frame-size", Of::Number(number)) => max = Some(number),
            ("healthcheck", Of::Bool) => check = text == "true",
            ("supported-versions" | "capabilities" | "max-frame-size" | "healthcheck", _) => {
                return Err(MALFORMED);
            }
            _ => {}
        }
    }
    if kind == 2 {
        return Ok("disconnect".to_owned());
    }
    let versions = versions.ok_or(5)?;
    let max = max.ok_or(6)?;
    let capabilities = capabilities.ok_or(7)?;
    let is_known = |version: &str| {
        let parts: Vec<&str> = version.split('.').collect();
        let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        parts.len() == 2
            && parts
                .iter()
                .all(|part| digits(part) && part.parse::<u64>().is_ok())
            && parts[0].trim_start_matches('0') == "2"
    };
    let trimmed = |word: &str| {
        word.trim_matches([' ', '\t', '\n', '\r', '\x0c'])
            .to_owned()
    };
    if !versions
        .split(',')
        .any(|version| is_known(&trimmed(version)))
    {
        return Err(8);
    }
    if !(256..1 << 32).contains(&max) {
        return Err(9);
    }
    let pipelining = capabilities
        .split(',')
        .any(|word| trimmed(word) == "pipelining");
    Ok(format!("hello {max} {pipelining} {check}"))
}

/// What a hello looks for in a value.
enum Of {
    Text(String),
    Number(i128),
    Bool,
    Other,
}

fn varint(frame: &[u8], at: &mut usize) -> Result<u64, u8> {
    let mut next = || {
        let byte = frame.get(*at).copied().ok_or(MALFORMED);
        *at += 1;
        byte
    };
    let first = next()?;
    let mut value = u128::from(first);
    let (mut place, mut has_more) = (16_u128, first >= 240);
    while has_more {
        let byte = next()?;
        value += u128::from(byte) * place;
        if value > u128::from(u64::MAX) {
            return Err(MALFORMED);
        }
        place *= 128;
        has_more = byte >= 128;
    }
    Ok(value as u64)
}

fn take(frame: &[u8], at: &mut usize, length: u64) -> Result<Vec<u8>, u8> {
    if length > (frame.len() - (*at).min(frame.len())) as u64 {
        return Err(MALFORMED);
    }
    let taken = frame[*at..*at + length as usize].to_vec();
    *at += length as usize;
    Ok(taken)
}

fn string(frame: &[u8], at: &mut usize) -> Result<Vec<u8>, u8> {
    let length = varint(frame, at)?;
    take(frame, at, length)
}

fn value(frame: &[u8], at: &mut usize) -> Result<(String, Of), u8> {
    let head = *frame.get(*at).ok_or(MALFORMED)?;
    *at += 1;
    let number = |sign: &str, number: i128| (format!("{sign} {number}"), Of::Number(number));
    Ok(match head % 16 {
        0 => ("null".to_owned(), Of::Other),
        1 => ((head / 16 % 2 == 1).to_string(), Of::Bool),
        2 => {
            let value = i128::from(varint(frame, at)?);
            let (half, whole) = (1_i128 << 31, 1_i128 << 32);
            let value = match value {
                0.. if value < half => value,
                _ if value < whole => value - whole,
                _ if value >= (1 << 64) - half => value - (1 << 64),
                _ => return Err(MALFORMED),
            };
            number("signed", value)
        }
        3 => match varint(frame, at)? {
            value if value < 1 << 32 => number("unsigned", value.into()),
            _ => return Err(MALFORMED),
        },
        4 => match i128::from(varint(frame, at)?) {
            value if value < 1 << 63 => number("signed", value),
            value => number("signed", value - (1 << 64)),
        },
        5 => number("unsigned", varint(frame, at)?.into()),
        6 => (format!("address {:?}", take(frame, at, 4)?), Of::Other),
        7 => (format!("address {:?}", take(frame, at, 16)?), Of::Other),
        8 => {
            let bytes = string(frame, at)?;
            let text = bytes.iter().map(|&byte| char::from(byte)).collect();
            (format!("text {bytes:?}"), Of::Text(text))
        }
        9 => (format!("binary {:?}", string(frame, at)?), Of::Other),
        _ => return Err(MALFORMED),
    })
}
