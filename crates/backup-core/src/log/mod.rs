//! Logs of sources: capturing them, what is kept of them, and which moments can be restored.
//!
//! ```text
//!  source ─▶ capture ─▶ lane (slices) ─▶ roll-up ─▶ snapshots of type log
//!                             └──────── view ────────┘ ─▶ timeline ─▶ plan ─▶ tape ─▶ restore
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `position.rs` | [`Position`]: a place in a log; what is needed to go on from it |
//! | `watermark.rs` | [`Watermark`]: the time up to which a log is known to be complete |
//! | `timeline.rs` | [`Timeline`]: bases, pieces of the log, branches, gaps; ranges that can be restored |
//! | `plan.rs` | [`Plan`]: from a moment to what has to be restored, or a [`Refusal`] that names the nearest ones |
//! | `scope.rs` | [`Scope`]: what a piece of a log is about |
//! | `stream.rs` | [`Stream`]: which log |
//! | `slice.rs` | [`Slice`]: what is stored at once; a valid pack |
//! | `lane.rs` | slices in the repository |
//! | `capture.rs` | [`capture`]: from a source to slices |
//! | `capture/` | options and starting points of a capture; the record that it is complete |
//! | `outbox.rs` | what was captured and is not stored yet; the spool |
//! | `uploader.rs` | storing slices, by one capturer at a time |
//! | `roll_up/` | [`roll_up`]: from slices to snapshots |
//! | `detail.rs` | what a snapshot says of the pieces of a log that it holds |
//! | `gather.rs` | [`LogView`]: what a repository has of a log |
//! | `log_file.rs` | a file of the log in a snapshot: which blobs a part of it lies in |
//! | `replay.rs` | [`LogReplay`]: the log that a plan applies to a base |
//! | `tape.rs` | [`LogTape`]: reading the log that a plan names |
//! | `supervisor.rs` | [`follow`]: capturing for ever |
//!
//! # What is never lost
//! A slice is created once, under a name that a rival would choose as well, and what it holds is
//! acknowledged only afterwards. A capturer goes on where the last slice ends; that nothing is
//! missing is seen from the positions alone, whoever wrote what. Where something is missing the
//! timeline has a gap, and no plan passes over it.

mod capture;
mod detail;
mod gather;
mod lane;
mod log_file;
mod outbox;
mod plan;
mod position;
mod replay;
mod roll_up;
mod scope;
mod slice;
mod stream;
mod supervisor;
mod tape;
mod timeline;
mod uploader;
mod watermark;

pub use capture::{Acknowledge, CaptureOptions, CaptureReport, DeadHolders, capture};
pub use gather::LogView;
pub use outbox::SpoolOptions;
pub use plan::{Plan, Refusal, Target, latest_common};
pub use position::{ParsePositionError, Position};
pub use replay::LogReplay;
pub use roll_up::{RollUpOptions, RollUpReport, roll_up};
pub use scope::Scope;
pub use slice::{Part, Slice, SliceHeader, TakeOver};
pub use stream::Stream;
pub use supervisor::{FollowOptions, follow};
pub use tape::{LogPart, LogTape};
pub use timeline::{Base, Branch, Gap, Place, Range, Stretch, Tick, Timeline};
pub use watermark::Watermark;
