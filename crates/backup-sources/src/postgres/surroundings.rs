//! The environment of servers that are started: they live for long, and whoever may run programs in
//! them reads it.

use std::ffi::OsString;

/// What programs of PostgreSQL may need. Pass phrases, passwords and credentials are not among it.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TZDIR",
    "TMPDIR",
    "LD_LIBRARY_PATH",
];

/// What is handed on of our own environment.
pub(super) fn surroundings() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_kept(&name.to_string_lossy()))
}

fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || name.starts_with("LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_here() {
        assert!(["PATH", "LC_ALL", "TZ"].into_iter().all(is_kept));
        for secret in [
            "BACKUP_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ] {
            assert!(!is_kept(secret), "{secret}");
        }
    }
}
