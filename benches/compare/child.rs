//! Processes of this program: what feeds a stream, and backups of what is not a file. The command
//! line has no source that reads a pipe, whoever builds on the crates has: this is one.

use std::fmt;
use std::io::{Read, Stdin, Write};
use std::sync::Arc;

use async_trait::async_trait;
use backup_benches::{Result, data::Endless};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::log::Position;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{
    BackupReader, BackupRequest, BlockingContent, Checkpoint, Chunking, Content, ContentEnd,
    ContentReader, Digest, Entry, EntryPath, Item, LogReader, Metadata, Probe, RestoreReport,
    RestoreRequest, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};
use backup_storage::LocalSink;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};

/// Makes this program one of the processes that are measured.
pub(crate) const WORD: &str = "--child";
/// Blobs of each file of a source of blobs, and bytes of each.
const BLOBS_PER_FILE: u64 = 1000;
/// So many files lie in one directory; all in one would make it a text of 67 MB, as nobody has
/// them.
const FILES_PER_DIRECTORY: u64 = 10;
const BLOB: u32 = 4096;

/// `generate SEED BYTES` writes to the standard output, `stream REPOSITORY` backs the standard
/// input up, `blobs REPOSITORY SEED BLOBS` so many small blobs, and says which snapshot that is;
/// `snapshots REPOSITORY COUNT` makes so many, all with the same; `jobs JOBS SNAPSHOTS` adds
/// snapshots of each job to the repository `repo`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["generate", seed, bytes] => {
            let mut out = std::io::stdout().lock();
            let mut endless = Endless::new(seed.parse()?, bytes.parse()?);
            let mut piece = vec![0; 256 << 10];
            loop {
                match endless.read(&mut piece)? {
                    0 => return Ok(()),
                    len => out.write_all(&piece[..len])?,
                }
            }
        }
        ["stream", repository] => stored(repository, Fed::Stream).map(drop),
        ["blobs", repository, seed, blobs] => {
            let id = stored(repository, Fed::Blobs { seed: seed.parse()?, blobs: blobs.parse()? })?;
            Ok(writeln!(std::io::stdout(), "{id}")?)
        }
        ["snapshots", repository, count] => {
            let count: u32 = count.parse()?;
            runtime()?.block_on(async {
                // That they are lasting is not what is measured.
                let opened = open(Arc::new(LocalSink::without_fsync(repository)?)).await?;
                for _ in 0..count {
                    backed_up(&opened, Fed::Stream).await?;
                }
                Ok(())
            })
        }
        ["floor", ref words @ ..] => crate::floor::run(words),
        ["jobs", jobs, snapshots] => {
            runtime()?.block_on(crate::jobs::add_snapshots(jobs.parse()?, snapshots.parse()?))
        }
        _ => Err(format!("{WORD} is an internal argument of this program").into()),
    }
}

fn stored(repository: &str, source: Fed) -> Result<String> {
    runtime()?.block_on(async {
        backed_up(&open(Arc::new(LocalSink::open(repository)?)).await?, source).await
    })
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn open(sink: Arc<LocalSink>) -> Result<Repository> {
    Ok(Repository::open(sink, &Passphrase::new(std::env::var("BACKUP_PASSWORD")?)).await?)
}

async fn backed_up(repository: &Repository, source: Fed) -> Result<String> {
    let options = BackupOptions { estimate: false, ..BackupOptions::default() };
    let report = backup(repository, &source, &options, &Context::silent()).await?;
    Ok(report.snapshot.ok_or("the backup created no snapshot")?.to_string())
}

/// What is backed up.
#[derive(Debug, Clone, Copy)]
enum Fed {
    /// The standard input.
    Stream,
    /// Small blobs, each with a number of its own.
    Blobs { seed: u64, blobs: u64 },
}

impl fmt::Display for Fed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("generated data")
    }
}

fn nothing() -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, "this source supports backups only")
}

#[async_trait]
impl Source for Fed {
    fn kind(&self) -> &'static str {
        "bench"
    }

    fn identity(&self) -> SourceIdentity {
        SourceIdentity {
            kind: "bench".into(),
            id: "bench".into(),
            host: "bench".into(),
            paths: vec!["/bench".into()],
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, _: &Context) -> SourceResult<Probe> {
        Ok(Probe::default())
    }

    async fn open_backup(
        &self,
        cx: &Context,
        _: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        Ok(Box::new(Reader { cx: cx.clone(), source: *self, yielded: 0, started: cx.clock.now() }))
    }

    async fn open_log(
        &self,
        _: &Context,
        _: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(nothing())
    }

    async fn restore(
        &self,
        _: &Context,
        _: &RestoreRequest,
        _: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        Err(nothing())
    }

    async fn digest(&self, _: &Context, _: &Selection) -> SourceResult<Digest> {
        Err(nothing())
    }
}

struct Reader {
    cx: Context,
    source: Fed,
    yielded: u64,
    started: Timestamp,
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let number = self.yielded;
        self.yielded += 1;
        let (path, chunking, content): (_, _, Box<dyn BlockingContent>) = match self.source {
            Fed::Stream if number == 0 => {
                ("stream".to_owned(), Chunking::ContentDefined, Box::new(Input))
            }
            Fed::Blobs { seed, blobs } if number * BLOBS_PER_FILE < blobs => {
                let content = Numbers { at: 0, seed, first: number * BLOBS_PER_FILE };
                let directory = number / FILES_PER_DIRECTORY;
                (
                    format!("blobs-{seed}-{directory:04}/{number:06}"),
                    Chunking::Fixed(BLOB),
                    Box::new(content),
                )
            }
            _ => return Ok(None),
        };
        let path = EntryPath::new(format!("/{path}").into_bytes()).ok_or_else(nothing)?;
        let metadata = Metadata::stream(self.started);
        Ok(Some(Item::Entry(Entry {
            path,
            metadata,
            content: Content::Blocking(content),
            chunking,
        })))
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        Ok(Checkpoint {
            started: self.started,
            finished: self.cx.clock.now(),
            position: None,
            log: None,
        })
    }

    async fn abort(self: Box<Self>) {}
}

struct Input;

impl BlockingContent for Input {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        Ok(Box::new(InputReader(std::io::stdin())))
    }
}

struct InputReader(Stdin);

impl Read for InputReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl ContentReader for InputReader {
    fn finish(self: Box<Self>) -> SourceResult<ContentEnd> {
        Ok(ContentEnd::Stable)
    }
}

/// Zeros, but for a number at the beginning of each blob.
struct Numbers {
    at: u64,
    seed: u64,
    first: u64,
}

impl BlockingContent for Numbers {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        Ok(self)
    }
}

impl Read for Numbers {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let blob = u64::from(BLOB);
        let left = BLOBS_PER_FILE * blob - self.at;
        let within = self.at % blob;
        let len = usize::try_from((blob - within).min(left)).unwrap_or(0).min(buffer.len());
        let name = [self.seed.to_le_bytes(), (self.first + self.at / blob).to_le_bytes()].concat();
        for (at, byte) in (within..).zip(&mut buffer[..len]) {
            *byte = usize::try_from(at).ok().and_then(|at| name.get(at)).copied().unwrap_or(0);
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl ContentReader for Numbers {
    fn finish(self: Box<Self>) -> SourceResult<ContentEnd> {
        Ok(ContentEnd::Stable)
    }
}
