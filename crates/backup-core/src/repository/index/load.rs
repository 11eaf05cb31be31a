//! Reading all index objects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::{BlobIndex, Mark, MemoryIndex, disk};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Progress, Stage};
use crate::format::{IndexBlob, IndexFile, PackedBlob};
use crate::id::{IndexId, PackId};
use crate::repository::{Repository, layout};
use crate::sink::SinkOps;

/// How often objects may vanish between being listed and being read: a prune replaces each of them
/// once at most.
pub(super) const ROUNDS: usize = 5;

/// An index and what was wrong with its objects.
#[derive(Debug)]
pub(crate) struct LoadedIndex {
    pub(crate) index: Box<dyn BlobIndex>,
    /// Objects that could not be used, with the reason. Their packs are simply not known.
    pub(crate) damaged: Vec<(IndexId, Error)>,
    /// The index objects that were there.
    pub(crate) objects: HashSet<IndexId>,
    /// Those of them that were read for this, and understood; the others are known from a cache.
    pub(crate) read: HashSet<IndexId>,
}

/// Loads every index object; damaged ones are reported, not fatal: whether they matter depends on
/// what is looked for.
pub(crate) async fn load(repository: &Repository, cx: &Context) -> Result<LoadedIndex> {
    if let Some(dir) = repository.index_cache() {
        match disk::open(repository, dir, cx).await {
            Ok(loaded) => return Ok(loaded),
            Err(disk::Failure::Repository(error)) => return Err(error),
            Err(disk::Failure::Cache(error)) => {
                cx.events.note(format!(
                    "The index cache in {} cannot be used: {error}. Continuing without it.",
                    dir.display()
                ));
            }
        }
    }
    load_corrected(repository, &HashMap::new(), cx).await
}

/// Loads every index object into memory. The `contents` of packs count instead of their entries in
/// index objects, also of packs that no object lists.
pub(crate) async fn load_corrected(
    repository: &Repository,
    contents: &HashMap<PackId, Vec<IndexBlob>>,
    cx: &Context,
) -> Result<LoadedIndex> {
    cx.events.emit(&Event::StageStarted { stage: Stage::LoadIndex });
    let mut progress = Progress::default();
    let index = MemoryIndex::default();
    let mut damaged = Vec::new();
    let mut objects = HashSet::new();
    for round in 1.. {
        let listed = names(repository).await?;
        progress.total_items = listed.len() as u64;
        let new: Vec<IndexId> =
            listed.iter().filter(|id| !objects.contains(*id)).copied().collect();
        let mut vanished = false;
        let mut files = read_all(repository, new, cx);
        while let Some((id, size, file)) = files.try_next().await? {
            match file {
                Ok(mut file) => {
                    file.correct(contents);
                    index.add_object(id, &file);
                    objects.insert(id);
                }
                // Its successors were stored before it went.
                Err(error) if error.kind() == ErrorKind::NotFound && round < ROUNDS => {
                    vanished = true;
                }
                Err(error) => damaged.push((id, error)),
            }
            progress.done_items += 1;
            progress.done_bytes += size;
            cx.events.emit(&Event::Progress { stage: Stage::LoadIndex, progress });
        }
        if !vanished {
            break;
        }
        damaged.clear();
    }
    progress.total_items = progress.done_items;
    cx.events.emit(&Event::StageFinished { stage: Stage::LoadIndex, progress });
    add_unlisted(&index, contents);
    damaged.sort_by_key(|(id, _)| *id);
    let read = objects.clone();
    objects.extend(damaged.iter().map(|(id, _)| *id));
    Ok(LoadedIndex { index: Box::new(index), damaged, objects, read })
}

/// Adds the packs of `contents` that no index object lists.
fn add_unlisted(index: &MemoryIndex, contents: &HashMap<PackId, Vec<IndexBlob>>) {
    if contents.is_empty() {
        return;
    }
    let mut known = HashSet::new();
    index.for_each_pack(&mut |pack| _ = known.insert(pack.id));
    for (pack, blobs) in contents.iter().filter(|(pack, _)| !known.contains(*pack)) {
        let blobs: Vec<PackedBlob> = blobs.iter().copied().map(PackedBlob::from).collect();
        index.add_pack(*pack, &blobs);
    }
}

/// The index objects that are there.
pub(crate) async fn names(repository: &Repository) -> Result<Vec<IndexId>> {
    let objects = repository.list(&layout::indexes()).await?;
    Ok(objects.into_iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect())
}

/// What reading one index object came to: its name, its stored bytes, its content or the damage.
type Read = (IndexId, u64, Result<IndexFile>);

/// Reads index objects, several at a time. Damage is reported for each; other failures end the
/// stream.
pub(crate) fn read_all<'a>(
    repository: &'a Repository,
    ids: Vec<IndexId>,
    cx: &'a Context,
) -> impl futures::Stream<Item = Result<Read>> + Unpin + 'a {
    let decoding = Arc::new(Semaphore::new(repository.cpu().threads().div_ceil(2)));
    let read = move |id: IndexId| {
        let decoding = Arc::clone(&decoding);
        async move {
            cx.check_cancelled()?;
            match load_one(repository, id, &decoding).await {
                Ok((size, file)) => Ok::<_, Error>((id, size, Ok(file))),
                Err(error) if error.is_damage() => Ok((id, 0, Err(error))),
                Err(error) => Err(error.context(format!("index {}", id.short()))),
            }
        }
    };
    Box::pin(futures::stream::iter(ids).map(read).buffer_unordered(at_a_time(repository)))
}

/// Where more bytes than this are worth a request, it takes longer than bringing an index object,
/// which has two megabytes at most.
const FAR: u64 = 8 << 20;

/// Few are in memory at a time; but those that are far away are waited for together.
fn at_a_time(repository: &Repository) -> usize {
    let capabilities = repository.sink().capabilities();
    let most = if capabilities.read_size > FAR { 8 } else { 2 };
    capabilities.concurrency.clamp(1, most)
}

/// Reads index objects that were understood before, and returns those that are no longer what their
/// names say.
pub(crate) async fn find_changed(
    repository: &Repository,
    ids: Vec<IndexId>,
    cx: &Context,
) -> Result<Vec<(IndexId, Error)>> {
    let look = move |id: IndexId| async move {
        cx.check_cancelled()?;
        match compare_one(repository, id).await {
            Ok(()) => Ok(None),
            // Gone since: a prune has put others in its place.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.is_damage() => Ok(Some((id, error))),
            Err(error) => Err(error.context(format!("index {}", id.short()))),
        }
    };
    let looked = futures::stream::iter(ids).map(look).buffer_unordered(at_a_time(repository));
    looked.try_filter_map(|changed| std::future::ready(Ok(changed))).try_collect().await
}

/// Adds what an index object says.
pub(crate) fn add(index: &dyn BlobIndex, file: &IndexFile) {
    for pack in &file.packs {
        let blobs: Vec<PackedBlob> = pack.blobs.iter().copied().map(PackedBlob::from).collect();
        index.add_pack(pack.id, &blobs);
    }
    for pack in &file.packs_to_delete {
        let blobs: Vec<PackedBlob> = pack.blobs.iter().copied().map(PackedBlob::from).collect();
        index.add_marked_pack(pack.id, &blobs, Mark { time: pack.time });
    }
}

async fn load_one(
    repository: &Repository,
    id: IndexId,
    decoding: &Semaphore,
) -> Result<(u64, IndexFile)> {
    let bytes = repository.sink().get_bytes(&layout::index(&id)).await?;
    let _one_of_few = decoding.acquire().await.map_err(|_| Error::cancelled())?;
    let key = repository.key().clone();
    let decode = move || {
        compare(id, &bytes)?;
        Ok((bytes.len() as u64, IndexFile::open(&key, bytes)?))
    };
    repository.cpu().run(decode).await
}

async fn compare_one(repository: &Repository, id: IndexId) -> Result<()> {
    let bytes = repository.sink().get_bytes(&layout::index(&id)).await?;
    repository.cpu().run(move || compare(id, &bytes)).await
}

fn compare(id: IndexId, sealed: &[u8]) -> Result<()> {
    match IndexId::digest(sealed) == id {
        true => Ok(()),
        false => Err(Error::damaged("the SHA-256 of the content does not match the name")),
    }
}
