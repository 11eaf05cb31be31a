//! A file that notes which packs were read and found to be sound: a line per pack, after a line
//! that names the repository.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::repository::Repository;

/// Packs that were read before, and where to note more.
#[derive(Debug)]
pub(super) struct Journal {
    read: HashSet<PackId>,
    file: Option<(PathBuf, File)>,
}

impl Journal {
    /// Notes nothing.
    pub(super) fn none() -> Self {
        Self { read: HashSet::new(), file: None }
    }

    /// Goes on with what an earlier run has noted, if it was one of the same repository.
    pub(super) fn open(path: Option<&Path>, repository: &Repository) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::none());
        };
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Target,
                format!("cannot use {} to record the packs that were read", path.display()),
            )
            .with_source(error)
            .with_hint("make the file readable and writable, or run the check without resuming")
        };
        let title = format!("packs read in repository {}", repository.config().id);
        let read = match File::open(path) {
            Ok(file) => read_notes(BufReader::new(file), &title).map_err(failed)?,
            Err(error) if error.kind() == IoErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true);
        let file = match read {
            Some(_) => options.append(true).open(path),
            None => options
                .truncate(true)
                .open(path)
                .and_then(|mut file| writeln!(file, "{title}").map(|()| file)),
        };
        let file = file.map_err(failed)?;
        Ok(Self { read: read.unwrap_or_default(), file: Some((path.to_owned(), file)) })
    }

    /// Whether an earlier run has read it.
    pub(super) fn contains(&self, pack: &PackId) -> bool {
        self.read.contains(pack)
    }

    /// It was read and is sound. That this cannot be noted only means that it is read again.
    pub(super) fn note(&mut self, pack: &PackId) {
        if let Some((path, file)) = &mut self.file
            && let Err(error) = writeln!(file, "{pack}")
        {
            tracing::debug!("cannot write {}: {error}", path.display());
        }
    }

    /// Everything was read: the next check begins anew.
    pub(super) fn finish(self) -> Result<()> {
        let Some((path, file)) = self.file else {
            return Ok(());
        };
        drop(file);
        std::fs::remove_file(&path).map_err(|error| {
            Error::new(ErrorKind::Target, format!("cannot remove {}", path.display()))
                .with_source(error)
        })
    }
}

/// The packs of a file of this title. A last line that was cut off names no pack.
fn read_notes(file: impl BufRead, title: &str) -> std::io::Result<Option<HashSet<PackId>>> {
    let mut lines = file.lines();
    match lines.next().transpose()? {
        Some(line) if line == title => {}
        _ => return Ok(None),
    }
    let mut read = HashSet::new();
    for line in lines {
        read.extend(line?.parse::<PackId>().ok());
    }
    Ok(Some(read))
}
