//! Schedules: what happens when, from the configuration, and what of it is paused. Nothing here
//! runs anything or asks for the time.
//!
//! | file | what is in it |
//! |---|---|
//! | `cron.rs` | [`Cron`]: an expression, and its times in a time zone, also where clocks are changed |
//! | `timetable.rs` | [`Timetable`]: what is due, what was missed, and what a changed clock does to it |
//! | `plan.rs` | [`Plan`]: the tasks of a configuration |
//! | `paused.rs` | [`paused`]: what the daemon of this machine was told to leave |
//! | `uses.rs` | [`Uses`]: jobs, repositories and hosts, of which not too much is used at a time |
//! | `tests.rs` | times beside those that a look at every minute finds |
//!
//! ```text
//!  backup.toml ──▶ Plan ──▶ tasks ──▶ Timetable ──▶ look(now) ──▶ due, missed, next
//! ```

mod cron;
mod paused;
mod plan;
#[cfg(test)]
mod tests;
mod timetable;
mod uses;

pub use cron::Cron;
pub use paused::{DAEMON_DIR, MAX_PAUSE, TASKS_FILE, paused};
pub use plan::{Duty, Limits, Plan, Planned};
pub use timetable::{CatchUp, Due, Look, Timetable, delay};
pub use uses::Uses;
