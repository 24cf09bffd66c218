//! UTF-8 that comes in pieces, checked up to the first byte that cannot be right.

/// A text so far.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// A code point under way.
    partial: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Takes the next bytes. False: the text is not UTF-8, whatever follows.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0 {
            let Some((first, rest)) = bytes.split_first() else {
                return true;
            };
            self.partial[self.len] = *first;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.partial[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let tail = &bytes[error.valid_up_to()..];
                self.partial[..tail.len()].copy_from_slice(tail);
                self.len = tail.len();
                true
            }
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_judged_like_the_whole() {
        let cases: [&[u8]; 8] = [
            "aä€😀z".as_bytes(),
            b"\xc3",
            b"\xc3\x28",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf0\x9f\x98",
            b"a\x80",
            b"",
        ];
        for bytes in cases {
            for size in 1..=bytes.len().max(1) {
                let mut text = Utf8::default();
                let valid = bytes.chunks(size).all(|piece| text.feed(piece)) && text.is_complete();
                assert_eq!(valid, std::str::from_utf8(bytes).is_ok(), "{bytes:x?} in pieces of {size}");
            }
        }
    }
}
