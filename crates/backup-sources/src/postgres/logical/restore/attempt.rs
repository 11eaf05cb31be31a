//! Work on one object, and another attempt at refused work.

use backup_core::source::SourceResult;

use super::super::super::unless_cancelled;
use super::super::error::{code_of, writing};
use super::super::manifest::{File, Table};
use super::super::sql::{Kind, Script, Token, literal, qualified, tokens};
use super::failures::{Failed, Refusal, Work, concerns_object};
use super::plan::Plan;
use super::writer::Writer;

/// Attempts at statements that deadlock with those of another session.
const TRIES: usize = 5;
/// The search path of a server that sets none.
const DEFAULT_PATH: [&str; 2] = ["$user", "public"];

/// SQLSTATEs of names that are taken: of objects, functions, schemas, relations; text search objects
/// violate a unique index.
pub(super) const TAKEN: [&str; 5] = ["42710", "42723", "42P06", "42P07", "23505"];

/// Outcome of work on one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The name is taken, or the refusal is accepted.
    Kept,
    /// Refused, and tried again later.
    Deferred,
}

impl Writer<'_> {
    /// Does the work, which is tried again later if the server refuses it. Refusals with one of the
    /// `accepted` SQLSTATEs are no failures.
    pub(super) async fn run_or_defer(
        &self,
        object: String,
        work: Work,
        accepted: &[&str],
    ) -> SourceResult<Outcome> {
        let Err(refusal) = self.attempt(&object, &work).await? else { return Ok(Outcome::Done) };
        if accepted.contains(&&*refusal.code) {
            return Ok(Outcome::Kept);
        }
        if self.failures.exit_on_error {
            return Err(refusal.error);
        }
        let is_taken = TAKEN.contains(&&*refusal.code);
        let text = format!(
            "{}.{object} fails and is tried again after the others: {}",
            self.plan.target,
            refusal.error.chain()
        );
        self.job.cx.events.note(text);
        let settings = self.settings_in_force().await?;
        self.failures.add(Failed { object, work, settings, refusal });
        Ok(if is_taken { Outcome::Kept } else { Outcome::Deferred })
    }

    /// Puts the rows of a file into their table. Returns the bytes; 0 if the server refuses them,
    /// or the table could not be made.
    pub(super) async fn load_or_defer(&self, table: &Table, file: &File) -> SourceResult<u64> {
        let into = [self.plan.name_of(table), self.plan.loaded_into(table)];
        if into.iter().any(|table| self.failures.lacks(table)) {
            return Ok(0);
        }
        let object = format!("{}.{}", table.schema, table.name);
        let work = Work::Rows { path: file.path.clone() };
        let is_done = self.run_or_defer(object, work, &[]).await? == Outcome::Done;
        Ok(if is_done { file.bytes } else { 0 })
    }

    /// Tries refused work again, until a round mends nothing more. Functions find names
    /// without a schema as they do in the database itself. Returns the bytes of rows.
    pub(super) async fn retry_deferred(&self) -> SourceResult<u64> {
        let mut waiting = self.failures.take();
        if waiting.is_empty() {
            return Ok(0);
        }
        let before_all = self.settings_in_force().await?;
        let path = self.plan.search_path();
        self.run(&format!("SET search_path = {path}"), "cannot set the search path").await?;
        let mut bytes = 0;
        loop {
            let (before, mut left) = (waiting.len(), Vec::new());
            for failed in waiting {
                self.set_settings(&failed.settings).await?;
                match self.attempt(&failed.object, &failed.work).await? {
                    Ok(done) => {
                        bytes += done;
                        self.follow(failed, &mut left).await?;
                    }
                    Err(refusal) => left.push(Failed { refusal, ..failed }),
                }
            }
            if left.is_empty() || left.len() == before {
                self.failures.give_up(left);
                break;
            }
            waiting = left;
        }
        self.set_settings(&before_all).await?;
        self.run("SET search_path = ''", "cannot set the search path").await?;
        Ok(bytes)
    }

    /// Runs the statements that need an object which is there now.
    async fn follow(&self, done: Failed, left: &mut Vec<Failed>) -> SourceResult<()> {
        let Failed { object, work, settings, .. } = done;
        let Work::Statements { then, .. } = work else { return Ok(()) };
        for sql in then {
            let work = Work::statements(sql, format!("cannot set the owner of {object}"));
            if let Err(refusal) = self.attempt(&object, &work).await? {
                let (object, settings) = (object.clone(), settings.clone());
                left.push(Failed { object, work, settings, refusal });
            }
        }
        Ok(())
    }

    /// The tablespace and the access method that new tables get.
    async fn settings_in_force(&self) -> SourceResult<[String; 2]> {
        const ASKING: &str = "SELECT pg_catalog.current_setting('default_tablespace'), \
                              pg_catalog.current_setting('default_table_access_method')";
        let row = self.sql.client.query_one(ASKING, &[]).await;
        let found = row.and_then(|row| Ok([row.try_get(0)?, row.try_get(1)?]));
        found.map_err(|error| writing(&error, "cannot read the settings of the session"))
    }

    async fn set_settings(&self, [tablespace, method]: &[String; 2]) -> SourceResult<()> {
        let set = format!(
            "SELECT pg_catalog.set_config('default_tablespace', {}, false), \
             pg_catalog.set_config('default_table_access_method', {}, false)",
            literal(tablespace),
            literal(method)
        );
        self.run(&set, "cannot set the tablespace").await
    }

    /// Does the work, or undoes it if the server refuses. Errors are those after which nothing
    /// more can be done.
    async fn attempt(&self, object: &str, work: &Work) -> SourceResult<Result<u64, Refusal>> {
        let in_transaction = self.beside.is_some();
        if in_transaction {
            self.run("SAVEPOINT object", object).await?;
        }
        let done = match work {
            Work::Statements { sql, doing, .. } => self.statements(doing, sql).await.map(|()| 0),
            Work::Rows { path } => match self.plan.rows_at(path) {
                Some((table, file)) => self.rows(table, file).await.map_err(Refusal::from),
                None => Ok(0),
            },
        };
        match done {
            Ok(bytes) => {
                if in_transaction {
                    self.run("RELEASE SAVEPOINT object", object).await?;
                }
                Ok(Ok(bytes))
            }
            Err(refusal) if !concerns_object(&refusal.error) => Err(refusal.error),
            Err(refusal) => {
                if in_transaction {
                    self.run("ROLLBACK TO SAVEPOINT object", object).await?;
                }
                Ok(Err(refusal))
            }
        }
    }

    /// Runs statements together: all of them have an effect, or none.
    async fn statements(&self, doing: &str, sql: &str) -> Result<(), Refusal> {
        let mut tries = 1;
        loop {
            let running = async { Ok(self.sql.client.batch_execute(sql).await) };
            let Err(error) = unless_cancelled(self.job.cx, running).await? else { return Ok(()) };
            let code = code_of(&error);
            // Two sessions that wait for each other: one goes first.
            if code == "40P01" && self.beside.is_none() && tries < TRIES {
                tries += 1;
                continue;
            }
            return Err(Refusal { code: code.to_owned(), error: writing(&error, doing) });
        }
    }

    /// Puts the rows of a file into their table, or merges them into one that was there. Returns
    /// the bytes.
    async fn rows(&self, table: &Table, file: &File) -> SourceResult<u64> {
        let name = self.plan.loaded_into(table);
        match self.beside.filter(|beside| beside.there.relations.contains(&name)) {
            // Rows that are merged meet the foreign keys that are there.
            Some(beside) if !table.of_extension => {
                super::merge::merge(self, table, &name, file, &beside.catalog).await
            }
            _ => self.copy(table, file, &qualified(&name.0, &name.1)).await,
        }
    }
}

impl Plan<'_> {
    /// The table and the file at a path in the directory of the database.
    pub(super) fn rows_at(&self, path: &str) -> Option<(&Table, &File)> {
        let (table, file) = *self.files.get(path)?;
        let table = *self.tables.get(table)?;
        Some((table, table.files.get(file)?))
    }

    /// The schemas in which the database looks for names without one, as SQL has it.
    fn search_path(&self) -> String {
        let script = Script::parse(&self.stored.database);
        let statements = script.entries.iter().flat_map(|entry| &entry.statements);
        let mut paths = statements.filter_map(|statement| search_path_in(statement));
        let path = paths.next().unwrap_or_else(|| DEFAULT_PATH.map(str::to_owned).to_vec());
        let schemas = path.iter().map(|schema| literal(&self.names.schema(schema)));
        schemas.collect::<Vec<_>>().join(", ")
    }
}

/// The schemas that `ALTER DATABASE … SET search_path TO …` names.
fn search_path_in(statement: &str) -> Option<Vec<String>> {
    let said: Vec<_> = tokens(statement).filter(|token| !token.is_blank()).collect();
    let [alter, database, _, set, name, to, path @ ..] = said.as_slice() else { return None };
    let is_it = alter.is("ALTER")
        && database.is("DATABASE")
        && set.is("SET")
        && name.is("SEARCH_PATH")
        && to.is("TO");
    let name = |token: &Token<'_>| match token.kind {
        Kind::Text => Some(token.text.trim_matches('\'').replace("''", "'")),
        _ => token.name(),
    };
    is_it.then(|| path.iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::search_path_in;

    #[test]
    fn search_path_of_a_database_is_found() {
        let cases = [
            ("ALTER DATABASE shop SET search_path TO 'app', 'public';", Some("app public")),
            ("\n\nALTER DATABASE \"a b\" SET search_path TO '$user'", Some("$user")),
            ("ALTER DATABASE shop SET work_mem TO '1MB';", None),
            ("ALTER ROLE al IN DATABASE shop SET search_path TO 'app';", None),
        ];
        for (statement, path) in cases {
            let found = search_path_in(statement).map(|path| path.join(" "));
            assert_eq!(found.as_deref(), path, "{statement}");
        }
    }
}
