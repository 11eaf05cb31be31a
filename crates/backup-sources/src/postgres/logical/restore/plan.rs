//! What of a database is restored, and under which names.

use std::collections::{BTreeSet, HashMap, HashSet};

use backup_core::source::SourceResult;

use super::super::filter::Filter;
use super::super::manifest::{Sequence, Table};
use super::super::options::LogicalOptions;
use super::super::sql::{Entry, NewNames, RELATION_KINDS, Relation, Script, tokens};
use super::dump::Stored;
use super::ties::There;

/// One database.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) stored: &'a Stored,
    /// Its name at the target.
    pub(super) target: String,
    /// Everything that the snapshot has of it. That is all there was only if the manifest says so,
    /// too.
    pub(super) is_whole: bool,
    pub(super) tables: Vec<&'a Table>,
    pub(super) sequences: Vec<&'a Sequence>,
    pub(super) large_objects: bool,
    pub(super) names: NewNames,
    pub(super) before: Vec<Entry<'a>>,
    pub(super) after: Vec<Entry<'a>>,
    /// Schemas that are restored with all in them, under their names in the snapshot.
    pub(super) schemas: HashSet<String>,
    pub(super) filter: Filter,
    /// The database, schemas and relations that are restored, under their names in the snapshot.
    pub(super) origins: BTreeSet<Vec<String>>,
    /// Partitioned tables that are restored and that the rows of others are loaded through.
    pub(super) routes: HashSet<Relation>,
    /// The tables of indexes.
    pub(super) indexes: HashMap<Relation, Relation>,
    /// The tables of statistics objects, whose names are apart from those of relations.
    pub(super) statistics: HashMap<Relation, Relation>,
    /// Indices of table and file by the path of the file.
    pub(super) files: HashMap<String, (usize, usize)>,
    /// All relations of the snapshot, restored or not.
    known: HashSet<Relation>,
    /// All relations that are made, under their names at the target.
    pub(super) made: HashSet<Relation>,
    pub(super) owners: bool,
    pub(super) privileges: bool,
}

pub(super) fn relation(schema: &str, name: &str) -> Relation {
    (schema.to_owned(), name.to_owned())
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        stored: &'a Stored,
        filter: &Filter,
        options: &LogicalOptions,
    ) -> SourceResult<Self> {
        let (manifest, database) = (&stored.manifest, &*stored.manifest.name);
        let (before, after) = (Script::parse(&stored.before), Script::parse(&stored.after));
        let covered = covered(stored, filter, &before);
        let tables: Vec<&Table> = manifest
            .tables
            .iter()
            .filter(|table| covered.contains(&relation(&table.schema, &table.name)))
            .collect();
        let sequences: Vec<&Sequence> = manifest
            .sequences
            .iter()
            .filter(|one| covered.contains(&relation(&one.schema, &one.name)))
            .collect();
        let (indexes, statistics) = (indexes(&after), statistics(&after));
        let large_objects = manifest.large_objects.is_some()
            && filter.covers(database, "pg_catalog", "pg_largeobject");
        let mut plan = Self {
            target: options.renames.database(database)?,
            is_whole: false,
            large_objects,
            names: NewNames::default(),
            schemas: schemas(&before, &after)
                .filter(|schema| filter.covers_schema(database, schema))
                .collect(),
            filter: filter.clone(),
            indexes,
            statistics,
            routes: tables
                .iter()
                .filter_map(|table| table.through.clone())
                .filter(|through| covered.contains(through))
                .collect(),
            origins: BTreeSet::new(),
            known: known(stored, &before),
            files: files(&tables),
            made: HashSet::new(),
            owners: options.owners,
            privileges: options.privileges,
            before: Vec::new(),
            after: Vec::new(),
            tables,
            sequences,
            stored,
        };
        let is_all = |script: &Script<'_>| {
            script.entries.iter().all(|entry| plan.wants(entry, &covered, filter))
        };
        plan.is_whole = filter.covers_database(database)
            && large_objects == manifest.large_objects.is_some()
            && is_all(&before)
            && is_all(&after);
        let wanted = |script: Script<'a>| -> Vec<Entry<'a>> {
            script.entries.into_iter().filter(|entry| plan.wants(entry, &covered, filter)).collect()
        };
        (plan.before, plan.after) = (wanted(before), wanted(after));
        plan.names = plan.new_names(options, &covered);
        plan.refuse_equal_names(&covered)?;
        plan.origins = origins(database, &covered, &plan.schemas);
        let made = plan.before.iter().filter(|entry| RELATION_KINDS.contains(&entry.kind));
        plan.made = made.map(|entry| plan.names.of(&entry.schema, &entry.name)).collect();
        Ok(plan)
    }

    pub(super) fn is_empty(&self) -> bool {
        let is_something = |entry: &&Entry<'_>| !entry.kind.is_empty();
        !self.is_whole
            && !self.large_objects
            && self.before.iter().chain(&self.after).find(is_something).is_none()
    }

    /// Returns `true` for an entry that is restored.
    fn wants(&self, entry: &Entry<'_>, covered: &HashSet<Relation>, filter: &Filter) -> bool {
        let database = &*self.stored.manifest.name;
        if entry.kind.is_empty() {
            return true;
        }
        if let Some(found) = entry.about().filter(|one| self.is_known(entry, one)) {
            let of = self.table_of(entry, &found);
            // Both ends of an attachment.
            let other = if entry.kind == "TABLE ATTACH" { entry.refers_from() } else { None };
            return covered.contains(of) && other.is_none_or(|parent| covered.contains(&parent));
        }
        if let Some(schema) = entry.about_schema() {
            return filter.covers_schema(database, &schema);
        }
        match &*entry.schema {
            "" => filter.covers_database(database),
            schema => filter.covers_schema(database, schema),
        }
    }

    /// Returns `true` for a relation of the snapshot.
    fn is_known(&self, entry: &Entry<'_>, about: &Relation) -> bool {
        self.known.contains(self.table_of(entry, about))
    }

    /// The table of an index or a statistics object that `entry` is about; otherwise `about`.
    pub(super) fn table_of<'t>(&'t self, entry: &Entry<'_>, about: &'t Relation) -> &'t Relation {
        let tables = if entry.is_about_index() {
            &self.indexes
        } else if entry.is_about_statistics() {
            &self.statistics
        } else {
            return about;
        };
        tables.get(about).unwrap_or(about)
    }

    /// Schema and name of a table at the target.
    pub(super) fn name_of(&self, table: &Table) -> Relation {
        self.names.of(&table.schema, &table.name)
    }

    /// Schemas in which nothing may be left that the snapshot does not have, by their names at the
    /// target: restored with all in them, as they were backed up.
    pub(super) fn cleared(&self) -> HashMap<String, &str> {
        let manifest = &self.stored.manifest;
        let is_whole =
            |schema: &&String| self.stored.backed_up.covers_schema(&manifest.name, schema);
        self.schemas
            .iter()
            .filter(is_whole)
            .map(|schema| (self.names.schema(schema), &**schema))
            .collect()
    }

    /// The statements of an entry as the target gets them, in units that succeed or fail alone: the
    /// object with what makes it safe beside others, its owner, and each grant.
    pub(super) fn units(&self, entry: &Entry<'_>, there: Option<&There>) -> Vec<String> {
        if matches!(entry.kind, "ACL" | "DEFAULT ACL") {
            return self.statements(entry, |_| self.privileges);
        }
        let mut object = self.statements(entry, |statement| !sets_owner(statement));
        if entry.kind == "MATERIALIZED VIEW DATA" {
            // The rows are those that its owner sees, as in the original.
            object.insert(0, "SET row_security = on".to_owned());
            object.push("SET row_security = off".to_owned());
        }
        object.extend(self.untied(entry));
        object.extend(there.and_then(|there| self.ungranted(entry, there)));
        let owner = self.statements(entry, |statement| self.owners && sets_owner(statement));
        let object = object.join("\n;");
        [object].into_iter().filter(|object| !object.is_empty()).chain(owner).collect()
    }

    /// The statements of an entry that are `wanted`, under the names at the target.
    fn statements(&self, entry: &Entry<'_>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let about = entry.about();
        let table = about.as_ref().map(|found| self.table_of(entry, found));
        let wanted = entry.statements.iter().filter(|statement| wanted(statement));
        wanted.map(|statement| self.names.apply(statement, table)).collect()
    }

    /// Owners of restored objects, without that of `public`: a superuser, in old databases.
    pub(super) fn owners(&self) -> HashSet<&'a str> {
        if !self.owners {
            return HashSet::new();
        }
        let entries = self.before.iter().chain(&self.after).filter(|entry| !entry.is_public());
        let owners =
            entries.filter(|entry| entry.statements.iter().any(|statement| sets_owner(statement)));
        owners.map(|entry| entry.owner).filter(|owner| !owner.is_empty()).collect()
    }
}

/// Names that a renaming rule can match.
fn origins(
    database: &str,
    covered: &HashSet<Relation>,
    schemas: &HashSet<String>,
) -> BTreeSet<Vec<String>> {
    let name = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let of_relations = covered.iter().flat_map(|(schema, relation)| {
        [name(&[database, schema]), name(&[database, schema, relation])]
    });
    let of_schemas = schemas.iter().map(|schema| name(&[database, schema]));
    of_relations.chain(of_schemas).chain([name(&[database])]).collect()
}

/// `ALTER … OWNER TO somebody;`
fn sets_owner(statement: &str) -> bool {
    let said: Vec<_> = tokens(statement).filter(|token| !token.is_blank()).collect();
    match said.as_slice() {
        [first, .., owner, to, _, _] => first.is("ALTER") && owner.is("OWNER") && to.is("TO"),
        _ => false,
    }
}

/// Relations that are meant, with partitions of tables and sequences of their columns.
fn covered(stored: &Stored, filter: &Filter, before: &Script<'_>) -> HashSet<Relation> {
    let (manifest, database) = (&stored.manifest, &*stored.manifest.name);
    let tables = manifest.tables.iter().map(|table| relation(&table.schema, &table.name));
    let sequences = manifest.sequences.iter().map(|one| relation(&one.schema, &one.name));
    let others = before
        .entries
        .iter()
        .filter(|entry| matches!(entry.kind, "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE"));
    let others = others.map(|entry| relation(&entry.schema, &entry.name));
    let is_covered = |one: &Relation| {
        let mut at = Some(one);
        while let Some((schema, name)) = at {
            if filter.covers(database, schema, name) {
                return !filter.excludes(database, &one.0, &one.1);
            }
            at = stored.parents.get(&(schema.clone(), name.clone()));
        }
        false
    };
    tables.chain(sequences).chain(others).filter(is_covered).collect()
}

fn files(tables: &[&Table]) -> HashMap<String, (usize, usize)> {
    let of_table = |(at, table): (usize, &&Table)| {
        let paths = table.files.iter().map(|file| file.path.clone());
        paths.enumerate().map(|(file, path)| (path, (at, file))).collect::<Vec<_>>()
    };
    tables.iter().enumerate().flat_map(of_table).collect()
}

/// All relations of a database in a snapshot.
fn known(stored: &Stored, before: &Script<'_>) -> HashSet<Relation> {
    let manifest = &stored.manifest;
    let tables = manifest.tables.iter().map(|table| relation(&table.schema, &table.name));
    let sequences = manifest.sequences.iter().map(|one| relation(&one.schema, &one.name));
    let made = before.entries.iter().filter(|entry| RELATION_KINDS.contains(&entry.kind));
    let made = made.filter_map(Entry::about);
    tables.chain(sequences).chain(made).collect()
}

/// Schemas that something lies in.
fn schemas(before: &Script<'_>, after: &Script<'_>) -> impl Iterator<Item = String> {
    let entries = before.entries.iter().chain(&after.entries);
    let named =
        entries.map(|entry| if entry.kind == "SCHEMA" { &entry.name } else { &entry.schema });
    let found: HashSet<String> = named
        .filter(|schema| !schema.is_empty())
        .map(|schema| schema.clone().into_owned())
        .collect();
    found.into_iter()
}

/// The tables of indexes, those of constraints among them.
fn indexes(after: &Script<'_>) -> HashMap<Relation, Relation> {
    let made = after.entries.iter().filter(|entry| matches!(entry.kind, "INDEX" | "CONSTRAINT"));
    made.filter_map(|entry| Some((relation(&entry.schema, &entry.index()?), entry.about()?)))
        .collect()
}

/// The tables of statistics objects.
fn statistics(after: &Script<'_>) -> HashMap<Relation, Relation> {
    let made = after.entries.iter().filter(|entry| entry.kind == "STATISTICS");
    made.filter_map(|entry| Some((entry.made_statistics()?, entry.about()?))).collect()
}
