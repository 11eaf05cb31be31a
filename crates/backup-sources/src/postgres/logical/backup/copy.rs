//! Rows of tables, or of parts of them, in the text form of COPY.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;

use backup_core::source::SourceResult;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tokio_postgres::CopyOutStream;

use super::super::super::digest;
use super::super::catalog::Relation;
use super::super::error::{code_of, reading};
use super::super::layout;
use super::super::manifest::File;
use super::super::sql::quoted;
use super::reader::SMALL;
use super::state::{Session, State};

/// Bytes that are handed on at once.
const PIECE: usize = 256 << 10;
/// Bytes of a page. Other sizes exist only where somebody compiled them in, and give other parts,
/// nothing worse.
const PAGE: u64 = 8192;

/// One file: the rows of a table, or those of a range of its pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Place of its database.
    pub(super) database: usize,
    pub(super) table: u32,
    /// Below the database's directory.
    pub(super) path: String,
    pub(super) sql: String,
    /// As far as it is known.
    pub(super) size: u64,
    /// The first part of a table sees to its digest.
    pub(super) is_first: bool,
}

/// The encoding of the rows in the files of a database: bytes without an encoding are not converted.
pub(super) fn stored_encoding(encoding: &str) -> &str {
    if encoding == "SQL_ASCII" { encoding } else { "UTF8" }
}

/// The files of a table.
pub(super) fn parts(
    database: usize,
    table: &Relation,
    encoding: &str,
    split: u64,
    files: usize,
    can_split: bool,
) -> Vec<Part> {
    let columns = table.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let options = format!(" WITH (ENCODING '{}')", stored_encoding(encoding));
    let part = |number: Option<usize>, sql: String, size: u64| Part {
        database,
        table: table.oid,
        path: layout::data_file(&table.schema, &table.name, table.oid, number, files),
        sql,
        size,
        is_first: number.unwrap_or(0) == 0,
    };
    let condition = table.condition.as_deref();
    let pages = (split / PAGE).clamp(1, u64::from(u32::MAX) / 2);
    let count = usize::try_from(table.size.div_ceil(pages * PAGE)).unwrap_or(1);
    let is_whole = !can_split
        || !table.is_heap
        || table.columns.is_empty()
        || condition.is_some()
        || count < 2;
    if is_whole {
        // Also for tables whose columns are all computed, or that have none.
        let list = if columns.is_empty() { String::new() } else { format!(" ({columns})") };
        let what = match condition {
            Some(condition) => format!("(SELECT {columns} FROM ONLY {} {condition})", table.sql()),
            None => format!("{}{list}", table.sql()),
        };
        return vec![part(None, format!("COPY {what} TO STDOUT{options}"), table.size)];
    }
    let range = |number: usize| {
        let mut bounds = format!("ctid >= '({},0)'::tid", number as u64 * pages);
        // Behind the last one there may be more.
        if number + 1 < count {
            // Writing to a string does not fail.
            _ = write!(bounds, " AND ctid < '({},0)'::tid", (number as u64 + 1) * pages);
        }
        format!(
            "COPY (SELECT {columns} FROM ONLY {} WHERE {bounds}) TO STDOUT{options}",
            table.sql()
        )
    };
    (0..count).map(|number| part(Some(number), range(number), pages * PAGE)).collect()
}

/// A copy on its way.
struct Copying {
    session: Session,
    rows: Pin<Box<CopyOutStream>>,
    count: u64,
    bytes: u64,
    is_over: bool,
}

enum Step {
    Begin,
    Copy(Box<Copying>),
    End,
}

/// The content of a part. It takes a session when it is first asked.
pub(super) fn content(state: &Arc<State>, part: Part) -> BoxStream<'static, SourceResult<Bytes>> {
    state.announce();
    let (state, part) = (Arc::clone(state), Arc::new(part));
    let steps = stream::try_unfold(Step::Begin, move |step| {
        let (state, part) = (Arc::clone(&state), Arc::clone(&part));
        async move {
            let mut copying = match step {
                Step::End => return Ok(None),
                Step::Begin => state.until_cancelled(begin(&state, &part)).await?,
                Step::Copy(copying) => copying,
            };
            let piece = state.until_cancelled(next(&mut copying, &part)).await?;
            state.pass(piece.len()).await?;
            if !copying.is_over {
                return Ok(Some((piece, Step::Copy(copying))));
            }
            state.until_cancelled(end(&state, &part, *copying)).await?;
            Ok(Some((piece, Step::End)))
        }
    });
    steps.boxed()
}

async fn begin(state: &State, part: &Part) -> SourceResult<Box<Copying>> {
    let mut session = state.session(part.database, part.size < SMALL).await?;
    let mut rows = session.sql().client.copy_out(&part.sql).await;
    // Somebody waits to lock the table for himself.
    if rows.as_ref().is_err_and(|error| code_of(error) == "55P03") && !session.is_holder() {
        session = state.holder(session).await?;
        rows = session.sql().client.copy_out(&part.sql).await;
    }
    let rows = rows.map_err(|error| reading(&error, doing(part)))?;
    Ok(Box::new(Copying { session, rows: Box::pin(rows), count: 0, bytes: 0, is_over: false }))
}

fn doing(part: &Part) -> String {
    format!("cannot read {}", part.path.trim_start_matches("data/"))
}

/// As many rows as make a piece: the server sends each by itself.
async fn next(copying: &mut Copying, part: &Part) -> SourceResult<Bytes> {
    let mut piece = BytesMut::with_capacity(PIECE);
    while piece.len() < PIECE {
        let sql = copying.session.sql();
        let failed =
            |error| sql.stalled(doing(part)).unwrap_or_else(|| reading(&error, doing(part)));
        match copying.rows.try_next().await.map_err(failed)? {
            Some(row) => {
                copying.count += 1;
                piece.extend_from_slice(&row);
            }
            None => {
                copying.is_over = true;
                break;
            }
        }
    }
    copying.bytes += piece.len() as u64;
    Ok(piece.freeze())
}

async fn end(state: &State, part: &Part, copying: Copying) -> SourceResult<()> {
    let Copying { session, count, bytes, rows, .. } = copying;
    drop(rows);
    state.note_file(part.database, File { path: part.path.clone(), rows: count, bytes });
    let database = &state.databases[part.database];
    let table = database
        .catalog
        .by_oid(part.table)
        .filter(|table| part.is_first && table.condition.is_none());
    if let Some(table) = table.filter(|_| state.options.digests) {
        let found = digest::sums_of(session.sql(), &table.sql()).await?;
        state.note_digest(part.database, table.oid, found);
    }
    state.done(session).await?;
    state.read();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::catalog::Kind;
    use super::*;

    fn table(size: u64) -> Relation {
        Relation {
            oid: 7,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            kind: Kind::Table,
            is_heap: true,
            size,
            partition_of: None,
            of_extension: false,
            condition: None,
            columns: vec!["a".to_owned(), "B".to_owned()],
            owned_by: None,
            is_unlogged: false,
            rows: None,
            is_routed: false,
        }
    }

    #[test]
    fn large_tables_are_read_in_ranges_without_a_gap() {
        let found = parts(0, &table(3 * (1 << 20)), "UTF8", 1 << 20, 9, true);
        let sql: Vec<&str> = found.iter().map(|part| &*part.sql).collect();
        let of = |bounds: &str| {
            format!(
                "COPY (SELECT \"a\", \"B\" FROM ONLY \"s\".\"t\" WHERE {bounds}) TO STDOUT WITH \
                 (ENCODING 'UTF8')"
            )
        };
        assert_eq!(
            sql,
            [
                of("ctid >= '(0,0)'::tid AND ctid < '(128,0)'::tid"),
                of("ctid >= '(128,0)'::tid AND ctid < '(256,0)'::tid"),
                of("ctid >= '(256,0)'::tid"),
            ]
        );
        assert_eq!(
            found.iter().map(|part| part.is_first).collect::<Vec<_>>(),
            [true, false, false]
        );
    }

    #[test]
    fn others_are_read_as_a_whole() {
        let whole = |table: &Relation, can_split| {
            parts(0, table, "SQL_ASCII", 1 << 20, 9, can_split)[0].sql.clone()
        };
        assert_eq!(
            whole(&table(5 << 20), false),
            "COPY \"s\".\"t\" (\"a\", \"B\") TO STDOUT WITH (ENCODING 'SQL_ASCII')"
        );
        assert_eq!(
            whole(&Relation { is_heap: false, ..table(5 << 20) }, true),
            "COPY \"s\".\"t\" (\"a\", \"B\") TO STDOUT WITH (ENCODING 'SQL_ASCII')"
        );
        assert_eq!(
            whole(&Relation { columns: Vec::new(), ..table(0) }, true),
            "COPY \"s\".\"t\" TO STDOUT WITH (ENCODING 'SQL_ASCII')"
        );
        let config = Relation { condition: Some("WHERE a > 1".to_owned()), ..table(5 << 20) };
        assert_eq!(
            whole(&config, true),
            "COPY (SELECT \"a\", \"B\" FROM ONLY \"s\".\"t\" WHERE a > 1) TO STDOUT WITH (ENCODING 'SQL_ASCII')"
        );
    }
}
