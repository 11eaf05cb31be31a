//! Contents and lists that fail, end or change half way. They are read in full first: half of what,
//! nobody knows before.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::plan::{Fault, error};
use crate::sink::{ObjectMeta, Operation, SinkResult};

pub(super) async fn faulty_content(
    fault: Fault,
    key: &str,
    content: BoxStream<'static, SinkResult<Bytes>>,
) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
    let pieces: Vec<Bytes> = content.try_collect().await?;
    let mut bytes = pieces.concat();
    let half = bytes.len() / 2;
    let mut failure = None;
    match fault {
        Fault::Midway(kind) => {
            bytes.truncate(half);
            failure = Some(Err(error(kind, Operation::Get, key)));
        }
        Fault::Truncated => bytes.truncate(half),
        Fault::Corrupted => {
            if let Some(byte) = bytes.get_mut(half) {
                *byte ^= 0x10;
            }
        }
        // These have happened by now, or never get here.
        Fault::Before(_) | Fault::BeforeUnknown(_) | Fault::After(_) | Fault::Delay(_) => {}
    }
    let content = [Ok(Bytes::from(bytes))].into_iter().chain(failure);
    Ok(stream::iter(content).boxed())
}

pub(super) async fn faulty_list(
    fault: Fault,
    prefix: &str,
    list: BoxStream<'static, SinkResult<ObjectMeta>>,
) -> BoxStream<'static, SinkResult<ObjectMeta>> {
    let mut all: Vec<_> = list.collect().await;
    match fault {
        Fault::Midway(kind) => {
            all.truncate(all.len() / 2);
            all.push(Err(error(kind, Operation::List, prefix)));
        }
        Fault::After(kind) => all.push(Err(error(kind, Operation::List, prefix))),
        // These have happened by now, or are not for lists.
        Fault::Before(_)
        | Fault::BeforeUnknown(_)
        | Fault::Truncated
        | Fault::Corrupted
        | Fault::Delay(_) => {}
    }
    stream::iter(all).boxed()
}
