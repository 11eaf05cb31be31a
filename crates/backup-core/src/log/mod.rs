//! Logs of sources: what is kept of them, and which moments can be restored.
//!
//! | file | what is in it |
//! |---|---|
//! | `position.rs` | [`Position`]: a place in a log |
//! | `timeline.rs` | [`Timeline`]: bases, pieces of the log, branches, gaps; ranges that can be restored |
//! | `plan.rs` | [`Plan`]: from a moment to what has to be restored, or a [`Refusal`] that names the nearest ones |
//!
//! All of it is pure: no I/O, no clock.

mod plan;
mod position;
mod timeline;

pub use plan::{Plan, Refusal, Target};
pub use position::{ParsePositionError, Position};
pub use timeline::{Base, Branch, Gap, Place, Range, Stretch, Tick, Timeline};
