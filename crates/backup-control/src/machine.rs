//! What is known about the machine a backup runs on.

use jiff::tz::TimeZone;

use crate::error::{Error, Result};
use crate::suggest;

/// The local machine and who runs on it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the host, recorded in snapshots.
    pub host: String,
    /// Name of the user, recorded in snapshots.
    pub user: String,
    /// The local time zone: restic records times in it, and trees deduplicate with restic's only if
    /// they are written the same way.
    pub time_zone: TimeZone,
}

impl Machine {
    /// Looks at the machine.
    #[must_use]
    pub fn local() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let uid = nix::unistd::geteuid();
        // A user without an entry in the user database is known by number alone.
        let user = match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => user.name,
            Ok(None) | Err(_) => uid.to_string(),
        };
        Self { host, user, time_zone: TimeZone::system() }
    }
}

/// The time zone called `name`, for instance `Europe/Berlin`.
///
/// # Errors
/// [`Error::Invalid`] if this machine knows none of that name.
pub fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> =
            jiff::tz::db().available().map(|known| known.to_string()).collect();
        let error = Error::invalid(format!("unknown time zone {name:?}"));
        match suggest::closest(name, known.iter().map(String::as_str)) {
            Some(close) => error.with_hint(format!("did you mean `{close}`?")),
            None => error.with_hint("write it like Europe/Berlin, or UTC"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_by_name() {
        assert!(zone("Europe/Berlin").is_ok() && zone("UTC").is_ok());
        assert_eq!(zone("Europe/Berln").unwrap_err().hint(), Some("did you mean `Europe/Berlin`?"));
        assert!(zone("+05:00 or so").unwrap_err().hint().is_some());
    }
}
