//! The reserve of a repository in a directory: a file whose blocks maintenance frees when the disk
//! is full. Removing data begins with writing small objects, which need room.
//!
//! The file lies beside the objects of the repository. Its name begins with `x-`, so other programs
//! ignore it. Its blocks are allocated, not promised: a sparse file would free nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backup_core::maintenance::RESERVE;
use backup_storage::Location;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::repositories::RepositorySpec;

/// Bytes per block in `st_blocks`.
const BLOCK: u64 = 512;
/// Bytes that are written at a time where the file system cannot allocate blocks.
const PIECE: usize = 1 << 20;

/// The reserve of a repository.
#[derive(Debug, Clone)]
pub struct Reserve {
    file: PathBuf,
    /// Bytes to keep allocated; none if the configuration names no reserve.
    wanted: Option<u64>,
}

impl RepositorySpec {
    /// The reserve; none of a repository that does not lie in a directory.
    #[must_use]
    pub fn reserve(&self) -> Option<Reserve> {
        let Location::Local(dir) = &self.location else { return None };
        let wanted = self.config.as_ref().and_then(|config| config.reserve);
        Some(Reserve::new(dir, wanted.map(|size| size.0)))
    }
}

impl Reserve {
    fn new(dir: &Path, wanted: Option<u64>) -> Self {
        Self { file: dir.join(RESERVE), wanted }
    }

    /// Bytes to keep allocated, by the configuration.
    #[must_use]
    pub fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// The bytes that are allocated now; 0 if the reserve is free or unreadable.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        match fs::symlink_metadata(&self.file) {
            Ok(found) if found.is_file() => found.blocks() * BLOCK,
            _ => 0,
        }
    }

    /// Frees the reserve, also one that the configuration does not name any more. Returns the bytes
    /// that were allocated.
    ///
    /// # Errors
    /// I/O errors of the deletion.
    pub fn free(&self) -> io::Result<u64> {
        let allocated = self.allocated();
        match fs::remove_file(&self.file) {
            Ok(()) => Ok(allocated),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Allocates the reserve, if the configuration names one and it is not allocated. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if the disk lacks room; then nothing stays allocated. Other
    /// I/O errors of writing the file.
    pub fn allocate(&self) -> io::Result<()> {
        let Some(wanted) = self.wanted.filter(|wanted| self.allocated() < *wanted) else {
            return Ok(());
        };
        let allocated = self.open().and_then(|file| fill(file, wanted));
        if allocated.is_err() {
            // Part of a reserve would keep room from backups and be too little for maintenance.
            _ = fs::remove_file(&self.file);
        }
        allocated
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        options.open(&self.file)
    }
}

/// Allocates all blocks of a file.
fn fill(mut file: File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            // Random bytes: a file system that compresses would allocate nothing for zeros.
            let mut left = bytes;
            let piece: Vec<u8> = (0..PIECE).map(|_| rand::random()).collect();
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                file.write_all(&piece[..length])?;
                left -= length as u64;
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_keeps_real_blocks_until_freed() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path(), Some(3 << 20));
        assert_eq!((reserve.allocated(), reserve.free().unwrap()), (0, 0));
        reserve.allocate().unwrap();
        let found = fs::metadata(dir.path().join("x-reserve")).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (3 << 20, 0o600));
        assert!(found.blocks() * 512 >= 3 << 20, "{} blocks", found.blocks());
        let inode = found.ino();
        reserve.allocate().unwrap();
        assert_eq!(fs::metadata(dir.path().join("x-reserve")).unwrap().ino(), inode);
        // Another configuration, without a reserve, can free it too.
        let unnamed = Reserve::new(dir.path(), None);
        assert!(unnamed.free().unwrap() >= 3 << 20);
        unnamed.allocate().unwrap();
        assert!(!dir.path().join("x-reserve").exists());
    }

    #[test]
    fn allocation_does_not_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "content").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("x-reserve")).unwrap();
        assert!(Reserve::new(dir.path(), Some(1 << 20)).allocate().is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "content");
    }
}
