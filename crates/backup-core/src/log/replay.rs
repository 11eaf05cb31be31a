//! The log that a plan applies to a base.

use super::gather::LogView;
use super::slice::Part;
use super::tape::{LogTape, Only};
use super::{Place, Plan, Scope, Stream, Timeline};
use crate::context::Context;
use crate::error::Result;
use crate::format::LogExtent;
use crate::repository::IndexedRepository;

/// The log that is to be applied to a base.
#[derive(Debug)]
pub struct LogReplay {
    indexed: IndexedRepository,
    stream: Stream,
    view: LogView,
    plan: Plan,
}

impl LogReplay {
    /// The log that `plan`, made from `view`, names.
    #[must_use]
    pub fn new(indexed: IndexedRepository, stream: Stream, view: LogView, plan: Plan) -> Self {
        Self { indexed, stream, view, plan }
    }

    /// The repository, with an index that has the base and the log.
    #[must_use]
    pub fn indexed(&self) -> &IndexedRepository {
        &self.indexed
    }

    /// Where it begins and ends.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the source had stored with the end of its last piece; see
    /// [`LogReader::state`](crate::source::LogReader::state).
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        let last = self.plan.log.last()?;
        match &last.place {
            Place::Slice(name) => {
                let (_, header) =
                    self.view.slices.iter().find(|(slice, _)| slice.name() == *name)?;
                header.state.as_deref()
            }
            Place::Snapshot(id) => {
                let (_, log) = self.view.snapshots.iter().find(|(info, _)| info.id == *id)?;
                let is_it =
                    |extent: &&LogExtent| extent.branch == last.branch && extent.to == last.to;
                log.extents.iter().find(is_it)?.state.as_deref()
            }
        }
    }

    /// Everything that is known of the log, also what the plan leaves out.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.view.timeline()
    }

    /// Reads it, from the beginning.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if the plan is not one of the view.
    pub fn tape(&self, cx: &Context) -> Result<LogTape> {
        LogTape::new(&self.indexed, &self.stream, &self.view, &self.plan.log, &self.plan.turns, cx)
    }

    /// The same without the pieces that are said to be about other things than what `is_wanted`
    /// accepts. Of older logs that was not noted: they come whole.
    ///
    /// # Errors
    /// As [`Self::tape`].
    pub fn tape_of(
        &self,
        cx: &Context,
        is_wanted: impl Fn(&Scope) -> bool + Send + Sync + 'static,
    ) -> Result<LogTape> {
        let is_wanted = move |part: &Part| part.scope.as_ref().is_none_or(&is_wanted);
        let only = Only {
            stop: Some(self.plan.stop.clone()),
            is_wanted: Box::new(is_wanted),
            left_out: 0,
        };
        Ok(self.tape(cx)?.restricted_to(only))
    }

    /// The same with the files of these paths only. Other ones may come where they are read anyway.
    ///
    /// # Errors
    /// As [`Self::tape`].
    pub fn tape_of_files(
        &self,
        cx: &Context,
        is_wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<LogTape> {
        let only = Only {
            stop: None,
            is_wanted: Box::new(move |part| is_wanted(&part.path)),
            left_out: 0,
        };
        Ok(self.tape(cx)?.restricted_to(only))
    }
}
