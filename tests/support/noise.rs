//! Bytes that come from a seed: the same on every run and every machine.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A generator of everything random in a test.
pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Bytes that neither repeat nor compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng(seed).fill_bytes(&mut bytes);
    bytes
}

/// Bytes that compress and do not repeat.
pub(crate) fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut text = hex::encode(noise(seed, len.div_ceil(2))).into_bytes();
    text.truncate(len);
    text
}
