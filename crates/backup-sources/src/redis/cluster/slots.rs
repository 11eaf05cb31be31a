//! Slots: which one a key belongs to, and sets of them.

use backup_core::words;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How many there are.
pub(super) const COUNT: u16 = 16_384;

/// CRC-16 with the polynomial 0x1021, from zero, by the highest byte.
static TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The slot that a key belongs to: of what stands between its first `{` and the next `}`, if that
/// is anything.
pub(in super::super) fn slot_of(key: &[u8]) -> u16 {
    let of = |byte| key.iter().position(|other| *other == byte);
    let tag = of(b'{').map(|open| &key[open + 1..]);
    let tag = tag.and_then(|tag| Some(&tag[..tag.iter().position(|byte| *byte == b'}')?]));
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let next = |crc: u16, byte: &u8| TABLE[usize::from((crc >> 8) as u8 ^ byte)] ^ crc << 8;
    hashed.iter().fold(0, next) % COUNT
}

/// Some of them: ranges in order, with their first and last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(in super::super) struct Slots(Vec<(u16, u16)>);

impl Slots {
    /// Adds a range; false if that makes no sense.
    pub(in super::super) fn add(&mut self, first: u16, last: u16) -> bool {
        let at = self.0.partition_point(|range| range.0 < first);
        let before = at.checked_sub(1).is_none_or(|at| self.0[at].1 < first);
        let behind = self.0.get(at).is_none_or(|range| last < range.0);
        let is_good = first <= last && last < COUNT && before && behind;
        if is_good {
            self.0.insert(at, (first, last));
        }
        is_good
    }

    pub(in super::super) fn has(&self, slot: u16) -> bool {
        let at = self.0.partition_point(|range| range.1 < slot);
        self.0.get(at).is_some_and(|range| range.0 <= slot)
    }

    pub(in super::super) fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of a directory for them: they themselves, or a hash where that would be long.
    pub(in super::super) fn name(&self) -> String {
        const LONGEST: usize = 100;
        let one = |(first, last): &(u16, u16)| format!("{first}-{last}");
        let whole = self.0.iter().map(one).collect::<Vec<_>>().join("+");
        if whole.len() <= LONGEST {
            return whole;
        }
        let first = self.0.first().map(one).unwrap_or_default();
        format!("{first}+{}", hex::encode(&Sha256::digest(whole)[..12]))
    }
}

impl fmt::Display for Slots {
    /// As commands name them; of many ranges the first ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let one = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let shown: Vec<String> = self.0.iter().take(SHOWN).map(one).collect();
        f.write_str(&shown.join(" "))?;
        if self.0.len() > SHOWN {
            let more = (self.0.len() - SHOWN) as u64;
            write!(f, " and {}", words::count(more, "more range", "more ranges"))
        } else {
            Ok(())
        }
    }
}
