//! Requests on their way: connections, questions that wait for answers on them, and their outcomes.

mod clock;
mod connection;
mod part;
mod progress;
mod questions;
mod thread;
mod times;

pub(crate) use self::clock::Clock;
pub(crate) use self::connection::{Connection, is_refusal};
pub(crate) use self::part::Part;
pub(crate) use self::progress::Progress;
pub(crate) use self::progress::Totals;
pub(crate) use self::questions::{InFlight, Match, Matcher, Question, check};
pub(crate) use self::thread::precise_sleep;
pub(crate) use self::times::{IntervalTimes, NodeAnswers, Times};
