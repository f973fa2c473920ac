//! The fingerprint of a sketch, which two ends compare before they trust each other's cells.

use sha2::{Digest, Sha256};

use rmbd_sketch::{Geometry, HashFamily};

/// A prefix that separates these digests from all others.
const CONTEXT: &[u8] = b"rmbd fingerprint 1\0";

/// The fingerprint of a sketch. It is equal for two sketches with the same width, depth, hash and hash seed, and (but
/// for one pair in 2^64) only for those.
///
/// It is the first 8 bytes, little-endian, of SHA-256 over a context, width and depth (`u64`, little-endian), the
/// name of the hash, a zero byte, and the seed as the key (`u64`, little-endian; nothing for `fnv`).
///
/// All parts but the last have a fixed length or an end, and no part of the digest is left over to extend. So this is
/// a keyed digest without the wrapping of HMAC. It does not reveal a seed of 64 random bits. It confirms a seed that
/// somebody can guess, so draw the seed at random.
///
/// ```
/// use rmbd_store::fingerprint;
/// use rmbd_sketch::{Geometry, HashFamily};
///
/// let of_seed = |seed| fingerprint(Geometry::DEFAULT, HashFamily::Xxh3 { seed });
/// assert_eq!(of_seed(7), of_seed(7));
/// assert_ne!(of_seed(7), of_seed(8));
/// ```
#[must_use]
pub fn fingerprint(geometry: Geometry, family: HashFamily) -> u64 {
    let mut digest = Sha256::new();
    digest.update(CONTEXT);
    digest.update((geometry.width() as u64).to_le_bytes());
    digest.update((geometry.depth() as u64).to_le_bytes());
    digest.update(family.name());
    digest.update([0]);
    if let HashFamily::Xxh3 { seed } = family {
        digest.update(seed.to_le_bytes());
    }
    let digest: [u8; 32] = digest.finalize().into();
    digest
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The expected values come from Python's `hashlib`: they are the same on all machines and releases.
    #[test]
    fn is_that_of_the_definition() {
        let geometry = Geometry::new(1 << 20, 4).unwrap();
        let xxh3 = HashFamily::Xxh3 { seed: 0x726d_6264 };
        assert_eq!(fingerprint(geometry, xxh3), 0x2594_038f_98dd_d40a);
        let compat = Geometry::new(100, 10).unwrap();
        assert_eq!(fingerprint(compat, HashFamily::Fnv), 0x448e_28e1_1a8d_5405);
    }

    #[test]
    fn differs_where_anything_does() {
        let of = |width, depth, family| fingerprint(Geometry::new(width, depth).unwrap(), family);
        let all = [
            of(100, 10, HashFamily::Fnv),
            of(10, 100 / 10, HashFamily::Fnv),
            of(101, 10, HashFamily::Fnv),
            of(100, 10, HashFamily::Xxh3 { seed: 0 }),
            of(100, 10, HashFamily::Xxh3 { seed: 1 }),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one));
        }
    }
}
