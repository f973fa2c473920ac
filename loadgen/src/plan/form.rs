//! Sizes of messages and datagrams, computed by the product's own writers.

use rmbd_proto::Boot;
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::{
    COOKIE_FIELD_BYTES_MAX, Header, KEY_BYTES_MAX, LimitPart, Limits, Once, RequestWriter,
    WriteError,
};
use rmbd_proto::legacy::MESSAGE_BYTES;

use super::format::{DATAGRAM_BYTES, Format};
use super::mode::{Mode, Reading};
use super::script::Kind;

/// A socket sends fewer requests than this in any run. Larger sequences take more bytes.
const SEQUENCE_MAX: u64 = (1 << 35) - 1;

/// Everything that the size of a message depends on, besides its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    pub(crate) format: Format,
    pub(crate) mode: Mode,
    /// Weight of each add and each hit.
    pub(crate) weight: u32,
    /// Whether datagrams name their client and sequence.
    pub(crate) exactly_once: bool,
    pub(crate) sketch: SketchNumber,
    /// The reading of windows.
    pub(crate) reading: Reading,
}

/// Bytes of a limit besides its key: five varints at most.
const LIMIT_BYTES_MAX: usize = 5 * 10;

/// Writes the messages of a load into requests, without allocating.
#[derive(Debug)]
pub(crate) struct Messages {
    form: Form,
    /// The limit that is being written.
    limit: Vec<u8>,
}

impl Messages {
    /// Appends a message to a request.
    pub(crate) fn write(
        &mut self,
        request: &mut RequestWriter,
        kind: Kind,
        key: &[u8],
    ) -> Result<(), WriteError> {
        let weight = self.form.weight.into();
        match (kind, self.form.mode) {
            (Kind::Add, _) => request.add(key, weight),
            (Kind::Count, mode) => match mode.window_ms() {
                None => request.count(key),
                Some(window_ms) => {
                    request.window(key, window_ms, self.form.reading == Reading::Smooth)
                }
            },
            (
                Kind::Hit,
                Mode::Limit {
                    limit,
                    window_ms,
                    takes,
                },
            ) => {
                let part = LimitPart {
                    sketch: self.form.sketch,
                    key,
                    weight,
                    limit,
                    window_ms,
                };
                let bound = self.form.reading == Reading::Bound;
                request.limits(Limits::write(takes, bound, &[part], &mut self.limit)?)
            }
            (Kind::Hit, mode) => request.hit(key, weight, mode.limit().unwrap_or_default(), 0),
        }
    }

    /// Begins a request with this number, without token and not once.
    pub(crate) fn start(&self, request: &mut RequestWriter, id: u32, acknowledge: bool) {
        start(request, self.form.sketch, id, acknowledge);
    }
}

/// Begins a compact request with this number, for the sketch `default`, without token and not once.
pub(crate) fn start_request(request: &mut RequestWriter, id: u32, acknowledge: bool) {
    start(request, SketchNumber::DEFAULT, id, acknowledge);
}

fn start(request: &mut RequestWriter, sketch: SketchNumber, id: u32, acknowledge: bool) {
    let started = request.start(&Header {
        id,
        acknowledge,
        sketch,
        ..Header::default()
    });
    debug_assert!(started.is_ok(), "a header fits a datagram");
}

impl Form {
    /// Bytes of a datagram before its messages, including room for a cookie.
    pub(crate) fn header_bytes(self) -> usize {
        match self.format {
            Format::Legacy => 0,
            Format::Compact => self.cookie_bytes() + self.request().finish().len(),
        }
    }

    /// Bytes of a message with a key of this length; for adds and counts together, those of the longer one.
    pub(crate) fn message_bytes(self, key_bytes: usize) -> usize {
        match (self.format, self.mode) {
            (Format::Legacy, _) => MESSAGE_BYTES,
            (Format::Compact, Mode::MixIn { window_ms, .. }) => {
                let kinds = [Mode::Add, Mode::CountIn { window_ms }];
                let kinds = kinds.map(|mode| Self { mode, ..self }.message_bytes(key_bytes));
                kinds.into_iter().fold(0, usize::max)
            }
            (Format::Compact, _) => {
                let mut request = self.request();
                let before = request.finish().len();
                let written = self.write(&mut self.messages(), &mut request, &vec![0; key_bytes]);
                debug_assert!(written.is_ok(), "any message fits a datagram of its own");
                request.finish().len() - before
            }
        }
    }

    /// Number of messages with keys of this length that fit [`DATAGRAM_BYTES`], and whose answers fit a reply; at
    /// least 1.
    pub(crate) fn full_datagram(self, key_bytes: usize) -> usize {
        let fit = match (self.format, self.mode) {
            (Format::Legacy, _) => DATAGRAM_BYTES / MESSAGE_BYTES,
            // Adds may be longer, and counts have answers.
            (Format::Compact, Mode::Mix(_) | Mode::MixIn { .. }) => {
                let count = match self.mode {
                    Mode::MixIn { window_ms, .. } => Mode::CountIn { window_ms },
                    _ => Mode::Count,
                };
                let kinds = [Mode::Add, count].map(|mode| Self { mode, ..self }.taken(key_bytes));
                kinds.into_iter().fold(usize::MAX, usize::min)
            }
            (Format::Compact, _) => self.taken(key_bytes),
        };
        fit.max(1)
    }

    /// Number of messages with such keys that a request takes.
    fn taken(self, key_bytes: usize) -> usize {
        let (mut request, key) = (self.request(), vec![0; key_bytes]);
        let (mut messages, mut taken) = (self.messages(), 0);
        while self.write(&mut messages, &mut request, &key).is_ok() {
            taken += 1;
        }
        taken
    }

    /// A request without messages, with the longest header.
    fn request(self) -> RequestWriter {
        let mut request = RequestWriter::new(DATAGRAM_BYTES - self.cookie_bytes());
        let once = Once {
            boot: Boot(0),
            client: 0,
            sequence: SEQUENCE_MAX,
        };
        let started = request.start(&Header {
            once: self.exactly_once.then_some(once),
            sketch: self.sketch,
            ..Header::default()
        });
        debug_assert!(started.is_ok(), "a header fits a datagram");
        request
    }

    /// Bytes for a cookie, which clients that count exactly once must show in their first requests.
    fn cookie_bytes(self) -> usize {
        match self.exactly_once {
            true => COOKIE_FIELD_BYTES_MAX,
            false => 0,
        }
    }

    /// The writer of such messages.
    pub(crate) fn messages(self) -> Messages {
        Messages {
            form: self,
            limit: Vec::with_capacity(KEY_BYTES_MAX + LIMIT_BYTES_MAX),
        }
    }

    /// Writes the longest of the messages.
    fn write(
        self,
        messages: &mut Messages,
        request: &mut RequestWriter,
        key: &[u8],
    ) -> Result<(), WriteError> {
        let kind = match self.mode {
            Mode::Add | Mode::Mix(_) | Mode::MixIn { .. } => Kind::Add,
            Mode::Count | Mode::CountIn { .. } => Kind::Count,
            Mode::Hit { .. } | Mode::Limit { .. } => Kind::Hit,
        };
        messages.write(request, kind, key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A train is cut by the longest message.
    #[test]
    fn a_message_is_as_long_as_the_longer_of_adds_and_counts() {
        let form = |mode: &str, weight| Form {
            format: Format::Compact,
            mode: mode.parse().unwrap(),
            weight,
            exactly_once: false,
            sketch: SketchNumber::DEFAULT,
            reading: Reading::Bound,
        };
        let cases = [("60s", 1, "count:60s"), ("100ms", 1 << 20, "add")];
        for (window, weight, longer) in cases {
            let of = |mode: &str| form(mode, weight).message_bytes(16);
            let bytes = of(&format!("mix:0.5/{window}"));
            assert_eq!(bytes, of("add").max(of(&format!("count:{window}"))));
            assert_eq!(bytes, of(longer));
        }
    }

    /// The computed number equals the number that the writer takes.
    #[test]
    fn as_many_fit_as_the_writer_takes() {
        let modes = [
            Mode::Add,
            Mode::Count,
            Mode::Hit { limit: 0 },
            Mode::Hit { limit: 127 },
            Mode::Hit { limit: 128 },
            Mode::Hit { limit: u64::MAX },
        ];
        let weights = [1, 2, 127, 128, 1 << 20];
        let cases = modes
            .into_iter()
            .flat_map(|mode| weights.map(|weight| (mode, weight)));
        for (mode, weight) in cases {
            let form = Form {
                format: Format::Compact,
                mode,
                weight,
                exactly_once: false,
                sketch: SketchNumber::DEFAULT,
                reading: Reading::Bound,
            };
            for key_bytes in [1, 2, 16, 127, 128, 139, 140, 1000, 1024] {
                let key = vec![b'k'; key_bytes];
                let mut writer = RequestWriter::new(DATAGRAM_BYTES);
                writer.start(&Header::default()).unwrap();
                let mut write = || match mode {
                    Mode::Add => writer.add(&key, weight.into()),
                    Mode::Hit { limit } => writer.hit(&key, weight.into(), limit, 0),
                    _ => writer.count(&key),
                };
                let mut fit = 0;
                while write().is_ok() {
                    fit += 1;
                }
                assert_eq!(form.full_datagram(key_bytes), fit, "{form:?} {key_bytes}");
                let bytes = form.header_bytes() + fit * form.message_bytes(key_bytes);
                assert_eq!(
                    writer.finish().len(),
                    bytes,
                    "{form:?} {key_bytes}: nothing is padded"
                );
            }
        }
        let of_16 = |format, weight, exactly_once| {
            let form = Form {
                format,
                mode: Mode::Add,
                weight,
                exactly_once,
                sketch: SketchNumber::DEFAULT,
                reading: Reading::Bound,
            };
            form.full_datagram(16)
        };
        assert_eq!(of_16(Format::Compact, 1, false), 77);
        assert_eq!(of_16(Format::Compact, 1000, false), 69);
        // This is one less than without room for a cookie.
        assert_eq!(of_16(Format::Compact, 1, true), 75);
        assert_eq!(of_16(Format::Legacy, 1, false), 9);
    }
}
