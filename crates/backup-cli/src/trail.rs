//! Audit records of commands. A command that cannot be recorded ends with exit code 3.
//!
//! | file | contents |
//! |---|---|
//! | `trail.rs` | recording |
//! | `trail/anchor.rs` | anchors in repositories, announcements to channels |

mod anchor;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use backup_control::alerts::Affected;
use backup_control::audit::{self, Appended, Audit, Class, Record, Status};
use backup_control::repositories::RepositorySpec;
use backup_control::runs::{Run, State, What};
use backup_control::state;
use backup_core::id::SnapshotId;
use backup_core::repository::Repository;

pub(crate) use self::anchor::everywhere as anchor_everywhere;
use crate::cli::Command;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::records;
use crate::session::{Session, lock};

/// The warning about an operation that is missing in the audit log.
const UNRECORDED: &str = "the operation is not recorded in the audit log";

/// What is known of the command that goes on.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// What was typed, without the program.
    words: Vec<String>,
    /// The same with what was chosen on a terminal instead.
    chosen: OnceLock<Vec<String>>,
    /// Records of it so far.
    told: AtomicUsize,
    /// Each repository was recorded by itself.
    is_told_apart: AtomicBool,
    notes: Mutex<BTreeMap<&'static str, String>>,
    affected: Mutex<Affected>,
    opened: Mutex<Vec<Repository>>,
    /// The broken configuration because of which runs are not recorded.
    unrecorded: Mutex<Option<CommandError>>,
    /// Something was done and is not recorded.
    lacks_record: AtomicBool,
}

impl Trail {
    pub(crate) fn new(words: Vec<String>) -> Self {
        Self { words, ..Self::default() }
    }

    /// The words of the command.
    pub(crate) fn words(&self) -> &[String] {
        self.chosen.get().unwrap_or(&self.words)
    }

    /// Notes the words that would have said what was chosen on a terminal.
    pub(crate) fn chosen(&self, words: Vec<String>) {
        // Nobody chooses twice in one command.
        _ = self.chosen.set(words);
    }

    /// How many records there are of this command.
    pub(crate) fn told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }

    /// More about what is being done.
    pub(crate) fn note(&self, name: &'static str, value: impl Into<String>) {
        lock(&self.notes).insert(name, value.into());
    }

    /// Notes the snapshots that it is about.
    pub(crate) fn snapshots<'a>(&self, ids: impl IntoIterator<Item = &'a SnapshotId>) {
        let ids: Vec<String> = ids.into_iter().map(SnapshotId::short).collect();
        if !ids.is_empty() {
            // A cleanup is about one job after the other.
            let mut notes = lock(&self.notes);
            let noted = notes.entry("snapshots").or_default();
            *noted =
                if noted.is_empty() { ids.join(" ") } else { format!("{noted} {}", ids.join(" ")) };
        }
    }

    /// The jobs and repositories that it has changed so far.
    pub(crate) fn affected(&self) -> Affected {
        lock(&self.affected).clone()
    }

    /// Notes a repository that was opened: there it is noted how far the audit log has got.
    pub(crate) fn opened(&self, repository: &Repository) {
        let mut opened = lock(&self.opened);
        if !opened.iter().any(|known| known.config().id == repository.config().id) {
            opened.push(repository.clone());
        }
    }

    /// Notes that runs are not recorded because the configuration is broken.
    pub(crate) fn unrecorded(&self, error: CommandError) {
        lock(&self.unrecorded).get_or_insert(error);
    }

    /// Notes that something was done and is not recorded.
    pub(crate) fn lacks_record(&self) {
        self.lacks_record.store(true, Ordering::Relaxed);
    }

    /// The result of a recorded command: at least a warning if a record is missing.
    pub(crate) fn outcome(&self, outcome: Outcome) -> Outcome {
        if self.lacks_record.load(Ordering::Relaxed) {
            outcome.or_worse(Outcome::Warnings)
        } else {
            outcome
        }
    }

    fn is_rehearsal(&self) -> bool {
        self.words()
            .iter()
            .take_while(|word| *word != "--")
            .any(|word| word == "--dry-run" || word == "--check")
    }
}

/// What a command does, if it is recorded: all that changes something or gives data out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action {
    pub(crate) operation: &'static str,
    pub(crate) class: Class,
    /// Each run of it is recorded by itself.
    pub(crate) has_runs: bool,
}

impl Action {
    pub(crate) const fn new(operation: &'static str, class: Class) -> Self {
        Self { operation, class, has_runs: false }
    }

    pub(crate) const BACKUP: Self = Self::new("backup", Class::Operation);

    /// What a command does.
    pub(crate) fn of(command: &Command) -> Option<Self> {
        let (operation, class) = match command {
            Command::Run(_) | Command::Retry(_) | Command::Quickstart(_) => {
                ("backup", Class::Operation)
            }
            Command::Restore(args) => (args.operation(), Class::Access),
            Command::Export(_) => ("export", Class::Access),
            Command::Init(_) => ("init", Class::Compliance),
            Command::Import(_) => ("import", Class::Operation),
            Command::Copy(_) => ("copy", Class::Operation),
            Command::Archive(args) if args.removes() => ("archive", Class::Compliance),
            Command::Archive(_) => ("archive", Class::Operation),
            Command::Verify(_) => ("verify", Class::Operation),
            Command::Check(_) => ("check", Class::Operation),
            Command::Hold(_) => ("hold", Class::Compliance),
            Command::Release(_) => ("release", Class::Compliance),
            Command::Forget(_) => ("forget", Class::Compliance),
            Command::UndoForget(_) => ("undo-forget", Class::Compliance),
            Command::Cleanup(_) => ("cleanup", Class::Compliance),
            Command::Prune(_) => ("prune", Class::Compliance),
            Command::Repair(_) => ("repair", Class::Compliance),
            Command::Migrate(_) => ("migrate", Class::Compliance),
            Command::Key(args) => (args.operation()?, Class::Compliance),
            Command::Catalog(_) => ("catalog rebuild", Class::Compliance),
            Command::Notify(args) => (args.operation()?, Class::Compliance),
            Command::Report(_) => ("report", Class::Compliance),
            Command::Alerts(args) => (args.operation()?, Class::Compliance),
            Command::Logs(args) => (args.operation()?, Class::Operation),
            _ => return None,
        };
        let has_runs = matches!(operation, "backup" | "restore");
        Some(Self { has_runs, ..Self::new(operation, class) })
    }
}

/// Records what came of a command, unless each of its runs was recorded, and notes in the
/// repositories how far the log has got.
pub(crate) async fn record(session: &Session, action: Action, result: &CommandResult) {
    let trail = &session.trail;
    // Whoever asks wrongly has done nothing; but what was recorded as begun has to end.
    let is_begun = action.class == Class::Access;
    if trail.is_rehearsal() || !is_begun && matches!(result, Err(error) if error.is_usage()) {
        return;
    }
    let is_told_apart = trail.is_told_apart.load(Ordering::Relaxed);
    if !(is_told_apart || action.has_runs && trail.told() > 0) {
        if action.operation == "restore"
            && let Err(error) = result
            && !error.is_of_user()
        {
            let job = lock(&trail.notes).get("job").cloned().unwrap_or_default();
            records::restore_not_started(session, &job, error).await;
            lock(&trail.affected).jobs.insert(job);
        }
        failed_or_done(session, action, result.as_ref().copied()).await;
    }
    retain(session).await;
    // Who could not be reached just now is not asked again.
    if trail.told() > 0 && !matches!(result, Err(error) if error.may_pass() || error.is_cancelled())
    {
        Box::pin(anchor::afterwards(session, action)).await;
    }
}

/// Warns that runs are not recorded, unless the command failed because of the same broken
/// configuration.
pub(crate) fn warn_of_unrecorded(session: &Session, result: &CommandResult) {
    let unrecorded = lock(&session.trail.unrecorded).take();
    if let Some(error) = unrecorded
        && !matches!(result, Err(failure) if failure.is_config())
    {
        records::warn_unrecorded(session, "runs are not recorded", &error);
    }
}

/// Records that data begins to be given out, also if the process dies before anything more can be
/// recorded.
pub(crate) async fn begun(session: &Session, action: Action) {
    if action.class == Class::Access && !session.trail.is_rehearsal() {
        let now = session.cx.clock.now();
        let record =
            Record::new(action.operation, action.class, Status::Started, &session.machine, now);
        append(session, record).await;
        // What came of it is told apart.
        session.trail.told.store(0, Ordering::Relaxed);
    }
}

/// Records that a job was not even begun.
pub(crate) async fn not_begun(session: &Session, job: &str, error: &CommandError) {
    let now = session.cx.clock.now();
    let record = Record::new("backup", Class::Operation, Status::Failure, &session.machine, now);
    append(session, record.with("job", job).with("error", error.chain())).await;
}

/// Records the result of a command in one of several repositories.
pub(crate) async fn in_repository(
    session: &Session,
    action: Action,
    spec: &RepositorySpec,
    result: Result<Outcome, &CommandError>,
) {
    session.trail.note("repository", records::place(spec));
    failed_or_done(session, action, result).await;
    session.trail.is_told_apart.store(true, Ordering::Relaxed);
    let mut notes = lock(&session.trail.notes);
    notes.remove("repository");
    notes.remove("snapshots");
}

/// Records what came of a command or a part of it.
pub(crate) async fn failed_or_done(
    session: &Session,
    action: Action,
    result: Result<Outcome, &CommandError>,
) {
    let status = match result {
        Ok(Outcome::Success) => Status::Success,
        Ok(Outcome::Warnings) => Status::Warnings,
        // Whoever reads it has enough: data was given out all the same.
        Err(error) if error.is_cancelled() || error.is_silent() => Status::Cancelled,
        Err(error) if error.is_declined() => Status::Declined,
        Ok(_) | Err(_) => Status::Failure,
    };
    let now = session.cx.clock.now();
    let mut record = Record::new(action.operation, action.class, status, &session.machine, now);
    if let Err(error) = result {
        record = record.with("error", error.chain());
    }
    if matches!(result, Ok(Outcome::Damage)) || matches!(result, Err(error) if error.is_damage()) {
        record = record.with(audit::DAMAGE, "yes");
    }
    for (name, value) in &*lock(&session.trail.notes) {
        record = record.with(name, value.clone());
    }
    // The repository that would be asked for, unless the verb has noted another.
    if let (false, Ok(spec)) = (record.details.contains_key("repository"), session.repository()) {
        record = record.with("repository", records::place(&spec));
    }
    append(session, record).await;
}

/// Records a run whose process died, which nobody has recorded.
pub(crate) async fn closed(session: &Session, run: &Run) {
    let told = session.trail.told();
    self::run(session, run).await;
    // This command has not done it.
    session.trail.told.store(told, Ordering::Relaxed);
}

/// Records a run that has ended.
pub(crate) async fn run(session: &Session, run: &Run) {
    let action = match run.what {
        What::Backup => Action::BACKUP,
        What::Group => Action::new("backup group", Class::Operation),
        What::Restore => Action::new("restore", Class::Access),
    };
    let status = match run.state {
        State::Cancelled => Status::Cancelled,
        state if !state.is_success() => Status::Failure,
        _ if run.evidence.warnings > 0 => Status::Warnings,
        _ => Status::Success,
    };
    let now = session.cx.clock.now();
    let evidence = &run.evidence;
    let mut record = Record::new(action.operation, action.class, status, &session.machine, now)
        .with("run", run.id.as_str())
        .with("job", run.job.clone())
        .with("repository", run.repository.clone())
        .with(if run.what == What::Restore { "target" } else { "source" }, evidence.subject.clone())
        .with("snapshot", evidence.snapshot.clone().unwrap_or_default())
        .with("bytes", evidence.bytes.to_string());
    if let Some(failure) = &evidence.failure {
        record = record.with("error", failure.message.clone());
    }
    append(session, record).await;
}

async fn append(session: &Session, record: Record) {
    lock(&session.trail.affected).add(&record);
    let Some(dir) = state::dir(&session.env) else {
        let error = CommandError::new(Kind::Io, "no state directory is known")
            .with_hint("set BACKUP_STATE_DIR to a directory");
        return records::warn_unrecorded(session, UNRECORDED, &error);
    };
    let record = record
        .on_behalf(&session.env)
        .with("command", audit::without_secrets(session.trail.words()))
        .with("sudo_user", session.env.text("SUDO_USER").unwrap_or_default());
    let (file, used) = session.config_file();
    let (machine, now) = (session.machine.clone(), session.cx.clock.now());
    let env = session.env.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let audit = Audit::in_state(&dir).shipped(&env);
        // That a change is not noted keeps nothing else from being recorded.
        let noted =
            file.map_or(Ok(false), |file| audit.note_configuration(&file, used, &machine, now));
        (audit.append(record, &machine), noted)
    });
    match writing.await {
        Ok((Ok(Appended { put_aside, not_shipped, .. }), noted)) => {
            session.trail.told.fetch_add(1, Ordering::Relaxed);
            if let Some(aside) = put_aside {
                session.ui.warning(format_args!(
                    "the damaged audit log was moved to {}",
                    aside.display()
                ));
                session
                    .ui
                    .hint("find out who changed the damaged log; a new audit log was started");
            }
            if let Some((socket, error)) = not_shipped {
                let socket = socket.display();
                session
                    .ui
                    .warning(format_args!("cannot send the audit record to {socket}: {error}"));
            }
            if let Err(error) = noted {
                warn(session, &error);
            }
        }
        Ok((Err(error), _)) => warn(session, &error),
        Err(error) => {
            let error = CommandError::new(Kind::Io, error.to_string());
            records::warn_unrecorded(session, UNRECORDED, &error);
        }
    }
}

fn warn(session: &Session, error: &audit::Error) {
    let error = CommandError::from_error(Kind::Io, error);
    records::warn_unrecorded(session, UNRECORDED, &error);
}

/// Removes what records said whose time is over, if the configuration says when that is.
async fn retain(session: &Session) {
    let keep = session.config().ok().flatten().and_then(|loaded| loaded.config.audit.keep.clone());
    let (Some(keep), Some(dir)) = (keep, state::dir(&session.env)) else { return };
    let (machine, now) = (session.machine.clone(), session.cx.clock.now());
    let Ok(cut_offs) = keep.cut_offs(now, &session.calendar_zone()) else { return };
    let audit = Audit::in_state(&dir).shipped(&session.env);
    let work = move || audit.retain_daily(&cut_offs, &machine, now);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
        warn(session, &error);
    }
}
