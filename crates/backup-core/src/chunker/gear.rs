//! FastCDC (Xia et al., USENIX ATC 2016 and IEEE TPDS 2020) with normalised chunking: a stricter
//! mask before the target size and a looser one after it keep sizes near the target.

use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::{MAX_CHUNK, MIN_CHUNK, TARGET_CHUNK};

/// Below this a hash is at a cut: its 22 highest bits are zero before the target, two more than the
/// target's 20, and its 18 highest behind it, two fewer. High bits depend on the last 64 bytes
/// rather than on the last few.
const STRICT: u64 = 1 << 42;
const LOOSE: u64 = 1 << 46;

/// So many bytes have a part in a hash.
const WINDOW: usize = 64;

/// The table that drives the rolling hash.
#[derive(Clone)]
pub struct Gear(Box<[u64; 256]>);

impl fmt::Debug for Gear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gear(secret)")
    }
}

impl Gear {
    /// Expands a repository's seed into the table: entry `i` is the first eight bytes of
    /// `SHA-256(seed ‖ i)`. This never changes, or nothing would deduplicate with what is stored.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut table = Box::new([0; 256]);
        for (entry, value) in (0_u8..=255).zip(table.iter_mut()) {
            let digest: [u8; 32] =
                Sha256::new().chain_update(seed).chain_update([entry]).finalize().into();
            let mut first = [0; 8];
            first.copy_from_slice(&digest[..8]);
            *value = u64::from_le_bytes(first);
        }
        Self(table)
    }

    /// Length of the chunk that `data` begins with, in whose first `from` bytes no end was found
    /// before; `None` if `data` ends before the chunk does.
    #[must_use]
    pub fn cut(&self, data: &[u8], from: usize) -> Option<usize> {
        let end = data.len().min(MAX_CHUNK);
        let from = from.max(MIN_CHUNK);
        let middle = end.min(TARGET_CHUNK);
        let found = self
            .search(data, from..middle, STRICT)
            .or_else(|| self.search(data, from.max(TARGET_CHUNK)..end, LOOSE))
            .map(|at| at + 1);
        found.or((end == MAX_CHUNK).then_some(end))
    }

    /// The first byte of `range` whose hash is below `limit`. The hash of a byte depends on the
    /// last 64 bytes only, so that it need not start at the beginning.
    ///
    /// Four bytes at a time: what they add to the hash is found without waiting for the hash before
    /// them. That takes half the time of one byte after the other.
    fn search(&self, data: &[u8], range: Range<usize>, limit: u64) -> Option<usize> {
        if range.is_empty() {
            return None;
        }
        let mut hash = data[range.start - WINDOW..range.start]
            .iter()
            .fold(0, |hash, byte| self.roll(hash, *byte));
        let (fours, rest) = data[range.clone()].as_chunks::<4>();
        let mut at = range.start;
        for four in fours {
            let [a, b, c, d] = four.map(|byte| self.0[usize::from(byte)]);
            let two = (a << 1).wrapping_add(b);
            let three = (two << 1).wrapping_add(c);
            let all = (three << 1).wrapping_add(d);
            let hashes = [
                (hash << 1).wrapping_add(a),
                (hash << 2).wrapping_add(two),
                (hash << 3).wrapping_add(three),
                (hash << 4).wrapping_add(all),
            ];
            if let Some(within) = hashes.iter().position(|hash| *hash < limit) {
                return Some(at + within);
            }
            hash = hashes[3];
            at += 4;
        }
        for byte in rest {
            hash = self.roll(hash, *byte);
            if hash < limit {
                return Some(at);
            }
            at += 1;
        }
        None
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
            let (chunk, rest) = data.split_at(gear.cut(data, 0).unwrap_or(data.len()));
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
        assert_eq!(gear.cut(b"", 0), None);
        assert_eq!(gear.cut(&vec![0; 9 << 20], 0), Some(MAX_CHUNK));
    }

    /// The end of a chunk by the book: one byte after the other, from the beginning.
    fn by_the_book(gear: &Gear, data: &[u8]) -> Option<usize> {
        let mut hash = 0;
        for (at, byte) in data.iter().enumerate() {
            hash = gear.roll(hash, *byte);
            let bits = if at < TARGET_CHUNK { 22 } else { 18 };
            let is_cut = at >= MIN_CHUNK && hash >> (64 - bits) == 0;
            if is_cut || at + 1 == MAX_CHUNK {
                return Some(at + 1);
            }
        }
        None
    }

    #[test]
    fn ends_are_where_they_always_were() {
        let gear = Gear::from_seed([4; 32]);
        let data = random(24 << 20, 4);
        let mut rest = &data[..];
        let (mut before, mut behind) = (0, 0);
        while let Some(end) = by_the_book(&gear, rest) {
            assert_eq!(gear.cut(rest, 0), Some(end));
            // However much is there, and wherever the search goes on.
            for known in [0, 1, WINDOW, MIN_CHUNK - 1, MIN_CHUNK, MIN_CHUNK + 3, end - 1] {
                assert_eq!(gear.cut(&rest[..end], known.min(end - 1)), Some(end), "{known}");
            }
            assert_eq!(gear.cut(&rest[..end - 1], 0), None);
            let side = if end < TARGET_CHUNK { &mut before } else { &mut behind };
            *side += 1;
            rest = &rest[end..];
        }
        assert!(before > 0 && behind > 0, "{before} {behind}");
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
        assert_ne!(Gear::from_seed([1; 32]).cut(&data, 0), Gear::from_seed([2; 32]).cut(&data, 0));
    }
}
