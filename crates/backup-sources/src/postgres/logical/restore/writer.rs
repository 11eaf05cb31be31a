//! Statements, rows, sequences and large objects on their way into one session.

use std::collections::HashSet;

use backup_core::event::WarningKind;
use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use bytes::Bytes;
use futures::{SinkExt as _, TryStreamExt as _};

use super::super::super::digest::{self, Sums};
use super::super::super::unless_cancelled;
use super::super::super::wire::Sql;
use super::super::catalog::Catalog;
use super::super::error::writing;
use super::super::manifest::{File, Table};
use super::super::sql::{Entry, RELATION_KINDS, Relation, literal, qualified, quoted, tokens};
use super::Job;
use super::attempt::Outcome;
use super::failures::{Failures, Work};
use super::grants;
use super::plan::Plan;
use super::ties::There;

/// Before this version all sequences are logged, without a word for it.
const WITH_UNLOGGED_SEQUENCES: u32 = 150_000;

/// Input of every step of one database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) plan: &'a Plan<'a>,
    pub(super) sql: &'a Sql,
    pub(super) failures: &'a Failures,
    /// Set in a transaction into a database that is there.
    pub(super) beside: Option<&'a Beside>,
}

/// The objects of a database that is there.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) there: There,
    pub(super) catalog: Catalog,
    /// Schemas that hold objects other than those of extensions.
    pub(super) filled: HashSet<String>,
}

impl Writer<'_> {
    /// Runs a statement of ours.
    pub(super) async fn run(&self, statement: &str, doing: &str) -> SourceResult<()> {
        let running = async {
            self.sql.client.batch_execute(statement).await.map_err(|error| writing(&error, doing))
        };
        unless_cancelled(self.job.cx, running).await
    }

    /// Makes the object of an entry.
    pub(super) async fn entry(&self, entry: &Entry<'_>) -> SourceResult<()> {
        self.entry_unless(entry, &[]).await.map(|_| ())
    }

    /// Makes the object of an entry. Refusals with one of the `accepted` SQLSTATEs are no failures.
    pub(super) async fn entry_unless(
        &self,
        entry: &Entry<'_>,
        accepted: &[&str],
    ) -> SourceResult<Outcome> {
        if entry.kind.is_empty() {
            return self.settings(entry).await.map(|()| Outcome::Done);
        }
        if entry.is_public() {
            return self.owner_of_public(entry).await;
        }
        let about = entry.about();
        let lacks = |one: &Relation| {
            let table = self.plan.table_of(entry, one);
            self.failures.lacks(&self.plan.names.of(&table.0, &table.1))
        };
        if about.as_ref().is_some_and(lacks) {
            return Ok(Outcome::Deferred);
        }
        let kind = entry.kind.to_lowercase();
        let object = match &*entry.schema {
            "" => format!("{} ({kind})", entry.name),
            schema => format!("{schema}.{} ({kind})", entry.name),
        };
        let mut units = self.plan.units(entry, self.beside.map(|beside| &beside.there));
        if entry.kind == "SEQUENCE" && self.job.server.version < WITH_UNLOGGED_SEQUENCES {
            units.iter_mut().for_each(|sql| *sql = without_logging(sql));
        }
        let is_list = matches!(entry.kind, "ACL" | "DEFAULT ACL");
        if is_list {
            units = grants::of_list(units, self.job.server.is_superuser);
        }
        for (at, sql) in units.iter().enumerate() {
            let makes = about.as_ref().filter(|_| at == 0 && RELATION_KINDS.contains(&entry.kind));
            let then = if at == 0 && !is_list { units[1..].to_vec() } else { Vec::new() };
            let work = Work::Statements {
                sql: sql.clone(),
                then,
                doing: if at == 0 || is_list {
                    format!("cannot create {kind} {}", entry.name)
                } else {
                    format!("cannot set the owner of {kind} {}", entry.name)
                },
                makes: makes.map(|one| self.plan.names.of(&one.0, &one.1)),
                is_index: is_plain_index(entry),
            };
            let outcome = self.run_or_defer(object.clone(), work, accepted).await?;
            // Without the object it has no owner.
            if outcome != Outcome::Done && at == 0 && !is_list {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }

    /// Runs a statement about a relation, which is tried again later if the server refuses it.
    async fn about(&self, relation: &Relation, about: &str, sql: String) -> SourceResult<()> {
        let object = format!("{}.{} ({about})", relation.0, relation.1);
        let doing = format!("cannot restore the {about} of {}.{}", relation.0, relation.1);
        self.run_or_defer(object, Work::statements(sql, doing), &[]).await.map(|_| ())
    }

    pub(super) async fn analyze(&self, table: &Table) -> SourceResult<()> {
        if table.files.is_empty() {
            return Ok(());
        }
        let name = self.plan.name_of(table);
        let analyze = format!("ANALYZE {}", qualified(&name.0, &name.1));
        self.about(&name, "statistics", analyze).await
    }

    /// Settings for what follows, as far as the target knows them. The encoding is that of the
    /// connection.
    async fn settings(&self, entry: &Entry<'_>) -> SourceResult<()> {
        for statement in &entry.statements {
            let said: Vec<_> = tokens(statement).filter(|token| !token.is_blank()).collect();
            let [first, name, _, value, ..] = said.as_slice() else { continue };
            let is_set = first.is("SET");
            let is_known =
                self.job.server.settings.iter().any(|known| name.text.eq_ignore_ascii_case(known));
            if is_set && (!is_known || name.is("CLIENT_ENCODING")) {
                continue;
            }
            if is_set && name.is("DEFAULT_TABLESPACE") {
                let wanted =
                    value.name().unwrap_or_else(|| value.text.trim_matches('\'').to_owned());
                if !wanted.is_empty() && !self.job.server.tablespaces.contains(&wanted) {
                    let text = format!(
                        "the target has no tablespace {wanted}: its objects go to the default \
                         tablespace"
                    );
                    self.job.cx.events.note(text);
                    self.run("SET default_tablespace = ''", "cannot choose the default tablespace")
                        .await?;
                    continue;
                }
            }
            self.run(statement, "cannot apply the settings of the dump").await?;
        }
        Ok(())
    }

    /// Puts the rows of a file into a table; `target` as SQL has it. Returns the bytes.
    pub(super) async fn copy(&self, table: &Table, file: &File, target: &str) -> SourceResult<u64> {
        let columns = table.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let list = if columns.is_empty() { String::new() } else { format!(" ({columns})") };
        let encoding = &self.plan.stored.manifest.encoding;
        let statement = format!("COPY {target}{list} FROM STDIN WITH (ENCODING '{encoding}')");
        let doing = || format!("cannot write the rows of {}.{}", table.schema, table.name);
        let failed = |error: tokio_postgres::Error| {
            self.sql.stalled(doing()).unwrap_or_else(|| writing(&error, doing()))
        };
        let mut content = self.job.dump.content(self.plan.stored, &file.path).await?;
        let copying = async {
            let sink = self.sql.client.copy_in::<_, Bytes>(&statement).await.map_err(failed)?;
            let mut sink = Box::pin(sink);
            let mut bytes = 0;
            while let Some(piece) = content.try_next().await? {
                bytes += piece.len() as u64;
                if let Err(error) = sink.send(piece).await {
                    // The server's reason comes with the end.
                    return Err(failed(sink.as_mut().finish().await.err().unwrap_or(error)));
                }
            }
            let rows = sink.as_mut().finish().await.map_err(failed)?;
            Ok((rows, bytes))
        };
        let (rows, bytes) = unless_cancelled(self.job.cx, copying).await?;
        let were = |rows| words::count(rows, "row was", "rows were");
        if (rows, bytes) == (file.rows, file.bytes) {
            return Ok(bytes);
        }
        let text =
            format!("{}: {} written, but {} backed up", doing(), were(rows), were(file.rows));
        Err(SourceError::new(SourceErrorKind::Mismatch, text))
    }

    /// Fails if a table is not as it was.
    pub(super) async fn verify(&self, table: &Table) -> SourceResult<u64> {
        let Some(expected) = &table.digest else { return Ok(0) };
        // Rows that were loaded through a partitioned table are compared with it.
        if self.plan.route_of(table).is_some() {
            return Ok(0);
        }
        let Some(tables) = self.plan.with_rows_of(table) else { return Ok(0) };
        let mut sums = Sums::default();
        for (schema, name) in tables {
            let table = qualified(&schema, &name);
            sums.add(&unless_cancelled(self.job.cx, digest::sums_of(self.sql, &table)).await?);
        }
        let (found, (schema, name)) = (sums.digest(), self.plan.name_of(table));
        if found == *expected {
            return Ok(found.bytes);
        }
        let text = format!(
            "{schema}.{name}: the target has {} with {}, but {} with {} backed up",
            words::count(found.count, "row", "rows"),
            words::count(found.bytes, "byte", "bytes"),
            words::count(expected.count, "row", "rows"),
            words::count(expected.bytes, "byte was", "bytes were")
        );
        Err(SourceError::new(SourceErrorKind::Mismatch, text).with_hint(
            "check whether a default, a trigger or an extension of the target changes rows",
        ))
    }

    /// Sets sequences to their values; those that were there before `merging` never go back.
    /// Returns how many warnings there were.
    pub(super) async fn sequences(&self) -> SourceResult<u64> {
        let was_there = |name: &Relation| {
            self.beside.is_some_and(|beside| beside.there.relations.contains(name))
        };
        let mut warnings = 0;
        for one in &self.plan.sequences {
            let name = self.plan.names.of(&one.schema, &one.name);
            if self.failures.lacks(&name) {
                continue;
            }
            let sql = qualified(&name.0, &name.1);
            let doing = format!("cannot set the sequence {}.{}", one.schema, one.name);
            let Some(last) = one.last_value else {
                if !self.behind_rows(&sql, &doing).await? {
                    let text = "the value of this sequence was not backed up, because a standby \
                                has no unlogged data: it starts again, and rows may already use \
                                its numbers (setval)";
                    self.job.cx.events.warn(
                        WarningKind::Other,
                        format!("{}.{}", name.0, name.1),
                        text,
                    );
                    warnings += 1;
                }
                continue;
            };
            let is_merged = self.job.request.if_exists == IfExists::Merge && was_there(&name);
            let statement = if is_merged {
                format!(
                    "SELECT pg_catalog.setval({}, {last}, true) FROM {sql} WHERE last_value < \
                     {last}",
                    literal(&sql)
                )
            } else {
                format!("SELECT pg_catalog.setval({}, {last}, {})", literal(&sql), one.is_called)
            };
            self.about(&name, "value", statement).await?;
        }
        Ok(warnings)
    }

    /// Sets a sequence behind the rows of the column that it belongs to; says whether there are
    /// any.
    async fn behind_rows(&self, sequence: &str, doing: &str) -> SourceResult<bool> {
        const OWNER: &str = "SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), \
                             s.seqincrement > 0, s.seqmin, s.seqmax FROM pg_depend d JOIN pg_class \
                             c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace \
                             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = \
                             d.refobjsubid JOIN pg_sequence s ON s.seqrelid = d.objid WHERE \
                             d.classid = 'pg_class'::regclass AND d.refclassid = \
                             'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.objid = \
                             $1::text::regclass AND a.atttypid IN ('int2'::regtype, \
                             'int4'::regtype, 'int8'::regtype)";
        let failed = |error: tokio_postgres::Error| writing(&error, doing);
        let Some(row) = self.sql.client.query_opt(OWNER, &[&sequence]).await.map_err(failed)?
        else {
            return Ok(false);
        };
        let (table, column): (String, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let (least, most): (i64, i64) =
            (row.try_get(3).map_err(failed)?, row.try_get(4).map_err(failed)?);
        let (last, behind) =
            if row.try_get(2).map_err(failed)? { ("max", "<=") } else { ("min", ">=") };
        let set = format!(
            "SELECT pg_catalog.setval({}, last::bigint, true) FROM (SELECT {last}({column}) AS \
             last FROM {table}) AS rows, {sequence} WHERE last_value {behind} last AND last \
             BETWEEN {least} AND {most}",
            literal(sequence)
        );
        self.run(&set, doing).await?;
        let asking = format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} IS NOT NULL)");
        self.sql.client.query_one(&asking, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)
    }
}

/// Returns `true` for an index that is not unique and that nothing else refers to.
fn is_plain_index(entry: &Entry<'_>) -> bool {
    let [statement] = &entry.statements[..] else { return false };
    let mut words = tokens(statement).filter(|token| !token.is_blank());
    entry.kind == "INDEX" && !words.nth(1).is_some_and(|word| word.is("UNIQUE"))
}

/// The statement of a sequence without the words about its log.
fn without_logging(sql: &str) -> String {
    let kept = tokens(sql).filter(|token| !token.is("LOGGED") && !token.is("UNLOGGED"));
    kept.map(|token| token.text).collect()
}

#[cfg(test)]
mod tests {
    use super::without_logging;

    #[test]
    fn sequences_do_without_words_about_their_log() {
        let sql = "ALTER TABLE s.\"LOGGED\" ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (\n    \
                   SEQUENCE NAME s.q\n    LOGGED\n    START WITH 1\n);";
        assert_eq!(without_logging(sql), sql.replace("    LOGGED\n", "    \n"));
    }
}
