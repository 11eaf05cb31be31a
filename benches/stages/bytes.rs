//! Stages of the core on bytes in memory.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use backup_benches::Result;
use backup_benches::synthetic::{self, BLOBS_PER_PACK, blob_id, kind_of};
use backup_core::chunker::{Gear, StreamChunker};
use backup_core::crypto::{IV_LEN, MasterKey};
use backup_core::format::{
    self, BlobKind, IndexBlob, IndexFile, Node, PackHeader, PackedBlob, Tree, seal_json,
};
use backup_core::id::PackId;
use backup_core::repository::index::{BlobIndex, MemoryIndex};
use backup_core::source::{Chunking, Metadata};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::work::{FILES, Work};

/// Any key will do, as long as it is always the same one.
fn key() -> MasterKey {
    MasterKey::from_bytes(&[0x5a; 64])
}

/// Documents, table pages, code-like and random bytes.
fn large_files(dir: &Path, times: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for name in ["documents.bson", "table.heap", "library.so", "random.bin"] {
        bytes.extend(fs::read(dir.join(FILES).join(name))?);
    }
    Ok(bytes.repeat(times))
}

pub(crate) fn cut(dir: &Path) -> Result<Work> {
    let (bytes, gear) = (large_files(dir, 8)?, Gear::from_seed([7; 32]));
    Ok(Box::new(move || {
        let mut chunker = StreamChunker::new(&gear, Chunking::ContentDefined);
        let (mut lens, mut memory) = (Vec::new(), Vec::new());
        for mut piece in bytes.chunks(64 << 10) {
            while chunker.push(&mut piece) {
                let chunk = chunker.take(memory);
                lens.push(chunk.len());
                memory = chunk.into_memory();
            }
        }
        lens.push(chunker.take(memory).len());
        expect(lens.iter().sum::<usize>() == bytes.len(), "the chunks do not add up to the input")
    }))
}

pub(crate) fn seal(dir: &Path) -> Result<Work> {
    let (bytes, key) = (large_files(dir, 3)?, key());
    Ok(Box::new(move || {
        for chunk in bytes.chunks(1 << 20) {
            black_box(key.seal_with_iv(chunk, [9; IV_LEN]));
        }
        Ok(())
    }))
}

pub(crate) fn open(dir: &Path) -> Result<Work> {
    let (bytes, key) = (large_files(dir, 3)?, key());
    let sealed: Vec<_> =
        bytes.chunks(1 << 20).map(|chunk| key.seal_with_iv(chunk, [9; IV_LEN])).collect();
    Ok(Box::new(move || {
        let mut plain = Vec::new();
        for chunk in &sealed {
            key.open_into(chunk, &mut plain)?;
            black_box(&plain);
        }
        Ok(())
    }))
}

fn header() -> PackHeader {
    let mut offset = 0;
    let blob = |number: u64| {
        let blob = PackedBlob {
            id: blob_id(number),
            kind: BlobKind::Data,
            offset,
            len: 1000,
            uncompressed_len: number.is_multiple_of(2).then_some(2000),
        };
        offset += blob.len;
        blob
    };
    PackHeader { blobs: (0..2000).map(blob).collect() }
}

/// A tail as long as sealed headers are is all that the header says of the pack.
fn pack_len(tail: &[u8]) -> u64 {
    2_000_000 + tail.len() as u64
}

pub(crate) fn write_header(_: &Path) -> Result<Work> {
    let (header, key) = (header(), key());
    Ok(Box::new(move || {
        black_box(header.seal(&key));
        Ok(())
    }))
}

pub(crate) fn read_header(_: &Path) -> Result<Work> {
    let (key, tail) = (key(), header().seal(&key()));
    Ok(Box::new(move || {
        expect(
            PackHeader::open(&tail, pack_len(&tail), &key)?.blobs.len() == 2000,
            "blobs are missing",
        )
    }))
}

fn nodes() -> Vec<Node> {
    let node = |number: u64| {
        let second = i64::try_from(number).unwrap_or_default() * 977;
        let metadata = Metadata {
            size: number * 1013,
            inode: 4_000_000 + number,
            device_id: 64_513,
            uid: 1000,
            gid: 1000,
            user: Some("somebody".into()),
            group: Some("users".into()),
            ..Metadata::stream(Timestamp::constant(1_700_000_000 + second, 123_456_789))
        };
        let content = (0..=number % 3).map(|part| blob_id(number * 3 + part)).collect();
        Node {
            name: format!("file-{number:05}.rs").into_bytes().into(),
            metadata,
            content,
            subtree: None,
        }
    };
    (0..2000).map(node).collect()
}

pub(crate) fn write_tree(_: &Path) -> Result<Work> {
    let mut nodes = nodes();
    Ok(Box::new(move || {
        black_box(format::write_tree(&mut nodes, &TimeZone::UTC)?);
        Ok(())
    }))
}

pub(crate) fn read_tree(_: &Path) -> Result<Work> {
    let tree = format::write_tree(&mut nodes(), &TimeZone::UTC)?;
    Ok(Box::new(move || expect(Tree::from_json(&tree)?.nodes.len() == 2000, "nodes are missing")))
}

fn index() -> IndexFile {
    IndexFile { packs: (0..100).map(synthetic::pack).collect(), packs_to_delete: Vec::new() }
}

pub(crate) fn write_index(_: &Path) -> Result<Work> {
    let (index, key) = (index(), key());
    Ok(Box::new(move || {
        black_box(seal_json(&key, &index)?);
        Ok(())
    }))
}

pub(crate) fn read_index(_: &Path) -> Result<Work> {
    let (key, sealed) = (key(), Bytes::from(seal_json(&key(), &index())?));
    let read = move || IndexFile::open(&key, sealed.clone());
    Ok(Box::new(move || expect(read()?.blobs() == 10_000, "blobs are missing")))
}

/// Packs as the index in memory takes them.
fn packs() -> Vec<(PackId, Vec<PackedBlob>)> {
    let blob = |blob: &IndexBlob| PackedBlob {
        id: blob.id,
        kind: blob.kind,
        offset: blob.offset,
        len: blob.length,
        uncompressed_len: blob.uncompressed_length,
    };
    let packs = (0..200).map(synthetic::pack);
    packs.map(|pack| (pack.id, pack.blobs.iter().map(blob).collect())).collect()
}

pub(crate) fn add_to_index(_: &Path) -> Result<Work> {
    let packs = packs();
    Ok(Box::new(move || {
        let index = MemoryIndex::default();
        for (pack, blobs) in &packs {
            index.add_pack(*pack, blobs);
        }
        expect(index.len() == 20_000, "blobs are missing")
    }))
}

pub(crate) fn find_in_index(_: &Path) -> Result<Work> {
    let index = MemoryIndex::default();
    for (pack, blobs) in packs() {
        index.add_pack(pack, &blobs);
    }
    let there = packs().len() as u64 * BLOBS_PER_PACK;
    let wanted: Vec<_> = (0..there * 2).map(|number| (kind_of(number), blob_id(number))).collect();
    Ok(Box::new(move || {
        let found =
            wanted.iter().filter(|(kind, id)| index.find_lasting(*kind, id).is_some()).count();
        expect(found as u64 == there, "blobs are missing")
    }))
}

/// A stage that does not do its work must not look fast.
fn expect(is_true: bool, trouble: &str) -> Result<()> {
    if is_true { Ok(()) } else { Err(trouble.into()) }
}
