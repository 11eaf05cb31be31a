//! restic's lock objects. We write one of them, once: the guard.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A lock object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// When it was taken or renewed.
    pub time: Timestamp,
    /// Whether it excludes all others.
    pub exclusive: bool,
    /// Host of the holder.
    #[serde(default)]
    pub hostname: String,
    /// User of the holder.
    #[serde(default)]
    pub username: String,
    /// Process of the holder.
    #[serde(default)]
    pub pid: i32,
    /// Its user id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Its group id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Lock {
    /// The guard: a shared lock that never grows old. It lets stock restic back up, list, restore
    /// and mount, but makes its `prune` and `forget` refuse, which would destroy a backup that runs
    /// without a lock. Its host name contains a space, which no real one does, so that no host ever
    /// takes it for its own abandoned lock.
    #[must_use]
    pub fn guard() -> Self {
        Self {
            time: Timestamp::constant(32_503_680_000, 0), // the year 3000
            exclusive: false,
            hostname: "guard of a lock-free repository".to_owned(),
            username: String::new(),
            pid: 0,
            uid: 0,
            gid: 0,
        }
    }
}
