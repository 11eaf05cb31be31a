//! Files some thirty thousand at a time, so that memory depends on this and not on the snapshot.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::error::Error;
use backup_core::id::BlobId;
use backup_core::source::{EntryPath, Metadata, SourceError, SourceErrorKind, SourceResult};
use rustix::fs::{Mode as Permissions, OFlags, openat};
use rustix::io::Errno;

use super::Job;
use super::blocks::Piece;
use super::damage::Lost;
use super::file::FileTask;
use super::metadata::{self, Report};
use super::site::Mode;
use super::special::HardLink;
use super::tally::Part;

/// Entries without content and blobs after which a window is worked off. Packs at the border of two
/// are read for both, and little of them for each.
const EMPTY: usize = 10_000;
const BLOBS: usize = 1 << 15;
/// Files that are kept open while their pieces come in.
const OPEN_FILES: usize = 128;

/// A directory that everything has been put into.
#[derive(Debug)]
pub(super) struct FinishedDir {
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
    /// Whether it gets the metadata.
    pub(super) apply: bool,
    /// Whether trouble with that is of no interest.
    pub(super) quiet: bool,
}

/// Files, hard links and finished directories that wait to be worked off, in this order.
#[derive(Debug, Default)]
pub(super) struct Window {
    files: Vec<FileTask>,
    /// How many files have no content.
    empty: usize,
    blobs: usize,
    pub(super) links: Vec<HardLink>,
    /// Inner before outer ones.
    pub(super) dirs: Vec<FinishedDir>,
}

impl Window {
    pub(super) fn push(&mut self, file: FileTask) {
        self.empty += usize::from(file.blobs() == 0);
        self.blobs += file.blobs();
        self.files.push(file);
    }

    pub(super) fn is_full(&self) -> bool {
        self.empty + self.links.len() + self.dirs.len() >= EMPTY || self.blobs >= BLOBS
    }

    /// Does everything that waits.
    pub(super) fn flush(self, job: &Arc<Job>, mode: Mode) -> SourceResult<()> {
        let Self { files, links, dirs, .. } = self;
        if mode == Mode::Check {
            return Ok(());
        }
        let dry_run = mode == Mode::DryRun;
        // Not copied into a slice: tens of thousands are held at once.
        let files = Arc::new(files);
        let pieces = parallel(&files, |file, buffer| {
            let prepared = file.prepare(job, dry_run, buffer, &job.watch.begin(file.path()));
            prepared.or_else(|error| file.fail(job, error).map(|()| Vec::new()))
        })?;
        if !dry_run {
            write(job, &files, pieces)?;
        }
        files.iter().try_for_each(|file| {
            let _calls = job.watch.begin(file.path());
            file.settle(job).or_else(|error| job.fail(file.path(), error))
        })?;
        if job.request.verify && !dry_run {
            parallel(&files, |file, buffer| {
                let verified = file.verify(job, buffer, &job.watch.begin(file.path()));
                verified.or_else(|error| file.fail(job, error))
            })?;
        }
        for link in links {
            make_link(job, &link, dry_run).or_else(|error| job.fail(&link.path, error))?;
        }
        if dry_run {
            job.tally.done(dirs.len() as u64, 0);
            return Ok(());
        }
        for dir in dirs {
            finish_dir(job, &dir).or_else(|error| job.fail(&dir.path, error))?;
        }
        Ok(())
    }
}

fn make_link(job: &Job, link: &HardLink, dry_run: bool) -> SourceResult<()> {
    job.check_cancelled()?;
    if let Some(Lost { reason, is_damage }) = job.damage.of_linked(&link.primary) {
        let reason = format!("hard link to {}: {reason}", link.primary);
        if !is_damage {
            return Err(SourceError::new(SourceErrorKind::Target, reason));
        }
        job.damage.report(&job.tally, &link.path, &reason, None);
        return Ok(());
    }
    if !dry_run {
        link.make(job, &job.watch.begin(&link.path))?;
    }
    job.tally.done(1, 0);
    Ok(())
}

fn finish_dir(job: &Job, dir: &FinishedDir) -> SourceResult<()> {
    if dir.apply {
        let _calls = job.watch.begin(&dir.path);
        let failed = |errno| job.target.error(errno, "set the metadata of", &dir.path);
        let parent = job.target.parent(&dir.path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&parent, dir.path.name(), flags, Permissions::empty()) {
            Ok(fd) => {
                let tally = (!dir.quiet).then_some(&job.tally);
                metadata::apply(&fd, &dir.metadata, Report { tally, path: &dir.path });
            }
            // Somebody else's directory.
            Err(errno @ Errno::ACCESS) => job.tally.trouble(Part::Mode, &dir.path, errno),
            Err(errno) => return Err(failed(errno)),
        }
    }
    job.tally.done(1, 0);
    Ok(())
}

/// Fetches the pieces and writes each where it belongs. Files that need what cannot be had are
/// lost, not the others.
fn write(job: &Arc<Job>, files: &Arc<Vec<FileTask>>, pieces: Vec<Vec<Piece>>) -> SourceResult<()> {
    let mut flat = pieces
        .into_iter()
        .enumerate()
        .flat_map(|(file, pieces)| pieces.into_iter().map(move |p| (file, p)));
    loop {
        let wanted = flat.by_ref().filter(|(file, _)| !files[*file].is_lost());
        let places = Places::collect(wanted.take(BLOBS));
        if places.blobs.is_empty() {
            break;
        }
        let writer = Writer {
            job: Arc::clone(job),
            files: Arc::clone(files),
            open: Mutex::default(),
            places,
        };
        let blobs = writer.places.blobs.clone();
        let handle = move |index: usize, content: Result<&[u8], Error>| match content {
            Ok(bytes) => writer.write(index, bytes),
            Err(error) if error.is_damage() => {
                writer.lose(index, &error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        job.runtime.block_on(job.snapshot.try_fetch(&job.cx, &blobs, handle))?;
    }
    match files.iter().find(|file| !file.is_finished() && !file.is_lost()) {
        None => Ok(()),
        Some(file) => {
            let message = format!("{} was not completely written", job.target.show(file.path()));
            Err(SourceError::new(SourceErrorKind::Mismatch, message))
        }
    }
}

/// Distinct blobs, and where each of them goes.
#[derive(Debug, Default)]
struct Places {
    blobs: Vec<BlobId>,
    /// Index of the blob, index of the file, offset; sorted.
    all: Vec<(u32, u32, u64)>,
}

impl Places {
    fn collect(pieces: impl Iterator<Item = (usize, Piece)>) -> Self {
        let mut places = Self::default();
        let mut known = HashMap::new();
        for (file, piece) in pieces {
            let next = places.blobs.len() as u32;
            let blob = *known.entry(piece.blob).or_insert(next);
            if blob == next {
                places.blobs.push(piece.blob);
            }
            places.all.push((blob, file as u32, piece.offset));
        }
        places.all.sort_unstable();
        places
    }

    fn of(&self, blob: usize) -> impl Iterator<Item = (usize, u64)> {
        let from = self.all.partition_point(|place| (place.0 as usize) < blob);
        self.all[from..]
            .iter()
            .take_while(move |place| place.0 as usize == blob)
            .map(|(_, file, offset)| (*file as usize, *offset))
    }
}

/// Writes blobs as they come, on any thread.
#[derive(Debug)]
struct Writer {
    job: Arc<Job>,
    files: Arc<Vec<FileTask>>,
    places: Places,
    /// Files that are kept open, oldest first.
    open: Mutex<VecDeque<usize>>,
}

impl Writer {
    fn write(&self, blob: usize, bytes: &[u8]) -> SourceResult<()> {
        for (file, offset) in self.places.of(blob) {
            let task = &self.files[file];
            match task.write(&self.job, offset, bytes) {
                Ok(true) => self.stays_open(file),
                Ok(false) => {}
                Err(error) => task.fail(&self.job, error)?,
            }
        }
        Ok(())
    }

    fn lose(&self, blob: usize, error: &Error) {
        for (file, _) in self.places.of(blob) {
            self.files[file].lose(error);
            self.files[file].close();
        }
    }

    fn stays_open(&self, file: usize) {
        let oldest = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.push_back(file);
            if open.len() > OPEN_FILES { open.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.files[oldest].close();
        }
    }
}

/// Calls `work` for every file on a few threads, each with a buffer of its own; results in the
/// order of the files.
fn parallel<R: Send>(
    files: &[FileTask],
    work: impl Fn(&FileTask, &mut Vec<u8>) -> SourceResult<R> + Sync,
) -> SourceResult<Vec<R>> {
    const AT_A_TIME: usize = 16;
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(files.len() / AT_A_TIME)
        .min(8);
    if threads < 2 {
        let mut buffer = Vec::new();
        return files.iter().map(|file| work(file, &mut buffer)).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || -> SourceResult<Vec<(usize, Vec<R>)>> {
        let (mut buffer, mut done) = (Vec::new(), Vec::new());
        loop {
            let from = next.fetch_add(AT_A_TIME, Relaxed);
            let Some(share) = files
                .get(from..files.len().min(from + AT_A_TIME))
                .filter(|share| !share.is_empty())
            else {
                return Ok(done);
            };
            let results: Vec<R> = share
                .iter()
                .map(|file| work(file, &mut buffer))
                .collect::<SourceResult<_>>()
                .inspect_err(|_| {
                    // The others need not go on.
                    next.store(files.len(), Relaxed);
                })?;
            done.push((from, results));
        }
    };
    let mut parts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut parts = Vec::new();
        for worker in workers {
            let ended =
                || SourceError::new(SourceErrorKind::Io, "a worker thread ended unexpectedly");
            parts.extend(worker.join().map_err(|_panic| ended())??);
        }
        SourceResult::Ok(parts)
    })?;
    parts.sort_unstable_by_key(|(from, _)| *from);
    Ok(parts.into_iter().flat_map(|(_, results)| results).collect())
}
