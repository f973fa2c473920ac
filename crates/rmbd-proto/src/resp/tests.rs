//! Tests of the parser and of replies. What is generated is in `tests/fuzz`, with a naive parser beside this one.

#![allow(clippy::unwrap_used)]

use super::*;

type Seen = Result<Vec<Vec<Vec<u8>>>, ProtocolError>;

/// The commands of a stream that comes in these pieces.
fn commands<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, limits: CommandLimits) -> Seen {
    let (mut parser, mut words) = (CommandParser::default(), Words::default());
    let (mut waiting, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let end = match parser.next(&waiting, limits, &mut words)? {
                Parsed::More => break,
                Parsed::Nothing { end } => end,
                Parsed::Command { end } => {
                    let command = words.of(&waiting);
                    assert_eq!(command.len(), command.iter().len());
                    assert_eq!(command.word(command.len()), b"");
                    seen.push(command.iter().map(<[u8]>::to_vec).collect());
                    end
                }
            };
            assert_eq!(parser, CommandParser::default());
            waiting.drain(..end);
        }
    }
    Ok(seen)
}

/// Whole, in two pieces cut at every place, and byte by byte.
fn in_all_ways(bytes: &[u8], limits: CommandLimits) -> Seen {
    let whole = commands([bytes], limits);
    for cut in 0..=bytes.len() {
        let (first, rest) = bytes.split_at(cut);
        assert_eq!(commands([first, rest], limits), whole, "cut at {cut}");
    }
    assert_eq!(commands(bytes.chunks(1), limits), whole);
    whole
}

#[test]
fn commands_come_out_however_they_are_cut() {
    for (bytes, expected) in [
        (&b"*1\r\n$4\r\nPING\r\n"[..], &[&[&b"PING"[..]][..]][..]),
        (b"PING\r\n", &[&[b"PING"]]),
        (b"ping\n", &[&[b"ping"]]),
        (
            b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n*1\r\n$1\r\n\0\r\n",
            &[&[b"ECHO", b""], &[b"\0"]],
        ),
        (b"\r\n\n  \r\n*0\r\n*-1\r\n*-7\r\nA\r\n", &[&[b"A"]]),
        (
            b"*2\r\n$12\r\n*1\r\n$1\r\nx\r\n\xff\r\n$1\r\n\n\r\nB c\r\n",
            &[&[b"*1\r\n$1\r\nx\r\n\xff", b"\n"], &[b"B", b"c"]],
        ),
        (
            b" set  \"a b\\x41\\n\\q\" 'it\\'s' \"\" x\"y\"\t\x0b\r\r\n",
            &[&[b"set", b"a bA\nq", b"it's", b"", b"xy"]],
        ),
        (b"*1\r\n$4\r\nPI", &[]),
    ] {
        let expected: Vec<Vec<Vec<u8>>> = (expected.iter())
            .map(|words| words.iter().map(|word| word.to_vec()).collect())
            .collect();
        assert_eq!(in_all_ways(bytes, CommandLimits::FULL), Ok(expected));
    }
}

#[test]
fn what_is_no_command_is_told_in_the_words_of_redis() {
    let words = |count: usize| format!("*{count}\r\n").into_bytes();
    let word = |bytes: usize| format!("*1\r\n${bytes}\r\n").into_bytes();
    for (bytes, expected) in [
        (b"*x\r\n".to_vec(), "invalid multibulk length"),
        (b"*\r\n".to_vec(), "invalid multibulk length"),
        (b"*01\r\n".to_vec(), "invalid multibulk length"),
        (b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
        (b"*1\rx".to_vec(), "invalid multibulk length"),
        ([b"*", &[b'1'; 21][..]].concat(), "invalid multibulk length"),
        (words(WORDS_MAX + 1), "invalid multibulk length"),
        (b"*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (b"*1\r\n\r\n".to_vec(), "expected '$', got '?'"),
        (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$1x\r\n".to_vec(), "invalid bulk length"),
        (word(WORD_BYTES_MAX + 1), "invalid bulk length"),
        (
            b"*1\r\n$1\r\nxyz".to_vec(),
            "a bulk does not end where its length says",
        ),
        (b"\"a\r\n".to_vec(), "unbalanced quotes in request"),
        (b"'a'b\r\n".to_vec(), "unbalanced quotes in request"),
    ] {
        let error = in_all_ways(&bytes, CommandLimits::FULL).unwrap_err();
        assert_eq!(error.to_string(), format!("Protocol error: {expected}"));
    }
    for (bytes, expected) in [
        (words(11), "unauthenticated multibulk length"),
        (word(16_385), "unauthenticated bulk length"),
    ] {
        let error = in_all_ways(&bytes, CommandLimits::BEFORE_PASSWORD).unwrap_err();
        assert_eq!(error.to_string(), format!("Protocol error: {expected}"));
        assert_eq!(in_all_ways(&bytes, CommandLimits::FULL), Ok(Vec::new()));
    }
}

#[test]
fn a_command_is_bounded_as_a_whole() {
    let word = [
        format!("${WORD_BYTES_MAX}\r\n").as_bytes(),
        &[b'x'; WORD_BYTES_MAX],
        b"\r\n",
    ]
    .concat();
    let fits = COMMAND_BYTES_MAX / word.len();
    let of = |words: usize| [format!("*{words}\r\n").into_bytes(), word.repeat(words)].concat();
    assert_eq!(
        commands([&of(fits)[..]], CommandLimits::FULL).unwrap()[0].len(),
        fits
    );
    let error = commands([&of(fits + 1)[..]], CommandLimits::FULL);
    assert_eq!(error, Err(ProtocolError::TooLong));
}

#[test]
fn an_inline_command_ends_in_time() {
    let longest = vec![b'x'; INLINE_BYTES_MAX];
    let more = [&longest[..], b"y"].concat();
    assert_eq!(commands([&longest[..]], CommandLimits::FULL), Ok(vec![]));
    assert_eq!(
        commands([&longest[..], b"\n"], CommandLimits::FULL),
        Ok(vec![vec![longest.clone()]])
    );
    for end in [&b""[..], b"\n"] {
        let error = commands([&more[..], end], CommandLimits::FULL);
        assert_eq!(error, Err(ProtocolError::InlineTooLong));
    }
}

/// A command of a million bytes comes byte by byte. That would take minutes if each byte were looked at as often as a
/// later one comes.
#[test]
fn small_pieces_cost_no_more_than_large_ones() {
    let keys = 30_000;
    let mut bytes = format!("*{keys}\r\n").into_bytes();
    bytes.extend(b"$26\r\nabcdefghijklmnopqrstuvwxyz\r\n".repeat(keys));
    assert!(bytes.len() > 900_000 && bytes.len() < COMMAND_BYTES_MAX);
    for bytes in [bytes, vec![b'x'; INLINE_BYTES_MAX]] {
        let (mut parser, mut words) = (CommandParser::default(), Words::default());
        for end in 0..bytes.len() {
            let parsed = parser.next(&bytes[..end], CommandLimits::FULL, &mut words);
            assert_eq!(parsed, Ok(Parsed::More), "{end}");
        }
    }
}

#[test]
fn numbers_have_one_form() {
    for (text, value) in [
        ("0", 0),
        ("7", 7),
        ("-1", -1),
        ("4294967296", 1 << 32),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(integer(text.as_bytes()), Some(value));
    }
    for text in [
        "",
        "-",
        "-0",
        "00",
        "01",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "1\0",
    ] {
        assert_eq!(integer(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn replies_of_both_versions() {
    let written = |version| {
        let mut out = Vec::new();
        let mut reply = ReplyWriter::new(&mut out, version);
        reply.map(1);
        reply.simple("count");
        reply.integer(1_234_567_890);
        reply.array(3);
        reply.integer(0);
        reply.integer(10);
        reply.integer(u64::MAX);
        reply.bulk(b"a\r\nb");
        reply.error(b"ERR two\r\nlines");
        reply.signed(-1);
        reply.signed(i64::MIN);
        reply.null();
        reply.boolean(true);
        reply.double("0.9");
        reply.text(b"ab");
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written(Version::Resp2),
        "*2\r\n+count\r\n:1234567890\r\n*3\r\n:0\r\n:10\r\n:9223372036854775807\r\n$4\r\na\r\nb\r\n\
         -ERR two  lines\r\n:-1\r\n:-9223372036854775808\r\n$-1\r\n:1\r\n$3\r\n0.9\r\n$2\r\nab\r\n"
    );
    assert_eq!(
        written(Version::Resp3),
        "%1\r\n+count\r\n:1234567890\r\n*3\r\n:0\r\n:10\r\n:9223372036854775807\r\n$4\r\na\r\nb\r\n\
         -ERR two  lines\r\n:-1\r\n:-9223372036854775808\r\n_\r\n#t\r\n,0.9\r\n=6\r\ntxt:ab\r\n"
    );
    let mut out = Vec::new();
    ReplyWriter::new(&mut out, Version::Resp2).integer(u64::MAX);
    assert_eq!(out.len(), INTEGER_REPLY_BYTES_MAX);
}
