//! The suite by which every source proves that it keeps the contract of [`Source`].
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`source_conformance`]: runs all checks |
//! | `subject.rs` | what a check is given: the source, ways to fail with the check's name; [`SourceTarget`] |
//! | `reading.rs` | identity, probing, items, contents, selections, logs |
//! | `ending.rs` | giving up and cancelling |
//! | `round_trip.rs` | through a real repository and back |

mod ending;
mod reading;
mod round_trip;
mod subject;

use std::sync::Arc;

pub use subject::SourceTarget;

use subject::Subject;

use crate::source::Source;

/// How a source is known to differ from others within the contract. The checks are the same for
/// all; some expect something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceDifferences {
    /// Patterns of a selection match paths of entries. False where they match other names, such as
    /// `database.collection`: what a selection leaves out is then for the source's own tests.
    pub selects_by_path: bool,
}

impl Default for SourceDifferences {
    fn default() -> Self {
        Self { selects_by_path: true }
    }
}

/// Checks every sentence of the contracts of [`Source`] and
/// [`BackupReader`](crate::source::BackupReader) that can be observed.
///
/// `source` must hold at least two files with content, and must not change meanwhile.
/// `fresh_target` gives a new, empty place to restore to, each time it is called.
///
/// # Panics
/// With the name of the check that failed.
pub async fn source_conformance(
    source: Arc<dyn Source>,
    fresh_target: impl AsyncFn() -> SourceTarget,
    differences: SourceDifferences,
) {
    macro_rules! check {
        ($($module:ident :: $check:ident ( $($target:expr),* )),+ $(,)?) => {
            $({
                let name = concat!(stringify!($module), "::", stringify!($check));
                let subject = Subject::new(name, Arc::clone(&source), differences);
                // Boxed, so that the suite's own future stays small.
                Box::pin($module::$check(&subject $(, $target)*)).await;
            })+
        };
    }
    check!(
        reading::its_identity_is_stable(),
        reading::a_probe_changes_nothing(),
        reading::items_are_consistent(),
        reading::contents_may_be_read_late_and_together(),
        reading::a_selection_leaves_out_what_it_excludes(),
        reading::a_log_is_there_if_it_is_declared(),
        ending::giving_up_releases_everything(),
        ending::a_cancelled_call_ends_soon(),
        ending::a_cancelled_reader_ends_soon(),
        round_trip::what_is_restored_is_what_was_there(fresh_target().await),
        round_trip::a_second_backup_restores_as_well(fresh_target().await),
        round_trip::what_exists_is_not_replaced(fresh_target().await),
        round_trip::a_dry_run_writes_nothing(fresh_target().await),
        round_trip::a_cancelled_restore_ends_soon(fresh_target().await),
    );
}

#[cfg(test)]
mod tests;
