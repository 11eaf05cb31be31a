//! The directory that is written, its tablespaces, owners.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use backup_core::source::{EntryPath, Metadata, SourceError, SourceErrorKind, SourceResult};

use super::super::error::invalid;
use super::super::layout::Layout;
use super::{Job, Purpose, occupied};

/// What a file is called until everything else is there.
const HELD: &str = ".restoring";
/// Without it no server starts: whoever finds the directory of a restore that was killed cannot
/// take it for a whole one.
const CONTROL: &str = "global/pg_control";
/// A server that starts with the original's makes links to where the original's tablespaces are,
/// and writes there.
const MAP: &str = "tablespace_map";
/// Where a server that starts on a copy begins to replay the log.
const LABEL: &str = "backup_label";

/// Where things are written.
#[derive(Debug)]
pub(super) struct Target {
    /// The data directory, absolute.
    pub(super) root: PathBuf,
    /// Directories of tablespaces by OID.
    tablespaces: Vec<(u32, PathBuf)>,
    owner: Owner,
}

/// Whose everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Whoever writes it.
    Ours,
    /// As in the snapshot.
    AsStored,
    /// A user and a group, by number.
    This(u32, u32),
}

impl Owner {
    fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Scratch { owner: Some((user, group)) } => Self::This(user, group),
            _ if rustix::process::geteuid().is_root() => Self::AsStored,
            _ => Self::Ours,
        }
    }
}

/// An error of writing at `path`.
pub(super) fn failed(path: &Path, error: std::io::Error) -> SourceError {
    let new = |text: String| SourceError::new(SourceErrorKind::Target, text);
    let shown = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            new(format!("no space left at the target while writing {shown}")).with_hint(
                "remove the incomplete directory, free some space and restore again: no server \
                 starts on it",
            )
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => new(format!(
            "cannot write \
             {shown}"
        ))
        .with_source(error)
        .with_hint("run as a user who may write there, or choose another directory"),
        _ => new(format!("cannot write {shown}")).with_source(error),
    }
}

impl Target {
    /// Makes the directory, or takes an empty one.
    pub(super) fn open(job: &Job<'_>) -> SourceResult<Self> {
        let target = job.request.target.as_ref().ok_or_else(|| {
            invalid("a restored data directory needs a directory as its target")
                .with_hint("name a new or an empty directory as the target")
        })?;
        if target.contains("://") {
            let hint = "restore to a directory and start a server there";
            return Err(invalid("a data directory cannot be restored into a running server")
                .with_hint(hint));
        }
        let root = std::path::absolute(target).map_err(|error| failed(Path::new(target), error))?;
        let mut tablespaces = Vec::new();
        refuse_unknown(job)?;
        for (oid, location) in &job.description.tablespaces {
            if location.starts_with('/') {
                tablespaces.push((*oid, place_of_tablespace(job, &root, *oid, location)?));
            }
        }
        let target = Self { root, tablespaces, owner: Owner::of(job.purpose) };
        for dir in
            std::iter::once(&target.root).chain(target.tablespaces.iter().map(|(_, dir)| dir))
        {
            refuse_filled(dir)?;
        }
        if !job.request.dry_run {
            for dir in
                std::iter::once(&target.root).chain(target.tablespaces.iter().map(|(_, dir)| dir))
            {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)
                    .map_err(|error| failed(dir, error))?;
            }
        }
        Ok(target)
    }

    /// A data directory that was restored before, and belongs to its owner.
    pub(super) fn existing(root: PathBuf) -> Self {
        let owner = Owner::of(Purpose::Successor);
        Self { root, tablespaces: Vec::new(), owner }
    }

    /// A directory that is there, owned by this process.
    #[cfg(test)]
    pub(super) fn of(root: PathBuf) -> Self {
        Self { root, tablespaces: Vec::new(), owner: Owner::Ours }
    }

    /// Of a layer, the directories of the snapshot and where they go: the data directory,
    /// tablespaces.
    pub(super) fn places<'a>(
        &'a self,
        layer: &'a Layout,
    ) -> impl Iterator<Item = (EntryPath, &'a Path)> {
        let tablespaces =
            self.tablespaces.iter().map(|(oid, dir)| (layer.tablespace(*oid), dir.as_path()));
        std::iter::once((layer.base(), self.root.as_path())).chain(tablespaces)
    }

    /// Where a file of `dir` is written: some wait for everything else under another name.
    pub(super) fn place(&self, dir: &Path, name: &[u8]) -> PathBuf {
        let path = dir.join(std::ffi::OsStr::from_bytes(name));
        match path.strip_prefix(&self.root).ok().and_then(Path::to_str) {
            Some(name @ (CONTROL | MAP)) => self.held(name),
            _ => path,
        }
    }

    /// What was put together starts like a full backup, and is none whose manifest there would be.
    pub(super) fn no_longer_incremental(&self) -> SourceResult<()> {
        let label = self.read(LABEL)?;
        if label.is_empty() {
            return Err(SourceError::new(
                SourceErrorKind::Mismatch,
                format!("the snapshot has no {LABEL}"),
            ));
        }
        self.write(LABEL, label_of_full(&label).as_bytes())?;
        self.remove("backup_manifest")
    }

    /// The paths of the manifest begin with this in a tablespace's directory.
    pub(super) fn roots(&self) -> Vec<(String, PathBuf)> {
        let tablespaces =
            self.tablespaces.iter().map(|(oid, dir)| (format!("pg_tblspc/{oid}/"), dir.clone()));
        std::iter::once((String::new(), self.root.clone())).chain(tablespaces).collect()
    }

    /// Where a file waits for everything else.
    fn held(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}{HELD}"))
    }

    /// What a file of the data directory is called in the manifest.
    pub(super) fn listed(path: Vec<u8>) -> Vec<u8> {
        let waits = path.strip_suffix(HELD.as_bytes());
        match waits {
            Some(name) if name == CONTROL.as_bytes() || name == MAP.as_bytes() => name.to_vec(),
            _ => path,
        }
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("pg_wal")
    }

    /// Owner and mode as in the snapshot. By number: names may mean somebody else on another
    /// machine.
    pub(super) fn own(&self, path: &Path, metadata: &Metadata) -> SourceResult<()> {
        let (user, group) = match self.owner {
            Owner::Ours => (None, None),
            Owner::AsStored => (Some(metadata.uid), Some(metadata.gid)),
            Owner::This(user, group) => (Some(user), Some(group)),
        };
        if user.is_some() {
            lchown(path, user, group).map_err(|error| failed(path, error))?;
        }
        fs::set_permissions(path, Permissions::from_mode(metadata.mode))
            .map_err(|error| failed(path, error))
    }

    /// The owner of everything, for what the snapshot does not have.
    pub(super) fn own_like_root(&self, path: &Path) -> SourceResult<()> {
        use std::os::unix::fs::MetadataExt as _;
        if self.owner == Owner::Ours {
            return Ok(());
        }
        let root = fs::metadata(&self.root).map_err(|error| failed(&self.root, error))?;
        lchown(path, Some(root.uid()), Some(root.gid())).map_err(|error| failed(path, error))
    }

    /// Writes a small file. The server's user, to whom the directory belongs, may run already: what
    /// lies there is no more than a name, and nothing is written through a link.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> SourceResult<()> {
        use std::io::Write as _;
        use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
        let path = self.root.join(name);
        remove(&path)?;
        let written =
            fs::File::options().write(true).create_new(true).mode(0o600).open(&path).and_then(
                |mut file| {
                    file.write_all(content)?;
                    if self.owner == Owner::Ours {
                        return Ok(());
                    }
                    let root = fs::metadata(&self.root)?;
                    fchown(&file, Some(root.uid()), Some(root.gid()))
                },
            );
        written.map_err(|error| failed(&path, error))
    }

    /// Puts a small file in the place of another one, of which a server may read.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> SourceResult<()> {
        let held = format!("{name}{HELD}");
        self.write(&held, content)?;
        let (from, to) = (self.root.join(held), self.root.join(name));
        fs::File::open(&from)
            .and_then(|file| file.sync_all())
            .map_err(|error| failed(&from, error))?;
        fs::rename(&from, &to).map_err(|error| failed(&to, error))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> SourceResult<()> {
        remove(&self.root.join(name)).map(|_| ())
    }

    /// A small file; empty if there is none.
    pub(super) fn read(&self, name: &str) -> SourceResult<String> {
        let path = self.root.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// The server finds tablespaces by links, and makes these anew from its map when it begins to
    /// recover.
    pub(super) fn link_tablespaces(&self, job: &Job<'_>) -> SourceResult<()> {
        let mut map = String::new();
        for (oid, dir) in &self.tablespaces {
            let link = self.root.join("pg_tblspc").join(oid.to_string());
            symlink(dir, &link).map_err(|error| failed(&link, error))?;
            self.own_like_root(&link)?;
            if let Some(above) = dir.parent().filter(|above| **above == beside(&self.root)) {
                self.own_like_root(above)?;
            }
            let text =
                dir.to_str().ok_or_else(|| invalid(format!("{} is not UTF-8", dir.display())))?;
            map.push_str(&format!("{oid} {}\n", text.replace('\\', "\\\\").replace('\n', "\\\n")));
        }
        let came = remove(&self.held(MAP))?;
        if came || !job.description.tablespaces.is_empty() {
            self.write(MAP, map.as_bytes())
        } else {
            Ok(())
        }
    }

    /// Everything is on the disk when this returns, and a server may start.
    pub(super) fn finish(&self, job: &Job<'_>) -> SourceResult<()> {
        job.cx.check_cancelled()?;
        // It is made by the backup, and no file of the server's.
        let manifest = self.root.join("backup_manifest");
        if manifest.exists() {
            self.own_like_root(&manifest)?;
        }
        for (_, dir) in self.roots() {
            sync(&dir).map_err(|error| failed(&dir, error))?;
        }
        let control = self.root.join(CONTROL);
        fs::rename(self.held(CONTROL), &control).map_err(|error| failed(&control, error))?;
        sync(&self.root).map_err(|error| failed(&self.root, error))
    }
}

/// The label of a backup that was put together: that of its newest layer, without what that builds
/// on.
pub(in super::super) fn label_of_full(label: &str) -> String {
    label
        .lines()
        .filter(|line| !line.starts_with("INCREMENTAL FROM "))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Whether there was one.
fn remove(path: &Path) -> SourceResult<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, error)),
    }
}

/// One call for thousands of files.
fn sync(dir: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(fs::File::open(dir)?)?;
    #[cfg(not(target_os = "linux"))]
    {
        fs::metadata(dir)?;
        rustix::fs::sync();
    }
    Ok(())
}

/// A place for a tablespace that the snapshot does not have was meant for another one.
fn refuse_unknown(job: &Job<'_>) -> SourceResult<()> {
    let known = &job.description.tablespaces;
    let is_known =
        |name: &String| known.iter().any(|(oid, location)| is_called(*oid, location, name));
    let Some((name, _)) = job.options.tablespaces.iter().find(|(name, _)| !is_known(name)) else {
        return Ok(());
    };
    let names: Vec<String> =
        known.iter().map(|(oid, location)| format!("{oid} at {location}")).collect();
    let hint = match names.is_empty() {
        true => "leave the tablespace out: the snapshot has none outside of the data directory"
            .to_owned(),
        false => format!("name one of {}", names.join(", ")),
    };
    Err(invalid(format!("the snapshot has no tablespace {name}")).with_hint(hint))
}

fn is_called(oid: u32, location: &str, name: &str) -> bool {
    name == location || name.parse() == Ok(oid)
}

/// Never where it was: a server that still runs may use that.
fn place_of_tablespace(
    job: &Job<'_>,
    root: &Path,
    oid: u32,
    location: &str,
) -> SourceResult<PathBuf> {
    match job.options.tablespaces.iter().find(|(name, _)| is_called(oid, location, name)) {
        Some((_, dir)) => std::path::absolute(dir).map_err(|error| failed(dir, error)),
        None => Ok(beside(root).join(oid.to_string())),
    }
}

/// Where tablespaces go that nobody named a place for.
fn beside(root: &Path) -> PathBuf {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    root.with_file_name(format!("{name}.tablespaces"))
}

fn refuse_filled(dir: &Path) -> SourceResult<()> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(false) => {
            let text = format!("{} is not empty: {}", dir.display(), occupied::described(dir));
            let error = SourceError::new(SourceErrorKind::TargetExists, text);
            Err(error.with_hint(
                "choose a new or an empty directory: a data directory is never mixed with another \
                 one",
            ))
        }
        Err(error) => Err(failed(dir, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_its_own_name_in_the_manifest() {
        let target = Target { root: "/data".into(), tablespaces: Vec::new(), owner: Owner::Ours };
        for name in [CONTROL, MAP] {
            let waits = target.held(name);
            assert_ne!(waits, target.root.join(name));
            let inside = waits.strip_prefix("/data").unwrap().as_os_str().as_bytes().to_vec();
            assert_eq!(Target::listed(inside), name.as_bytes());
        }
        assert_eq!(Target::listed(b"base/1/2.restoring".to_vec()), b"base/1/2.restoring");
    }
}
