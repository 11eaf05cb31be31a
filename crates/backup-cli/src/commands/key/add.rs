//! `backup key add` and `backup key generate`.

use std::path::PathBuf;

use backup_control::passphrase::{PassphraseFlags, PassphraseOrigin};
use backup_core::crypto::Passphrase;

use super::KeyJson;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::commands::init::KeyFile;
use crate::session::Session;
use crate::style::{self, paint};

/// Add a key with another pass phrase to the repository
///
/// A pass phrase that already opens the repository is refused. The new pass phrase comes from the
/// flags below, from BACKUP_NEW_PASSWORD, BACKUP_NEW_PASSWORD_FILE or BACKUP_NEW_PASSWORD_COMMAND,
/// or from a prompt.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Purpose of the key, shown by `backup key list`
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    new: NewArgs,
}

/// Add a key with a generated pass phrase, and print it once
///
/// Print the pass phrase on paper and lock it away, as a recovery key.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// Purpose of the key, shown by `backup key list`
    #[arg(long, value_name = "TEXT", default_value = "recovery")]
    label: String,
    /// Write the pass phrase to this new file instead of printing it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Source of a new pass phrase.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "New pass phrase")]
pub(super) struct NewArgs {
    /// File that holds the new pass phrase
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    new_password_file: Option<PathBuf>,
    /// Shell command that prints the new pass phrase
    #[arg(long, value_name = "COMMAND")]
    new_password_command: Option<String>,
}

impl NewArgs {
    /// Origin of the new pass phrase; `None` if a prompt has to supply it.
    pub(super) fn origin(&self, session: &Session) -> Option<PassphraseOrigin> {
        let flags = PassphraseFlags {
            file: self.new_password_file.clone(),
            command: self.new_password_command.clone(),
        };
        PassphraseOrigin::choose_new(&flags, &session.env)
    }

    /// The new pass phrase; somebody is asked if nothing says where it is.
    pub(super) async fn fetch(&self, session: &Session) -> CommandResult<Passphrase> {
        if let Some(origin) = self.origin(session) {
            return session.fetch(&origin).await;
        }
        if !session.ui.can_ask() {
            return Err(CommandError::new(
                Kind::Passphrase,
                "no new pass phrase is given, and there is no terminal to prompt for it",
            )
            .with_hint(
                "use --new-password-file, --new-password-command, BACKUP_NEW_PASSWORD, \
                 BACKUP_NEW_PASSWORD_FILE or BACKUP_NEW_PASSWORD_COMMAND",
            ));
        }
        session.ask_new("New pass phrase: ").await
    }
}

pub(super) async fn add(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let passphrase = args.new.fetch(session).await?;
    let key = repository.add_key(&passphrase, args.label.clone(), &session.cx).await;
    let key = key.map_err(|error| CommandError::from(error).invalid_is_refused())?;
    session.trail.note("key", key.short());
    if session.ui.is_json() {
        let label = args.label.as_deref();
        session.ui.json(&KeyJson { label, ..KeyJson::new(spec.to_string(), &key) })?;
    }
    session.ui.status(format_args!(
        "{} key {} to {spec}",
        paint(style::GOOD, "Added"),
        key.short()
    ));
    Ok(Outcome::Success)
}

pub(super) async fn generate(session: &Session, args: &GenerateArgs) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let passphrase = Passphrase::generate();
    let file =
        args.key_file.as_deref().map(|path| KeyFile::create(path, &passphrase)).transpose()?;
    let key = repository.add_key(&passphrase, Some(args.label.clone()), &session.cx).await?;
    session.trail.note("key", key.short());
    let file = file.map(KeyFile::keep);
    let ui = &session.ui;
    if ui.is_json() {
        let shown = file.is_none().then(|| passphrase.reveal());
        let (label, key_file) = (Some(args.label.as_str()), file.as_deref());
        ui.json(&KeyJson {
            label,
            key_file,
            passphrase: shown,
            ..KeyJson::new(spec.to_string(), &key)
        })?;
        return Ok(Outcome::Success);
    }
    ui.status(format_args!(
        "{} key {} ({}) to {spec}",
        paint(style::GOOD, "Added"),
        key.short(),
        args.label
    ));
    match file {
        Some(file) => ui.status(format_args!("The pass phrase is in {}.", file.display())),
        None => {
            ui.status(
                "The pass phrase, shown only once; it opens the whole repository. Keep the pass \
                 phrase offline:",
            );
            ui.print(passphrase.reveal())?;
        }
    }
    Ok(Outcome::Success)
}
