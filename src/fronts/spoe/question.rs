//! What a message means, and why it means nothing.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::config::parse_span;
use crate::engine::Refusal;
use rmbd_proto::SketchName;
use rmbd_proto::compact::KEY_BYTES_MAX;
use rmbd_proto::spoe::{Message, Value};

/// Bytes of the longest word that is put before the names of variables: enough to tell messages apart.
pub(super) const PREFIX_BYTES_MAX: usize = 32;
/// Bytes of the longest text of an error. With it the answer to a message fits the smallest frame that HAProxy may
/// ask for.
pub(super) const ERROR_BYTES_MAX: usize = 100;
/// Bytes of a name that an error repeats at most.
const SHOWN_BYTES_MAX: usize = 32;

/// A message: how it is to be answered, and what it asks, if it is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'m> {
    pub(super) manner: Manner<'m>,
    pub(super) question: Result<Question<'m>, Problem>,
}

/// How a message is to be answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manner<'m> {
    /// What is put before the names of variables, with a `.` between; empty is nothing.
    pub(super) prefix: &'m str,
    /// What is allowed where there is no verdict: everything, or nothing.
    pub(super) fails_open: bool,
}

/// What a message asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'m> {
    pub(super) key: Cow<'m, [u8]>,
    pub(super) weight: u64,
    pub(super) limit: Limit<'m>,
}

/// The limit that a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit<'m> {
    /// One of the node.
    Named(&'m [u8]),
    /// One that the message says itself.
    Inline(Terms<'m>),
}

/// What a limit without a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms<'m> {
    pub(super) sketch: &'m [u8],
    /// The largest estimate that is within it.
    pub(super) limit: u64,
    /// Milliseconds; 0 is all time.
    pub(super) window_ms: u64,
    /// Whether nothing is added that is over it.
    pub(super) takes: bool,
}

/// Why there is no verdict. Nothing was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    text: Cow<'static, str>,
    /// It is the node's, and another time or another node may help.
    pub(super) is_of_node: bool,
}

/// What a message is called, up to what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Check,
    Hit,
    Take,
}

/// The arguments of a message.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'m> {
    key: Option<Value<'m>>,
    limit: Option<Value<'m>>,
    weight: Option<Value<'m>>,
    sketch: Option<Value<'m>>,
    window: Option<Value<'m>>,
    prefix: Option<Value<'m>>,
    fail: Option<Value<'m>>,
}

impl<'m> Asked<'m> {
    /// Reads a message.
    pub(super) fn read(message: &Message<'m>) -> Self {
        let (said, read) = Said::read(message);
        let (manner, can_be) = said.manner();
        let question = read.and(can_be).and_then(|()| {
            let kind = kind(message.name).ok_or_else(|| unknown_message(message.name))?;
            said.question(kind)
        });
        Self { manner, question }
    }
}

impl<'m> Said<'m> {
    /// All arguments, and whether they are those of a message.
    fn read(message: &Message<'m>) -> (Self, Result<(), Problem>) {
        let (mut said, mut outcome) = (Self::default(), Ok(()));
        for (name, value) in message.args() {
            let place = match name {
                b"key" => &mut said.key,
                b"limit" => &mut said.limit,
                b"weight" => &mut said.weight,
                b"sketch" => &mut said.sketch,
                b"window" => &mut said.window,
                b"as" => &mut said.prefix,
                b"fail" => &mut said.fail,
                other => {
                    outcome = outcome.and_then(|()| Err(unknown_argument(other)));
                    continue;
                }
            };
            if place.replace(value).is_some() {
                let twice = || Problem::refused(format!("{} is given twice", shown(name)));
                outcome = outcome.and_then(|()| Err(twice()));
            }
        }
        (said, outcome)
    }

    /// How to answer. What is wrong about that is told in the usual manner.
    fn manner(&self) -> (Manner<'m>, Result<(), Problem>) {
        let mut manner = Manner::default();
        let mut outcome = Ok(());
        match self.prefix.map(prefix) {
            None => {}
            Some(Some(prefix)) => manner.prefix = prefix,
            Some(None) => {
                outcome = Err(Problem::said("as is 1 to 32 letters, digits, '_' and '.'"));
            }
        }
        match self.fail {
            None | Some(Value::Text(b"closed")) => {}
            Some(Value::Text(b"open")) => manner.fails_open = true,
            Some(_) => outcome = Err(Problem::said("fail is open or closed")),
        }
        (manner, outcome)
    }

    fn question(&self, kind: Kind) -> Result<Question<'m>, Problem> {
        Ok(Question {
            key: self.key()?,
            weight: match self.weight {
                None => 1,
                Some(value) => {
                    let weight = number(&value);
                    weight.ok_or(Problem::said("weight is a number from 0 on"))?
                }
            },
            limit: match kind {
                Kind::Check => self.named_limit()?,
                Kind::Hit => Limit::Inline(self.terms(false)?),
                Kind::Take => Limit::Inline(self.terms(true)?),
            },
        })
    }

    fn key(&self) -> Result<Cow<'m, [u8]>, Problem> {
        let text = |text: String| Cow::Owned(text.into_bytes());
        let key = match self.key {
            None => return Err(Problem::said("no key: give key=src, or another sample")),
            // All visitors would share it.
            Some(Value::Null) => return Err(Problem::said("the key has no value in this request")),
            Some(Value::Text(bytes) | Value::Binary(bytes)) => Cow::Borrowed(bytes),
            Some(Value::Signed(number)) => text(number.to_string()),
            Some(Value::Unsigned(number)) => text(number.to_string()),
            Some(Value::Ipv4(address)) => text(address.to_string()),
            // A socket for both shows IPv4 clients as `::ffff:a.b.c.d`.
            Some(Value::Ipv6(address)) => text(IpAddr::V6(address).to_canonical().to_string()),
            Some(Value::Bool(_)) => {
                return Err(Problem::said(
                    "the key is a text, bytes, a number or an address",
                ));
            }
        };
        match key.len() {
            0 => Err(Problem::said("the key is empty in this request")),
            1..=KEY_BYTES_MAX => Ok(key),
            bytes => Err(Problem::refused(format!(
                "the key has {bytes} bytes, and may have {KEY_BYTES_MAX}: hash it"
            ))),
        }
    }

    fn named_limit(&self) -> Result<Limit<'m>, Problem> {
        if self.sketch.is_some() || self.window.is_some() {
            let text = "a limit with a name has its own sketch and window: leave these out";
            return Err(Problem::said(text));
        }
        match self.limit {
            Some(Value::Text(name)) => Ok(Limit::Named(name)),
            _ => Err(Problem::said(
                "limit is the name of a limit, such as str(api)",
            )),
        }
    }

    fn terms(&self, takes: bool) -> Result<Terms<'m>, Problem> {
        let limit = self.limit.as_ref().and_then(number);
        Ok(Terms {
            sketch: match self.sketch {
                None => SketchName::DEFAULT.as_bytes(),
                Some(Value::Text(name)) => name,
                Some(_) => return Err(Problem::said("sketch is a name, such as str(default)")),
            },
            limit: limit.ok_or(Problem::said(
                "limit is a number from 0 on, such as int(100)",
            ))?,
            window_ms: match self.window {
                None => 0,
                Some(window) => {
                    let window = span_ms(&window);
                    window.ok_or(Problem::said(
                        "window is a length of time, such as str(60s)",
                    ))?
                }
            },
            takes,
        })
    }
}

impl Problem {
    /// The node adds no more.
    pub(super) const ENDING: Self = Self::of_node("the node ends: ask another");
    /// More weight came than can be taken over.
    pub(super) const BUSY: Self = Self::of_node("the node takes no more at this moment: ask again");

    const fn of_node(text: &'static str) -> Self {
        Self {
            text: Cow::Borrowed(text),
            is_of_node: true,
        }
    }

    const fn said(text: &'static str) -> Self {
        Self {
            text: Cow::Borrowed(text),
            is_of_node: false,
        }
    }

    /// Something is wrong with the message.
    pub(super) fn refused(text: String) -> Self {
        Self {
            text: Cow::Owned(text),
            is_of_node: false,
        }
    }

    /// The engine has refused it.
    pub(super) fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exhausted(_) => Self::BUSY,
            other => Self::refused(other.to_string()),
        }
    }

    /// What HAProxy is told, [`ERROR_BYTES_MAX`] at most.
    pub(super) fn text(&self) -> &str {
        let mut end = self.text.len().min(ERROR_BYTES_MAX);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text[..end]
    }
}

/// What a message of this name is.
fn kind(name: &[u8]) -> Option<Kind> {
    let names = [
        (&b"rmbd-check"[..], Kind::Check),
        (b"rmbd-hit", Kind::Hit),
        (b"rmbd-take", Kind::Take),
    ];
    let is_one = |start: &[u8]| {
        let rest = name.strip_prefix(start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
    };
    let found = names.into_iter().find(|(start, _)| is_one(start));
    found.map(|(_, kind)| kind)
}

fn unknown_message(name: &[u8]) -> Problem {
    let name = shown(name);
    Problem::refused(format!(
        "no message {name}: there are rmbd-check, rmbd-hit and rmbd-take"
    ))
}

fn unknown_argument(name: &[u8]) -> Problem {
    let known = "key, limit, weight, sketch, window, as, fail";
    match name {
        b"" => Problem::refused(format!("an argument has no name: there are {known}")),
        name => Problem::refused(format!("no argument {}: there are {known}", shown(name))),
    }
}

/// A name in an error: what is no letter of ASCII is shown as `?`.
pub(super) fn shown(name: &[u8]) -> String {
    let shown = name.iter().take(SHOWN_BYTES_MAX).map(|byte| match byte {
        b'!'..=b'~' => char::from(*byte),
        _ => '?',
    });
    shown.collect()
}

/// A word that HAProxy takes in the name of a variable.
fn prefix(value: Value<'_>) -> Option<&str> {
    let Value::Text(word) = value else {
        return None;
    };
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.".contains(byte);
    let fits = (1..=PREFIX_BYTES_MAX).contains(&word.len()) && word.iter().all(is_part);
    str::from_utf8(word).ok().filter(|_| fits)
}

/// A number, or a text of digits, since HAProxy keeps some numbers as texts.
fn number(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Text(digits) => {
            let is_number = digits.iter().all(u8::is_ascii_digit);
            str::from_utf8(digits)
                .ok()
                .filter(|_| is_number)?
                .parse()
                .ok()
        }
        other => other.unsigned(),
    }
}

/// Milliseconds of a window; 0 is all time.
fn span_ms(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Text(b"0") | Value::Signed(0) | Value::Unsigned(0) => Some(0),
        Value::Text(text) => parse_span(str::from_utf8(text).ok()?).ok(),
        _ => None,
    }
}
