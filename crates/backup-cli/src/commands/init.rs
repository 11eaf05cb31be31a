//! `backup init`.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backup_control::passphrase::{PassphraseFlags, PassphraseOrigin};
use backup_control::repositories::RepositorySpec;
use backup_core::crypto::Passphrase;
use backup_core::repository::{InitOptions, Likeness, Repository};
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Create a repository
///
/// The pass phrase comes from --password-file, --password-command, the configuration, the
/// environment or a prompt. A lost pass phrase means lost backups. --generate-key creates a strong
/// pass phrase and keeps it in a file. --recovery-key creates a second one to print and lock away.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Generate the pass phrase, and print it once unless a file is set for it
    #[arg(long, conflicts_with_all = ["password_file", "password_command"])]
    generate_key: bool,
    /// Write the generated pass phrase to this new file [default: `passphrase_file` of the
    /// configuration]
    #[arg(long, value_name = "FILE", requires = "generate_key")]
    key_file: Option<PathBuf>,
    /// Also create a recovery key that opens the repository, and print it once
    #[arg(long)]
    recovery_key: bool,
    /// Cut data into the same chunks as this repository, so that copies between the two deduplicate
    #[arg(long, value_name = "REPOSITORY")]
    like: Option<String>,
    /// File that holds the pass phrase of --like [default: as for --repo]
    #[arg(long, value_name = "FILE", requires = "like")]
    like_password_file: Option<PathBuf>,
    /// Shell command that prints the pass phrase of --like
    #[arg(long, value_name = "COMMAND", requires = "like", conflicts_with = "like_password_file")]
    like_password_command: Option<String>,
    /// Use the master key of --like as well
    ///
    /// Copies then need no new encryption, but a person with access to one of the two repositories
    /// has the key of both.
    #[arg(long, requires = "like")]
    share_key: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup init -r ./repo --generate-key --key-file ~/backup.key
  backup init -r s3://bucket/backup --like ./repo --recovery-key";

#[derive(Serialize)]
struct InitJson<'a> {
    schema_version: u32,
    repository: String,
    id: String,
    key_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<&'a str>,
}

/// Where the pass phrase of a new repository is from.
enum Key {
    /// The user has it.
    Known(Passphrase),
    /// A new pass phrase, kept in a file or not stored yet.
    Generated(Passphrase, Option<KeyFile>),
}

impl Key {
    fn passphrase(&self) -> &Passphrase {
        match self {
            Self::Known(passphrase) | Self::Generated(passphrase, _) => passphrase,
        }
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let repository = session.repository()?;
    let like = match &args.like {
        Some(name) => Some(likeness(session, name, args).await?),
        None => None,
    };
    let key = if args.generate_key {
        generate(session, args, &repository)?
    } else {
        given(session, &repository).await?
    };
    let recovery = args.recovery_key.then(Passphrase::generate);
    let options = InitOptions { recovery: recovery.clone(), like };
    let created = repository.init(key.passphrase(), &options, &session.env, &session.cx).await?;
    report(session, &repository, &created, key, recovery.as_ref())?;
    // The repository exists and its key is safe: what comes now is advice.
    match repository.probe(&created, &session.cx).await {
        Ok(concerns) => concerns.iter().for_each(|concern| session.ui.warning(concern)),
        Err(error) => {
            session.ui.warning(format_args!(
                "the storage could not be tested: {error}; repeat the test with `backup doctor`"
            ));
        }
    }
    Ok(Outcome::Success)
}

async fn likeness(session: &Session, name: &str, args: &Args) -> CommandResult<Likeness> {
    let flags = PassphraseFlags {
        file: args.like_password_file.clone(),
        command: args.like_password_command.clone(),
    };
    // The flags of the new repository serve for both, unless this one has its own.
    let flags = if flags.file.is_none() && flags.command.is_none() {
        session.passphrase_flags()
    } else {
        flags
    };
    let repository = session.open_with(&session.resolve(name)?, &flags).await?;
    Ok(Likeness { repository, share_key: args.share_key })
}

fn generate(session: &Session, args: &Args, repository: &RepositorySpec) -> CommandResult<Key> {
    let configured = repository.config.as_ref().and_then(|config| config.passphrase_file.clone());
    if let Some(PassphraseOrigin::Variable(name)) = session.passphrase_origin(repository) {
        session
            .ui
            .warning(format_args!("{name} holds a different pass phrase than the generated one"));
    }
    let passphrase = Passphrase::generate();
    let file = args.key_file.clone().or(configured);
    let file = file.map(|path| KeyFile::create(&path, &passphrase)).transpose()?;
    Ok(Key::Generated(passphrase, file))
}

async fn given(session: &Session, repository: &RepositorySpec) -> CommandResult<Key> {
    if let Some(origin) = session.passphrase_origin(repository) {
        return Ok(Key::Known(session.fetch(&origin).await?));
    }
    Ok(Key::Known(session.ask_new(&format!("New pass phrase for {repository}: ")).await?))
}

fn report(
    session: &Session,
    repository: &RepositorySpec,
    created: &Repository,
    key: Key,
    recovery: Option<&Passphrase>,
) -> CommandResult<()> {
    let (generated, file) = match key {
        Key::Known(_) => (None, None),
        Key::Generated(passphrase, None) => (Some(passphrase), None),
        Key::Generated(_, Some(file)) => (None, Some(file.keep())),
    };
    let ui = &session.ui;
    if ui.is_json() {
        return ui.json(&InitJson {
            schema_version: SCHEMA_VERSION,
            repository: repository.to_string(),
            id: created.config().id.clone(),
            key_file: file.as_deref(),
            key: generated.as_ref().map(Passphrase::reveal),
            recovery_key: recovery.map(Passphrase::reveal),
        });
    }
    ui.status(format_args!("{} at {repository}", paint(style::GOOD, "Repository created")));
    if let Some(file) = &file {
        ui.status(format_args!(
            "The pass phrase is in {}. Keep a copy elsewhere: without the pass phrase, the backups \
             are lost.",
            file.display()
        ));
    }
    if let Some(passphrase) = &generated {
        ui.status("The pass phrase, shown only once; without it, the backups are lost:");
        ui.print(passphrase.reveal())?;
    }
    if let Some(recovery) = recovery {
        ui.status(
            "The recovery key, shown only once; it also opens the repository. Keep the key \
             offline:",
        );
        ui.print(recovery.reveal())?;
    }
    Ok(())
}

/// A file with a new pass phrase. It is written before the repository exists, so that no repository
/// is ever without its key, and removed again if the repository cannot be created.
pub(super) struct KeyFile {
    path: PathBuf,
    keep: bool,
}

impl KeyFile {
    pub(super) fn create(path: &Path, passphrase: &Passphrase) -> CommandResult<Self> {
        let failed = |error: std::io::Error| {
            match error.kind() {
            std::io::ErrorKind::AlreadyExists => CommandError::refused(format!(
                "the key file {} exists already",
                path.display()
            ))
            .with_hint(
                "choose another file, or use the pass phrase in this one with --password-file",
            ),
            _ => CommandError::io(format!("cannot write the key file {}", path.display()), &error)
                .with_hint(
                    "name a file that this user can write by --key-file, or by `passphrase_file` in \
                     the configuration",
                ),
        }
        };
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let created = Self { path: path.to_path_buf(), keep: false };
        writeln!(file, "{}", passphrase.reveal()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(created)
    }

    /// The repository exists: so must its key.
    pub(super) fn keep(mut self) -> PathBuf {
        self.keep = true;
        self.path.clone()
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.keep {
            // It opens nothing; being left over does no harm.
            _ = std::fs::remove_file(&self.path);
        }
    }
}
