//! Objects that the server refuses. Each is tried again after the others: a constraint may read a
//! table whose rows come later. Those that are refused again are reported, and the rest of the
//! database is restored.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backup_core::event::WarningKind;
use backup_core::source::{RestoreFailure, RestoreReport, SourceError, SourceErrorKind};
use backup_core::words;

use super::super::manifest::Table;
use super::super::sql::Relation;
use super::Job;
use super::plan::Plan;

/// An error of the server, and its SQLSTATE if it has one.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) error: SourceError,
}

impl Work {
    /// Statements that make no object.
    pub(super) fn statements(sql: String, doing: String) -> Self {
        Self::Statements { sql, then: Vec::new(), doing, makes: None, is_index: false }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self { code: String::new(), error }
    }
}

/// Work on one object.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Statements {
        sql: String,
        /// Statements that need these: its owner. Each succeeds or fails by itself.
        then: Vec<String>,
        /// Beginning of the error, for instance `cannot create view v`.
        doing: String,
        /// The relation that they make, under its name at the target.
        makes: Option<Relation>,
        /// True if they make an index that only speed depends on.
        is_index: bool,
    },
    /// Rows of a table.
    Rows {
        /// Path of the file in the directory of the database.
        path: String,
    },
}

/// Work that the server refused.
#[derive(Debug)]
pub(super) struct Failed {
    /// The object, as it is reported.
    pub(super) object: String,
    pub(super) work: Work,
    /// Settings in force when it was refused: tablespace and access method of new tables.
    pub(super) settings: [String; 2],
    pub(super) refusal: Refusal,
}

impl Failed {
    /// Returns `true` for an index whose method or operator class the target lacks: nothing but
    /// speed depends on it.
    fn is_unsupported_index(&self) -> bool {
        let lacks = matches!(&*self.refusal.code, "0A000" | "42704" | "58P01");
        lacks && matches!(self.work, Work::Statements { is_index: true, .. })
    }
}

/// Failures of one database.
#[derive(Debug)]
pub(super) struct Failures {
    pub(super) exit_on_error: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Failed>,
    lost: Vec<Failed>,
    missing: HashSet<Relation>,
    /// Warnings about objects that are restored.
    warnings: u64,
}

/// Returns `true` if an error concerns the object alone, not the connection or the repository.
pub(super) fn concerns_object(error: &SourceError) -> bool {
    use SourceErrorKind::{Invalid, Target, TargetExists};
    matches!(error.kind(), Target | TargetExists | Invalid)
}

impl Failures {
    pub(super) fn new(exit_on_error: bool) -> Self {
        Self { exit_on_error, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps work to be tried again.
    pub(super) fn add(&self, failed: Failed) {
        self.state().waiting.push(failed);
    }

    /// Takes all work that is to be tried again.
    pub(super) fn take(&self) -> Vec<Failed> {
        std::mem::take(&mut self.state().waiting)
    }

    /// Gives work up. Objects of relations that are missing now are left out without a warning.
    pub(super) fn give_up(&self, failed: Vec<Failed>) {
        let mut state = self.state();
        for one in failed {
            if let Work::Statements { makes: Some(relation), .. } = &one.work {
                state.missing.insert(relation.clone());
            }
            state.lost.push(one);
        }
    }

    /// Warns of an object that is restored, but not as it was.
    pub(super) fn warn(&self, job: &Job<'_>, about: &str, text: String) {
        job.cx.events.warn(WarningKind::Other, about, text);
        self.state().warnings += 1;
    }

    /// Returns `true` for a relation of the target that could not be made.
    pub(super) fn lacks(&self, relation: &Relation) -> bool {
        self.state().missing.contains(relation)
    }

    /// Returns `true` if all rows of a table are there, and those of tables that are loaded through
    /// it.
    pub(super) fn has_all(&self, plan: &Plan<'_>, table: &Table) -> bool {
        if !plan.routes.contains(&(table.schema.clone(), table.name.clone())) {
            return self.has_own(plan, table);
        }
        let name = plan.name_of(table);
        let mut through = plan.tables.iter().filter(|one| plan.loaded_into(one) == name);
        self.has_own(plan, table) && through.all(|one| self.has_own(plan, one))
    }

    fn has_own(&self, plan: &Plan<'_>, table: &Table) -> bool {
        let state = self.state();
        let is_of_table = |failed: &Failed| match &failed.work {
            Work::Rows { path } => table.files.iter().any(|file| file.path == *path),
            Work::Statements { .. } => false,
        };
        let into = [plan.name_of(table), plan.loaded_into(table)];
        !into.iter().any(|one| state.missing.contains(one)) && !state.lost.iter().any(is_of_table)
    }

    /// The error of a database that must not be changed: an object of it cannot be replaced
    /// (`replaces`), or nothing could be restored.
    pub(super) fn fatal(&self, plan: &Plan<'_>, replaces: bool) -> Option<SourceError> {
        let with_rows = || plan.tables.iter().filter(|table| !table.files.is_empty());
        let has_some = with_rows().any(|table| self.has_all(plan, table));
        let mut state = self.state();
        let at = state.lost.iter().position(|one| !one.is_unsupported_index());
        let at = at.filter(|_| replaces || !has_some)?;
        let more = state.lost.len() - 1;
        let error = state.lost.swap_remove(at).refusal.error;
        Some(match more {
            0 => error,
            more => error.context(format!("{} objects fail, the first of them", more + 1)),
        })
    }

    /// Reports all objects that are not restored, or not wholly.
    pub(super) fn report(&self, job: &Job<'_>, plan: &Plan<'_>, report: &mut RestoreReport) {
        report.warnings += std::mem::take(&mut self.state().warnings);
        for Failed { object, work, refusal, .. } in std::mem::take(&mut self.state().lost) {
            let rows: u64 = match &work {
                Work::Statements { makes: Some(relation), .. } => {
                    let of = plan.tables.iter().filter(|table| {
                        plan.name_of(table) == *relation || plan.loaded_into(table) == *relation
                    });
                    of.flat_map(|table| &table.files).map(|file| file.rows).sum()
                }
                Work::Statements { .. } => 0,
                Work::Rows { path } => plan.rows_at(path).map_or(0, |(_, file)| file.rows),
            };
            let missing = match rows {
                0 => String::new(),
                rows => format!("; {} missing", words::count(rows, "row is", "rows are")),
            };
            lose(job, report, format!("{}.{object}", plan.target), &refusal.error, &missing);
        }
    }
}

/// Reports an object that is not restored, or not wholly.
pub(super) fn lose(
    job: &Job<'_>,
    report: &mut RestoreReport,
    object: String,
    error: &SourceError,
    missing: &str,
) {
    let hint = error.hint().map(str::to_owned);
    let reason = format!("{}{missing}", error.chain());
    let text = match &hint {
        Some(hint) => format!("not restored: {reason} ({hint})"),
        None => format!("not restored: {reason}"),
    };
    job.cx.events.warn(WarningKind::Other, &*object, text);
    report.warnings += 1;
    report.failed.push(RestoreFailure { object, reason, hint });
}
