//! `backup ls`.

use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::format::Node;
use backup_core::source::{EntryPath, NodeKind};
use jiff::Timestamp;
use serde::Serialize;

use super::view::PathJson;
use crate::args::NamingArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;

/// List the content of a snapshot
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Directory or file in the snapshot
    #[arg(value_name = "PATH", default_value = "/")]
    path: String,
    /// Show type, permissions, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Also list the content of directories below
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    filter: NamingArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup ls latest /home/me --long
  backup ls latest --job documents -R";

/// An entry in JSON: one line each.
#[derive(Serialize)]
struct EntryJson<'a> {
    schema_version: u32,
    event: &'static str,
    #[serde(flatten)]
    path: PathJson,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    mode: String,
    uid: u32,
    gid: u32,
    user: Option<&'a str>,
    group: Option<&'a str>,
    mtime: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<String>,
}

#[derive(Serialize)]
struct LsSummary {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    snapshot: String,
    entries: u64,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let path = entry_path(&args.path)?;
    let spec = args.filter.repository_with(session, &[&args.snapshot]).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let info = opened.find(session, &args.snapshot, &args.filter.choice(session)?).await?;
    let snapshot = opened.indexed.snapshot(info);
    let printer = Printer { session, long: args.long };
    let mut entries = 0;
    let tree = if path.is_root() {
        snapshot.root_id()
    } else {
        let node = snapshot.find(&path).await?.ok_or_else(|| not_found(&path, &info.id.short()))?;
        match node.subtree {
            Some(tree) => tree,
            None => {
                printer.print(&path, &node)?;
                return printer.finish(&info.id.to_hex(), 1);
            }
        }
    };
    let mut walk = snapshot.walk_below(path, tree).with_faults();
    let mut unfit = 0;
    loop {
        let next = walk.next().await?;
        let faults = walk.take_faults();
        for (path, fault) in faults.into_iter().filter(|(_, fault)| fault.is_left_out()) {
            let path = human::text(path.as_bytes());
            session.ui.warning(format_args!("{path}: the entry {}", fault.message));
            unfit += 1;
        }
        let Some((path, node)) = next else { break };
        session.cx.check_cancelled()?;
        printer.print(&path, &node)?;
        entries += 1;
        if !args.recursive {
            walk.skip_content();
        }
    }
    printer.finish(&info.id.to_hex(), entries)?;
    Ok(Outcome::with_warnings(unfit))
}

/// Understands a path inside a snapshot.
pub(super) fn entry_path(text: &str) -> CommandResult<EntryPath> {
    EntryPath::new(text).ok_or_else(|| {
        CommandError::usage(format!("{text:?} is not a path in a snapshot"))
            .with_hint("give an absolute path without `..`")
    })
}

/// The error for a path that a snapshot does not have.
pub(super) fn not_found(path: &EntryPath, snapshot: &str) -> CommandError {
    let path = human::text(path.as_bytes());
    CoreError::new(ErrorKind::NotFound, format!("snapshot {snapshot} has no {path}"))
        .with_hint(format!("list the content of the snapshot with `backup ls {snapshot} -R`"))
        .into()
}

struct Printer<'a> {
    session: &'a Session,
    long: bool,
}

impl Printer<'_> {
    fn print(&self, path: &EntryPath, node: &Node) -> CommandResult<()> {
        let ui = &self.session.ui;
        if ui.is_json() {
            return ui.json_line(&entry_json(path, node));
        }
        let name = human::text(path.as_bytes());
        if !self.long {
            return ui.line(name);
        }
        let metadata = &node.metadata;
        let owner = |name: &Option<std::sync::Arc<str>>, id: u32| match name {
            Some(name) => human::text(name.as_bytes()),
            None => id.to_string(),
        };
        let target = match &metadata.kind {
            NodeKind::Symlink { target } => format!(" -> {}", human::text(target)),
            _ => String::new(),
        };
        ui.line(format_args!(
            "{}  {:<8}  {:<8}  {:>8}  {}  {name}{target}",
            human::mode(metadata),
            owner(&metadata.user, metadata.uid),
            owner(&metadata.group, metadata.gid),
            if node.is_file() { human::size(metadata.size) } else { "-".to_owned() },
            human::time(metadata.mtime, self.session.zone()),
        ))
    }

    fn finish(&self, snapshot: &str, entries: u64) -> CommandResult {
        if self.session.ui.is_json() {
            self.session.ui.json_line(&LsSummary {
                schema_version: SCHEMA_VERSION,
                event: "summary",
                verb: "ls",
                snapshot: snapshot.to_owned(),
                entries,
            })?;
        }
        self.session.ui.flush()?;
        Ok(Outcome::Success)
    }
}

fn entry_json<'a>(path: &EntryPath, node: &'a Node) -> EntryJson<'a> {
    let metadata = &node.metadata;
    EntryJson {
        schema_version: SCHEMA_VERSION,
        event: "entry",
        path: path.into(),
        kind: human::kind(&metadata.kind),
        bytes: node.is_file().then_some(metadata.size),
        mode: format!("{:04o}", metadata.mode),
        uid: metadata.uid,
        gid: metadata.gid,
        user: metadata.user.as_deref(),
        group: metadata.group.as_deref(),
        mtime: metadata.mtime,
        link_target: match &metadata.kind {
            NodeKind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
            _ => None,
        },
    }
}
