//! Hashing: from a key to one cell in every row.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{CellIndexes, Geometry};

/// The hash functions that turn a key into columns. Both ends of an exchange must use the same one.
///
/// The families are told apart by a match for each key. The branch goes the same way for every key of a sketch, and
/// costs less than runs of the same code differ by (`benches/sketch.rs`, group `seam`).
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
    /// FNV-1a of 32 bits that starts at the row number, and `% width`, as in the Python program. Anybody can choose
    /// keys that collide.
    Fnv,
}

/// The sixteen bytes from which all cells of a key follow. Two keys with the same hash are the same key to a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyHash(u128);

impl KeyHash {
    /// The hash with these halves, the lower one first. They must come from a hash of the same family and seed, or its
    /// cells are those of no key.
    #[inline]
    #[must_use]
    pub const fn of_halves([low, high]: [u64; 2]) -> Self {
        Self((high as u128) << 64 | low as u128)
    }

    /// Its halves, the lower one first.
    #[inline]
    #[must_use]
    pub const fn halves(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    /// Bits of the hash that are as random as those of a separate hash.
    #[inline]
    #[must_use]
    pub fn low_bits(self) -> usize {
        self.0 as usize
    }
}

impl HashFamily {
    /// The name of the family: `xxh3` or `fnv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xxh3 { .. } => "xxh3",
            Self::Fnv => "fnv",
        }
    }

    /// The cell index of `key` in every row.
    #[inline]
    #[must_use]
    pub fn cells(self, key: &[u8], geometry: Geometry) -> CellIndexes {
        let mut cells = CellIndexes::NONE;
        self.cells_into(key, geometry, &mut cells);
        cells
    }

    /// Like [`cells`](Self::cells), but overwrites `cells`.
    #[inline]
    pub fn cells_into(self, key: &[u8], geometry: Geometry, cells: &mut CellIndexes) {
        match self.hash(key, geometry) {
            Some(hash) => self.cells_of_into(hash, geometry, cells),
            None => fnv_cells(key, geometry.width(), cells.room(geometry.depth())),
        }
    }

    /// The hash that [`cells_of_into`](Self::cells_of_into) takes. It is `None` where sixteen bytes cannot determine
    /// all cells: FNV has 32 bits for each row.
    #[inline]
    #[must_use]
    pub fn hash(self, key: &[u8], geometry: Geometry) -> Option<KeyHash> {
        match self {
            Self::Xxh3 { seed } => Some(KeyHash(xxh3_128_with_seed(key, seed))),
            Self::Fnv if geometry.depth() <= FNV_LANES => {
                Some(KeyHash(bytemuck::cast(fnv_lanes(key, 0))))
            }
            Self::Fnv => None,
        }
    }

    /// Like [`cells_into`](Self::cells_into), from a key's [`hash`](Self::hash) under the same geometry.
    // A call for each key costs two threads a tenth of what they add to a small sketch.
    #[inline(always)]
    pub fn cells_of_into(self, hash: KeyHash, geometry: Geometry, cells: &mut CellIndexes) {
        let cells = cells.room(geometry.depth());
        match self {
            Self::Xxh3 { .. } => xxh3_cells(hash.0, geometry.width(), cells),
            Self::Fnv => fnv_lane_cells(bytemuck::cast(hash.0), 0, geometry.width(), cells),
        }
    }
}

#[inline]
fn xxh3_cells(hash: u128, width: usize, cells: &mut [u32]) {
    // The default depth has straight code, which takes some 30 % less time than the loop.
    if let Ok(cells) = <&mut [u32; Geometry::DEFAULT.depth()]>::try_from(&mut *cells) {
        spread(hash, width, cells);
    } else {
        spread(hash, width, cells);
    }
}

#[inline(always)]
fn spread(hash: u128, width: usize, cells: &mut [u32]) {
    let (mut value, step) = (hash as u64, (hash >> 64) as u64);
    let mut row_start = 0;
    for cell in cells {
        let column = (u128::from(value) * width as u128) >> 64;
        *cell = (row_start + column as u64) as u32;
        value = value.wrapping_add(step);
        row_start += width as u64;
    }
}

/// Number of rows that are hashed in one walk over the key. Each step of FNV waits for the one before it; four chains
/// side by side fill the wait.
const FNV_LANES: usize = 4;

#[inline]
fn fnv_cells(key: &[u8], width: usize, cells: &mut [u32]) {
    for (group, cells) in cells.chunks_mut(FNV_LANES).enumerate() {
        let first_row = group * FNV_LANES;
        let hashes = fnv_lanes(key, first_row as u32);
        fnv_lane_cells(hashes, first_row, width, cells);
    }
}

#[inline]
fn fnv_lane_cells(hashes: [u32; FNV_LANES], first_row: usize, width: usize, cells: &mut [u32]) {
    for (lane, (cell, hash)) in cells.iter_mut().zip(hashes).enumerate() {
        *cell = ((first_row + lane) * width + hash as usize % width) as u32;
    }
}

/// FNV-1a hashes of a key for the rows from `first_row` on.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::MAX_DEPTH;
    use proptest::prelude::*;

    fn columns(family: HashFamily, key: &[u8], width: usize, depth: usize) -> Vec<usize> {
        let geometry = Geometry::new(width as u64, depth as u64).unwrap();
        let cells = family.cells(key, geometry);
        assert_eq!(cells.as_slice().len(), depth);
        let rows = cells.as_slice().iter().enumerate();
        rows.map(|(row, &cell)| cell as usize - row * width)
            .collect()
    }

    /// Values from CPython and the `fnvhash` package.
    #[test]
    fn fnv_agrees_with_the_python_program() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/data/legacy_vectors.json")).unwrap();
        let vectors = vectors["columns"].as_array().unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let key = unhex(vector["key"].as_str().unwrap());
            let numbers = |field: &str| -> Vec<usize> {
                let values = vector[field].as_array().unwrap().iter();
                values.map(|v| v.as_u64().unwrap() as usize).collect()
            };
            let expected = numbers("hash");
            assert_eq!(
                columns(HashFamily::Fnv, &key, 100, 10),
                numbers("width100"),
                "{vector}"
            );
            // There is no modulus where the width is the whole range: columns are the hashes themselves. This width
            // allows a depth of 1 at most, so the test goes over the lanes directly.
            for (row, hash) in expected.iter().enumerate() {
                assert_eq!(fnv_lanes(&key, row as u32)[0] as usize, *hash, "{vector}");
            }
        }
    }

    fn unhex(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    /// The columns are an interface: nodes of different releases and machines must agree on them. The values come from
    /// the hashes of another implementation (python-xxhash).
    #[test]
    fn xxh3_columns_never_change() {
        for (key, seed, width, expected) in [
            (
                &b""[..],
                0,
                1048576,
                [393244, 1022652, 603485, 184317, 813725, 394558],
            ),
            (
                &b"key"[..],
                0,
                1048576,
                [769696, 395904, 22111, 696894, 323102, 997885],
            ),
            (
                &b"key"[..],
                7,
                1048576,
                [154429, 883117, 563229, 243341, 972029, 652141],
            ),
            (&b"key"[..], u64::MAX, 100, [36, 70, 3, 37, 71, 5]),
            (
                &b"user:00000000042"[..],
                7,
                1048576,
                [663362, 237739, 860692, 435070, 9447, 632400],
            ),
            (
                &b"\x00\xff"[..],
                7,
                536870909,
                [
                    380545076, 374262114, 367979152, 361696190, 355413228, 349130266,
                ],
            ),
            (
                &[b'a'; 139][..],
                7,
                65536,
                [43560, 16918, 55813, 29171, 2530, 41424],
            ),
            (
                &[b'a'; 300][..],
                7,
                65536,
                [50527, 14658, 44326, 8457, 38125, 2256],
            ),
        ] {
            let family = HashFamily::Xxh3 { seed };
            assert_eq!(columns(family, key, width, 6), expected, "{key:?} {seed}");
        }
    }

    #[test]
    fn the_largest_sketch_has_indexes_that_fit() {
        for depth in [1_usize, 2, 4, 32] {
            let width = (1 << 32) / depth;
            for family in [HashFamily::Xxh3 { seed: 1 }, HashFamily::Fnv] {
                for key in [&b""[..], b"a", b"\xff\xff"] {
                    let columns = columns(family, key, width, depth);
                    assert!(columns.iter().all(|&column| column < width));
                }
            }
        }
    }

    proptest! {
        /// The oracle hashes one row after the other, as the documentation defines them.
        #[test]
        fn rows_side_by_side_are_rows_one_by_one(
            key: Vec<u8>,
            seed: u64,
            width in 1_usize..1 << 27,
            depth in 1..=MAX_DEPTH,
        ) {
            let fnv = |row: usize| {
                let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
                key.iter().fold(row as u32, fold) as usize % width
            };
            prop_assert_eq!(
                columns(HashFamily::Fnv, &key, width, depth),
                (0..depth).map(fnv).collect::<Vec<_>>()
            );
            let hash = xxh3_128_with_seed(&key, seed);
            let xxh3 = |row: usize| {
                let value = (hash % (1 << 64) + row as u128 * (hash >> 64)) % (1 << 64);
                (value * width as u128 / (1 << 64)) as usize
            };
            prop_assert_eq!(
                columns(HashFamily::Xxh3 { seed }, &key, width, depth),
                (0..depth).map(xxh3).collect::<Vec<_>>()
            );
        }
    }
}
