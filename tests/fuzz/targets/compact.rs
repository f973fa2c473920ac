//! Targets for requests and replies of the compact format.

use rmbd_proto::compact::{self, Answer, Operation, Problem, ReplyMalformed, Verdict};

/// The zero-copy reader of requests must see the same as a byte-wise one.
pub fn request(datagram: &[u8]) {
    assert_eq!(ours(datagram), naive(datagram));
}

/// The zero-copy reader of replies must see the same as a byte-wise one.
pub fn reply(datagram: &[u8]) {
    assert_eq!(our_reply(datagram), naive_reply(datagram));
}

#[derive(Debug, PartialEq)]
enum Seen {
    Rejected(Problem, Option<u32>),
    Header(u32, bool, u64, [Option<Vec<u8>>; 2], Option<[u64; 3]>),
    Add(Vec<u8>, u64),
    Count(Vec<u8>),
    Hit(Vec<u8>, [u64; 3]),
    Bounds(Vec<u8>),
    Info,
    Window(Vec<u8>, u64, bool),
    Limits(bool, bool, Vec<(u64, Vec<u8>, [u64; 3])>),
    Sketches(u64),
    HitByName(Vec<u8>, Vec<u8>, u64),
    Pardon(Vec<u8>, Vec<u8>, u64),
    Top([u64; 3]),
    Stopped(Problem, bool),
}

fn ours(datagram: &[u8]) -> Vec<Seen> {
    let request = match compact::request(datagram) {
        Ok(request) => request,
        Err(rejected) => return vec![Seen::Rejected(rejected.problem, rejected.id)],
    };
    let mut seen = vec![Seen::Header(
        request.id,
        request.acknowledge,
        request.sketch.0.into(),
        [request.token, request.cookie].map(|field| field.map(<[u8]>::to_vec)),
        request
            .once
            .map(|once| [once.boot.0, once.client, once.sequence]),
    )];
    seen.extend(request.operations().map(|operation| match operation {
        Ok(Operation::Add { key, weight }) => Seen::Add(key.to_vec(), weight),
        Ok(Operation::Count { key }) => Seen::Count(key.to_vec()),
        Ok(Operation::Hit {
            key,
            weight,
            limit,
            window_ms,
        }) => Seen::Hit(key.to_vec(), [weight, limit, window_ms]),
        Ok(Operation::Bounds { key }) => Seen::Bounds(key.to_vec()),
        Ok(Operation::Info) => Seen::Info,
        Ok(Operation::Window {
            key,
            window_ms,
            smooth,
        }) => Seen::Window(key.to_vec(), window_ms, smooth),
        Ok(Operation::Limits(limits)) => {
            let parts = limits.parts().map(|part| {
                let numbers = [part.weight, part.limit, part.window_ms];
                (part.sketch.0.into(), part.key.to_vec(), numbers)
            });
            let announced = parts.len();
            let parts: Vec<_> = parts.collect();
            assert_eq!(parts.len(), announced);
            Seen::Limits(limits.take, limits.bound, parts)
        }
        Ok(Operation::Sketches { first }) => Seen::Sketches(first),
        Ok(Operation::HitByName { name, key, weight }) => {
            Seen::HitByName(name.to_vec(), key.to_vec(), weight)
        }
        Ok(Operation::Pardon { name, key, for_ms }) => {
            Seen::Pardon(name.to_vec(), key.to_vec(), for_ms)
        }
        Ok(Operation::Top {
            window_ms,
            first,
            most,
        }) => Seen::Top([window_ms, first, most]),
        Err(stopped) => Seen::Stopped(stopped.problem, stopped.asks),
    }));
    seen
}

/// A reader that reads one byte after the other, and computes numbers as sums of their bits.
struct Naive<'a> {
    datagram: &'a [u8],
    at: usize,
}

impl Naive<'_> {
    fn byte(&mut self) -> Result<u8, Problem> {
        if self.at >= self.datagram.len() {
            return Err(Problem::CutOff);
        }
        self.at += 1;
        Ok(self.datagram[self.at - 1])
    }

    fn fixed(&mut self, bytes: u32) -> Result<u64, Problem> {
        let mut value = 0;
        for place in 0..bytes {
            value += u64::from(self.byte()?) * 256_u64.pow(place);
        }
        Ok(value)
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0_u128;
        for place in 0..10 {
            let byte = self.byte()?;
            value += u128::from(byte % 128) * 128_u128.pow(place);
            if byte < 128 {
                if place > 0 && byte == 0 || value >= 1 << 64 {
                    return Err(Problem::Varint);
                }
                return Ok(value as u64);
            }
        }
        Err(Problem::Varint)
    }

    fn string(&mut self, length: u64) -> Result<Vec<u8>, Problem> {
        (0..length).map(|_| self.byte()).collect()
    }

    fn key(&mut self) -> Result<Vec<u8>, Problem> {
        match self.varint()? {
            length @ 0..=1024 => self.string(length),
            _ => Err(Problem::KeyTooLong),
        }
    }

    fn name(&mut self) -> Result<Vec<u8>, Problem> {
        let length = self.byte()?;
        self.string(length.into())
    }

    fn limits(&mut self) -> Result<Seen, Problem> {
        let (flags, count) = (self.byte()?, self.byte()?);
        if flags > 3 {
            return Err(Problem::UnknownOperation);
        }
        if count == 0 || count > 8 {
            return Err(Problem::LimitParts);
        }
        let mut parts = Vec::new();
        for _ in 0..count {
            let (sketch, key) = (self.varint()?, self.key()?);
            let numbers = [self.varint()?, self.varint()?, self.varint()?];
            if sketch >= 1 << 32 {
                return Err(Problem::UnknownSketch);
            }
            parts.push((sketch, key, numbers));
        }
        Ok(Seen::Limits(flags % 2 == 1, flags >= 2, parts))
    }

    fn header(&mut self, id: u32, flags: u8) -> Result<Seen, Problem> {
        let sketch = self.varint()?;
        let mut token = None;
        if flags / 4 % 2 == 1 {
            let length = self.byte()?;
            token = Some(self.string(length.into())?);
        }
        let mut once = None;
        if flags / 2 % 2 == 1 {
            once = Some([self.fixed(8)?, self.fixed(8)?, self.varint()?]);
        }
        let mut cookie = None;
        if flags / 8 % 2 == 1 {
            let length = self.byte()?;
            cookie = Some(self.string(length.into())?);
        }
        let fields = [token, cookie];
        if sketch >= 1 << 32 {
            return Err(Problem::UnknownSketch);
        }
        Ok(Seen::Header(id, flags % 2 == 1, sketch, fields, once))
    }

    fn operation(&mut self, kind: u8) -> Result<Seen, Problem> {
        match kind {
            1 => Ok(Seen::Add(self.key()?, 1)),
            2 => Ok(Seen::Add(self.key()?, self.varint()?)),
            3 => Ok(Seen::Count(self.key()?)),
            4 => {
                let key = self.key()?;
                Ok(Seen::Hit(
                    key,
                    [self.varint()?, self.varint()?, self.varint()?],
                ))
            }
            5 => Ok(Seen::Bounds(self.key()?)),
            6 => Ok(Seen::Info),
            8 => {
                let (key, window_ms, flags) = (self.key()?, self.varint()?, self.byte()?);
                if flags > 1 {
                    return Err(Problem::UnknownOperation);
                }
                Ok(Seen::Window(key, window_ms, flags == 1))
            }
            9 => self.limits(),
            10 => Ok(Seen::Sketches(self.varint()?)),
            11 => Ok(Seen::HitByName(self.name()?, self.key()?, self.varint()?)),
            12 => Ok(Seen::Pardon(self.name()?, self.key()?, self.varint()?)),
            13 => Ok(Seen::Top([self.varint()?, self.varint()?, self.varint()?])),
            _ => Err(Problem::UnknownOperation),
        }
    }
}

fn naive(datagram: &[u8]) -> Vec<Seen> {
    if datagram.len() < 6 {
        return vec![Seen::Rejected(Problem::Short, None)];
    }
    let mut naive = Naive { datagram, at: 2 };
    let id = naive.fixed(4).unwrap() as u32;
    let rejected = |problem| vec![Seen::Rejected(problem, Some(id))];
    if datagram[0] != 0xc1 {
        return rejected(Problem::UnknownVersion);
    }
    if datagram[1] > 15 {
        return rejected(Problem::UnknownFlags);
    }
    let mut seen = match naive.header(id, datagram[1]) {
        Ok(header) => vec![header],
        Err(Problem::UnknownSketch) => return rejected(Problem::UnknownSketch),
        Err(_) => return rejected(Problem::Header),
    };
    while let Ok(kind) = naive.byte() {
        if kind == 0 {
            continue;
        }
        match naive.operation(kind) {
            Ok(operation) => seen.push(operation),
            Err(problem) => {
                seen.push(Seen::Stopped(problem, kind != 1 && kind != 2));
                break;
            }
        }
    }
    seen
}

#[derive(Debug, PartialEq)]
enum SeenReply {
    NotAReply,
    Head(u32, bool, u16, u8),
    Count(u64, bool),
    Hit(u64, bool, bool),
    Bounds([u64; 5], bool),
    Info([u64; 3], u32, [u8; 2], Vec<u8>, u16, Vec<u8>, u64),
    Cookie(Vec<u8>),
    Window(u64, [bool; 2], u32),
    Verdict(u8, [bool; 5], u8, [u64; 2], [u32; 2]),
    Pardon(u64),
    Sketches(u64, Vec<SeenSketch>),
    Top([bool; 2], [u64; 5], Vec<SeenKey>),
    Broken,
}

/// Estimate, certain, and the name.
type SeenKey = ([u64; 2], Option<Vec<u8>>);

#[derive(Debug, PartialEq)]
struct SeenSketch {
    name: Vec<u8>,
    /// Number, fingerprint, width, depth, hash.
    numbers: [u64; 5],
    windows: Vec<[u64; 3]>,
}

fn our_reply(datagram: &[u8]) -> Vec<SeenReply> {
    let reply = match compact::reply(datagram) {
        Ok(reply) => reply,
        Err(malformed) => {
            assert_eq!(malformed, ReplyMalformed::NotAReply);
            return vec![SeenReply::NotAReply];
        }
    };
    let head = reply.head;
    let mut seen = vec![SeenReply::Head(
        head.id,
        head.repeated,
        head.done,
        head.code,
    )];
    seen.extend(reply.answers().map(|answer| match answer {
        Ok(Answer::Count {
            estimate,
            incomplete,
        }) => SeenReply::Count(estimate, incomplete),
        Ok(Answer::Hit {
            estimate,
            incomplete,
            within,
        }) => SeenReply::Hit(estimate, incomplete, within),
        Ok(Answer::Bounds(bounds)) => SeenReply::Bounds(
            [
                bounds.estimate,
                bounds.likely_estimate,
                bounds.likely_lower,
                bounds.certain_lower,
                bounds.total_weight,
            ],
            bounds.incomplete,
        ),
        Ok(Answer::Info(info)) => SeenReply::Info(
            [info.boot.0, info.fingerprint, info.width],
            info.max_weight,
            [info.depth, info.hash],
            info.version.to_vec(),
            info.cluster_port,
            info.cookie.to_vec(),
            info.writer.0,
        ),
        Ok(Answer::Cookie(cookie)) => SeenReply::Cookie(cookie.to_vec()),
        Ok(Answer::Window(window)) => SeenReply::Window(
            window.estimate,
            [window.incomplete, window.overflowed],
            window.covered_ms,
        ),
        Ok(Answer::Limits(verdict)) => our_verdict(9, &verdict),
        Ok(Answer::HitByName(verdict)) => our_verdict(11, &verdict),
        Ok(Answer::Pardon { credit }) => SeenReply::Pardon(credit),
        Ok(Answer::Sketches(sketches)) => {
            let entries = sketches.entries().map(|(entry, windows)| SeenSketch {
                name: entry.name.to_vec(),
                numbers: [
                    entry.number.0.into(),
                    entry.fingerprint,
                    entry.width,
                    entry.depth.into(),
                    entry.hash.into(),
                ],
                windows: windows
                    .map(|window| [window.span_ms, window.step_ms, window.width])
                    .collect(),
            });
            SeenReply::Sketches(sketches.total, entries.collect())
        }
        Ok(Answer::Top(top)) => {
            let head = top.head;
            let numbers = [
                head.edition,
                head.age_ms.into(),
                head.complete_above,
                head.total_weight,
                head.listed,
            ];
            let entries = top.entries().map(|entry| {
                let numbers = [entry.estimate, entry.certain];
                (numbers, entry.name.map(<[u8]>::to_vec))
            });
            let flags = [head.incomplete, head.redacted];
            SeenReply::Top(flags, numbers, entries.collect())
        }
        Err(_) => SeenReply::Broken,
    }));
    seen
}

fn our_verdict(code: u8, verdict: &Verdict) -> SeenReply {
    let flags = [
        verdict.over,
        verdict.incomplete,
        verdict.unsure,
        verdict.overflowed,
        verdict.shadow,
    ];
    let numbers = [verdict.estimate, verdict.remaining];
    let times = [verdict.retry_after_ms, verdict.covered_ms];
    SeenReply::Verdict(code, flags, verdict.part, numbers, times)
}

/// Reads a reply by the table of the format's description.
fn naive_reply(datagram: &[u8]) -> Vec<SeenReply> {
    if datagram.len() < 9 || datagram.len() > 1400 || datagram[0] != 0xd1 {
        return vec![SeenReply::NotAReply];
    }
    let mut naive = Naive { datagram, at: 2 };
    let head = || -> Result<_, Problem> {
        Ok(SeenReply::Head(
            naive.fixed(4)? as u32,
            datagram[1] % 2 == 1,
            naive.fixed(2)? as u16,
            naive.byte()?,
        ))
    };
    let mut head = head;
    let mut seen = vec![head().expect("nine bytes")];
    while let Ok(tag) = naive.byte() {
        let answer = match naive.answer(tag) {
            Ok(Some(answer)) => answer,
            Ok(None) => continue,
            Err(_) => SeenReply::Broken,
        };
        let is_broken = answer == SeenReply::Broken;
        seen.push(answer);
        if is_broken {
            break;
        }
    }
    seen
}

impl Naive<'_> {
    /// `None` is an answer of a later version.
    fn answer(&mut self, tag: u8) -> Result<Option<SeenReply>, Problem> {
        if !(0x08..0x40).contains(&tag) {
            return self.older_answer(tag).map(Some);
        }
        let length = self.varint()?;
        let content = self.string(length)?;
        let mut content = Naive {
            datagram: &content,
            at: 0,
        };
        content.newer_answer(tag)
    }

    fn newer_answer(&mut self, tag: u8) -> Result<Option<SeenReply>, Problem> {
        Ok(Some(match tag {
            8 => {
                let flags = self.byte()?;
                let bits = [flags % 2 == 1, flags / 2 % 2 == 1];
                SeenReply::Window(self.fixed(8)?, bits, self.fixed(4)? as u32)
            }
            9 | 11 => {
                let (flags, part) = (self.byte()?, self.byte()?);
                let mut bits = [1, 2, 4, 8, 16].map(|bit| flags / bit % 2 == 1);
                if tag == 9 {
                    bits[4] = false;
                }
                let numbers = [self.fixed(8)?, self.fixed(8)?];
                let times = [self.fixed(4)? as u32, self.fixed(4)? as u32];
                SeenReply::Verdict(tag, bits, part, numbers, times)
            }
            10 => {
                let total = self.varint()?;
                let mut entries = Vec::new();
                while self.at < self.datagram.len() {
                    let length = self.varint()?;
                    let entry = self.string(length)?;
                    let mut entry = Naive {
                        datagram: &entry,
                        at: 0,
                    };
                    entries.push(entry.sketch()?);
                }
                SeenReply::Sketches(total, entries)
            }
            12 => SeenReply::Pardon(self.fixed(8)?),
            13 => {
                let flags = self.byte()?;
                let bits = [flags % 2 == 1, flags / 2 % 2 == 1];
                let numbers = [
                    self.fixed(8)?,
                    self.fixed(4)?,
                    self.fixed(8)?,
                    self.fixed(8)?,
                    self.varint()?,
                ];
                let mut entries = Vec::new();
                while self.at < self.datagram.len() {
                    let length = self.varint()?;
                    let entry = self.string(length)?;
                    let mut entry = Naive {
                        datagram: &entry,
                        at: 0,
                    };
                    entries.push(entry.key_of_list()?);
                }
                SeenReply::Top(bits, numbers, entries)
            }
            _ => return Ok(None),
        }))
    }

    fn key_of_list(&mut self) -> Result<SeenKey, Problem> {
        let numbers = [self.varint()?, self.varint()?];
        let name = match self.varint()? {
            0 => None,
            more => Some(self.string(more - 1)?),
        };
        Ok((numbers, name))
    }

    fn sketch(&mut self) -> Result<SeenSketch, Problem> {
        let number = self.fixed(4)?;
        let name = self.name()?;
        let (fingerprint, width) = (self.fixed(8)?, self.varint()?);
        let (depth, hash) = (self.byte()?.into(), self.byte()?.into());
        let mut windows = Vec::new();
        for _ in 0..self.varint()? {
            windows.push([self.varint()?, self.varint()?, self.varint()?]);
        }
        let numbers = [number, fingerprint, width, depth, hash];
        Ok(SeenSketch {
            name,
            numbers,
            windows,
        })
    }

    fn older_answer(&mut self, tag: u8) -> Result<SeenReply, Problem> {
        let incomplete = tag >= 0x80;
        match tag {
            0x03 | 0x83 => Ok(SeenReply::Count(self.fixed(8)?, incomplete)),
            0x04 | 0x84 => Ok(SeenReply::Hit(self.fixed(8)?, incomplete, true)),
            0x44 | 0xc4 => Ok(SeenReply::Hit(self.fixed(8)?, incomplete, false)),
            0x05 | 0x85 => {
                let mut numbers = [0; 5];
                for number in &mut numbers {
                    *number = self.fixed(8)?;
                }
                Ok(SeenReply::Bounds(numbers, incomplete))
            }
            0x06 => {
                let length = self.byte()?;
                let info = self.string(length.into())?;
                let mut info = Naive {
                    datagram: &info,
                    at: 0,
                };
                let numbers = [info.fixed(8)?, info.fixed(8)?, info.fixed(8)?];
                let max_weight = info.fixed(4)? as u32;
                let shape = [info.byte()?, info.byte()?];
                let length = info.byte()?;
                let version = info.string(length.into())?;
                let port = info.fixed(2);
                let cookie = port.and_then(|_| info.byte());
                let cookie = cookie.and_then(|length| info.string(length.into()));
                let writer = match cookie {
                    Ok(_) => info.fixed(8),
                    Err(problem) => Err(problem),
                };
                Ok(SeenReply::Info(
                    numbers,
                    max_weight,
                    shape,
                    version,
                    port.unwrap_or(0) as u16,
                    cookie.unwrap_or_default(),
                    writer.unwrap_or_default(),
                ))
            }
            0x07 => {
                let length = self.byte()?;
                Ok(SeenReply::Cookie(self.string(length.into())?))
            }
            _ => Ok(SeenReply::Broken),
        }
    }
}
