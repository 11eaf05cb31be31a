//! `backup show`.

use std::collections::BTreeSet;
use std::fmt;

use backup_core::format::Manifest;
use backup_core::repository::SnapshotInfo;
use serde::Serialize;

use super::hold::{self, HoldJson};
use super::view::{self, SnapshotJson};
use crate::args::NamingArgs;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;
use crate::ui::SCHEMA_VERSION;

/// Show the origin, moment and totals of a snapshot
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    #[command(flatten)]
    filter: NamingArgs,
}

const EXAMPLES: &str = "\
Example:
  backup show latest --job documents";

#[derive(Serialize)]
struct ShowJson<'a> {
    schema_version: u32,
    snapshot: SnapshotJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable_holds: Option<&'a str>,
    manifest: Option<&'a Manifest>,
    /// Objects of a MongoDB snapshot by kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<Contents>,
}

/// Objects of a MongoDB snapshot whose documents were counted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Contents {
    databases: u64,
    /// Time-series collections included; neither users nor roles.
    collections: u64,
    /// Measurements of time-series collections are left out.
    documents: u64,
    bytes: u64,
    users: u64,
    roles: u64,
}

impl Contents {
    /// `None` for other snapshots, and for those of an oplog, which count no documents.
    fn of(manifest: &Manifest) -> Option<Self> {
        if manifest.source.kind != "mongodb" || manifest.objects.is_empty() {
            return None;
        }
        let (mut contents, mut databases) = (Self::default(), BTreeSet::new());
        for (name, object) in &manifest.objects {
            let (database, collection) = name.split_once('.').unwrap_or((name, ""));
            match name.as_str() {
                "admin.system.users" => contents.users = object.count,
                "admin.system.roles" => contents.roles = object.count,
                "admin.system.version" => {}
                _ => {
                    databases.insert(database);
                    contents.collections += 1;
                    contents.bytes += object.bytes;
                    let is_counted = !collection.starts_with("system.buckets.");
                    contents.documents += if is_counted { object.count } else { 0 };
                }
            }
        }
        contents.databases = databases.len() as u64;
        Some(contents)
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part =
            |count: u64, one: &str, many: &str| (count > 0).then(|| human::count(count, one, many));
        let parts = [
            Some(human::count(self.databases, "database", "databases")),
            Some(human::count(self.collections, "collection", "collections")),
            Some(human::count(self.documents, "document", "documents")),
            Some(human::size(self.bytes)),
            part(self.users, "user", "users"),
            part(self.roles, "role", "roles"),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = args.filter.repository_with(session, &[&args.snapshot]).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let info = opened.find(session, &args.snapshot, &args.filter.choice(session)?).await?;
    let manifest = opened.indexed.snapshot(info).manifest().await?;
    let (mut holds, unreadable) = hold::in_force(session, opened.indexed.repository()).await?;
    let hold = holds.remove(&info.id);
    if session.ui.is_json() {
        let (schema_version, snapshot) = (SCHEMA_VERSION, SnapshotJson::from(info));
        let hold = hold.as_ref().map(HoldJson::from);
        let unreadable_holds = unreadable.as_deref();
        let manifest = manifest.as_ref();
        let contents = manifest.and_then(Contents::of);
        session.ui.json(&ShowJson {
            schema_version,
            snapshot,
            hold,
            unreadable_holds,
            manifest,
            contents,
        })?;
        Ok(if unreadable.is_none() { Outcome::Success } else { Outcome::Damage })
    } else {
        let id = paint(style::SNAPSHOT, info.id);
        let held = hold.as_ref().map(|hold| hold::words(session, hold));
        let state = view::states(info)
            .into_iter()
            .map(str::to_owned)
            .chain(held)
            .collect::<Vec<_>>()
            .join(", ");
        let more = manifest.as_ref().map(details).unwrap_or_default();
        let facts = facts(&[basics(session, info), vec![("State", state)], more].concat());
        session.ui.print(format_args!("Snapshot {id}\n{facts}"))?;
        Ok(hold::warn_of_unreadable(&session.ui, unreadable.as_deref()))
    }
}

fn basics(session: &Session, info: &SnapshotInfo) -> Vec<(&'static str, String)> {
    let snapshot = &info.snapshot;
    let text = |text: &str| human::text(text.as_bytes());
    let tag = |name: &str| text(snapshot.tag(name).unwrap_or_default());
    let age = human::age(info.time(), session.cx.clock.now());
    let stored = snapshot.summary.as_ref().map(|summary| {
        format!(
            "{} of new data, {} after compression",
            human::size(summary.data_added),
            human::size(summary.data_added_packed)
        )
    });
    let warnings = match snapshot.x_warnings {
        None | Some(0) => String::new(),
        Some(some) => format!("{} missing or incomplete", human::count(some, "entry", "entries")),
    };
    let own = view::own_time(info).map(|own| human::full_time(own, session.zone()));
    vec![
        ("Time", format!("{} ({age})", human::full_time(info.time(), session.zone()))),
        ("Stated time", own.unwrap_or_default()),
        ("Job", tag("job")),
        ("Source", tag("source")),
        ("Type", tag("type")),
        ("Tier", tag("tier")),
        ("Host", text(&snapshot.hostname)),
        ("User", text(&snapshot.username)),
        ("Paths", text(&snapshot.paths.join(" "))),
        ("Tags", view::user_tags(info)),
        ("Excluded", text(&snapshot.excludes.join(" "))),
        ("Parent", snapshot.parent.as_ref().map(|id| id.short()).unwrap_or_default()),
        ("Stored", stored.unwrap_or_default()),
        ("Warnings", warnings),
        ("Program", text(&snapshot.program_version)),
    ]
}

fn details(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let totals = &manifest.totals;
    let mut content = vec![
        human::count(totals.files, "file", "files"),
        human::count(totals.dirs, "directory", "directories"),
    ];
    if totals.others > 0 {
        content.push(human::count(totals.others, "other", "others"));
    }
    content.push(human::size(totals.bytes));
    let content = match Contents::of(manifest) {
        Some(contents) => contents.to_string(),
        None => content.join(", "),
    };
    let took = human::between(manifest.checkpoint.started, manifest.checkpoint.finished);
    vec![
        ("Content", content),
        ("Read in", human::duration(took)),
        (
            "Position",
            human::text(manifest.checkpoint.position.as_deref().unwrap_or_default().as_bytes()),
        ),
        ("Server", human::text(manifest.server_version.as_deref().unwrap_or_default().as_bytes())),
        ("Remarks", human::text(manifest.remarks.join(" ").as_bytes())),
        ("Included", human::text(manifest.include.join(" ").as_bytes())),
    ]
}
