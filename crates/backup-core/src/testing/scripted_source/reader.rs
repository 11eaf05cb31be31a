//! The backup reader of a script.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::content::content_of;
use super::{Script, ScriptedEntry, Shared, check_cancelled, scripted};
use crate::context::Context;
use crate::event::Warning;
use crate::source::{
    BackupReader, Checkpoint, Entry, EntryPath, Item, Selection, SourceErrorKind, SourceResult,
};

/// An item before it is asked for.
enum Planned {
    Warning(Warning),
    Entry(Box<ScriptedEntry>),
    Close(EntryPath),
}

impl Planned {
    fn entry(entry: ScriptedEntry) -> Self {
        Self::Entry(Box::new(entry))
    }
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    cx: Context,
    items: std::vec::IntoIter<Planned>,
    yielded: u64,
    fail_item: Option<(u64, SourceErrorKind)>,
    fail_finish: Option<SourceErrorKind>,
    started: Timestamp,
    /// `next` has said so, or has failed.
    ended: bool,
    /// `finish` or `abort` was called.
    concluded: bool,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        script: Script,
        cx: &Context,
        selection: &Selection,
    ) -> Self {
        let mut entries = script.entries;
        entries.retain(|entry| selection.covers(&entry.path));
        if let Some(seed) = script.shuffle {
            entries.shuffle(&mut SmallRng::seed_from_u64(seed));
        }
        let mut items: Vec<_> = script.warnings.into_iter().map(Planned::Warning).collect();
        if script.closing {
            items.extend(with_closes(entries));
        } else {
            items.extend(entries.into_iter().map(Planned::entry));
        }
        Self {
            shared,
            cx: cx.clone(),
            items: items.into_iter(),
            yielded: 0,
            fail_item: script.fail_item,
            fail_finish: script.fail_finish,
            started: cx.clock.now(),
            ended: false,
            concluded: false,
        }
    }
}

/// Puts `Close` behind the last entry at or below each directory, the deeper directory first.
fn with_closes(entries: Vec<ScriptedEntry>) -> Vec<Planned> {
    let mut last = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let own = (entry.metadata.kind == crate::source::NodeKind::Dir).then(|| entry.path.clone());
        let mut dir = own.or_else(|| entry.path.parent());
        while let Some(path) = dir.filter(|dir| !dir.is_root()) {
            dir = path.parent();
            last.insert(path, index);
        }
    }
    let mut closed_by: Vec<Vec<EntryPath>> = vec![Vec::new(); entries.len()];
    for (path, index) in last {
        closed_by[index].push(path);
    }
    let mut items = Vec::with_capacity(entries.len());
    for (entry, mut closed) in entries.into_iter().zip(closed_by) {
        items.push(Planned::entry(entry));
        closed.sort_by(|a, b| b.cmp(a));
        items.extend(closed.into_iter().map(Planned::Close));
    }
    items
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        assert!(!self.ended, "next is called after the end or after an error");
        // Every entry that is asked for gives other tasks a turn, as a source that waits for I/O
        // does.
        tokio::task::yield_now().await;
        self.shared.count(|calls| calls.next += 1);
        let number = self.yielded;
        self.yielded += 1;
        let checked = check_cancelled(&self.cx).and_then(|()| self.shared.step("reading an item"));
        let fails = self.fail_item.filter(|(at, _)| *at == number);
        if let Err(error) = checked.and_then(|()| match fails {
            Some((_, kind)) => Err(scripted(kind, "reading an item")),
            None => Ok(()),
        }) {
            self.ended = true;
            return Err(error);
        }
        let Some(planned) = self.items.next() else {
            self.ended = true;
            return Ok(None);
        };
        Ok(Some(match planned {
            Planned::Warning(warning) => Item::Warning(warning),
            Planned::Close(path) => Item::Close(path),
            Planned::Entry(entry) => Item::Entry(Entry {
                path: entry.path.clone(),
                metadata: entry.metadata.clone(),
                chunking: entry.chunking,
                content: content_of(&self.shared, &self.cx, *entry),
            }),
        }))
    }

    async fn finish(mut self: Box<Self>) -> SourceResult<Checkpoint> {
        self.concluded = true;
        self.shared.count(|calls| calls.finished += 1);
        self.shared.step("finishing")?;
        if let Some(kind) = self.fail_finish {
            return Err(scripted(kind, "finishing"));
        }
        Ok(Checkpoint {
            started: self.started,
            finished: self.cx.clock.now(),
            position: None,
            log: None,
        })
    }

    async fn abort(mut self: Box<Self>) {
        self.concluded = true;
        self.shared.count(|calls| calls.aborted += 1);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.concluded {
            self.shared.count(|calls| calls.dropped += 1);
        }
    }
}
