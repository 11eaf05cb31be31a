//! The primitives of each step alone: reading, cutting, SHA-256, zstd, AES-CTR with Poly1305,
//! writing. One thread, no index, no deduplication, no directories as objects: only the CPU above
//! this can be saved.
//!
//! | step | primitives |
//! |---|---|
//! | first backup | read, cut, SHA-256, zstd 3, seal, SHA-256 of the sealed chunk, write |
//! | forced re-read | read, cut, SHA-256 |
//! | restore | read, open, decompress, SHA-256, write |
//! | check, all data | read, SHA-256 of the sealed chunk, open, decompress, SHA-256 |

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use backup_benches::Result;
use backup_core::chunker::{Gear, StreamChunker};
use backup_core::crypto::{IV_LEN, MasterKey};
use backup_core::id::{BlobId, PackId};
use backup_core::source::Chunking;

const LEVEL: i32 = 3;
/// Read at a time.
const PIECE: usize = 256 << 10;

/// A stored backup: for each file its path, then its chunks; a length of zero ends both.
struct Stored {
    file: BufReader<File>,
    key: MasterKey,
}

/// `first SOURCE STORED`, `reread SOURCE`, `restore STORED TARGET`, `check STORED`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    match words {
        ["first", source, stored] => first(Path::new(source), Path::new(stored)),
        ["reread", source] => cut_all(Path::new(source), &mut |_, chunk| {
            black_box(BlobId::digest(chunk.unwrap_or_default()));
            Ok(())
        }),
        ["restore", stored, target] => restore(Path::new(stored), Path::new(target)),
        ["check", stored] => check(Path::new(stored)),
        _ => Err("unknown primitives".into()),
    }
}

/// Any key will do.
fn key() -> MasterKey {
    MasterKey::from_bytes(&[0x5a; 64])
}

fn first(source: &Path, stored: &Path) -> Result<()> {
    let (mut out, key) = (BufWriter::with_capacity(1 << 20, File::create(stored)?), key());
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut open = false;
    cut_all(source, &mut |path, chunk| {
        let Some(chunk) = chunk else {
            if open {
                write_part(&mut out, &[])?;
            }
            open = true;
            return write_part(&mut out, path.as_os_str().as_bytes());
        };
        black_box(BlobId::digest(chunk));
        let sealed = key.seal_with_iv(&compressor.compress(chunk)?, [9; IV_LEN]);
        black_box(PackId::digest(&sealed));
        write_part(&mut out, &sealed)
    })?;
    write_part(&mut out, &[])?;
    write_part(&mut out, &[])?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

/// Calls `each` for every file, with its path below `source`, and then for its chunks.
fn cut_all(source: &Path, each: &mut impl FnMut(&Path, Option<&[u8]>) -> Result<()>) -> Result<()> {
    let gear = Gear::from_seed([7; 32]);
    let (mut waiting, mut piece, mut memory) =
        (vec![source.to_path_buf()], vec![0; PIECE], Vec::new());
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
                continue;
            }
            let path = entry.path();
            let within = path.strip_prefix(source)?;
            each(within, None)?;
            let mut file = File::open(&path)?;
            let mut chunker = StreamChunker::new(&gear, Chunking::ContentDefined);
            loop {
                let len = file.read(&mut piece)?;
                let mut rest = &piece[..len];
                while chunker.push(&mut rest) {
                    let chunk = chunker.take(memory);
                    each(within, Some(&chunk[..]))?;
                    memory = chunk.into_memory();
                }
                if len == 0 {
                    break;
                }
            }
            let last = chunker.take(memory);
            if !last.is_empty() {
                each(within, Some(&last[..]))?;
            }
            memory = last.into_memory();
        }
    }
    Ok(())
}

fn write_part(out: &mut impl Write, part: &[u8]) -> Result<()> {
    out.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
    Ok(out.write_all(part)?)
}

impl Stored {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: BufReader::with_capacity(1 << 20, File::open(path)?), key: key() })
    }

    /// The next part; nothing at the end of a list.
    fn part<'a>(&mut self, memory: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>> {
        let mut len = [0; 4];
        self.file.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        memory.resize(len, 0);
        self.file.read_exact(memory)?;
        Ok((len > 0).then_some(memory))
    }

    /// Calls `file` for each path, and `chunk` for the content of its chunks, sealed and plain.
    fn read(
        mut self,
        mut file: impl FnMut(PathBuf) -> Result<()>,
        mut chunk: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut sealed, mut packed, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        while let Some(path) = self.part(&mut sealed)? {
            file(PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))?;
            while let Some(part) = self.part(&mut sealed)? {
                self.key.open_into(part, &mut packed)?;
                let len = zstd::zstd_safe::get_frame_content_size(&packed)
                    .ok()
                    .flatten()
                    .ok_or("a frame without its length")?;
                plain.clear();
                plain.reserve(usize::try_from(len)?);
                decompressor.decompress_to_buffer(&packed, &mut plain)?;
                black_box(BlobId::digest(&plain));
                chunk(part, &plain)?;
            }
        }
        Ok(())
    }
}

fn restore(stored: &Path, target: &Path) -> Result<()> {
    let open: std::cell::RefCell<Option<File>> = std::cell::RefCell::new(None);
    let begin = |path: PathBuf| {
        let path = target.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        *open.borrow_mut() = Some(File::create(path)?);
        Ok(())
    };
    let write = |_: &[u8], plain: &[u8]| match &mut *open.borrow_mut() {
        Some(file) => Ok(file.write_all(plain)?),
        None => Err("a chunk without a file".into()),
    };
    Stored::open(stored)?.read(begin, write)
}

fn check(stored: &Path) -> Result<()> {
    let whole = |sealed: &[u8], _: &[u8]| {
        black_box(PackId::digest(sealed));
        Ok(())
    };
    Stored::open(stored)?.read(|_| Ok(()), whole)
}
