//! Limits of what goes over the link per second.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Pace`]: so many bytes per second, shared by all that use it |
//! | `sink.rs` | [`LimitSink`]: any sink at a pace |
//!
//! Sinks over a network are paced in their requests' bodies, a slice at a time, below the retries;
//! others are wrapped.

mod sink;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use sink::LimitSink;

use crate::settings::Rate;

/// Bytes that are paced together.
pub(crate) const SLICE: usize = 32 << 10;

/// What may be caught up with after a pause, for instance of a busy machine. Kept small, so that
/// the rate holds within 5 % over every three seconds.
const BURST: Duration = Duration::from_millis(120);

/// So many bytes per second for all that share it.
///
/// Every slice gets the next free stretch of time; who asks when none is free waits until its
/// stretch begins. There is no queue to be unfair: stretches are given out in the order of asking.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    /// When everything that was given out will have gone.
    free_at: Mutex<Instant>,
}

impl Pace {
    /// A pace that begins now.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, free_at: Mutex::new(Instant::now()) }
    }

    /// Takes room for so many bytes. They may go at that moment.
    pub fn take(&self, bytes: usize) -> Instant {
        let time = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
        *free_at = begin + time;
        begin
    }

    /// Waits until so many bytes may go, a slice at a time.
    pub async fn pass(&self, mut bytes: usize) {
        while bytes > 0 {
            let slice = bytes.min(SLICE);
            tokio::time::sleep_until(self.take(slice)).await;
            bytes -= slice;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn several_share_one_rate() {
        let pace = Arc::new(Pace::new(Rate::new(1 << 20).unwrap()));
        // A long pause earns nothing but a short burst.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.pass(1 << 20).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((3.8..4.2).contains(&seconds), "{seconds}");
    }
}
