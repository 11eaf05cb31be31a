//! Listing.
//!
//! That a page is a page is checked on the way (`wire/listing.rs`): it must say that it is a
//! listing of the prefix that was asked for, and whether it is the last. An empty list is thus what
//! the store said, never what a proxy said. Whether the store itself is to be believed is for the
//! repository to know, which has objects that must be there.

use std::sync::Arc;

use backup_core::sink::{ObjectMeta, Operation, Prefix, SinkError, SinkErrorKind, SinkResult};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::{Parts, error, read};

pub(super) fn list(
    parts: Arc<Parts>,
    prefix: &Prefix,
) -> BoxStream<'static, SinkResult<ObjectMeta>> {
    let under = match parts.join(prefix.as_str()) {
        Ok(path) => (!path.as_ref().is_empty()).then_some(path),
        Err(error) => {
            let error = SinkError::on(SinkErrorKind::Invalid, Operation::List, prefix.as_str())
                .with_source(error);
            return stream::iter([Err(error)]).boxed();
        }
    };
    let what = prefix.as_str().to_owned();
    let mut repetition = Repetition::default();
    let listed = prefix.as_str().to_owned();
    let above = under.clone();
    parts
        .store
        .list(under.as_ref())
        .map_err({
            let parts = Arc::clone(&parts);
            move |error| error::map(parts.place(), &error, Operation::List, &what)
        })
        .try_filter_map(move |found| {
            let wrong = if repetition.is_at(&found.location) {
                Some("its pages repeat themselves")
            } else {
                let is_below =
                    above.as_ref().is_none_or(|path| found.location.prefix_matches(path));
                (!is_below).then_some("it lists objects that were not requested")
            };
            std::future::ready(match wrong {
                None => Ok(parts.key(&found.location).map(|key| read::meta(key, &found))),
                Some(text) => {
                    let error = SinkError::on(SinkErrorKind::Unavailable, Operation::List, &listed);
                    Err(error.with_source(format!("the listing is invalid: {text}")))
                }
            })
        })
        .boxed()
}

/// Notices a listing that begins again, in constant memory: Brent's algorithm for cycles. An object
/// at a position that is a power of two is compared with all that follow up to the next one.
#[derive(Debug, Default)]
struct Repetition {
    kept: Option<Path>,
    /// Objects since the kept one.
    steps: u64,
    power: u64,
}

impl Repetition {
    /// True if the next object of the listing is the kept one.
    fn is_at(&mut self, location: &Path) -> bool {
        if self.kept.as_ref() == Some(location) {
            return true;
        }
        self.steps += 1;
        if self.steps >= self.power {
            self.power = (self.power * 2).max(1);
            self.steps = 0;
            self.kept = Some(location.clone());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Position at which a listing that goes back to `start` after `end` is refused.
    fn refused_at(start: usize, end: usize) -> Option<usize> {
        let mut repetition = Repetition::default();
        let positions = (0..end).chain((0..).flat_map(move |_| start..end)).take(20 * end);
        positions
            .enumerate()
            .find(|(_, n)| repetition.is_at(&Path::from(format!("data/{n}"))))
            .map(|(at, _)| at)
    }

    #[test]
    fn repetition_finds_every_loop() {
        for end in [1, 2, 3, 7, 100, 1000] {
            for start in [0, end / 2, end - 1] {
                let at = refused_at(start, end).unwrap_or_else(|| panic!("{start} {end}"));
                assert!((end..5 * end + 5).contains(&at), "{start} {end}: {at}");
            }
        }
        let mut repetition = Repetition::default();
        assert!(!(0..100_000).any(|n| repetition.is_at(&Path::from(format!("data/{n}")))));
    }
}
