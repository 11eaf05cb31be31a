//! Databases of the target: which there are, creating them, and exchanging them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::super::wire::Sql;
use super::super::catalog::Catalog;
use super::super::error::{code_of, writing};
use super::super::options::LogicalOptions;
use super::super::session;
use super::super::sql::{Script, literal, quoted, tokens};
use super::grants;
use super::plan::Plan;

/// The right of the session's role to create databases.
const MAY_CREATE: &str = "SELECT (rolsuper OR rolcreatedb)::text FROM pg_roles WHERE rolname = \
                          current_user";
const IS_SUPERUSER: &str = "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user";
/// What a database says of itself while it is not complete.
pub(in super::super) const INCOMPLETE: &str =
    "A restore of a backup goes on in here, or was broken off.";
/// How long a session of ours may take to end, as the server sees it.
const ENDING: Duration = Duration::from_secs(10);

/// The server that is written to.
#[derive(Debug)]
pub(super) struct Server {
    /// In a database that is not written to.
    pub(super) sql: Sql,
    pub(super) version: u32,
    databases: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) tablespaces: Vec<String>,
    pub(super) settings: Vec<String>,
    /// This role may create databases.
    pub(super) can_create: bool,
    pub(super) is_superuser: bool,
    has_dropped: AtomicBool,
}

impl Server {
    pub(super) async fn open(options: &LogicalOptions, plans: &[Plan<'_>]) -> SourceResult<Self> {
        let is_free = |name: &&str| plans.iter().all(|plan| plan.target != **name);
        let candidates = [&*options.connection.database, "postgres", "template1"];
        let from = candidates.into_iter().find(is_free).unwrap_or("template1");
        // The address may name one that does not exist yet.
        let sql = match session::open(&options.connection, None, from).await {
            Ok(sql) => sql,
            Err(_) if from != "postgres" && is_free(&"postgres") => {
                session::open(&options.connection, None, "postgres").await?
            }
            Err(error) => return Err(error),
        };
        let names = async |asking: &str| {
            let rows = sql.client.query(asking, &[]).await;
            let names = rows.and_then(|rows| {
                rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()
            });
            names.map_err(|error| writing(&error, "cannot inspect the target"))
        };
        let version = names("SELECT pg_catalog.current_setting('server_version_num')").await?;
        Ok(Self {
            version: version.first().and_then(|text| text.parse().ok()).unwrap_or(0),
            databases: names("SELECT datname::text FROM pg_database").await?,
            roles: names("SELECT rolname::text FROM pg_roles").await?,
            tablespaces: names("SELECT spcname::text FROM pg_tablespace").await?,
            settings: names("SELECT name FROM pg_settings").await?,
            can_create: names(MAY_CREATE).await?.iter().any(|may| may == "true"),
            is_superuser: names(IS_SUPERUSER).await?.iter().any(|is| is == "true"),
            has_dropped: AtomicBool::new(false),
            sql,
        })
    }

    /// Major version.
    pub(super) fn major(&self) -> u32 {
        self.version / 10_000
    }

    pub(super) fn has(&self, database: &str) -> bool {
        self.databases.iter().any(|name| name == database)
    }

    /// Runs a statement of ours.
    pub(super) async fn run(&self, statement: &str, doing: &str) -> SourceResult<()> {
        self.sql.client.batch_execute(statement).await.map_err(|error| writing(&error, doing))
    }

    /// Makes the database that a plan is written to, under a name that says that it is not
    /// complete. One that an earlier restore has left is dropped.
    pub(super) async fn create(
        &self,
        plan: &Plan<'_>,
        options: &LogicalOptions,
    ) -> SourceResult<String> {
        let name = restoring(&plan.target);
        self.lock(&name).await?;
        self.refuse_foreign(options, &name).await?;
        let doing = format!("cannot create the database {name}");
        self.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name)), &doing)
            .await?;
        let script = Script::parse(&plan.stored.database);
        let made = script.entries.iter().find(|entry| entry.kind == "DATABASE");
        let create = made.and_then(|entry| entry.statements.first()).ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Mismatch,
                "database.sql has no statement to create the database",
            )
        })?;
        let mut create = for_database(create, &name);
        if self.version < 150_000 {
            // The only one that there was.
            create = create.replace(" LOCALE_PROVIDER = libc", "");
        }
        self.run(&create, &doing).await?;
        self.run(
            &format!("COMMENT ON DATABASE {} IS {}", quoted(&name), literal(INCOMPLETE)),
            &doing,
        )
        .await?;
        Ok(name)
    }

    /// Two restores would drop each other's.
    async fn lock(&self, name: &str) -> SourceResult<()> {
        let asking = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
        let started = std::time::Instant::now();
        // The server may not have noticed the end of one that was broken off.
        while started.elapsed() < ENDING {
            let row = self.sql.client.query_one(asking, &[&name]).await;
            let is_free = row.and_then(|row| row.try_get(0));
            if is_free.map_err(|error| writing(&error, "cannot inspect the target"))? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let error = SourceError::new(
            SourceErrorKind::TargetExists,
            format!("another restore is writing {name}"),
        );
        Err(error.with_hint("wait for the end of the other restore"))
    }

    /// One of the name that is not ours is left alone. One without a mark may be ours, if we were
    /// stopped just then; it is empty.
    async fn refuse_foreign(&self, options: &LogicalOptions, name: &str) -> SourceResult<()> {
        let asking =
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
        let row = self.sql.client.query_opt(asking, &[&name]).await;
        let comment =
            row.and_then(|row| row.map(|row| row.try_get::<_, Option<String>>(0)).transpose());
        match comment.map_err(|error| writing(&error, "cannot inspect the target"))? {
            None => return Ok(()),
            Some(Some(comment)) if comment == INCOMPLETE => return Ok(()),
            Some(None) => {
                let sql = session::open(&options.connection, Some(&self.sql.host), name).await?;
                if Catalog::read(&sql, name).await?.relations.is_empty() {
                    return Ok(());
                }
            }
            Some(_) => {}
        }
        Err(SourceError::new(
            SourceErrorKind::TargetExists,
            format!("the database {name} already exists"),
        )
        .with_hint("rename or drop this database: it was not made by this program"))
    }

    /// Settings, grants and comment of the database, which must not disturb while it is written,
    /// and its name.
    fn last_words(&self, plan: &Plan<'_>, name: &str, options: &LogicalOptions) -> Vec<String> {
        let mut words = vec![format!("COMMENT ON DATABASE {} IS NULL", quoted(name))];
        for entry in &Script::parse(&plan.stored.database).entries {
            // It is created.
            let first = usize::from(entry.kind == "DATABASE");
            if entry.kind.is_empty() || (entry.kind == "ACL" && !options.privileges) {
                continue;
            }
            let statements = entry.statements.iter().skip(first);
            let sets_owner = |statement: &str| tokens(statement).any(|token| token.is("OWNER"));
            let wanted = statements.filter(|statement| options.owners || !sets_owner(statement));
            let wanted = wanted.map(|statement| for_database(statement, name)).collect();
            words.extend(grants::of_list(wanted, self.is_superuser));
        }
        words.push(format!("ALTER DATABASE {} RENAME TO {}", quoted(name), quoted(&plan.target)));
        words
    }

    /// Sessions of others in a database: user, application and address.
    pub(super) async fn sessions_in(&self, database: &str) -> SourceResult<Vec<String>> {
        const ASKING: &str = "SELECT concat_ws(' ', usename, nullif(application_name, ''), \
                              coalesce('from ' || host(client_addr), 'by a socket')) FROM \
                              pg_stat_activity WHERE datname = $1 AND usesysid IS NOT NULL AND NOT \
                              (usename = current_user AND application_name = \
                              current_setting('application_name')) ORDER BY 1";
        let rows = self.sql.client.query(ASKING, &[&database]).await;
        let names = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        names.map_err(|error| writing(&error, "cannot list the sessions of the target"))
    }

    /// Puts a database in the place of the one of that name, if there is one. Our own sessions in
    /// it have ended, but the server may not have noticed.
    pub(super) async fn exchange(
        &self,
        plan: &Plan<'_>,
        name: &str,
        options: &LogicalOptions,
    ) -> SourceResult<()> {
        let (target, doing) = (
            &plan.target,
            format!("cannot put the restored database {} in its place", plan.target),
        );
        self.has_dropped.store(false, Ordering::Relaxed);
        if self.has(target) {
            self.rehearse(plan, name, options, &doing).await?;
            // Later would be too late: nobody can rename a database while somebody is in it.
            self.require_alone(name).await?;
            let no_template = format!("ALTER DATABASE {} IS_TEMPLATE false", quoted(target));
            self.run(&no_template, &doing).await?;
            self.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(target)), &doing)
                .await?;
            self.has_dropped.store(true, Ordering::Relaxed);
        }
        let done = self.take_its_place(plan, name, options, &doing).await;
        if done.is_ok() {
            self.has_dropped.store(false, Ordering::Relaxed);
        }
        done
    }

    /// Fails if the server refuses a statement about the database, such as a grant to a missing role.
    /// The database to replace still exists then.
    async fn rehearse(
        &self,
        plan: &Plan<'_>,
        name: &str,
        options: &LogicalOptions,
        doing: &str,
    ) -> SourceResult<()> {
        let mut words = self.last_words(plan, name, options);
        // The name is taken.
        words.pop();
        self.run("BEGIN", doing).await?;
        let mut done = Ok(());
        for statement in &words {
            done = self.run(statement, doing).await;
            if done.is_err() {
                break;
            }
        }
        self.run("ROLLBACK", doing).await?;
        done
    }

    /// Waits until nobody is in a database, as the server sees it. Processes of the server's own
    /// give way.
    async fn require_alone(&self, name: &str) -> SourceResult<()> {
        let asking =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usesysid IS NOT NULL";
        let started = std::time::Instant::now();
        while started.elapsed() < ENDING {
            let row = self.sql.client.query_one(asking, &[&name]).await;
            let count: i64 = row
                .and_then(|row| row.try_get(0))
                .map_err(|error| writing(&error, "cannot inspect the target"))?;
            if count == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let error = SourceError::new(
            SourceErrorKind::Target,
            format!("another session is connected to the database {name}"),
        );
        Err(error.with_hint("end that session, then restore again"))
    }

    /// Whether what was there is gone, and what was restored did not get its name.
    pub(super) fn has_dropped(&self) -> bool {
        self.has_dropped.load(Ordering::Relaxed)
    }

    async fn take_its_place(
        &self,
        plan: &Plan<'_>,
        name: &str,
        options: &LogicalOptions,
        doing: &str,
    ) -> SourceResult<()> {
        // One by one, in one transaction: each may come with a semicolon or without.
        let words = self.last_words(plan, name, options);
        let started = std::time::Instant::now();
        loop {
            self.run("BEGIN", doing).await?;
            let mut failed = None;
            for statement in &words {
                if let Err(error) = self.sql.client.batch_execute(statement).await {
                    failed = Some(error);
                    break;
                }
            }
            match failed {
                None => return self.run("COMMIT", doing).await,
                Some(error) => {
                    self.run("ROLLBACK", doing).await?;
                    if code_of(&error) != "55006" || started.elapsed() > ENDING {
                        return Err(writing(&error, doing));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// The name of a database that is not complete.
pub(super) fn restoring(target: &str) -> String {
    let mut name = target.to_owned();
    while name.len() > 50 {
        name.pop();
    }
    format!("{name} (restoring)")
}

/// A statement about the database, about another one.
fn for_database(statement: &str, name: &str) -> String {
    let (mut out, mut follows, mut is_done) = (String::new(), false, false);
    for token in tokens(statement) {
        if follows && !is_done && token.name().is_some() {
            out.push_str(&quoted(name));
            is_done = true;
        } else {
            out.push_str(token.text);
        }
        follows = token.is("DATABASE") || (follows && token.is_blank());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_get_other_names() {
        let cases = [
            (
                "\n\nCREATE DATABASE shop WITH TEMPLATE = template0;",
                "\n\nCREATE DATABASE \"x\" WITH TEMPLATE = template0;",
            ),
            ("ALTER DATABASE \"a b\" OWNER TO shop;", "ALTER DATABASE \"x\" OWNER TO shop;"),
            (
                "GRANT CONNECT ON DATABASE shop TO database;",
                "GRANT CONNECT ON DATABASE \"x\" TO database;",
            ),
            (
                "ALTER ROLE al IN DATABASE shop SET a TO 'shop';",
                "ALTER ROLE al IN DATABASE \"x\" SET a TO 'shop';",
            ),
        ];
        for (from, to) in cases {
            assert_eq!(for_database(from, "x"), to);
        }
        assert!(restoring(&"é".repeat(31)).len() <= 63);
    }
}
