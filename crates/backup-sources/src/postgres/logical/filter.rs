//! Which databases, schemas and relations are meant: globs over `database`, `database.schema` and
//! `database.schema.relation`. `*` also matches dots. Excluding wins.

use backup_core::source::{
    ExcludePatterns, MatchRecord, Selection, SourceError, SourceErrorKind, SourceResult,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

#[derive(Debug, Clone)]
pub(super) struct Filter {
    /// Records the include patterns that match.
    record: MatchRecord,
    include: Option<GlobSet>,
    /// Names of databases that an include pattern may match something in: what stands before one of
    /// its dots, for names may have some, too.
    databases: Option<GlobSet>,
    exclude: ExcludePatterns,
}

impl Filter {
    pub(super) fn new(selection: &Selection) -> SourceResult<Self> {
        let given = !selection.include().is_empty();
        let beginnings = |pattern: &'_ String| -> Vec<String> {
            let dots = pattern.match_indices('.').map(|(at, _)| pattern[..at].to_owned());
            dots.chain([pattern.clone()]).collect()
        };
        let databases: Vec<String> = selection.include().iter().flat_map(beginnings).collect();
        Ok(Self {
            record: selection.record().clone(),
            include: given.then(|| compile(selection.include())).transpose()?,
            databases: given.then(|| compile(&databases)).transpose()?,
            exclude: ExcludePatterns::new(selection.exclude(), compile)?,
        })
    }

    /// Whether there may be something in a database that is meant.
    pub(super) fn may_cover(&self, database: &str) -> bool {
        (self.exclude.has_readmission() || !self.exclude.excludes([database]))
            && self.databases.as_ref().is_none_or(|set| set.is_match(database))
    }

    /// Whether a database is meant as such, with all in it that is no relation and lies in no
    /// schema.
    pub(super) fn covers_database(&self, database: &str) -> bool {
        self.is_meant(&[database])
    }

    /// Whether a schema is meant with all in it.
    pub(super) fn covers_schema(&self, database: &str, schema: &str) -> bool {
        self.is_meant(&[database, &format!("{database}.{schema}")])
    }

    /// Whether a relation is meant.
    pub(super) fn covers(&self, database: &str, schema: &str, relation: &str) -> bool {
        self.is_meant(&[
            database,
            &format!("{database}.{schema}"),
            &format!("{database}.{schema}.{relation}"),
        ])
    }

    /// Whether a relation is left out by name.
    pub(super) fn excludes(&self, database: &str, schema: &str, relation: &str) -> bool {
        let names =
            [database, &format!("{database}.{schema}"), &format!("{database}.{schema}.{relation}")];
        self.exclude.excludes(names)
    }

    /// Records the include patterns that match one of `names`: databases, schemas and relations
    /// with those before them.
    pub(super) fn note_matches(&self, names: impl IntoIterator<Item = String>) {
        let Some(include) = &self.include else { return };
        for name in names {
            include.matches(&name).into_iter().for_each(|at| self.record.note(at));
        }
    }

    fn is_meant(&self, names: &[&str]) -> bool {
        let any = |set: &GlobSet| names.iter().any(|name| set.is_match(name));
        !self.exclude.excludes(names) && self.include.as_ref().is_none_or(any)
    }
}

fn compile(patterns: &[String]) -> SourceResult<GlobSet> {
    let invalid = |pattern: &str, error: &globset::Error| {
        SourceError::new(
            SourceErrorKind::Invalid,
            format!("invalid pattern {pattern:?}: {}", error.kind()),
        )
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let trimmed = pattern.trim_start_matches('/');
        let glob = GlobBuilder::new(trimmed)
            .backslash_escape(true)
            .build()
            .map_err(|error| invalid(pattern, &error))?;
        set.add(glob);
    }
    set.build().map_err(|error| invalid(error.glob().unwrap_or_default(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Selection::new(owned(include), owned(exclude)).unwrap()
    }

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        Filter::new(&selection(include, exclude)).unwrap()
    }

    #[test]
    fn patterns_match_relations_schemas_and_databases() {
        let selection =
            selection(&["shop", "crm.public.*", "wiki.docs"], &["shop.tmp", "*.*.cache_*"]);
        let f = Filter::new(&selection).unwrap();
        assert!(
            f.covers_database("shop") && f.covers_schema("shop", "x") && f.covers("shop", "x", "y")
        );
        assert!(
            !f.covers("shop", "tmp", "y")
                && !f.covers_schema("shop", "tmp")
                && !f.covers("shop", "x", "cache_1")
        );
        assert!(
            f.covers("crm", "public", "people")
                && !f.covers_schema("crm", "public")
                && !f.covers("crm", "x", "y")
        );
        assert!(f.covers_schema("wiki", "docs") && !f.covers_database("wiki"));
        assert!(f.may_cover("crm") && f.may_cover("wiki") && !f.may_cover("other"));
        let all = filter(&[], &["old"]);
        assert!(
            filter(&["my.db"], &[]).may_cover("my.db")
                && filter(&["my.db.public.t"], &[]).may_cover("my.db")
        );
        let names = ["crm", "crm.public", "crm.public.people", "wiki"].map(str::to_owned);
        f.note_matches(names);
        assert_eq!(selection.unmatched(), ["shop", "wiki.docs"]);
        assert!(all.covers_database("x") && all.covers("x", "y", "z") && !all.may_cover("old"));
    }
}
