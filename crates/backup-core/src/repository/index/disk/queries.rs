//! The [`BlobIndex`] of the mapped files and of the packs added by this process.

use std::sync::PoisonError;

use super::format::Record;
use super::part::Part;
use super::{DiskIndex, LITTLE, WALKED};
use crate::format::{BlobKind, PackedBlob};
use crate::id::{BlobId, IndexId, PackId};
use crate::repository::index::{BlobIndex, BlobLocation, Listing, Mark, PackInfo, StatedLen};

impl BlobIndex for DiskIndex {
    fn find(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.find_lasting(kind, id).or_else(|| {
            let marked = self.in_files(kind, id).next();
            marked
                .map(|(record, pack)| location(kind, &record, &pack))
                .or_else(|| self.added.find(kind, id))
        })
    }

    fn find_lasting(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        let lasting = self.in_files(kind, id).find(|(_, pack)| pack.mark.is_none());
        lasting
            .map(|(record, pack)| location(kind, &record, &pack))
            .or_else(|| self.added.find_lasting(kind, id))
    }

    fn find_all(&self, kind: BlobKind, id: &BlobId) -> Vec<BlobLocation> {
        let mut found: Vec<(bool, BlobLocation)> = self
            .in_files(kind, id)
            .map(|(record, pack)| (pack.mark.is_some(), location(kind, &record, &pack)))
            .collect();
        found.extend(self.added.find_all(kind, id).into_iter().map(|at| {
            let lasting = self.added.find_lasting(kind, id).is_some_and(|lasting| lasting == at);
            (!lasting, at)
        }));
        found.sort_by_key(|(marked, _)| *marked);
        found.into_iter().map(|(_, at)| at).collect()
    }

    fn stated_len(&self, kind: BlobKind, id: &BlobId) -> StatedLen {
        let added = match self.added.stated_len(kind, id) {
            StatedLen::Unknown => None,
            StatedLen::One(len) => Some(len),
            StatedLen::Several => return StatedLen::Several,
        };
        let in_files = self.parts.iter().flat_map(|part| part.copies(kind, id));
        let lengths = in_files.map(|(_, record)| record.blob(kind).plain_len());
        StatedLen::of(lengths.chain(added))
    }

    fn disputed_packs(&self) -> Vec<PackId> {
        let numbers = |part: &Part| part.disputed.keys().copied().collect::<Vec<_>>();
        let in_files = self.parts.iter().flat_map(|part| {
            numbers(part).into_iter().filter_map(|number| Some(part.segment.pack(number)?.id))
        });
        let mut packs: Vec<PackId> = in_files.chain(self.added.disputed_packs()).collect();
        packs.sort_unstable();
        packs.dedup();
        packs
    }

    fn sizes(&self, pack: &PackId) -> Vec<u64> {
        let in_files = self.parts.iter().flat_map(|part| {
            let live =
                part.segment.find_packs(pack).filter(|number| part.global(*number).is_some());
            live.filter_map(|number| Some(u64::from(part.segment.pack(number)?.size)))
        });
        in_files.chain(self.added.sizes(pack)).collect()
    }

    fn slot(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        self.slot_in_files(kind, id).or_else(|| Some(self.slots + self.added.slot(kind, id)?))
    }

    fn slots(&self) -> u64 {
        self.slots + self.added.slots()
    }

    fn slot_if_found(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        let mut slot = None;
        for part in &self.parts {
            for (at, record) in part.copies(kind, id) {
                slot = slot.or(Some(part.slot(kind, at)));
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                if part.global(record.pack).is_some_and(|pack| !state.hidden.contains(pack.into()))
                {
                    return slot;
                }
            }
        }
        let added = self.added.slot_if_found(kind, id)?;
        slot.or(Some(self.slots + added))
    }

    fn for_each_copy(&self, f: &mut dyn FnMut(u64, u32, &PackedBlob)) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            self.for_each_in_files(kind, f);
        }
        self.added.for_each_copy(&mut |slot, pack, blob| {
            let slot = self.slot_in_files(blob.kind, &blob.id).unwrap_or(self.slots + slot);
            f(slot, self.packs + pack, blob);
        });
    }

    fn hide_packs(&self, packs: &[PackId]) {
        let numbers: Vec<u32> =
            packs.iter().filter_map(|id| self.find_pack(id)).map(|found| found.0).collect();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for number in numbers {
            state.hidden.insert(number.into());
        }
        drop(state);
        self.added.hide_packs(packs);
    }

    fn add_pack(&self, pack: PackId, blobs: &[PackedBlob]) {
        match self.find_pack(&pack) {
            Some((number, info, _)) => self.combine(number, info.mark, true),
            None => self.added.add_pack(pack, blobs),
        }
    }

    fn add_marked_pack(&self, pack: PackId, blobs: &[PackedBlob], mark: Mark) {
        match self.find_pack(&pack) {
            Some((number, info, _)) => {
                self.combine(number, info.mark.max(Some(mark)), info.listed);
            }
            None => self.added.add_marked_pack(pack, blobs, mark),
        }
    }

    fn mark_packs(&self, packs: &[PackId], mark: Mark) {
        for pack in packs {
            if let Some((number, info, _)) = self.find_pack(pack) {
                self.combine(number, info.mark.max(Some(mark)), info.listed);
            }
        }
        self.added.mark_packs(packs, mark);
    }

    fn for_each_pack(&self, f: &mut dyn FnMut(PackInfo)) {
        for part in &self.parts {
            for number in 0..part.segment.packs() {
                if let Some(info) =
                    part.own(number).and_then(|global| self.info(part, number, global))
                {
                    f(info);
                }
            }
        }
        self.added.for_each_pack(f);
    }

    fn for_each_listing(&self, f: &mut dyn FnMut(&IndexId, Listing)) {
        for part in &self.parts {
            let objects = part.segment.objects();
            let listings = (0..part.segment.packs()).filter_map(|number| part.segment.pack(number));
            for pack in listings.filter(|pack| part.counts.get(pack.object as usize) == Some(&true))
            {
                if let Some(object) = objects.get(pack.object as usize) {
                    f(object, Listing { pack: pack.id, blobs: pack.blobs, mark: pack.mark });
                }
            }
        }
    }

    fn for_each_blob(&self, f: &mut dyn FnMut(BlobLocation)) {
        for part in &self.parts {
            for kind in [BlobKind::Data, BlobKind::Tree] {
                for at in 0..part.segment.count(kind) {
                    if at % WALKED == 0 {
                        part.segment.release();
                    }
                    let Some(record) = part.segment.record(kind, at) else { continue };
                    let Some(pack) = part
                        .global(record.pack)
                        .and_then(|global| self.info(part, record.pack, global))
                    else {
                        continue;
                    };
                    f(location(kind, &record, &pack));
                }
            }
        }
        self.added.for_each_blob(f);
    }

    fn len(&self) -> usize {
        self.blobs + self.added.len()
    }

    fn release(&self) {
        if self.parts.iter().map(|part| part.segment.bytes()).sum::<u64>() > LITTLE {
            self.parts.iter().for_each(|part| part.segment.release());
        }
    }

    fn is_intact(&self) -> bool {
        self.parts.iter().all(|part| part.segment.is_intact())
    }
}

fn location(kind: BlobKind, record: &Record, pack: &PackInfo) -> BlobLocation {
    BlobLocation { pack: pack.id, pack_end: pack.end, blob: record.blob(kind) }
}
