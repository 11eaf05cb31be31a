//! Runs as rows of a table in SQLite.

use jiff::Timestamp;
use rusqlite::types::{Null, ToSqlOutput, Type};
use rusqlite::{Row, ToSql};

use super::RunFilter;
use super::filter::{self, Value};
use super::history::{self, Dialect};
use crate::runs::{Run, RunId, State, What};

/// The columns in the order of [`values`] and [`read`].
pub(super) const COLUMNS: &str =
    "id, what, job, repository, state, started, finished, host, user, pid, evidence";

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Nothing => Ok(ToSqlOutput::from(Null)),
            Self::Text(text) => text.to_sql(),
            Self::Number(number) => number.to_sql(),
        }
    }
}

/// The values of a row.
pub(super) fn values(run: &Run) -> rusqlite::Result<[Value; 11]> {
    filter::values(run).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The run of a row.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: RunId::stored(row.get(0)?),
        what: known(row, 1, What::stored)?,
        job: row.get(2)?,
        repository: row.get(3)?,
        state: known(row, 4, State::stored)?,
        started: time(5, row.get(5)?)?,
        finished: row.get::<_, Option<i64>>(6)?.map(|millis| time(6, millis)).transpose()?,
        host: row.get(7)?,
        user: row.get(8)?,
        pid: row.get(9)?,
        evidence: serde_json::from_str(&row.get::<_, String>(10)?)
            .map_err(|error| unknown(10, error))?,
    })
}

fn known<T>(row: &Row<'_>, at: usize, of: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    of(&text).ok_or_else(|| unknown(at, format!("unknown value {text:?}")))
}

fn time(at: usize, millis: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|error| unknown(at, error))
}

fn unknown(at: usize, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, why.into())
}

/// The query for what a filter means, and its parameters.
pub(super) fn query(filter: &RunFilter) -> (String, Vec<Value>) {
    let (clause, values) = filter::clause(filter, |number| format!("?{number}"));
    // Few have not ended: without a word about it, all would be looked at in their order.
    let index = if filter.unfinished { " INDEXED BY runs_unfinished" } else { "" };
    (format!("SELECT {COLUMNS} FROM runs{index}{clause}"), values)
}

/// The SQL of SQLite.
const DIALECT: Dialect = Dialect {
    table: "runs",
    kind: "CASE WHEN json_valid(evidence) THEN json_extract(evidence, '$.type') END",
    of_job: "job = ?1 AND repository = ?2 AND (?3 IS NULL OR host = ?3) AND \
             (?4 IS NULL OR started < ?4)",
};

/// The query for the history of a job: its parameters are job, repository, host and a time in
/// milliseconds.
pub(super) fn history() -> String {
    let identifiers = history::identifiers(&DIALECT);
    format!("SELECT {COLUMNS} FROM runs WHERE id IN ({identifiers}) ORDER BY started DESC, id DESC")
}
