//! A table that only grows: read without a lock, filled by one writer.

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Release},
};

use rmbd_sketch::SketchError;

/// A fixed number of places that fills from the front and never empties.
#[derive(Debug)]
pub(super) struct AppendTable<T> {
    places: Box<[OnceLock<T>]>,
    len: AtomicUsize,
}

impl<T> AppendTable<T> {
    pub(super) fn try_new(max: usize) -> Result<Self, SketchError> {
        let mut places = Vec::new();
        places
            .try_reserve_exact(max)
            .map_err(|_| SketchError::OutOfMemory {
                bytes: (max as u64).saturating_mul(size_of::<OnceLock<T>>() as u64),
            })?;
        places.resize_with(max, OnceLock::new);
        Ok(Self {
            places: places.into_boxed_slice(),
            len: AtomicUsize::new(0),
        })
    }

    pub(super) fn max(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        // Acquire pairs with the Release in `push`: a thread that sees `len` sees the places before it filled.
        self.len.load(Acquire)
    }

    /// All values so far. This does not lock, allocate or wait.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places[..self.len()].iter().filter_map(OnceLock::get)
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.places.get(place).and_then(OnceLock::get)
    }

    /// Appends a value and returns its place; gives the value back if the table is full.
    pub(super) fn push(&self, mut value: T) -> Result<usize, T> {
        // In practice only the control thread pushes. But a place is taken by `set`, not by `len`, so that even two
        // writers would take two places.
        for place in self.len()..self.max() {
            match self.places[place].set(value) {
                Ok(()) => {
                    // Release: the place was filled before. It is `max`, since another writer may have published a
                    // later place; the places up to that one were filled before it.
                    self.len.fetch_max(place + 1, Release);
                    return Ok(place);
                }
                Err(back) => value = back,
            }
        }
        Err(value)
    }
}
