//! The repositories of a command: the only one that the flags can mean, or each of several. Verbs
//! that only read work on each, one after another; all others need exactly one.

use backup_control::catalog::RunFilter;
use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::{self, Choice, Search};
use backup_control::state;
use backup_core::error::ErrorKind;
use backup_core::id::SnapshotId;
use serde::Serialize;
use serde_json::Value;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::job_names::JobNames;
use crate::records::{self, Records};
use crate::session::Session;
use crate::style::{self, paint};
use crate::trail::{self, Action};
use crate::ui::SCHEMA_VERSION;

impl Session {
    /// The only repository that the flags can mean.
    pub(crate) fn repository(&self) -> CommandResult<RepositorySpec> {
        self.repository_of(None)
    }

    /// The only repository that the flags and the job can mean.
    pub(crate) fn repository_of(&self, job: Option<&str>) -> CommandResult<RepositorySpec> {
        match <[RepositorySpec; 1]>::try_from(self.possible_repositories(job)?) {
            Ok([only]) => Ok(only),
            Err(_) => {
                Ok(RepositorySpec::only(self.config()?.as_ref().map(|loaded| &loaded.config))?)
            }
        }
    }

    /// All repositories that the flags and the job can mean; at least one.
    pub(crate) fn repositories(&self, job: Option<&str>) -> CommandResult<Vec<RepositorySpec>> {
        let possible = self.possible_repositories(job)?;
        if possible.is_empty() { Ok(vec![self.repository_of(job)?]) } else { Ok(possible) }
    }

    /// The repository that `--repo` or `BACKUP_REPO` names, else that of the job, else all of the
    /// configuration.
    fn possible_repositories(&self, job: Option<&str>) -> CommandResult<Vec<RepositorySpec>> {
        if let Some(named) = self.named_repository()? {
            return Ok(vec![named]);
        }
        if let Some(name) = self.env.text("BACKUP_REPO") {
            return Ok(vec![self.resolve(name)?]);
        }
        let Some(loaded) = self.config()? else { return Ok(Vec::new()) };
        let config = &loaded.config;
        let names = match job.and_then(|job| config.jobs.get(job)) {
            Some(job) => vec![&job.repository],
            None => config.repositories.keys().collect(),
        };
        Ok(names
            .into_iter()
            .map(|name| RepositorySpec::named(name, config))
            .collect::<Result<_, _>>()?)
    }

    /// The repository that the flags name.
    pub(crate) fn named_repository(&self) -> CommandResult<Option<RepositorySpec>> {
        self.global.repo.as_deref().map(|name| self.resolve(name)).transpose()
    }

    /// The repository called `name`: a name in the configuration, else an address.
    pub(crate) fn resolve(&self, name: &str) -> CommandResult<RepositorySpec> {
        // An address needs no configuration: a mistake there must not stand in the way.
        let config = if name.contains('/') { None } else { self.config()? };
        Ok(RepositorySpec::resolve(name, config.as_ref().map(|loaded| &loaded.config))?)
    }

    /// The only repository that the flags and the job can mean, or the one that holds the snapshots
    /// with these identifiers.
    pub(crate) async fn repository_with(
        &self,
        job: Option<&str>,
        names: &[&str],
        choice: &Choice,
    ) -> CommandResult<RepositorySpec> {
        let possible = self.possible_repositories(job)?;
        // `latest` and moments mean a snapshot in each repository.
        if possible.len() < 2 || names.iter().any(|name| !snapshots::is_identifier(name)) {
            return self.repository_of(job);
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match &holding(self, possible, &names, choice).await?[..] {
            [Holding { spec, .. }] => Ok(spec.clone()),
            _ => Err(CommandError::usage("the snapshots are in different repositories")
                .with_hint("name snapshots of one repository")),
        }
    }
}

impl Session {
    /// Names the last backup into a repository that is missing now. A new repository in its place
    /// would hide the old one, for instance on a disk that is not mounted.
    pub(crate) async fn explain_missing(
        &self,
        error: CommandError,
        repository: &RepositorySpec,
    ) -> CommandError {
        // Without the directory there is no catalog, and none is created for this.
        if !state::dir(&self.env).is_some_and(|dir| dir.exists()) {
            return error;
        }
        let filter = RunFilter {
            repository: Some(records::place(repository)),
            successful: true,
            backups: true,
            limit: Some(1),
            ..RunFilter::default()
        };
        let Some(records) = Records::open(self).await else { return error };
        let Ok(found) = records.catalog.runs(&filter).await else { return error };
        let last = found.runs.into_iter().next();
        match last.and_then(|run| Some((run.started, run.evidence.snapshot?))) {
            Some((time, snapshot)) => {
                let short: String = snapshot.chars().take(8).collect();
                let time = human::full_time(time, self.zone());
                error.with_hint(format!(
                    "a backup of {time} stored snapshot {short} there: mount the disk or share, \
                     or correct the address; do not create a new repository in its place"
                ))
            }
            None => error,
        }
    }
}

/// A repository with the names of the snapshots that it holds, among those that are given.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) spec: RepositorySpec,
    pub(crate) names: Vec<String>,
}

impl Holding {
    /// All repositories that the flags and the job can mean, where no snapshot is named.
    pub(crate) fn all(session: &Session, job: Option<&str>) -> CommandResult<Vec<Self>> {
        let specs = session.repositories(job)?;
        Ok(specs.into_iter().map(|spec| Self { spec, names: Vec::new() }).collect())
    }
}

/// The repositories that hold snapshots called `names`. An identifier means one snapshot in all of
/// them; `latest` and moments mean one in each that has such a snapshot. Only one repository is not
/// searched.
pub(crate) async fn holding(
    session: &Session,
    specs: Vec<RepositorySpec>,
    names: &[String],
    choice: &Choice,
) -> CommandResult<Vec<Holding>> {
    if specs.len() == 1 || names.is_empty() {
        let holding = |spec| Holding { spec, names: names.to_vec() };
        return Ok(specs.into_iter().map(holding).collect());
    }
    let (mut found, mut missing) = (Vec::<(Holding, Vec<SnapshotId>)>::new(), Vec::new());
    let mut jobs = JobNames::default();
    for spec in specs {
        let repository =
            session.open(&spec).await.map_err(|error| error.context(heading(&spec)))?;
        let list = repository.snapshots(&session.cx).await?;
        jobs.add(&list);
        let (now, cx) = (session.now(), &session.cx);
        let search = Search { repository: &repository, list: &list, now: &now, cx };
        let (mut here, mut ids) = (Vec::new(), Vec::new());
        for name in names {
            match search.find(name, choice).await.map_err(CommandError::from) {
                Ok(snapshot) => {
                    here.push(name.clone());
                    ids.push(snapshot.info.id);
                }
                Err(error) if error.is_not_found() => missing.push((name, error)),
                Err(error) => return Err(error.context(heading(&spec))),
            }
        }
        found.push((Holding { spec, names: here }, ids));
    }
    jobs.require(session, choice.filter.job.as_deref())?;
    for name in names {
        require_found_once(name, &found)?;
    }
    let is_found = |name: &String| found.iter().any(|(holding, _)| holding.names.contains(name));
    if let Some((_, error)) = missing.into_iter().find(|(name, _)| !is_found(name)) {
        return Err(error);
    }
    Ok(found.into_iter().map(|(holding, _)| holding).filter(|one| !one.names.is_empty()).collect())
}

/// Refuses the beginning of an identifier that several repositories have.
fn require_found_once(name: &String, found: &[(Holding, Vec<SnapshotId>)]) -> CommandResult<()> {
    let having = found.iter().filter(|(holding, _)| holding.names.contains(name));
    let places: Vec<&str> = having.map(|(holding, _)| label(&holding.spec)).collect();
    if places.len() < 2 || !snapshots::is_identifier(name) {
        return Ok(());
    }
    let text = format!("several repositories have a snapshot {name}: {}", places.join(", "));
    Err(CommandError::new(Kind::Core(ErrorKind::Ambiguous), text)
        .with_hint("name one repository with `-r`, or give more of the identifier"))
}

/// The name of a repository of the configuration.
fn label(spec: &RepositorySpec) -> &str {
    spec.name.as_deref().unwrap_or_default()
}

fn heading(spec: &RepositorySpec) -> String {
    format!("repository {}", human::text(label(spec).as_bytes()))
}

/// Does `work` in each repository and returns the worst result: damage, then failure, then
/// warnings. With several, the name of each heads its output, and the audit log has a record of
/// `action` for each. An error of one does not keep the others from being read.
pub(crate) async fn each(
    session: &Session,
    places: &[Holding],
    action: Option<Action>,
    mut work: impl AsyncFnMut(&Holding) -> CommandResult,
) -> CommandResult {
    if let [only] = places {
        return work(only).await;
    }
    let mut worst = Outcome::Success;
    for (at, place) in places.iter().enumerate() {
        let spec = &place.spec;
        if !session.ui.is_json() {
            let heading = format!("{}:", human::text(label(spec).as_bytes()));
            let space = if at > 0 { "\n" } else { "" };
            session.ui.print(format_args!("{space}{}", paint(style::HEADING, heading)))?;
        }
        let result = work(place).await;
        if let Some(action) = action {
            trail::in_repository(session, action, spec, result.as_ref().copied()).await;
        }
        worst = worst.or_worse(match result {
            Ok(outcome) => outcome,
            Err(error) if error.is_cancelled() || error.is_silent() => return Err(error),
            Err(error) => {
                let code = error.exit_code();
                session.ui.error(&error.context(heading(spec)));
                Outcome::Failed(code)
            }
        });
    }
    Ok(worst)
}

/// The JSON objects of repositories: the only one as it is, several within one object.
#[derive(Debug)]
pub(crate) struct Objects {
    several: Option<Vec<Value>>,
}

#[derive(Serialize)]
struct ObjectsJson {
    schema_version: u32,
    repositories: Vec<Value>,
}

impl Objects {
    pub(crate) fn of(number: usize) -> Self {
        Self { several: (number > 1).then(Vec::new) }
    }

    /// Prints the object of the only repository, or keeps that of one of several.
    pub(crate) fn add(&mut self, session: &Session, object: &impl Serialize) -> CommandResult<()> {
        let Some(several) = &mut self.several else { return session.ui.json(object) };
        let object = serde_json::to_value(object)
            .map_err(|error| CommandError::new(Kind::Io, format!("cannot write JSON: {error}")))?;
        several.push(object);
        Ok(())
    }

    /// Prints the objects of several repositories.
    pub(crate) fn finish(self, session: &Session) -> CommandResult<()> {
        match self.several {
            Some(repositories) if session.ui.is_json() => {
                session.ui.json(&ObjectsJson { schema_version: SCHEMA_VERSION, repositories })
            }
            _ => Ok(()),
        }
    }
}

/// A JSON object with the name of its repository in the configuration.
#[derive(Serialize)]
pub(crate) struct InRepository<'a, T> {
    #[serde(flatten)]
    object: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_name: Option<&'a str>,
}

impl<'a, T> InRepository<'a, T> {
    pub(crate) fn new(spec: &'a RepositorySpec, object: T) -> Self {
        Self { object, repository_name: spec.name.as_deref() }
    }
}
