//! The query for what a filter means, in the SQL that all databases have in common.

use super::RunFilter;

/// A parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A text.
    Text(String),
    /// A number, or a time in milliseconds.
    Number(i64),
}

/// What comes behind `SELECT … FROM …`, and its parameters; `place` writes the place of the one with this number, from 1.
pub(super) fn clause(filter: &RunFilter, place: impl Fn(usize) -> String) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut compared = |column: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{column} {}", place(values.len())));
    };
    let texts = [("job =", &filter.job), ("repository =", &filter.repository), ("host =", &filter.host)];
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
    ];
    conditions.extend(said.into_iter().filter(|(is_said, _)| *is_said).map(|(_, condition)| condition.to_owned()));
    let mut text = String::new();
    if !conditions.is_empty() {
        text.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    // Runs of one millisecond have an order too, always the same.
    text.push_str(if filter.oldest_first { " ORDER BY started, id" } else { " ORDER BY started DESC, id DESC" });
    if let Some(limit) = filter.limit {
        text.push_str(&format!(" LIMIT {limit}"));
    }
    (text, values)
}
