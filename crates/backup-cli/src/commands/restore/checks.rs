//! What is looked at before anything is written or paid for.

use std::collections::BTreeSet;
use std::path::Path;

use backup_control::config::SourceKind;
use backup_control::patterns;
use backup_control::snapshots::{Choice, is_identifier};
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::format::IncompleteEntry;
use backup_core::repository::SnapshotList;
use backup_core::source::{Delete, EntryPath, RestoreReport};
use rustix::fs::Access;

use super::Restore;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;

/// The tag of snapshots that a repair left something out of.
const REPAIRED: &str = "repaired";

impl Restore {
    /// Fails if nothing in a snapshot of files is selected: a misspelt pattern must not look like a
    /// restore.
    pub(super) async fn require_match(&self) -> CommandResult<()> {
        let selection = &self.request.selection;
        if !self.is_part || self.restorer.kind != SourceKind::Files {
            return Ok(());
        }
        let mut walk = self.snapshot.walk().with_faults();
        while let Some((path, _)) = walk.next().await? {
            self.session.cx.check_cancelled()?;
            if selection.covers(&path) {
                return Ok(());
            }
        }
        Err(self.nothing_matches())
    }

    /// The same for databases, of which only the source knows what is selected.
    pub(super) fn require_entries(&self, report: &RestoreReport) -> CommandResult<()> {
        // What is selected and cannot be restored was warned of.
        let is_empty =
            self.restorer.kind != SourceKind::Files && report.entries == 0 && report.warnings == 0;
        if is_empty && self.is_part { Err(self.nothing_matches()) } else { Ok(()) }
    }

    fn nothing_matches(&self) -> CommandError {
        let short = self.snapshot.id().short();
        let hint = match self.restorer.kind {
            SourceKind::Files => {
                format!(
                    "list the content with `backup ls {short} -R`; patterns are globs over paths"
                )
            }
            SourceKind::Mongodb => {
                format!(
                    "list the collections with `backup ls {short} -R`; patterns are globs over \
                     database.collection"
                )
            }
            SourceKind::Redis if self.restorer.is_server() => {
                "give globs over /database/key, for instance '/0/session:*'".to_owned()
            }
            SourceKind::Redis => {
                "leave out --only and --exclude; files for a server hold everything".to_owned()
            }
            SourceKind::Postgres if self.restorer.is_server() => {
                "give globs over database, database.schema and database.schema.table".to_owned()
            }
            SourceKind::Postgres => {
                "leave out --only and --exclude; a data directory is restored as a whole".to_owned()
            }
        };
        let source = self.snapshot.snapshot().tag("source");
        let bare = patterns::hint_for(source, self.request.selection.include());
        let error =
            CoreError::new(ErrorKind::NotFound, format!("nothing in snapshot {short} is selected"));
        error.with_hint(bare.unwrap_or(hint)).into()
    }

    /// Warns of an incomplete snapshot, with the names of the missing entries as far as they are
    /// known: those that the backup could not read, and those that a repair left out. Entries
    /// outside the selection do not count.
    pub(super) async fn warn_of_incomplete(&self) -> CommandResult<Outcome> {
        let snapshot = self.snapshot.snapshot();
        let (ui, short) = (&self.session.ui, self.snapshot.id().short());
        let all = snapshot.x_warnings.unwrap_or(0);
        let entries = human::count(all, "entry", "entries");
        if snapshot.tags.iter().any(|tag| tag == REPAIRED) {
            ui.warning(format_args!(
                "snapshot {short} was repaired and lacks lost data: {entries}"
            ));
            ui.hint(
                "look for the lost data in other snapshots, or in a copy in another repository",
            );
            return Ok(Outcome::Warnings);
        }
        if all == 0 {
            return Ok(Outcome::Success);
        }
        let manifest = self.snapshot.manifest().await?;
        let named = manifest.map(|manifest| manifest.incomplete).unwrap_or_default();
        let wanted: Vec<_> = named.iter().filter(|entry| self.concerns(entry)).collect();
        let unnamed = all.saturating_sub(named.len() as u64);
        if wanted.is_empty() && unnamed == 0 {
            return Ok(Outcome::Success);
        }
        ui.warning(format_args!(
            "snapshot {short} is incomplete: {entries} could not be backed up in full"
        ));
        for entry in wanted {
            let message = human::text(entry.message.as_bytes());
            match &*entry.path {
                "" => ui.warning(format_args!("missing or incomplete: {message}")),
                path => ui.warning(format_args!(
                    "missing or incomplete: {}: {message}",
                    human::text(path.as_bytes())
                )),
            }
        }
        if unnamed > 0 {
            ui.hint(format_args!(
                "{} not named in the snapshot; the log of its backup run names them",
                human::count(unnamed, "entry is", "entries are")
            ));
        }
        Ok(Outcome::Warnings)
    }

    /// Whether an incomplete entry may be part of the restore. Only files are selected by path.
    fn concerns(&self, entry: &IncompleteEntry) -> bool {
        let path = EntryPath::new(&entry.path).filter(|path| !path.is_root());
        let is_files = self.restorer.kind == SourceKind::Files;
        path.is_none_or(|path| !is_files || self.request.selection.covers(&path))
    }

    /// Fails if a restore could not be written anyway: before the store is asked, and paid, to thaw
    /// anything. A server was reached already; what is in its way is in data that may have to be
    /// thawed.
    pub(super) async fn require_target(&self) -> CommandResult<()> {
        if self.restorer.is_server() {
            return Ok(());
        }
        self.require_writable()?;
        self.rehearse().await.map(|_| ())
    }

    /// The same without looking at what the target has.
    pub(super) fn require_writable(&self) -> CommandResult<()> {
        let directory = self.request.target.as_ref().filter(|_| !self.restorer.is_server());
        directory.map_or(Ok(()), |target| require_writable(Path::new(target)))
    }
}

/// Fails if `name`, `latest` or a moment, may mean snapshots of several jobs, or of files of several
/// hosts: in place, the newest of any of them would overwrite data of another one.
pub(super) fn require_one_origin(
    name: &str,
    list: &SnapshotList,
    choice: &Choice,
) -> CommandResult<()> {
    if is_identifier(name) {
        return Ok(());
    }
    let meant = list.snapshots.iter().filter(|info| choice.matches(info));
    let meant: Vec<_> = meant.map(|info| &info.snapshot).collect();
    let jobs: BTreeSet<&str> =
        meant.iter().map(|snapshot| snapshot.tag("job").unwrap_or_default()).collect();
    let is_files = |tag: Option<&str>| tag.is_none_or(|tag| tag == SourceKind::Files.as_str());
    let files = meant.iter().filter(|snapshot| is_files(snapshot.tag("source")));
    let hosts: BTreeSet<&str> = files.map(|snapshot| &*snapshot.hostname).collect();
    let (what, flag, names) = match (jobs.len(), hosts.len()) {
        (2.., _) => ("jobs", "--job", jobs),
        (_, 2..) => ("hosts", "--host", hosts),
        _ => return Ok(()),
    };
    let shown = |name: &&str| match *name {
        "" => "none".to_owned(),
        name => human::text(name.as_bytes()),
    };
    let names: Vec<String> = names.iter().take(NAMED_ORIGINS).map(shown).collect();
    let message = format!("{name} may mean snapshots of several {what}: {}", names.join(", "));
    Err(CommandError::usage(message).with_hint(format!(
        "choose one with {flag}, or name the snapshot by its identifier from `backup list`"
    )))
}

/// Jobs or hosts that an error names.
const NAMED_ORIGINS: usize = 10;

/// Databases whose names confirm the removal of objects; of more, their number does.
const NAMED: usize = 3;

/// The word that confirms restores which drop existing data: `replace` if whole databases of Redis
/// are emptied, or the names of the databases that lose objects to `--delete`.
pub(super) fn word_of_confirmation(restores: &[Restore]) -> Option<String> {
    if restores.iter().any(Restore::replaces_server) {
        return Some("replace".to_owned());
    }
    let is_database = |kind| matches!(kind, SourceKind::Mongodb | SourceKind::Postgres);
    let databases = restores.iter().filter(|restore| is_database(restore.restorer.kind));
    let removed = databases.filter_map(|restore| match &restore.request.delete {
        Delete::Planned(names) => Some(names),
        Delete::Nothing | Delete::Absent(_) | Delete::PlannedFiles(..) => None,
    });
    word_for(removed.flatten())
}

fn word_for<'a>(removed: impl Iterator<Item = &'a String>) -> Option<String> {
    let database = |name: &'a String| name.split_once('.').map_or(&**name, |(db, _)| db);
    let databases: BTreeSet<&str> = removed.map(database).collect();
    let names = databases.iter().map(|name| human::text(name.as_bytes())).collect::<Vec<_>>();
    match databases.len() {
        0 => None,
        count if count <= NAMED => Some(names.join(",")),
        count => Some(format!("{count} databases")),
    }
}

/// Fails if nothing can be written at, or made below, the nearest directory that exists.
fn require_writable(target: &Path) -> CommandResult<()> {
    let absolute = std::path::absolute(target).map_err(|error| cannot_write(target, &error))?;
    let nearest =
        absolute.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| cannot_write(target, &error.into()))
}

fn cannot_write(target: &Path, error: &std::io::Error) -> CommandError {
    CommandError::io(format!("cannot write to {}", target.display()), error).with_hint(
        "name another directory with --target, or run the command as a user who may write there",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_is_confirmed_by_the_names_of_databases() {
        let word = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            word_for(names.iter())
        };
        assert_eq!(word(&[]), None);
        assert_eq!(word(&["shop.a", "shop.b.c", "shop"]).as_deref(), Some("shop"));
        assert_eq!(word(&["shop.a", "crm.x", "crm"]).as_deref(), Some("crm,shop"));
        assert_eq!(word(&["a.x", "b.x", "c.x", "d.x"]).as_deref(), Some("4 databases"));
    }

    #[test]
    fn places_that_cannot_be_written_are_known_before() {
        let dir = tempfile::tempdir().unwrap();
        assert!(require_writable(&dir.path().join("a/b/c")).is_ok());
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for bad in [file.join("below"), file] {
            assert!(
                require_writable(&bad).is_err_and(|error| error.hint().is_some()),
                "{}",
                bad.display()
            );
        }
    }
}
