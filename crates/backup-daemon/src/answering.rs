//! The API beside the scheduler of `backupd run`.

use std::path::Path;
use std::sync::Arc;

use backup_control::config::LoadedConfig;
use backup_control::environment::Environment;
use backup_control::words::chain;
use backup_core::clock::SharedClock;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Child, Listening, Reads, Settings};
use crate::run::Failure;
use crate::scheduler::Scheduler;

/// The API while it answers.
pub(crate) struct Answering {
    config: watch::Sender<Arc<LoadedConfig>>,
    shutdown: CancellationToken,
    server: JoinHandle<Result<(), api::Error>>,
}

impl Answering {
    /// Begins to answer. Where it listens is settled when this returns; changing that takes a
    /// restart.
    pub(crate) async fn begin(
        loaded: LoadedConfig,
        program: &Path,
        env: &Environment,
        clock: SharedClock,
        scheduler: &Arc<Scheduler>,
    ) -> Result<(Self, Listening), Failure> {
        let state = scheduler.state_dir().to_owned();
        let settings = Settings::of(&loaded.config.api, &state);
        // The copy that tasks get: a mistake in the file stops no answer.
        let file = scheduler.last_good().path().to_path_buf();
        let file = if file.exists() { file } else { loaded.file.clone() };
        let child = Child::new(program.to_owned(), Some(file), env.clone());
        let (config, seen) = watch::channel(Arc::new(loaded));
        let reads = Reads::open(seen, env.clone(), state, clock, Arc::new(child)).await;
        let reads =
            reads.map_err(|error| Failure::new(chain(&error), Some("see `backup catalog`")))?;
        let (shutdown, (ready, listening)) = (CancellationToken::new(), oneshot::channel());
        let until = shutdown.clone();
        let engine = Arc::clone(scheduler) as _;
        let mut server = tokio::spawn(async move {
            // Whoever waits for it may have gone.
            api::serve(settings, engine, reads, until, |listening| _ = ready.send(listening)).await
        });
        match listening.await {
            Ok(listening) => Ok((Self { config, shutdown, server }, listening)),
            Err(_) => Err(match (&mut server).await {
                Ok(Err(error)) => Failure::new(chain(&error), Some(&error.hint())),
                _ => Failure::new("the API stopped while it was starting", None),
            }),
        }
    }

    /// Answers by another configuration from now on.
    pub(crate) fn reload(&self, loaded: LoadedConfig) {
        self.config.send_replace(Arc::new(loaded));
    }

    /// Answers nobody any more, but whoever waits for an answer.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        _ = self.server.await;
    }
}
