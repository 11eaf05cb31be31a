//! Settings of a restored data directory.

/// Where a restored data directory stops to replay its log, in place of the moment that the restore
/// was planned for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecoveryTarget {
    /// At the moment that is asked of the log; without a log, at the end of the backup.
    #[default]
    Planned,
    /// As soon as the backup is consistent.
    Immediate,
    /// Behind the commit (or rollback) of this transaction.
    Transaction(u32),
    /// Before the commit (or rollback) of this transaction: none of its changes is visible.
    BeforeTransaction(u32),
    /// Behind the restore point of this name, the first one of it.
    RestorePoint(String),
    /// Before that restore point.
    BeforeRestorePoint(String),
}

/// The configuration of a restored data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestoredConfiguration {
    /// The configuration of the original, adapted to the new places.
    #[default]
    Original,
    /// Only settings that a server needs to start and to replay its log. The files of the original
    /// stand beside.
    Minimal,
}
