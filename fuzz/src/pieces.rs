//! Bytes as a network hands them over: in pieces of any size.

/// Sizes of pieces, the same for the same seed. Seed 0 is everything at once, 1 a byte at a time; others
/// mix small pieces with a few large ones, since heads and code points are small.
#[derive(Clone, Debug)]
pub struct Sizes(u64);

impl Sizes {
    /// The sizes of a seed.
    pub fn new(seed: u8) -> Self {
        Self(u64::from(seed))
    }

    /// The next piece's size, of at most `left`; not 0 unless `left` is.
    pub fn next(&mut self, left: usize) -> usize {
        let size = match self.0 {
            0 => left,
            1 => 1,
            _ => {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bits = (self.0 >> 33) as usize;
                1 + bits % [3, 8, 200, 5_000][bits >> 16 & 3]
            }
        };
        size.min(left)
    }
}
