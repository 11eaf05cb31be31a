//! `backup quickstart`: the whole way once, from nothing to a restored and compared copy.
//! `quickstart/sample.rs` chooses the files of a first try.

mod sample;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_control::jobs::{Job, JobFlags};
use backup_control::passphrase::PassphraseOrigin;
use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::Choice;
use backup_control::sources::Restorer;
use backup_control::units::Size;
use backup_core::crypto::Passphrase;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::pipeline::VerifyLevel;
use backup_core::repository::{InitOptions, Repository};
use backup_core::source::{Delete, IfExists, ObjectDigest, RestoreRequest, Selection, Source};
use backup_sources::files::digest_of_dir;
use serde::Serialize;

use self::sample::Sample;
use super::init::KeyFile;
use super::restore::Restore;
use super::view::Summary;
use super::{run as run_verb, verify};
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::opened::Opened;
use crate::session::{Session, name_origin};
use crate::style::{self, paint};

/// Try a backup of a directory, with verification, restore and comparison
///
/// Creates a repository with a generated key in a folder of its own, which is left out of the
/// backup. Files outside the folder are never written. A second run backs up the changes and
/// restores again.
///
/// The backup is a sample of the directory: at most 200 MiB and 20 000 entries, without caches.
/// Caches are directories that hold CACHEDIR.TAG or .nobackup, or are named .cache, .tools,
/// node_modules or target.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory to back up
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Folder for the repository, its key and the restored copy
    #[arg(long, value_name = "FOLDER", default_value = "./backup-quickstart")]
    at: PathBuf,
    /// Maximum size of the sample
    #[arg(long, value_name = "SIZE", default_value = "200MiB")]
    max_size: Size,
    /// Back up the whole directory, with its caches
    #[arg(long, conflicts_with = "max_size")]
    all: bool,
}

const EXAMPLES: &str = "\
Example:
  backup quickstart ~/documents";

/// The folder and the files in it.
#[derive(Debug, Serialize)]
struct Folder {
    #[serde(skip)]
    path: PathBuf,
    repository: PathBuf,
    key_file: PathBuf,
    restored: PathBuf,
}

#[derive(Serialize)]
struct QuickstartJson<'a> {
    #[serde(flatten)]
    folder: &'a Folder,
    snapshot: String,
    entries: u64,
    identical: bool,
    /// Directories of caches that the sample leaves out.
    caches: usize,
    /// Other files and directories that the sample leaves out.
    left_out: usize,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let dir = std::fs::canonicalize(&args.dir)
        .map_err(|error| CommandError::io(format!("cannot find {}", args.dir.display()), &error))?;
    if !dir.is_dir() {
        return Err(CommandError::usage(format!("{} is not a directory", args.dir.display())));
    }
    let folder = Folder::prepare(&args.at, &dir)?;
    let spec = RepositorySpec::at(&folder.repository);
    let repository = folder.open(session, &spec).await?;
    let sample = sample(&dir, &folder, args).await?;
    let job = job(session, &dir, &folder, &sample, spec.clone())?;
    announce(session, &dir, &sample);
    let source = session.connect(&job.source).await?;
    let backup = run_verb::back_up(session, &repository, &job, &*source).await?.report;
    let opened = Opened {
        snapshots: repository.snapshots(&session.cx).await?,
        indexed: repository.load_index(&session.cx).await?,
    };
    let id = backup.snapshot.ok_or_else(|| CoreError::internal("the backup made no snapshot"))?;
    let info = opened.find(session, &id.to_hex(), &Choice::default()).await?;
    let verified = verify::verify(session, &opened, info, &spec, VerifyLevel::Checksum).await?;
    if !verified.problems.is_empty() {
        return Ok(Outcome::Damage);
    }
    let restored = folder.restored.to_string_lossy().into_owned();
    let restore = Restore {
        session: session.clone(),
        member: None,
        without_log: None,
        repository: spec.to_string(),
        place: crate::records::place(&spec),
        snapshot: opened.indexed.snapshot(info),
        restorer: Restorer {
            kind: job.source.kind(),
            source: Arc::clone(&source),
            target: Some(restored.clone()),
            place: restored.clone(),
        },
        is_part: false,
        is_renaming: false,
        is_mapping: false,
        hooks: None,
        request: RestoreRequest {
            target: Some(restored),
            if_exists: IfExists::Replace,
            delete: Delete::ABSENT,
            verify: true,
            ..RestoreRequest::default()
        },
    };
    let restored = restore.execute(&session.cx).await?;
    let warnings = backup.warnings + restored.warnings;
    if warnings > 0 {
        session.ui.warning(
            "some entries could not be read or restored, so the copy was not compared \
             with the original",
        );
    } else {
        let digest = compare(session, &dir, &folder, &*source, &job.options.selection).await?;
        finish(session, &folder, &sample, &id.to_hex(), &digest)?;
    }
    next_steps(session, &folder);
    Ok(Outcome::with_warnings(warnings))
}

impl Folder {
    fn prepare(at: &Path, dir: &Path) -> CommandResult<Self> {
        let failed = |error: std::io::Error| {
            CommandError::io(format!("cannot use the folder {}", at.display()), &error)
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(at).map_err(failed)?;
        let path = std::fs::canonicalize(at).map_err(failed)?;
        let folder = Self {
            repository: path.join("repository"),
            key_file: path.join("key.txt"),
            restored: path.join("restored"),
            path,
        };
        if folder.path.to_str().is_none() {
            return Err(CommandError::usage("the name of the folder is not valid UTF-8")
                .with_hint("choose another folder with --at"));
        }
        if dir.starts_with(&folder.path) {
            return Err(CommandError::usage(format!(
                "{} is the folder for the backup, or inside it",
                dir.display()
            ))
            .with_hint("choose another folder with --at"));
        }
        // What is restored replaces what was restored before: only in a folder of our own.
        let empty = std::fs::read_dir(&folder.path).map_err(failed)?.next().is_none();
        if !empty && !folder.key_file.is_file() {
            return Err(CommandError::refused(format!(
                "{} is not empty and not from an earlier quickstart",
                folder.path.display()
            ))
            .with_hint("choose a new or empty folder with --at"));
        }
        Ok(folder)
    }

    /// Opens the repository; creates it if this is the first time, or the first time was
    /// interrupted.
    async fn open(&self, session: &Session, spec: &RepositorySpec) -> CommandResult<Repository> {
        if self.key_file.is_file() {
            let origin = PassphraseOrigin::File(self.key_file.clone());
            let passphrase = session.fetch(&origin).await?;
            return match spec.open(&passphrase, &session.env).await {
                Err(backup_control::error::Error::Core(error))
                    if error.kind() == ErrorKind::NoRepository =>
                {
                    self.create(session, spec, &passphrase).await
                }
                opened => opened.map_err(|error| name_origin(error, Some(&origin), &passphrase)),
            };
        }
        let passphrase = Passphrase::generate();
        let file = KeyFile::create(&self.key_file, &passphrase)?;
        let repository = self.create(session, spec, &passphrase).await?;
        file.keep();
        Ok(repository)
    }

    async fn create(
        &self,
        session: &Session,
        spec: &RepositorySpec,
        passphrase: &Passphrase,
    ) -> CommandResult<Repository> {
        let repository =
            spec.init(passphrase, &InitOptions::default(), &session.env, &session.cx).await?;
        session.ui.status(format_args!("{} at {spec}", paint(style::GOOD, "Repository created")));
        session
            .ui
            .status(format_args!("The generated pass phrase is in {}", self.key_file.display()));
        Ok(repository)
    }
}

/// The backup of the sample, without the folder itself.
fn job(
    session: &Session,
    dir: &Path,
    folder: &Folder,
    sample: &Sample,
    spec: RepositorySpec,
) -> CommandResult<Job> {
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| CommandError::usage(format!("{} is not UTF-8", path.display())))
    };
    let inside = folder.path.starts_with(dir);
    let mut exclude = Vec::new();
    for path in sample.paths_left_out().chain(inside.then_some(&folder.path)) {
        exclude.push(escape(&text(path)?));
    }
    let flags = JobFlags { exclude, ..JobFlags::default() };
    let mut job = Job::ad_hoc(Some("quickstart"), &[text(dir)?], spec, &flags, session.place())?;
    job.options.estimate = session.ui.bars().is_some();
    Ok(job)
}

/// A glob that matches exactly this path.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | ',' | '!' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The sample of `dir`; with `--all` nothing is left out.
async fn sample(dir: &Path, folder: &Folder, args: &Args) -> CommandResult<Sample> {
    if args.all {
        return Ok(Sample::default());
    }
    let (dir, own, limit) = (dir.to_owned(), folder.path.clone(), args.max_size.0);
    let chosen = tokio::task::spawn_blocking(move || Sample::choose(&dir, &own, limit)).await;
    chosen.map_err(|error| CoreError::internal(error.to_string()))?
}

fn announce(session: &Session, dir: &Path, sample: &Sample) {
    if sample.is_partial() {
        session.ui.status(format_args!(
            "Sample of {}: {}, {}; left out: {}, {}; back up everything with --all",
            dir.display(),
            human::count(sample.files, "file", "files"),
            human::size(sample.bytes),
            human::count(sample.left_out.len() as u64, "other entry", "other entries"),
            human::count(sample.caches.len() as u64, "cache directory", "cache directories"),
        ));
    }
}

/// Compares the restored copy with the original by the digests of both.
async fn compare(
    session: &Session,
    dir: &Path,
    folder: &Folder,
    source: &dyn Source,
    selection: &Selection,
) -> CommandResult<ObjectDigest> {
    session.ui.status(format_args!("Comparing {} with the restored copy", dir.display()));
    let original = source.digest(&session.cx, selection).await?;
    let original = original.objects.into_values().next();
    let copy = folder.restored.join(dir.strip_prefix("/").unwrap_or(dir));
    let restored = digest_of_dir(&session.cx, &copy).await?;
    match original {
        Some(original) if original == restored => Ok(restored),
        _ => Err(CommandError::new(
            Kind::Mismatch,
            format!("the restored copy {} differs from {}", copy.display(), dir.display()),
        )
        .with_hint(
            "repeat the command while no program writes to the directory; the copy equals the \
             snapshot",
        )),
    }
}

fn finish(
    session: &Session,
    folder: &Folder,
    sample: &Sample,
    snapshot: &str,
    digest: &ObjectDigest,
) -> CommandResult<()> {
    let ui = &session.ui;
    if ui.is_json() {
        let json = QuickstartJson {
            folder,
            snapshot: snapshot.to_owned(),
            entries: digest.count,
            identical: true,
            caches: sample.caches.len(),
            left_out: sample.left_out.len(),
        };
        ui.event(&Summary::new("quickstart", folder.repository.display().to_string(), &json));
        return Ok(());
    }
    let original = if sample.is_partial() { "the sample" } else { "the original" };
    ui.summary(format_args!(
        "{}: all data was read back, and the restored copy equals {original}: {}, {}",
        paint(style::GOOD, "Verified"),
        human::count(digest.count, "entry", "entries"),
        human::size(digest.bytes)
    ))
}

fn next_steps(session: &Session, folder: &Folder) {
    let shell = |path: &Path| human::shell(&path.display().to_string());
    let (repository, key) = (shell(&folder.repository), shell(&folder.key_file));
    let backup = human::shell(&session.program);
    let heading = paint(style::HEADING, "Next steps");
    session.ui.status(format_args!(
        "
{heading}
1. Keep a copy of the key in another place. Without the key, nothing can be restored.
     {key}
2. Inspect the repository with this program or with stock restic:
     export BACKUP_REPO={repository} BACKUP_PASSWORD_FILE={key}
     {backup} ls latest -R
     {backup} restore latest --target DIR
     restic -r {repository} --password-file {key} snapshots --no-lock
3. Write a configuration for your own sources, and check it:
     {backup} config example > backup.toml
     {backup} config check"
    ));
}

#[cfg(test)]
mod tests {
    use backup_core::source::EntryPath;

    use super::*;

    #[test]
    fn globs_see_paths_as_they_are() {
        let path = "/a[1]/{b,c}*?\\x";
        let selection = Selection::new(Vec::new(), vec![escape(path)]).unwrap();
        assert!(selection.is_excluded(&EntryPath::new(path).unwrap()));
        assert!(!selection.is_excluded(&EntryPath::new("/a1/b").unwrap()));
    }
}
