//! What the repository cannot give any more: the restore goes on with everything else and says so
//! at its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backup_core::error::Error;
use backup_core::event::WarningKind;
use backup_core::source::{EntryPath, SourceResult};

use super::tally::Tally;

/// Entries that could not be restored because what they need is damaged or lost.
#[derive(Debug, Default)]
pub(super) struct Damage {
    entries: AtomicU64,
    /// Files with several names, and what is wrong with them: there is nothing their other names
    /// could be linked to.
    linked: Mutex<HashMap<EntryPath, Lost>>,
}

/// The reason that a file with several names is missing.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) reason: String,
    /// True if the repository is damaged; otherwise the target refused the file.
    pub(super) is_damage: bool,
}

impl Damage {
    /// Reports that the entry at `path` is not restored. `kept` says what is at its place instead,
    /// if anything is.
    pub(super) fn report(&self, tally: &Tally, path: &EntryPath, reason: &str, kept: Option<&str>) {
        self.entries.fetch_add(1, Relaxed);
        let message = match kept {
            None => format!("not restored: {reason}"),
            Some(kept) => format!("not restored, {kept}: {reason}"),
        };
        tally.warn(WarningKind::Unreadable, path.to_string(), message);
    }

    /// Remembers that other names cannot be linked to `path`.
    pub(super) fn no_link_to(&self, path: &EntryPath, reason: &str, is_damage: bool) {
        let reason = reason.to_owned();
        self.linked().insert(path.clone(), Lost { reason, is_damage });
    }

    /// Why nothing can be linked to `path`.
    pub(super) fn of_linked(&self, path: &EntryPath) -> Option<Lost> {
        self.linked().get(path).cloned()
    }

    fn linked(&self) -> MutexGuard<'_, HashMap<EntryPath, Lost>> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if anything could not be restored.
    pub(super) fn check(&self, dry_run: bool) -> SourceResult<()> {
        let entries = self.entries.load(Relaxed);
        if entries == 0 {
            return Ok(());
        }
        let (could, was) = if dry_run { ("cannot", "can be") } else { ("could not", "was") };
        let message = format!(
            "{entries} of the selected entries {could} be restored because the repository is \
             damaged"
        );
        let hint = format!("run `backup check` to list the damage; everything else {was} restored");
        Err(Error::damaged(message).with_hint(hint).into())
    }
}
