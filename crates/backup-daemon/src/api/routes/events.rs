//! What happens, as it happens: server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::super::guard::GoingOn;
use super::super::limits::Counted;
use super::super::problem::Answer;
use crate::engine::TaskEvent;

/// How often something is sent if nothing happens, so that whoever stands between keeps the
/// connection.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Stream events of operations and tasks (server-sent events)
///
/// The events are `began`, `progress`, `ended` and `paused`, with JSON as data. A slow reader loses
/// events; the event `missed` has their number. A token may have eight streams.
#[utoipa::path(get, path = "/api/v1/events", tag = "running", security(("token" = ["operator"])),
    responses((status = 200, description = "Endless stream of events", body = String,
        content_type = "text/event-stream")))]
pub(super) async fn events(
    State(api): State<Shared>,
    Extension(going_on): Extension<GoingOn>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let stream = api.limits.stream(&going_on)?;
    let heard = Hearing {
        events: api.engine.events(),
        shutdown: api.shutdown.clone(),
        _going_on: going_on,
        _stream: stream,
    };
    let stream = futures::stream::unfold(heard, |mut hearing| async move {
        let event = hearing.next().await?;
        Some((Ok(event), hearing))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)))
}

/// Somebody who listens. It counts as going on as long as they do.
struct Hearing {
    events: Receiver<TaskEvent>,
    shutdown: CancellationToken,
    _going_on: GoingOn,
    _stream: Counted<String>,
}

impl Hearing {
    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<Event> {
        let received = tokio::select! {
            received = self.events.recv() => received,
            () = self.shutdown.cancelled() => return None,
        };
        let (name, data) = match received {
            Ok(event) => (name(&event), serde_json::to_string(&event).ok()?),
            Err(RecvError::Lagged(number)) => {
                ("missed", serde_json::json!({ "missed": number }).to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some(Event::default().event(name).data(data))
    }
}

fn name(event: &TaskEvent) -> &'static str {
    match event {
        TaskEvent::Began(_) => "began",
        TaskEvent::Progress { .. } => "progress",
        TaskEvent::Ended(_) => "ended",
        TaskEvent::Paused { .. } => "paused",
    }
}
