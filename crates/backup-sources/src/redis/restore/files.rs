//! Files for a server that is started on them: `dump.rdb`; or, with commands behind it, an
//! append-only file.
//!
//! A server that is told `appendonly yes` does not look at `dump.rdb`, and one that is told `no`
//! does not look at the append-only file: which of them was written, and what has to be set, is
//! said. Files get their names when all are complete and durable; the one that makes the rest count
//! comes last.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backup_core::context::Context;
use backup_core::source::{
    IfExists, RestoreReport, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};
use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::super::backup::server_version;
use super::super::error::invalid;
use super::Job;
use super::replay::Replay;

/// As servers from 7 on name them.
const DIR: &str = "appendonlydir";
const BASE: &str = "appendonly.aof.1.base.rdb";
const INCREMENT: &str = "appendonly.aof.1.incr.aof";
const MANIFEST: &str = "appendonly.aof.manifest";
/// As those before do.
const SINGLE: &str = "appendonly.aof";

/// Writes a snapshot to a directory; of a cluster each master has one of its own in it.
pub(super) async fn write(job: &Job<'_>, directory: &Path) -> SourceResult<RestoreReport> {
    let nodes: Vec<_> = job
        .dumps
        .iter()
        .filter_map(|dump| Some((dump, dump.description.member.as_ref()?)))
        .collect();
    if nodes.is_empty() {
        return write_one(job, directory).await;
    }
    let looking = RestoreRequest { dry_run: true, ..job.request.clone() };
    let mut report = RestoreReport::default();
    // All of them are looked at before the first is written.
    for request in [&looking, job.request] {
        report = RestoreReport::default();
        for (dump, _) in &nodes {
            let one = Job::new(job.cx, job.options, request, job.snapshot, vec![(*dump).clone()])?;
            let written = write_one(&one, &directory.join(dump.layout.name())).await?;
            report.entries += written.entries;
            report.files_written += written.files_written;
            report.total_bytes += written.total_bytes;
            report.written_bytes += written.written_bytes;
            report.verified_bytes += written.verified_bytes;
        }
    }
    for (dump, member) in nodes.iter().filter(|_| !job.request.dry_run) {
        job.cx.events.note(format!("{} had the slots {}", dump.layout.name(), member.slots));
    }
    job.cx.events.note(
        "start an empty node of a new cluster on each of these directories: it takes the slots of \
         its keys. Then let the nodes meet, and add the slots without keys",
    );
    Ok(report)
}

/// Writes the dump of one server to a directory.
async fn write_one(job: &Job<'_>, directory: &Path) -> SourceResult<RestoreReport> {
    let replay = Replay::of(job).await?;
    let mut report =
        RestoreReport { total_bytes: job.dump.metadata.size, ..RestoreReport::default() };
    refuse_what_is_there(job, directory)?;
    if job.request.dry_run {
        report.entries = 1;
        return Ok(report);
    }
    let mut files = NewFiles::default();
    let written = match write_all(job, directory, replay, &mut files).await {
        Ok(()) => files.finish(job, &mut report).await,
        error => error,
    };
    if let Err(error) = written {
        files.remove().await;
        return Err(error);
    }
    report.entries = report.files_written;
    Ok(report)
}

async fn write_all(
    job: &Job<'_>,
    directory: &Path,
    mut replay: Replay,
    files: &mut NewFiles,
) -> SourceResult<()> {
    files.create_dir(directory).await?;
    if replay.is_empty() {
        dump(job, files.create(directory, "dump.rdb").await?).await?;
        job.cx.events.note(
            "a server with `appendonly yes` ignores dump.rdb: start it with `--appendonly no` \
             first, then run CONFIG SET appendonly yes",
        );
    } else if has_directory(job) {
        let below = directory.join(DIR);
        files.create_dir(&below).await?;
        dump(job, files.create(&below, BASE).await?).await?;
        commands(job, &mut replay, files.create(&below, INCREMENT).await?).await?;
        let manifest = format!("file {BASE} seq 1 type b\nfile {INCREMENT} seq 1 type i\n");
        files.create(&below, MANIFEST).await?.write(manifest.as_bytes()).await?;
        note(job.cx);
    } else {
        let file = files.create(directory, SINGLE).await?;
        dump(job, file).await?;
        commands(job, &mut replay, file).await?;
        note(job.cx);
    }
    Ok(())
}

fn note(cx: &Context) {
    cx.events
        .note("start the server with `--appendonly yes`: otherwise it ignores the restored files");
}

/// Servers from 7 on keep a directory.
fn has_directory(job: &Job<'_>) -> bool {
    let version = server_version(&job.description.dump).unwrap_or_default();
    let major =
        version.split(' ').nth(1).and_then(|text| text.split('.').next()?.parse::<u32>().ok());
    major.is_none_or(|major| major >= 7)
}

/// Whatever a server would load instead, or as well.
fn refuse_what_is_there(job: &Job<'_>, directory: &Path) -> SourceResult<()> {
    let there = ["dump.rdb", DIR, SINGLE]
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.exists());
    match (there, job.request.if_exists) {
        (None, _) => Ok(()),
        // Whatever is asked for: a server may be running on them.
        (Some(path), IfExists::Fail | IfExists::Replace | IfExists::Merge) => {
            let text = format!("{} already exists", path.display());
            Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(
                "stop the server that uses this directory and move its files away, or name an \
                 empty directory",
            ))
        }
    }
}

async fn dump(job: &Job<'_>, file: &mut NewFile) -> SourceResult<()> {
    let mut pieces = job.read_dump();
    while let Some(piece) = pieces.recv().await.transpose()? {
        file.write(&piece).await?;
    }
    if file.written == job.dump.metadata.size {
        return Ok(());
    }
    Err(SourceError::new(SourceErrorKind::Mismatch, "the snapshot does not hold the whole dump"))
}

async fn commands(job: &Job<'_>, replay: &mut Replay, file: &mut NewFile) -> SourceResult<()> {
    // The database that the stream was at when the dump was made; it is not said again.
    if let Some(database) = job.description.dump.remarks.get("repl-stream-db") {
        file.write(&redis::cmd("SELECT").arg(database).get_packed_command()).await?;
    }
    while let Some(bytes) = replay.next().await? {
        job.cx.check_cancelled()?;
        file.write(&bytes).await?;
    }
    Ok(())
}

/// Files and directories that did not exist. Until all are complete no server takes them for its
/// own.
#[derive(Default)]
struct NewFiles {
    files: Vec<NewFile>,
    directories: Vec<PathBuf>,
}

impl NewFiles {
    async fn create_dir(&mut self, path: &Path) -> SourceResult<()> {
        let new = !path.exists();
        tokio::fs::create_dir_all(path).await.map_err(|error| failed(path, error))?;
        if new {
            self.directories.push(path.to_owned());
        }
        Ok(())
    }

    async fn create(&mut self, directory: &Path, name: &str) -> SourceResult<&mut NewFile> {
        self.files.push(NewFile::create(directory, name).await?);
        self.files.last_mut().ok_or_else(|| invalid("there is no file"))
    }

    /// Makes them durable, reads them back if that is asked for, and gives them their names, in
    /// order.
    async fn finish(&mut self, job: &Job<'_>, report: &mut RestoreReport) -> SourceResult<()> {
        for file in &mut self.files {
            file.finish(job, report).await?;
        }
        for file in &mut self.files {
            tokio::fs::rename(&file.partial, &file.path)
                .await
                .map_err(|error| failed(&file.path, error))?;
            report.files_written += 1;
        }
        let parents: BTreeSet<_> =
            self.files.iter().filter_map(|file| file.path.parent()).collect();
        let above = self
            .directories
            .iter()
            .filter_map(|path| path.parent())
            .filter(|path| !path.as_os_str().is_empty());
        for directory in parents.into_iter().chain(above) {
            let synced = async { File::open(directory).await?.sync_all().await };
            synced.await.map_err(|error| failed(directory, error))?;
        }
        Ok(())
    }

    /// What is left of a restore that has failed: a server must not take it for its data.
    async fn remove(&mut self) {
        for file in &self.files {
            for path in [&file.partial, &file.path] {
                // Either is there.
                _ = tokio::fs::remove_file(path).await;
            }
        }
        for directory in self.directories.iter().rev() {
            // Unless somebody else has put something there.
            _ = tokio::fs::remove_dir(directory).await;
        }
    }
}

/// A file that did not exist.
struct NewFile {
    path: PathBuf,
    /// Its name until it is complete.
    partial: PathBuf,
    file: File,
    written: u64,
    hash: Sha256,
}

impl NewFile {
    async fn create(directory: &Path, name: &str) -> SourceResult<Self> {
        let (path, partial) = (directory.join(name), directory.join(format!("{name}.partial")));
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .await;
        let file = opened.map_err(|error| failed(&partial, error))?;
        Ok(Self { path, partial, file, written: 0, hash: Sha256::new() })
    }

    async fn write(&mut self, bytes: &[u8]) -> SourceResult<()> {
        self.written += bytes.len() as u64;
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(|error| failed(&self.path, error))
    }

    async fn finish(&mut self, job: &Job<'_>, report: &mut RestoreReport) -> SourceResult<()> {
        let flushed = self.file.flush().await;
        let synced = match flushed {
            Ok(()) => self.file.sync_all().await,
            error => error,
        };
        synced.map_err(|error| failed(&self.path, error))?;
        report.written_bytes += self.written;
        if job.request.verify {
            self.verify().await?;
            report.verified_bytes += self.written;
        }
        Ok(())
    }

    async fn verify(&mut self) -> SourceResult<()> {
        self.file.rewind().await.map_err(|error| failed(&self.path, error))?;
        let (mut hash, mut bytes) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match self.file.read(&mut bytes).await.map_err(|error| failed(&self.path, error))? {
                0 => break,
                len => hash.update(&bytes[..len]),
            }
        }
        if hash.finalize() == self.hash.clone().finalize() {
            return Ok(());
        }
        let text = format!("{} differs from the data that was written", self.path.display());
        Err(SourceError::new(SourceErrorKind::Mismatch, text))
    }
}

fn failed(path: &Path, error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, format!("cannot write {}", path.display()))
        .with_source(error)
}
