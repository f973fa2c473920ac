//! How the table goes from one start of a node to the next.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::saved::{PieceMalformed, PieceWriter, SavedClient, SavedPiece};
use super::shard::Taken;
use super::{OnceTable, clock_ms, lock};

/// The pieces of a table, in their order; see [`OnceTable::save`].
#[derive(Debug)]
pub struct SavedPieces {
    table: Arc<OnceTable>,
    now_ms: u64,
    /// All clients, the one first that was heard of longest ago.
    clients: std::vec::IntoIter<Place>,
    /// The number of the next piece; `None` behind the last one.
    number: Option<u32>,
}

/// Where a client is, and when it was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    heard_ms: u64,
    shard: u32,
    place: u32,
}

/// What became of the clients of a piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// They hold a place, as they did.
    pub live: usize,
    /// They were silent for longer than [`IDLE_LIMIT`](super::IDLE_LIMIT), and are remembered while their memory is
    /// not needed.
    pub remembered: usize,
    /// They were silent for as long, and there is no memory for them.
    pub forgotten: usize,
    /// They have a right to a place, and got none: the table has fewer places than the saved one had. Whether a
    /// request of theirs was applied is not known any more, so this table has not [come back](OnceTable::came_back).
    pub refused: usize,
}

/// Why a piece was not taken back. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Its bytes are no piece.
    #[error(transparent)]
    Malformed(#[from] PieceMalformed),
    /// It is not the piece that comes next.
    #[error(
        "piece {found} of the exactly-once clients came where piece {expected} was expected; nothing of it was taken \
         over: take the pieces back in their order, or start without these clients"
    )]
    OutOfTurn {
        /// The number of the next piece.
        expected: u32,
        /// Its number.
        found: u32,
    },
    /// The last piece was there before.
    #[error(
        "piece {found} of the exactly-once clients came after the last one; nothing of it was taken over: take one \
         saved table back, into one that has just been made"
    )]
    AfterLast {
        /// Its number.
        found: u32,
    },
}

/// How much of a saved table has come back.
#[derive(Debug, Default)]
pub(super) struct Return {
    progress: Mutex<Progress>,
    is_whole: AtomicBool,
}

#[derive(Debug, Default)]
struct Progress {
    /// The number of the next piece.
    next: u32,
    is_over: bool,
    refused: usize,
}

impl OnceTable {
    /// The table in pieces of at most [`PIECE_BYTES_MAX`](super::PIECE_BYTES_MAX) bytes, one at least, for the next
    /// start of the node: all clients, with those that are not live any more. To be called when no thread admits
    /// requests any more, since the pieces would not have those. `now` is as in [`admit`](Self::admit).
    ///
    /// This takes 16 bytes of memory for each client until the last piece is there.
    #[must_use]
    pub fn save(self: &Arc<Self>, now: Duration) -> SavedPieces {
        let mut clients = Vec::new();
        for (shard, part) in (0..).zip(&self.shards) {
            let of_place = |(heard_ms, place)| Place {
                heard_ms,
                shard,
                place,
            };
            clients.extend(lock(part).ages().map(of_place));
        }
        clients.sort_unstable();
        SavedPieces {
            table: Arc::clone(self),
            now_ms: clock_ms(now),
            clients: clients.into_iter(),
            number: Some(0),
        }
    }

    /// Takes back the next piece of a table that was saved `elapsed` ago. To be called for all pieces in their order,
    /// on a table that has just been made, before any thread admits a request. `now` is as in [`admit`](Self::admit).
    ///
    /// Where `elapsed` is not known exactly, less is safe: clients keep their places for longer.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing of this piece was taken back, and pieces before it stay. The node may go on with the
    /// table as it is: it has not [come back](Self::came_back).
    pub fn restore(
        &self,
        piece: &[u8],
        now: Duration,
        elapsed: Duration,
    ) -> Result<Restored, RestoreError> {
        let mut progress = self.back.progress();
        let piece = SavedPiece::read(piece)?;
        progress.expect(&piece)?;
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut restored = Restored::default();
        for mut client in piece.iter() {
            client.age_ms = client.age_ms.saturating_add(elapsed_ms);
            restored.count(self.take_in(&client, now));
        }
        progress.next += 1;
        progress.refused += restored.refused;
        progress.is_over = piece.is_last();
        if progress.is_over && progress.refused == 0 {
            // Whoever sees this sees the clients, too.
            self.back.is_whole.store(true, Release);
        }
        Ok(restored)
    }

    /// Whether a saved table has come back as a whole: all of its pieces, and nobody of them was refused. Only then
    /// is it known of all its clients which requests were applied.
    #[inline]
    #[must_use]
    pub fn came_back(&self) -> bool {
        self.back.is_whole.load(Acquire)
    }

    fn take_in(&self, client: &SavedClient, now: Duration) -> Taken {
        let request = self.request(client.id, client.highest, now);
        let mut shard = self.shard(request.hash);
        shard.take_in(client, request.hash, request.now_ms, &self.places)
    }
}

impl Iterator for SavedPieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let number = self.number?;
        let mut writer = PieceWriter::new(number);
        while writer.has_room()
            && let Some(Place { shard, place, .. }) = self.clients.next()
        {
            let shard = lock(&self.table.shards[shard as usize]);
            if let Some(client) = shard.saved(place, self.now_ms) {
                writer.push(&client);
            }
        }
        let is_last = self.clients.as_slice().is_empty();
        // There are fewer pieces than clients, and those are fewer than 2^32.
        self.number = (!is_last).then_some(number + 1);
        Some(writer.finish(is_last))
    }
}

impl Restored {
    fn count(&mut self, taken: Taken) {
        *match taken {
            Taken::Live => &mut self.live,
            Taken::Remembered => &mut self.remembered,
            Taken::Forgotten => &mut self.forgotten,
            Taken::Refused => &mut self.refused,
        } += 1;
    }
}

impl Return {
    /// Nothing panics while it is locked; if something did, a piece would be missing, and the next one out of turn.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn expect(&self, piece: &SavedPiece<'_>) -> Result<(), RestoreError> {
        let (expected, found) = (self.next, piece.number());
        if self.is_over {
            return Err(RestoreError::AfterLast { found });
        }
        if expected != found {
            return Err(RestoreError::OutOfTurn { expected, found });
        }
        Ok(())
    }
}
