//! The counts of a node: its own sketch, and what it has learnt of other nodes' counts.
//!
//! ```text
//!              data threads: add, count                     control thread
//!                   |         \                                  |
//!                   v          v                                 v
//!    Replica   own: Sketch, pairs [ own | others ]  <── growth ── Slices: merge by maximum, packed
//!              d x w pairs
//!                   |         origins: legacy peers <──────────── LegacyRows: merge rows
//!                   |
//!                   └──(compare)──> published copy, versions, history, hashes: Slices::publish
//!
//!    count(key) = min over rows ( own ) + min over rows ( others ) + for each legacy peer its least row
//!
//!    Windows   rings of snapshots of own + others, folded   <──── copies, in pieces ─── Slices::snapshot
//!
//!    count(key, window) = min over rows ( own + others - snapshot ), and at most count(key)
//! ```
//!
//! A key is hashed once. *Others* is the sum of all learnt slices, cell for cell: when a merge raises a cell from a
//! to b, b - a is added to it. So a count costs the same however many nodes the cluster has or had, and it is an
//! upper bound. Earlier starts of our own node count as others, too.
//!
//! A *window* is the difference to a snapshot that was taken when it began. So adds know nothing of windows, and any
//! number of windows stand on one table.
//!
//! Data threads read cells without a lock and without allocating. Only the control thread writes learnt counts
//! ([`Slices`], [`LegacyRows`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use rmbd_store::{Batch, Estimate, Replica};
//! use rmbd_sketch::{Geometry, HashFamily, Weight};
//!
//! let replica = Replica::try_new(Geometry::DEFAULT, HashFamily::Xxh3 { seed: 7 }, 8)?;
//! let replica = Arc::new(replica);
//! let mut batch = Batch::new(Arc::clone(&replica)); // one for each data thread
//! let mut answer = |(): (), _: Estimate| {};
//! batch.add(b"key", Weight::new(2)?, &mut answer)?;
//! batch.finish(&mut answer);
//! assert_eq!(replica.estimate(b"key").count, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod absorber;
mod ages;
mod append;
mod audit;
mod batch;
mod board;
mod candidates;
mod denied;
mod editions;
mod estimate;
mod fingerprint;
mod legacy;
mod likely;
mod memory;
pub mod once;
mod origins;
mod pardons;
mod pipeline;
mod registry;
mod seats;
mod shared;
mod slices;
#[cfg(test)]
mod tests;
mod top;
mod urgent;
mod windows;

pub use ages::{
    Fold, GroupAges, Mark, Moment, Reached, SavedMark, SavedMarks, ages_memory_bytes, old_parts,
};
pub use audit::{
    AuditFigures, AuditLook, AuditPlan, AuditReader, AuditState, AuditVerdicts, AuditWindows,
};
pub use batch::{Batch, Looked, Terms};
pub use board::{ToldKey, ToldList, ToldLists, TopBoard, TopView};
pub use candidates::{TOP_DEFAULT, TOP_MAX, TopKey, TopKeys, TopList, TopPlan};
pub use denied::{DENIED_MAX, DeniedBook, DeniedKey, DeniedKeys, DeniedList, DeniedSeat};
pub use editions::{Editions, Seen};
pub use estimate::{Estimate, OriginEstimate, OriginName, Passed};
pub use fingerprint::fingerprint;
pub use legacy::{LegacyRows, MergeError, RowMerged};
pub use likely::{ErrorSampler, LikelyError, Sample, likely_share};
pub use memory::{Memory, MemoryLimit, NoMemory};
pub use pardons::{Credits, PARDONS_MAX, Pardon, PardonBook, PardonRefused, PardonView, Pardons};
pub use pipeline::{PIPELINE_ABOVE_BYTES, Way};
pub use registry::{NamedSketch, Registry, RegistryError, SketchIndex};
pub use shared::{Replica, ReplicaLimits, ReplicaOptions};
pub use slices::{
    CellsRef, Changes, GROUP_CELLS, LearntSlice, Published, REFUSED_MAX, SECTION_GROUPS,
    SliceDigest, SliceRefused, Slices, cell_hash,
};

pub use windows::{
    KnownSince, Reading, SPAN_MS_MAX, STEP_MS_MIN, STEPS_MAX, Snapshot, UnknownWindow, WINDOWS_MAX,
    Window, WindowPlan, WindowPlanError, WindowQuestion,
};

pub use rmbd_proto::cluster::SliceId;
pub use rmbd_proto::compact::KEY_BYTES_MAX;
pub use rmbd_proto::{Boot, LimitNumber, SketchNumber};
