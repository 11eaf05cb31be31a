//! The bytes of a content: kept, or made when they are read.

use bytes::Bytes;

/// Generated content is made in blocks of so many bytes.
const BLOCK: usize = 64 << 10;
/// The first so many bytes of a block are random.
const RANDOM: usize = BLOCK / 2;
/// The rest repeats the first so many bytes.
const PATTERN: usize = 256;

/// Content of a scripted file.
#[derive(Debug, Clone)]
pub struct Data(Form);

#[derive(Debug, Clone)]
enum Form {
    Bytes(Bytes),
    Generated { len: u64, seed: u64 },
}

impl Default for Data {
    fn default() -> Self {
        Self(Form::Bytes(Bytes::new()))
    }
}

impl<T: Into<Bytes>> From<T> for Data {
    fn from(bytes: T) -> Self {
        Self(Form::Bytes(bytes.into()))
    }
}

impl Data {
    /// `len` pseudo-random bytes, always the same for the same seed and different for others, that
    /// compress to about half. They are made when they are read, so that any length needs no
    /// memory.
    #[must_use]
    pub fn generated(len: u64, seed: u64) -> Self {
        Self(Form::Generated { len, seed })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Form::Bytes(bytes) => bytes.len() as u64,
            Form::Generated { len, .. } => *len,
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from `offset` on, as many as suit: none only at the end.
    #[must_use]
    pub fn piece(&self, offset: u64) -> Bytes {
        match &self.0 {
            Form::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(from..bytes.len().min(from + (1 << 20)))
            }
            Form::Generated { len, seed } => {
                if offset >= *len {
                    return Bytes::new();
                }
                let block = block(*seed, offset / BLOCK as u64);
                let from = (offset % BLOCK as u64) as usize;
                let left = usize::try_from(len - offset).unwrap_or(usize::MAX);
                Bytes::from(block).slice(from..BLOCK.min(from.saturating_add(left)))
            }
        }
    }

    /// All bytes in memory.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if let Form::Bytes(bytes) = &self.0 {
            return bytes.clone();
        }
        let mut all = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        loop {
            let piece = self.piece(all.len() as u64);
            if piece.is_empty() {
                return all.into();
            }
            all.extend_from_slice(&piece);
        }
    }
}

/// One block of generated content.
fn block(seed: u64, number: u64) -> Vec<u8> {
    // SplitMix64 over the pair; then xorshift, which is fast even in an unoptimised build.
    let mut state = mix(seed ^ mix(number)) | 1;
    let mut block = vec![0; BLOCK];
    let (random, repeated) = block.split_at_mut(RANDOM);
    for word in random.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    for part in repeated.chunks_exact_mut(PATTERN) {
        part.copy_from_slice(&random[..PATTERN]);
    }
    block
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_content_depends_on_seed_and_length_only() {
        let long = Data::generated(200_001, 1).to_bytes();
        assert_eq!(long.len(), 200_001);
        assert_eq!(Data::generated(70_000, 1).to_bytes(), long[..70_000]);
        assert_ne!(Data::generated(70_000, 2).to_bytes(), long[..70_000]);
        assert_ne!(long[..BLOCK], long[BLOCK..2 * BLOCK]);
        assert_eq!(Data::generated(200_001, 1).piece(100_000), long[100_000..2 * BLOCK]);
        assert!(Data::generated(0, 1).to_bytes().is_empty());
        assert!(Data::generated(u64::MAX, 1).piece(u64::MAX).is_empty());
    }

    #[test]
    fn generated_content_compresses_to_about_half() {
        let data = Data::generated(1 << 20, 3).to_bytes();
        let packed = zstd::bulk::compress(&data, 3).unwrap();
        let percent = packed.len() * 100 / data.len();
        assert!((45..60).contains(&percent), "{percent} %");
    }
}
