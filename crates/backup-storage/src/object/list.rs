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
    parts
        .store
        .list(under.as_ref())
        .map_err({
            let parts = Arc::clone(&parts);
            move |error| error::map(parts.place(), &error, Operation::List, &what)
        })
        .try_filter_map(move |found| {
            let meta = parts.key(&found.location).map(|key| read::meta(key, &found));
            std::future::ready(Ok(meta))
        })
        .boxed()
}
