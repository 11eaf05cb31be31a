//! Alerts and silences.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use backup_control::age::Age;
use backup_control::alerts::{MAX_SILENCE_DAYS, Silence};
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

/// Alerts and silences.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertsJson {
    alerts: Vec<AlertJson>,
    silences: Vec<SilenceJson>,
}

/// List alerts and silences
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", security(("token" = ["operator"])),
    responses((status = 200, body = AlertsJson,
        description = "Current alerts and silences, as of the last evaluation of the rules")))]
pub(super) async fn alerts(State(api): State<Shared>) -> Answer<Json<AlertsJson>> {
    let now = api.reads.now();
    let found = api.reads.ledger(move |ledger| {
        let alerts = ledger.alerts();
        Ok(AlertsJson {
            alerts: alerts
                .map(|alert| AlertJson::of(alert, ledger.silences_alert(alert, now)))
                .collect(),
            silences: ledger.silences(now).into_iter().map(SilenceJson::from).collect(),
        })
    });
    Ok(Json(found.await?))
}

/// A silence to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SilenceOrder {
    /// Name of the rule.
    rule: String,
    /// Silence only alerts about this job or repository. Default: all.
    #[serde(default)]
    subject: Option<String>,
    /// Length of the silence, for instance `2h`; at most 31 days. Either this or `until`.
    #[serde(default, rename = "for")]
    length: Option<String>,
    /// End of the silence: a time such as `2026-11-21 14:30`, or a day, which means its end.
    #[serde(default)]
    until: Option<String>,
    /// Reason of the silence, for other people.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Suppress the notifications of a rule for some time
#[utoipa::path(post, path = "/api/v1/alerts/silences", tag = "alerts", security(("token" = ["operator"])),
    request_body = SilenceOrder, responses((status = 201, description = "The silence", body = SilenceJson)))]
pub(super) async fn silence(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Json(order): Json<SilenceOrder>,
) -> Answer<(StatusCode, Extension<Noted>, Json<SilenceJson>)> {
    let now = api.reads.now();
    let until = until(&api, &order, now)?;
    let reason = order.reason.trim().to_owned();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(Problem::wrong("`reason` must have 1 to 1000 bytes"));
    }
    let loaded = api.reads.config();
    match loaded.config.alerts.get(&order.rule) {
        None => {
            return Err(Problem::unknown("there is no such rule")
                .hint("name a section `[alerts.NAME]` of the configuration"));
        }
        Some(rule) if !rule.condition.can_be_silenced() => {
            return Err(Problem::wrong("the rule reports long silences, and cannot be silenced")
                .hint("end the silences and pauses that it names"));
        }
        Some(_) => {}
    }
    if let Some(subject) = &order.subject
        && !loaded.config.jobs.contains_key(subject)
        && !loaded.config.repositories.contains_key(subject)
    {
        return Err(Problem::unknown("`subject` is neither a job nor a repository"));
    }
    let silence = Silence::new(
        format!("{:08x}", rand::random::<u32>()),
        order.rule,
        order.subject,
        (now, until),
        (who.name, reason),
    );
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
        _ => return Err(Problem::wrong("either `for` or `until` is required, but not both")),
    };
    if until <= now {
        return Err(
            Problem::wrong("the end of the silence is in the past").hint("choose a later time")
        );
    }
    if Silence::is_too_long(now, until) {
        return Err(Problem::wrong(format!("a silence lasts at most {MAX_SILENCE_DAYS} days"))
            .hint("give an earlier end, or remove the rule from the configuration"));
    }
    Ok(until)
}

/// End a silence
#[utoipa::path(delete, path = "/api/v1/alerts/silences/{silence}", tag = "alerts", security(("token" = ["operator"])),
    params(("silence" = String, Path, description = "Identifier of the silence")),
    responses((status = 200, description = "The silence that ended", body = SilenceJson)))]
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
            .hint("list the silences with `GET /api/v1/alerts`")
    })?;
    let noted = Noted::default().with("rule", silence.rule.clone());
    Ok((Extension(noted), Json(SilenceJson::from(&silence))))
}
