//! Schedules: what happens when, from the configuration alone. Nothing here runs anything or asks for the time.
//!
//! | file | what is in it |
//! |---|---|
//! | `cron.rs` | [`Cron`]: an expression, and its times in a time zone, also where clocks are changed |
//! | `timetable.rs` | [`Timetable`]: what is due, what was missed, and what a changed clock does to it |
//! | `plan.rs` | [`Plan`]: the tasks of a configuration, and what each of them uses |
//! | `tests.rs` | times beside those that a look at every minute finds |
//!
//! ```text
//!  backup.toml ──▶ Plan ──▶ tasks ──▶ Timetable ──▶ look(now) ──▶ due, missed, next
//! ```

mod cron;
mod plan;
#[cfg(test)]
mod tests;
mod timetable;

pub use cron::Cron;
pub use plan::{Duty, Limits, Plan, Planned, Uses};
pub use timetable::{CatchUp, Due, Look, Timetable, delay};
