//! Whole operations: of 2 MB of files, and of the index of a repository.
//!
//! No file is as long as the shortest chunk: how a repository cuts follows from its own random
//! seed, and must not count.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_benches::Result;
use backup_benches::synthetic::Synthetic;
use backup_core::check::{self, CheckOptions, ReadData};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::pipeline::{self, BackupOptions};
use backup_core::repository::{InitOptions, Repository, WriteSettings};
use backup_core::source::RestoreRequest;
use backup_sources::files::{FilesOptions, FilesSource};
use backup_storage::LocalSink;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::work::{FILES, Stage, Work};

/// The most rounds that are asked for: whatever can be used once only is prepared so many times.
pub(crate) const ROUNDS: usize = 2;
/// Those that take longest last: they are begun first.
pub(crate) const STAGES: [Stage; 4] = [
    Stage { name: "index-load", what: "50 000 blobs into the index on disk", prepare: load_index },
    Stage { name: "restore", what: "2 MB of files out of a repository", prepare: restore },
    Stage { name: "check", what: "a repository of 2 MB, all its data", prepare: check },
    Stage { name: "backup", what: "2 MB of files into a new repository", prepare: backup },
];

/// Blobs of the repository that has an index only.
const BLOBS: u64 = 50_000;

struct Place {
    runtime: Runtime,
    cx: Context,
    files: PathBuf,
    /// Removed in the end.
    scratch: TempDir,
}

impl Place {
    fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            cx: Context::silent(),
            files: dir.join(FILES),
            scratch: tempfile::tempdir_in(dir)?,
        })
    }

    fn path(&self, name: &str, number: usize) -> PathBuf {
        self.scratch.path().join(format!("{name}-{number}"))
    }

    /// Under a generated pass phrase, which needs little work.
    fn repository(&self, number: usize) -> Result<Repository> {
        let sink = Arc::new(LocalSink::without_fsync(self.path("repository", number))?);
        let (phrase, options) = (Passphrase::generate(), InitOptions::default());
        Ok(self.runtime.block_on(Repository::init(sink, &phrase, &options, &self.cx))?)
    }

    fn source(&self) -> Result<FilesSource> {
        Ok(FilesSource::new(vec![self.files.clone()], FilesOptions::default())?)
    }

    fn back_up(&self, repository: &Repository) -> Result<()> {
        // Nothing that is left to chance: which blobs are compared again, and in which pack they
        // come.
        let write = WriteSettings { verify_sample: 0.0, open_packs: 1, ..WriteSettings::default() };
        let (source, options) =
            (self.source()?, BackupOptions { estimate: false, write, ..BackupOptions::default() });
        let report =
            self.runtime.block_on(pipeline::backup(repository, &source, &options, &self.cx))?;
        if report.files.new == 0 || report.warnings > 0 {
            Err("the backup is incomplete".into())
        } else {
            Ok(())
        }
    }
}

fn backup(dir: &Path) -> Result<Work> {
    let place = Place::new(dir)?;
    let mut repositories =
        (0..ROUNDS).map(|number| place.repository(number)).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move || place.back_up(&repositories.pop().ok_or("no repository is left")?)))
}

fn restore(dir: &Path) -> Result<Work> {
    let place = Place::new(dir)?;
    let repository = place.repository(0)?;
    place.back_up(&repository)?;
    let snapshots = place.runtime.block_on(repository.snapshots(&place.cx))?;
    let snapshot = snapshots.snapshots.last().ok_or("the repository has no snapshot")?;
    let snapshot = place.runtime.block_on(repository.load_index(&place.cx))?.snapshot(snapshot);
    let (source, mut round) = (place.source()?, 0);
    Ok(Box::new(move || {
        round += 1;
        let target = place.path("target", round).display().to_string();
        let request = RestoreRequest { target: Some(target), ..RestoreRequest::default() };
        let report =
            place.runtime.block_on(pipeline::restore(&snapshot, &source, &request, &place.cx))?;
        if report.total_bytes == 0 { Err("nothing was restored".into()) } else { Ok(()) }
    }))
}

fn check(dir: &Path) -> Result<Work> {
    let place = Place::new(dir)?;
    let repository = place.repository(0)?;
    place.back_up(&repository)?;
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    Ok(Box::new(move || {
        // All of it, the directory too.
        let place = &place;
        let report = place.runtime.block_on(check::check(&repository, &options, &place.cx))?;
        if report.problems.is_empty() { Ok(()) } else { Err("the repository is damaged".into()) }
    }))
}

fn load_index(dir: &Path) -> Result<Work> {
    let (place, phrase) = (Place::new(dir)?, Passphrase::generate());
    let path = place.path("synthetic", 0);
    place.runtime.block_on(Synthetic::make(&path, &phrase, BLOBS, |_| {}))?;
    let repository =
        place.runtime.block_on(Repository::open(Arc::new(LocalSink::open(&path)?), &phrase))?;
    let mut round = 0;
    Ok(Box::new(move || {
        round += 1;
        let repository = repository.with_cache(&place.path("cache", round));
        let loaded = place.runtime.block_on(repository.load_index(&place.cx))?;
        if loaded.index().len() as u64 == BLOBS { Ok(()) } else { Err("blobs are missing".into()) }
    }))
}
