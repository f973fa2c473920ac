//! Random numbers by a seed.

/// A random stream (splitmix64) with its state.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        random(&mut self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Returns the next number of the stream with this state, and changes the state (splitmix64: Steele, Lea & Flood
/// 2014).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
