//! `backup key export` and `backup key import`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backup_core::repository::Repository;

use super::KeyJson;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::session::Session;
use crate::style::{self, paint};

/// No bundle is larger: a key file and a config are a few hundred bytes.
const LIMIT: u64 = 1 << 20;

/// Write a key, protected by its pass phrase, to a file
///
/// Keep the file outside the repository. If the repository loses its key objects,
/// `backup key import` puts them back. The file is useless without the pass phrase.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Key: the beginning of its identifier [default: the key that opens the repository]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// File to write, which must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Put an exported key back into its repository
///
/// Needs no pass phrase, unless the config object of the repository was changed since the export,
/// for instance by `restic migrate`: then the pass phrase of the exported key shows whether it is
/// the same repository.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Exported key file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn export(session: &Session, args: &ExportArgs) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let id = match &args.key {
        Some(name) => super::find(&repository, name).await?.0,
        None => repository.key_id(),
    };
    session.trail.note("key", id.short());
    let bundle = repository.export_key(&id).await?;
    write(&args.to, &bundle)?;
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&KeyJson { key_file: Some(&args.to), ..KeyJson::new(spec.to_string(), &id) })?;
    }
    ui.status(format_args!(
        "{} key {} to {}",
        paint(style::GOOD, "Exported"),
        id.short(),
        args.to.display()
    ));
    Ok(Outcome::Success)
}

/// A new file for its owner only.
fn write(path: &Path, bundle: &[u8]) -> CommandResult<()> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            CommandError::refused(format!("{} exists already", path.display()))
                .with_hint("choose another name")
        }
        _ => CommandError::io(format!("cannot write {}", path.display()), &error)
            .with_hint("check that the directory exists and is writable"),
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(bundle).and_then(|()| file.sync_all()).map_err(failed)
}

pub(super) async fn import(session: &Session, args: &ImportArgs) -> CommandResult {
    let spec = session.repository()?;
    let bundle = read(&args.file)?;
    let sink = spec.sink(&session.env).await?;
    let passphrase = async || session.passphrase(&spec, &session.passphrase_flags()).await;
    let id = Repository::import_key(&*sink, &bundle, passphrase).await?;
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&KeyJson::new(spec.to_string(), &id))?;
    }
    ui.status(format_args!("{} key {} into {spec}", paint(style::GOOD, "Imported"), id.short()));
    Ok(Outcome::Success)
}

fn read(path: &Path) -> CommandResult<Vec<u8>> {
    let failed = |error: std::io::Error| {
        CommandError::io(format!("cannot read {}", path.display()), &error)
            .with_hint("name a file that `backup key export` wrote")
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > LIMIT {
        return Err(CommandError::usage(format!("{} is too large for a key", path.display()))
            .with_hint("name a file that `backup key export` wrote"));
    }
    std::fs::read(path).map_err(failed)
}
