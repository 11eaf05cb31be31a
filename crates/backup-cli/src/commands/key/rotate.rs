//! `backup key rotate`.

use std::path::PathBuf;

use backup_control::passphrase::PassphraseOrigin;
use backup_core::crypto::Passphrase;
use serde::Serialize;

use super::add::NewArgs;
use super::master;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::init::KeyFile;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Replace the pass phrase that opened the repository
///
/// The old pass phrase then opens nothing. A new pass phrase that already opens the repository is
/// refused. Running backups continue.
///
/// The data stays unchanged: a person who had the old pass phrase may have kept the master key.
/// With --master, creates a new repository with a new master key and the same chunking, and copies
/// all snapshots into it. An interrupted copy continues when called again, and both repositories
/// stay readable.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Purpose of the new key, shown by `backup key list` [default: that of the old key]
    #[arg(long, value_name = "TEXT", conflicts_with = "master")]
    label: Option<String>,
    /// Generate the new pass phrase and write it to this new file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_file", "new_password_command"])]
    pub(super) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) new: NewArgs,
    /// Create a new repository with a new master key, and copy everything into it
    #[arg(long, requires = "to", help_heading = "New master key")]
    master: bool,
    /// New repository, which must be absent or left by an interrupted attempt
    #[arg(long, value_name = "REPOSITORY", requires = "master", help_heading = "New master key")]
    to: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  backup key rotate --key-file /etc/backup/new.key
  backup key rotate --master --to s3://bucket/backup2 --key-file /etc/backup/backup2.key";

#[derive(Serialize)]
struct RotatedJson {
    schema_version: u32,
    repository: String,
    added: String,
    removed: String,
    key_file: Option<PathBuf>,
}

impl Args {
    pub(super) fn is_master(&self) -> bool {
        self.master
    }

    /// The new pass phrase, and the file it was written to if it was generated. It is in a file
    /// before it is in use: nobody loses a repository because the output was cut off.
    pub(super) async fn passphrase(
        &self,
        session: &Session,
    ) -> CommandResult<(Passphrase, Option<KeyFile>)> {
        match &self.key_file {
            Some(path) => {
                let passphrase = Passphrase::generate();
                let file = KeyFile::create(path, &passphrase)?;
                Ok((passphrase, Some(file)))
            }
            None => Ok((self.new.fetch(session).await?, None)),
        }
    }
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    match &args.to {
        Some(to) => master::run(session, args, to).await,
        None => rotate(session, args).await,
    }
}

async fn rotate(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    super::require_confirmable(session)?;
    let old = repository.key_id();
    let label = match &args.label {
        Some(label) => Some(label.clone()),
        None => {
            let keys = repository.keys().await?;
            keys.into_iter().find(|(id, _)| *id == old).and_then(|(_, info)| info.ok()?.label)
        }
    };
    let question = format!(
        "Rotate key {} of {spec}? The old pass phrase then no longer opens the repository.",
        old.short()
    );
    session.confirm(&question).await?;
    let (passphrase, file) = args.passphrase(session).await?;
    let rotated = repository.rotate_key(&passphrase, label, &session.cx).await;
    let rotated = match rotated {
        Ok(rotated) => rotated,
        Err(error) => {
            // The new key may be in use already: its pass phrase must not get lost.
            if let Some(file) = file {
                let path = file.keep();
                session.ui.warning(format_args!(
                    "the new pass phrase is in {}, and may already open the repository",
                    path.display()
                ));
            }
            return Err(CommandError::from(error).invalid_is_refused());
        }
    };
    let key_file = file.map(KeyFile::keep);
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&RotatedJson {
            schema_version: SCHEMA_VERSION,
            repository: spec.to_string(),
            added: rotated.added.to_hex(),
            removed: rotated.removed.to_hex(),
            key_file,
        })?;
        return Ok(Outcome::Success);
    }
    let (added, removed) = (rotated.added.short(), rotated.removed.short());
    ui.status(format_args!("{}: key {added} replaces {removed}", paint(style::GOOD, "Rotated")));
    if let Some(path) = &key_file {
        ui.status(format_args!(
            "The new pass phrase is in {}. Keep a copy elsewhere.",
            path.display()
        ));
    }
    if let Some(origin) = session.passphrase_origin(&spec) {
        let place = match origin {
            PassphraseOrigin::File(path) => path.display().to_string(),
            PassphraseOrigin::Variable(name) => name,
            PassphraseOrigin::Command(_) => "the output of the pass phrase command".to_owned(),
        };
        ui.hint(format_args!("replace the old pass phrase with the new one in {place}"));
    }
    Ok(Outcome::Success)
}
