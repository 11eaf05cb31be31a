//! Writing a file of the cache from front to back.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::format::{
    BLOCK, FILTER_BLOCK, HEADER, Header, NAMES_PER_BLOCK, Pack, Record, Section, Table, fence_bits,
    fence_of, filter_bits, filter_block,
};
use crate::id::{ID_LEN, IndexId};

/// Writes a file of the cache. Records come sorted, all of data before all of trees; then packs,
/// sorted; then objects.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    temporary: PathBuf,
    out: Summing,
    header: Header,
    table: TableWriter,
}

impl SegmentWriter {
    /// Begins a file that will have at most so many records of data.
    pub(super) fn create(temporary: PathBuf, data: u64) -> Result<Self> {
        let mut out = Summing::new(create(&temporary)?);
        out.file.write_all(&[0; HEADER])?;
        out.at = HEADER as u64;
        let table = TableWriter::new(&temporary, out.at, data)?;
        Ok(Self { temporary, out, header: Header::default(), table })
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        self.table.note(record)?;
        self.out.write(&record.encode())
    }

    /// All data records are written: those of at most so many trees follow.
    pub(super) fn begin_trees(&mut self, trees: u64) -> Result<()> {
        let next = TableWriter::new(&self.temporary, 0, trees)?;
        self.header.data = std::mem::replace(&mut self.table, next).finish(&mut self.out)?;
        self.table.start = self.out.at;
        Ok(())
    }

    /// All records are written: packs and index objects follow. Gives the file its name.
    pub(super) fn finish(
        mut self,
        packs: impl Iterator<Item = Pack>,
        objects: &[IndexId],
        path: &Path,
    ) -> Result<()> {
        let none = TableWriter::new(&self.temporary, 0, 0)?;
        self.header.trees = std::mem::replace(&mut self.table, none).finish(&mut self.out)?;
        let at = self.out.at;
        for pack in packs {
            self.out.write(&pack.encode())?;
        }
        self.header.packs = Section { at, len: self.out.at - at };
        let at = self.out.at;
        for object in objects {
            self.out.write(object.as_bytes())?;
        }
        self.header.objects = Section { at, len: self.out.at - at };
        let sums: Vec<u8> = self.out.end().iter().flat_map(|sum| sum.to_le_bytes()).collect();
        self.header.checksums = Section { at: self.out.at, len: sums.len() as u64 };
        self.header.checksum = crc32fast::hash(&sums);
        self.out.file.write_all(&sums)?;
        let page =
            self.header.encode().ok_or_else(|| std::io::Error::other("the header is too large"))?;
        self.out.file.seek(SeekFrom::Start(0))?;
        self.out.file.write_all(&page)?;
        self.out.file.flush()?;
        self.out.file.get_ref().sync_all()?;
        std::fs::rename(&self.temporary, path)
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        // Gone already, if it got its name.
        _ = std::fs::remove_file(&self.temporary);
    }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// What of a table is written after its records.
#[derive(Debug)]
struct TableWriter {
    start: u64,
    count: u64,
    bits: u32,
    fence: Vec<u32>,
    filter: FilterWriter,
}

impl TableWriter {
    fn new(beside: &Path, start: u64, most: u64) -> Result<Self> {
        let filter = FilterWriter::new(beside, most.div_ceil(NAMES_PER_BLOCK).max(1))?;
        Ok(Self { start, count: 0, bits: fence_bits(most), fence: Vec::new(), filter })
    }

    fn note(&mut self, record: &Record) -> Result<()> {
        let id = record.id.as_bytes();
        let here = u32::try_from(self.count).map_err(std::io::Error::other)?;
        while self.fence.len() as u64 <= fence_of(id, self.bits) {
            self.fence.push(here);
        }
        self.count += 1;
        self.filter.note(id)
    }

    fn finish(self, out: &mut Summing) -> Result<Table> {
        let records = Section { at: self.start, len: out.at - self.start };
        let at = out.at;
        let last = u32::try_from(self.count).map_err(std::io::Error::other)?;
        // One entry per value, and the end.
        for place in 0..=1_usize << self.bits {
            out.write(&self.fence.get(place).copied().unwrap_or(last).to_le_bytes())?;
        }
        let fence = Section { at, len: out.at - at };
        let at = out.at;
        self.filter.finish(out)?;
        let filter = Section { at, len: out.at - at };
        Ok(Table { records, fence, fence_bits: self.bits, filter })
    }
}

/// A filter on its way into a file of its own: names come sorted, and so do the blocks that they
/// belong to.
#[derive(Debug)]
struct FilterWriter {
    file: BufWriter<File>,
    blocks: u64,
    /// Number of the block that is being filled.
    at: u64,
    block: [u8; FILTER_BLOCK],
}

impl FilterWriter {
    fn new(beside: &Path, blocks: u64) -> Result<Self> {
        let path =
            beside.with_extension(format!("filter-{}", hex::encode(rand::random::<[u8; 8]>())));
        let file = create(&path)?;
        // It needs no name, and must not be left behind.
        std::fs::remove_file(&path)?;
        Ok(Self { file: BufWriter::new(file), blocks, at: 0, block: [0; FILTER_BLOCK] })
    }

    fn note(&mut self, id: &[u8; ID_LEN]) -> Result<()> {
        let block = filter_block(id, self.blocks);
        while self.at < block {
            self.file.write_all(&self.block)?;
            self.block = [0; FILTER_BLOCK];
            self.at += 1;
        }
        for bit in filter_bits(id) {
            self.block[bit / 8] |= 1 << (bit % 8);
        }
        Ok(())
    }

    fn finish(mut self, out: &mut Summing) -> Result<()> {
        while self.at < self.blocks {
            self.file.write_all(&self.block)?;
            self.block = [0; FILTER_BLOCK];
            self.at += 1;
        }
        let mut file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; BLOCK];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                len => out.write(&buffer[..len])?,
            }
        }
    }
}

/// A file with a checksum for every block behind the header.
#[derive(Debug)]
struct Summing {
    file: BufWriter<File>,
    at: u64,
    sum: crc32fast::Hasher,
    /// Bytes in the current block.
    filled: usize,
    sums: Vec<u32>,
}

impl Summing {
    fn new(file: File) -> Self {
        let file = BufWriter::with_capacity(1 << 20, file);
        Self { file, at: 0, sum: crc32fast::Hasher::new(), filled: 0, sums: Vec::new() }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.sum.update(now);
            self.filled += now.len();
            bytes = rest;
            if self.filled == BLOCK {
                self.end_block();
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let sum = std::mem::replace(&mut self.sum, crc32fast::Hasher::new());
        self.sums.push(sum.finalize());
        self.filled = 0;
    }

    fn end(&mut self) -> Vec<u32> {
        if self.filled > 0 {
            self.end_block();
        }
        std::mem::take(&mut self.sums)
    }
}
