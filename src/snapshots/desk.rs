//! What the thread of snapshot files shares with others: orders for it, and what it has done.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::error::SnapshotFileFailure;
use super::found::TakenOver;
use super::writing::WrittenFile;
use crate::data_dir::Folder;
use crate::status::{
    LastSnapshotFile, LoadedSnapshotFile, SetAsideFile, SnapshotFilesStatus, SnapshotOrder,
};
use rmbd_snapshot::Extra;

/// After so many intervals without a file something is wrong.
const OVERDUE_INTERVALS: u32 = 3;

/// The last file that is written.
pub(crate) struct LastFile {
    /// What makes the blocks behind the slices.
    pub(crate) extra: Extra,
    /// Whether the next start may go on as the same writer: nobody adds any more, and nothing has failed.
    pub(crate) leaves_mark: bool,
}

/// What the thread is to do next.
pub(super) enum Task {
    /// It is time for a file, or somebody wants one.
    Write(Waiting),
    Last(LastFile),
    /// Nothing any more.
    End,
}

/// Who waits for a file.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    answers: Vec<oneshot::Sender<SnapshotOrder>>,
    /// The number of the last order among them.
    number: u64,
}

/// An order for a file.
#[derive(Debug)]
pub(crate) struct Ordered {
    /// Its number, for [`SnapshotFilesStatus::orders_done`].
    pub(crate) number: u64,
    /// What became of it, when the file is durable or has failed. Nothing comes if the node ends before.
    pub(crate) done: oneshot::Receiver<SnapshotOrder>,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// A file was written, of what had been counted until this time.
    File { until: Duration, file: WrittenFile },
    /// Nothing is new since the last file, until this time.
    NothingNew { until: Duration },
}

/// The desk. All locks are held for an instant.
#[derive(Debug)]
pub(crate) struct SnapshotDesk {
    folder: Arc<Folder>,
    /// `None`: only at the end.
    interval: Option<Duration>,
    orders: Mutex<Orders>,
    changed: Condvar,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Orders {
    waiting: Waiting,
    last: Option<LastFile>,
    last_outcome: Option<Result<WrittenFile, SnapshotFileFailure>>,
    /// The thread is to stop what it does.
    is_ending: bool,
    /// Nobody waits for the last file any more.
    is_abandoned: bool,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Progress {
    is_writing: bool,
    orders_done: u64,
    /// Until when all that was counted is in the file.
    until: Option<Duration>,
    last: Option<(Duration, WrittenFile)>,
    files: u64,
    unchanged: u64,
    failures: u64,
    failure: Option<SnapshotFileFailure>,
    is_overdue: bool,
    loaded: Option<LoadedSnapshotFile>,
    set_aside: Vec<SetAsideFile>,
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orders").finish_non_exhaustive()
    }
}

impl SnapshotDesk {
    /// A desk of a node that writes a file each interval, 0 milliseconds being never.
    pub(crate) fn new(folder: Arc<Folder>, interval_ms: u64) -> Self {
        let interval = (interval_ms > 0).then(|| Duration::from_millis(interval_ms));
        Self {
            folder,
            interval,
            orders: Mutex::default(),
            changed: Condvar::new(),
            progress: Mutex::default(),
        }
    }

    pub(super) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Notes what the start has found.
    pub(crate) fn note_start(&self, taken: &TakenOver) {
        let mut progress = self.progress();
        progress.loaded = taken.loaded.as_ref().map(|loaded| LoadedSnapshotFile {
            age_s: loaded.elapsed.as_secs_f64(),
            slices: loaded.slices,
            weight: taken.weight,
            is_resumed: taken.is_resumed,
            refused: loaded.refused,
            skipped: loaded
                .skipped
                .iter()
                .map(|skipped| format!("{}: {}", skipped.name, skipped.why))
                .collect(),
        });
        // What was taken over is in the file.
        progress.until = taken.loaded.as_ref().map(|_| Duration::ZERO);
        progress.set_aside = taken.set_aside.clone();
    }

    /// Asks for a file of all that was counted until now.
    pub(crate) fn order(&self) -> Ordered {
        let (answer, done) = oneshot::channel();
        let mut orders = self.orders();
        orders.waiting.number += 1;
        if !orders.is_ending && !orders.has_ended {
            orders.waiting.answers.push(answer);
            self.changed.notify_all();
        }
        let number = orders.waiting.number;
        Ordered { number, done }
    }

    /// Has the last file written, when nobody adds any more, and waits for that until `deadline`.
    ///
    /// # Errors
    /// [`SnapshotFileFailure`]: the file before stands, and there is no mark of a clean end.
    pub(crate) fn write_last(
        &self,
        last: LastFile,
        deadline: Instant,
    ) -> Result<WrittenFile, SnapshotFileFailure> {
        let mut orders = self.orders();
        orders.last = Some(last);
        orders.is_ending = true;
        orders.waiting.answers.clear();
        self.changed.notify_all();
        loop {
            if let Some(outcome) = orders.last_outcome.take() {
                return outcome;
            }
            if orders.has_ended {
                return Err(SnapshotFileFailure::Ending);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Should the disk answer after all, then nothing comes of it.
                orders.is_abandoned = true;
                orders.last = None;
                let folder = self.folder.path().to_owned();
                return Err(SnapshotFileFailure::Hangs { folder });
            }
            orders = self.wait(orders, left);
        }
    }

    /// Tells the thread to end, and waits for that until `deadline`. Returns whether it has.
    pub(crate) fn end(&self, deadline: Instant) -> bool {
        let mut orders = self.orders();
        orders.is_ending = true;
        orders.is_abandoned = true;
        orders.last = None;
        orders.waiting.answers.clear();
        self.changed.notify_all();
        while !orders.has_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            orders = self.wait(orders, left);
        }
        true
    }

    /// Looks whether it is too long since there was a file, and says so once. To be called now and then.
    pub(crate) fn watch(&self, now: Duration) {
        let mut progress = self.progress();
        let is_overdue = progress.is_overdue(now, self.interval);
        if is_overdue == progress.is_overdue {
            return;
        }
        progress.is_overdue = is_overdue;
        let failure = progress.failure.as_ref();
        let failure = failure.map_or_else(|| "it takes that long".to_owned(), ToString::to_string);
        let age = now.saturating_sub(progress.until.unwrap_or_default());
        let folder = self.folder.path().display();
        match is_overdue {
            true => warn!(
                "what was counted in the last {} s is in no snapshot file in {folder}: {failure}; counting goes on",
                age.as_secs()
            ),
            false => info!("what is counted is in a snapshot file in {folder} again"),
        }
    }

    /// The files as a status shows them.
    pub(crate) fn status(&self, now: Duration) -> SnapshotFilesStatus {
        let progress = self.progress();
        let age_s = |until: Duration| now.saturating_sub(until).as_secs_f64();
        SnapshotFilesStatus {
            enabled: true,
            folder: Some(self.folder.path().display().to_string()),
            interval_ms: self.interval.map_or(0, |it| it.as_millis() as u64),
            age_s: progress.until.map(age_s),
            overdue: progress.is_overdue(now, self.interval),
            writing: progress.is_writing,
            orders_done: progress.orders_done,
            last: progress
                .last
                .as_ref()
                .map(|(until, file)| LastSnapshotFile {
                    age_s: age_s(*until),
                    bytes: file.bytes,
                    slices: file.slices,
                    duration_s: file.took.as_secs_f64(),
                }),
            written: progress.files,
            unchanged: progress.unchanged,
            failures: progress.failures,
            failure: progress.failure.as_ref().map(ToString::to_string),
            loaded: progress.loaded.clone(),
            set_aside: progress.set_aside.clone(),
        }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, orders: MutexGuard<'a, Orders>, most: Duration) -> MutexGuard<'a, Orders> {
        let waited = self.changed.wait_timeout(orders, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The side of the thread.
impl SnapshotDesk {
    /// Waits for something to do; `next` is when it is time for a file.
    pub(super) fn next_task(&self, next: Option<Instant>) -> Task {
        let mut orders = self.orders();
        loop {
            if let Some(last) = orders.last.take() {
                return Task::Last(last);
            }
            if orders.is_ending {
                return Task::End;
            }
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            if !orders.waiting.answers.is_empty() || left.is_some_and(|left| left.is_zero()) {
                let answers = std::mem::take(&mut orders.waiting.answers);
                let number = orders.waiting.number;
                return Task::Write(Waiting { answers, number });
            }
            orders = match left {
                Some(left) => self.wait(orders, left),
                None => self
                    .changed
                    .wait(orders)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits for a while, or until the node ends. Returns whether it does.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut orders = self.orders();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if orders.is_ending || left.is_zero() {
                return orders.is_ending;
            }
            orders = self.wait(orders, left);
        }
    }

    /// Whether the node ends.
    pub(super) fn is_ending(&self) -> bool {
        self.orders().is_ending
    }

    /// Whether nobody waits for the last file any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.orders().is_abandoned
    }

    pub(super) fn begin_writing(&self) {
        self.progress().is_writing = true;
    }

    /// Notes what became of an attempt, tells whoever waits, and says once that it failed, or that it does no longer.
    pub(super) fn note(&self, outcome: Result<Written, SnapshotFileFailure>, waiting: Waiting) {
        let told = self.note_outcome(outcome, waiting.number);
        for answer in waiting.answers {
            // Whoever asked may have gone.
            let _ = answer.send(told.clone());
        }
    }

    fn note_outcome(
        &self,
        outcome: Result<Written, SnapshotFileFailure>,
        number: u64,
    ) -> SnapshotOrder {
        let mut progress = self.progress();
        progress.is_writing = false;
        progress.orders_done = number;
        match outcome {
            Ok(written) => {
                if let Some(failure) = progress.failure.take() {
                    info!("a snapshot file is written again, after: {failure}");
                }
                progress.note(written)
            }
            Err(SnapshotFileFailure::Ending) => SnapshotOrder {
                failure: Some(SnapshotFileFailure::Ending.to_string()),
                ..SnapshotOrder::default()
            },
            Err(failure) => {
                progress.failures += 1;
                let known = progress.failure.as_ref();
                if !known.is_some_and(|known| known.is_like(&failure)) {
                    warn!(
                        "no snapshot file was written: {failure}; the one before stands, counting goes on, and it is \
                         tried again (said once)"
                    );
                }
                let text = failure.to_string();
                progress.failure = Some(failure);
                SnapshotOrder {
                    failure: Some(text),
                    ..SnapshotOrder::default()
                }
            }
        }
    }

    /// Tells whoever waits for the last file what became of it.
    pub(super) fn give_last(&self, outcome: Result<WrittenFile, SnapshotFileFailure>) {
        self.orders().last_outcome = Some(outcome);
        self.changed.notify_all();
    }

    /// The thread has ended, in whatever way.
    pub(super) fn note_end(&self) {
        let mut orders = self.orders();
        orders.has_ended = true;
        orders.waiting.answers.clear();
        self.changed.notify_all();
    }
}

impl Progress {
    fn note(&mut self, written: Written) -> SnapshotOrder {
        match written {
            Written::File { until, file } => {
                self.files += 1;
                self.until = Some(until);
                self.last = Some((until, file));
                SnapshotOrder {
                    bytes: file.bytes,
                    duration_s: file.took.as_secs_f64(),
                    ..SnapshotOrder::default()
                }
            }
            Written::NothingNew { until } => {
                self.unchanged += 1;
                self.until = Some(until);
                SnapshotOrder {
                    nothing_new: true,
                    bytes: self.last.as_ref().map_or(0, |(_, file)| file.bytes),
                    ..SnapshotOrder::default()
                }
            }
        }
    }

    fn is_overdue(&self, now: Duration, interval: Option<Duration>) -> bool {
        let age = now.saturating_sub(self.until.unwrap_or_default());
        interval.is_some_and(|interval| age > interval * OVERDUE_INTERVALS)
    }
}
