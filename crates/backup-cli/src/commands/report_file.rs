//! Reports in files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::command_error::{CommandError, CommandResult};

/// A report that is going to be written: that it cannot be is known before hours of work. Only its
/// owner may read it, because it names what is backed up; what was there before stays until all of
/// it is written.
pub(super) struct ReportFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl ReportFile {
    pub(super) fn create(path: &Path) -> CommandResult<Self> {
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Says what is wrong without the name of a temporary file.
        let file = std::fs::metadata(parent).and_then(|_| NamedTempFile::new_in(parent));
        Ok(Self { path: path.to_path_buf(), file: file.map_err(|error| failed(path, &error))? })
    }

    /// Returns where it is.
    pub(super) fn write(mut self, report: &impl Serialize) -> CommandResult<PathBuf> {
        let written = serde_json::to_writer_pretty(&mut self.file, report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(self.file))
            .and_then(|()| self.file.as_file().sync_all());
        written.map_err(|error| failed(&self.path, &error))?;
        self.file.persist(&self.path).map_err(|error| failed(&self.path, &error.error))?;
        Ok(self.path)
    }
}

fn failed(path: &Path, error: &io::Error) -> CommandError {
    CommandError::io(format!("cannot write the report to {}", path.display()), error)
        .with_hint("check that the directory exists and is writable")
}
