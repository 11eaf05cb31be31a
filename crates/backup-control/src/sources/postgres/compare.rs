//! A snapshot beside a server, without restoring it there: a logical one by its recorded digests, a
//! physical one by a scratch server.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_sources::postgres::{Comparison, LogicalOptions, LogicalSource, Scratch};

use super::super::flags::LOGICAL;
use super::super::{CompareFlags, Compared};
use super::{PostgresSpec, scratch_options};
use crate::environment::Environment;
use crate::error::Result;

impl PostgresSpec {
    /// Compares the rows of a snapshot, with `log` applied, with those of the server.
    pub(in crate::sources) async fn compare(
        &self,
        snapshot: &SnapshotReader,
        log: Option<Arc<LogReplay>>,
        flags: &CompareFlags,
        env: &Environment,
        cx: &Context,
    ) -> Result<Compared> {
        let core = backup_core::error::Error::from;
        let options = self.logical(self.fetch_password(env).await?, &cx.events)?;
        let server = LogicalSource::connect(options).await.map_err(core)?;
        if snapshot.snapshot().tag("source") == Some(LOGICAL) {
            let compared = server.compare(cx, snapshot, &flags.selection).await.map_err(core)?;
            return Ok(compared.into());
        }
        let options = scratch_options(&flags.scratch, flags.until.as_deref(), env)?;
        let scratch = Scratch::start(cx, &options, snapshot, log, false).await.map_err(core)?;
        let copy = LogicalOptions::new(scratch.connection().clone());
        let copy = LogicalSource::connect(copy).await.map_err(core)?;
        let compared = server.compare_with_copy(cx, &copy, &flags.selection).await;
        let compared = Compared::from(compared.map_err(core)?);
        let warnings = compared.warnings + scratch.warnings();
        scratch.close().await.map_err(core)?;
        Ok(Compared { warnings, ..compared })
    }
}

impl From<Comparison> for Compared {
    fn from(compared: Comparison) -> Self {
        let Comparison { stored, found, warnings } = compared;
        Self { stored, found, warnings }
    }
}
