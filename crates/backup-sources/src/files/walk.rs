//! The walk: depth first, names in byte order, parents before children, each directory closed when
//! it is through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

use backup_core::source::{Entry, EntryPath, Item, SourceError, SourceResult};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::ahead::{Ahead, Slot};
use super::filter::Cover;
use super::scan::{self, Rules, Scan, Step};

/// Items handed over in one go.
const BATCH: usize = 256;

/// What the walk sends: items, and at the very end `None`, so that a walk that broke off is not
/// taken for a whole one.
pub(super) type Message = SourceResult<Option<Vec<Item>>>;

/// A directory that the walk is in.
#[derive(Debug)]
struct Frame {
    path: EntryPath,
    /// Its own entry, as long as it is not certain that it is wanted.
    pending: Option<Entry>,
    steps: IntoIter<Step>,
    rest: Option<Arc<Slot>>,
    /// Slots of this part of the directory that may be begun ahead.
    upcoming: VecDeque<Arc<Slot>>,
}

/// Walks the given paths on a blocking thread.
#[derive(Debug)]
pub(super) struct Walk {
    rules: Arc<Rules>,
    cancel: CancellationToken,
    out: Sender<Message>,
    batch: Vec<Item>,
    stack: Vec<Frame>,
    /// How many frames from the bottom have had their entry sent.
    sent: usize,
    ahead: Ahead,
}

impl Walk {
    pub(super) fn new(
        rules: Arc<Rules>,
        cancel: CancellationToken,
        out: Sender<Message>,
        runtime: Handle,
    ) -> Self {
        Self {
            ahead: Ahead::new(Arc::clone(&rules), runtime),
            rules,
            cancel,
            out,
            batch: Vec::with_capacity(BATCH),
            stack: Vec::new(),
            sent: 0,
        }
    }

    /// Walks `roots`, which must be in depth-first order, to the end. Nobody being there to receive
    /// ends it early.
    pub(super) fn run(mut self, roots: &[EntryPath]) {
        let last = match self.all(roots) {
            Ok(()) => Ok(None),
            Err(error) => Err(error),
        };
        let _gone = self.out.blocking_send(last);
    }

    fn all(&mut self, roots: &[EntryPath]) -> SourceResult<()> {
        self.enter(EntryPath::root(), None, Scan::default());
        for root in roots {
            let scan = match self.given(root) {
                Err(error) if error.concerns_one_entry() && !self.rules.require_roots => {
                    scan::missing_root(&error, root)
                }
                scan => scan?,
            };
            let depth = self.stack.len();
            if let Some(frame) = self.stack.last_mut() {
                frame.fill(scan);
            }
            self.drain(depth)?;
        }
        self.leave_until(0)?;
        self.send()
    }

    /// Enters the directories above the given path `root` and looks at it.
    fn given(&mut self, root: &EntryPath) -> SourceResult<Scan> {
        self.ancestors(root)?;
        if root.is_root() {
            return scan::root(&self.rules);
        }
        Ok(Scan { steps: scan::given(root, &self.rules)?, ..Scan::default() })
    }

    /// Enters the directories above `root` and leaves those that are not.
    fn ancestors(&mut self, root: &EntryPath) -> SourceResult<()> {
        let shared = self.stack.iter().take_while(|frame| root.starts_with(&frame.path)).count();
        self.leave_until(shared)?;
        let mut missing = Vec::new();
        let mut at = root.parent();
        while let Some(path) =
            at.filter(|path| self.stack.last().is_some_and(|frame| frame.path != *path))
        {
            at = path.parent();
            missing.push(path);
        }
        for path in missing.into_iter().rev() {
            let entry = scan::above(&path, &self.rules)?;
            self.enter(path, Some(entry), Scan::default());
        }
        Ok(())
    }

    /// Goes on until the directory at `depth` has nothing more to give.
    fn drain(&mut self, depth: usize) -> SourceResult<()> {
        while let Some(frame) = self.stack.last_mut() {
            match frame.steps.next() {
                Some(Step::Item(Item::Entry(entry))) => self.emit(entry)?,
                Some(Step::Item(item)) => self.push(item)?,
                Some(Step::Dir { entry, cover, list }) => {
                    self.descend(entry, cover, list.as_ref())?;
                }
                None if frame.rest.is_none() && self.stack.len() == depth => break,
                None => self.next_part()?,
            }
        }
        Ok(())
    }

    /// The current directory's next part, or its end.
    fn next_part(&mut self) -> SourceResult<()> {
        let Some(rest) = self.stack.last_mut().and_then(|frame| frame.rest.take()) else {
            return self.leave_until(self.stack.len().saturating_sub(1));
        };
        let scan = self.take(&rest)?;
        if let Some(frame) = self.stack.last_mut() {
            frame.fill(scan);
        }
        Ok(())
    }

    /// Enters a directory and lists it, if it is to be listed.
    fn descend(
        &mut self,
        mut entry: Entry,
        cover: Cover,
        list: Option<&Arc<Slot>>,
    ) -> SourceResult<()> {
        let mut scan = match list {
            Some(slot) => self.take(slot)?,
            None => Scan::default(),
        };
        if let Some(metadata) = scan.replaced.take() {
            entry.metadata = metadata;
        }
        self.enter(entry.path.clone(), Some(entry), scan);
        if cover == Cover::Yes { self.send_pending() } else { Ok(()) }
    }

    fn enter(&mut self, path: EntryPath, pending: Option<Entry>, scan: Scan) {
        let mut frame = Frame {
            path,
            pending,
            steps: Vec::new().into_iter(),
            rest: None,
            upcoming: VecDeque::new(),
        };
        frame.fill(scan);
        self.stack.push(frame);
    }

    fn take(&mut self, slot: &Arc<Slot>) -> SourceResult<Scan> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        for frame in self.stack.iter_mut().rev() {
            while self.ahead.wants_more() {
                let Some(next) = frame.upcoming.pop_front() else {
                    break;
                };
                if !Arc::ptr_eq(&next, slot) {
                    self.ahead.begin(next);
                }
            }
        }
        self.ahead.take(slot)
    }

    /// Leaves all but the `keep` outermost directories.
    fn leave_until(&mut self, keep: usize) -> SourceResult<()> {
        while self.stack.len() > keep {
            let Some(frame) = self.stack.pop() else { break };
            if self.sent > self.stack.len() {
                self.sent = self.stack.len();
                self.push(Item::Close(frame.path))?;
            }
        }
        Ok(())
    }

    /// Sends an entry that is wanted, and before it the directories on the way to it.
    fn emit(&mut self, entry: Entry) -> SourceResult<()> {
        self.send_pending()?;
        self.push(Item::Entry(entry))
    }

    fn send_pending(&mut self) -> SourceResult<()> {
        while self.sent < self.stack.len() {
            let entry = self.stack[self.sent].pending.take();
            self.sent += 1;
            if let Some(entry) = entry {
                self.push(Item::Entry(entry))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, item: Item) -> SourceResult<()> {
        self.batch.push(item);
        if self.batch.len() >= BATCH { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> SourceResult<()> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        // The receiver is gone only if the backup was given up.
        self.out.blocking_send(Ok(Some(batch))).map_err(|_gone| SourceError::cancelled())
    }
}

impl Frame {
    fn fill(&mut self, scan: Scan) {
        self.upcoming.clear();
        self.upcoming.extend(scan.steps.iter().filter_map(|step| match step {
            Step::Dir { list, .. } => list.clone(),
            Step::Item(_) => None,
        }));
        self.upcoming.extend(scan.rest.clone());
        self.steps = scan.steps.into_iter();
        self.rest = scan.rest;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backup_core::event::Events;
    use backup_core::source::Selection;
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::files::filter::Filter;
    use crate::files::options::FilesOptions;
    use crate::files::watch::Watch;

    /// What a walk sends if listing counts as slow from `slow` on.
    async fn walked(root: &EntryPath, slow: Duration) -> Vec<String> {
        let rules = Rules {
            filter: Filter::new(Selection::all()),
            options: FilesOptions { scan_concurrency: 3, ..FilesOptions::default() },
            names: Arc::default(),
            count_only: false,
            require_roots: true,
            watch: Watch::new(Duration::from_secs(60), Events::silent()),
        };
        let (out, mut queue) = channel(1);
        let mut walk = Walk::new(Arc::new(rules), CancellationToken::new(), out, Handle::current());
        walk.ahead.slow_from(slow);
        let roots = vec![root.clone()];
        tokio::task::spawn_blocking(move || walk.run(&roots));
        let mut sent = Vec::new();
        while let Some(items) = queue.recv().await.unwrap().unwrap() {
            // Others work in the directories above meanwhile.
            let above =
                |item: &Item| matches!(item, Item::Entry(entry) if !entry.path.starts_with(root));
            sent.extend(items.iter().filter(|item| !above(item)).map(|item| match item {
                Item::Entry(entry) => format!("{} {:?}", entry.path, entry.metadata),
                other => format!("{other:?}"),
            }));
        }
        sent
    }

    #[tokio::test]
    async fn listing_ahead_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..700 {
            let inner = dir.path().join(format!("d{}/e{}/f{index}", index % 7, index % 40));
            std::fs::create_dir_all(&inner).unwrap();
            std::fs::write(inner.join("file"), "x").unwrap();
            std::fs::create_dir_all(dir.path().join(format!("wide/{index}"))).unwrap();
        }
        let root = EntryPath::new(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        let in_turn = walked(&root, Duration::MAX).await;
        assert!(in_turn.len() > 4000);
        assert_eq!(walked(&root, Duration::ZERO).await, in_turn);
    }
}
