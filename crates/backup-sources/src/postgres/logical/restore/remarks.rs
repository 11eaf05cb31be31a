//! What is said before anything is written: what was asked for and is not there, and what other
//! names do not reach.

use backup_core::event::WarningKind;
use backup_core::words::few;

use super::super::filter::Filter;
use super::super::sql::{Kind, Script, quoted, tokens};
use super::dump::{Dump, Stored};
use super::plan::Plan;
use super::{Job, NAMED};

/// Returns how many warnings there were.
pub(super) fn remark(job: &Job<'_>, filter: &Filter, plans: &[Plan<'_>]) -> u64 {
    let mut warnings = 0;
    let mut warn = |about: &str, text: String| {
        job.cx.events.warn(WarningKind::Other, about, text);
        warnings += 1;
    };
    note_matches(job.dump, filter);
    for plan in plans {
        for text in plan.separated() {
            warn(&plan.target, text);
        }
        let names = keeping_names(plan);
        if !names.is_empty() {
            let text = "bodies of functions are text: these still refer to the renamed schema by \
                        its old name";
            warn(&plan.target, format!("{text}: {}", few(&names, NAMED)));
        }
    }
    warnings
}

/// Records the patterns that match something in the snapshot; the pipeline reports the others.
fn note_matches(dump: &Dump, filter: &Filter) {
    let names = dump.databases.iter().flat_map(|stored| {
        let name = &stored.manifest.name;
        below(stored).into_iter().map(move |below| format!("{name}.{below}")).chain([name.clone()])
    });
    filter.note_matches(names);
}

/// Schemas and relations of a database.
fn below(stored: &Stored) -> Vec<String> {
    let manifest = &stored.manifest;
    let tables = manifest.tables.iter().map(|table| (&*table.schema, &*table.name));
    let sequences = manifest.sequences.iter().map(|one| (&*one.schema, &*one.name));
    let large_objects = manifest.large_objects.map(|_| ("pg_catalog", "pg_largeobject"));
    let mut names: Vec<String> = tables
        .chain(sequences)
        .chain(large_objects)
        .map(|(schema, name)| format!("{schema}.{name}"))
        .collect();
    for script in [&stored.before, &stored.after] {
        for entry in &Script::parse(script).entries {
            let schema = if entry.kind == "SCHEMA" { &entry.name } else { &entry.schema };
            names.extend([schema.clone().into_owned(), format!("{schema}.{}", entry.name)]);
        }
    }
    names
}

/// Functions whose text names a schema that gets another name.
fn keeping_names(plan: &Plan<'_>) -> Vec<String> {
    let schemas = plan.names.schemas.keys();
    let old: Vec<String> =
        schemas.flat_map(|schema| [format!("{schema}."), format!("{}.", quoted(schema))]).collect();
    let functions =
        plan.before.iter().filter(|entry| matches!(entry.kind, "FUNCTION" | "PROCEDURE"));
    let names_old = |statement: &&str| {
        let mut texts = tokens(statement).filter(|token| token.kind == Kind::Text);
        texts.any(|token| old.iter().any(|name| token.text.contains(name)))
    };
    let keeping = functions.filter(|entry| entry.statements.first().is_some_and(names_old));
    keeping.map(|entry| format!("{}.{}", entry.schema, entry.name)).collect()
}
