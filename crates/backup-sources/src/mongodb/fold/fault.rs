//! Faults of the fold on purpose, to test `--verify`.

use bson::RawDocument;

/// A fault of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldFault {
    /// Documents are never deleted.
    Deletions,
    /// Changes of documents are lost; whole new ones are taken.
    Changes,
    /// Transactions are lost.
    Transactions,
    /// Collections keep their names.
    Renames,
    /// Indexes that were made later are lost.
    Indexes,
    /// Deletions are of an unknown kind.
    Unknown,
}

impl FoldFault {
    /// Faults that only `--verify` can find.
    pub const SILENT: [Self; 5] =
        [Self::Deletions, Self::Changes, Self::Transactions, Self::Renames, Self::Indexes];

    /// Returns `true` for entries of the oplog, and operations in them, that the fold skips.
    pub(super) fn hits(self, entry: &RawDocument) -> bool {
        let op = entry.get_str("op").unwrap_or_default();
        let does = |command: &str| {
            op == "c"
                && entry.get_document("o").is_ok_and(|o| matches!(o.get(command), Ok(Some(_))))
        };
        match self {
            Self::Deletions => op == "d",
            Self::Changes => {
                let object = entry.get_document("o");
                op == "u" && object.is_ok_and(|object| matches!(object.get("_id"), Ok(None)))
            }
            Self::Transactions => does("applyOps") && matches!(entry.get("txnNumber"), Ok(Some(_))),
            Self::Renames => does("renameCollection"),
            Self::Indexes => does("createIndexes") || does("commitIndexBuild"),
            Self::Unknown => false,
        }
    }
}
