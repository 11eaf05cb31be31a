//! Reading a finished file back.

use std::fs::File;
use std::sync::atomic::Ordering::Relaxed;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use rustix::fs::{Mode as Permissions, fchmod, fstat, openat};
use rustix::io::Errno;

use super::{FileTask, READ};
use crate::files::restore::Job;
use crate::files::restore::blocks::Layout;
use crate::files::restore::metadata;
use crate::files::watch::Calls;

impl FileTask {
    /// Reads the file back and compares it with the snapshot.
    pub(in crate::files::restore) fn verify(
        &self,
        job: &Job,
        buffer: &mut Vec<u8>,
        calls: &Calls,
    ) -> SourceResult<()> {
        if self.is_lost() {
            return Ok(());
        }
        let layout = Layout::of(job, &self.content)?;
        if !self.unchanged.load(Relaxed) {
            let file = self.open_again(job).map_err(self.error(job, "read back"))?;
            let length = fstat(&file).map_err(self.error(job, "read back"))?.st_size.max(0) as u64;
            let (different, _) = self.differences(job, &layout, &file, buffer, calls)?;
            if !different.is_empty() || length != layout.size {
                let shown = job.target.show(&self.path);
                let message = format!("{shown} differs from the snapshot after it was written");
                return Err(SourceError::new(SourceErrorKind::Mismatch, message).with_hint(
                    "check for other writers at the target and for a faulty disk, then restore \
                     again",
                ));
            }
        }
        job.tally.verified_bytes.fetch_add(layout.size, Relaxed);
        Ok(())
    }

    /// Opens the finished file, whose mode may not let its owner read it.
    fn open_again(&self, job: &Job) -> Result<File, Errno> {
        let parent = job.target.parent(&self.path)?;
        let open = || openat(&parent, self.path.name(), READ, Permissions::empty()).map(File::from);
        match open() {
            Err(Errno::ACCESS) => {
                let mode = self.metadata.mode;
                metadata::chmod_at(&parent, self.path.name(), mode | 0o400)?;
                let file = open()?;
                fchmod(&file, Permissions::from_raw_mode(mode))?;
                Ok(file)
            }
            other => other,
        }
    }
}
