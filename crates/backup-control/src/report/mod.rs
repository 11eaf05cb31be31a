//! Reports: what came of backups and restores in a time, what is stored and what that costs, and
//! which demands are met by what evidence.
//!
//! ```text
//!  catalog, audit log, repositories ─▶ Given ─▶ Report ─▶ JSON, Markdown, HTML
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `given.rs` | [`Given`]: the input of a report |
//! | `model.rs` | [`Report`]: its figures |
//! | `figures.rs` | making a report |
//! | `by_job.rs` | runs and snapshots by job |
//! | `copies.rs`, `loss.rs` | where snapshots of a job lie; the possible data loss |
//! | `checklist/` | [`Check`]: demands, and the evidence for them by job or repository |
//! | `markdown.rs`, `html.rs` | as text, and as a page that needs nothing else |
//! | `tables.rs` | what both have in tables |
//! | `chart.rs` | pictures of figures by day (SVG) |
//! | `tests.rs` | the report of a made-up year |
//! | `browser/` | tests of what a browser makes of it |

#[cfg(test)]
mod browser;
mod by_job;
mod chart;
mod checklist;
mod copies;
mod figures;
mod given;
mod html;
mod loss;
mod markdown;
mod model;
mod tables;
#[cfg(test)]
mod tests;

pub use checklist::{Check, Evidence, Met};
pub use given::{AuditGiven, Given, KeyGiven, RepositoryGiven, SnapshotGiven};
pub use html::html;
pub use markdown::markdown;
pub use model::{Day, JobReport, LogEntry, Report, RepositoryReport, RestoreReport, Totals};
