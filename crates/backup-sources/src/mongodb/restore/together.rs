//! Several commands to the target at a time.

use backup_core::context::Context;
use backup_core::source::SourceResult;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

/// Runs `work`, at most `parallel` of it at a time, and returns the results in no order. After an
/// error or a cancellation it starts no more, and waits for the commands that have begun: the state
/// of the target is known whatever happens.
pub(super) async fn together<T>(
    cx: &Context,
    parallel: usize,
    work: Vec<BoxFuture<'_, SourceResult<T>>>,
) -> (Vec<T>, SourceResult<()>) {
    let mut work = work.into_iter();
    let mut running = FuturesUnordered::new();
    let mut done = Vec::new();
    let mut outcome = Ok(());
    loop {
        while outcome.is_ok() && running.len() < parallel {
            outcome = cx.check_cancelled().map_err(Into::into);
            match work.next() {
                Some(one) if outcome.is_ok() => running.push(one),
                _ => break,
            }
        }
        match running.next().await {
            None => return (done, outcome),
            Some(Ok(result)) => done.push(result),
            Some(Err(error)) => outcome = outcome.and(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use backup_core::source::{SourceError, SourceErrorKind};
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn together_limits_and_drains_running_work() {
        let [running, most, ended] = [(); 3].map(|()| AtomicUsize::new(0));
        let one = |n: usize| {
            let (running, most, ended) = (&running, &most, &ended);
            let work = async move {
                most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                for _ in 0..=n % 3 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Relaxed);
                ended.fetch_add(1, Relaxed);
                if n == 5 {
                    return Err(SourceError::new(SourceErrorKind::Target, "refused"));
                }
                Ok(n)
            };
            work.boxed()
        };
        let cx = Context::silent();
        let (done, outcome) = together(&cx, 3, (0..5).map(one).collect()).await;
        outcome.unwrap();
        assert_eq!((done.len(), most.load(Relaxed), ended.load(Relaxed)), (5, 3, 5));
        let (done, outcome) = together(&cx, 3, (0..100).map(one).collect()).await;
        assert_eq!(outcome.unwrap_err().to_string(), "refused");
        assert_eq!(running.load(Relaxed), 0, "a command was dropped in the middle");
        assert!((5..20).contains(&done.len()), "{done:?}");
        cx.cancel.cancel();
        let (done, outcome) = together(&cx, 3, (0..5).map(one).collect()).await;
        assert!(done.is_empty());
        assert_eq!(outcome.unwrap_err().kind(), SourceErrorKind::Cancelled);
    }
}
