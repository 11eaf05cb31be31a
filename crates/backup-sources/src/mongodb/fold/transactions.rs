//! From entries of the oplog to operations in the order in which they take effect.
//!
//! A transaction is one or several `applyOps` entries, chained by `prevOpTime`. It takes effect
//! with the last of them if that is neither `partialTxn` nor `prepare`, else with
//! `commitTransaction`, or never (`abortTransaction`).

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use crate::mongodb::error::malformed;

/// Limit of nested `applyOps`; servers store fewer.
const DEEPEST: u32 = 100;

/// Operations of one transaction that are kept in memory, in bytes; the rest waits on disk.
const IN_MEMORY: usize = 16 << 20;

/// Transactions that have begun.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: HashMap<Key, Spool>,
}

/// Session and number.
type Key = (Vec<u8>, i64);

impl Transactions {
    /// Takes an entry whose effect is known already: only what takes effect later counts. The
    /// beginning of a transaction that has ended since may be missing.
    pub(super) fn pass_over(&mut self, entry: &RawDocument) -> SourceResult<()> {
        if entry.get_str("op").ok() != Some("c") || key_of(entry)?.is_none() {
            return Ok(());
        }
        match self.take(entry) {
            Err(error) if error.kind() != SourceErrorKind::LogGap => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether some have not ended.
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes an entry; returns what takes effect with it.
    pub(super) fn take(&mut self, entry: &RawDocument) -> SourceResult<Ready> {
        if entry.get_str("op").ok() != Some("c") {
            return Ok(Ready::of(entry.to_owned()));
        }
        let object = entry.get_document("o").map_err(|_| malformed("oplog entry"))?;
        let has = |key: &str| matches!(object.get(key), Ok(Some(_)));
        let (apply, commit, abort) =
            (has("applyOps"), has("commitTransaction"), has("abortTransaction"));
        if !apply && !commit && !abort {
            return Ok(Ready::of(entry.to_owned()));
        }
        let mut operations = Spool::default();
        if apply {
            flatten(object, 0, &mut operations)?;
        }
        let Some(key) = key_of(entry)? else { return Ready::all(operations) };
        if abort {
            self.open.remove(&key);
            return Ready::all(Spool::default());
        }
        if commit {
            let spool = self.open.remove(&key).ok_or_else(|| beginning_is_missing(entry))?;
            return Ready::all(spool);
        }
        if has_previous(entry) {
            let open = self.open.get_mut(&key).ok_or_else(|| beginning_is_missing(entry))?;
            open.append(operations)?;
        } else {
            self.open.insert(key.clone(), operations);
        }
        let is_true = |key: &str| object.get_bool(key).unwrap_or(false);
        if is_true("partialTxn") || is_true("prepare") {
            return Ready::all(Spool::default());
        }
        Ready::all(self.open.remove(&key).unwrap_or_default())
    }
}

/// The transaction that an entry belongs to. Vectored writes look like one and are none
/// (`multiOpType: 1`, from 8.0 on).
fn key_of(entry: &RawDocument) -> SourceResult<Option<Key>> {
    let number = match entry.get("txnNumber") {
        Ok(Some(RawBsonRef::Int64(number))) => number,
        Ok(Some(RawBsonRef::Int32(number))) => i64::from(number),
        Ok(None) => return Ok(None),
        Ok(Some(_)) | Err(_) => return Err(malformed("transaction number in the oplog")),
    };
    if entry.get_i32("multiOpType").ok() == Some(1) {
        return Ok(None);
    }
    let session =
        entry.get_document("lsid").map_err(|_| malformed("transaction session in the oplog"))?;
    Ok(Some((session.as_bytes().to_vec(), number)))
}

fn has_previous(entry: &RawDocument) -> bool {
    let previous =
        entry.get_document("prevOpTime").and_then(|previous| previous.get_timestamp("ts"));
    previous.is_ok_and(|ts| ts.time != 0 || ts.increment != 0)
}

fn beginning_is_missing(entry: &RawDocument) -> SourceError {
    let at = entry.get_timestamp("ts").map(crate::mongodb::Position::from).unwrap_or_default();
    SourceError::new(
        SourceErrorKind::LogGap,
        format!("the transaction that continues at {at} began before the oplog of this snapshot"),
    )
    .with_hint("restore to an earlier moment, or use another snapshot")
}

/// The operations inside of `applyOps`, also of those inside others.
fn flatten(object: &RawDocument, depth: u32, out: &mut Spool) -> SourceResult<()> {
    if depth > DEEPEST {
        return Err(malformed("applyOps entry in the oplog: too deep"));
    }
    let operations =
        object.get_array("applyOps").map_err(|_| malformed("applyOps entry in the oplog"))?;
    for operation in operations {
        let Ok(RawBsonRef::Document(operation)) = operation else {
            return Err(malformed("applyOps entry in the oplog"));
        };
        match operation.get_document("o") {
            Ok(inner)
                if matches!(inner.get("applyOps"), Ok(Some(_)))
                    && operation.get_str("op").ok() == Some("c") =>
            {
                flatten(inner, depth + 1, out)?;
            }
            _ => out.push(operation)?,
        }
    }
    Ok(())
}

/// Whether an entry is one of several that make up a transaction, or ends one: alone it does not
/// say what it does.
pub(in crate::mongodb) fn is_of_several(entry: &RawDocument) -> bool {
    let Ok(object) = entry.get_document("o") else { return true };
    let is_true = |key: &str| object.get_bool(key).unwrap_or(false);
    let ends = |key: &str| matches!(object.get(key), Ok(Some(_)));
    match key_of(entry) {
        Ok(None) => false,
        Ok(Some(_)) => {
            has_previous(entry)
                || is_true("partialTxn")
                || is_true("prepare")
                || ends("commitTransaction")
                || ends("abortTransaction")
        }
        Err(_) => true,
    }
}

/// The operations that an entry holds, whenever they take effect.
pub(in crate::mongodb) fn held(entry: &RawDocument) -> SourceResult<Ready> {
    if entry.get_str("op").ok() != Some("c") {
        return Ok(Ready::of(entry.to_owned()));
    }
    let object = entry.get_document("o").map_err(|_| malformed("oplog entry"))?;
    let has = |key: &str| matches!(object.get(key), Ok(Some(_)));
    if has("commitTransaction") || has("abortTransaction") {
        return Ok(Ready::nothing());
    }
    if !has("applyOps") {
        return Ok(Ready::of(entry.to_owned()));
    }
    let mut operations = Spool::default();
    flatten(object, 0, &mut operations)?;
    Ready::all(operations)
}

/// Whether an entry does something to collections as a whole: creates, drops, renames or changes
/// them, or views.
pub(in crate::mongodb) fn restructures(entry: &RawDocument) -> SourceResult<bool> {
    let is_view =
        |entry: &RawDocument| entry.get_str("ns").is_ok_and(|ns| ns.ends_with(".system.views"));
    if entry.get_str("op").ok() != Some("c") {
        return Ok(is_view(entry));
    }
    let mut operations = held(entry)?;
    while let Some(operation) = operations.next()? {
        let is_command = operation.get_str("op").ok() == Some("c") && !is_check(&operation);
        if is_command || is_view(&operation) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns `true` for an entry of `dbCheck`, which compares members.
fn is_check(entry: &RawDocument) -> bool {
    entry.get_document("o").is_ok_and(|object| matches!(object.get("dbCheck"), Ok(Some(_))))
}

/// What takes effect, in order.
#[derive(Debug)]
pub(in crate::mongodb) struct Ready {
    memory: VecDeque<RawDocumentBuf>,
    disk: Option<BufReader<File>>,
}

impl Ready {
    pub(super) fn nothing() -> Self {
        Self { memory: VecDeque::new(), disk: None }
    }

    fn of(entry: RawDocumentBuf) -> Self {
        Self { memory: VecDeque::from([entry]), disk: None }
    }

    fn all(spool: Spool) -> SourceResult<Self> {
        let disk = match spool.disk {
            Some(disk) => {
                let mut file =
                    disk.into_inner().map_err(|error| super::spill::failed(error.into_error()))?;
                file.rewind().map_err(super::spill::failed)?;
                Some(BufReader::new(file))
            }
            None => None,
        };
        Ok(Self { memory: spool.memory, disk })
    }

    pub(in crate::mongodb) fn next(&mut self) -> SourceResult<Option<RawDocumentBuf>> {
        if let Some(entry) = self.memory.pop_front() {
            return Ok(Some(entry));
        }
        let Some(disk) = &mut self.disk else { return Ok(None) };
        let mut head = [0; 4];
        match disk.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(super::spill::failed(error)),
        }
        let length = usize::try_from(i32::from_le_bytes(head)).unwrap_or(0).max(4);
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&head);
        disk.read_exact(&mut bytes[4..]).map_err(super::spill::failed)?;
        RawDocumentBuf::from_bytes(bytes)
            .map(Some)
            .map_err(|error| malformed("document in a temporary file").with_source(error))
    }
}

/// Operations that wait: in memory first, then on disk.
#[derive(Debug, Default)]
struct Spool {
    memory: VecDeque<RawDocumentBuf>,
    bytes: usize,
    disk: Option<BufWriter<File>>,
}

impl Spool {
    fn push(&mut self, operation: &RawDocument) -> SourceResult<()> {
        self.bytes += operation.as_bytes().len();
        if self.bytes <= IN_MEMORY {
            self.memory.push_back(operation.to_owned());
            return Ok(());
        }
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => {
                none.insert(BufWriter::new(tempfile::tempfile().map_err(super::spill::failed)?))
            }
        };
        disk.write_all(operation.as_bytes()).map_err(super::spill::failed)
    }

    fn append(&mut self, other: Self) -> SourceResult<()> {
        let mut operations = Ready::all(other)?;
        while let Some(operation) = operations.next()? {
            self.push(&operation)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bson::{Timestamp, rawdoc};

    use super::*;

    const NONE: Timestamp = Timestamp { time: 0, increment: 0 };
    const SOME: Timestamp = Timestamp { time: 5, increment: 1 };

    fn entry(object: RawDocumentBuf, previous: Timestamp) -> RawDocumentBuf {
        rawdoc! {
            "op": "c", "ns": "admin.$cmd", "ts": SOME, "lsid": { "id": 1 }, "txnNumber": 7_i64,
            "prevOpTime": { "ts": previous }, "o": object,
        }
    }

    fn ids(transactions: &mut Transactions, entry: &RawDocument) -> Vec<i32> {
        let mut ready = transactions.take(entry).unwrap();
        std::iter::from_fn(|| ready.next().unwrap()).map(|op| op.get_i32("n").unwrap()).collect()
    }

    #[test]
    fn plain_entries_and_plain_apply_ops_take_effect_at_once() {
        let mut transactions = Transactions::default();
        assert_eq!(ids(&mut transactions, &rawdoc! { "op": "i", "n": 1 }), [1]);
        let nested = rawdoc! { "op": "c", "o": { "applyOps": [{ "n": 1 }, { "op": "c", "o": { "applyOps": [{ "n": 2 }] } }] } };
        assert_eq!(ids(&mut transactions, &nested), [1, 2]);
        let mut vectored = entry(rawdoc! { "applyOps": [{ "n": 3 }] }, NONE);
        vectored.append(bson::cstr!("multiOpType"), 1);
        assert_eq!(ids(&mut transactions, &vectored), [3]);
    }

    #[test]
    fn chunks_take_effect_with_the_last() {
        let mut transactions = Transactions::default();
        let first = entry(rawdoc! { "applyOps": [{ "n": 1 }], "partialTxn": true }, NONE);
        let last = entry(rawdoc! { "applyOps": [{ "n": 2 }], "count": 2_i64 }, SOME);
        assert!(ids(&mut transactions, &first).is_empty());
        assert_eq!(ids(&mut transactions, &last), [1, 2]);
        assert!(transactions.take(&last).unwrap_err().chain().contains("began before"));
    }

    #[test]
    fn what_is_prepared_waits_for_its_commit_or_abort() {
        let mut transactions = Transactions::default();
        let prepare = entry(rawdoc! { "applyOps": [{ "n": 1 }], "prepare": true }, NONE);
        let commit = entry(rawdoc! { "commitTransaction": 1 }, SOME);
        let abort = entry(rawdoc! { "abortTransaction": 1 }, SOME);
        assert!(ids(&mut transactions, &prepare).is_empty());
        assert_eq!(ids(&mut transactions, &commit), [1]);
        assert!(ids(&mut transactions, &prepare).is_empty());
        assert!(ids(&mut transactions, &abort).is_empty());
        assert!(transactions.take(&commit).is_err());
    }

    #[test]
    fn large_transactions_wait_on_disk() {
        let mut transactions = Transactions::default();
        let part = |n: i32| {
            let mut operations = bson::RawArrayBuf::new();
            operations.push(rawdoc! { "n": n, "p": "x".repeat(7 << 20) });
            operations
        };
        for n in 0..5 {
            let previous = if n == 0 { NONE } else { SOME };
            assert!(
                ids(
                    &mut transactions,
                    &entry(rawdoc! { "applyOps": part(n), "partialTxn": true }, previous)
                )
                .is_empty()
            );
        }
        assert_eq!(
            ids(&mut transactions, &entry(rawdoc! { "applyOps": [{ "n": 5 }] }, SOME)),
            [0, 1, 2, 3, 4, 5]
        );
    }
}
