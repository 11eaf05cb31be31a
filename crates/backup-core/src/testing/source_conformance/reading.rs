//! Identity, probing, items, contents, selections, logs.

use std::collections::{BTreeMap, BTreeSet};

use super::subject::{Read, Subject, everything, read};
use crate::context::Context;
use crate::format::METADATA_DIR;
use crate::source::{
    Chunking, Content, Entry, EntryPath, Item, NodeKind, Selection, SourceErrorKind, SourceResult,
};

/// Largest fixed chunks.
const MAX_FIXED: u32 = 8 << 20;

pub(super) async fn its_identity_is_stable(subject: &Subject) {
    let identity = subject.source.identity();
    subject
        .ensure(identity.kind == subject.source.kind(), "identity and source name different kinds");
    subject.ensure(
        !identity.id.is_empty() && !identity.host.is_empty(),
        "the identity has no id or no host",
    );
    subject.ensure(!identity.paths.is_empty(), "the identity has no paths");
    subject.read_all(&Selection::all()).await;
    subject.ensure(identity == subject.source.identity(), "the identity has changed");
    subject.ensure(
        subject.source.capabilities() == subject.source.capabilities(),
        "the capabilities have changed",
    );
}

pub(super) async fn a_probe_changes_nothing(subject: &Subject) {
    let before = subject.digest().await;
    for _ in 0..2 {
        let probe = subject.ok(subject.source.probe(&Context::silent()).await, "probing");
        subject.ensure(
            probe.problems.is_empty(),
            format_args!(
                "there are problems, and the other checks would suffer from them: {:?}",
                probe.problems
            ),
        );
    }
    subject.ensure(subject.digest().await == before, "the digest differs after a probe");
}

pub(super) async fn items_are_consistent(subject: &Subject) {
    let mut reader = subject.open(&Context::silent(), &everything()).await;
    let items = subject.items(&mut reader).await;
    let mut kinds: BTreeMap<EntryPath, bool> = BTreeMap::new();
    let mut closed: BTreeSet<EntryPath> = BTreeSet::new();
    for item in &items {
        match item {
            Item::Warning(warning) => {
                subject.ensure(!warning.message.is_empty(), "a warning says nothing");
            }
            Item::Keep(path) => {
                subject.fail(format_args!("{path} is kept, and there is no earlier snapshot"))
            }
            Item::Skipped(_) => {}
            Item::Close(path) => _ = closed.insert(path.clone()),
            Item::Entry(entry) => {
                entry_is_sound(subject, entry);
                let dir = up(&entry.path).find(|dir| closed.contains(dir));
                if let Some(dir) = dir {
                    subject.fail(format_args!("{} comes after {dir} was closed", entry.path));
                }
                let is_dir = entry.metadata.kind == NodeKind::Dir;
                if kinds.insert(entry.path.clone(), is_dir).is_some() {
                    subject.fail(format_args!("{} comes twice", entry.path));
                }
            }
        }
    }
    for path in kinds.keys() {
        // An entry may come before its directory, and directories need no entry; but nothing lies
        // below a file.
        let above = up(path).skip(1).find(|above| kinds.get(above) == Some(&false));
        if let Some(above) = above {
            subject.fail(format_args!("{path} lies below {above}, which is no directory"));
        }
    }
    let files = kinds.values().filter(|is_dir| !**is_dir).count();
    subject.ensure(files >= 2, "the suite needs a source with two files or more");
    drop(items);
    let checkpoint = subject.ok(reader.finish().await, "finishing");
    subject
        .ensure(checkpoint.started <= checkpoint.finished, "the checkpoint ends before it begins");
}

/// A path and all directories above it.
fn up(path: &EntryPath) -> impl Iterator<Item = EntryPath> {
    std::iter::successors(Some(path.clone()), EntryPath::parent)
}

fn entry_is_sound(subject: &Subject, entry: &Entry) {
    let Entry { path, metadata, content, chunking } = entry;
    let is_dir = metadata.kind == NodeKind::Dir;
    subject.ensure(is_dir || !path.is_root(), "the root is no directory");
    subject.ensure(
        path.segments().next() != Some(METADATA_DIR.as_bytes()),
        format_args!("{path} lies where every snapshot keeps its own description"),
    );
    // The type allows no other paths, unless they are joined from names that are none.
    let again = EntryPath::new(path.as_bytes());
    subject.ensure(
        again.as_ref() == Some(path),
        format_args!("{path} is not an absolute, normal path"),
    );
    subject
        .ensure(metadata.mode & !0o7777 == 0, format_args!("{path} has mode {:o}", metadata.mode));
    let is_file = metadata.kind == NodeKind::File;
    match content {
        Content::Empty => {
            subject.ensure(
                !is_file || metadata.size == 0,
                format_args!("{path} has a size but no content"),
            );
        }
        _ => subject.ensure(is_file, format_args!("{path} is no file but has content")),
    }
    if let Chunking::Fixed(size) = chunking {
        subject.ensure(
            (1..=MAX_FIXED).contains(size),
            format_args!("{path} is to be cut every {size} bytes"),
        );
    }
}

pub(super) async fn contents_may_be_read_late_and_together(subject: &Subject) {
    let (in_order, _) = subject.read_all(&Selection::all()).await;
    let bytes: u64 = in_order.values().map(|read| read.len).sum();
    subject.ensure(bytes > 0, "the suite needs a source with content");

    // All at once, the last ones first, after the last item has come.
    let mut reader = subject.open(&Context::silent(), &everything()).await;
    let items = subject.items(&mut reader).await;
    let entries = items.into_iter().rev().filter_map(|item| match item {
        Item::Entry(entry) => Some(entry),
        _ => None,
    });
    let reading = entries.map(|entry| {
        let path = entry.path.clone();
        async move { (path, read(entry).await) }
    });
    let read: Vec<(EntryPath, SourceResult<Read>)> = futures::future::join_all(reading).await;
    let late: BTreeMap<_, _> = read
        .into_iter()
        .map(|(path, read)| {
            let read = subject.ok(read, &format!("reading {path} late"));
            (path, read)
        })
        .collect();
    subject.ok(reader.finish().await, "finishing");
    for (path, read) in &in_order {
        subject.ensure(
            late.get(path) == Some(read),
            format_args!("{path} differs: {read:?} read in order, {:?} read late", late.get(path)),
        );
    }
    subject.ensure(late.len() == in_order.len(), "two backups have different numbers of entries");

    // Contents that nobody opens do no harm.
    let mut reader = subject.open(&Context::silent(), &everything()).await;
    drop(subject.items(&mut reader).await);
    subject.ok(reader.finish().await, "finishing without having read any content");
}

pub(super) async fn a_selection_leaves_out_what_it_excludes(subject: &Subject) {
    let (all, _) = subject.read_all(&Selection::all()).await;
    let nothing = selection(subject, &[], &["/**"]);
    let (left, _) = subject.read_all(&nothing).await;
    subject.ensure(
        !subject.differences.selects_by_path
            || left.values().all(|read| read.kind == NodeKind::Dir),
        format_args!("excluding everything leaves {:?}", left.keys()),
    );
    if !subject.differences.selects_by_path {
        return;
    }
    let is_candidate = |path: &EntryPath| std::str::from_utf8(path.as_bytes()).is_ok();
    let file = all.iter().find(|(path, read)| read.kind == NodeKind::File && is_candidate(path));
    let Some((file, _)) = file else { subject.fail("the suite needs a file whose path is text") };
    let pattern = globset::escape(&file.display());

    let (without, _) = subject.read_all(&selection(subject, &[], &[&pattern])).await;
    let mut expected = all.clone();
    expected.remove(file);
    let names = |found: &BTreeMap<EntryPath, Read>| found.keys().cloned().collect::<Vec<_>>();
    subject.ensure(
        names(&without) == names(&expected),
        format_args!("without {file} there are {:?}, not {:?}", names(&without), names(&expected)),
    );

    let (only, _) = subject.read_all(&selection(subject, &[&pattern], &[])).await;
    let files: Vec<_> =
        only.iter().filter(|(_, read)| read.kind != NodeKind::Dir).map(|(path, _)| path).collect();
    subject.ensure(files == [file], format_args!("including {file} yields {files:?}"));
    subject.ensure(
        only.get(file) == all.get(file),
        format_args!("{file} differs if nothing else is included"),
    );
    for dir in only.keys().filter(|path| *path != file) {
        subject.ensure(file.starts_with(dir), format_args!("including {file} yields {dir}"));
    }
}

fn selection(subject: &Subject, include: &[&str], exclude: &[&str]) -> Selection {
    let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    match Selection::new(owned(include), owned(exclude)) {
        Ok(selection) => selection,
        Err(error) => subject.fail(format_args!("the suite is wrong: {error}")),
    }
}

pub(super) async fn a_log_is_there_if_it_is_declared(subject: &Subject) {
    let (_, checkpoint) = subject.read_all(&Selection::all()).await;
    let cx = Context::silent();
    let at = checkpoint.log.as_ref().map(|log| log.at.clone());
    let log = subject.source.open_log(&cx, at.as_ref()).await;
    if !subject.source.capabilities().log_capture {
        subject.refused(
            log.map(|_| ()),
            SourceErrorKind::Unsupported,
            "following a log that is not declared",
        );
        return;
    }
    subject.ensure(at.is_some(), "there is a log, but the checkpoint has no position in it");
    let mut log = subject.ok(log, "following the log");
    cx.cancel.cancel();
    let ended = async {
        loop {
            if let Err(error) = log.next().await {
                break error;
            }
        }
    };
    let error = subject.soon(ended, "a cancelled log").await;
    subject.refused::<()>(Err(error), SourceErrorKind::Cancelled, "reading a cancelled log");
}
