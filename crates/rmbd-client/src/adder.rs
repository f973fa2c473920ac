//! Adding many keys.

use super::core::{Failure, Sink};
use super::questions::Question;
use super::{AddsReport, Client, ClientError};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::Operation;

/// Between two looks at the clock: the linger may be late by as many adds.
const PUSHES_A_LOOK: u64 = 64;

/// Adds many keys without waiting for each: full datagrams go out in trains, and lost ones again.
///
/// What was pushed last is sent by [`Self::flush`] or [`Self::finish`], or by a push after the linger;
/// not when this is dropped. Between two calls nothing is sent again either: flush before a long pause.
#[must_use = "the last keys are sent by `finish`"]
#[derive(Debug)]
pub struct Adder<'c> {
    client: &'c mut Client,
    sketch: SketchNumber,
    report: AddsReport,
    repeated_before: u64,
    failed: Option<Failure>,
}

impl<'c> Adder<'c> {
    pub(super) fn new(client: &'c mut Client, sketch: SketchNumber) -> Self {
        Self {
            sketch,
            repeated_before: client.repeated(),
            client,
            report: AddsReport::default(),
            failed: None,
        }
    }

    /// Adds a weight to a key: now, or together with the next ones.
    ///
    /// # Errors
    /// [`ClientError::KeyTooLong`] and [`ClientError::WeightTooLarge`] change nothing, and one may go
    /// on. After [`ClientError::Adds`] everything so far is settled as it says, and positions start
    /// anew.
    #[inline]
    pub fn push(&mut self, key: &[u8], weight: u64) -> Result<(), ClientError> {
        let position = self.report.taken;
        let add = Question {
            sketch: self.sketch,
            ..Operation::Add { key, weight }.into()
        };
        self.client.push(add, position)?;
        self.report.taken += 1;
        let is_due = position.is_multiple_of(PUSHES_A_LOOK) && self.client.is_due();
        self.advance(|client, sink| match is_due {
            true => client.turn(false, sink),
            false => client.pump(sink),
        })
    }

    /// Sends what is left and waits until all is acknowledged; how many adds are confirmed so far.
    ///
    /// # Errors
    /// [`ClientError::Adds`].
    pub fn flush(&mut self) -> Result<u64, ClientError> {
        self.advance(|client, sink| client.drain(sink))?;
        Ok(self.report.confirmed)
    }

    /// [`Self::flush`], at the end.
    ///
    /// # Errors
    /// [`ClientError::Adds`].
    pub fn finish(mut self) -> Result<u64, ClientError> {
        self.flush()
    }

    /// Adds that the node has acknowledged so far.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.report.confirmed
    }

    /// Datagrams that were sent again.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.client.repeated() - self.repeated_before
    }

    /// Ends because of one key, after all before it.
    pub(super) fn stop(mut self, source: ClientError) -> ClientError {
        match self.flush() {
            Err(error) => error,
            Ok(_) => self.broken(source),
        }
    }

    fn advance(
        &mut self,
        step: impl FnOnce(&mut Client, &mut Sink<'_, u64>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let Self {
            client,
            report,
            failed,
            ..
        } = self;
        let stepped = step(client, &mut |position, outcome| match outcome {
            Ok(_) => report.confirmed += 1,
            Err(failure) => {
                report.fail(position, failure.fate());
                *failed = failed.or(Some(failure));
            }
        });
        match (stepped, self.failed.take()) {
            (Ok(()), None) => Ok(()),
            (_, Some(failure)) => Err(self.broken(self.client.failed(failure))),
            (Err(source), None) => Err(self.broken(source)),
        }
    }

    fn broken(&mut self, source: ClientError) -> ClientError {
        let mut report = std::mem::take(&mut self.report);
        self.client.abandon(&mut |position, outcome| {
            if let Err(failure) = outcome {
                report.fail(position, failure.fate());
            }
        });
        report.sort();
        ClientError::Adds {
            report: Box::new(report),
            source: Box::new(source),
        }
    }
}

impl Drop for Adder<'_> {
    fn drop(&mut self) {
        // Nobody would hear of it, and the next call's answers must not be mistaken for these.
        self.client.abandon(&mut |_, _| {});
    }
}
