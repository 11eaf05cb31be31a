//! How snapshots and problems are shown by several verbs.

use backup_core::check::Problem;
use backup_core::repository::{SnapshotInfo, SnapshotList};
use backup_core::source::{EntryPath, IMPORTED, NOT_POINT_IN_TIME};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::Serialize;

use crate::command_error::Outcome;
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::Ui;

/// Tags that say what other fields say.
const OWN_TAGS: [&str; 4] = ["job=", "source=", "type=", "tier="];

/// Most snapshots with wrong dates that a warning names.
const MAX_WRONG_TIMES: usize = 5;

/// A snapshot in JSON.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotJson<'a> {
    id: String,
    short_id: String,
    /// The time that the snapshot counts for.
    time: Timestamp,
    /// The time that the snapshot states, if it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_time: Option<Timestamp>,
    parent: Option<String>,
    job: Option<&'a str>,
    source: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    tier: Option<&'a str>,
    host: &'a str,
    user: &'a str,
    paths: &'a [String],
    tags: &'a [String],
    files: Option<u64>,
    bytes: Option<u64>,
    added_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    warnings: u64,
    program: &'a str,
}

impl<'a> From<&'a SnapshotInfo> for SnapshotJson<'a> {
    fn from(info: &'a SnapshotInfo) -> Self {
        let SnapshotInfo { id, snapshot, .. } = info;
        let summary = snapshot.summary.as_ref();
        Self {
            id: id.to_hex(),
            short_id: id.short(),
            time: info.time(),
            own_time: own_time(info),
            parent: snapshot.parent.as_ref().map(ToString::to_string),
            job: snapshot.tag("job"),
            source: snapshot.tag("source"),
            kind: snapshot.tag("type"),
            tier: snapshot.tag("tier"),
            host: &snapshot.hostname,
            user: &snapshot.username,
            paths: &snapshot.paths,
            tags: &snapshot.tags,
            files: summary.map(|summary| summary.total_files_processed),
            bytes: summary.map(|summary| summary.total_bytes_processed),
            added_bytes: summary.map(|summary| summary.data_added),
            stored_bytes: summary.map(|summary| summary.data_added_packed),
            warnings: snapshot.x_warnings.unwrap_or(0),
            program: &snapshot.program_version,
        }
    }
}

/// The time that a snapshot states, if it counts for another one.
pub(super) fn own_time(info: &SnapshotInfo) -> Option<Timestamp> {
    let own = info.effective.own();
    (own != info.time()).then_some(own)
}

/// Warns of snapshots that count for another time than they state.
pub(super) fn warn_of_wrong_times<'a>(
    session: &Session,
    snapshots: impl IntoIterator<Item = &'a SnapshotInfo>,
) {
    let disputed: Vec<String> = snapshots
        .into_iter()
        .filter(|info| info.effective.is_replaced())
        .map(|info| {
            let (zone, own) = (session.zone(), info.effective.own());
            let (own, time) = (human::time(own, zone), human::time(info.time(), zone));
            format!("{} states {own} and counts for {time}", info.id.short())
        })
        .collect();
    if disputed.is_empty() {
        return;
    }
    let count = human::count(disputed.len() as u64, "snapshot has", "snapshots have");
    let named = disputed.iter().take(MAX_WRONG_TIMES).cloned().collect::<Vec<_>>().join("; ");
    let more = match disputed.len().saturating_sub(MAX_WRONG_TIMES) {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    session.ui.warning(format_args!("{count} a wrong date: {named}{more}"));
}

/// The tags of a snapshot that the user chose.
pub(super) fn user_tags(info: &SnapshotInfo) -> String {
    let own = |tag: &&String| !OWN_TAGS.iter().any(|own| tag.starts_with(own));
    let tags: Vec<&str> = info.snapshot.tags.iter().filter(own).map(String::as_str).collect();
    human::text(tags.join(", ").as_bytes())
}

/// What has to be known of a snapshot before it is relied on.
pub(super) fn states(info: &SnapshotInfo) -> Vec<&'static str> {
    let incomplete = info.snapshot.x_warnings.unwrap_or(0) > 0;
    let states = [
        (info.snapshot.is_part(), "part"),
        (incomplete, "incomplete"),
        (is_of_no_moment(info), "not point-in-time"),
        (is_imported(info), "imported"),
    ];
    states.into_iter().filter_map(|(is, name)| is.then_some(name)).collect()
}

/// True for a dump of another tool, with the dump's time.
pub(super) fn is_imported(info: &SnapshotInfo) -> bool {
    info.snapshot.tags.iter().any(|tag| tag == IMPORTED)
}

/// Whether its parts were read one after the other, while others may have written.
pub(super) fn is_of_no_moment(info: &SnapshotInfo) -> bool {
    info.snapshot.tags.iter().any(|tag| tag == NOT_POINT_IN_TIME)
}

/// A table of snapshots, with columns of its own at the end; see [`snapshot_row`].
pub(super) fn snapshot_table(more: &[(&'static str, Align)]) -> Table {
    let columns = [
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Age", Align::Left),
        ("Job", Align::Left),
        ("Type", Align::Left),
        ("Tier", Align::Left),
        ("Size", Align::Right),
    ];
    Table::new([&columns, more].concat())
}

/// A row of a [`snapshot_table`], without the cells of its last columns.
pub(super) fn snapshot_row(session: &Session, info: &SnapshotInfo) -> Vec<String> {
    let snapshot = &info.snapshot;
    let tag = |name: &str| human::text(snapshot.tag(name).unwrap_or_default().as_bytes());
    let size = snapshot.summary.as_ref().map(|summary| human::size(summary.total_bytes_processed));
    vec![
        info.id.short(),
        human::time(info.time(), session.zone()),
        human::age(info.time(), session.cx.clock.now()),
        tag("job"),
        tag("type"),
        tag("tier"),
        size.unwrap_or_default(),
    ]
}

/// A path in JSON: text, and the bytes where text cannot hold them.
#[derive(Debug, Serialize)]
pub(super) struct PathJson {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
}

impl From<&EntryPath> for PathJson {
    fn from(path: &EntryPath) -> Self {
        let bytes = path.as_bytes();
        let exact = std::str::from_utf8(bytes).is_ok();
        Self {
            path: path.display().into_owned(),
            path_base64: (!exact).then(|| BASE64.encode(bytes)),
        }
    }
}

/// A snapshot that cannot be read, in JSON.
#[derive(Debug, Serialize)]
pub(super) struct DamagedJson {
    id: String,
    message: String,
}

/// The snapshots that cannot be read.
pub(super) fn damaged(list: &SnapshotList) -> Vec<DamagedJson> {
    list.damaged
        .iter()
        .map(|(id, error)| DamagedJson { id: id.to_hex(), message: error.chain() })
        .collect()
}

/// Warns of snapshots that cannot be read, which must never look as if they did not exist.
pub(super) fn warn_of_damaged(ui: &Ui, list: &SnapshotList) -> Outcome {
    for (id, error) in &list.damaged {
        ui.warning(format_args!("snapshot {} is damaged: {}", id.short(), error.chain()));
    }
    if list.damaged.is_empty() {
        return Outcome::Success;
    }
    ui.hint("list all damage with `backup check`");
    Outcome::Damage
}

/// Hint after damage was found.
pub(crate) const REPAIR_HINT: &str = "show the repair plan with `backup repair --dry-run`, and name a copy with --from if there is one";

/// Problems as lines.
pub(crate) fn problems(problems: &[Problem]) -> Vec<String> {
    let mut lines = Vec::new();
    for problem in problems {
        let heading = paint(style::ERROR, "Damaged:");
        lines.push(format!(
            "{heading} {}: {}",
            problem.object,
            human::text(problem.message.as_bytes())
        ));
        lines.extend(
            problem
                .affects
                .iter()
                .map(|affected| format!("  affects {}", human::text(affected.as_bytes()))),
        );
    }
    lines
}

/// An event that ends long work.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a, T> {
    pub(super) schema_version: u32,
    pub(super) event: &'static str,
    pub(super) verb: &'static str,
    pub(super) repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<&'a str>,
    #[serde(flatten)]
    pub(super) report: &'a T,
}

impl<'a, T: Serialize> Summary<'a, T> {
    pub(super) fn new(verb: &'static str, repository: String, report: &'a T) -> Self {
        Self {
            schema_version: crate::ui::SCHEMA_VERSION,
            event: "summary",
            verb,
            repository,
            job: None,
            report,
        }
    }
}
