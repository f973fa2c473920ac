//! What is said on one connection, without its socket.

use super::FRAME_BYTES_MAX;
use super::agent::Agent;
use super::question::{Asked, Manner, Problem};
use super::variables;
use crate::engine::LimitsAnswer;
use rmbd_proto::spoe::{
    AckWriter, Frame, FrameError, Notify, StatusCode, next_frame, write_disconnect, write_hello,
};

/// Bytes of answers from which on they are sent before more is done.
pub(super) const ANSWERS_FULL_BYTES: usize = 16 << 10;
/// Bytes of an acknowledgement beside its variables: its length, type and flags, and two numbers of 64 bits.
const ACK_HEAD_BYTES_MAX: usize = 4 + 1 + 4 + 10 + 10;

/// Where a connection stands.
#[derive(Debug)]
pub(super) struct Dialogue {
    /// The hello has come.
    is_open: bool,
    /// Bytes of a frame at most: ours, and after the hello what both take.
    frame_bytes_max: usize,
}

/// What was done with the bytes that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Number of bytes that are done.
    pub(super) bytes: usize,
    pub(super) then: Then,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// More bytes.
    More,
    /// The answers are to be sent before anything else is done.
    Send,
    /// The answers are to be sent, and the connection ends.
    End,
}

/// What a message is answered.
type Answered = Result<LimitsAnswer, Problem>;

/// What a frame leads to.
type Outcome = Result<Then, FrameError>;

impl Dialogue {
    pub(super) fn new() -> Self {
        Self {
            is_open: false,
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }

    /// Whether the hello has come.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Does what the frames say that have come whole, and appends the answers.
    pub(super) fn received(&mut self, agent: &Agent, bytes: &[u8], out: &mut Vec<u8>) -> Taken {
        let mut taken = 0;
        loop {
            if out.len() >= ANSWERS_FULL_BYTES {
                return Taken {
                    bytes: taken,
                    then: Then::Send,
                };
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            let (then, end) = match next_frame(rest, self.frame_bytes_max) {
                Ok(None) => {
                    return Taken {
                        bytes: taken,
                        then: Then::More,
                    };
                }
                Ok(Some((frame, end))) => (self.frame(agent, frame, out), end),
                Err(error) => (Err(error), rest.len()),
            };
            taken += end;
            let then = then.unwrap_or_else(|error| {
                agent.note(|tally| tally.spoe_protocol_errors += 1);
                write_disconnect(error.status_code(), &error.to_string(), out);
                Then::End
            });
            if then == Then::End {
                return Taken { bytes: taken, then };
            }
        }
    }

    fn frame(&mut self, agent: &Agent, frame: &[u8], out: &mut Vec<u8>) -> Outcome {
        match Frame::parse(frame)? {
            Frame::Hello(hello) if !self.is_open => {
                self.is_open = true;
                let theirs = hello.frame_bytes_max.min(FRAME_BYTES_MAX as u32);
                self.frame_bytes_max = theirs as usize;
                write_hello(theirs, out);
                if hello.is_health_check {
                    agent.note(|tally| tally.spoe_health_checks += 1);
                    return Ok(Then::End);
                }
                Ok(Then::More)
            }
            Frame::Notify(notify) if self.is_open => self.notify(agent, &notify, out),
            Frame::Unknown if self.is_open => Ok(Then::More),
            // A second hello, or something before the first one.
            Frame::Hello(_) | Frame::Notify(_) | Frame::Unknown => Err(FrameError::Malformed),
            Frame::Disconnect => {
                write_disconnect(StatusCode::Normal, "", out);
                Ok(Then::End)
            }
        }
    }

    /// Asks what the messages ask, if there is room for all answers.
    fn notify(&self, agent: &Agent, notify: &Notify<'_>, out: &mut Vec<u8>) -> Outcome {
        let (mut all, mut bytes) = (Vec::new(), ACK_HEAD_BYTES_MAX);
        for message in notify.messages() {
            let asked = Asked::read(&message);
            bytes += variables::bytes_max(asked.manner);
            if bytes > self.frame_bytes_max {
                return Err(FrameError::TooBig);
            }
            all.push(asked);
        }
        // What each word before the names of variables is told: the first that is not allowed, or the last.
        let mut told: Vec<(Manner<'_>, Answered)> = Vec::new();
        for Asked { manner, question } in all {
            let answered = question.and_then(|question| agent.ask(&question));
            note(agent, &answered);
            let mut before = told.iter_mut().filter(|(it, _)| it.prefix == manner.prefix);
            match before.next() {
                Some((it, last)) if variables::is_allowed(*it, last) => {
                    (*it, *last) = (manner, answered);
                }
                Some(_) => {}
                None => told.push((manner, answered)),
            }
        }
        let mut ack = AckWriter::new(out, notify.stream_id, notify.frame_id);
        for (manner, answered) in &told {
            variables::write(&mut ack, *manner, answered);
        }
        ack.finish();
        Ok(Then::More)
    }
}

/// Counts a message.
fn note(agent: &Agent, answered: &Answered) {
    agent.note(|tally| {
        tally.spoe_messages += 1;
        match answered {
            Ok(told) => tally.spoe_over += u64::from(told.is_over),
            Err(problem) if problem.is_of_node => tally.spoe_failed += 1,
            Err(_) => tally.spoe_refused += 1,
        }
    });
}
