//! Which packs hold how much of what is needed.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::format::{BlobKind, PackHeader};
use crate::repository::index::{BlobIndex, PackInfo};
use crate::repository::reach::Bits;

/// A pack and how much of it is needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackUse {
    pub(super) info: PackInfo,
    pub(super) kind: BlobKind,
    /// Blobs that are needed from here: not those of which another pack holds the copy that counts.
    pub(super) used_blobs: u32,
    pub(super) used_bytes: u64,
    /// Bytes of needed blobs, whether or not this is the copy that counts.
    needed_bytes: u64,
}

impl PackUse {
    pub(super) fn is_used(&self) -> bool {
        self.used_blobs > 0
    }

    pub(super) fn unused_bytes(&self) -> u64 {
        self.info.end.saturating_sub(self.used_bytes)
    }

    /// Whether more of what it holds would fit into one pack of `size` bytes. A pack that is full
    /// of tiny blobs never gets near that size: it would be moved again and again.
    pub(super) fn is_small(&self, size: usize) -> bool {
        self.info.size < size as u64 / 4 && (self.info.blobs as usize) < PackHeader::MAX_BLOBS / 4
    }
}

/// All packs by number, and which copy counts of blobs that are there more than once.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) packs: Vec<PackUse>,
    chosen: HashMap<u64, u32>,
    /// All copies of needed blobs that have several, in order of their slots: slot, pack, length.
    copies: Vec<(u64, u32, u32)>,
}

/// Results of reading blobs that have several copies, by slot: the pack of a sound copy, or `None`
/// if none was found, so that every copy stays.
pub(super) type Verdicts = HashMap<u64, Option<u32>>;

impl Usage {
    /// Counts what is needed of each pack. Of several copies in packs that are there the one counts
    /// that is not marked, and then the one in the pack of which most is needed: the others can go.
    pub(super) fn count(
        index: &dyn BlobIndex,
        needed: &Bits,
        is_there: impl Fn(&PackInfo) -> bool,
        verdicts: &Verdicts,
    ) -> Self {
        let mut packs = Vec::new();
        index.for_each_pack(&mut |info| {
            packs.push(PackUse {
                info,
                kind: BlobKind::Data,
                used_blobs: 0,
                used_bytes: 0,
                needed_bytes: 0,
            });
        });
        let there: Vec<bool> = packs.iter().map(|pack| is_there(&pack.info)).collect();
        let (mut seen, mut several, mut any) =
            (Bits::below(index.slots()), Bits::below(index.slots()), false);
        index.for_each_copy(&mut |slot, pack, blob| {
            let used = &mut packs[pack as usize];
            used.kind = blob.kind;
            if !needed.contains(slot) || !there[pack as usize] {
                return;
            }
            used.needed_bytes += u64::from(blob.len);
            if seen.insert(slot) {
                used.add(blob.len);
            } else {
                several.insert(slot);
                any = true;
            }
        });
        let mut copies: Vec<(u64, u32, u32)> = Vec::new();
        if any {
            index.for_each_copy(&mut |slot, pack, blob| {
                if several.contains(slot) && there[pack as usize] {
                    // The first of them was counted, because nobody knew of the others yet.
                    if seen.remove(slot) {
                        packs[pack as usize].subtract(blob.len);
                    }
                    copies.push((slot, pack, blob.len));
                }
            });
        }
        copies.sort_unstable();
        let mut usage = Self { packs, chosen: HashMap::new(), copies };
        usage.choose(verdicts);
        usage
    }

    fn choose(&mut self, verdicts: &Verdicts) {
        // Parts per million that are needed: what was moved out of a pack lies in one that is
        // needed as a whole, and counts there, also if the move was interrupted.
        let share = |pack: &PackUse| {
            u128::from(pack.needed_bytes) * 1_000_000 / u128::from(pack.info.end.max(1))
        };
        let rank = |pack: &PackUse| {
            (pack.info.mark.is_none(), pack.info.listed, share(pack), pack.info.size, pack.info.id)
        };
        let ranks: HashMap<u32, _> = self
            .copies
            .iter()
            .map(|(_, pack, _)| (*pack, rank(&self.packs[*pack as usize])))
            .collect();
        for same in self.copies.chunk_by(|a, b| a.0 == b.0) {
            let verdict = same.first().and_then(|(slot, _, _)| verdicts.get(slot));
            if let Some(None) = verdict {
                // Each stays: it may be the sound one.
                same.iter().for_each(|(_, pack, len)| self.packs[*pack as usize].add(*len));
                continue;
            }
            let is_eligible = |pack: &u32| verdict.is_none_or(|sound| *sound == Some(*pack));
            let eligible = same.iter().filter(|(_, pack, _)| is_eligible(pack));
            if let Some((slot, pack, len)) = eligible.max_by_key(|(_, pack, _)| ranks.get(pack)) {
                self.chosen.insert(*slot, *pack);
                self.packs[*pack as usize].add(*len);
            }
        }
    }

    /// Blobs of which a copy is given up with these packs while another one counts, which was not
    /// read yet: the packs of each one's copies by slot, that of the copy that counts first.
    pub(super) fn unconfirmed(
        &self,
        given_up: &HashSet<u32>,
        verdicts: &Verdicts,
    ) -> BTreeMap<u64, Vec<u32>> {
        let mut unconfirmed = BTreeMap::new();
        for same in self.copies.chunk_by(|a, b| a.0 == b.0) {
            let Some((slot, _, _)) = same.first() else { continue };
            let Some(chosen) = self.chosen.get(slot).filter(|_| !verdicts.contains_key(slot))
            else {
                continue;
            };
            let mut packs: Vec<u32> = same.iter().map(|(_, pack, _)| *pack).collect();
            packs.dedup();
            if packs.iter().any(|pack| pack != chosen && given_up.contains(pack)) {
                packs.sort_by_key(|pack| pack != chosen);
                unconfirmed.insert(*slot, packs);
            }
        }
        unconfirmed
    }

    /// Whether the copy in this pack is the one that counts of a needed blob.
    pub(super) fn counts(&self, slot: u64, pack: u32) -> bool {
        self.chosen.get(&slot).is_none_or(|chosen| *chosen == pack)
    }
}

impl PackUse {
    fn add(&mut self, len: u32) {
        self.used_blobs += 1;
        self.used_bytes += u64::from(len);
    }

    fn subtract(&mut self, len: u32) {
        self.used_blobs -= 1;
        self.used_bytes -= u64::from(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;

    #[test]
    fn what_is_full_of_tiny_blobs_is_not_small() {
        let pack = |blobs, size| {
            let info = PackInfo {
                id: PackId::digest(b""),
                blobs,
                end: size,
                size,
                mark: None,
                listed: true,
            };
            PackUse {
                info,
                kind: BlobKind::Data,
                used_blobs: blobs,
                used_bytes: size,
                needed_bytes: size,
            }
        };
        assert!(pack(10, 1 << 20).is_small(16 << 20));
        assert!(!pack(10, 5 << 20).is_small(16 << 20));
        assert!(!pack(50_000, 3 << 20).is_small(16 << 20));
    }
}
