//! From a key to one cell in every row.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// How keys become columns. Both ends of an exchange must use the same.
///
/// The match on it is the whole seam: the branch goes the same way for every key of a sketch, so it
/// costs nothing that can be measured (`benches/sketch.rs`, group `seam`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFamily {
    /// XXH3-128 of the key under a seed, once for all rows. With `lo` and `hi` the halves of the
    /// hash, row i takes `v = lo + i * hi` (mod 2^64; Kirsch & Mitzenmacher, "Less hashing, same
    /// performance", 2006), and of that the column `floor(v * width / 2^64)` (multiply-shift).
    ///
    /// A seed that others do not know keeps them from choosing keys that collide.
    Xxh3 {
        /// Seed of the hash.
        seed: u64,
    },
    /// FNV-1a of 32 bits that starts at the row number, and `% width`: what the Python program uses.
    /// Anybody can choose keys that collide.
    Fnv,
}

impl HashFamily {
    /// `xxh3` or `fnv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xxh3 { .. } => "xxh3",
            Self::Fnv => "fnv",
        }
    }

    /// Fills `cells`, one for each row, with `row * width + column`.
    ///
    /// `width * cells.len()` is at most 2^32, as [`Geometry`](super::Geometry) has it.
    #[inline]
    pub(crate) fn cells(self, key: &[u8], width: usize, cells: &mut [u32]) {
        match self {
            Self::Xxh3 { seed } => xxh3_cells(seed, key, width, cells),
            Self::Fnv => fnv_cells(key, width, cells),
        }
    }
}

#[inline]
fn xxh3_cells(seed: u64, key: &[u8], width: usize, cells: &mut [u32]) {
    let hash = xxh3_128_with_seed(key, seed);
    let (mut value, step) = (hash as u64, (hash >> 64) as u64);
    let mut row_start = 0;
    for cell in cells {
        let column = (u128::from(value) * width as u128) >> 64;
        *cell = (row_start + column as u64) as u32;
        value = value.wrapping_add(step);
        row_start += width as u64;
    }
}

/// Rows that go over the key together. Each step of FNV waits for the one before; four chains side
/// by side fill the wait.
const FNV_LANES: usize = 4;

#[inline]
fn fnv_cells(key: &[u8], width: usize, cells: &mut [u32]) {
    for (group, cells) in cells.chunks_mut(FNV_LANES).enumerate() {
        let first_row = group * FNV_LANES;
        let hashes = fnv_lanes(key, first_row as u32);
        for (lane, (cell, hash)) in cells.iter_mut().zip(hashes).enumerate() {
            *cell = ((first_row + lane) * width + hash as usize % width) as u32;
        }
    }
}

/// FNV-1a hashes of a key for rows `first_row ..`.
#[inline]
fn fnv_lanes(key: &[u8], first_row: u32) -> [u32; FNV_LANES] {
    const PRIME: u32 = 0x0100_0193;
    let mut hashes = std::array::from_fn(|lane| first_row + lane as u32);
    for &byte in key {
        for hash in &mut hashes {
            *hash = (*hash ^ u32::from(byte)).wrapping_mul(PRIME);
        }
    }
    hashes
}
