//! Contents, ranges, sizes.

use std::ops::Range;
use std::sync::Arc;

use backup_core::sink::{Key, ObjectMeta, Operation, SinkError, SinkErrorKind, SinkResult};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::{GetOptions, GetRange};

use super::Parts;

/// What is known of an object, without its content.
pub(super) async fn head(parts: &Parts, key: &Key, operation: Operation) -> SinkResult<ObjectMeta> {
    let path = parts.path(key, operation)?;
    let options = GetOptions { head: true, ..GetOptions::default() };
    let result = parts
        .store
        .get_opts(&path, options)
        .await
        .map_err(|error| parts.error(&error, operation, key))?;
    Ok(meta(key.clone(), &result.meta))
}

pub(super) fn meta(key: Key, meta: &object_store::ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        key,
        size: meta.size,
        last_modified: Timestamp::from_second(meta.last_modified.timestamp()).ok(),
        etag: meta.e_tag.clone(),
    }
}

/// The content of an object, or a range of it.
pub(super) async fn get(
    parts: &Arc<Parts>,
    key: &Key,
    range: Option<Range<u64>>,
) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
    if let Some(range) = &range
        && range.start >= range.end
    {
        // Such a range cannot be asked for.
        let size = head(parts, key, Operation::Get).await?.size;
        return if range.start == range.end && range.end <= size {
            Ok(stream::empty().boxed())
        } else {
            Err(outside(key, range, size))
        };
    }
    let path = parts.path(key, Operation::Get)?;
    let options =
        GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
    let result = match (parts.store.get_opts(&path, options).await, &range) {
        (Ok(result), Some(range)) if result.range != *range => {
            return Err(outside(key, range, result.meta.size));
        }
        (Ok(result), _) => result,
        (Err(error), None) => return Err(parts.error(&error, Operation::Get, key)),
        (Err(error), Some(range)) => {
            let error = parts.error(&error, Operation::Get, key);
            return Err(explain(parts, key, range, error).await);
        }
    };
    let (parts, key) = (Arc::clone(parts), key.clone());
    Ok(result.into_stream().map_err(move |error| parts.error(&error, Operation::Get, &key)).boxed())
}

/// Stores differ in how they refuse a range that is not in the object; some send the whole of it.
async fn explain(parts: &Parts, key: &Key, range: &Range<u64>, error: SinkError) -> SinkError {
    use SinkErrorKind::{Archived, NotFound, PermissionDenied};
    if matches!(error.kind(), NotFound | PermissionDenied | Archived) {
        return error;
    }
    match head(parts, key, Operation::Get).await {
        Ok(meta) if range.end > meta.size => outside(key, range, meta.size),
        _ => error,
    }
}

fn outside(key: &Key, range: &Range<u64>, size: u64) -> SinkError {
    SinkError::new(SinkErrorKind::Invalid, Operation::Get, key)
        .with_source(format!(
            "the range {}..{} is outside of the object, which has {size} bytes",
            range.start, range.end
        ))
        .without_effect()
}
