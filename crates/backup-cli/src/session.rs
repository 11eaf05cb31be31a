//! What a command works with: the terminal, the environment, the flags, and how it gets at
//! repositories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use backup_control::cache;
use backup_control::config::{self, LoadedConfig};
use backup_control::environment::Environment;
use backup_control::error::Error as ControlError;
use backup_control::exposed;
use backup_control::jobs::Place;
use backup_control::machine::Machine;
use backup_control::moment::Moment;
use backup_control::passphrase::{PassphraseFlags, PassphraseOrigin};
use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::Now;
use backup_control::zone::Zones;
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::repository::Repository;
use jiff::tz::TimeZone;

use crate::cli::GlobalArgs;
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::human;
use crate::opened::Opened;
use crate::trail::Trail;
use crate::ui::Ui;

/// What helps if there is no pass phrase.
const PASSPHRASE_HINT: &str = "use --password-file, --password-command, BACKUP_PASSWORD, \
                               BACKUP_PASSWORD_FILE or BACKUP_PASSWORD_COMMAND";

/// Everything a command is given besides its own flags.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// How this program was called: what commands that are suggested begin with.
    pub(crate) program: String,
    pub(crate) ui: Arc<Ui>,
    pub(crate) env: Environment,
    pub(crate) machine: Machine,
    pub(crate) global: GlobalArgs,
    pub(crate) cx: Context,
    pub(crate) trail: Arc<Trail>,
    /// The job that messages name, while several run at the same time.
    pub(crate) label: Option<String>,
    /// See [`Session::zones`].
    pub(crate) zones: OnceLock<Zones>,
    /// See [`Session::config`].
    pub(crate) config: ConfigCache,
    /// Pass phrases that were typed, by the repository: nobody is asked for one twice.
    pub(crate) typed: Arc<Mutex<BTreeMap<String, Passphrase>>>,
    /// Exposed files with secrets that a warning has named.
    pub(crate) exposed: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// The configuration once it was read: none inside if there is no file.
pub(crate) type ConfigCache = Arc<Mutex<Option<Option<Arc<LoadedConfig>>>>>;

impl Session {
    /// The configuration, if there is one. The file is read, checked and resolved once per process,
    /// so that a later edit does not change a plan that was shown. A file with a mistake is read
    /// again, and fails again.
    pub(crate) fn config(&self) -> CommandResult<Option<Arc<LoadedConfig>>> {
        let mut cache = lock(&self.config);
        if let Some(known) = &*cache {
            return Ok(known.clone());
        }
        let loaded = match config::find(self.global.config.as_deref(), &self.env)? {
            Some(file) => Some(Arc::new(config::load(&file, &self.env)?)),
            None => None,
        };
        Ok(cache.insert(loaded).clone())
    }

    /// The file of the configuration, with the SHA-256 of the text that is in use: none if it has a
    /// mistake, or is a copy that the daemon keeps.
    pub(crate) fn config_file(&self) -> (Option<PathBuf>, Option<String>) {
        match self.config() {
            Ok(None) => (None, None),
            Ok(Some(loaded)) => (Some(loaded.file.clone()), loaded.sha256.clone()),
            Err(_) => {
                let found = config::find(self.global.config.as_deref(), &self.env);
                (found.ok().flatten().map(config::original), None)
            }
        }
    }

    /// The configuration, for commands that can do nothing without one.
    pub(crate) fn require_config(&self) -> CommandResult<Arc<LoadedConfig>> {
        self.config()?.ok_or_else(|| config::not_found(&self.env).into())
    }

    /// The time zones in force. Without a valid configuration that of the machine: commands that
    /// need the configuration report its mistakes.
    pub(crate) fn zones(&self) -> &Zones {
        self.zones.get_or_init(|| {
            let loaded = self.config().ok().flatten();
            Zones::new(loaded.as_ref().map(|loaded| &loaded.config), &self.machine.zone)
        })
    }

    /// The rules of the time zone of dates in input and output.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zones().dates.rules
    }

    /// The rules of the time zone of retention and of windows.
    pub(crate) fn calendar_zone(&self) -> TimeZone {
        self.zones().calendar.rules.clone()
    }

    /// A message that names the job that it is about, while several run at the same time.
    pub(crate) fn of_job(&self, text: impl std::fmt::Display) -> String {
        match &self.label {
            Some(job) => format!("{}: {text}", human::text(job.as_bytes())),
            None => text.to_string(),
        }
    }

    /// Who does something that only one may do at a time, for people.
    pub(crate) fn holder(&self) -> String {
        format!("{}@{}", self.machine.user, self.machine.host)
    }

    /// The directory for what can be had again about a repository; it is made.
    pub(crate) fn cache_of(&self, repository: &Repository) -> CommandResult<PathBuf> {
        const HINT: &str = "set BACKUP_CACHE_DIR to a directory";
        let dir = cache::dir(&self.env)
            .ok_or_else(|| CommandError::usage("no directory for the cache").with_hint(HINT))?
            .join(&repository.config().id);
        let failed = |error| {
            CommandError::io(format!("cannot create {}", dir.display()), &error).with_hint(HINT)
        };
        cache::create(&dir).map_err(failed)?;
        Ok(dir)
    }

    /// Understands a moment or a day.
    pub(crate) fn moment(&self, text: &str) -> CommandResult<Moment> {
        Ok(Moment::parse(text, self.cx.clock.now(), self.zone())?)
    }

    /// The time and the zone.
    pub(crate) fn now(&self) -> Now<'_> {
        Now { time: self.cx.clock.now(), zone: self.zone() }
    }

    /// Where jobs run.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { machine: &self.machine, env: &self.env }
    }

    /// Waits for something that does not watch for cancellation itself.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, ControlError>>,
    ) -> CommandResult<T> {
        tokio::select! {
            done = work => Ok(done?),
            () = self.cx.cancel.cancelled() => Err(CoreError::cancelled().into()),
        }
    }

    /// Where the pass phrase comes from, unless somebody has to be asked.
    pub(crate) fn passphrase_origin(
        &self,
        repository: &RepositorySpec,
    ) -> Option<PassphraseOrigin> {
        repository.passphrase(&self.passphrase_flags(), &self.env)
    }

    pub(crate) fn passphrase_flags(&self) -> PassphraseFlags {
        PassphraseFlags {
            file: self.global.password_file.clone(),
            command: self.global.password_command.clone(),
        }
    }

    /// The pass phrase of a repository: from its origin, or typed on the terminal.
    pub(crate) async fn passphrase(
        &self,
        repository: &RepositorySpec,
        flags: &PassphraseFlags,
    ) -> CommandResult<Passphrase> {
        match repository.passphrase(flags, &self.env) {
            Some(origin) => self.fetch(&origin).await,
            // Nobody is asked for the pass phrase of a repository that is not there; opening it
            // says so, whatever the pass phrase.
            None if !repository.exists(&self.env).await? => Ok(Passphrase::new("")),
            None => {
                let name = repository.to_string();
                let known = self.typed().get(&name).cloned();
                if let Some(known) = known {
                    return Ok(known);
                }
                let typed = self.ask(&format!("Pass phrase of {repository}: ")).await?;
                self.typed().insert(name, typed.clone());
                Ok(typed)
            }
        }
    }

    fn typed(&self) -> MutexGuard<'_, BTreeMap<String, Passphrase>> {
        lock(&self.typed)
    }

    /// Asks for a pass phrase on the terminal.
    pub(crate) async fn ask(&self, prompt: &str) -> CommandResult<Passphrase> {
        if !self.ui.can_ask() {
            return Err(CommandError::new(
                Kind::Passphrase,
                "no pass phrase is given, and there is no terminal to prompt for it",
            )
            .with_hint(PASSPHRASE_HINT));
        }
        let (ui, prompt) = (Arc::clone(&self.ui), prompt.to_owned());
        self.blocking(move || ui.ask_secret(&prompt)).await
    }

    /// Asks for a pass phrase that is to be new, twice.
    pub(crate) async fn ask_new(&self, prompt: &str) -> CommandResult<Passphrase> {
        let first = self.ask(prompt).await?;
        if first.is_empty() {
            return Err(CommandError::new(Kind::Passphrase, "the pass phrase is empty")
                .with_hint("enter a pass phrase; a repository cannot have an empty one"));
        }
        if first.reveal() != self.ask("Repeat the pass phrase: ").await?.reveal() {
            return Err(CommandError::new(Kind::Passphrase, "the pass phrases differ")
                .with_hint("try again; nothing was changed"));
        }
        Ok(first)
    }

    /// Asks before something is replaced or removed; `--yes` answers.
    pub(crate) async fn confirm(&self, question: &str) -> CommandResult<()> {
        self.confirm_with(format!("{question} [y/N] "), |answer| matches!(answer, "y" | "yes"))
            .await
    }

    /// The same, where the answer has to be this word.
    pub(crate) async fn confirm_by_typing(&self, question: &str, word: &str) -> CommandResult<()> {
        let expected = word.to_owned();
        let is_yes = move |answer: &str| answer == expected;
        self.confirm_with(format!("{question} Type `{word}`: "), is_yes).await
    }

    async fn confirm_with(
        &self,
        question: String,
        is_yes: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> CommandResult<()> {
        self.require_confirmable()?;
        if self.global.yes {
            return Ok(());
        }
        let ui = Arc::clone(&self.ui);
        if self.blocking(move || Ok(is_yes(&ui.ask(&question)?))).await? {
            Ok(())
        } else {
            Err(CommandError::declined("nothing was replaced or removed"))
        }
    }

    /// True if --yes confirms everything: a person may not see the questions.
    pub(crate) fn is_unattended(&self) -> bool {
        self.global.yes
    }

    /// Fails if a confirmation that comes later cannot be given.
    pub(crate) fn require_confirmable(&self) -> CommandResult<()> {
        if self.global.yes || self.ui.can_ask() {
            return Ok(());
        }
        Err(CommandError::unconfirmed(
            "this command needs a confirmation, and there is no terminal to prompt on",
        )
        .with_hint("add --yes to confirm, or show only the plan with --dry-run"))
    }

    /// Runs something that waits for a person, until it is done or the command is cancelled.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> CommandResult<T> + Send + 'static,
    ) -> CommandResult<T> {
        tokio::select! {
            done = tokio::task::spawn_blocking(work) => {
                done.unwrap_or_else(|error| Err(CommandError::new(Kind::Core(ErrorKind::Internal), error.to_string())))
            }
            () = self.cx.cancel.cancelled() => Err(CoreError::cancelled().into()),
        }
    }

    /// Opens a repository.
    pub(crate) async fn open(&self, repository: &RepositorySpec) -> CommandResult<Repository> {
        self.open_with(repository, &self.passphrase_flags()).await
    }

    /// Opens a repository that has pass phrase flags of its own.
    pub(crate) async fn open_with(
        &self,
        repository: &RepositorySpec,
        flags: &PassphraseFlags,
    ) -> CommandResult<Repository> {
        let open = async {
            self.warn_of_exposed(repository.config.iter().flat_map(exposed::files_of_store));
            let passphrase = self.passphrase(repository, flags).await?;
            let opened = repository.open(&passphrase, &self.env).await;
            let origin = repository.passphrase(flags, &self.env);
            let opened =
                opened.map_err(|error| name_origin(error, origin.as_ref(), &passphrase))?;
            // The directory is made when there is something to be kept in it.
            let cache = cache::dir(&self.env).filter(|_| !self.global.no_cache);
            let opened = cache.map_or_else(|| opened.clone(), |dir| opened.with_cache(&dir));
            self.trail.opened(&opened);
            Ok(opened)
        };
        let opened: CommandResult<Repository> = tokio::select! {
            opened = open => opened,
            () = self.cx.cancel.cancelled() => Err(CoreError::cancelled().into()),
        };
        match opened {
            Err(error) if error.is_missing_repository() => {
                Err(Box::pin(self.explain_missing(error, repository)).await)
            }
            opened => opened,
        }
    }

    /// Opens the repository that is meant, with its snapshots and index.
    pub(crate) async fn open_indexed(&self) -> CommandResult<Opened> {
        self.open_indexed_at(&self.repository()?).await
    }

    /// Opens a repository with its snapshots and index.
    pub(crate) async fn open_indexed_at(
        &self,
        repository: &RepositorySpec,
    ) -> CommandResult<Opened> {
        let repository = self.open(repository).await?;
        let snapshots = repository.snapshots(&self.cx).await?;
        let indexed = repository.load_index(&self.cx).await?;
        for (id, error) in indexed.damaged_indexes() {
            self.ui.warning(format_args!("index {} is damaged: {}", id.short(), error.chain()));
        }
        Ok(Opened { snapshots, indexed })
    }
}

/// Adds where a wrong pass phrase came from.
pub(crate) fn name_origin(
    error: ControlError,
    origin: Option<&PassphraseOrigin>,
    passphrase: &Passphrase,
) -> CommandError {
    let is_wrong =
        matches!(&error, ControlError::Core(error) if error.kind() == ErrorKind::WrongPassphrase);
    match origin.filter(|_| is_wrong) {
        Some(origin) => CommandError::from(error).with_hint(origin.hint_if_wrong(passphrase)),
        None => error.into(),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
