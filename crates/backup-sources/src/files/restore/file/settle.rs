//! Leaving nothing of a file that cannot be restored.

use std::sync::atomic::Ordering::Relaxed;

use backup_core::source::SourceResult;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::{FileTask, State};
use crate::files::restore::{Job, metadata};

impl FileTask {
    /// Leaves nothing that looks like the file if it cannot be restored, and says so. Nobody writes
    /// to it any more.
    pub(in crate::files::restore) fn settle(&self, job: &Job) -> SourceResult<()> {
        let mut state = self.state();
        if let Some(reason) = &state.failed {
            return self.settle_failed(job, &state, reason);
        }
        let Some(reason) = state.lost.take() else {
            return Ok(());
        };
        state.open = None;
        let kept = match (state.in_place, state.opened) {
            (true, true) => Some("the existing file is partly overwritten"),
            (true, false) => {
                self.give_mode_back(job);
                Some("the existing file is unchanged")
            }
            (false, true) => {
                self.remove(job)?;
                None
            }
            (false, false) => {
                let untouched = self.found.is_some() && !state.replaced;
                untouched.then_some("the existing file is unchanged")
            }
        };
        job.tally.total_bytes.fetch_sub(state.size, Relaxed);
        job.damage.report(&job.tally, &self.path, &reason, kept);
        if self.metadata.links > 1 {
            job.damage.no_link_to(&self.path, &reason, true);
        }
        state.lost = Some(reason);
        Ok(())
    }

    /// The same for a file that the target refused, which is reported already.
    fn settle_failed(&self, job: &Job, state: &State, reason: &str) -> SourceResult<()> {
        job.tally.total_bytes.fetch_sub(state.size, Relaxed);
        if self.metadata.links > 1 {
            job.damage.no_link_to(&self.path, reason, false);
        }
        match (state.in_place, state.opened) {
            (true, false) => self.give_mode_back(job),
            (false, true) => return self.remove(job),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Undoes what preparing the existing file has done.
    fn give_mode_back(&self, job: &Job) {
        if let (Some(found), Ok(parent)) = (self.found, job.target.parent(&self.path)) {
            // Should it fail, its owner can still read and write it.
            let _tried = metadata::chmod_at(&parent, self.path.name(), found.mode & 0o7777);
        }
    }

    /// Removes the unfinished file.
    fn remove(&self, job: &Job) -> SourceResult<()> {
        let failed = self.error(job, "remove");
        let parent = job.target.parent(&self.path).map_err(&failed)?;
        match unlinkat(&parent, self.path.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}
