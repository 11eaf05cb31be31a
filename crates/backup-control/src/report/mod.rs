//! Reports: what came of backups and restores in a time, what is stored and what that costs, and
//! which demands are met by what evidence.
//!
//! ```text
//!  catalog, audit log, repositories ─▶ Given ─▶ Report ─▶ JSON, Markdown, HTML
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `given.rs` | [`Given`]: what a report is made from |
//! | `model.rs` | [`Report`]: its figures |
//! | `figures.rs` | making a report |
//! | `checklist.rs` | [`Check`]: demands, and the evidence for them |
//! | `markdown.rs`, `html.rs` | as text, and as a page that needs nothing else |
//! | `tables.rs` | what both have in tables |
//! | `chart.rs` | pictures of figures by day (SVG) |
//! | `tests.rs` | the report of a made-up year |
//! | `browser/` | tests of what a browser makes of it |

#[cfg(test)]
mod browser;
mod chart;
mod checklist;
mod figures;
mod given;
mod html;
mod markdown;
mod model;
mod tables;
#[cfg(test)]
mod tests;

pub use checklist::{Check, Met};
pub use given::{Given, RepositoryGiven};
pub use html::html;
pub use markdown::markdown;
pub use model::{Day, JobReport, LogEntry, Report, RepositoryReport, RestoreReport, Totals};
