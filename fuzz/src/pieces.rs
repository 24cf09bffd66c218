//! Bytes as a network hands them over: in pieces of any size.

/// Sizes of pieces, the same for the same seed. Seed 0 is everything at once, 1 a byte at a time; others
/// mix small pieces with a few large ones, since heads and code points are small.
#[derive(Clone, Debug)]
pub struct Sizes {
    state: u64,
    /// Of what is long, pieces are larger: there are thousands of them, not millions.
    scale: usize,
}

impl Sizes {
    /// The sizes of a seed, for `length` bytes.
    pub fn new(seed: u8, length: usize) -> Self {
        Self { state: u64::from(seed), scale: 1 + length / (16 << 10) }
    }

    /// The next piece's size, of at most `left`; not 0 unless `left` is.
    pub fn next(&mut self, left: usize) -> usize {
        let size = match self.state {
            0 => left,
            1 => 1,
            _ => {
                self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bits = (self.state >> 33) as usize;
                1 + bits % [3, 8, 200, 5_000][bits >> 16 & 3]
            }
        };
        size.saturating_mul(self.scale).min(left)
    }
}
