//! What is answered when something is not done: a status, what is wrong, and what can be done about
//! it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::Refusal;

/// Bytes of a message that are answered, at most.
const MAX_MESSAGE: usize = 4096;

/// Why something is not done.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(super) status: StatusCode,
    pub(super) error: String,
    hint: Option<String>,
    retry_after: Option<u64>,
}

/// An error.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct ProblemJson {
    /// The error message.
    error: String,
    /// Advice on the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Result of answering.
pub(super) type Answer<T> = Result<T, Problem>;

impl Problem {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let mut error = error.into();
        if error.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
            error.truncate(end);
            error.push('…');
        }
        Self { status, error, hint: None, retry_after: None }
    }

    /// The request makes no sense.
    pub(super) fn wrong(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// There is no such thing.
    pub(super) fn unknown(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// The role does not allow it.
    pub(super) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// Too much is asked for.
    pub(super) fn later(error: impl Into<String>, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, error)
        }
    }

    /// Something below failed.
    pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, backup_control::words::chain(error))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What came of a thread that did what blocks.
    pub(super) fn of_thread(error: &tokio::task::JoinError) -> Self {
        Self::failed(error).hint("report this as a bug")
    }
}

impl From<backup_control::error::Error> for Problem {
    /// What somebody asked for cannot be understood.
    fn from(error: backup_control::error::Error) -> Self {
        let problem = Self::wrong(backup_control::words::chain(&error));
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<backup_control::catalog::Error> for Problem {
    fn from(error: backup_control::catalog::Error) -> Self {
        Self::failed(&error).hint(error.hint())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let error = refusal.to_string();
        match refusal {
            Refusal::Unknown(_) => Self::unknown(error),
            Refusal::Refused(_) => Self::new(StatusCode::CONFLICT, error),
            Refusal::Busy(_) => {
                Self { retry_after: Some(30), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error) }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, error, hint, retry_after } = self;
        let mut response =
            (status, Json(ProblemJson { error: error.clone(), hint })).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the audit log.
        response.extensions_mut().insert(Said(error));
        response
    }
}

/// What a [`Problem`] said.
#[derive(Debug, Clone)]
pub(super) struct Said(pub(super) String);
