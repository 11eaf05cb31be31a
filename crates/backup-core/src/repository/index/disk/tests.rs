//! The index on disk beside the one in memory: both say the same of any history.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::build::Collector;
use super::cache::{MANY, assemble, new_path};
use super::*;
use crate::format::{IndexFile, IndexPack, MarkedPack};
use crate::id::IndexId;
use crate::repository::index::load::add;
use crate::repository::index::{Listing, StatedLen};

fn blob_id(n: u32) -> BlobId {
    BlobId::digest(&n.to_le_bytes())
}

/// An index object with random packs; blobs come from a small range, so that some are there more
/// than once.
fn object(rng: &mut SmallRng, old: &[IndexPack]) -> IndexFile {
    let mut file = IndexFile::default();
    for _ in 0..rng.random_range(1..4) {
        let kind = if rng.random_bool(0.3) { BlobKind::Tree } else { BlobKind::Data };
        let mut offset = 0;
        let blobs: Vec<_> = (0..rng.random_range(1..30))
            .map(|_| {
                let len = rng.random_range(33..5000);
                let uncompressed_len = rng.random_bool(0.5).then(|| rng.random_range(1..9000));
                let id = blob_id(rng.random_range(0..400));
                offset += len;
                PackedBlob { id, kind, offset: offset - len, len, uncompressed_len }.into()
            })
            .collect();
        file.packs.push(IndexPack { id: PackId::digest(&rng.random::<[u8; 8]>()), blobs });
    }
    // What another object lists is marked here, or listed again.
    if let Some(pack) = (!old.is_empty()).then(|| old[rng.random_range(0..old.len())].clone()) {
        match rng.random_range(0..4) {
            0 => file.packs.push(pack),
            1 => {
                let time = rng
                    .random_bool(0.5)
                    .then(|| Timestamp::from_second(rng.random_range(0..1000)).unwrap());
                file.packs_to_delete.push(MarkedPack {
                    id: pack.id,
                    blobs: pack.blobs,
                    time,
                    size: None,
                });
            }
            _ => {}
        }
    }
    file
}

/// Everything an index says, without the order in which it says it.
fn all_of(index: &dyn BlobIndex) -> (BTreeSet<String>, BTreeSet<String>, usize) {
    let mut packs = Vec::new();
    let mut told = BTreeSet::new();
    index.for_each_pack(&mut |pack| {
        told.insert(format!("{pack:?}"));
        packs.push(pack.id);
    });
    assert_eq!(told.len(), packs.len(), "every pack once");
    let mut copies = BTreeSet::new();
    let mut slots: HashMap<u64, (BlobKind, BlobId)> = HashMap::new();
    index.for_each_copy(&mut |slot, pack, blob| {
        assert!(slot < index.slots());
        assert_eq!(
            *slots.entry(slot).or_insert((blob.kind, blob.id)),
            (blob.kind, blob.id),
            "one slot for one blob"
        );
        copies.insert(format!("{} {blob:?}", packs[pack as usize]));
    });
    let names: HashSet<_> = slots.values().collect();
    assert_eq!(names.len(), slots.len(), "one blob for one slot");
    for (slot, (kind, id)) in &slots {
        assert_eq!(index.slot(*kind, id), Some(*slot));
    }
    (told, copies, index.len())
}

fn listings(index: &dyn BlobIndex) -> Vec<(IndexId, Listing)> {
    let mut listings = Vec::new();
    index.for_each_listing(&mut |object, listing| listings.push((*object, listing)));
    listings.sort_unstable();
    listings
}

fn lookups(index: &dyn BlobIndex, n: u32) -> Vec<(Option<bool>, Option<bool>, BTreeSet<String>)> {
    [BlobKind::Data, BlobKind::Tree]
        .into_iter()
        .map(|kind| {
            let id = blob_id(n);
            let lasting = index.find_lasting(kind, &id);
            let found = index.find(kind, &id);
            if let Some(at) = lasting {
                assert_eq!(found.map(|found| found.blob.id), Some(at.blob.id));
                assert_eq!(index.find_all(kind, &id).first().map(|first| first.blob.id), Some(id));
            }
            assert_eq!(index.slot_if_found(kind, &id), found.and(index.slot(kind, &id)));
            let all = index.find_all(kind, &id).into_iter().map(|at| format!("{at:?}")).collect();
            (lasting.map(|at| at.blob.id == id), found.map(|at| at.blob.id == id), all)
        })
        .collect()
}

fn store(dir: &Path, objects: &[(IndexId, IndexFile)]) {
    let mut collector = Collector::default();
    for (id, file) in objects {
        collector.add(*id, file);
    }
    collector.write(&new_path(dir)).unwrap();
}

#[test]
fn it_says_what_the_index_in_memory_says() {
    for seed in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut objects: Vec<(IndexId, IndexFile)> = Vec::new();
        for round in 0..20_u32 {
            let old: Vec<IndexPack> =
                objects.iter().flat_map(|(_, file)| file.packs.clone()).collect();
            let new: Vec<_> = (0..rng.random_range(1..5_u32))
                .map(|n| {
                    (
                        IndexId::digest(&[round.to_le_bytes(), n.to_le_bytes()].concat()),
                        object(&mut rng, &old),
                    )
                })
                .collect();
            store(dir.path(), &new);
            objects.extend(new);
            // Some go, as after a prune.
            objects.retain(|_| rng.random_range(0..10) > 0);
            let listed: HashSet<IndexId> = objects.iter().map(|(id, _)| *id).collect();
            let disk = assemble(dir.path(), &listed).unwrap().0;
            let memory = MemoryIndex::default();
            for (id, file) in &objects {
                memory.add_object(*id, file);
            }
            assert_eq!(listings(&disk), listings(&memory), "seed {seed}, round {round}");
            // What this process adds, learns and hides afterwards.
            for index in [&disk as &dyn BlobIndex, &memory] {
                let mut same = SmallRng::seed_from_u64(seed * 100 + u64::from(round));
                add(index, &object(&mut same, &old));
                let hidden: Vec<PackId> =
                    old.iter().filter(|_| same.random_bool(0.1)).map(|pack| pack.id).collect();
                index.hide_packs(&hidden);
            }
            assert_eq!(all_of(&disk), all_of(&memory), "seed {seed}, round {round}");
            for n in 0..450 {
                if n % 50 == 0 {
                    disk.release();
                }
                assert_eq!(
                    lookups(&disk, n),
                    lookups(&memory, n),
                    "seed {seed}, round {round}, blob {n}"
                );
            }
            assert!(disk.is_intact());
            let files = std::fs::read_dir(dir.path()).unwrap().count();
            assert!(files <= MANY + 1, "{files} files");
        }
    }
}

#[test]
fn damage_is_noticed_and_makes_it_know_less_never_other_things() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = SmallRng::seed_from_u64(7);
    let files: Vec<_> =
        (0..50_u32).map(|n| (IndexId::digest(&n.to_le_bytes()), object(&mut rng, &[]))).collect();
    store(dir.path(), &files);
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&path).unwrap();
    let listed: HashSet<IndexId> = files.iter().map(|(id, _)| *id).collect();
    let memory = MemoryIndex::default();
    for (_, file) in &files {
        add(&memory, file);
    }
    for at in (0..sound.len()).step_by(sound.len() / 300) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let disk = assemble(dir.path(), &listed).unwrap().0;
        for n in 0..400 {
            for kind in [BlobKind::Data, BlobKind::Tree] {
                for found in disk.find_all(kind, &blob_id(n)) {
                    assert!(memory.find_all(kind, &blob_id(n)).contains(&found), "byte {at}");
                }
            }
        }
        let all_told = disk.len() == memory.len() && all_of(&disk) == all_of(&memory);
        assert!(
            all_told || !disk.is_intact() || disk.is_empty(),
            "byte {at}: something is missing without a word"
        );
    }
    for len in (0..sound.len()).step_by(sound.len() / 50) {
        std::fs::write(&path, &sound[..len]).unwrap();
        assert!(assemble(dir.path(), &listed).unwrap().0.is_empty(), "cut at {len}");
    }
}

#[test]
fn what_is_damaged_is_not_made_part_of_what_looks_sound() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = SmallRng::seed_from_u64(11);
    let files: Vec<_> =
        (0..8_u32).map(|n| (IndexId::digest(&n.to_le_bytes()), object(&mut rng, &[]))).collect();
    // As many files as objects: so many that they are put together.
    files.iter().for_each(|file| store(dir.path(), std::slice::from_ref(file)));
    let listed: HashSet<IndexId> = files.iter().map(|(id, _)| *id).collect();
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    // In the first record.
    bytes[super::format::HEADER + 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let (disk, known) = assemble(dir.path(), &listed).unwrap();
    assert!(!path.exists(), "it is made anew");
    assert_eq!(known.len(), 7, "one of them has to be read again");
    let memory = MemoryIndex::default();
    for (id, file) in files.iter().filter(|(id, _)| known.contains(id)) {
        memory.add_object(*id, file);
    }
    assert_eq!(all_of(&disk), all_of(&memory));
    assert_eq!(listings(&disk), listings(&memory));
    assert!(disk.is_intact());
}

#[test]
fn cleaning_removes_own_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let own = ["0123456789abcdef0123456789abcdef.new", "0123456789abcdef0123456789abcdef.index"];
    let others = ["accounts.index", "letter.txt", "0123456789abcdef0123456789abcdeg.new"];
    for name in own.iter().chain(&others) {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(old).unwrap();
    }
    assemble(dir.path(), &HashSet::new()).unwrap();
    let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: BTreeSet<_> = left.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(left, others.map(str::to_owned).into());
}

/// The true listing of a pack and false ones, in one file and in several, in every order.
#[test]
fn false_listings_hide_no_blob() {
    let (pack, id) = (PackId::digest(b"pack"), blob_id(1));
    let place =
        |offset, len| PackedBlob { id, kind: BlobKind::Data, offset, len, uncompressed_len: None };
    let listing = |blobs: &[PackedBlob]| IndexFile {
        packs: vec![IndexPack { id: pack, blobs: blobs.iter().copied().map(Into::into).collect() }],
        ..IndexFile::default()
    };
    let files = [
        listing(&[place(0, 100)]),
        listing(&[place(7, 100)]),
        listing(&[place(0, 90)]),
        listing(&[]),
        // The true one once more.
        listing(&[place(0, 100)]),
    ];
    for first in 0..files.len() {
        let order = (0..files.len()).map(|at| (first + at) % files.len());
        let objects: Vec<(IndexId, IndexFile)> = order
            .map(|at| (IndexId::digest(&[u8::try_from(at).unwrap()]), files[at].clone()))
            .collect();
        for at_a_time in 1..=files.len() {
            let dir = tempfile::tempdir().unwrap();
            for some in objects.chunks(at_a_time) {
                store(dir.path(), some);
            }
            let listed = objects.iter().map(|(id, _)| *id).collect();
            let (index, _) = assemble(dir.path(), &listed).unwrap();
            let found = index.find_all(BlobKind::Data, &id);
            let places: BTreeSet<_> =
                found.iter().map(|at| (at.blob.offset, at.blob.len)).collect();
            assert_eq!(places, [(0, 90), (0, 100), (7, 100)].into());
            assert!(found.iter().all(|at| at.pack == pack));
            assert_eq!(index.stated_len(BlobKind::Data, &id), StatedLen::Several);
            assert_eq!(index.disputed_packs(), [pack]);
            assert!(index.sizes(&pack).iter().any(|size| *size > 107));
            let mut packs = 0;
            index.for_each_pack(&mut |_| packs += 1);
            assert_eq!(packs, 1);
            let mut copies = BTreeSet::new();
            index.for_each_copy(&mut |slot, number, blob| {
                assert_eq!((Some(slot), number), (index.slot(BlobKind::Data, &id), 0));
                copies.insert((blob.offset, blob.len));
            });
            assert_eq!(copies, places);
        }
    }
}

#[test]
fn equal_listings_are_not_disputed() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = SmallRng::seed_from_u64(3);
    let file = object(&mut rng, &[]);
    let mut other = file.clone();
    other.packs.iter_mut().for_each(|pack| pack.blobs.reverse());
    let objects = [(IndexId::digest(b"one"), file), (IndexId::digest(b"two"), other)];
    store(dir.path(), &objects[..1]);
    store(dir.path(), &objects[1..]);
    let (index, _) = assemble(dir.path(), &objects.iter().map(|(id, _)| *id).collect()).unwrap();
    assert_eq!(index.disputed_packs(), []);
}
