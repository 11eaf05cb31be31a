//! The suite by which every sink proves that it keeps the contract of [`Sink`].
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`sink_conformance`]: runs all checks, each on a place of its own |
//! | `place.rs` | what a check is given: two handles, and ways to fail with its name |
//! | `put.rs` | storing, overwriting, creating, odd keys |
//! | `atomic.rs` | dropped puts, uploads, readers beside writers |
//! | `read.rs` | contents, ranges, what is missing |
//! | `list.rs` | listing and deleting |

mod atomic;
mod list;
mod place;
mod put;
mod read;

use std::sync::Arc;

use place::Place;

use crate::sink::Sink;

/// How a sink is known to differ from others within the contract. The checks are the same for all;
/// some expect something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkDifferences {
    /// `a` and `a/b` can both be objects. A file system cannot do that: there the second put must
    /// fail with [`Invalid`](crate::sink::SinkErrorKind::Invalid) and change nothing.
    pub nested_keys: bool,
    /// How many objects the largest list has. More than 1000 show whether a store's pages are put
    /// together; fewer suit a store where every put costs money.
    pub list_objects: usize,
}

impl Default for SinkDifferences {
    fn default() -> Self {
        Self { nested_keys: true, list_objects: 1200 }
    }
}

impl SinkDifferences {
    /// Those of a file system: no key is the beginning of another one.
    #[must_use]
    pub fn file_system() -> Self {
        Self { nested_keys: false, ..Self::default() }
    }
}

/// Two handles on one place. Where a handle has state of its own (a cache, known directories), they
/// must not share it.
#[derive(Debug, Clone)]
pub struct SinkHandles {
    one: Arc<dyn Sink>,
    two: Arc<dyn Sink>,
}

impl SinkHandles {
    /// Two handles on one place.
    #[must_use]
    pub fn new(one: impl Sink, two: impl Sink) -> Self {
        Self { one: Arc::new(one), two: Arc::new(two) }
    }
}

/// Checks every sentence of the contract of [`Sink`] that can be observed.
///
/// `make` is called once per check and gives two handles on a new, empty place.
///
/// # Panics
/// With the name of the check that failed.
pub async fn sink_conformance(make: impl AsyncFn() -> SinkHandles, differences: SinkDifferences) {
    macro_rules! check {
        ($($module:ident :: $check:ident),+ $(,)?) => {
            $({
                let SinkHandles { one, two } = make().await;
                let name = concat!(stringify!($module), "::", stringify!($check));
                // Boxed, so that the suite's own future stays small.
                Box::pin($module::$check(Place::new(name, one, two, differences))).await;
            })+
        };
    }
    check!(
        put::an_object_is_what_was_put,
        put::an_empty_object_is_an_object,
        put::segments_are_joined_in_order,
        put::a_put_replaces_everything,
        put::what_one_handle_writes_the_other_sees,
        put::create_leaves_what_exists,
        put::of_many_rivals_one_wins,
        put::odd_names_are_names,
        put::names_within_names,
        put::many_puts_at_a_time,
        atomic::a_dropped_put_is_done_or_not_done,
        atomic::a_dropped_overwrite_is_done_or_not_done,
        atomic::an_upload_is_visible_when_complete,
        atomic::an_upload_without_parts_is_empty,
        atomic::an_upload_replaces_everything,
        atomic::a_dropped_upload_leaves_nothing,
        atomic::an_aborted_upload_leaves_nothing,
        atomic::a_reader_sees_one_version,
        read::ranges_are_exact,
        read::ranges_of_large_objects_are_exact,
        read::a_range_outside_is_invalid,
        read::what_is_missing_is_not_found,
        read::streams_outlive_their_sink,
        read::a_dropped_stream_harms_nothing,
        list::a_list_has_every_object_once,
        list::a_prefix_ends_at_a_slash,
        list::a_prefix_without_objects_is_empty,
        list::a_list_has_what_was_there_before,
        list::deleted_is_gone,
        list::deleting_what_is_missing_succeeds,
        list::every_deletion_has_its_answer,
    );
}

#[cfg(test)]
mod tests;
