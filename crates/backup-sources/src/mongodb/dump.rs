//! A dump inside a snapshot: what it holds and how to read it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::format::Node;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, SourceError, SourceErrorKind, SourceResult};

use super::catalog::CollectionUuid;
use super::entries::{Captured, Entries};
use super::error::malformed;
use super::fold::{Flat, Fold, Folded, Live, Spoiled};
use super::layout::{Layout, TOP};
use super::namespace::Filter;
use super::position::{Position, within};
use super::raw;
use super::reading::Reading;
use super::scope::{self, Chosen};
use super::state::State;
use super::tail::position_of;

/// A dump inside a snapshot.
#[derive(Debug)]
pub(super) struct Dump {
    snapshot: SnapshotReader,
    layout: Layout,
    nodes: HashMap<EntryPath, Node>,
    /// The files that incremental and differential backups have added, in order.
    since: BTreeMap<EntryPath, Node>,
    /// What was captured since, if that is to be applied too.
    log: Option<Arc<LogReplay>>,
    pub(super) state: State,
    #[cfg(feature = "testing")]
    fault: Option<super::fold::FoldFault>,
}

/// The files that incremental and differential backups have added. Without one of them, the
/// snapshot would be an older state, with nothing to show it.
fn added(
    state: &State,
    layout: &Layout,
    nodes: &HashMap<EntryPath, Node>,
) -> SourceResult<BTreeMap<EntryPath, Node>> {
    let files = state.since.iter().flat_map(|since| &since.files);
    let found = files.map(|(behind, _)| {
        let path = layout.since_entry(*behind);
        let lost = || malformed(format!("snapshot: {path} is missing"));
        let node = nodes.get(&path).cloned().ok_or_else(lost)?;
        Ok((path, node))
    });
    found.collect()
}

impl Dump {
    pub(super) async fn open(cx: &Context, snapshot: &SnapshotReader) -> SourceResult<Self> {
        let top = EntryPath::root().join(TOP.as_bytes());
        let none = || {
            SourceError::new(SourceErrorKind::Invalid, "this snapshot holds no MongoDB data")
                .with_hint("run `backup show` to see its contents")
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
        let mut reading = Reading::new(snapshot.content(catalog));
        let mut documents = Vec::new();
        while let Some(document) = reading.next().await? {
            documents.push(document);
        }
        let state = State::decode(&documents)?;
        let since = added(&state, &layout, &nodes)?;
        Ok(Self {
            snapshot: snapshot.clone(),
            layout,
            nodes,
            since,
            log: None,
            state,
            #[cfg(feature = "testing")]
            fault: None,
        })
    }

    /// Breaks its folds.
    #[cfg(feature = "testing")]
    pub(super) fn with_fault(self, fault: Option<super::fold::FoldFault>) -> Self {
        Self { fault, ..self }
    }

    /// Together with what was captured since.
    pub(super) fn with_log(self, log: Option<Arc<LogReplay>>) -> Self {
        Self { log, ..self }
    }

    /// Whether the documents are not those of the moment yet.
    pub(super) fn needs_entries(&self) -> bool {
        self.state.needs_oplog || self.state.since.is_some() || self.log.is_some()
    }

    /// The entries that bring the documents of these collections to the moment, and everything that
    /// is done to collections as a whole; more where it is not known what they are about. Can be
    /// asked for more than once.
    pub(super) fn entries(
        &self,
        cx: &Context,
        of: Option<&HashSet<CollectionUuid>>,
    ) -> SourceResult<Entries> {
        Ok(Entries::new(self.own()?, self.captured(cx, of)?))
    }

    /// Those that the snapshot itself holds.
    fn own(&self) -> SourceResult<VecDeque<Reading>> {
        let own = match (self.state.needs_oplog, self.nodes.get(&self.layout.oplog())) {
            (false, _) => None,
            (true, None) => return Err(malformed("snapshot: oplog.bson is missing")),
            (true, Some(node)) => Some(Reading::new(self.snapshot.content(node))),
        };
        let since = self.since.values().map(|node| Reading::new(self.snapshot.content(node)));
        Ok(own.into_iter().chain(since).collect())
    }

    fn captured(
        &self,
        cx: &Context,
        of: Option<&HashSet<CollectionUuid>>,
    ) -> SourceResult<Option<Captured>> {
        let Some(log) = &self.log else { return Ok(None) };
        let tape = match of {
            None => log.tape(cx)?,
            Some(uuids) => log.tape_of(cx, scope::about(uuids))?,
        };
        Ok(Some(Captured::new(tape, log.plan())))
    }

    /// Behind which entry the oplog begins that it has; `None` if it has none yet.
    pub(super) async fn held(&self, cx: &Context) -> SourceResult<Option<Position>> {
        if !self.state.needs_oplog {
            return Ok(self
                .state
                .since
                .iter()
                .flat_map(|since| &since.files)
                .map(|(behind, _)| *behind)
                .next());
        }
        let Some(first) = self.entries(cx, None)?.next().await? else { return Ok(None) };
        let first = position_of(raw::document(&first)?)?.at;
        Ok(Some(Position { increment: first.increment.saturating_sub(1), ..first }))
    }

    /// Where the files are that were added to the dump.
    pub(super) fn added(&self) -> impl Iterator<Item = &EntryPath> {
        self.since.keys()
    }

    /// Whether the snapshot and the repository have everything that the dump is made of.
    pub(super) fn is_whole(&self) -> bool {
        let has = |path: &String| {
            self.layout.absolute(path).is_some_and(|path| self.nodes.contains_key(&path))
        };
        let has_oplog = !self.state.needs_oplog || self.nodes.contains_key(&self.layout.oplog());
        has_oplog
            && self.state.collections.iter().filter_map(|saved| saved.path.as_ref()).all(has)
            && self
                .nodes
                .values()
                .flat_map(|node| &node.content)
                .all(|blob| self.snapshot.blob_len(blob).is_ok())
    }

    /// Refuses collections whose documents the snapshot lacks, or the repository by its index: to
    /// be asked before anything at a target makes room for them.
    pub(super) fn refuse_lost<'a>(
        &self,
        wanted: impl IntoIterator<Item = &'a Live>,
    ) -> SourceResult<()> {
        for live in wanted {
            let Some(node) = self.node(live)? else { continue };
            let text = format!("cannot restore {}; nothing was changed", live.collection.namespace);
            let hint = "exclude this collection (--exclude) or restore another snapshot; `backup \
                        check` lists the lost data";
            let blobs = node.content.iter().map(|blob| self.snapshot.blob_len(blob).map(u64::from));
            let bytes: u64 = blobs
                .sum::<Result<_, _>>()
                .map_err(|error| SourceError::from(error).context(&text).with_hint(hint))?;
            // A repaired snapshot has what is left of a file.
            if self
                .state
                .digest_of(&live.collection.namespace)
                .is_some_and(|recorded| recorded.bytes != bytes)
                && !self.needs_entries()
            {
                let lost = SourceError::new(
                    SourceErrorKind::Mismatch,
                    format!("{text}: {bytes} bytes of its data are left"),
                );
                return Err(lost.with_hint(hint));
            }
        }
        Ok(())
    }

    /// The file of a collection's dumped documents; none if it was created later.
    fn node(&self, live: &Live) -> SourceResult<Option<&Node>> {
        live.path.as_ref().map(|path| self.node_at(path)).transpose()
    }

    fn node_at(&self, path: &str) -> SourceResult<&Node> {
        let lost = || malformed(format!("snapshot: {path} is missing"));
        self.layout.absolute(path).and_then(|path| self.nodes.get(&path)).ok_or_else(lost)
    }

    /// The operations of the entries.
    pub(super) fn flat(&self, until: Option<Position>) -> Flat {
        Flat::until(until).behind(self.read_at())
    }

    /// The moment at which all documents were read: they have all effects up to it. Earlier entries
    /// matter for open transactions only. `None` if documents were read at different times.
    pub(super) fn read_at(&self) -> Option<Position> {
        let read_at = |log: &Arc<LogReplay>| Position::of_offset(log.plan().base.at.offset);
        let read_at =
            self.state.since.as_ref().map(|since| since.dumped).or(self.log.as_ref().map(read_at));
        read_at.filter(|_| !self.state.needs_oplog)
    }

    /// About how many bytes of entries there are.
    pub(super) fn entry_bytes(&self) -> u64 {
        let own = self.nodes.get(&self.layout.oplog()).map_or(0, |node| node.metadata.size);
        let since: u64 = self.since.values().map(|node| node.metadata.size).sum();
        // What is stored is compressed.
        let captured =
            |log: &Arc<LogReplay>| log.plan().log.iter().map(|piece| piece.bytes).sum::<u64>() * 4;
        own + since + self.log.as_ref().map_or(0, captured)
    }

    /// Everything as it was at a moment, as [`Self::fold_known`] finds it; an error if that leaves
    /// anything out that `filter` covers.
    pub(super) async fn fold(
        &self,
        cx: &Context,
        until: Option<Position>,
        filter: &Filter,
    ) -> SourceResult<Folded> {
        let mut folded = self.fold_known(cx, until, filter, false).await?;
        folded.spoiled.retain(|spoiled| filter.covers(&spoiled.namespace));
        match folded.spoiled.pop() {
            None => Ok(folded),
            Some(Spoiled { reason, .. }) => Err(reason),
        }
    }

    /// Everything as it was at `until`, or at the end of the snapshot, as far as `filter` covers
    /// it: of other collections the documents may be of another moment. With `only_capped`, the
    /// documents of other collections (but users and roles) are as they were dumped. Collections
    /// with unknown operations are left out, and named.
    pub(super) async fn fold_known(
        &self,
        cx: &Context,
        until: Option<Position>,
        filter: &Filter,
        only_capped: bool,
    ) -> SourceResult<Folded> {
        let mut fold = Fold::new(&self.state, self.flat(until), self.entry_bytes())?;
        #[cfg(feature = "testing")]
        {
            fold = fold.with_fault(self.fault);
        }
        if only_capped {
            fold = fold.only_capped();
        }
        let mut chosen = match &self.log {
            Some(_) => Chosen::of(&self.state, filter)?,
            None => None,
        };
        let mut own = Entries::new(self.own()?, None);
        while let Some(entry) = own.next().await? {
            cx.check_cancelled().map_err(SourceError::from)?;
            let entry = raw::document(&entry)?;
            fold.entry(entry)?;
            chosen.as_mut().map_or(Ok(()), |chosen| chosen.note(entry))?;
        }
        let of = match chosen {
            Some(chosen) => Some(self.choose(cx, chosen).await?),
            None => None,
        };
        let mut captured = Entries::new(VecDeque::new(), self.captured(cx, of.as_ref())?);
        if let Some(of) = of {
            fold.only(of);
        }
        while let Some(entry) = captured.next().await? {
            cx.check_cancelled().map_err(SourceError::from)?;
            fold.entry(raw::document(&entry)?)?;
        }
        if let Some(left_out) = captured.left_out() {
            cx.events.note(format!(
                "Pieces of the log that do not concern the selection and were not read: {left_out}."
            ));
        }
        fold.finish()
    }

    /// Looks for collections that come to be wanted by what was captured.
    async fn choose(
        &self,
        cx: &Context,
        mut chosen: Chosen,
    ) -> SourceResult<HashSet<CollectionUuid>> {
        let nothing = HashSet::new();
        let mut commands = Entries::new(VecDeque::new(), self.captured(cx, Some(&nothing))?);
        while let Some(entry) = commands.next().await? {
            cx.check_cancelled().map_err(SourceError::from)?;
            chosen.note(raw::document(&entry)?)?;
        }
        Ok(chosen.uuids())
    }

    /// Bytes of the dumped documents of a collection.
    pub(super) fn bytes_of(&self, live: &Live) -> SourceResult<u64> {
        Ok(self.node(live)?.map_or(0, |node| node.metadata.size))
    }

    /// Where its files lie.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The moment that is meant: that of the log, if one is applied; else `until`, or the end of
    /// the snapshot.
    pub(super) async fn moment_with_log(
        &self,
        until: Option<Position>,
    ) -> SourceResult<Option<Position>> {
        match &self.log {
            None => self.moment(until).await,
            Some(_) => self.refuse_two_moments(until).map(|()| until),
        }
    }

    /// The moment that is meant: `until`, or the end of the snapshot. Moments outside of what the
    /// snapshot's oplog spans cannot be restored: before the end of the dump's own the collections
    /// were read; what was added behind it can be left out from any moment on.
    pub(super) async fn moment(&self, until: Option<Position>) -> SourceResult<Option<Position>> {
        let Some(until) = until else { return Ok(None) };
        let none =
            || SourceError::new(SourceErrorKind::Invalid, "this snapshot has no oplog position");
        let checkpoint = self.snapshot.manifest().await?.ok_or_else(none)?.checkpoint;
        let end: Position = checkpoint.position.ok_or_else(none)?.parse()?;
        let begin = self.state.since.as_ref().map_or(end, |since| since.dumped);
        within(until, (begin, end), checkpoint.finished.as_second()).map(Some)
    }

    /// A log is applied up to the moment that it was planned for.
    pub(super) fn refuse_two_moments(&self, until: Option<Position>) -> SourceResult<()> {
        let stop = self.log.as_ref().map(|log| Position::of_offset(log.plan().stop.offset));
        match (until, stop) {
            (Some(until), Some(stop)) if until != stop => {
                let text = format!(
                    "cannot restore to {until} and, by the captured log, to {stop} at the same time"
                );
                Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint("name one moment"))
            }
            _ => Ok(()),
        }
    }

    /// The dumped documents of a collection; none if it was created later.
    pub(super) fn documents(&self, live: &Live) -> SourceResult<Option<Reading>> {
        Ok(self.node(live)?.map(|node| Reading::new(self.snapshot.content(node))))
    }

    /// The dumped documents in one of its files.
    pub(super) fn documents_at(&self, path: &str) -> SourceResult<Reading> {
        Ok(Reading::new(self.snapshot.content(self.node_at(path)?)))
    }
}

#[cfg(test)]
mod tests {
    use backup_core::source::Metadata;

    use super::*;
    use crate::mongodb::state::Since;

    #[test]
    fn what_was_added_must_be_there() {
        let at = |seconds| Position { seconds, increment: 1 };
        let since = Since {
            dumped: at(5),
            ends: at(9),
            files: vec![(at(4), at(7)), (at(7), at(9))],
            newest: [7, 0, 0],
        };
        let (include, exclude, collections) = (Vec::new(), Vec::new(), Vec::new());
        let state = State {
            version: [7, 0, 0],
            needs_oplog: false,
            include,
            exclude,
            since: Some(since),
            collections,
        };
        let layout = Layout::at(EntryPath::root().join(b"mongodb").join(b"rs"));
        let node = |path: &EntryPath| Node {
            name: path.name().into(),
            metadata: Metadata::stream(jiff::Timestamp::UNIX_EPOCH),
            content: Vec::new(),
            subtree: None,
        };
        let paths = [at(4), at(7)].map(|behind| layout.since_entry(behind));
        let mut nodes: HashMap<_, _> =
            paths.iter().map(|path| (path.clone(), node(path))).collect();
        assert!(added(&state, &layout, &nodes).unwrap().keys().eq(&paths));
        nodes.remove(&paths[1]);
        assert!(added(&state, &layout, &nodes).unwrap_err().chain().contains("is missing"));
    }
}
