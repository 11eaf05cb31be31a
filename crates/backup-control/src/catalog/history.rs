//! The backups of jobs that alert rules compare, selected with work that does not grow with the
//! age of a job.

use jiff::Timestamp;

use super::filter::WHOLE;

/// Newest backups of a job that [`History`] selects, and newest successes of each type.
pub const NEWEST: usize = 25;
/// Newest backups of a job among which successes of each type are searched.
const SEARCHED: usize = 1000;
/// Runs that are backups.
const BACKUPS: &str = "what = 'backup'";
/// States of runs that did their work.
const SUCCESS: &str = "state IN ('verified', 'completed')";

/// Backups of whole jobs: the newest ones, the newest successes of each type, the last success and the
/// first backup.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Names of jobs with the addresses of their repositories.
    pub jobs: Vec<(String, String)>,
    /// Only runs on this host.
    pub host: Option<String>,
    /// Only runs begun before this time.
    pub until: Option<Timestamp>,
}

/// The SQL of one kind of database.
pub(super) struct Dialect {
    /// Table of runs.
    pub(super) table: &'static str,
    /// Expression for the type of a backup; NULL if the evidence is unreadable.
    pub(super) kind: &'static str,
    /// Condition for runs of a job in a repository, on a host and before a time if they are given.
    pub(super) of_job: &'static str,
}

/// The query for the identifiers of the backups of one job, each once.
pub(super) fn identifiers(dialect: &Dialect) -> String {
    let Dialect { table, kind, of_job } = dialect;
    let newest_first = "ORDER BY started DESC, id DESC";
    let recent = format!(
        "SELECT id, started, state, evidence FROM {table} WHERE {BACKUPS} AND {WHOLE} AND {of_job} {newest_first} \
         LIMIT {SEARCHED}"
    );
    let of_type = format!("PARTITION BY {SUCCESS}, {kind} {newest_first}");
    let ranks = format!(
        "row_number() OVER ({newest_first}) AS newest, \
         CASE WHEN {SUCCESS} THEN row_number() OVER ({of_type}) END AS success"
    );
    let ranked = format!("SELECT id, {ranks} FROM ({recent}) AS recent");
    let newest = format!(
        "SELECT id FROM ({ranked}) AS ranked WHERE newest <= {NEWEST} OR success <= {NEWEST}"
    );
    let last = format!(
        "SELECT id FROM (SELECT id FROM {table} WHERE {BACKUPS} AND {WHOLE} AND {of_job} AND {SUCCESS} {newest_first} \
         LIMIT 1) AS last"
    );
    let first = format!(
        "SELECT id FROM (SELECT id FROM {table} WHERE {BACKUPS} AND {WHOLE} AND {of_job} ORDER BY started, id LIMIT 1) AS \
         first"
    );
    format!("{newest} UNION {last} UNION {first}")
}
