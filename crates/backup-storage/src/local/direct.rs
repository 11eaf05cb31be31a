//! Writing large objects past the page cache (`O_DIRECT`, see open(2)).
//!
//! A pack is written once, and read back, if at all, to see whether the disk has it. In the page
//! cache it would only take the room of what the machine is there for, and copying it there costs a
//! tenth of all CPU time of a first backup.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Objects from this size on are written directly.
const FROM: usize = 4 << 20;
/// What is written at once.
const BLOCK: usize = 1 << 20;
/// What disks want addresses and lengths to be multiples of.
const ALIGNMENT: usize = 4096;

/// Writes the beginning of `segments` to an empty file, as far as that can be done directly, and
/// returns what is left: everything if the file system does not know such writes or if there is
/// little to write, else less than a block.
///
/// # Errors
/// Those of the system; how much was written is not known then.
pub(super) fn write(file: &File, segments: &[Bytes]) -> io::Result<Vec<Bytes>> {
    let len: usize = segments.iter().map(Bytes::len).sum();
    let flags = rustix::fs::fcntl_getfl(file)?;
    if len < FROM || rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).is_err() {
        return Ok(segments.to_vec());
    }
    let mut left = Left { segments: segments.to_vec(), len };
    let written = write_blocks(file, &mut left);
    rustix::fs::fcntl_setfl(file, flags)?;
    match written {
        Ok(()) => Ok(left.segments),
        // Only trying tells what some file systems want; the last block was put back.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(left.segments),
        Err(error) => Err(error),
    }
}

fn write_blocks(mut file: &File, left: &mut Left) -> io::Result<()> {
    let mut memory = vec![0; BLOCK + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let block = &mut memory[start..start + BLOCK];
    while left.len >= BLOCK {
        left.take(block);
        let mut done = 0;
        while done < BLOCK {
            match file.write(&block[done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    left.put_back(Bytes::copy_from_slice(&block[done..]));
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// What is still to be written.
struct Left {
    segments: Vec<Bytes>,
    len: usize,
}

impl Left {
    /// Fills `block` from the front.
    fn take(&mut self, mut block: &mut [u8]) {
        self.len -= block.len();
        let mut whole = 0;
        for segment in &mut self.segments {
            let len = segment.len().min(block.len());
            let (front, behind) = block.split_at_mut(len);
            front.copy_from_slice(&segment.split_to(len));
            block = behind;
            if !segment.is_empty() {
                break;
            }
            whole += 1;
        }
        self.segments.drain(..whole);
    }

    fn put_back(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.segments.insert(0, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Bytes {
        (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    /// Cuts at the given offsets.
    fn cut(whole: &Bytes, at: &[usize]) -> Vec<Bytes> {
        let ends = at.iter().copied().chain([whole.len()]);
        let starts = [0].into_iter().chain(at.iter().copied());
        starts.zip(ends).map(|(start, end)| whole.slice(start..end)).collect()
    }

    #[test]
    fn what_is_written_and_what_is_left_is_the_whole() {
        // On a file system that knows direct writes (most do; the directory for temporary files may
        // be in memory).
        let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for (len, cuts) in [
            (FROM - 1, &[][..]),
            (FROM, &[]),
            (FROM + 1, &[1]),
            (FROM + BLOCK - 1, &[ALIGNMENT, BLOCK, BLOCK, 3 * BLOCK + 7]),
            (3 * FROM + 12_345, &[0, 1, 2, FROM, 2 * FROM + 3, 3 * FROM + 12_345]),
        ] {
            let (whole, path) = (bytes(len), place.path().join("file"));
            let mut file = File::create(&path).unwrap();
            let left = write(&file, &cut(&whole, cuts)).unwrap();
            let left_len: usize = left.iter().map(Bytes::len).sum();
            assert!(left_len < BLOCK || left_len == len, "{len}: {left_len} left");
            assert!(!rustix::fs::fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT));
            left.iter().for_each(|segment| file.write_all(segment).unwrap());
            assert!(std::fs::read(&path).unwrap() == whole, "{len}");
        }
    }

    #[test]
    fn bytes_that_were_not_written_are_put_back() {
        let whole = bytes(3 * ALIGNMENT);
        let mut left = Left { segments: cut(&whole, &[5, 5, 9000]), len: whole.len() };
        let mut block = vec![0; 2 * ALIGNMENT];
        left.take(&mut block);
        assert_eq!(block, whole[..2 * ALIGNMENT]);
        left.put_back(Bytes::copy_from_slice(&block[ALIGNMENT..]));
        assert_eq!(left.len, 2 * ALIGNMENT);
        assert_eq!(left.segments.concat(), whole[ALIGNMENT..]);
    }
}
