//! One collection by several cursors: ranges of `_id`, in order.
//!
//! Worth it only if the order of `_id` is about that in which documents lie in the data file (a
//! random `_id` read in order costs the server a hundred times as much), and right only if all
//! `_id`s are of one type: comparisons see one type only. Each range is about one batch of the
//! server, so that what later ranges have read waits in bounded memory until the earlier ones are
//! through: the result is the same as with one cursor in order of `_id`, and a cursor that is lost
//! is taken up behind the last document.

use std::sync::Arc;

use ::mongodb::error::Error;
use ::mongodb::raw_batch_cursor::RawBatch;
use bson::spec::ElementType;
use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::collection::{PAUSE, Place, is_passing};
use crate::mongodb::catalog::{Collection, number};
use crate::mongodb::error::is_unreachable;
use crate::mongodb::raw::last_of;
use crate::mongodb::requests::is_moved;

/// Collections below this many bytes are read by one cursor.
pub(super) const WORTH_IT: f64 = 96.0 * 1024.0 * 1024.0;
/// About how many bytes one range has. It comes as one batch: small enough that its memory is used
/// again and again, which it is not with the server's 16 MiB.
const RANGE: f64 = 4.0 * 1024.0 * 1024.0;
/// How many documents are looked at to learn about the order.
const SAMPLE: i32 = 200;
/// Rank correlation of `_id` and place from which on they count as the same order.
const SAME_ORDER: f64 = 0.9;
/// Times that a range is taken up without progress.
const ATTEMPTS: u32 = 8;

/// A batch of a range on its way; `None` behind its last.
type Piece = Result<Option<Arc<RawBatch>>, Error>;

/// Reads a collection by ranges.
pub(super) struct Ranges {
    place: Place,
    /// Documents per range.
    step: i64,
    /// Where the next range begins: `None` for the very first, `Some(None)` behind the last.
    next: Option<Option<RawBson>>,
    begun: bool,
    running: std::collections::VecDeque<mpsc::Receiver<Piece>>,
}

impl Ranges {
    /// Whether a collection is to be read like that. What cannot be told is read by one cursor.
    pub(super) async fn of(place: &Place, collection: &Collection) -> Option<Self> {
        let scan = &place.scan;
        let plain = !collection.is_capped()
            && !["collation", "clusteredIndex"].iter().any(|option| collection.options.has(option));
        if scan.cursors < 2 || !plain {
            return None;
        }
        let stats = doc! { "collStats": &collection.namespace.name };
        let stats = scan.server.run(&collection.namespace.db, stats).await.ok()?;
        let (size, count) = (number(stats.get("size")), number(stats.get("count")));
        if size < WORTH_IT
            || count < f64::from(SAMPLE)
            || !same_types(place).await?
            || !same_order(place, collection).await?
        {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a number of documents")]
        let step = (count * RANGE / size).clamp(1.0, 1e9) as i64;
        Some(Self {
            place: place.clone(),
            step,
            next: None,
            begun: false,
            running: std::collections::VecDeque::new(),
        })
    }

    /// The next documents in order of `_id`.
    pub(super) async fn next(&mut self) -> Result<Option<Arc<RawBatch>>, Error> {
        loop {
            // The first range always runs; others if the run's other contents leave cursors.
            while self.running.is_empty() || self.running.len() < self.place.scan.cursors {
                let permit = if self.running.is_empty() {
                    None
                } else {
                    match Arc::clone(&self.place.scan.spare).try_acquire_owned() {
                        Ok(permit) => Some(permit),
                        Err(_) => break,
                    }
                };
                if !self.begin(permit).await? {
                    break;
                }
            }
            let Some(first) = self.running.front_mut() else { return Ok(None) };
            match next_of(first).await? {
                Some(batch) => return Ok(Some(batch)),
                None => _ = self.running.pop_front(),
            }
        }
    }

    /// Begins to read the next range; false if there is none.
    async fn begin(&mut self, permit: Option<OwnedSemaphorePermit>) -> Result<bool, Error> {
        let from = match (self.begun, self.next.take()) {
            (false, _) => None,
            (true, Some(Some(from))) => Some(from),
            (true, _) => return Ok(false),
        };
        let to = boundary(&self.place, from.as_ref(), self.step).await?;
        (self.begun, self.next) = (true, Some(to.clone()));
        let (sender, receiver) = mpsc::channel(1);
        let place = self.place.clone();
        tokio::spawn(async move {
            let end = read(&place, from, to, &sender).await.map(|()| None);
            drop(permit);
            // If nobody waits for it any more, it does not matter.
            sender.send(end).await.ok();
        });
        self.running.push_back(receiver);
        Ok(true)
    }
}

/// What a range has next. One whose reader is gone without having said that it is through is not:
/// documents would be missing.
async fn next_of(range: &mut mpsc::Receiver<Piece>) -> Piece {
    range
        .recv()
        .await
        .unwrap_or_else(|| Err(Error::custom("the reader of a range ended unexpectedly")))
}

/// The `_id` that comes `step` documents behind `from`.
async fn boundary(
    place: &Place,
    from: Option<&RawBson>,
    step: i64,
) -> Result<Option<RawBson>, Error> {
    let mut find = place.find();
    find.extend(
        doc! { "sort": { "_id": 1 }, "skip": step, "limit": 1, "singleBatch": true, "projection": { "_id": 1 } },
    );
    let found = list(place, find, from.map(|from| ("$gte", from)), None).await?;
    Ok(found.first().and_then(|document| id(document)))
}

fn id(document: &RawDocument) -> Option<RawBson> {
    document.get("_id").ok().flatten().map(RawBson::from)
}

/// `find` with a range of `_id`.
fn ranged(
    find: &Document,
    from: Option<(&str, &RawBson)>,
    to: Option<&RawBson>,
) -> Result<RawDocumentBuf, Error> {
    let mut command = RawDocumentBuf::try_from(find)?;
    let mut range = RawDocumentBuf::new();
    for (operator, value) in from.into_iter().chain(to.map(|to| ("$lt", to))) {
        range.append(bson::raw::CString::try_from(operator)?, value.as_raw_bson_ref());
    }
    let mut filter = RawDocumentBuf::new();
    if !range.is_empty() {
        filter.append(bson::cstr!("_id"), range);
    }
    command.append(bson::cstr!("filter"), filter);
    Ok(command)
}

async fn list(
    place: &Place,
    find: Document,
    from: Option<(&str, &RawBson)>,
    to: Option<&RawBson>,
) -> Result<Vec<RawDocumentBuf>, Error> {
    let listing = async || {
        let command = ranged(&find, from, to)?;
        let mut batches = place.batches(command).await?;
        let mut found = Vec::new();
        while let Some(batch) = batches.next().await? {
            for document in batch.doc_slices()? {
                if let RawBsonRef::Document(document) = document? {
                    found.push(document.to_owned());
                }
            }
        }
        Ok(found)
    };
    // Once more at another member: identifiers are the same there.
    match listing().await {
        Err(error) if is_moved(&error) => listing().await,
        other => other,
    }
}

/// Reads one range to its end, through every disturbance that only concerns its cursor.
async fn read(
    place: &Place,
    from: Option<RawBson>,
    to: Option<RawBson>,
    out: &mpsc::Sender<Piece>,
) -> Result<(), Error> {
    let mut find = place.find();
    // As many at once as the server can: without a number the first batch has 101 documents.
    find.extend(doc! { "hint": { "_id": 1 }, "batchSize": i32::MAX });
    let (mut from, mut operator, mut failures) = (from, "$gte", 0);
    // Its last document is looked for only if reading has to go on behind it.
    let mut last: Option<Arc<RawBatch>> = None;
    loop {
        let reading = async {
            let range = from.as_ref().map(|from| (operator, from));
            let mut batches = place.batches(ranged(&find, range, to.as_ref())?).await?;
            while let Some(batch) = batches.next().await? {
                if batch.doc_slices()?.is_empty() {
                    continue;
                }
                let batch = Arc::new(batch);
                (last, failures) = (Some(Arc::clone(&batch)), 0);
                if out.send(Ok(Some(batch))).await.is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        match reading.await {
            // Whether there is any member at all is for the caller to find out.
            Err(error) if is_passing(&error) && !is_unreachable(&error) && failures < ATTEMPTS => {
                failures += 1;
                if let Some(batch) = last.take()
                    && let Some(document) =
                        last_of(batch.doc_slices()?.as_bytes()).map_err(Error::custom)?
                {
                    (from, operator) = (id(RawDocument::from_bytes(document)?), "$gt");
                }
                tokio::time::sleep(PAUSE * failures).await;
            }
            other => return other,
        }
    }
}

/// Whether the first and the last `_id` are of one type, and so are all between them.
async fn same_types(place: &Place) -> Option<bool> {
    let mut types = Vec::new();
    for order in [1, -1] {
        let mut find = place.find();
        find.extend(doc! { "sort": { "_id": order }, "limit": 1, "singleBatch": true, "projection": { "_id": 1 } });
        types.push(
            list(place, find, None, None)
                .await
                .ok()?
                .first()
                .and_then(|first| comparable(&id(first)?)),
        );
    }
    Some(types[0].is_some() && types[0] == types[1])
}

/// Types whose values compare with each other; `None` for those that are not read in ranges.
fn comparable(id: &RawBson) -> Option<ElementType> {
    match id {
        RawBson::Double(number) if number.is_nan() => None,
        RawBson::Int32(_) | RawBson::Int64(_) | RawBson::Double(_) => Some(ElementType::Double),
        RawBson::ObjectId(_) | RawBson::String(_) | RawBson::DateTime(_) | RawBson::Binary(_) => {
            Some(id.element_type())
        }
        _ => None,
    }
}

/// Whether documents lie about in order of their `_id`s.
async fn same_order(place: &Place, collection: &Collection) -> Option<bool> {
    let pipeline = vec![doc! { "$sample": { "size": SAMPLE } }, doc! { "$project": { "_id": 1 } }];
    let sample =
        doc! { "aggregate": &collection.namespace.name, "pipeline": pipeline, "cursor": {} };
    let sample = place.scan.server.list(&place.db, sample).await.ok()?;
    let ids: Vec<Bson> =
        sample.into_iter().filter_map(|mut document| document.remove("_id")).collect();
    let mut find = place.find();
    find.extend(doc! {
        "filter": { "_id": { "$in": ids } }, "sort": { "_id": 1 }, "projection": { "_id": 1 }, "showRecordId": true,
    });
    let found = place.scan.server.list(&place.db, find).await.ok()?;
    let places: Vec<i64> =
        found.iter().filter_map(|document| document.get_i64("$recordId").ok()).collect();
    Some(places.len() >= 50 && correlation(&places) > SAME_ORDER)
}

/// Rank correlation (Spearman's) of values with their indices.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn correlation(values: &[i64]) -> f64 {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|at| values[*at]);
    let squares: f64 =
        order.iter().enumerate().map(|(rank, at)| (rank as f64 - *at as f64).powi(2)).sum();
    let n = values.len() as f64;
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_is_gone_is_not_the_end_of_its_range() {
        let (sender, mut range) = mpsc::channel(1);
        sender.send(Ok(None)).await.unwrap();
        assert!(next_of(&mut range).await.unwrap().is_none());
        drop(sender);
        next_of(&mut range).await.unwrap_err();
    }

    #[test]
    fn order_is_told_from_disorder() {
        let ascending: Vec<i64> = (0..200).map(|n| n * 3).collect();
        assert!(correlation(&ascending) > 0.999);
        let descending: Vec<i64> = ascending.iter().rev().copied().collect();
        assert!(correlation(&descending) < -0.999);
        let mixed: Vec<i64> = (0..200).map(|n| n * 7919 % 200).collect();
        assert!(correlation(&mixed).abs() < SAME_ORDER);
    }

    #[test]
    fn types_that_compare_with_each_other() {
        let same =
            |a: RawBson, b: RawBson| comparable(&a).is_some() && comparable(&a) == comparable(&b);
        assert!(same(1_i32.into(), 2_i64.into()) && same(1_i32.into(), 2.5.into()));
        assert!(!same(1_i32.into(), f64::NAN.into()) && !same(1_i32.into(), "x".to_owned().into()));
        assert!(comparable(&RawBson::MaxKey).is_none() && comparable(&RawBson::Null).is_none());
    }

    #[test]
    fn commands_have_a_range() {
        let find = doc! { "find": "c" };
        let command = ranged(&find, Some(("$gt", &5_i32.into())), Some(&9_i32.into())).unwrap();
        assert_eq!(
            command,
            bson::rawdoc! { "find": "c", "filter": { "_id": { "$gt": 5, "$lt": 9 } } }
        );
        assert_eq!(ranged(&find, None, None).unwrap(), bson::rawdoc! { "find": "c", "filter": {} });
    }
}
