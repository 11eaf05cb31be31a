//! What all databases have in common: the values of a row, and the query for what a filter means.

use jiff::Timestamp;

use super::RunFilter;
use crate::runs::Run;

/// A value of a column, or a parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// None.
    Nothing,
    /// A text.
    Text(String),
    /// A number, or a time in milliseconds.
    Number(i64),
}

/// Runs of whole jobs. The evidence is compact JSON: a quote within a text has a backslash before
/// it, so this is the field and never a text.
pub(super) const WHOLE: &str = r#"evidence NOT LIKE '%"is_part":true%'"#;

/// The values of the row of a run, in the order of the columns.
pub(super) fn values(run: &Run) -> serde_json::Result<[Value; 11]> {
    let (text, time) = (
        |text: &str| Value::Text(text.to_owned()),
        |time: Timestamp| Value::Number(time.as_millisecond()),
    );
    Ok([
        text(run.id.as_str()),
        text(run.what.as_str()),
        text(&run.job),
        text(&run.repository),
        text(run.state.as_str()),
        time(run.started),
        run.finished.map_or(Value::Nothing, time),
        text(&run.host),
        text(&run.user),
        Value::Number(i64::from(run.pid)),
        Value::Text(serde_json::to_string(&run.evidence)?),
    ])
}

/// What comes behind `SELECT … FROM …`, and its parameters; `place` writes the place of the one
/// with this number, from 1.
pub(super) fn clause(filter: &RunFilter, place: impl Fn(usize) -> String) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut compared = |column: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{column} {}", place(values.len())));
    };
    let texts =
        [("job =", &filter.job), ("repository =", &filter.repository), ("host =", &filter.host)];
    for (column, text) in texts {
        if let Some(text) = text {
            compared(column, Value::Text(text.clone()));
        }
    }
    if let Some(within) = &filter.within {
        compared("started >=", Value::Number(within.start.as_millisecond()));
        compared("started <", Value::Number(within.end.as_millisecond()));
    }
    let said = [
        (filter.unfinished, "finished IS NULL"),
        (filter.successful, "state IN ('verified', 'completed')"),
        (filter.failed, "state IN ('failed', 'cancelled')"),
        (filter.backups, "what = 'backup'"),
        (filter.restores, "what = 'restore'"),
        (filter.whole, WHOLE),
    ];
    conditions.extend(
        said.into_iter().filter(|(is_said, _)| *is_said).map(|(_, condition)| condition.to_owned()),
    );
    let mut text = String::new();
    if !conditions.is_empty() {
        text.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    // Runs of one millisecond have an order too, always the same.
    text.push_str(if filter.oldest_first {
        " ORDER BY started, id"
    } else {
        " ORDER BY started DESC, id DESC"
    });
    if let Some(limit) = filter.limit {
        text.push_str(&format!(" LIMIT {limit}"));
    }
    (text, values)
}
