//! How long a run may take.

/// Whether the long version of a test is asked for.
pub(crate) fn long() -> bool {
    std::env::var_os("BACKUP_TEST_LONG").is_some_and(|value| value == "1")
}
