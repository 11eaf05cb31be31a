//! Making archived data readable before a restore.

use std::time::Duration;

use backup_control::config::SourceKind;
use backup_core::pipeline::Thaw;
use backup_core::sink::ThawSpeed;
use backup_core::source::Selection;
use clap::ValueEnum;

use super::Restore;
use crate::command_error::CommandResult;
use crate::human;

/// How often the store is asked whether a thaw is done: it takes minutes at best.
const THAW_POLL: Duration = Duration::from_secs(30);

/// Speed of a thaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThawArg {
    /// Minutes
    Expedited,
    /// Hours
    Standard,
    /// Up to two days, and cheapest
    Bulk,
}

impl From<ThawArg> for ThawSpeed {
    fn from(arg: ThawArg) -> Self {
        match arg {
            ThawArg::Expedited => Self::Expedited,
            ThawArg::Standard => Self::Standard,
            ThawArg::Bulk => Self::Bulk,
        }
    }
}

impl Restore {
    /// Makes archived data readable; says whether it is.
    pub(super) async fn thaw(
        &self,
        speed: ThawSpeed,
        days: u32,
        wait: bool,
    ) -> CommandResult<bool> {
        let (ui, cx) = (&self.session.ui, &self.session.cx);
        // Patterns of databases are no paths: all of the snapshot may be needed.
        let all = Selection::all();
        let selection =
            if self.restorer.kind == SourceKind::Files { &self.request.selection } else { &all };
        let mut thaw = Thaw::survey(&self.snapshot, selection, cx).await?;
        if !thaw.is_possible() {
            ui.warning("this storage does not support thawing; restoring without a thaw");
        }
        let figures = thaw.figures();
        if figures.is_ready() {
            return Ok(true);
        }
        if figures.archived > 0 {
            ui.status(format_args!(
                "To thaw for {}: {}, {}; readable or thawing already: {}, {}",
                human::count(u64::from(days), "day", "days"),
                human::count(figures.archived, "object", "objects"),
                human::size(figures.archived_bytes),
                figures.ready + figures.thawing,
                human::size(figures.ready_bytes + figures.thawing_bytes)
            ));
            self.session
                .confirm("Thaw these objects? The store charges by object and by size.")
                .await?;
            thaw.request(days, speed, cx).await?;
        }
        let figures = thaw.figures();
        ui.status(format_args!(
            "Thawing: {}, {}; readable already: {}, {}",
            human::count(figures.thawing, "object", "objects"),
            human::size(figures.thawing_bytes),
            figures.ready,
            human::size(figures.ready_bytes)
        ));
        if !wait {
            ui.status("Repeat the same command to restore once the store has thawed the objects.");
            return Ok(false);
        }
        thaw.wait(THAW_POLL, cx).await?;
        Ok(true)
    }
}
