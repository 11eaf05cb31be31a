//! What is known about the machine a backup runs on.

use crate::environment::Environment;
use crate::zone::{self, Zone};

/// The local machine and who runs on it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the host, recorded in snapshots.
    pub host: String,
    /// Name of the user, recorded in snapshots.
    pub user: String,
    /// The local time zone: restic records times in it, and trees deduplicate with restic's only if
    /// they are written the same way.
    pub zone: Zone,
}

impl Machine {
    /// The machine of this process. A time zone that is not understood is replaced with
    /// [`Zone::FALLBACK`]; [`zone::local`] reports it.
    #[must_use]
    pub fn local(env: &Environment) -> Self {
        Self::in_zone(zone::local(env).unwrap_or(Zone::FALLBACK))
    }

    /// The machine of this process, in a time zone.
    #[must_use]
    pub fn in_zone(zone: Zone) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let uid = nix::unistd::geteuid();
        // A user without an entry in the user database is known by number alone.
        let user = match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => user.name,
            Ok(None) | Err(_) => uid.to_string(),
        };
        Self { host, user, zone }
    }
}
