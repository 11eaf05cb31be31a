//! Which relations a database has, and which of them are meant.

use std::collections::{HashMap, HashSet};

use backup_core::source::SourceResult;
use tokio_postgres::Row;

use super::super::error::malformed;
use super::super::wire::Sql;
use super::error::reading;
use super::filter::Filter;
use super::parents::have_circle;
use super::sql::qualified;

/// Relations of users. Members of extensions come with these, except for the rows of tables that
/// extensions declare to be configuration.
const RELATIONS: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
                         coalesce(am.amname = 'heap', false), CASE WHEN c.relkind = 'r' THEN \
                         c.relpages::bigint * current_setting('block_size')::bigint ELSE 0 END, \
                         (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid AND \
                         c.relispartition), EXISTS (SELECT FROM pg_depend d WHERE d.classid = \
                         'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'), (SELECT \
                         x.extcondition[array_position(x.extconfig, c.oid)] FROM pg_extension x \
                         WHERE c.oid = ANY (x.extconfig)), ARRAY(SELECT a.attname::text FROM \
                         pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT \
                         a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum), (SELECT \
                         d.refobjid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND \
                         d.objid = c.oid AND c.relkind = 'S' AND d.refclassid = \
                         'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1), \
                         c.relpersistence = 'u', CASE WHEN c.relkind IN ('r', 'm', 'f') AND \
                         (c.reltuples > 0 OR c.relpages > 0 OR (c.reltuples = 0 AND \
                         current_setting('server_version_num')::int >= 140000)) THEN \
                         c.reltuples::bigint END, c.relkind = 'p' AND EXISTS (SELECT FROM \
                         pg_partitioned_table p WHERE p.partrelid = c.oid AND (p.partstrat = 'h' \
                         AND EXISTS (SELECT FROM pg_opclass o WHERE o.oid = ANY (p.partclass) AND \
                         o.opcname IN ('enum_ops', 'array_ops', 'record_ops', 'range_ops', \
                         'multirange_ops')) OR EXISTS (SELECT FROM pg_collation l JOIN pg_database \
                         d ON d.datname = current_database() CROSS JOIN LATERAL (SELECT CASE WHEN \
                         l.collprovider = 'd' THEN coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') \
                         ELSE l.collprovider::text END AS provider, CASE WHEN l.collprovider = 'd' \
                         THEN d.datcollate ELSE l.collcollate END AS locale) m WHERE l.oid = ANY \
                         (p.partcollation) AND (NOT l.collisdeterministic OR p.partstrat = 'r' AND \
                         m.provider <> 'b' AND NOT (m.provider = 'c' AND m.locale IN ('C', \
                         'POSIX')))))) FROM pg_class c JOIN pg_namespace n ON n.oid = \
                         c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam WHERE c.relkind IN \
                         ('r', 'p', 'S', 'v', 'm', 'f') AND c.relpersistence <> 't' AND n.nspname \
                         <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' AND (EXISTS \
                         (SELECT FROM pg_extension x WHERE c.oid = ANY (x.extconfig)) OR NOT \
                         EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
                         AND d.objid = c.oid AND d.deptype = 'e')) ORDER BY 2, 3";

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With rows of its own.
    Table,
    /// Its rows are those of its partitions.
    Partitioned,
    Sequence,
    View,
    MaterializedView,
    ForeignTable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Its rows have places that a range can be asked for.
    pub(super) is_heap: bool,
    /// Bytes on disk: an estimate, unless they were measured.
    pub(super) size: u64,
    /// The partitioned table that it is a part of.
    pub(super) partition_of: Option<u32>,
    pub(super) of_extension: bool,
    /// `WHERE …`: which of its rows are no part of the extension that made it.
    pub(super) condition: Option<String>,
    /// Those that are not computed.
    pub(super) columns: Vec<String>,
    /// The table that a sequence belongs to.
    pub(super) owned_by: Option<u32>,
    /// A standby has no rows of it.
    pub(super) is_unlogged: bool,
    /// Rows of its own at the last ANALYZE, VACUUM or CREATE INDEX: an estimate, unknown before the
    /// first one. PostgreSQL 13 records an unknown number as 0 rows in 0 pages, later versions as
    /// -1 rows ("pg_class" in the documentation of the server).
    pub(super) rows: Option<u64>,
    /// A partitioned table whose rows may belong to other partitions on another server: by hashes
    /// of enumerations, which are of the numbers of their values there, or by an order of texts
    /// that the operating system defines.
    pub(super) is_routed: bool,
}

impl Relation {
    pub(super) fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// The table that a partition or a sequence belongs to.
    fn parent(&self) -> Option<u32> {
        self.partition_of.or(self.owned_by)
    }

    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let kind = match row.try_get(3)? {
            "r" => Kind::Table,
            "p" => Kind::Partitioned,
            "S" => Kind::Sequence,
            "v" => Kind::View,
            "m" => Kind::MaterializedView,
            _ => Kind::ForeignTable,
        };
        let size: i64 = row.try_get(5)?;
        Ok(Self {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            kind,
            is_heap: row.try_get(4)?,
            size: size.unsigned_abs(),
            partition_of: row.try_get(6)?,
            of_extension: row.try_get(7)?,
            condition: row
                .try_get::<_, Option<String>>(8)?
                .filter(|condition| !condition.trim().is_empty()),
            columns: row.try_get(9)?,
            owned_by: row.try_get(10)?,
            is_unlogged: row.try_get(11)?,
            rows: row.try_get::<_, Option<i64>>(12)?.and_then(|rows| u64::try_from(rows).ok()),
            is_routed: row.try_get(13)?,
        })
    }
}

/// What a database has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Catalog {
    pub(super) schemas: Vec<String>,
    pub(super) relations: Vec<Relation>,
    /// Where each of them stands.
    places: HashMap<u32, usize>,
}

impl Catalog {
    /// The table that a partition or a sequence belongs to.
    pub(super) fn parent_of(&self, one: &Relation) -> Option<&Relation> {
        self.places.get(&one.parent()?).and_then(|at| self.relations.get(*at))
    }

    /// A relation, its parent, and so on.
    pub(super) fn line_of<'a>(
        &'a self,
        one: &'a Relation,
    ) -> impl Iterator<Item = &'a Relation> + use<'a> {
        std::iter::successors(Some(one), |one| self.parent_of(one))
    }

    /// The highest of the tables above a partition whose rows may belong to other partitions on
    /// another server.
    pub(super) fn routed_by<'a>(&'a self, one: &'a Relation) -> Option<&'a Relation> {
        self.line_of(one).skip(1).filter(|above| above.is_routed).last()
    }

    pub(super) async fn read(sql: &Sql, database: &str) -> SourceResult<Self> {
        const SCHEMAS: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname <> \
                               'information_schema' AND nspname NOT LIKE 'pg\\_%' ORDER BY 1";
        let doing = |error: tokio_postgres::Error| {
            reading(&error, format!("cannot list the contents of {database}"))
        };
        let schemas = sql.client.query(SCHEMAS, &[]).await.map_err(doing)?;
        let rows = sql.client.query(RELATIONS, &[]).await.map_err(doing)?;
        let relations: Vec<Relation> =
            rows.iter().map(Relation::of).collect::<Result<_, _>>().map_err(doing)?;
        let parents: HashMap<u32, u32> =
            relations.iter().filter_map(|one| Some((one.oid, one.parent()?))).collect();
        if have_circle(&parents) {
            return Err(malformed(format!(
                "catalog of {database}: tables are partitions of each other"
            )));
        }
        Ok(Self {
            schemas: schemas
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<_, _>>()
                .map_err(doing)?,
            places: relations.iter().enumerate().map(|(at, one)| (one.oid, at)).collect(),
            relations,
        })
    }

    /// Measures the tables of `covered`, which must be locked: whoever holds a lock on another one
    /// would be waited for.
    pub(super) async fn measure(&mut self, sql: &Sql, covered: &HashSet<u32>) -> SourceResult<()> {
        const ASKING: &str =
            "SELECT oid, coalesce(pg_relation_size(oid), 0)::bigint FROM unnest($1::oid[]) AS oid";
        let doing = |error: tokio_postgres::Error| reading(&error, "cannot measure the tables");
        let wanted = |one: &&Relation| one.kind == Kind::Table && covered.contains(&one.oid);
        let oids: Vec<u32> = self.relations.iter().filter(wanted).map(|one| one.oid).collect();
        let mut sizes = HashMap::new();
        for row in sql.client.query(ASKING, &[&oids]).await.map_err(doing)? {
            let (oid, size): (u32, i64) =
                (row.try_get(0).map_err(doing)?, row.try_get(1).map_err(doing)?);
            sizes.insert(oid, size.unsigned_abs());
        }
        for one in &mut self.relations {
            one.size = sizes.get(&one.oid).copied().unwrap_or(one.size);
        }
        Ok(())
    }

    /// Those that are meant. Partitions are with their table, and sequences with the table that
    /// they belong to, unless they are left out by name.
    pub(super) fn covered(&self, filter: &Filter, database: &str) -> HashSet<u32> {
        let by_oid: HashMap<u32, &Relation> =
            self.relations.iter().map(|one| (one.oid, one)).collect();
        let is_meant = |one: &Relation| filter.covers(database, &one.schema, &one.name);
        let covered = |one: &Relation| {
            let mut at = Some(one);
            while let Some(above) = at {
                if is_meant(above) {
                    return !filter.excludes(database, &one.schema, &one.name);
                }
                at = above.parent().and_then(|oid| by_oid.get(&oid).copied());
            }
            false
        };
        self.relations.iter().filter(|one| covered(one)).map(|one| one.oid).collect()
    }

    /// Estimated rows by relation, if known. A partitioned table has those of its partitions.
    pub(super) fn estimated_rows(&self) -> HashMap<u32, u64> {
        let (mut known, mut unknown) = (HashMap::<u32, u64>::new(), HashSet::new());
        for leaf in self.relations.iter().filter(|one| one.kind != Kind::Partitioned) {
            let mut at = Some(leaf);
            while let Some(one) = at {
                match leaf.rows {
                    Some(rows) => *known.entry(one.oid).or_default() += rows,
                    None => _ = unknown.insert(one.oid),
                }
                at = one.partition_of.and_then(|oid| self.by_oid(oid));
            }
        }
        known.retain(|oid, _| !unknown.contains(oid));
        known
    }

    pub(super) fn by_oid(&self, oid: u32) -> Option<&Relation> {
        self.places.get(&oid).and_then(|at| self.relations.get(*at))
    }
}
