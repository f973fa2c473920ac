//! The control thread's side: it compares exact counts with estimates.

use rmbd_sketch::{CellIndexes, KeyHash};

use super::{Audit, AuditFigures, KeyError, Relaxed, TRIES, sample, tag_of};
use crate::Replica;

/// Keys that one piece reads: about a hundred microseconds where cells are not in the cache.
const PIECE_KEYS: usize = 256;

/// Looks at audited keys. It serves any number of sketches, one after the other.
///
/// ```
/// use std::sync::Arc;
///
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
/// use rmbd_store::{AuditReader, Batch, Replica, ReplicaOptions};
///
/// let (geometry, family) = (Geometry::new(256, 2)?, HashFamily::Xxh3 { seed: 7 });
/// let options = ReplicaOptions { audit: true, ..ReplicaOptions::new(geometry, family) };
/// let replica = Arc::new(Replica::try_open(options)?);
/// let mut batch = Batch::<()>::new(Arc::clone(&replica));
/// for key in 0..20_000_u32 {
///     batch.add(&key.to_le_bytes(), Weight::ONE, &mut |(), _| {})?;
/// }
/// batch.finish(&mut |(), _| {});
/// assert!(replica.wants_audit());
/// let mut reader = AuditReader::new();
/// let mut look = reader.begin(&replica).ok_or("keys just leave")?;
/// while look.read_piece() {} // other work goes on between the pieces
/// let figures = replica.audit().and_then(|audit| audit.figures).ok_or("nothing was found")?;
/// assert!(figures.keys > 200 && figures.mean > 70.0 && figures.quantile < 2 * 20_000 / 256);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct AuditReader {
    hashes: Vec<[u64; 2]>,
    /// Tags and errors.
    read: Vec<(u64, KeyError)>,
}

/// A look that has begun. It ends with the piece that completes it; where it is dropped before, nothing has changed.
#[derive(Debug)]
pub struct AuditLook<'a> {
    reader: &'a mut AuditReader,
    replica: &'a Replica,
    audit: &'a Audit,
}

impl AuditReader {
    /// A reader that has looked at nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to look at a sketch. Of each sketch only one look may be under way. `None` where the sketch is not
    /// audited, or keys just leave the sample: then later.
    #[must_use]
    pub fn begin<'a>(&'a mut self, replica: &'a Replica) -> Option<AuditLook<'a>> {
        let audit = replica.audit.as_deref()?;
        self.read.clear();
        self.hashes.clear();
        if !audit.collect(&mut self.hashes) {
            return None;
        }
        Some(AuditLook {
            reader: self,
            replica,
            audit,
        })
    }
}

impl AuditLook<'_> {
    /// Looks at some more keys. Returns whether more are to come; otherwise the look is complete, and everybody sees
    /// what it found.
    pub fn read_piece(&mut self) -> bool {
        let left = self.reader.hashes.len().saturating_sub(PIECE_KEYS);
        let mut cells = CellIndexes::NONE;
        for hash in self.reader.hashes.drain(left..) {
            let own = &self.replica.own;
            own.cells_of_into(KeyHash::of_halves(hash), &mut cells);
            let read = || own.own_estimate_at(&cells);
            if let Some(found) = self.audit.read_between(hash, read) {
                let error = KeyError::of(found.read, found.done);
                self.reader.read.push((tag_of(hash), error));
            }
        }
        if left > 0 {
            return true;
        }
        self.finish();
        false
    }

    fn finish(&self) {
        // N is read behind the cells; what is under way is in cells already and not in N yet.
        let (own, total_weight) = (&self.replica.own, self.replica.own.total_weight());
        let geometry = own.geometry();
        let most = geometry.epsilon() * total_weight as f64;
        let figures = self
            .audit
            .told(&self.reader.read, geometry.confidence(), most);
        self.audit.set(AuditFigures {
            total_weight,
            ..figures
        });
    }
}

impl Audit {
    /// The hashes of all keys that have exact counts, each once. Returns whether those are all.
    pub(super) fn collect(&self, hashes: &mut Vec<[u64; 2]>) -> bool {
        for seat in &self.seats {
            let before = hashes.len();
            let is_whole = (0..TRIES).any(|_| {
                hashes.truncate(before);
                seat.table.for_each(|hash| hashes.push(hash))
            });
            if !is_whole {
                return false;
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        true
    }

    /// What the errors of keys come to that are in the sample still.
    pub(super) fn told(
        &self,
        read: &[(u64, KeyError)],
        confidence: f64,
        epsilon_weight: f64,
    ) -> AuditFigures {
        let below = self.told_below();
        let told = read.iter().filter(|(tag, _)| *tag < below);
        let too_low = told.clone().filter(|(_, found)| found.is_too_low).count() as u64;
        self.too_low.fetch_add(too_low, Relaxed);
        let mut errors: Vec<u64> = told.map(|(_, found)| found.error).collect();
        AuditFigures {
            share: sample::share_of(below),
            ..AuditFigures::of(&mut errors, confidence, epsilon_weight)
        }
    }
}
