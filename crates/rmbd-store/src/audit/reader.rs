//! The control thread's side: it compares exact counts with estimates.

use rmbd_sketch::{CellIndexes, KeyHash};

use super::{Audit, AuditFigures, Relaxed, TRIES, sample, tag_of};
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
    read: Vec<Read>,
    errors: Vec<u64>,
}

/// A look that has begun. It ends with the piece that completes it; where it is dropped before, nothing has changed.
#[derive(Debug)]
pub struct AuditLook<'a> {
    reader: &'a mut AuditReader,
    replica: &'a Replica,
    audit: &'a Audit,
}

/// What was read of a key.
#[derive(Debug)]
struct Read {
    tag: u64,
    error: u64,
    is_too_low: bool,
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
            if let Some(found) = self.audit.error_of(own, hash, &cells) {
                self.reader.read.push(Read {
                    tag: tag_of(hash),
                    error: found.error,
                    is_too_low: found.is_too_low,
                });
            }
        }
        if left > 0 {
            return true;
        }
        self.finish();
        false
    }

    fn finish(&mut self) {
        let AuditReader { read, errors, .. } = &mut *self.reader;
        let below = self.audit.told_below();
        read.retain(|read| read.tag < below);
        let too_low = read.iter().filter(|read| read.is_too_low).count() as u64;
        self.audit.too_low.fetch_add(too_low, Relaxed);
        errors.clear();
        errors.extend(read.iter().map(|read| read.error));
        // N is read behind the cells; what is under way is in cells already and not in N yet.
        let (own, total_weight) = (&self.replica.own, self.replica.own.total_weight());
        let geometry = own.geometry();
        let most = geometry.epsilon() * total_weight as f64;
        let figures = AuditFigures {
            share: sample::share_of(below),
            total_weight,
            ..AuditFigures::of(errors, geometry.confidence(), most)
        };
        let is_missed = self.audit.missed.load(Relaxed) > 0;
        *self.audit.latest() = (!is_missed).then_some(figures);
    }
}

impl Audit {
    /// The hashes of all keys that have exact counts, each once. Returns whether those are all.
    fn collect(&self, hashes: &mut Vec<[u64; 2]>) -> bool {
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
}
