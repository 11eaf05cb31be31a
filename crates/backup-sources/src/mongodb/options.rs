//! What the source can be told.

use std::fmt;
use std::path::PathBuf;

use super::rename::Renames;

/// Whether a backup may read everything at one moment of the server's history.
///
/// Such reads need no oplog in the snapshot, but the server keeps the history only for
/// `minSnapshotHistoryWindowInSeconds` (default 300).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotReads {
    /// If the scan is expected to be short enough (data files up to 4 GiB), on replica sets from 5.0 on.
    #[default]
    Auto,
    /// Never: each collection as it is when it is read, with the oplog that brings all of them to one moment.
    Never,
}

/// Settings of a [`MongoSource`](super::MongoSource).
#[derive(Clone)]
pub struct MongoOptions {
    /// `mongodb://` or `mongodb+srv://` with everything that connection strings know: credentials, TLS, read preference,
    /// compressors. It is never shown.
    pub uri: String,
    /// Password, in place of one in the address.
    pub password: Option<String>,
    /// Certificates (PEM) that the server's must be signed by; switches TLS on.
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate and key (PEM) to show to the server; switches TLS on.
    pub tls_certificate_key_file: Option<PathBuf>,
    /// Whether all collections may be read at one moment.
    pub snapshot_reads: SnapshotReads,
    /// Restore other names than those in the snapshot.
    pub renames: Renames,
    /// Restore users and roles too, if the selection covers `admin.system.users` and `admin.system.roles`.
    pub restore_users: bool,
    /// Restore TTL indexes with an expiry so far away that nothing is deleted at once.
    pub defer_ttl: bool,
    /// Bring the restored data to this moment instead of the end of the snapshot.
    pub until: Option<super::Position>,
}

impl MongoOptions {
    /// The settings for an address and nothing else.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            password: None,
            tls_ca_file: None,
            tls_certificate_key_file: None,
            snapshot_reads: SnapshotReads::Auto,
            renames: Renames::default(),
            restore_users: true,
            defer_ttl: false,
            until: None,
        }
    }
}

impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOptions")
            .field("snapshot_reads", &self.snapshot_reads)
            .field("renames", &self.renames)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_secrets() {
        let mut options = MongoOptions::new("mongodb://u:hunter2@h");
        options.password = Some("hunter3".to_owned());
        assert!(!format!("{options:?}").contains("hunter"));
    }
}
