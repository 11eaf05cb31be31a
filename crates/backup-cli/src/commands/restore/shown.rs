//! What is said of a plan, and of what came of it.

use backup_control::config::SourceKind;
use backup_core::source::{
    IfExists, KeptEntries, PlannedObject, Removal, RestoreReport, RestoredObjects,
};
use jiff::Timestamp;
use serde::Serialize;

use super::Restore;
use super::at::{self, LogJson};
use crate::command_error::CommandResult;
use crate::commands::view::Summary;
use crate::human;

/// A restore in JSON.
#[derive(Serialize)]
struct RestoreJson<'a> {
    snapshot: String,
    target: Option<&'a str>,
    dry_run: bool,
    /// Job and host of the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_job: Option<&'a str>,
    snapshot_host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogJson<'a>>,
    #[serde(flatten)]
    report: &'a RestoreReport,
}

impl Restore {
    pub(super) fn report(
        &self,
        report: &RestoreReport,
        dry_run: bool,
        heading: &str,
        verbs: [&str; 3],
    ) -> CommandResult<()> {
        let ui = &self.session.ui;
        let of_server = self.restorer.is_server();
        if ui.is_json() {
            let place = of_server.then_some(self.restorer.place.as_str());
            let (snapshot, target) =
                (self.snapshot.id().to_hex(), self.request.target.as_deref().or(place));
            let log = self.request.log.as_ref().map(|log| LogJson::from(log.plan()));
            let snapshot_time = self.without_log.map(|without_log| without_log.time);
            let of = self.snapshot.snapshot();
            let json = RestoreJson {
                snapshot,
                target,
                dry_run,
                snapshot_job: of.tag("job"),
                snapshot_host: &of.hostname,
                snapshot_time,
                log,
                report,
            };
            let summary = Summary::new("restore", self.repository.clone(), &json);
            ui.event(&Summary { job: self.member.as_deref(), ..summary });
            return Ok(());
        }
        let mut lines = match &self.member {
            Some(job) => vec![format!("{}: {heading}", human::text(job.as_bytes()))],
            None => vec![heading.to_owned()],
        };
        if dry_run {
            lines.push(self.origin());
        }
        if let Some(without_log) = &self.without_log {
            lines.push(without_log.words(dry_run, self.session.zone()));
        }
        if let Some(log) = &self.request.log {
            lines.extend(at::words(log.plan(), self.is_part, dry_run, self.session.zone()));
            if dry_run {
                lines.push(format!("  time zone: {}", self.session.zones().dates));
            }
        }
        lines.extend(if of_server {
            self.collections(report, dry_run, verbs)
        } else {
            files(report, dry_run, verbs)
        });
        // What somebody is about to confirm is shown even to those who want quiet.
        if dry_run { ui.print(lines.join("\n")) } else { ui.summary(lines.join("\n")) }
    }

    /// A line about the job, the host and the time of the snapshot.
    fn origin(&self) -> String {
        let snapshot = self.snapshot.snapshot();
        let job = snapshot.tag("job").map(|job| format!("job {}, ", human::text(job.as_bytes())));
        let host = human::text(snapshot.hostname.as_bytes());
        let time = human::full_time(snapshot.time, self.session.zone());
        format!("  of: {}host {host}, {time}", job.unwrap_or_default())
    }

    fn collections(
        &self,
        report: &RestoreReport,
        dry_run: bool,
        [write, _, remove]: [&str; 3],
    ) -> Vec<String> {
        let words = match self.restorer.kind {
            SourceKind::Mongodb => ("object", "objects"),
            SourceKind::Redis => ("key", "keys"),
            SourceKind::Postgres | SourceKind::Files => ("table", "tables"),
        };
        let count = |count: u64| human::count(count, words.0, words.1);
        let mut lines = match (&report.contents, dry_run) {
            (Some(contents), _) => vec![format!("  {write}: {}", objects(contents))],
            (None, true) => vec![format!("  {write}: {}", count(report.entries))],
            (None, false) => vec![format!(
                "  {write}: {}, {}",
                count(report.entries),
                human::size(report.written_bytes)
            )],
        };
        lines.extend(self.planned(report));
        if dry_run && self.replaces_server() {
            let what = match (self.is_mapping, self.is_renaming) {
                (true, _) => "all data in the target databases",
                (false, true) => "all data of the target, under any name",
                (false, false) => "all data of the target",
            };
            lines.push(format!("  {remove}: {what}, {}", count(report.removed)));
            lines.extend(self.removals(report));
        } else if report.removed > 0 {
            lines.push(format!("  {remove}: {}", count(report.removed)));
            lines.extend(self.removals(report));
        }
        for line in &report.adjusted {
            lines.push(format!("  as requested: {}", human::text(line.as_bytes())));
        }
        if !report.replaced_users.is_empty() {
            let verb = if dry_run { "replace" } else { "replaced" };
            let users = report.replaced_users.iter().map(|name| human::text(name.as_bytes()));
            let users = users.collect::<Vec<_>>().join(", ");
            lines.push(format!("  {verb} users and roles that differ: {users}"));
        }
        lines.extend(rest(report));
        lines
    }
}

impl Restore {
    /// Lines about the objects that are written.
    fn planned(&self, report: &RestoreReport) -> Vec<String> {
        let parts = match self.restorer.kind {
            SourceKind::Mongodb => ("document", "documents"),
            SourceKind::Redis => ("key", "keys"),
            SourceKind::Postgres => ("row", "rows"),
            SourceKind::Files => ("byte", "bytes"),
        };
        let merges = self.request.if_exists == IfExists::Merge;
        listed(report.objects.iter().map(|object| planned(object, parts, merges)))
    }

    /// Lines about the objects that are removed.
    fn removals(&self, report: &RestoreReport) -> Vec<String> {
        let kind = self.restorer.kind;
        listed(report.removals.iter().map(|one| removal(one, kind)))
    }
}

/// Objects of a database server by kind; kinds of which there are none are left out.
pub(crate) fn objects(contents: &RestoredObjects) -> String {
    let some =
        |count: u64, one: &str, many: &str| (count > 0).then(|| human::count(count, one, many));
    let documents = match contents.documents {
        _ if contents.collections == contents.time_series => None,
        Some(count) => Some(human::count(count, "document", "documents")),
        None => Some("documents not known".to_owned()),
    };
    let measurements = (contents.time_series > 0).then(|| "measurements (not counted)".to_owned());
    let has_data = contents.collections > 0;
    let parts = [
        some(contents.databases, "database", "databases"),
        some(contents.collections, "collection", "collections"),
        some(contents.views, "view", "views"),
        documents,
        measurements,
        has_data.then(|| human::size(contents.bytes)),
        some(contents.users, "user", "users"),
        some(contents.roles, "role", "roles"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// Objects that a plan lists on a terminal; JSON has all of them.
const LISTED: usize = 100;

/// At most [`LISTED`] lines, and the number of the others.
fn listed(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LISTED);
    let mut shown: Vec<String> = lines.take(LISTED).collect();
    if more > 0 {
        shown.push(format!("    and {more} more (--json lists them)"));
    }
    shown
}

/// Returns `true` for kinds of objects with rows. A plan gives their number, or `rows not known`.
/// Others have none of their own, or compute them.
fn has_rows(kind: &str) -> bool {
    kind == "table"
}

/// A line about one object that is written: `merges` if it is merged into an existing one.
fn planned(object: &PlannedObject, (one, many): (&str, &str), merges: bool) -> String {
    let counted = |count: u64| human::count(count, one, many);
    let unknown = if has_rows(&object.kind) { ", rows not known" } else { "" };
    let count =
        object.count.map_or_else(|| unknown.to_owned(), |count| format!(", {}", counted(count)));
    let verb = if merges { "merges into" } else { "replaces" };
    let existing = object.existing.map(|existing| match (existing.count, existing.estimate) {
        (Some(count), _) => format!("; {verb} {}", counted(count)),
        (None, Some(estimate)) => format!("; {verb} about {}", counted(estimate)),
        (None, None) => format!("; {verb} the existing {}{unknown}", object.kind),
    });
    let name = human::text(object.name.as_bytes());
    format!("    {} {name}{count}{}", object.kind, existing.unwrap_or_default())
}

/// A line about one removed object.
fn removal(removal: &Removal, kind: SourceKind) -> String {
    let parts = match (kind, removal.kind.as_str()) {
        (SourceKind::Redis, _) => ("key", "keys"),
        (SourceKind::Files, _) => ("entry", "entries"),
        (SourceKind::Postgres, _) => ("row", "rows"),
        (_, "database") => ("object, and nothing else", "objects, and nothing else"),
        _ => ("document", "documents"),
    };
    let counted = |count: u64| human::count(count, parts.0, parts.1);
    let count = match (removal.count, removal.estimate) {
        (Some(count), _) => format!(", {}", counted(count)),
        (None, Some(estimate)) => format!(", about {}", counted(estimate)),
        (None, None) if has_rows(&removal.kind) => ", rows not known".to_owned(),
        (None, None) => String::new(),
    };
    format!("    {} {}{count}", removal.kind, human::text(removal.name.as_bytes()))
}

/// What is said of files.
pub(crate) fn files(
    report: &RestoreReport,
    dry_run: bool,
    [write, leave, remove]: [&str; 3],
) -> Vec<String> {
    // Layers that were written over one another are written more than once.
    let bytes = |part: u64| match part >= report.total_bytes {
        true => human::size(part),
        false => format!("{} of {}", human::size(part), human::size(report.total_bytes)),
    };
    let files = |count: u64| human::count(count, "file", "files");
    let mut lines = vec![format!(
        "  {write}: {}, {}",
        files(report.files_written),
        bytes(report.written_bytes)
    )];
    let changed = report.objects.iter().map(|object| planned(object, ("byte", "bytes"), false));
    lines.extend(listed(changed));
    if report.files_unchanged > 0 {
        lines.push(format!("  {leave}: {}", files(report.files_unchanged)));
    }
    if report.removed > 0 || dry_run {
        lines.push(format!("  {remove}: {}", human::count(report.removed, "entry", "entries")));
        lines.extend(listed(report.removals.iter().map(|one| removal(one, SourceKind::Files))));
    }
    lines.extend(kept(&report.kept, dry_run));
    if report.failures > 0 {
        let entries = human::count(report.failures, "entry", "entries");
        lines.push(format!("  failed: {entries}, named above"));
    }
    lines.extend(rest(report));
    lines
}

/// Lines about entries that the snapshot lacks and that stay.
fn kept(kept: &KeptEntries, dry_run: bool) -> Vec<String> {
    let verb = if dry_run { "keep" } else { "kept" };
    let reasons = [
        (kept.present, "the snapshot lacks (see --delete)"),
        (kept.excluded, "the backup left out (see --delete-excluded)"),
        (kept.unknown, "the backup may have seen (see --delete-unknown)"),
    ];
    let some = reasons.into_iter().filter(|(count, _)| *count > 0);
    some.map(|(count, reason)| {
        format!("  {verb}: {} that {reason}", human::count(count, "entry", "entries"))
    })
    .collect()
}

/// What is said of every kind.
pub(crate) fn rest(report: &RestoreReport) -> Vec<String> {
    let mut lines = Vec::new();
    if report.verified_bytes > 0 {
        lines.push(format!("  read back and compared: {}", human::size(report.verified_bytes)));
    }
    if report.warnings > 0 {
        lines.push(format!(
            "  incomplete or not compared: {} above",
            human::count(report.warnings, "warning", "warnings")
        ));
    }
    lines
}
