//! Reading all index objects.

use futures::{StreamExt, TryStreamExt};

use super::{BlobIndex, MemoryIndex};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Event, Progress, Stage};
use crate::format::{IndexFile, PackedBlob, open_json};
use crate::id::IndexId;
use crate::repository::{Repository, layout};
use crate::sink::{ObjectMeta, SinkOps};

/// An index and what was wrong with its objects.
#[derive(Debug)]
pub(crate) struct LoadedIndex {
    pub(crate) index: MemoryIndex,
    /// Objects that could not be used, with the reason. Their packs are simply not known.
    pub(crate) damaged: Vec<(IndexId, Error)>,
    /// How many index objects there are.
    pub(crate) objects: usize,
}

/// Loads every index object; damaged ones are reported, not fatal: whether they matter depends on what is looked for.
pub(crate) async fn load(repository: &Repository, cx: &Context) -> Result<LoadedIndex> {
    cx.events.emit(&Event::StageStarted { stage: Stage::LoadIndex });
    let objects = repository.list(&layout::indexes()).await?;
    let named: Vec<(IndexId, ObjectMeta)> =
        objects.into_iter().filter_map(|meta| Some((meta.key.file_name().parse().ok()?, meta))).collect();
    let total = named.len();
    let index = MemoryIndex::default();
    let mut damaged = Vec::new();
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let mut files = futures::stream::iter(named)
        .map(|(id, meta)| async move {
            cx.check_cancelled()?;
            match load_one(repository, id).await {
                Ok(file) => Ok::<_, Error>((id, meta.size, Ok(file))),
                Err(error) if error.is_damage() => Ok((id, meta.size, Err(error))),
                Err(error) => Err(error.context(format!("index {}", id.short()))),
            }
        })
        .buffer_unordered(concurrency);
    let mut progress = Progress { total_items: total as u64, ..Progress::default() };
    while let Some((id, size, file)) = files.try_next().await? {
        match file {
            Ok(file) => add(&index, &file),
            Err(error) => damaged.push((id, error)),
        }
        progress.done_items += 1;
        progress.done_bytes += size;
        cx.events.emit(&Event::Progress { stage: Stage::LoadIndex, progress });
    }
    cx.events.emit(&Event::StageFinished { stage: Stage::LoadIndex, progress });
    damaged.sort_by_key(|(id, _)| *id);
    Ok(LoadedIndex { index, damaged, objects: total })
}

fn add(index: &MemoryIndex, file: &IndexFile) {
    for pack in &file.packs {
        let blobs: Vec<PackedBlob> = pack.blobs.iter().copied().map(PackedBlob::from).collect();
        index.add_pack(pack.id, &blobs);
    }
}

async fn load_one(repository: &Repository, id: IndexId) -> Result<IndexFile> {
    let bytes = repository.sink().get_bytes(&layout::index(&id)).await?;
    let key = repository.key().clone();
    repository
        .cpu()
        .run(move || {
            if IndexId::digest(&bytes) != id {
                return Err(Error::damaged("content does not match the name"));
            }
            open_json(&key, &bytes)
        })
        .await
}
