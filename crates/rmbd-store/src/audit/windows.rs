//! What windows err by: audited keys over the time of a window.
//!
//! A snapshot of a window has own and others together, so the part of it that is ours is known to nobody. But of
//! audited keys the control thread can note what our own cells are now, folded as a snapshot is, and what was added
//! to the key. When the time of the window is over it reads both again: the least row of what came to the cells is
//! what an estimate in that window would have been without others, and what was added to the key is exact. Then it
//! begins anew.
//!
//! *An error is never below 0*: what was done at the end and not begun when it was noted came to each row in between.
//! Keys that came later than the note are not looked at. Whether a key is older than that says nothing of who else is
//! in its cells, so the errors are those of all keys.
//!
//! An estimate covers up to two steps more than its window, and errs by as much more; here it is the window, and the
//! time until somebody looks.

use std::sync::Arc;
use std::time::Duration;

use rmbd_sketch::{CellIndexes, KeyHash};

use super::{Audit, AuditFigures, KeyError, tag_of};
use crate::Replica;
use crate::windows::Ring;

/// Keys that one piece reads. Of each there are several cells for a row.
const PIECE_KEYS: usize = 64;

/// The control thread's side of the windows of one sketch. Each replica has one at most.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
/// use rmbd_store::{AuditWindows, Batch, Replica, ReplicaOptions, WindowPlan};
///
/// let (geometry, family) = (Geometry::new(256, 2)?, HashFamily::Xxh3 { seed: 7 });
/// let minute = WindowPlan::new(60_000, None, None, geometry, family)?;
/// let options = ReplicaOptions {
///     audit: true,
///     windows: vec![minute],
///     ..ReplicaOptions::new(geometry, family)
/// };
/// let replica = Arc::new(Replica::try_open(options)?);
/// let mut windows = AuditWindows::new(Arc::clone(&replica));
/// let mut batch = Batch::<()>::new(Arc::clone(&replica));
/// for minute in 0..3 {
///     for key in 0..20_000_u32 {
///         batch.add(&key.to_le_bytes(), Weight::ONE, &mut |(), _| {})?;
///     }
///     batch.finish(&mut |(), _| {});
///     while windows.read_piece(Duration::from_secs(60 * minute)) {} // other work goes on between the pieces
/// }
/// let figures = replica.window_audits()[0].ok_or("no window is over")?;
/// assert!(figures.keys > 200 && figures.mean > 70.0 && figures.total_weight == 20_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AuditWindows {
    replica: Arc<Replica>,
    rings: Box<[Watch]>,
}

/// What is known of one window.
#[derive(Debug, Default)]
struct Watch {
    phase: Phase,
    began: Duration,
    /// N when it began.
    weight_before: u64,
    /// Keys that are to be noted.
    hashes: Vec<[u64; 2]>,
    notes: Vec<Note>,
    /// Of each note the folded cells of all rows.
    cells: Vec<u64>,
    /// Tags and errors of the first notes.
    read: Vec<(u64, KeyError)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Phase {
    #[default]
    Idle,
    Noting,
    Waiting,
    Reading,
}

/// A key, and what was added to it at most when its cells were noted.
#[derive(Debug)]
struct Note {
    hash: [u64; 2],
    begun: u64,
}

impl AuditWindows {
    /// Nothing is noted yet.
    #[must_use]
    pub fn new(replica: Arc<Replica>) -> Self {
        let rings = match &replica.audit {
            Some(_) => replica.windows.rings().len(),
            None => 0,
        };
        Self {
            rings: (0..rings).map(|_| Watch::default()).collect(),
            replica,
        }
    }

    /// Does a piece of what is due at this time. Returns whether there is more. The control thread calls this twice a
    /// second, for example, and until it returns false.
    pub fn read_piece(&mut self, now: Duration) -> bool {
        let Self { replica, rings } = self;
        let Some(audit) = &replica.audit else {
            return false;
        };
        let mut watches = rings.iter_mut().zip(replica.windows.rings()).enumerate();
        watches.any(|(number, (watch, ring))| {
            let world = World {
                replica,
                audit,
                ring,
            };
            watch.read_piece(&world, number, now)
        })
    }
}

/// What a watch looks at.
struct World<'a> {
    replica: &'a Replica,
    audit: &'a Audit,
    ring: &'a Ring,
}

impl Watch {
    fn read_piece(&mut self, world: &World<'_>, number: usize, now: Duration) -> bool {
        match self.phase {
            Phase::Idle => self.begin(world, now),
            Phase::Noting => self.note(world),
            Phase::Waiting => self.end_if_due(world, now),
            Phase::Reading => self.read(world, number),
        }
    }

    /// Begins, if any keys are audited.
    fn begin(&mut self, world: &World<'_>, now: Duration) -> bool {
        self.notes.clear();
        self.cells.clear();
        self.read.clear();
        self.hashes.clear();
        if !world.audit.collect(&mut self.hashes) || self.hashes.is_empty() {
            return false;
        }
        self.began = now;
        self.weight_before = world.replica.own.total_weight();
        self.phase = Phase::Noting;
        true
    }

    fn note(&mut self, world: &World<'_>) -> bool {
        let left = self.hashes.len().saturating_sub(PIECE_KEYS);
        for hash in self.hashes.drain(left..) {
            let start = self.cells.len();
            let noted = world.audit.read_between(hash, || {
                self.cells.truncate(start);
                self.cells.extend(world.cells_of(hash));
            });
            match noted {
                Some(noted) => self.notes.push(Note {
                    hash,
                    begun: noted.begun,
                }),
                None => self.cells.truncate(start),
            }
        }
        if left == 0 {
            self.phase = Phase::Waiting;
        }
        true
    }

    fn end_if_due(&mut self, world: &World<'_>, now: Duration) -> bool {
        let span = Duration::from_millis(world.ring.plan().span_ms());
        let is_due = now.saturating_sub(self.began) >= span;
        if is_due {
            self.phase = Phase::Reading;
        }
        is_due
    }

    fn read(&mut self, world: &World<'_>, number: usize) -> bool {
        let depth = world.replica.own.geometry().depth();
        let first = self.read.len();
        let notes = self.notes.iter().zip(self.cells.chunks_exact(depth));
        for (note, before) in notes.skip(first).take(PIECE_KEYS) {
            self.read.push(world.error_of(note, before));
        }
        if self.read.len() == self.notes.len() {
            self.finish(world, number);
            self.phase = Phase::Idle;
        }
        true
    }

    fn finish(&self, world: &World<'_>, number: usize) {
        let own = &world.replica.own;
        let total_weight = own.total_weight().saturating_sub(self.weight_before);
        let most = world.ring.plan().geometry().epsilon() * total_weight as f64;
        let figures = world
            .audit
            .told(&self.read, own.geometry().confidence(), most);
        let figures = AuditFigures {
            total_weight,
            ..figures
        };
        world.audit.set_window(number, figures);
    }
}

impl World<'_> {
    /// The tag and the error of a key, of which the rows were these when it was noted.
    fn error_of(&self, note: &Note, before: &[u64]) -> (u64, KeyError) {
        let read = self.audit.read_between(note.hash, || {
            let rows = self.cells_of(note.hash).zip(before);
            rows.map(|(now, before)| now.saturating_sub(*before))
                .fold(u64::MAX, u64::min)
        });
        match read {
            Some(found) => {
                let exact = found.done.saturating_sub(note.begun);
                (tag_of(note.hash), KeyError::of(found.read, exact))
            }
            // A key that cannot be read now is in no sample.
            None => (u64::MAX, KeyError::default()),
        }
    }

    /// What was added on this node to the folded cell of each row of a key.
    fn cells_of(&self, hash: [u64; 2]) -> impl Iterator<Item = u64> {
        let (own, fold) = (&self.replica.own, self.ring.plan().fold());
        let mut cells = CellIndexes::NONE;
        own.cells_of_into(KeyHash::of_halves(hash), &mut cells);
        let depth = own.geometry().depth();
        (0..depth).map(move |row| {
            let cell = cells.as_slice()[row] as usize;
            let first = cell - cell % fold;
            let folded = own.geometry().cells_between(first, first + fold);
            folded
                .map(|cell| own.own_total(cell))
                .fold(0, u64::saturating_add)
        })
    }
}
