//! Entries of the oplog as operations. Operations of an open transaction carry its number; at the end
//! of the oplog, the numbers of committed transactions are known. Nothing is buffered: documents that
//! an open transaction has written are locked, so that the oplog has the operations on one document in
//! the order of their effects.

use std::collections::HashMap;

use backup_core::source::SourceResult;

use super::failed;
use super::tree::{Slice, find, top};
use crate::mongodb::position::Position;

/// Limit of nested `applyOps`.
const DEEPEST: u32 = 100;

/// The number of a transaction that may still be open.
pub(super) type Transaction = u32;

/// The meaning of an entry.
pub(super) enum Event<'a> {
    Operation(Option<Transaction>, &'a [u8]),
    /// The operations of a transaction take effect.
    Commit(Transaction),
}

#[derive(Debug)]
pub(super) struct Log {
    /// The documents of the dump have all effects up to this moment.
    behind: Option<Position>,
    until: Option<Position>,
    open: HashMap<(Vec<u8>, Vec<u8>), Transaction>,
    /// `true` for each transaction that was committed within the two moments.
    committed: Vec<bool>,
}

impl Log {
    pub(super) fn new(behind: Option<Position>, until: Option<Position>) -> Self {
        Self { behind, until, open: HashMap::new(), committed: Vec::new() }
    }

    /// Returns `true` if an operation took effect; call it at the end of the oplog.
    pub(super) fn took_effect(&self, transaction: Option<Transaction>) -> bool {
        transaction.is_none_or(|number| {
            usize::try_from(number).is_ok_and(|number| self.committed.get(number) == Some(&true))
        })
    }

    /// Passes the meaning of an entry to `event`.
    pub(super) fn take(
        &mut self,
        entry: &[u8],
        event: &mut dyn FnMut(Event<'_>) -> SourceResult<()>,
    ) -> SourceResult<()> {
        let at = find(entry, "ts").and_then(Slice::timestamp);
        let (seconds, increment) = at.ok_or_else(|| failed("an entry without a time"))?;
        let at = Position { seconds, increment };
        if self.until.is_some_and(|until| at > until) {
            return Ok(());
        }
        let is_new = self.behind.is_none_or(|behind| at > behind);
        let object = find(entry, "o").and_then(Slice::inside);
        let is_command = find(entry, "op").and_then(Slice::text) == Some(b"c");
        let first = object.filter(|_| is_command).and_then(top);
        let command = first.as_ref().and_then(|fields| fields.first()).map_or(&b""[..], |f| f.name);
        let held = match command {
            b"applyOps" => operations(entry, 0)?,
            b"commitTransaction" | b"abortTransaction" => Vec::new(),
            _ if is_new => return event(Event::Operation(None, entry)),
            _ => return Ok(()),
        };
        let Some(session) = session(entry) else {
            let held = held.into_iter().filter(|_| is_new);
            return held.into_iter().try_for_each(|one| event(Event::Operation(None, one)));
        };
        if !has_previous(entry) {
            self.open.remove(&session);
        }
        let next = Transaction::try_from(self.committed.len()).unwrap_or(Transaction::MAX);
        let number = *self.open.entry(session.clone()).or_insert(next);
        if number == next {
            self.committed.push(false);
        }
        held.into_iter().try_for_each(|one| event(Event::Operation(Some(number), one)))?;
        let is_set = |name| object.and_then(|o| find(o, name)).is_some_and(Slice::is_true);
        if command == b"applyOps" && (is_set("partialTxn") || is_set("prepare")) {
            return Ok(());
        }
        self.open.remove(&session);
        if command == b"abortTransaction" || !is_new {
            return Ok(());
        }
        if let Some(committed) =
            usize::try_from(number).ok().and_then(|at| self.committed.get_mut(at))
        {
            *committed = true;
        }
        event(Event::Commit(number))
    }
}

/// Session and number of the transaction that an entry is part of. Vectored writes (8.0) look like
/// one.
fn session(entry: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let is_vectored = find(entry, "multiOpType").is_some_and(|kind| kind.value == [1, 0, 0, 0]);
    let number = find(entry, "txnNumber").filter(|_| !is_vectored)?;
    Some((find(entry, "lsid")?.value.to_vec(), number.value.to_vec()))
}

fn has_previous(entry: &[u8]) -> bool {
    let previous = find(entry, "prevOpTime").and_then(Slice::inside);
    let at = previous.and_then(|previous| find(previous, "ts")).and_then(Slice::timestamp);
    at.is_some_and(|at| at != (0, 0))
}

/// The operations inside of an `applyOps`, and of those inside it.
fn operations(entry: &[u8], depth: u32) -> SourceResult<Vec<&[u8]>> {
    if depth > DEEPEST {
        return Err(failed("an applyOps that is too deep"));
    }
    let list = find(entry, "o").and_then(Slice::inside).and_then(|o| find(o, "applyOps"));
    let list = list.and_then(Slice::inside).and_then(top);
    let mut found = Vec::new();
    for item in list.ok_or_else(|| failed("an applyOps without operations"))? {
        let one = item.inside().ok_or_else(|| failed("an applyOps with something else"))?;
        match find(one, "o").and_then(Slice::inside).and_then(|o| find(o, "applyOps")) {
            Some(_) if find(one, "op").and_then(Slice::text) == Some(b"c") => {
                found.extend(operations(one, depth + 1)?);
            }
            _ => found.push(one),
        }
    }
    Ok(found)
}
