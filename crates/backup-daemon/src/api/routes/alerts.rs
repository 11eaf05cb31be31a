//! Alerts and silences.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use backup_control::age::Age;
use backup_control::alerts::Silence;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::Shared;
use super::super::guard::Who;
use super::super::problem::{Answer, Problem};
use super::super::told::Noted;
use super::super::views::{AlertJson, SilenceJson};

/// Bytes of a reason, at most.
const MAX_REASON: usize = 1000;

/// What is wrong by the rules of the configuration, and what nobody is told of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertsJson {
    alerts: Vec<AlertJson>,
    silences: Vec<SilenceJson>,
}

/// What is wrong by the rules of the configuration, and what nobody is told of
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", security(("token" = ["operator"])),
    responses((status = 200, description = "It, as it was when somebody looked last", body = AlertsJson)))]
pub(super) async fn alerts(State(api): State<Shared>) -> Answer<Json<AlertsJson>> {
    let now = api.reads.now();
    let found = api.reads.ledger(move |ledger| {
        let silenced = |rule: &str, subject: &str| ledger.is_silenced(rule, subject, now);
        let alerts = ledger.alerts().iter();
        Ok(AlertsJson {
            alerts: alerts
                .map(|alert| AlertJson::of(alert, silenced(&alert.rule, &alert.subject)))
                .collect(),
            silences: ledger.silences(now).into_iter().map(SilenceJson::from).collect(),
        })
    });
    Ok(Json(found.await?))
}

/// What nobody is to be told of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SilenceOrder {
    /// The rule.
    rule: String,
    /// Only what it finds of this job or repository.
    #[serde(default)]
    subject: Option<String>,
    /// For so long, for instance `2h`. Either this or `until`.
    #[serde(default, rename = "for")]
    length: Option<String>,
    /// Until this moment, for instance `2026-11-21 14:30`, or the end of this day.
    #[serde(default)]
    until: Option<String>,
    /// Why, for those who wonder.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Tell nobody what a rule finds, for a while
#[utoipa::path(post, path = "/api/v1/alerts/silences", tag = "alerts", security(("token" = ["operator"])),
    request_body = SilenceOrder, responses((status = 201, description = "Nobody is told", body = SilenceJson)))]
pub(super) async fn silence(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Json(order): Json<SilenceOrder>,
) -> Answer<(StatusCode, Extension<Noted>, Json<SilenceJson>)> {
    let now = api.reads.now();
    let until = until(&api, &order, now)?;
    let reason = order.reason.trim().to_owned();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(Problem::wrong("`reason` says why, in at most 1000 letters"));
    }
    let loaded = api.reads.config();
    if !loaded.config.alerts.contains_key(&order.rule) {
        return Err(Problem::unknown("there is no such rule")
            .hint("rules are the sections `[alerts.NAME]`"));
    }
    if let Some(subject) = &order.subject
        && !loaded.config.jobs.contains_key(subject)
        && !loaded.config.repositories.contains_key(subject)
    {
        return Err(Problem::unknown("`subject` is neither a job nor a repository"));
    }
    let silence = Silence {
        config: String::new(),
        id: format!("{:08x}", rand::random::<u32>()),
        rule: order.rule,
        subject: order.subject,
        until,
        reason,
        user: who.name,
        since: now,
    };
    let noted =
        Noted::default().with("rule", silence.rule.clone()).with("reason", silence.reason.clone());
    let shown = SilenceJson::from(&silence);
    let saving = api.reads.ledger(move |mut ledger| {
        ledger.silence(silence);
        ledger.save()
    });
    saving.await?;
    Ok((StatusCode::CREATED, Extension(noted), Json(shown)))
}

fn until(api: &Shared, order: &SilenceOrder, now: Timestamp) -> Answer<Timestamp> {
    let until = match (&order.length, &order.until) {
        (Some(length), None) => Age::parse(length)?.after(now, &api.reads.zone())?,
        (None, Some(until)) => api.reads.end_of(until)?,
        _ => return Err(Problem::wrong("a silence takes either `for` or `until`")),
    };
    if until <= now {
        return Err(Problem::wrong("the silence would be over already").hint("give a later time"));
    }
    Ok(until)
}

/// End a silence
#[utoipa::path(delete, path = "/api/v1/alerts/silences/{silence}", tag = "alerts", security(("token" = ["operator"])),
    params(("silence" = String, Path, description = "Its id")),
    responses((status = 200, description = "What it was", body = SilenceJson)))]
pub(super) async fn unsilence(
    State(api): State<Shared>,
    Path(id): Path<String>,
) -> Answer<(Extension<Noted>, Json<SilenceJson>)> {
    let ending = api.reads.ledger(move |mut ledger| {
        let silence = ledger.unsilence(&id);
        if silence.is_some() {
            ledger.save()?;
        }
        Ok(silence)
    });
    let silence = ending.await?.ok_or_else(|| {
        Problem::unknown("there is no such silence")
            .hint("`GET /api/v1/alerts` shows those that there are")
    })?;
    let noted = Noted::default().with("rule", silence.rule.clone());
    Ok((Extension(noted), Json(SilenceJson::from(&silence))))
}
