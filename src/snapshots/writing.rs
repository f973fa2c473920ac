//! Writing one file: passes, then what the crate says, step by step.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmbd_pace::{Rate, TokenBucket};
use rmbd_snapshot::{CleanMark, ClockReading, Extra, Saved, Saving, SavingOptions, SavingStep};
use rustix::rand::{GetRandomFlags, getrandom};

use super::clocks;
use super::desk::SnapshotDesk;
use super::disk::Disk;
use super::error::SnapshotFileFailure;
use super::source::Source;
use crate::shared::Shared;

/// Bytes a second that are written while the node serves. Disks in use take several times as much, so that their other
/// users hardly notice; a file of a full sketch of the default size takes two seconds.
const RATE: Rate = Rate {
    burst: 1 << 20,
    per_s: 64 << 20,
};
/// While the node serves, the thread rests for so many times as long as each piece has taken. So it has a quarter of a
/// CPU at most, for a millisecond at a time: where there are no more CPUs than threads, counts do not wait for a file.
const RESTS: u32 = 3;
/// The longest rest: while a disk was slow nobody has waited.
const REST_MAX: Duration = Duration::from_millis(5);
/// The shortest rest between two pieces of a pass, in which others lock the slices.
const REST_MIN: Duration = Duration::from_micros(100);

/// A file that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrittenFile {
    pub(crate) bytes: u64,
    pub(crate) slices: u64,
    /// From the first pass to the last step.
    pub(crate) took: Duration,
    /// Whether a mark of a clean end was left.
    pub(crate) has_mark: bool,
}

/// The occasion of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The node serves: it is not to notice.
    Serving,
    /// The node ends, and waits.
    End,
}

/// Writes files of one node.
pub(super) struct FileWriter {
    pub(super) desk: Arc<SnapshotDesk>,
    pub(super) shared: Arc<Shared>,
    pub(super) source: Source,
}

impl FileWriter {
    /// Makes passes until all is published that was added until now. Returns what the clocks showed before: all that
    /// had been added by then is published.
    ///
    /// # Errors
    /// [`SnapshotFileFailure::Ending`].
    pub(super) fn publish(&self, occasion: Occasion) -> Result<ClockReading, SnapshotFileFailure> {
        let begun = clocks::read(self.shared.now());
        let passes = self.source.passes_until_now();
        let clock = || self.shared.now();
        loop {
            let began = Instant::now();
            if self.source.publish_until(&passes, &clock) {
                break;
            }
            self.check(occasion)?;
            let rest = rest_after(began.elapsed(), occasion);
            std::thread::sleep(rest.max(REST_MIN));
        }
        self.source.settle_name(self.shared.now());
        Ok(begun)
    }

    /// Writes a file of all that is published; it is begun when the clocks showed this. If it fails, what was begun is
    /// removed.
    ///
    /// # Errors
    /// [`SnapshotFileFailure`].
    pub(super) fn write(
        &self,
        disk: &mut dyn Disk,
        begun: ClockReading,
        extra: Extra,
        occasion: Occasion,
    ) -> Result<Saved, SnapshotFileFailure> {
        let mut saving = Saving::new(self.options(begun)?, extra);
        let saved = self.do_steps(&mut saving, disk, occasion);
        if saved.is_err() {
            // What is left is removed before the next one is made, too.
            let _ = disk.discard();
        }
        saved
    }

    /// Leaves the mark of a clean end, which belongs to this file.
    ///
    /// # Errors
    /// [`SnapshotFileFailure`]: there may be no mark.
    pub(super) fn leave_mark(
        &self,
        disk: &mut dyn Disk,
        file: &Saved,
    ) -> Result<(), SnapshotFileFailure> {
        let left = disk.leave_mark(&CleanMark::of(file, self.source.is_name_told()).encode());
        left.map_err(|source| self.refused("writing the mark of a clean end", source))
    }

    fn do_steps(
        &self,
        saving: &mut Saving,
        disk: &mut dyn Disk,
        occasion: Occasion,
    ) -> Result<Saved, SnapshotFileFailure> {
        let clock = || self.shared.now();
        let began = Instant::now();
        let mut bucket = TokenBucket::new(RATE, Duration::ZERO);
        loop {
            self.check(occasion)?;
            let piece_began = Instant::now();
            let step = saving.next(&self.source, &clock);
            if let SavingStep::Done(saved) = step {
                return Ok(saved);
            }
            if matches!(step, SavingStep::Create | SavingStep::Rename) {
                self.check_folder()?;
            }
            let done = disk.execute(&step);
            done.map_err(|source| self.refused(name(&step), source))?;
            if occasion == Occasion::Serving {
                if let SavingStep::Write(bytes) = &step {
                    bucket.spend(bytes.len() as u64);
                }
                let now = began.elapsed();
                let until_token = match bucket.has_token(now) {
                    true => Duration::ZERO,
                    false => bucket.ready_at().saturating_sub(now),
                };
                let rest = rest_after(piece_began.elapsed(), occasion);
                self.desk.pause(until_token.max(rest));
            }
        }
    }

    fn check(&self, occasion: Occasion) -> Result<(), SnapshotFileFailure> {
        let is_in_vain = match occasion {
            Occasion::Serving => self.desk.is_ending(),
            Occasion::End => self.desk.is_abandoned(),
        };
        if is_in_vain {
            return Err(SnapshotFileFailure::Ending);
        }
        match self.source.is_poisoned() {
            true => Err(SnapshotFileFailure::HalfChanged),
            false => Ok(()),
        }
    }

    fn check_folder(&self) -> Result<(), SnapshotFileFailure> {
        let folder = self.desk.folder();
        let is_there = folder.is_still_there();
        match is_there.map_err(|source| self.refused("looking for the lock", source))? {
            true => Ok(()),
            false => Err(SnapshotFileFailure::Moved {
                folder: folder.path().to_owned(),
            }),
        }
    }

    fn refused(&self, what: &'static str, source: io::Error) -> SnapshotFileFailure {
        SnapshotFileFailure::Disk {
            what,
            folder: self.desk.folder().path().to_owned(),
            source,
        }
    }

    fn options(&self, begun: ClockReading) -> Result<SavingOptions, SnapshotFileFailure> {
        let engine = self.shared.engine();
        let sketches = engine.registry().sketches().iter();
        let names = sketches.map(|sketch| (sketch.name.number(), sketch.name.to_string()));
        Ok(SavingOptions {
            file: random_number()?,
            boot: engine.boot(),
            now: begun,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            names: names.collect(),
        })
    }
}

/// How long the thread rests after a piece that has taken so long.
fn rest_after(piece: Duration, occasion: Occasion) -> Duration {
    match occasion {
        Occasion::Serving => (piece * RESTS).min(REST_MAX),
        Occasion::End => Duration::ZERO,
    }
}

fn name(step: &SavingStep<'_>) -> &'static str {
    match step {
        SavingStep::Create => "making a new file",
        SavingStep::Write(_) => "writing",
        SavingStep::SyncSome | SavingStep::SyncAll => "bringing a file to the disk",
        SavingStep::Rename => "renaming the new file",
        SavingStep::SyncFolder => "bringing the folder to the disk",
        SavingStep::Done(_) => "nothing",
    }
}

fn random_number() -> Result<u64, SnapshotFileFailure> {
    let mut bytes = [0; 8];
    // The kernel gives so few bytes as a whole.
    let drawn = getrandom(&mut bytes[..], GetRandomFlags::empty());
    drawn.map_err(|error| SnapshotFileFailure::Random(error.into()))?;
    Ok(u64::from_le_bytes(bytes))
}
