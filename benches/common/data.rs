//! The data: a quarter program text in many small files, the rest documents, table pages, code-like
//! and random bytes in large ones. Everything comes from one seed: every run on every machine has
//! the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Result;

const SMALL_FILE: u64 = 12_000;
const FILES_PER_DIR: u64 = 100;
/// Large files of a tree.
const LARGE: u64 = 4;

/// Fills `dir` with about `bytes` bytes; returns the number of files.
///
/// # Errors
/// The directory cannot be written.
pub fn create(dir: &Path, bytes: u64) -> Result<u64> {
    fill_tree(dir, bytes, bytes / 4 / SMALL_FILE, SMALL_FILE)
}

/// Fills `dir` with `files` files of about `bytes` bytes together.
///
/// # Errors
/// The directory cannot be written.
pub fn create_files(dir: &Path, files: u64, bytes: u64) -> Result<()> {
    let small = files.saturating_sub(LARGE).max(1);
    fill_tree(dir, bytes, small, (bytes / 4 / small).max(20)).map(drop)
}

/// Fills `dir` with `small` files of about `size` bytes each, a quarter of `bytes`, and large ones.
fn fill_tree(dir: &Path, bytes: u64, small: u64, size: u64) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(2026);
    let words: Vec<String> = (0..4000).map(|_| word(&mut rng)).collect();
    for at in 0..small {
        let folder = dir.join("src").join(format!("module-{}", at / FILES_PER_DIR));
        fs::create_dir_all(&folder)?;
        let mut out =
            BufWriter::with_capacity(1 << 20, File::create(folder.join(format!("file-{at}.rs")))?);
        let len = rng.random_range(size / 10..size * 2);
        fill(&mut out, len, |line| text(line, &words, &mut rng))?;
    }
    type Line = fn(&mut Vec<u8>, &[String], &mut StdRng);
    let large: [(&str, Line, u64); 4] = [
        ("documents.bson", document, 5),
        ("table.heap", page, 5),
        ("library.so", code, 8),
        ("random.bin", random, 5),
    ];
    for (name, line, share) in large {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(dir.join(name))?);
        fill(&mut out, bytes / share, |buffer| line(buffer, &words, &mut rng))?;
    }
    Ok(small + large.len() as u64)
}

fn fill(out: &mut impl Write, len: u64, mut line: impl FnMut(&mut Vec<u8>)) -> Result<()> {
    let mut written = 0;
    let mut buffer = Vec::new();
    while written < len {
        buffer.clear();
        line(&mut buffer);
        out.write_all(&buffer)?;
        written += buffer.len() as u64;
    }
    Ok(out.flush()?)
}

fn word(rng: &mut StdRng) -> String {
    (0..rng.random_range(3..10)).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
}

fn pick<'a>(words: &'a [String], rng: &mut StdRng) -> &'a str {
    // Few words are frequent, many are rare, as in any text.
    let at = rng.random_range(0.0_f64..1.0).powi(3) * words.len() as f64;
    &words[at as usize % words.len()]
}

fn text(out: &mut Vec<u8>, words: &[String], rng: &mut StdRng) {
    let indent = rng.random_range(0..4);
    out.extend(std::iter::repeat_n(b' ', indent * 4));
    for _ in 0..rng.random_range(2..9) {
        out.extend(pick(words, rng).as_bytes());
        out.push(
            *[b' ', b' ', b'.', b'(', b')', b';', b'_']
                .get(rng.random_range(0..7))
                .unwrap_or(&b' '),
        );
    }
    out.push(b'\n');
}

fn document(out: &mut Vec<u8>, words: &[String], rng: &mut StdRng) {
    out.extend(rng.random::<[u8; 12]>());
    for field in ["customer", "status", "street", "city", "note"] {
        out.extend(field.as_bytes());
        out.extend([0, 2, 0, 0]);
        for _ in 0..rng.random_range(1..6) {
            out.extend(pick(words, rng).as_bytes());
            out.push(b' ');
        }
    }
    out.extend(b"amount\0");
    out.extend(f64::from(rng.random_range(0..100_000)).to_le_bytes());
}

fn page(out: &mut Vec<u8>, words: &[String], rng: &mut StdRng) {
    out.extend([0; 24]);
    while out.len() < 8000 {
        out.extend(rng.random::<u64>().to_le_bytes());
        out.extend(rng.random_range(0_u32..1_000_000).to_le_bytes());
        out.extend(format!("{:<30}", pick(words, rng)).as_bytes());
    }
    out.resize(8192, 0);
}

fn code(out: &mut Vec<u8>, _: &[String], rng: &mut StdRng) {
    for _ in 0..64 {
        out.push(
            *[0x48, 0x89, 0x8b, 0x0f, 0xe8, 0x55, 0xc3, 0x41]
                .get(rng.random_range(0..8))
                .unwrap_or(&0x90),
        );
        if rng.random_bool(0.4) {
            out.extend(rng.random_range(0_u32..5000).to_le_bytes());
        }
    }
}

fn random(out: &mut Vec<u8>, _: &[String], rng: &mut StdRng) {
    out.resize(64 << 10, 0);
    rng.fill_bytes(out);
}

/// Bytes of a file, or of all files below a directory.
///
/// # Errors
/// It cannot be read.
pub fn size_of(path: &Path) -> Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        sum += size_of(&entry?.path())?;
    }
    Ok(sum)
}

/// Fills `dir` with so many files of 100 to 2000 bytes of text, a hundred in each directory;
/// returns their bytes.
///
/// # Errors
/// The directory cannot be written.
pub fn create_small(dir: &Path, files: u64) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(2027);
    let words: Vec<String> = (0..4000).map(|_| word(&mut rng)).collect();
    let (mut text_of_all, mut sum) = (Vec::new(), 0);
    while text_of_all.len() < 1 << 20 {
        text(&mut text_of_all, &words, &mut rng);
    }
    for at in 0..files {
        let folder =
            dir.join(format!("{}/{}", at / FILES_PER_DIR / FILES_PER_DIR, at / FILES_PER_DIR));
        if at.is_multiple_of(FILES_PER_DIR) {
            fs::create_dir_all(&folder)?;
        }
        let start = rng.random_range(0..text_of_all.len() - 2000);
        let len = rng.random_range(100..2000);
        let mut content = format!("file {at}\n").into_bytes();
        content.extend_from_slice(&text_of_all[start..start + len]);
        fs::write(folder.join(format!("file-{at}.txt")), &content)?;
        sum += content.len() as u64;
    }
    Ok(sum)
}

/// So many bytes that compress as those of [`create`] do, and of which no 4 KiB come twice. Costs
/// hardly more than a copy.
#[derive(Debug)]
pub struct Endless {
    base: Vec<u8>,
    at: u64,
    len: u64,
}

/// Each of these has a number of its own.
const STAMPED: u64 = 4096;

impl Endless {
    /// The same for the same `seed`.
    #[must_use]
    pub fn new(seed: u64, len: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let words: Vec<String> = (0..4000).map(|_| word(&mut rng)).collect();
        let (mut base, mut line) = (Vec::new(), Vec::new());
        for fill in [text, document, page, code, random].iter().cycle().take(40) {
            let end = base.len() + (256 << 10);
            while base.len() < end {
                line.clear();
                fill(&mut line, &words, &mut rng);
                base.extend_from_slice(&line);
            }
            base.truncate(end);
        }
        Self { base, at: seed << 40, len }
    }
}

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut written = 0;
        while written < buffer.len() && self.len > 0 {
            let within = self.at % STAMPED;
            let start = usize::try_from(self.at % self.base.len() as u64).unwrap_or(0);
            let room = (buffer.len() - written) as u64;
            let len = usize::try_from((STAMPED - within).min(room).min(self.len)).unwrap_or(0);
            let out = &mut buffer[written..written + len];
            out.copy_from_slice(&self.base[start..start + len]);
            let stamp = (self.at / STAMPED).to_le_bytes();
            for (at, byte) in
                stamp.iter().enumerate().skip(usize::try_from(within).unwrap_or(usize::MAX))
            {
                if let Some(out) = out.get_mut(at - usize::try_from(within).unwrap_or(0)) {
                    *out = *byte;
                }
            }
            written += len;
            self.at += len as u64;
            self.len -= len as u64;
        }
        Ok(written)
    }
}
