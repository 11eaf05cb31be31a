//! A dump inside a snapshot: what it holds and how to read it.

use std::cmp::Ordering;
use std::collections::HashMap;

use backup_core::context::Context;
use backup_core::format::Node;
use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, SourceError, SourceErrorKind, SourceResult};
use bson::Document;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use super::error::malformed;
use super::fold::{Fold, Folded, Live};
use super::layout::{Layout, TOP};
use super::position::Position;
use super::raw::{self, Documents};
use super::state::State;

/// A dump inside a snapshot.
#[derive(Debug)]
pub(super) struct Dump {
    snapshot: SnapshotReader,
    layout: Layout,
    nodes: HashMap<EntryPath, Node>,
    pub(super) state: State,
}

/// Documents of one file, in order.
pub(super) struct Reading {
    content: BoxStream<'static, backup_core::error::Result<Bytes>>,
    cut: Documents,
}

impl Reading {
    pub(super) async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        loop {
            if let Some(document) = self.cut.next()? {
                return Ok(Some(document));
            }
            match self.content.try_next().await? {
                Some(bytes) => self.cut.push(&bytes),
                None => {
                    self.cut.finish()?;
                    return Ok(None);
                }
            }
        }
    }
}

impl Dump {
    pub(super) async fn open(cx: &Context, snapshot: &SnapshotReader) -> SourceResult<Self> {
        let top = EntryPath::root().join(TOP.as_bytes());
        let none = || {
            SourceError::new(SourceErrorKind::Invalid, "this snapshot holds no MongoDB data")
                .with_hint("`backup show` says what it holds")
        };
        let tree = snapshot.find(&top).await?.and_then(|node| node.subtree).ok_or_else(none)?;
        let mut walk = snapshot.walk_below(top, tree);
        let mut nodes = HashMap::new();
        let mut sets = Vec::new();
        while let Some((path, node)) = walk.next().await? {
            cx.check_cancelled().map_err(SourceError::from)?;
            if node.subtree.is_some() && path.segments().count() == 2 {
                sets.push(path.clone());
            }
            if node.is_file() {
                nodes.insert(path, node);
            }
        }
        let [set] = &sets[..] else { return Err(none()) };
        let layout = Layout::at(set.clone());
        let catalog = nodes.get(&layout.catalog()).ok_or_else(none)?;
        let mut reading = Reading { content: snapshot.content(catalog), cut: Documents::default() };
        let mut documents = Vec::new();
        while let Some(document) = reading.next().await? {
            let document = Document::try_from(raw::document(&document)?);
            documents.push(document.map_err(|error| malformed("the snapshot's catalog.bson").with_source(error))?);
        }
        let state = State::decode(&documents)?;
        Ok(Self { snapshot: snapshot.clone(), layout, nodes, state })
    }

    /// Everything as it was at `until`, or at the end of the snapshot.
    pub(super) async fn fold(&self, cx: &Context, until: Option<Position>) -> SourceResult<Folded> {
        let oplog = self.nodes.get(&self.layout.oplog()).filter(|_| self.state.needs_oplog);
        if self.state.needs_oplog && oplog.is_none() {
            return Err(malformed("the snapshot: its oplog.bson is missing"));
        }
        let mut fold = Fold::new(&self.state, until, oplog.map_or(0, |node| node.metadata.size))?;
        if let Some(oplog) = oplog {
            let mut reading = Reading { content: self.snapshot.content(oplog), cut: Documents::default() };
            while let Some(entry) = reading.next().await? {
                cx.check_cancelled().map_err(SourceError::from)?;
                fold.entry(raw::document(&entry)?)?;
            }
        }
        fold.finish()
    }

    /// Moments outside of what the snapshot's oplog spans cannot be restored: before its end the collections were read.
    pub(super) async fn refuse_other_moments(&self, until: Option<Position>) -> SourceResult<()> {
        let Some(until) = until else { return Ok(()) };
        let manifest = self.snapshot.manifest().await?;
        let position = manifest.and_then(|manifest| manifest.checkpoint.position);
        let none = || SourceError::new(SourceErrorKind::Invalid, "this snapshot has no position in an oplog");
        let end: Position = position.ok_or_else(none)?.parse()?;
        let (word, hint) = match until.cmp(&end) {
            Ordering::Equal => return Ok(()),
            Ordering::Less => ("earlier", "choose an earlier snapshot"),
            Ordering::Greater => ("later", "choose a later snapshot"),
        };
        let text = format!("this snapshot stands for {end}; {until} is {word}");
        Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint))
    }

    /// The dumped documents of a collection; none if it was created later.
    pub(super) fn documents(&self, live: &Live) -> SourceResult<Option<Reading>> {
        let Some(path) = &live.path else { return Ok(None) };
        let lost = || malformed(format!("the snapshot: {path} is missing"));
        let node = self.layout.absolute(path).and_then(|path| self.nodes.get(&path)).ok_or_else(lost)?;
        Ok(Some(Reading { content: self.snapshot.content(node), cut: Documents::default() }))
    }
}
