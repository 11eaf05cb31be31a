//! FastCDC (Xia et al., USENIX ATC 2016 and IEEE TPDS 2020) with normalised chunking: a stricter mask before the target
//! size and a looser one after it keep sizes near the target.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{MAX_CHUNK, MIN_CHUNK, TARGET_CHUNK};

/// Bits that must be zero at a cut: two more than the target's 20 before it, two fewer after it. The bits are high ones,
/// which depend on the last 64 bytes rather than on the last few.
const STRICT: u64 = ((1 << 22) - 1) << 42;
const LOOSE: u64 = ((1 << 18) - 1) << 46;

/// The table that drives the rolling hash.
#[derive(Clone)]
pub struct Gear(Box<[u64; 256]>);

impl fmt::Debug for Gear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gear(secret)")
    }
}

impl Gear {
    /// Expands a repository's seed into the table: entry `i` is the first eight bytes of `SHA-256(seed ‖ i)`. This never
    /// changes, or nothing would deduplicate with what is stored.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut table = Box::new([0; 256]);
        for (entry, value) in (0_u8..=255).zip(table.iter_mut()) {
            let digest: [u8; 32] = Sha256::new().chain_update(seed).chain_update([entry]).finalize().into();
            let mut first = [0; 8];
            first.copy_from_slice(&digest[..8]);
            *value = u64::from_le_bytes(first);
        }
        Self(table)
    }

    /// Length of the first chunk of `data`. If `data` is shorter than [`MAX_CHUNK`] it must be the end of the stream.
    #[must_use]
    pub fn cut(&self, data: &[u8]) -> usize {
        if data.len() <= MIN_CHUNK {
            return data.len();
        }
        let end = data.len().min(MAX_CHUNK);
        let middle = end.min(TARGET_CHUNK);
        let mut hash = 0_u64;
        // The hash depends on the last 64 bytes only, so that it need not start at the beginning.
        for byte in &data[MIN_CHUNK - 64..MIN_CHUNK] {
            hash = self.roll(hash, *byte);
        }
        for (at, byte) in data[MIN_CHUNK..middle].iter().enumerate() {
            hash = self.roll(hash, *byte);
            if hash & STRICT == 0 {
                return MIN_CHUNK + at + 1;
            }
        }
        for (at, byte) in data[middle..end].iter().enumerate() {
            hash = self.roll(hash, *byte);
            if hash & LOOSE == 0 {
                return middle + at + 1;
            }
        }
        end
    }

    #[inline]
    fn roll(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.0[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random(len: usize, seed: u64) -> Vec<u8> {
        let mut data = vec![0; len];
        StdRng::seed_from_u64(seed).fill_bytes(&mut data);
        data
    }

    fn chunks<'a>(gear: &Gear, mut data: &'a [u8]) -> Vec<&'a [u8]> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let (chunk, rest) = data.split_at(gear.cut(data));
            out.push(chunk);
            data = rest;
        }
        out
    }

    #[test]
    fn sizes_stay_within_bounds_and_near_the_target() {
        let gear = Gear::from_seed([1; 32]);
        let data = random(64 << 20, 1);
        let cut = chunks(&gear, &data);
        assert!(cut[..cut.len() - 1].iter().all(|c| c.len() > MIN_CHUNK && c.len() <= MAX_CHUNK));
        let mean = data.len() / cut.len();
        assert!((900 << 10..1600 << 10).contains(&mean), "{mean}");
        assert_eq!(gear.cut(b""), 0);
        assert_eq!(gear.cut(&vec![0; 9 << 20]), MAX_CHUNK);
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let gear = Gear::from_seed([2; 32]);
        let data = random(32 << 20, 2);
        let mut changed = data.clone();
        changed.splice(5_000_000..5_000_000, [1, 2, 3]);
        let before: std::collections::HashSet<_> = chunks(&gear, &data).into_iter().collect();
        let new = chunks(&gear, &changed).into_iter().filter(|c| !before.contains(c)).count();
        assert!(new <= 3, "{new} of {} chunks are new", before.len());
    }

    #[test]
    fn the_table_never_changes() {
        let table = Gear::from_seed([0; 32]).0;
        assert_eq!((table[0], table[255]), (14_579_984_519_737_023_615, 8_001_715_086_548_807_852));
    }

    #[test]
    fn another_seed_cuts_elsewhere() {
        let data = random(8 << 20, 3);
        assert_ne!(Gear::from_seed([1; 32]).cut(&data), Gear::from_seed([2; 32]).cut(&data));
    }
}
