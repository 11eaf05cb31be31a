//! Hashes of what keys hold: XXH3 of 128 bits. They find what differs by accident or mistake;
//! against forgery, the repository's own hashes stand.

use twox_hash::XxHash3_128;

/// What digests begin with. Those of before were sums of SHA-256, and have nothing in front.
const KIND: &str = "xxh3:";
/// Longer elements are hashed by themselves, and their hash stands for them, bytes.
const SHORT: usize = 256;
/// So many bytes are hashed at once; their hash stands before what comes next.
const AT_ONCE: usize = 64 << 10;

/// A digest, as it is recorded.
pub(super) fn digest_of(sum: u128) -> String {
    format!("{KIND}{sum:032x}")
}

/// The digest of what two recorded ones are of; empty, which is comparable with none, if they are
/// of an older kind.
pub(super) fn joined(one: &str, other: &str) -> String {
    let sum = |digest: &str| u128::from_str_radix(digest.strip_prefix(KIND)?, 16).ok();
    sum(one)
        .zip(sum(other))
        .map_or_else(String::new, |(one, other)| digest_of(one.wrapping_add(other)))
}

/// Whether a recorded digest can be compared with those that are made now.
pub(in super::super) fn is_comparable(digest: &str) -> bool {
    digest.starts_with(KIND)
}

/// The hash of one thing.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// Things in their order, to be hashed together; the memory is used again and again.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence {
    waiting: Vec<u8>,
}

impl Sequence {
    /// Adds something of any length.
    pub(super) fn element(&mut self, element: &[u8]) {
        self.number(element.len() as u64);
        if element.len() <= SHORT {
            self.waiting.extend_from_slice(element);
        } else {
            self.waiting.extend_from_slice(&hash(element).to_le_bytes());
        }
        if self.waiting.len() >= AT_ONCE {
            let before = self.take();
            self.waiting.extend_from_slice(&before.to_le_bytes());
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        self.waiting.extend_from_slice(&number.to_le_bytes());
    }

    /// The hash of all, and it begins anew.
    pub(super) fn take(&mut self) -> u128 {
        let hash = hash(&self.waiting);
        self.waiting.clear();
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: &[&[u8]]) -> u128 {
        let mut sequence = Sequence::default();
        elements.iter().for_each(|element| sequence.element(element));
        sequence.take()
    }

    #[test]
    fn order_borders_and_every_byte_count() {
        let long = vec![7; 300];
        let mut other = long.clone();
        other[299] = 8;
        let all: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"ab", b"c"], &[b"a", b"bc"], &[b"c", b"ab"], &[&long], &[&other]];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|before| of(before) != of(one)), "{one:?}");
        }
        // More than is hashed at once: the first of them counts as the last does.
        let many = vec![&long[..200]; 2000];
        for at in [0, 1999] {
            let mut changed = many.clone();
            changed[at] = &other[100..];
            assert_ne!(of(&changed), of(&many), "{at}");
        }
        // It begins anew, and stays what it is.
        let mut used = Sequence::default();
        used.element(b"x");
        used.take();
        used.element(b"abc");
        assert_eq!(used.take(), of(&[b"abc"]));
        assert_eq!(digest_of(hash(b"")), "xxh3:99aa06d3014798d86001c324468d497f");
        assert_eq!(joined(&digest_of(u128::MAX), &digest_of(3)), digest_of(2));
        assert_eq!((&*joined("07", &digest_of(3)), &*joined("xxh3:é", "xxh3:1")), ("", ""));
        assert!(is_comparable(&digest_of(0)) && !is_comparable(&"0".repeat(32)));
    }
}
