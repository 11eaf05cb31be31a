//! The blocks of a file: reading, comparing, writing with holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use backup_core::error::Result;
use backup_core::id::BlobId;
use rustix::io::Errno;

use super::Job;

/// Runs of zeros of this length, at multiples of it, become holes in sparse files.
const HOLE: usize = 4096;

/// A block that must be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) blob: BlobId,
    pub(super) offset: u64,
}

/// All pieces of a file, and where the last one ends.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) pieces: Vec<Piece>,
    pub(super) size: u64,
}

impl Layout {
    /// The layout of a file made of `content`.
    pub(super) fn of(job: &Job, content: &[BlobId]) -> Result<Self> {
        let mut layout = Self { pieces: Vec::with_capacity(content.len()), size: 0 };
        for blob in content {
            layout.pieces.push(Piece { blob: *blob, offset: layout.size });
            layout.size += u64::from(job.snapshot.blob_len(blob)?);
        }
        Ok(layout)
    }

    /// The pieces that `file` does not hold, and how many bytes it does hold; unfinished if `stop`
    /// says so.
    pub(super) fn differences(
        &self,
        file: &File,
        buffer: &mut Vec<u8>,
        stop: impl Fn() -> bool,
    ) -> io::Result<(Vec<Piece>, u64)> {
        let (mut different, mut equal) = (Vec::new(), 0);
        for (piece, end) in self.spans().take_while(|_| !stop()) {
            if holds(file, piece, end, buffer)? {
                equal += end - piece.offset;
            } else {
                different.push(*piece);
            }
        }
        Ok((different, equal))
    }

    /// The pieces with their ends.
    fn spans(&self) -> impl Iterator<Item = (&Piece, u64)> {
        let ends = self.pieces.iter().skip(1).map(|next| next.offset).chain([self.size]);
        self.pieces.iter().zip(ends)
    }
}

/// Whether `file` holds `piece`, which ends before `end`.
fn holds(file: &File, piece: &Piece, end: u64, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let length = usize::try_from(end - piece.offset).unwrap_or(usize::MAX);
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let part = &mut buffer[..length];
    match file.read_exact_at(part, piece.offset) {
        Ok(()) => Ok(BlobId::digest(part) == piece.blob),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes all but long zeros, which a new file has by itself.
pub(super) fn write_sparse(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    const ZEROS: [u8; HOLE] = [0; HOLE];
    let mut pending = 0;
    let mut rest = bytes;
    // Cut where the file's pages begin, not where the blob does.
    let mut step = HOLE - usize::try_from(offset % HOLE as u64).unwrap_or(0);
    while !rest.is_empty() {
        let (page, after) = rest.split_at(step.min(rest.len()));
        if page == &ZEROS[..page.len()] {
            file.write_all_at(&bytes[..pending], offset)?;
            let skip = pending + page.len();
            offset += skip as u64;
            bytes = &bytes[skip..];
            pending = 0;
        } else {
            pending += page.len();
        }
        (rest, step) = (after, HOLE);
    }
    file.write_all_at(&bytes[..pending], offset)
}

/// The system's number for an error of the standard library.
pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(if error.kind() == io::ErrorKind::WriteZero {
        Errno::NOSPC
    } else {
        Errno::IO
    })
}
