//! `backup audit verify`.

use std::collections::BTreeMap;

use backup_control::audit::{Against, Audit, Class, Verdict};
use backup_core::maintenance::Anchor;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{VerifyArgs, blocking};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::records;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// The age of the newest anchor from which on a warning is due: a week, and a day for a weekly job
/// that runs late. Records that were cut off behind the newest anchor cannot be missed.
const MAX_ANCHOR_AGE: SignedDuration = SignedDuration::from_hours(8 * 24);

#[derive(Serialize)]
struct VerifyJson<'a> {
    schema_version: u32,
    file: String,
    sound: bool,
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// Repositories that were read.
    repositories: &'a [String],
    #[serde(flatten)]
    confirmation: &'a Confirmation,
}

/// The anchors of one repository.
struct Anchored {
    repository: String,
    anchors: Vec<Anchor>,
}

/// The confirmation of a chain by repositories.
#[derive(Debug, PartialEq, Serialize)]
struct Confirmation {
    /// Repositories that hold an anchor of the chain.
    anchored_repositories: Vec<String>,
    /// The time of the newest anchor of the chain.
    newest_anchor: Option<Timestamp>,
    /// The age of that anchor, in seconds.
    newest_anchor_age_seconds: Option<u64>,
}

impl Confirmation {
    fn of(chain: Option<&str>, read: &[Anchored], now: Timestamp) -> Self {
        let of_chain = |known: &&Anchored| {
            known.anchors.iter().any(|anchor| Some(anchor.chain.as_str()) == chain)
        };
        let holders = || read.iter().filter(of_chain);
        let newest_anchor = holders()
            .flat_map(|known| &known.anchors)
            .filter(|anchor| Some(anchor.chain.as_str()) == chain)
            .map(|anchor| anchor.time)
            .max();
        Self {
            anchored_repositories: holders().map(|known| known.repository.clone()).collect(),
            newest_anchor,
            newest_anchor_age_seconds: newest_anchor
                .map(|newest| human::between(newest, now).as_secs()),
        }
    }

    fn is_old(&self) -> bool {
        let limit = MAX_ANCHOR_AGE.unsigned_abs().as_secs();
        self.newest_anchor_age_seconds.is_some_and(|age| age > limit)
    }
}

pub(super) async fn run(session: &Session, args: &VerifyArgs, audit: &Audit) -> CommandResult {
    let (read, mut outcome) = match args.offline {
        true => (Vec::new(), Outcome::Success),
        false => collect(session).await?,
    };
    let anchors: Vec<Anchor> = read.iter().flat_map(|known| known.anchors.clone()).collect();
    let (reading, host) = (audit.clone(), session.machine.host.clone());
    let keep = kept(session)?;
    let verdict = blocking(move || {
        reading.verify(Against { anchors: &anchors, host: &host, keep: keep.as_ref() })
    })
    .await?;
    let now = session.cx.clock.now();
    let confirmation = Confirmation::of(verdict.chain.as_deref(), &read, now);
    let (ui, file) = (&session.ui, audit.path().display().to_string());
    if ui.is_json() {
        let repositories: Vec<String> = read.into_iter().map(|known| known.repository).collect();
        ui.json(&VerifyJson {
            schema_version: SCHEMA_VERSION,
            file,
            sound: verdict.is_sound(),
            verdict: &verdict,
            repositories: &repositories,
            confirmation: &confirmation,
        })?;
    } else {
        print(session, &verdict, &file, &confirmation, now)?;
    }
    if confirmation.is_old() {
        let days = MAX_ANCHOR_AGE.as_hours() / 24;
        ui.warning(format_args!(
            "the newest anchor of the audit log is older than {days} days: records that were cut \
             off since then cannot be missed"
        ));
        ui.hint("run a backup or `backup check`, which store an anchor in the repository");
        outcome = outcome.max(Outcome::Warnings);
    }
    Ok(if verdict.is_sound() { outcome } else { Outcome::Damage })
}

/// Before which moment records may be removed, by the configuration; unknown without one.
pub(in crate::commands) fn kept(
    session: &Session,
) -> CommandResult<Option<BTreeMap<Class, Timestamp>>> {
    let Some(loaded) = session.config()? else { return Ok(None) };
    let keep = loaded.config.audit.keep.clone().unwrap_or_default();
    Ok(Some(keep.cut_offs(session.cx.clock.now(), &session.calendar_zone())?))
}

/// The anchors of all repositories that are meant. One that cannot be read is a warning.
async fn collect(session: &Session) -> CommandResult<(Vec<Anchored>, Outcome)> {
    let mut specs = Vec::from_iter(session.named_repository()?);
    if specs.is_empty() {
        match session.config()? {
            Some(loaded) => {
                for name in loaded.config.repositories.keys() {
                    specs.push(session.resolve(name)?);
                }
            }
            None => specs.extend(session.repository().ok()),
        }
    }
    let (mut known, mut outcome) = (Vec::new(), Outcome::Success);
    for spec in specs {
        let read = async { CommandResult::Ok(session.open(&spec).await?.anchors().await?) };
        match read.await {
            Ok((anchors, damaged)) => {
                known.push(Anchored { repository: spec.to_string(), anchors });
                for error in damaged {
                    session.ui.warning(format_args!(
                        "an anchor in {spec} cannot be read: {}",
                        error.chain()
                    ));
                    outcome = Outcome::Warnings;
                }
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                let what = format!("cannot read the anchors of the audit log in {spec}");
                records::warn(session, &what, &error);
                outcome = Outcome::Warnings;
            }
        }
    }
    Ok((known, outcome))
}

fn print(
    session: &Session,
    verdict: &Verdict,
    file: &str,
    confirmation: &Confirmation,
    now: Timestamp,
) -> CommandResult<()> {
    let ui = &session.ui;
    let records = human::count(verdict.lines, "record", "records");
    if verdict.is_sound() {
        let confirmed = match (verdict.anchored, confirmation.newest_anchor) {
            (Some(sequence), Some(newest)) => {
                let holders = confirmation.anchored_repositories.len() as u64;
                format!(
                    "confirmed by {} up to record {sequence}, newest anchor {}",
                    human::count(holders, "repository", "repositories"),
                    human::age(newest, now)
                )
            }
            _ => "no repository confirms its end".to_owned(),
        };
        return ui.print(format!(
            "{}: {records} in {file}; {confirmed}",
            paint(style::GOOD, "The chain is intact")
        ));
    }
    ui.print(format!("{}: {records} in {file}", paint(style::ERROR, "The chain is broken")))?;
    for finding in &verdict.findings {
        let at = finding.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        ui.print(human::text(format!("  {at}{}", finding.what).as_bytes()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(chain: &str, day: i64) -> Anchor {
        Anchor {
            chain: chain.to_owned(),
            sequence: 1,
            hash: String::new(),
            time: Timestamp::from_second(day * 86_400).unwrap(),
            host: "host".to_owned(),
            place: "/audit.jsonl".to_owned(),
        }
    }

    #[test]
    fn only_anchors_of_the_chain_count_and_age() {
        let repository = |name: &str, anchors: &[Anchor]| Anchored {
            repository: name.to_owned(),
            anchors: anchors.to_vec(),
        };
        let read = [
            repository("own", &[anchor("ours", 3), anchor("ours", 10), anchor("theirs", 17)]),
            repository("other", &[anchor("theirs", 18)]),
            repository("empty", &[]),
        ];
        let at = |day: i64, second: i64| {
            let now = Timestamp::from_second(day * 86_400 + second).unwrap();
            Confirmation::of(Some("ours"), &read, now)
        };
        let known = at(18, 0);
        assert_eq!(known.anchored_repositories, ["own"]);
        assert_eq!(known.newest_anchor_age_seconds, Some(8 * 86_400));
        assert!(!known.is_old() && at(18, 1).is_old());
        let nobody = Confirmation::of(Some("gone"), &read, Timestamp::UNIX_EPOCH);
        assert!(nobody.anchored_repositories.is_empty() && nobody.newest_anchor.is_none());
        assert!(!nobody.is_old());
    }
}
