//! Schemas that no entry of the dump makes: of single tables, and `public`, which every database
//! has from its beginning. `pg_dump` describes `public` only as far as it differs from a new one.

use std::collections::{BTreeSet, HashSet};

use backup_core::event::WarningKind;
use backup_core::source::SourceResult;
use backup_core::words::few;

use super::super::error::writing;
use super::super::sql::{Entry, RELATION_KINDS, quoted, tokens};
use super::NAMED;
use super::attempt::Outcome;
use super::failures::Work;
use super::plan::Plan;
use super::writer::Writer;

pub(super) const PUBLIC: &str = "public";

/// The first major version for which only `USAGE` of `public` is a default privilege of all roles,
/// and the owner of the database owns it. Before, `CREATE` is another privilege of all.
const ONLY_USAGE: u32 = 15;

/// SQLSTATE of a new owner that this role is no member of.
const NOT_MEMBER: &str = "42501";

/// One row if the role exists; `true` if this session is its member.
const OF_DATABASE: &str = "SELECT pg_catalog.pg_has_role(oid, 'MEMBER') FROM pg_catalog.pg_roles \
                           WHERE rolname = 'pg_database_owner'";

/// Returns `true` if all roles may create objects in `public`.
const IS_OPEN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \
                       pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', \
                       n.nspowner))) a WHERE n.nspname = 'public' AND a.grantee = 0 AND \
                       a.privilege_type = 'CREATE')";

/// The access of the owner of the database to the copy of a `public` that belongs to this owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatabaseOwner {
    /// The server is older than the role.
    Unknown,
    /// The session may give the copy to it.
    Owns,
    /// The session is no member of the role.
    IsGranted,
}

impl Writer<'_> {
    /// Makes such schemas. Existing ones stay as they are.
    pub(super) async fn make_schemas(&self) -> SourceResult<()> {
        let there = |schema: &String| {
            self.beside.is_some_and(|beside| beside.catalog.schemas.contains(schema))
        };
        let mut lacking = self.plan.schemas_to_make();
        lacking.retain(|schema| !there(schema));
        if lacking.is_empty() {
            return Ok(());
        }
        let owner = self.database_owner().await?;
        for schema in &lacking {
            let statement = self.plan.making(schema, owner);
            self.run(&statement, &format!("cannot create the schema {schema}")).await?;
        }
        let is_closed = |schema: &&str| *schema != PUBLIC && !self.plan.is_copy_of_public(schema);
        let closed: Vec<&str> = lacking.iter().map(String::as_str).filter(is_closed).collect();
        if !closed.is_empty() {
            let text = format!(
                "new schemas of single tables are open to the owners of these tables only: {}",
                few(&closed, NAMED)
            );
            self.job.cx.events.note(text);
        }
        Ok(())
    }

    async fn database_owner(&self) -> SourceResult<DatabaseOwner> {
        let row = self.sql.client.query_opt(OF_DATABASE, &[]).await;
        let is_member = row.and_then(|row| row.map(|row| row.try_get::<_, bool>(0)).transpose());
        let is_member = is_member.map_err(|error| writing(&error, "cannot inspect the target"))?;
        Ok(match is_member {
            None => DatabaseOwner::Unknown,
            Some(true) => DatabaseOwner::Owns,
            Some(false) => DatabaseOwner::IsGranted,
        })
    }

    /// Gives `public` of a new database the privileges from which the dump describes the
    /// differences.
    pub(super) async fn open_or_close_public(&self) -> SourceResult<()> {
        let plan = self.plan;
        let is_open_in_new = self.job.server.major() < ONLY_USAGE;
        let was_open_in_new = plan.expects_open_public();
        if !plan.restores_public() || is_open_in_new == was_open_in_new {
            return Ok(());
        }
        if was_open_in_new {
            return self.run("GRANT CREATE ON SCHEMA public TO PUBLIC", "cannot open public").await;
        }
        // The dump may grant it again.
        self.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "cannot close public").await
    }

    /// Warns if all roles may create objects in `public` though they might not in the original.
    /// Returns the number of warnings.
    pub(super) async fn warn_if_public_is_open(&self) -> SourceResult<u64> {
        let plan = self.plan;
        let was_open =
            plan.expects_open_public() || plan.before.iter().chain(&plan.after).any(opens_public);
        if !plan.restores_public() || was_open {
            return Ok(0);
        }
        let is_open = self.sql.client.query_one(IS_OPEN, &[]).await.and_then(|row| row.try_get(0));
        if !is_open.map_err(|error| writing(&error, "cannot inspect public"))? {
            return Ok(0);
        }
        let text = "all roles may create objects in public, as in every new database of this \
                    version; in the snapshot they may not (a superuser can revoke it: REVOKE CREATE \
                    ON SCHEMA public FROM PUBLIC)";
        self.job.cx.events.warn(WarningKind::Other, &*plan.target, text);
        Ok(1)
    }

    /// Gives `public`, or its copy, its owner. In an old database a superuser owns it: for sessions
    /// that may not give it away, it keeps the owner that it has: a warning, unless the original was
    /// of such a version.
    pub(super) async fn owner_of_public(&self, entry: &Entry<'_>) -> SourceResult<Outcome> {
        let schema = self.plan.names.schema(&entry.name);
        for sql in self.plan.units(entry, None) {
            let doing = format!("cannot change the schema {schema}");
            let work = Work::statements(sql, doing);
            let object = format!("{schema} (schema)");
            if self.run_or_defer(object, work, &[NOT_MEMBER]).await? != Outcome::Kept {
                continue;
            }
            let text = format!(
                "the schema {schema} keeps its owner: this role may not give it to {:?}, the owner \
                 in the snapshot",
                entry.owner
            );
            if self.job.dump.whole.server_version / 10_000 < ONLY_USAGE {
                self.job.cx.events.note(format!("{}: {text}", self.plan.target));
            } else {
                self.failures.warn(self.job, &self.plan.target, text);
            }
        }
        Ok(Outcome::Done)
    }
}

/// Returns `true` if the entry lets all roles create objects in `public`.
fn opens_public(entry: &Entry<'_>) -> bool {
    let opens = |statement: &&str| {
        let said: Vec<_> = tokens(statement).filter(|token| !token.is_blank()).collect();
        let has = |word: &str| said.iter().any(|token| token.is(word));
        said.first().is_some_and(|first| first.is("GRANT"))
            && (has("ALL") || has("CREATE"))
            && said.windows(2).any(|two| two[0].is("TO") && two[1].is("PUBLIC"))
    };
    entry.kind == "ACL"
        && entry.about_schema().is_some_and(|schema| schema == PUBLIC)
        && entry.statements.iter().any(opens)
}

impl Plan<'_> {
    /// Returns `true` if `public` was backed up and is restored under its name, with its privileges.
    fn restores_public(&self) -> bool {
        let database = &self.stored.manifest.name;
        self.privileges
            && self.stored.backed_up.covers_schema(database, PUBLIC)
            && self.filter.covers_schema(database, PUBLIC)
            && self.names.schema(PUBLIC) == PUBLIC
    }

    /// Returns `true` if the dump describes `public` by its differences from one in which all roles may
    /// create objects.
    fn expects_open_public(&self) -> bool {
        self.stored.pg_dump < ONLY_USAGE
    }

    /// The statement that gives a schema the privileges from which the dump describes the differences,
    /// by the name of the schema in the snapshot.
    pub(super) fn granted_in_new(&self, origin: &str) -> Option<String> {
        let rights = if self.expects_open_public() { "USAGE, CREATE" } else { "USAGE" };
        let name = quoted(&self.names.schema(origin));
        (origin == PUBLIC).then(|| format!("GRANT {rights} ON SCHEMA {name} TO PUBLIC"))
    }

    /// Such schemas, by their names at the target.
    pub(super) fn schemas_to_make(&self) -> BTreeSet<String> {
        let created = self.before.iter().filter(|entry| entry.creates_schema());
        let created: HashSet<String> =
            created.map(|entry| self.names.schema(&entry.name)).collect();
        let of_relations = self.made.iter().map(|(schema, _)| schema);
        let renamed = self.schemas.iter().filter_map(|schema| self.names.schemas.get(schema));
        of_relations.chain(renamed).filter(|schema| !created.contains(*schema)).cloned().collect()
    }

    /// Returns `true` for the new name of a `public` that is restored with all in it.
    fn is_copy_of_public(&self, schema: &str) -> bool {
        // Without the entries about the schema itself, `public` may be less open than a new one.
        self.schemas.contains(PUBLIC)
            && self.names.schemas.get(PUBLIC).is_some_and(|renamed| renamed == schema)
    }

    /// The statements for one schema. A copy of `public` first gets the owner and the privileges that
    /// `public` has in a new database. The owners of single tables may use the schema of these.
    fn making(&self, schema: &str, owner: DatabaseOwner) -> String {
        let name = quoted(schema);
        let mut statements = vec![format!("CREATE SCHEMA IF NOT EXISTS {name}")];
        if self.is_copy_of_public(schema) {
            let has_owner = self.before.iter().any(Entry::is_public);
            if self.owners && !self.expects_open_public() && !has_owner {
                statements.extend(owner.statement(&name));
            }
            if self.privileges {
                statements.extend(self.granted_in_new(PUBLIC));
            }
        } else if self.owners && self.privileges && schema != PUBLIC {
            let owners = self.owners_in(schema);
            let grant = |owner: &str| format!("GRANT USAGE, CREATE ON SCHEMA {name} TO {owner}");
            statements.extend(owners.into_iter().map(|owner| grant(&quoted(owner))));
        }
        statements.join("\n;")
    }

    /// The owners of the relations that are made in a schema of the target.
    fn owners_in(&self, schema: &str) -> BTreeSet<&str> {
        let made = self.before.iter().filter(|entry| RELATION_KINDS.contains(&entry.kind));
        let is_in = |entry: &&Entry<'_>| self.names.of(&entry.schema, &entry.name).0 == schema;
        made.filter(is_in).map(|entry| entry.owner).filter(|owner| !owner.is_empty()).collect()
    }
}

impl DatabaseOwner {
    fn statement(self, schema: &str) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Owns => Some(format!("ALTER SCHEMA {schema} OWNER TO pg_database_owner")),
            Self::IsGranted => {
                Some(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO pg_database_owner"))
            }
        }
    }
}
