//! Seeded random numbers, and keys of 16 bytes made from them, the same in every run.

use rmbd_testkit::random::Random;

pub(crate) type Key = [u8; 16];

/// Uniform keys out of a hundred million.
pub(crate) fn uniform(seed: u64) -> impl Iterator<Item = Key> {
    let mut random = Random(seed);
    std::iter::repeat_with(move || key("user:", random.next() % 100_000_000))
}

/// Keys out of a million, by Zipf.
pub(crate) fn zipf(seed: u64) -> impl Iterator<Item = Key> {
    zipf_ranks(1_000_000, seed).map(|rank| key("user:", rank))
}

/// Keys out of a million, by Zipf with this exponent.
pub(crate) fn zipf_of(exponent: f64, seed: u64) -> impl Iterator<Item = Key> {
    ranks_of(1_000_000, exponent, seed).map(|rank| key("user:", rank))
}

/// Keys out of 2^20, by Zipf, as clients send them to nodes.
pub(crate) fn traffic() -> impl Iterator<Item = Key> {
    zipf_ranks(1 << 20, 0x5eed).map(|rank| key("key ", rank))
}

/// Ranks from 0 on, by Zipf with exponent 1.1.
fn zipf_ranks(ranks: u32, seed: u64) -> impl Iterator<Item = u64> {
    ranks_of(ranks, 1.1, seed)
}

/// Ranks from 0 on, by Zipf. The cumulative distribution is inverted.
fn ranks_of(ranks: u32, exponent: f64, seed: u64) -> impl Iterator<Item = u64> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=ranks)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    let mut random = Random(seed);
    std::iter::repeat_with(move || {
        let at = random.next() as f64 / 2_f64.powi(64) * sum;
        cumulative.partition_point(|&weight| weight < at) as u64
    })
}

/// A key: the prefix, and the rank in as many digits as fit behind it.
fn key(prefix: &str, rank: u64) -> Key {
    let digits = size_of::<Key>() - prefix.len();
    let text = format!("{prefix}{rank:0digits$}");
    *text.as_bytes().first_chunk().expect("16 bytes")
}
