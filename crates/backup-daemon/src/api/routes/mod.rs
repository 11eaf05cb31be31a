//! The routes, by what they are about.
//!
//! | file | what is in it |
//! |---|---|
//! | `health.rs` | whether it lives and is ready; how it is; the document; metrics |
//! | `jobs.rs` | jobs, and the moments that can be restored of one |
//! | `tasks.rs` | what happens on a schedule; pausing |
//! | `running.rs` | what goes on: beginning and stopping it |
//! | `events.rs` | what happens, as it happens |
//! | `runs.rs` | what is remembered of runs |
//! | `snapshots.rs` | what is in repositories |
//! | `restores.rs` | planning and beginning restores |
//! | `alerts.rs` | alerts and silences |
//! | `audit.rs`, `reports.rs` | who did what; what came of it |
//! | `verbs.rs` | what the program says, for its like elsewhere |

mod alerts;
mod audit;
mod events;
mod health;
mod jobs;
mod reports;
mod restores;
mod running;
mod runs;
mod snapshots;
mod tasks;
mod verbs;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::problem::Problem;

/// All routes.
pub(super) fn all() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::openapi))
        .routes(routes!(health::health))
        .routes(routes!(health::status))
        .routes(routes!(jobs::jobs))
        .routes(routes!(jobs::job))
        .routes(routes!(jobs::timeline))
        .routes(routes!(tasks::tasks))
        .routes(routes!(tasks::pause))
        .routes(routes!(tasks::resume))
        .routes(routes!(running::running, running::start))
        .routes(routes!(running::one))
        .routes(routes!(running::cancel))
        .routes(routes!(running::ended))
        .routes(routes!(events::events))
        .routes(routes!(runs::runs))
        .routes(routes!(runs::run))
        .routes(routes!(runs::log))
        .routes(routes!(snapshots::snapshots))
        .routes(routes!(snapshots::snapshot))
        .routes(routes!(restores::plan))
        .routes(routes!(restores::start))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::silence))
        .routes(routes!(alerts::unsilence))
        .routes(routes!(audit::audit))
        .routes(routes!(audit::verdict))
        .routes(routes!(reports::report))
        .routes(routes!(verbs::verb))
}

/// There is no such route.
pub(super) async fn none() -> Problem {
    Problem::unknown("there is no such path")
        .hint("see docs/api.md for the paths; most of them begin with /api/v1")
}
