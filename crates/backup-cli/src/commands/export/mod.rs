//! `backup export`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verb: what is exported, and the task that reads it |
//! | `output.rs` | where it goes: standard output, or a file that appears when it is complete |
//! | `tar.rs` | the thread that writes the archive |
//! | `dump.rs` | snapshots of databases, as files for their own tools |
//!
//! ```text
//!  async task: walk, read, decrypt ──(bounded channel)──▶ blocking thread: tar or raw ──▶ output
//! ```

mod dump;
mod output;
mod tar;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use backup_core::format::Node;
use backup_core::repository::{SnapshotReader, TreeWalk};
use backup_core::source::{EntryPath, NodeKind};
use bytes::Bytes;
use clap::ValueEnum;
use futures::TryStreamExt;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::ls::{entry_path, not_found};
use crate::args::NamingArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;
use output::Output;

/// Pieces that reading may be ahead of writing.
const AHEAD: usize = 16;

/// Export files of a snapshot as a file or tar archive, or a database
///
/// Writes a file as it is and a directory as a tar archive, to a file or to standard output.
/// Without PATH, exports the whole snapshot. Paths in the archive are those in the snapshot,
/// without the leading `/`.
///
/// With --to, writes a database to a directory. MongoDB has the layout of mongodump, brought to the
/// snapshot's moment, for stock mongorestore. Redis has the files for starting a server: a dump, or
/// an append-only file if commands follow it. With --archive, writes a snapshot of MongoDB as one
/// file for `mongorestore --archive`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Directory or file in the snapshot
    #[arg(value_name = "PATH", default_value = "/")]
    path: String,
    /// Write to this file; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Action if the file exists
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    if_exists: IfFileExists,
    /// Write a snapshot of MongoDB or Redis to this directory, which must be empty or absent
    #[arg(long, value_name = "DIR", conflicts_with_all = ["path", "output", "if_exists"], group = "database")]
    to: Option<PathBuf>,
    /// Write a snapshot of MongoDB to this archive of mongodump; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "output"], group = "database")]
    archive: Option<PathBuf>,
    #[command(flatten)]
    dump: dump::DumpArgs,
    #[command(flatten)]
    filter: NamingArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup export latest /etc/hosts
  backup export latest /home/me -o home.tar
  backup export latest | tar -x -C /tmp/restored --xattrs
  backup export latest --job shop --to /tmp/dump --only 'shop.*'
  backup export latest --job shop --archive - --gzip | mongorestore --archive --gzip
  backup export latest --job cache --to /srv/redis";

/// Action if the file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IfFileExists {
    /// Refuse
    Fail,
    /// Replace the file when the export is complete
    Replace,
}

#[derive(Serialize)]
struct ExportJson<'a> {
    schema_version: u32,
    snapshot: String,
    path: &'a str,
    output: &'a Path,
    skipped: u64,
}

/// A step of writing an export.
enum Step {
    /// An entry begins; its content, if it has any, follows.
    Entry(Box<tar::Entry>),
    /// Some content.
    Data(Bytes),
    /// All is there. An archive that ends without this is not closed, so that it is seen to be
    /// incomplete.
    End,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    if let Some(directory) = &args.to {
        return Box::pin(dump::run(session, args, directory)).await;
    }
    if let Some(file) = &args.archive {
        return Box::pin(dump::archive(session, args, file)).await;
    }
    let to_stdout = args.output.as_os_str() == "-";
    refuse_both(session, to_stdout, "-o")?;
    let path = entry_path(&args.path)?;
    let spec = args.filter.repository_with(session, &[&args.snapshot]).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let info = opened.find(session, &args.snapshot, &args.filter.choice(session)?).await?;
    session.trail.snapshots([&info.id]);
    let snapshot = opened.indexed.snapshot(info);
    let node = match path.is_root() {
        true => None,
        false => {
            Some(snapshot.find(&path).await?.ok_or_else(|| not_found(&path, &info.id.short()))?)
        }
    };
    let raw = match &node {
        Some(node) if node.is_file() => true,
        Some(node) if !node.is_dir() => {
            let kind = human::kind(&node.metadata.kind);
            return Err(CommandError::usage(format!("{path} is a {kind}, which has no content"))
                .with_hint("export the directory that contains it"));
        }
        _ => false,
    };
    if !raw && to_stdout && std::io::stdout().is_terminal() {
        return Err(CommandError::refused("cannot write an archive to a terminal")
            .with_hint("write it to a file with -o, or pipe it into `tar -x`"));
    }
    let replace = args.if_exists == IfFileExists::Replace;
    let output = if to_stdout { Output::stdout() } else { Output::file(&args.output, replace)? };
    let (sender, receiver) = channel(AHEAD);
    let writer = tokio::task::spawn_blocking(move || write(receiver, output, raw));
    let reader = Reader { session, snapshot: &snapshot, sender };
    let read = match node {
        Some(node) if raw => reader.raw(&node).await,
        node => reader.archive(path, node).await,
    };
    drop(reader);
    let written = writer
        .await
        .map_err(|error| CommandError::io("writing ended unexpectedly", &error.into()))?;
    let skipped = skipped_entries(read, written)?;
    if session.ui.is_json() {
        let (snapshot, path, output) =
            (info.id.to_hex(), args.path.as_str(), args.output.as_path());
        session.ui.json(&ExportJson {
            schema_version: SCHEMA_VERSION,
            snapshot,
            path,
            output,
            skipped,
        })?;
    }
    Ok(Outcome::with_warnings(skipped))
}

/// Refuses an export and JSON in one stream; `flag` names a file.
fn refuse_both(session: &Session, to_stdout: bool, flag: &str) -> CommandResult<()> {
    if !to_stdout || !session.ui.is_json() {
        return Ok(());
    }
    Err(CommandError::usage("the standard output cannot hold both the export and JSON")
        .with_hint(format!("export to a file with {flag}")))
}

/// The number of skipped entries, or the error that ended the export.
fn skipped_entries(
    read: CommandResult<Option<u64>>,
    written: Result<(), Written>,
) -> CommandResult<u64> {
    // If writing failed, that reading could not go on is only a consequence.
    match (read, written) {
        (Ok(Some(skipped)), Ok(())) => Ok(skipped),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(_)) if error.is_cancelled() => Err(error),
        (Err(error), Err(Written::Incomplete)) => Err(error),
        (_, Err(Written::Failed(error))) => Err(error),
        (Ok(_), _) => Err(CommandError::io(
            "the export is incomplete",
            &std::io::ErrorKind::UnexpectedEof.into(),
        )),
    }
}

/// Why writing ended early.
enum Written {
    /// Nothing more came.
    Incomplete,
    /// It failed.
    Failed(CommandError),
}

fn write(receiver: Receiver<Step>, output: Output, raw: bool) -> Result<(), Written> {
    let done = if raw { write_raw(receiver, output) } else { tar::write(receiver, output) };
    match done {
        Ok(Some(output)) => output.finish().map_err(Written::Failed),
        Ok(None) => Err(Written::Incomplete),
        Err(error) => Err(Written::Failed(output::failed(&error))),
    }
}

/// `None` if nothing more came before the end.
fn write_raw(mut receiver: Receiver<Step>, mut output: Output) -> std::io::Result<Option<Output>> {
    while let Some(step) = receiver.blocking_recv() {
        match step {
            Step::Data(bytes) => output.write_all(&bytes)?,
            Step::End => return Ok(Some(output)),
            Step::Entry(_) => {}
        }
    }
    Ok(None)
}

/// Reads what is exported and hands it to the writer. `Ok(None)` everywhere: the writer has gone
/// and says why itself.
struct Reader<'a> {
    session: &'a Session,
    snapshot: &'a SnapshotReader,
    sender: Sender<Step>,
}

impl Reader<'_> {
    async fn raw(&self, node: &Node) -> CommandResult<Option<u64>> {
        if self.content(node).await?.is_none() {
            return Ok(None);
        }
        Ok(self.send(Step::End).await.map(|()| 0))
    }

    /// Number of entries that an archive cannot hold.
    async fn archive(&self, path: EntryPath, node: Option<Node>) -> CommandResult<Option<u64>> {
        let mut links = HashMap::new();
        let mut skipped = 0;
        let tree = match node.as_ref().map(|node| node.subtree) {
            None => self.snapshot.root_id(),
            Some(Some(tree)) => tree,
            Some(None) => return Err(CommandError::usage(format!("{path} is not a directory"))),
        };
        let mut walk = self.snapshot.walk_below(path.clone(), tree).with_faults();
        let mut next = match node {
            Some(node) => Some((path, node)),
            None => walk.next().await?,
        };
        skipped += self.warn_of_faults(&mut walk);
        while let Some((path, node)) = next {
            self.session.cx.check_cancelled()?;
            if let Some(reason) = self.unfit(&node) {
                let path = human::text(path.as_bytes());
                self.session.ui.warning(format_args!("{path}: {reason}; it is left out"));
                skipped += 1;
                walk.skip_content();
            } else if self.entry(path, node, &mut links).await?.is_none() {
                return Ok(None);
            }
            next = walk.next().await?;
            skipped += self.warn_of_faults(&mut walk);
        }
        Ok(self.send(Step::End).await.map(|()| skipped))
    }

    /// Names entries that are left out or lack metadata; returns how many there are.
    fn warn_of_faults(&self, walk: &mut TreeWalk) -> u64 {
        let faults = walk.take_faults();
        for (path, fault) in &faults {
            let (path, message) = (human::text(path.as_bytes()), &fault.message);
            let ui = &self.session.ui;
            if fault.is_left_out() {
                ui.warning(format_args!("{path}: the entry {message}; it is left out"));
            } else {
                ui.warning(format_args!("{path}: {message}"));
            }
        }
        faults.len() as u64
    }

    /// Reason why an archive cannot hold an entry.
    fn unfit(&self, node: &Node) -> Option<String> {
        if node.metadata.kind == NodeKind::Socket {
            return Some("a socket cannot be archived".to_owned());
        }
        let lengths = node.content.iter().map(|id| self.snapshot.blob_len(id).map(u64::from));
        // Blobs that are in no index fail when they are read.
        let length = lengths.sum::<Result<u64, _>>().ok()?;
        node.misfit(length).map(|(kind, reason)| format!("the {kind} {reason}"))
    }

    async fn entry(
        &self,
        path: EntryPath,
        node: Node,
        links: &mut HashMap<(u64, u64), EntryPath>,
    ) -> CommandResult<Option<()>> {
        let metadata = &node.metadata;
        let mut link = None;
        if node.is_file() && metadata.links > 1 && metadata.inode != 0 {
            let inode = (metadata.device_id, metadata.inode);
            link = links.get(&inode).cloned();
            links.entry(inode).or_insert_with(|| path.clone());
        }
        let has_content = node.is_file() && link.is_none();
        let lengths = node.content.iter().map(|id| self.snapshot.blob_len(id).map(u64::from));
        let size = if has_content { lengths.sum::<Result<u64, _>>()? } else { 0 };
        let entry = tar::Entry { path, metadata: metadata.clone(), link, size };
        if self.send(Step::Entry(Box::new(entry))).await.is_none() {
            return Ok(None);
        }
        if has_content { self.content(&node).await } else { Ok(Some(())) }
    }

    async fn content(&self, node: &Node) -> CommandResult<Option<()>> {
        let mut content = self.snapshot.content(node);
        while let Some(bytes) = content.try_next().await? {
            self.session.cx.check_cancelled()?;
            if self.send(Step::Data(bytes)).await.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    async fn send(&self, step: Step) -> Option<()> {
        self.sender.send(step).await.ok()
    }
}
