//! Restoring.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: what a snapshot holds, and which way it goes |
//! | `dumps.rs` | the dumps that a snapshot holds |
//! | `find.rs` | [`find_keys`]: which keys a snapshot has |
//! | `keys.rs` | key by key, with RESTORE |
//! | `lanes.rs` | what the target is: a server, or the masters of a cluster; ways to them |
//! | `rehearse.rs` | the dump and the commands behind it, read through before anything of the target goes |
//! | `prepare.rs` | what the target is like, and room in it |
//! | `memory.rs` | memory of the target: refusals, warnings, evicted keys |
//! | `writer.rs` | commands of a dump |
//! | `plan.rs` | which keys go where, and in which form |
//! | `pipeline.rs` | many commands on their way at once |
//! | `verify.rs` | reading restored keys back |
//! | `replica.rs` | the target becomes a replica of ours |
//! | `suited.rs` | which targets can |
//! | `listen.rs` | where it connects to us |
//! | `feed.rs` | what its master says to it |
//! | `merged.rs` | the masters of a cluster as one server |
//! | `files.rs` | files for a server that is started on them |
//! | `replay.rs` | commands since the dump, up to the moment that is asked for |
//! | `share.rs` | what a master has of the log of its cluster, and whether all of it came |

mod dumps;
mod feed;
mod files;
mod find;
mod keys;
mod lanes;
mod listen;
mod memory;
mod merged;
mod pipeline;
mod plan;
mod prepare;
mod rehearse;
mod replay;
mod replica;
mod share;
mod suited;
mod verify;
mod writer;

use backup_core::context::Context;
use backup_core::format::Node;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    RestoreReport, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::backup::Description;
use super::layout::Layout;
use super::options::{Engine, RedisOptions, RestoreOptions, Ttl};
use super::reader::NO_MOMENT;
use super::sentinel;
use super::server::Info;
use dumps::{Dump, Dumps};
pub(super) use find::stored;
pub use find::{FoundKey, FoundKeys, find_keys};
pub(super) use plan::target_time;

pub(super) use dumps::places_of;

/// Pieces of the dump, of at most some MiB, that wait.
const WAITING: usize = 4;

/// What must be known when something fails after the target was emptied.
const GONE: &str =
    "restore again before the target is used: its previous data is lost or partly replaced";

/// An error after which the target has neither what it had nor what was asked for. What mends it
/// stays the first thing to know.
fn gone(error: SourceError) -> SourceError {
    let hint = match error.hint() {
        Some(hint) => format!("{hint}; {GONE}"),
        None => GONE.to_owned(),
    };
    error.with_hint(hint)
}

/// What all ways share.
struct Job<'a> {
    cx: &'a Context,
    options: &'a RestoreOptions,
    request: &'a RestoreRequest,
    snapshot: &'a SnapshotReader,
    layout: Layout,
    /// Of all dumps together.
    description: Description,
    /// The dump, or the first one of several.
    dump: Node,
    dumps: Vec<Dump>,
}

/// Writes a snapshot to a server, or to a directory.
pub(super) async fn restore(
    cx: &Context,
    own: &RedisOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    let options = &own.restore;
    let dumps = dumps::find(snapshot).await?;
    let job = Job::new(cx, options, request, snapshot, dumps)?;
    if let Some(from) = job.description.scanned_from {
        cx.events.note(format!(
            "{NO_MOMENT} The keys were read from {from} to {}",
            job.description.time
        ));
    }
    let server = match request.target.as_deref() {
        None => own.clone(),
        // Another target has nothing of this source's credentials and certificates.
        Some(address) if RedisOptions::is_address(address) => {
            let waits = own.waits.clone();
            RedisOptions { waits, ..RedisOptions::parse(address)? }
        }
        Some(directory) => {
            job.refuse_choices("a directory receives the dump unchanged")?;
            return files::write(&job, directory.as_ref()).await;
        }
    };
    let server = super::unless_cancelled(cx, sentinel::master(&server)).await?;
    match &options.engine {
        Engine::Keys => keys::restore(&job, &server).await,
        Engine::Replica(_) if server.sentinels.is_some() => {
            let text = "sentinels watch the target, and would take it for a failed master as a \
                        replica of this process";
            Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
                "restore key by key; or run SENTINEL REMOVE on all sentinels for the time of the \
                 restore, and name the server itself",
            ))
        }
        Engine::Replica(way) => {
            job.refuse_choices("a replica receives everything unchanged")?;
            merged::require_alike(&job)?;
            Box::pin(replica::restore(&job, &server, way)).await
        }
    }
}

impl<'a> Job<'a> {
    fn new(
        cx: &'a Context,
        options: &'a RestoreOptions,
        request: &'a RestoreRequest,
        snapshot: &'a SnapshotReader,
        dumps: Vec<Dump>,
    ) -> SourceResult<Self> {
        let description = dumps::joined(&dumps)?;
        let (layout, dump) = (dumps[0].layout.clone(), dumps[0].file.clone());
        Ok(Self { cx, options, request, snapshot, layout, description, dump, dumps })
    }
}

impl Job<'_> {
    /// What can be chosen only where keys are written one by one.
    fn refuse_choices(&self, why: &str) -> SourceResult<()> {
        let options = self.options;
        let plain = self.request.selection.is_all()
            && options.databases.is_empty()
            && options.rename_prefix.is_none()
            && options.ttl == Ttl::Absolute
            && !options.without_functions;
        if plain {
            return Ok(());
        }
        let text = format!("{why}: selection, renaming and changed expiry are not possible");
        Err(SourceError::new(SourceErrorKind::Unsupported, text)
            .with_hint("restore key by key to a server"))
    }

    /// For each dump a job of its own.
    fn parts(&self) -> SourceResult<Vec<Job<'_>>> {
        let part = |dump: &Dump| {
            Job::new(self.cx, self.options, self.request, self.snapshot, vec![dump.clone()])
        };
        self.dumps.iter().map(part).collect()
    }

    /// Bytes of all dumps.
    fn size(&self) -> u64 {
        self.dumps.iter().map(|dump| dump.file.metadata.size).sum()
    }

    /// Whether a target has loaded what the origin had, or anything if that was not recorded.
    fn has_modules(&self, target: &Info) -> bool {
        let there = target.modules();
        self.description
            .modules
            .as_ref()
            .map_or(!there.is_empty(), |needed| needed.is_subset(there))
    }

    /// The dump, piece by piece.
    fn read_dump(&self) -> Receiver<SourceResult<Bytes>> {
        let (sender, receiver) = channel(WAITING);
        tokio::spawn(pass_on(self.snapshot.content(&self.dump), sender, self.cx.cancel.clone()));
        receiver
    }

    /// All dumps, one after the other.
    fn read_dumps(&self) -> Dumps {
        let (sender, waiting) = channel(1);
        let contents: Vec<_> =
            self.dumps.iter().map(|dump| self.snapshot.content(&dump.file)).collect();
        let (left, cancel) = (contents.len(), self.cx.cancel.clone());
        tokio::spawn(async move {
            for content in contents {
                let (pieces, receiver) = channel(WAITING);
                if sender.send(receiver).await.is_err() {
                    return;
                }
                pass_on(content, pieces, cancel.clone()).await;
            }
        });
        Dumps { waiting, left }
    }
}

/// Hands a content on, as long as somebody takes it.
async fn pass_on<E: Into<SourceError>>(
    mut content: impl Stream<Item = Result<Bytes, E>> + Unpin,
    sender: Sender<SourceResult<Bytes>>,
    cancel: CancellationToken,
) {
    while let Some(piece) = content.next().await {
        let piece = if cancel.is_cancelled() {
            Err(SourceError::cancelled())
        } else {
            piece.map_err(Into::into)
        };
        if sender.send(piece).await.is_err() {
            return;
        }
    }
}
