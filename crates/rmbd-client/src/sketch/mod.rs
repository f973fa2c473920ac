//! One sketch of a server, for both clients: the same questions, each on this sketch, with a deadline, and with what
//! holds where no answer comes.

#[cfg(feature = "tokio")]
mod asynchronous;
mod blocking;

use std::time::Duration;

#[cfg(feature = "tokio")]
pub use self::asynchronous::AsyncSketch;
pub use self::blocking::Sketch;
use super::limits::window_ms;
use super::questions::Question;
use super::{ClientError, Limit, Limits, OnFailure, Verdict, Window};
use rmbd_proto::compact::Operation;
use rmbd_proto::{SketchName, SketchNameError, SketchNumber};

/// How questions are asked.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    sketch: SketchNumber,
    deadline: Option<Duration>,
    on_failure: Option<OnFailure>,
}

impl Manner {
    fn of(name: &str) -> Result<Self, SketchNameError> {
        let sketch = name.parse::<SketchName>()?.number();
        Ok(Self {
            sketch,
            ..Self::default()
        })
    }

    fn ask<'a>(&self, operation: Operation<'a>) -> Question<'a> {
        Question {
            sketch: self.sketch,
            deadline: self.deadline,
            ..operation.into()
        }
    }

    /// What names its sketches by itself, or needs none.
    fn ask_anywhere<'a>(&self, operation: Operation<'a>) -> Question<'a> {
        Question {
            deadline: self.deadline,
            ..operation.into()
        }
    }

    fn ask_limits<'w>(
        &self,
        limits: &Limits<'_>,
        out: &'w mut Vec<u8>,
    ) -> Result<Question<'w>, ClientError> {
        let written = limits.write(self.sketch, out)?;
        Ok(Question {
            once: limits.is_once(),
            ..self.ask_anywhere(Operation::Limits(written))
        })
    }

    fn decide(&self, result: Result<Verdict, ClientError>) -> Result<Verdict, ClientError> {
        match self.on_failure {
            Some(on_failure) => on_failure.decide(result),
            None => result,
        }
    }
}

/// A count in a window.
fn count_in(key: &[u8], window: Window) -> Operation<'_> {
    Operation::Window {
        key,
        window_ms: window_ms(window.span),
        smooth: window.smooth,
    }
}

/// One limit.
fn one(limit: Limit<'_>, window: Window) -> Limits<'_> {
    let limits = Limits::count([limit]);
    match window.smooth {
        true => limits,
        false => limits.bound(),
    }
}

fn hit_by_name<'a>(limit: &'a str, key: &'a [u8], weight: u64) -> Operation<'a> {
    let name = limit.as_bytes();
    Operation::HitByName { name, key, weight }
}

fn pardon<'a>(limit: &'a str, key: &'a [u8], duration: Duration) -> Operation<'a> {
    let (name, for_ms) = (limit.as_bytes(), window_ms(duration));
    Operation::Pardon { name, key, for_ms }
}
