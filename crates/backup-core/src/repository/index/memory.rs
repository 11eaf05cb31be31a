//! An index in memory: records of 44 bytes in one vector, found through a table of 4-byte record
//! numbers.

use std::sync::{PoisonError, RwLock};

use hashbrown::{HashMap, HashSet, HashTable};

use super::{BlobIndex, BlobLocation, Listing, Mark, PackInfo, StatedLen, add, extent};
use crate::format::{BlobKind, IndexBlob, IndexFile, PackedBlob};
use crate::id::{BlobId, IndexId, PackId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    id: BlobId,
    pack: u32,
    offset: u32,
    len: u32,
    /// Plain length; `u32::MAX` says not compressed.
    plain: u32,
}

const NOT_COMPRESSED: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Table {
    records: Vec<Record>,
    by_id: HashTable<u32>,
}

/// Identifiers are digests: any eight bytes of them are a hash.
fn hash(id: &BlobId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Table {
    fn find_all(&self, id: &BlobId) -> impl Iterator<Item = &Record> {
        self.by_id
            .iter_hash(hash(id))
            .map(|at| &self.records[*at as usize])
            .filter(move |record| record.id == *id)
    }

    /// The first record of a blob: the same whichever copy of it is asked for.
    fn first(&self, id: &BlobId) -> Option<u32> {
        let same =
            self.by_id.iter_hash(hash(id)).filter(|at| self.records[**at as usize].id == *id);
        same.copied().min()
    }

    fn insert(&mut self, record: Record) {
        let Ok(at) = u32::try_from(self.records.len()) else {
            return;
        };
        self.records.push(record);
        let records = &self.records;
        self.by_id.insert_unique(hash(&record.id), at, |at| hash(&records[*at as usize].id));
    }
}

#[derive(Debug, Default)]
struct Inner {
    packs: Vec<PackInfo>,
    hidden: HashSet<u32, std::hash::RandomState>,
    known_packs: HashMap<PackId, u32, std::hash::RandomState>,
    /// The sizes of packs by the listings that differ from the first one. By number.
    disputed: HashMap<u32, Vec<u64>, std::hash::RandomState>,
    data: Table,
    tree: Table,
    objects: Vec<IndexId>,
    /// Each with the number of its object.
    listings: Vec<(u32, Listing)>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct MemoryIndex(RwLock<Inner>);

impl MemoryIndex {
    /// Adds what an index object says.
    pub(crate) fn add_object(&self, object: IndexId, file: &IndexFile) {
        add(self, file);
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Ok(number) = u32::try_from(inner.objects.len()) else {
            return;
        };
        inner.objects.push(object);
        let listing = |pack, blobs: &[IndexBlob], mark| {
            let blobs = u32::try_from(blobs.len()).unwrap_or(u32::MAX);
            (number, Listing { pack, blobs, mark })
        };
        inner.listings.extend(file.packs.iter().map(|pack| listing(pack.id, &pack.blobs, None)));
        let marked = file.packs_to_delete.iter();
        inner.listings.extend(
            marked.map(|pack| listing(pack.id, &pack.blobs, Some(Mark { time: pack.time }))),
        );
    }
}

impl Inner {
    fn table(&self, kind: BlobKind) -> &Table {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.tree,
        }
    }

    fn visible(&self, kind: BlobKind, id: &BlobId) -> impl Iterator<Item = &Record> {
        self.table(kind).find_all(id).filter(|record| !self.hidden.contains(&record.pack))
    }

    fn is_marked(&self, record: &Record) -> bool {
        self.packs[record.pack as usize].mark.is_some()
    }

    fn first_lasting(&self, kind: BlobKind, id: &BlobId) -> Option<&Record> {
        self.visible(kind, id).find(|record| !self.is_marked(record))
    }

    fn location(&self, kind: BlobKind, record: &Record) -> BlobLocation {
        let pack = &self.packs[record.pack as usize];
        BlobLocation { pack: pack.id, pack_end: pack.end, blob: record.blob(kind) }
    }

    fn add(&mut self, pack: PackId, blobs: &[PackedBlob], mark: Option<Mark>) {
        let Ok(number) = u32::try_from(self.packs.len()) else {
            return;
        };
        if let Some(known) = self.known_packs.get(&pack).copied() {
            let info = &mut self.packs[known as usize];
            info.mark = info.mark.max(mark);
            info.listed |= mark.is_none();
            self.compare(known, blobs);
            return;
        }
        self.known_packs.insert(pack, number);
        let (end, size) = extent(blobs);
        let count = u32::try_from(blobs.len()).unwrap_or(u32::MAX);
        self.packs.push(PackInfo {
            id: pack,
            blobs: count,
            end,
            size,
            mark,
            listed: mark.is_none(),
        });
        for blob in blobs {
            self.insert(blob.kind, Record::new(number, blob));
        }
    }

    fn insert(&mut self, kind: BlobKind, record: Record) {
        match kind {
            BlobKind::Data => self.data.insert(record),
            BlobKind::Tree => self.tree.insert(record),
        }
    }

    /// Adds the blobs of another listing of a pack that differ from those that are known.
    fn compare(&mut self, number: u32, blobs: &[PackedBlob]) {
        let mut differs = self.packs[number as usize].blobs as usize != blobs.len();
        for blob in blobs {
            let record = Record::new(number, blob);
            if !self.table(blob.kind).find_all(&blob.id).any(|known| *known == record) {
                differs = true;
                self.insert(blob.kind, record);
            }
        }
        if !differs {
            return;
        }
        let (end, size) = extent(blobs);
        let info = &mut self.packs[number as usize];
        info.end = info.end.max(end);
        let sizes = self.disputed.entry(number).or_default();
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
}

impl Record {
    fn new(pack: u32, blob: &PackedBlob) -> Self {
        let plain = blob.uncompressed_len.unwrap_or(NOT_COMPRESSED);
        Self { id: blob.id, pack, offset: blob.offset, len: blob.len, plain }
    }

    fn blob(&self, kind: BlobKind) -> PackedBlob {
        PackedBlob {
            id: self.id,
            kind,
            offset: self.offset,
            len: self.len,
            uncompressed_len: (self.plain != NOT_COMPRESSED).then_some(self.plain),
        }
    }
}

/// Slots of both kinds interleave: either table may grow.
fn slot_of(kind: BlobKind, record: u32) -> u64 {
    u64::from(record) * 2 + u64::from(kind == BlobKind::Tree)
}

impl BlobIndex for MemoryIndex {
    fn find(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = inner.first_lasting(kind, id).or_else(|| inner.visible(kind, id).next());
        found.map(|record| inner.location(kind, record))
    }

    fn find_lasting(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.first_lasting(kind, id).map(|record| inner.location(kind, record))
    }

    fn find_all(&self, kind: BlobKind, id: &BlobId) -> Vec<BlobLocation> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<&Record> = inner.visible(kind, id).collect();
        found.sort_by_key(|record| inner.is_marked(record));
        found.into_iter().map(|record| inner.location(kind, record)).collect()
    }

    fn stated_len(&self, kind: BlobKind, id: &BlobId) -> StatedLen {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        StatedLen::of(inner.table(kind).find_all(id).map(|one| one.blob(kind).plain_len()))
    }

    fn disputed_packs(&self) -> Vec<PackId> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.disputed.keys().map(|number| inner.packs[*number as usize].id).collect()
    }

    fn sizes(&self, pack: &PackId) -> Vec<u64> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = inner.known_packs.get(pack) else { return Vec::new() };
        let mut sizes = vec![inner.packs[*number as usize].size];
        sizes.extend(inner.disputed.get(number).into_iter().flatten());
        sizes
    }

    fn slot(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.table(kind).first(id).map(|record| slot_of(kind, record))
    }

    fn slots(&self) -> u64 {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        2 * inner.data.records.len().max(inner.tree.records.len()) as u64
    }

    fn slot_if_found(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.visible(kind, id).next()?;
        inner.table(kind).first(id).map(|record| slot_of(kind, record))
    }

    fn for_each_copy(&self, f: &mut dyn FnMut(u64, u32, &PackedBlob)) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let table = inner.table(kind);
            for record in &table.records {
                if let Some(first) = table.first(&record.id) {
                    f(slot_of(kind, first), record.pack, &record.blob(kind));
                }
            }
        }
    }

    fn hide_packs(&self, packs: &[PackId]) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let numbers: Vec<u32> =
            packs.iter().filter_map(|pack| inner.known_packs.get(pack).copied()).collect();
        inner.hidden.extend(numbers);
    }

    fn add_pack(&self, pack: PackId, blobs: &[PackedBlob]) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).add(pack, blobs, None);
    }

    fn add_marked_pack(&self, pack: PackId, blobs: &[PackedBlob], mark: Mark) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).add(pack, blobs, Some(mark));
    }

    fn mark_packs(&self, packs: &[PackId], mark: Mark) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for pack in packs {
            if let Some(number) = inner.known_packs.get(pack).copied() {
                let info = &mut inner.packs[number as usize];
                info.mark = info.mark.max(Some(mark));
            }
        }
    }

    fn for_each_pack(&self, f: &mut dyn FnMut(PackInfo)) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for pack in &inner.packs {
            f(*pack);
        }
    }

    fn for_each_listing(&self, f: &mut dyn FnMut(&IndexId, Listing)) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for (number, listing) in &inner.listings {
            f(&inner.objects[*number as usize], *listing);
        }
    }

    fn for_each_blob(&self, f: &mut dyn FnMut(BlobLocation)) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for record in &inner.table(kind).records {
                f(inner.location(kind, record));
            }
        }
    }

    fn len(&self) -> usize {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.data.records.len() + inner.tree.records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(n: u32, kind: BlobKind) -> PackedBlob {
        PackedBlob {
            id: BlobId::digest(&n.to_le_bytes()),
            kind,
            offset: n * 100,
            len: 100,
            uncompressed_len: n.is_multiple_of(2).then_some(300),
        }
    }

    #[test]
    fn finds_what_was_added() {
        let index = MemoryIndex::default();
        let pack = PackId::digest(b"pack");
        let blobs: Vec<_> = (0..1000).map(|n| blob(n, BlobKind::Data)).collect();
        index.add_pack(pack, &blobs);
        index.add_pack(pack, &blobs);
        index.add_pack(PackId::digest(b"other"), &[blob(5, BlobKind::Tree)]);
        assert_eq!(index.len(), 1001);
        for blob in &blobs {
            let found = index.find(BlobKind::Data, &blob.id).unwrap();
            assert_eq!((found.pack, found.blob, found.pack_end), (pack, *blob, 100_000));
        }
        assert!(index.find(BlobKind::Tree, &blobs[3].id).is_none());
        assert!(index.find(BlobKind::Tree, &blobs[5].id).is_some());
        assert!(index.find(BlobKind::Data, &BlobId::digest(b"x")).is_none());
        let mut packs = 0;
        index.for_each_pack(&mut |_| packs += 1);
        assert_eq!(packs, 2);
    }

    #[test]
    fn a_marked_pack_is_read_but_not_relied_upon() {
        let index = MemoryIndex::default();
        let (marked, lasting) = (PackId::digest(b"marked"), PackId::digest(b"lasting"));
        let data = blob(1, BlobKind::Data);
        index.add_marked_pack(marked, &[data], Mark { time: None });
        assert_eq!(index.find(BlobKind::Data, &data.id).unwrap().pack, marked);
        assert!(index.find_lasting(BlobKind::Data, &data.id).is_none());
        index.add_pack(lasting, &[data]);
        assert_eq!(index.find(BlobKind::Data, &data.id).unwrap().pack, lasting);
        assert_eq!(index.find_all(BlobKind::Data, &data.id)[1].pack, marked);
        let mut slots = Vec::new();
        index.for_each_copy(&mut |slot, pack, copy| slots.push((slot, pack, copy.id)));
        let slot = index.slot(BlobKind::Data, &data.id).unwrap();
        assert_eq!(slots, [(slot, 0, data.id), (slot, 1, data.id)]);
        // Whoever lists it again does not take the mark away.
        index.add_pack(marked, &[data]);
        index.hide_packs(&[lasting]);
        assert_eq!(index.find(BlobKind::Data, &data.id).unwrap().pack, marked);
        assert!(index.find_lasting(BlobKind::Data, &data.id).is_none());
    }

    #[test]
    fn a_second_copy_stands_in_for_a_hidden_one() {
        let index = MemoryIndex::default();
        let (one, two) = (PackId::digest(b"one"), PackId::digest(b"two"));
        let data = blob(1, BlobKind::Data);
        index.add_pack(one, &[data]);
        index.add_pack(two, &[PackedBlob { offset: 0, ..data }]);
        assert_eq!(index.find_all(BlobKind::Data, &data.id).len(), 2);
        index.hide_packs(&[one]);
        assert_eq!(index.find(BlobKind::Data, &data.id).unwrap().pack, two);
        index.hide_packs(&[two]);
        assert!(index.find(BlobKind::Data, &data.id).is_none());
    }

    #[test]
    fn listings_that_differ_are_all_searched() {
        let pack = PackId::digest(b"pack");
        let data = PackedBlob { offset: 0, ..blob(1, BlobKind::Data) };
        let listings = [
            vec![data],
            vec![PackedBlob { offset: 7, ..data }],
            vec![PackedBlob { len: 90, ..data }],
            vec![],
        ];
        for first in 0..listings.len() {
            let index = MemoryIndex::default();
            for at in 0..listings.len() {
                index.add_pack(pack, &listings[(first + at) % listings.len()]);
            }
            let places: Vec<_> = index.find_all(BlobKind::Data, &data.id);
            assert_eq!(places.len(), 3);
            assert!(places.iter().any(|at| at.blob == data && at.pack_end >= 107));
            assert_eq!(index.stated_len(BlobKind::Data, &data.id), StatedLen::Several);
            assert_eq!(index.disputed_packs(), [pack]);
            assert!(index.sizes(&pack).contains(&extent(&[data]).1));
            let mut packs = 0;
            index.for_each_pack(&mut |_| packs += 1);
            assert_eq!(packs, 1);
        }
    }

    #[test]
    fn equal_listings_in_another_order_are_not_disputed() {
        let (index, pack) = (MemoryIndex::default(), PackId::digest(b"pack"));
        let blobs = [blob(1, BlobKind::Data), blob(2, BlobKind::Data)];
        index.add_pack(pack, &blobs);
        index.add_pack(pack, &[blobs[1], blobs[0]]);
        assert_eq!((index.disputed_packs(), index.len()), (vec![], 2));
        let stated = |id| index.stated_len(BlobKind::Data, id);
        assert_eq!(stated(&blobs[0].id), StatedLen::One(blobs[0].plain_len()));
        assert_eq!(stated(&BlobId::digest(b"other")), StatedLen::Unknown);
    }
}
