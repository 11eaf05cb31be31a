use std::time::Duration;

use futures::TryStreamExt;

use super::*;
use crate::sink::{Effect, SinkErrorKind};
use crate::testing::MemorySink;

const DOWN: SinkErrorKind = SinkErrorKind::Unavailable;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn filled() -> (MemorySink, FaultySink) {
    let memory = MemorySink::new();
    for n in 0..10_u8 {
        memory.put_bytes(&key(&format!("data/{n}")), vec![n; 100]).await.unwrap();
    }
    (memory.clone(), FaultySink::new(Arc::new(memory)))
}

#[tokio::test]
async fn before_and_after_differ_in_effect() {
    let (memory, sink) = filled().await;
    for (n, (fault, effect, stored)) in [
        (Fault::Before(DOWN), Effect::None, false),
        (Fault::BeforeUnknown(DOWN), Effect::Unknown, false),
        (Fault::After(DOWN), Effect::Unknown, true),
    ]
    .into_iter()
    .enumerate()
    {
        let key = key(&format!("new/{n}"));
        sink.fail_nth(0, fault);
        let error = sink.put_bytes(&key, vec![1]).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (DOWN, effect));
        assert_eq!(memory.objects().contains_key(&key), stored, "{fault:?}");
        assert_eq!(sink.fired(), 1);

        memory.put_bytes(&key, vec![1]).await.unwrap();
        sink.fail_nth(0, fault);
        assert!(sink.delete_one(&key).await.is_err());
        assert_eq!(memory.objects().contains_key(&key), !stored, "{fault:?}");
    }
}

#[tokio::test]
async fn contents_fail_end_or_change_half_way() {
    let (_, sink) = filled().await;
    let key = key("data/7");
    sink.fail_nth(0, Fault::Truncated);
    assert_eq!(sink.get_bytes(&key).await.unwrap(), vec![7; 50]);
    sink.fail_nth(0, Fault::Corrupted);
    let bytes = sink.get_bytes(&key).await.unwrap();
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| (byte ^ 7).count_ones()).sum::<u32>();
    assert_eq!((bytes.len(), ones(&bytes)), (100, 1));
    sink.fail_nth(0, Fault::Midway(DOWN));
    let mut content = sink.get(&key, None).await.unwrap();
    assert_eq!(content.next().await.unwrap().unwrap().len(), 50);
    assert_eq!(content.next().await.unwrap().unwrap_err().kind(), DOWN);
}

#[tokio::test]
async fn lists_fail_half_way_and_at_the_end() {
    let (_, sink) = filled().await;
    for (fault, expected) in
        [(Fault::Before(DOWN), 0), (Fault::Midway(DOWN), 5), (Fault::After(DOWN), 10)]
    {
        sink.fail_nth(0, fault);
        let list: Vec<_> = sink.list(&Prefix::root()).collect().await;
        assert_eq!(list.iter().filter(|meta| meta.is_ok()).count(), expected, "{fault:?}");
        assert!(list.last().unwrap().is_err(), "{fault:?}");
    }
    assert_eq!(sink.list_all(&Prefix::root()).await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_rule_counts_what_it_is_about() {
    let (_, sink) = filled().await;
    let rule = FaultRule::new(Fault::Before(SinkErrorKind::Other));
    sink.add(rule.on(Operation::Head).under("data").after(1).times(2));
    assert!(sink.get_bytes(&key("data/1")).await.is_ok());
    let mut heads = Vec::new();
    for name in ["data/1", "other/1", "data/1", "data/1", "data/1"] {
        heads.push(match sink.head(&key(name)).await {
            Ok(_) => "ok",
            Err(error) if error.kind() == SinkErrorKind::NotFound => "missing",
            Err(_) => "fault",
        });
    }
    assert_eq!(heads, ["ok", "missing", "fault", "fault", "ok"]);
    assert_eq!((sink.fired(), sink.operations()), (2, 6));
    sink.heal();
    assert_eq!((sink.fired(), sink.operations()), (0, 0));
}

#[tokio::test]
async fn every_step_of_an_upload_can_fail() {
    let (memory, sink) = filled().await;
    let key = key("up");
    for n in 0.. {
        sink.fail_nth(n, Fault::Before(DOWN));
        let run = async {
            let mut upload = sink.upload(&key).await?;
            upload.put_part(vec![1].into()).await?;
            upload.put_part(vec![2].into()).await?;
            upload.complete().await
        };
        let result = run.await;
        if sink.fired() == 0 {
            assert_eq!(n, 4);
            break;
        }
        assert!(result.is_err());
        assert!(!memory.objects().contains_key(&key));
    }
    assert_eq!(memory.objects()[&key], vec![1, 2]);
}

#[tokio::test]
async fn a_delay_takes_its_time_and_succeeds() {
    let (_, sink) = filled().await;
    sink.fail_nth(0, Fault::Delay(Duration::from_millis(30)));
    let start = std::time::Instant::now();
    let content: Vec<_> =
        sink.get(&key("data/1"), None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(content.concat(), vec![1; 100]);
    assert!(start.elapsed() >= Duration::from_millis(30));
}
