//! Groups of flags that several verbs share, and the parsers of their values.

use std::ops::Range;

use backup_control::config::{JobType, MethodConfig};
use backup_control::moment::Moment;
use backup_control::patterns;
use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::Choice;
use backup_core::compress::Compression;
use backup_core::repository::SnapshotFilter;
use backup_core::source::Selection;
use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};

use crate::command_error::{CommandError, CommandResult};
use crate::session::Session;

/// Filters for snapshots.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Snapshot filters")]
pub(crate) struct FilterArgs {
    /// Only snapshots of this job
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Only snapshots of this kind of source, for instance `files`
    #[arg(long, value_name = "KIND")]
    pub(crate) source: Option<String>,
    /// Only snapshots of this tier
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only snapshots with this tag; repeat for several tags that must all be set
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Only snapshots of this day, for instance `yesterday`, `today` or `2026-11-21`
    #[arg(long, value_name = "DAY")]
    pub(crate) date: Option<String>,
}

impl FilterArgs {
    /// True if no filter is given.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { job, source, tier, host, tags, date } = self;
        [job, source, tier, host, date].into_iter().all(Option::is_none) && tags.is_empty()
    }

    /// The only repository of the snapshots that is meant.
    pub(crate) fn repository(&self, session: &Session) -> CommandResult<RepositorySpec> {
        session.repository_of(self.job.as_deref())
    }

    pub(crate) fn choice(&self, session: &Session) -> CommandResult<Choice> {
        let filter = SnapshotFilter {
            job: self.job.clone(),
            host: self.host.clone(),
            source: self.source.clone(),
            tier: self.tier.clone(),
            paths: None,
            tags: self.tags.clone(),
        };
        let day = |date: &String| Ok::<_, CommandError>(session.moment(date)?.day(session.zone())?);
        Ok(Choice { filter, within: self.date.as_ref().map(day).transpose()?, skip_damaged: false })
    }
}

/// Filters for snapshots, and the treatment of names behind which a damaged snapshot may be.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Snapshot filters")]
pub(crate) struct NamingArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Accept an older snapshot for `latest` or a moment if newer ones are damaged or missing
    #[arg(long)]
    skip_damaged: bool,
}

impl NamingArgs {
    /// True if no filter is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.filter.is_empty()
    }

    /// The only repository that is meant.
    pub(crate) fn repository(&self, session: &Session) -> CommandResult<RepositorySpec> {
        self.filter.repository(session)
    }

    /// The only repository that is meant, or the one that holds the snapshots with these
    /// identifiers.
    pub(crate) async fn repository_with(
        &self,
        session: &Session,
        names: &[&str],
    ) -> CommandResult<RepositorySpec> {
        session.repository_with(self.job(), names, &self.choice(session)?).await
    }

    /// The job that is meant.
    pub(crate) fn job(&self) -> Option<&str> {
        self.filter.job.as_deref()
    }

    pub(crate) fn choice(&self, session: &Session) -> CommandResult<Choice> {
        Ok(Choice { skip_damaged: self.skip_damaged, ..self.filter.choice(session)? })
    }
}

/// Time filters for snapshots.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Snapshot filters")]
pub(crate) struct TimeArgs {
    /// Only snapshots before this moment, for instance `2026-11-21 14:30` or `2h ago`; a day means
    /// its beginning
    #[arg(long, value_name = "MOMENT")]
    before: Option<String>,
    /// Only snapshots from this moment on; a day means its beginning
    #[arg(long, value_name = "MOMENT")]
    after: Option<String>,
    /// Only snapshots of the last NUMBER days of 24 hours
    #[arg(long, value_name = "NUMBER", conflicts_with = "after", value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: Option<i64>,
}

impl TimeArgs {
    /// The time that is meant.
    pub(crate) fn within(&self, session: &Session) -> CommandResult<Range<Timestamp>> {
        let begin = |text: &String| {
            Ok::<_, CommandError>(match session.moment(text)? {
                Moment::Instant(instant) => instant,
                Moment::Day(day) => day.start,
            })
        };
        let now = session.cx.clock.now();
        let start = match (&self.after, self.days) {
            (Some(text), _) => begin(text)?,
            (None, Some(days)) => {
                now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN)
            }
            (None, None) => Timestamp::MIN,
        };
        Ok(start..self.before.as_ref().map_or(Ok(Timestamp::MAX), begin)?)
    }
}

/// Type of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypeArg {
    /// Read everything
    Full,
    /// Read the changes since the last snapshot
    Incremental,
    /// Read the changes since the last full snapshot
    Differential,
}

impl From<TypeArg> for JobType {
    fn from(arg: TypeArg) -> Self {
        match arg {
            TypeArg::Full => Self::Full,
            TypeArg::Incremental => Self::Incremental,
            TypeArg::Differential => Self::Differential,
        }
    }
}

/// Understands a degree of compression.
pub(crate) fn compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|error: backup_core::error::Error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

/// Takes a glob, or a list of globs. An empty one, as of an unset variable in a script, would select
/// everything.
pub(crate) fn glob(text: &str) -> Result<String, String> {
    if text.chars().all(|letter| letter.is_whitespace() || letter == ',') {
        return Err(
            "an empty pattern selects nothing; leave the flag out to select everything".to_owned()
        );
    }
    Ok(text.to_owned())
}

/// Builds a selection from globs for a snapshot, by its tag `source`: those of databases may be lists
/// with commas.
pub(crate) fn selection_of(
    source: Option<&str>,
    include: &[String],
    exclude: &[String],
) -> CommandResult<Selection> {
    let split = |lists| patterns::split_for(source, lists);
    selection(&split(include), &split(exclude))
}

/// Names the patterns of a selection that have matched nothing; returns their number.
pub(crate) fn warn_of_unmatched(session: &Session, selection: &Selection) -> u64 {
    let unmatched = selection.unmatched();
    for pattern in &unmatched {
        session.ui.warning(format_args!("the pattern {pattern:?} matches nothing"));
    }
    unmatched.len() as u64
}

/// Builds a selection from globs.
pub(crate) fn selection(include: &[String], exclude: &[String]) -> CommandResult<Selection> {
    Selection::new(include.to_vec(), exclude.to_vec()).map_err(|error| {
        CommandError::usage(error.to_string()).with_hint(backup_control::jobs::GLOB_HINT)
    })
}

/// Backup method for PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// Copy the data directory of the whole cluster, whose log can be captured
    Physical,
    /// Dump databases as SQL
    Logical,
}

impl From<MethodArg> for MethodConfig {
    fn from(arg: MethodArg) -> Self {
        match arg {
            MethodArg::Physical => Self::Physical,
            MethodArg::Logical => Self::Logical,
        }
    }
}
