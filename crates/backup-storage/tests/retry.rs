//! The retrying sink: it keeps the contract, hides what passes, and gives up in time.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;
use std::time::Duration;

use backup_core::sink::{
    Effect, Key, Operation, Payload, Prefix, PutMode, Sink, SinkErrorKind, SinkOps, SinkResult,
};
use backup_core::testing::{
    Fault, FaultRule, FaultySink, MemorySink, RecordingSink, SinkDifferences, SinkHandles,
    sink_conformance,
};
use backup_storage::{RetryPolicy, RetrySink};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

const DOWN: SinkErrorKind = SinkErrorKind::Unavailable;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Retries over faults over memory.
struct Tower {
    memory: MemorySink,
    counted: RecordingSink,
    faults: FaultySink,
    sink: RetrySink<FaultySink>,
}

fn tower() -> Tower {
    let memory = MemorySink::new();
    let counted = RecordingSink::new(Arc::new(memory.clone()));
    let faults = FaultySink::new(Arc::new(counted.clone()));
    let sink = RetrySink::new(Arc::new(faults.clone()), RetryPolicy::default());
    Tower { memory, counted, faults, sink }
}

#[tokio::test]
async fn keeps_the_contract() {
    let make = async || {
        let memory = MemorySink::new();
        let handle = || RetrySink::new(Arc::new(memory.clone()), RetryPolicy::default());
        SinkHandles::new(handle(), handle())
    };
    sink_conformance(make, SinkDifferences::default()).await;
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract_while_every_third_request_fails() {
    let make = async || {
        let memory = MemorySink::new();
        let handle = || {
            let faults = FaultySink::new(Arc::new(memory.clone()));
            // Not `BeforeUnknown` for puts: who creates the same bytes twice is told that it was
            // him.
            for operation in [
                Operation::Put,
                Operation::Get,
                Operation::Head,
                Operation::List,
                Operation::Delete,
            ] {
                faults.add(FaultRule::new(Fault::Before(DOWN)).on(operation).every(3));
            }
            faults.add(FaultRule::new(Fault::Midway(DOWN)).after(1).every(3));
            RetrySink::new(Arc::new(faults), RetryPolicy::default())
        };
        SinkHandles::new(handle(), handle())
    };
    sink_conformance(make, SinkDifferences::default()).await;
}

/// Everything a sink can do, with what came of it.
async fn everything(sink: &impl Sink) -> SinkResult<Vec<String>> {
    let mut seen = Vec::new();
    for n in 0..6_u8 {
        sink.put_bytes(&key(&format!("data/{n}")), vec![n; 1000]).await?;
    }
    seen.push(format!("created {}", sink.create(&key("lease"), vec![1; 50]).await?));
    seen.push(format!("created {}", sink.create(&key("lease"), vec![2; 50]).await?));
    seen.push(format!("{:?}", sink.get_bytes(&key("data/3")).await?));
    seen.push(format!("{:?}", sink.get_range(&key("data/4"), 10..900).await?));
    seen.push(format!("{}", sink.head(&key("data/5")).await?.size));
    let keys = futures::stream::iter((0..3).map(|n| key(&format!("data/{n}"))));
    let mut deleted: Vec<_> = sink.delete(keys.boxed()).try_collect().await?;
    deleted.sort();
    seen.push(format!("{deleted:?}"));
    let listed: Vec<_> = sink.list(&Prefix::root()).try_collect().await?;
    let mut listed: Vec<_> = listed.into_iter().map(|meta| (meta.key, meta.size)).collect();
    listed.sort();
    seen.push(format!("{listed:?}"));
    Ok(seen)
}

#[tokio::test(start_paused = true)]
async fn every_request_may_fail_once() {
    let expected = everything(&MemorySink::new()).await.unwrap();
    for fault in
        [Fault::Before(DOWN), Fault::BeforeUnknown(DOWN), Fault::After(DOWN), Fault::Midway(DOWN)]
    {
        let mut sweep = 0;
        for n in 0.. {
            let tower = tower();
            tower.faults.fail_nth(n, fault);
            let seen = everything(&tower.sink).await.unwrap();
            assert_eq!(seen, expected, "{fault:?} at {n}");
            if tower.faults.fired() == 0 {
                break;
            }
            sweep += 1;
        }
        let possible = if matches!(fault, Fault::Midway(_)) { 3 } else { 15 };
        assert_eq!(sweep, possible, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn delays_grow_and_stay_below_their_limit() {
    let tower = tower();
    tower.faults.add(FaultRule::new(Fault::Before(DOWN)).times(12));
    let start = Instant::now();
    tower.sink.put_bytes(&key("a"), vec![1]).await.unwrap();
    // 0.1 + 0.2 + … + 6.4 s, then 10 s each, shortened by up to one half.
    let longest = Duration::from_millis(12_700 + 5 * 10_000);
    assert!((longest / 2..=longest).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(tower.faults.operations(), 13);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_at_the_deadline() {
    for operation in
        [Operation::Put, Operation::Get, Operation::Head, Operation::List, Operation::Delete]
    {
        let tower = tower();
        tower.memory.put_bytes(&key("a"), vec![1]).await.unwrap();
        tower.faults.add(FaultRule::new(Fault::Before(DOWN)).on(operation).forever());
        let start = Instant::now();
        let error = match operation {
            Operation::Put => tower.sink.put_bytes(&key("a"), vec![2]).await.unwrap_err(),
            Operation::Get => tower.sink.get_bytes(&key("a")).await.unwrap_err(),
            Operation::Head => tower.sink.head(&key("a")).await.unwrap_err(),
            Operation::List => tower.sink.list_all(&Prefix::root()).await.unwrap_err(),
            _ => tower.sink.delete_one(&key("a")).await.unwrap_err(),
        };
        assert_eq!(
            (error.kind(), error.operation(), error.effect()),
            (DOWN, operation, Effect::None)
        );
        let limit = RetryPolicy::default().deadline;
        // Each of the delays is rounded up to whole milliseconds.
        let longest = limit + Duration::from_millis(100);
        assert!(
            (limit - Duration::from_secs(10)..=longest).contains(&start.elapsed()),
            "{operation}"
        );
        assert!(tower.faults.fired() > 30, "{operation}: {}", tower.faults.fired());
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_not_tried_again() {
    for kind in [
        SinkErrorKind::Other,
        SinkErrorKind::PermissionDenied,
        SinkErrorKind::StorageFull,
        SinkErrorKind::Cancelled,
    ] {
        let tower = tower();
        let start = Instant::now();
        tower.faults.add(FaultRule::new(Fault::Before(kind)).forever());
        assert_eq!(tower.sink.put_bytes(&key("a"), vec![1]).await.unwrap_err().kind(), kind);
        assert_eq!(tower.sink.get_bytes(&key("a")).await.unwrap_err().kind(), kind);
        assert_eq!(tower.sink.list_all(&Prefix::root()).await.unwrap_err().kind(), kind);
        assert_eq!(tower.sink.upload(&key("a")).await.unwrap_err().kind(), kind);
        assert_eq!(tower.faults.operations(), 4);
        assert_eq!(tower.sink.delete_one(&key("a")).await.unwrap_err().kind(), kind);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn an_earlier_attempt_may_have_taken_effect() {
    let tower = tower();
    tower.faults.add(FaultRule::new(Fault::After(DOWN)));
    tower.faults.add(FaultRule::new(Fault::Before(DOWN)).forever());
    let error = tower.sink.put_bytes(&key("a"), vec![1]).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(tower.memory.objects()[&key("a")], vec![1]);
}

async fn create(sink: &impl Sink, bytes: &[u8]) -> SinkResult<()> {
    // In two segments, so that comparing has to cross their border.
    let (a, b) = bytes.split_at(bytes.len() / 3);
    let payload =
        Payload::from_segments(vec![Bytes::copy_from_slice(a), Bytes::copy_from_slice(b)]);
    sink.put(&key("lease"), payload, PutMode::Create).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_is_told_from_a_lost_race() {
    // Ours was stored, the response was lost.
    let ours = tower();
    ours.faults.fail_nth(0, Fault::After(DOWN));
    create(&ours.sink, &[1; 100]).await.unwrap();
    assert_eq!(ours.counted.count(Operation::Put, "lease"), 2);

    // A rival was faster, and our request was lost as well.
    for rival in [vec![2; 100], vec![1; 99], vec![1; 101], vec![]] {
        let race = tower();
        race.memory.put_bytes(&key("lease"), rival.clone()).await.unwrap();
        race.faults.fail_nth(0, Fault::BeforeUnknown(DOWN));
        let error = create(&race.sink, &[1; 100]).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::AlreadyExists);
        assert_eq!(race.memory.objects()[&key("lease")], rival);
    }

    // Nothing was lost: the same bytes are somebody else's.
    let taken = tower();
    taken.memory.put_bytes(&key("lease"), vec![1; 100]).await.unwrap();
    let error = create(&taken.sink, &[1; 100]).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (SinkErrorKind::AlreadyExists, Effect::None));
    assert_eq!(taken.counted.count(Operation::Get, "lease"), 0);

    // A first failure that certainly had no effect leaves no doubt either.
    let certain = tower();
    certain.memory.put_bytes(&key("lease"), vec![1; 100]).await.unwrap();
    certain.faults.fail_nth(0, Fault::Before(DOWN));
    assert!(create(&certain.sink, &[1; 100]).await.is_err());

    // Reading back is tried again as well.
    let shaky = tower();
    shaky.faults.add(FaultRule::new(Fault::After(DOWN)).on(Operation::Put));
    shaky.faults.add(FaultRule::new(Fault::Before(DOWN)).on(Operation::Get).times(3));
    create(&shaky.sink, &[1; 100]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_content_goes_on_where_it_was() {
    let bytes: Bytes = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
    for range in [None, Some(0..bytes.len() as u64), Some(77..3_000_001)] {
        let tower = tower();
        tower.memory.put_bytes(&key("a"), bytes.clone()).await.unwrap();
        tower.faults.add(FaultRule::new(Fault::Midway(DOWN)).on(Operation::Get).times(5));
        let pieces: Vec<_> =
            tower.sink.get(&key("a"), range.clone()).await.unwrap().try_collect().await.unwrap();
        let (start, end) =
            range.clone().map_or((0, bytes.len()), |r| (r.start as usize, r.end as usize));
        assert!(pieces.concat() == bytes[start..end], "{range:?}");
        // Half, a quarter, an eighth …: nothing is read twice.
        assert_eq!(tower.faults.fired(), 5);
        let read = tower.counted.bytes_read("a") as usize;
        assert!(read <= 2 * (end - start), "{read} bytes were read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_that_ends_early_is_completed() {
    let tower = tower();
    tower.memory.put_bytes(&key("a"), vec![5; 1000]).await.unwrap();
    tower.faults.add(FaultRule::new(Fault::Truncated).times(3));
    assert_eq!(tower.sink.get_range(&key("a"), 100..900).await.unwrap(), vec![5; 800]);
    assert_eq!(tower.faults.fired(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_content_that_gets_on_has_time() {
    let tower = tower();
    tower.memory.put_bytes(&key("a"), vec![5; 8 << 20]).await.unwrap();
    // Each request needs many attempts and brings half of what is left.
    for n in 0..10 {
        tower
            .faults
            .add(FaultRule::new(Fault::Before(DOWN)).on(Operation::Get).after(n * 20).times(19));
        tower.faults.add(FaultRule::new(Fault::Midway(DOWN)).on(Operation::Get).after(n * 20 + 19));
    }
    let start = Instant::now();
    assert_eq!(tower.sink.get_bytes(&key("a")).await.unwrap().len(), 8 << 20);
    assert!(start.elapsed() > 2 * RetryPolicy::default().deadline);
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_parts_of_two_versions() {
    let tower = tower();
    tower.memory.put_bytes(&key("lease"), vec![1; 1000]).await.unwrap();
    tower.faults.add(FaultRule::new(Fault::Midway(DOWN)));
    let content = tower.sink.get(&key("lease"), None).await.unwrap();
    tower.memory.put_bytes(&key("lease"), vec![2; 2000]).await.unwrap();
    let pieces: Vec<_> = content.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), vec![2; 2000]);

    // Of large objects, which are never replaced, only what cannot be overlooked is noticed.
    tower.memory.put_bytes(&key("pack"), vec![1; 8 << 20]).await.unwrap();
    tower.faults.fail_nth(0, Fault::Midway(DOWN));
    let content = tower.sink.get(&key("pack"), None).await.unwrap();
    tower.memory.put_bytes(&key("pack"), vec![2; 1000]).await.unwrap();
    let pieces: SinkResult<Vec<_>> = content.try_collect().await;
    assert_eq!(pieces.unwrap_err().kind(), SinkErrorKind::Other);
}

#[tokio::test(start_paused = true)]
async fn a_content_that_vanishes_is_an_error() {
    let tower = tower();
    tower.memory.put_bytes(&key("a"), vec![5; 4 << 20]).await.unwrap();
    tower.faults.add(FaultRule::new(Fault::Midway(DOWN)));
    let mut content = tower.sink.get(&key("a"), None).await.unwrap();
    content.next().await.unwrap().unwrap();
    tower.memory.remove(&key("a"));
    assert_eq!(content.next().await.unwrap().unwrap_err().kind(), SinkErrorKind::NotFound);
    assert!(content.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_list_yields_nothing_twice() {
    let tower = tower();
    for n in 0..500 {
        tower.memory.put_bytes(&key(&format!("data/{n}")), vec![0]).await.unwrap();
    }
    tower.faults.add(FaultRule::new(Fault::Midway(DOWN)).times(4));
    tower.faults.add(FaultRule::new(Fault::After(DOWN)).after(4).times(2));
    let listed: Vec<_> = tower.sink.list(&Prefix::root()).try_collect().await.unwrap();
    assert_eq!(tower.faults.fired(), 6);
    let keys: std::collections::HashSet<_> = listed.iter().map(|meta| &meta.key).collect();
    assert_eq!((listed.len(), keys.len()), (500, 500));
}

#[tokio::test(start_paused = true)]
async fn deletions_that_fail_are_answered_one_by_one() {
    let tower = tower();
    for n in 0..50 {
        tower.memory.put_bytes(&key(&format!("data/{n}")), vec![0]).await.unwrap();
    }
    tower.faults.add(FaultRule::new(Fault::After(DOWN)).after(10).times(20));
    tower.faults.add(
        FaultRule::new(Fault::Before(SinkErrorKind::PermissionDenied)).under("data/49").forever(),
    );
    let keys = futures::stream::iter((0..50).map(|n| key(&format!("data/{n}"))));
    let answers: Vec<_> = tower.sink.delete(keys.boxed()).collect().await;
    assert_eq!(answers.len(), 50);
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind(), SinkErrorKind::PermissionDenied);
    let left: Vec<_> = tower.memory.objects().into_keys().collect();
    assert_eq!(left, [key("data/49")]);
}

async fn upload(sink: &impl Sink) -> SinkResult<()> {
    let mut upload = sink.upload(&key("large")).await?;
    for n in 0..3 {
        upload.put_part(vec![n; 10].into()).await?;
    }
    upload.complete().await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn a_part_is_never_appended_twice() {
    let whole: Vec<u8> = [[0; 10], [1; 10], [2; 10]].concat();
    for fault in [Fault::Before(DOWN), Fault::BeforeUnknown(DOWN), Fault::After(DOWN)] {
        for n in 0..5 {
            let tower = tower();
            tower.faults.fail_nth(n, fault);
            let result = upload(&tower.sink).await;
            // Beginning again does no harm; a part or the end with unknown effect is for the caller
            // to begin again.
            let hidden = n == 0 || (fault == Fault::Before(DOWN) && n < 4);
            assert_eq!(result.is_ok(), hidden, "{fault:?} at {n}");
            if let Some(bytes) = tower.memory.objects().get(&key("large")) {
                assert_eq!(*bytes, whole, "{fault:?} at {n}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_with_a_hole_is_never_completed() {
    for fault in
        [Fault::Before(SinkErrorKind::PermissionDenied), Fault::Before(DOWN), Fault::After(DOWN)]
    {
        let tower = tower();
        let once = RetryPolicy { deadline: Duration::ZERO, ..RetryPolicy::default() };
        let mut upload = RetrySink::new(Arc::new(tower.faults.clone()), once)
            .upload(&key("large"))
            .await
            .unwrap();
        upload.put_part(vec![0; 10].into()).await.unwrap();
        tower.faults.add(FaultRule::new(fault));
        upload.put_part(vec![1; 10].into()).await.unwrap_err();
        let error = upload.put_part(vec![2; 10].into()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (SinkErrorKind::Other, Effect::Unknown),
            "{fault:?}"
        );
        assert_eq!(upload.complete().await.unwrap_err().effect(), Effect::Unknown, "{fault:?}");
        assert!(tower.memory.objects().is_empty(), "{fault:?}");
    }
    // So it is if sending was given up.
    let tower = tower();
    let mut upload = tower.sink.upload(&key("large")).await.unwrap();
    tower.faults.add(FaultRule::new(Fault::Delay(Duration::from_secs(60))));
    let part = upload.put_part(vec![0; 10].into());
    assert!(tokio::time::timeout(Duration::from_secs(1), part).await.is_err());
    assert!(upload.complete().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_future_ends_its_retries() {
    let tower = tower();
    tower.faults.add(FaultRule::new(Fault::Before(DOWN)).forever());
    let key = key("a");
    let put = tower.sink.put_bytes(&key, vec![1]);
    assert!(tokio::time::timeout(Duration::from_secs(1), put).await.is_err());
    let so_far = tower.faults.operations();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tower.faults.operations(), so_far);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_long_is_not_cut_off() {
    let tower = tower();
    tower.faults.fail_nth(0, Fault::Delay(Duration::from_secs(3600)));
    tower.sink.put_bytes(&key("a"), vec![1]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_took_long_leaves_time_for_others() {
    let put = async |minutes: u64, failures: u64| {
        let tower = tower();
        tower.faults.add(FaultRule::new(Fault::Before(DOWN)).times(failures));
        let slow = FaultySink::new(Arc::new(tower.faults.clone()));
        slow.add(FaultRule::new(Fault::Delay(Duration::from_secs(minutes * 60))).forever());
        let sink = RetrySink::new(Arc::new(slow), RetryPolicy::default());
        (sink.put_bytes(&key("a"), vec![1]).await, tower.faults.fired())
    };
    for (minutes, failures) in [(5, 1), (10, 1), (4, 4), (60, 4)] {
        let (result, fired) = put(minutes, failures).await;
        assert!(
            result.is_ok() && fired == failures,
            "{minutes} minutes, {failures} failures: {result:?}"
        );
    }
    // There is an end to that as well.
    let (result, fired) = put(60, 100).await;
    assert!(result.is_err() && fired < 8, "{fired}");
}

#[tokio::test]
async fn it_wraps_sinks_of_unknown_type() {
    let inner: Arc<dyn Sink> = Arc::new(MemorySink::new());
    let sink: Arc<dyn Sink> = Arc::new(RetrySink::new(inner, RetryPolicy::default()));
    sink.put_bytes(&key("a"), vec![1]).await.unwrap();
    assert_eq!(sink.to_string(), "memory");
    assert!(sink.capabilities().conditional_put);
}
