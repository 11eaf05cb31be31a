//! Runs as rows of a table in PostgreSQL.

use bytes::BytesMut;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::super::Found;
use super::super::error::{Cause, Error, Result};
use super::super::filter::{self, Value};
use super::super::history::{self, Dialect};
use crate::runs::{Run, RunId, State, What};

/// The columns in the order of [`values`] and [`read`].
pub(super) const COLUMNS: &str =
    "id, what, job, repository, state, started, finished, host, \"user\", pid, evidence";

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Cause> {
        match self {
            Self::Nothing => Ok(IsNull::Yes),
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Number(number) => number.to_sql_checked(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        <String as ToSql>::accepts(kind) || <i64 as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

/// The values of a row.
pub(super) fn values(run: &Run) -> Result<[Value; 11]> {
    filter::values(run).map_err(|error| Error::Server {
        catalog: String::new(),
        hint: "report this as a bug".to_owned(),
        cause: error.into(),
    })
}

/// The run of a row.
pub(super) fn read(row: &Row) -> Result<Run, Cause> {
    let (what, state): (&str, &str) = (row.try_get(1)?, row.try_get(4)?);
    let unknown = |text: &str| format!("unknown value {text:?}");
    let finished: Option<i64> = row.try_get(6)?;
    let id: String = row.try_get(0)?;
    // Files are named by it here, and another machine wrote it.
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(unknown(&id).into());
    }
    Ok(Run {
        id: RunId::stored(id),
        what: What::stored(what).ok_or_else(|| unknown(what))?,
        job: row.try_get(2)?,
        repository: row.try_get(3)?,
        state: State::stored(state).ok_or_else(|| unknown(state))?,
        started: Timestamp::from_millisecond(row.try_get(5)?)?,
        finished: finished.map(Timestamp::from_millisecond).transpose()?,
        host: row.try_get(7)?,
        user: row.try_get(8)?,
        pid: row.try_get::<_, i64>(9)?.try_into()?,
        evidence: serde_json::from_str(row.try_get(10)?)?,
    })
}

/// The SQL of PostgreSQL. Within texts of the evidence, quotes have a backslash before them.
const DIALECT: Dialect = Dialect {
    table: "backup_runs",
    kind: r#"substring(evidence from '"type":"([a-z]+)"')"#,
    of_job: "job = wanted.job AND repository = wanted.repository AND \
             ($3::text IS NULL OR host = $3) AND ($4::bigint IS NULL OR started < $4)",
};

/// The query for the history of jobs: its parameters are their names, their repositories, the
/// host and a time in milliseconds.
pub(super) fn history() -> String {
    let identifiers = history::identifiers(&DIALECT);
    format!(
        "SELECT {COLUMNS} FROM backup_runs WHERE id IN (SELECT found.id FROM \
         unnest($1::text[], $2::text[]) AS wanted (job, repository), LATERAL ({identifiers}) AS \
         found) ORDER BY started DESC, id DESC"
    )
}

/// Runs of rows. One that holds no run is counted only.
pub(super) fn found(rows: &[Row]) -> Found {
    let mut found = Found::default();
    for row in rows {
        match read(row) {
            Ok(run) => found.runs.push(run),
            Err(_) => found.unreadable += 1,
        }
    }
    found
}
