//! Metrics, in the text format of Prometheus.
//!
//! ```text
//!  catalog, audit log, alerts, engine ───▶ Board (gauges, anew for every scrape) ─┐
//!  repositories ─▶ Looked (now and then) ──▲                                     ├─▶ text
//!  requests, events of tasks ─▶ Counters ─────────────────────────────────────────┘
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Metrics`]: scraping |
//! | `gauges.rs` | every gauge: its name, labels and meaning; `docs/metrics.md` is made from it |
//! | `board.rs` | the gauges of one scrape |
//! | `counters.rs` | what is counted as it happens |
//! | `jobs.rs`, `repositories.rs`, `daemon.rs` | filling the board |
//! | `looked.rs` | what repositories say of themselves, looked up now and then |
//! | `tests.rs` | a scrape; what dashboards and rules ask for |
//!
//! Labels are names of the configuration: jobs, repositories, rules, tasks. Nothing that a request
//! says becomes one.

mod board;
mod counters;
mod daemon;
mod gauges;
mod jobs;
mod looked;
mod repositories;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Encoder, TextEncoder};
use tokio_util::sync::CancellationToken;

use crate::api::{Problem, Reads};
use crate::engine::Engine;
use board::Board;
pub(crate) use counters::Counters;
use looked::Looked;

/// How long a scrape is good: several who scrape cost no more than one.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// What there is to be measured.
pub struct Metrics {
    engine: Arc<dyn Engine>,
    reads: Reads,
    counters: Counters,
    looked: Mutex<Looked>,
    last: tokio::sync::Mutex<Option<(Instant, String)>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Of an engine, and of what is known without it.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, reads: Reads) -> Self {
        Self {
            engine,
            reads,
            counters: Counters::new(),
            looked: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        }
    }

    /// What is counted as it happens.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All metrics as they are now.
    pub(crate) async fn scrape(&self) -> Result<String, Problem> {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < GOOD_FOR
        {
            return Ok(text.clone());
        }
        let text = self.measure().await?;
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }

    async fn measure(&self) -> Result<String, Problem> {
        let (loaded, facts) = (self.reads.config(), self.reads.facts().await?);
        let now = self.reads.now();
        let alerts = self.reads.ledger(move |ledger| {
            let alerts = ledger.alerts();
            Ok(alerts
                .map(|alert| (alert.clone(), ledger.silences_alert(alert, now)))
                .collect::<Vec<_>>())
        });
        let alerts = alerts.await?;
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let measured = (|| {
            let board = Board::new()?;
            jobs::measure(&board, &loaded.config, &facts, &looked, now)?;
            repositories::measure(&board, &loaded.config, &facts, &looked)?;
            daemon::measure(&board, &*self.engine, &alerts, &self.reads, now)?;
            let mut families = board.gather();
            families.extend(self.counters.gather());
            let mut text = Vec::new();
            TextEncoder::new().encode(&families, &mut text)?;
            Ok::<_, prometheus::Error>(String::from_utf8_lossy(&text).into_owned())
        })();
        measured.map_err(|error| Problem::failed(&error))
    }

    /// Counts what tasks come to, and looks into repositories every so often, until the server
    /// ends.
    pub(crate) async fn look(&self, every: Duration, shutdown: CancellationToken) {
        tokio::join!(
            self.counters.listen(self.engine.events(), shutdown.clone()),
            looked::look(&self.reads, &self.looked, every, shutdown),
        );
    }
}
