//! `replace` removes nothing that the snapshot does not hold; `--delete` removes entries that the
//! backup saw to be absent, and nothing that it left out.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, BlockingContent, Checkpoint, Content, ContentReader, Delete,
    Digest, Doubtful, EntryPath, IfExists, Item, LogReader, Probe, RestoreReport, RestoreRequest,
    Selection, SkipCause, SkipRules, Skipped, Source, SourceCapabilities, SourceError,
    SourceErrorKind, SourceIdentity, SourceResult,
};
use backup_core::testing::ScriptedSource;
use backup_sources::files::{FilesOptions, FilesSource};
use tempfile::TempDir;

use crate::common::*;

/// The source inside, for which files called `unreadable` and directories called `unlisted` cannot
/// be read: root reads everything.
#[derive(Debug)]
struct Unreadable(FilesSource, Selection);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl Source for Unreadable {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }
    fn identity(&self) -> SourceIdentity {
        self.0.identity()
    }
    fn capabilities(&self) -> SourceCapabilities {
        self.0.capabilities()
    }
    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        self.0.probe(cx).await
    }
    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let request = BackupRequest { selection: self.1.clone(), ..request.clone() };
        Ok(Box::new(Reader(self.0.open_backup(cx, &request).await?)))
    }
    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        self.0.open_log(cx, from).await
    }
    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        self.0.restore(cx, request, snapshot).await
    }
    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        self.0.digest(cx, selection).await
    }
}

struct Reader(Box<dyn BackupReader>);

struct Refusing;

impl BlockingContent for Refusing {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        Err(SourceError::new(SourceErrorKind::PermissionDenied, "cannot open it"))
    }
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let is_inside = |path: &EntryPath| path.segments().any(|name| name == b"unlisted");
        loop {
            return Ok(match self.0.next().await? {
                Some(Item::Entry(mut entry)) if entry.path.name() == b"unreadable" => {
                    entry.content = Content::Blocking(Box::new(Refusing));
                    Some(Item::Entry(entry))
                }
                Some(Item::Entry(entry))
                    if is_inside(&entry.path) && entry.path.name() != b"unlisted" =>
                {
                    continue;
                }
                Some(Item::Close(path)) if path.name() == b"unlisted" => {
                    Some(Item::Skipped(Skipped { path, cause: SkipCause::Unreadable }))
                }
                item => item,
            });
        }
    }
    fn skip_rules(&self) -> Option<SkipRules> {
        self.0.skip_rules()
    }
    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        self.0.finish().await
    }
    async fn abort(self: Box<Self>) {
        self.0.abort().await;
    }
}

/// Entries that the backup leaves out by choice.
const CHOSEN: [&str; 7] = [
    "a.tmp",
    "cache/deep/x",
    "sub/more.tmp/inside",
    "listed.bak",
    "marked/.nobackup",
    "marked/inside/x",
    "large",
];
/// Entries that it cannot read.
const UNREAD: [&str; 2] = ["unreadable", "unlisted/x"];
/// Entries of the snapshot.
const STORED: [&str; 3] = ["kept", "sub/kept", "sub/deeper/kept"];
/// Entries that are made after the backup.
const LATER: [&str; 3] = ["later", "sub/later", "new/one/two"];

struct Fixture {
    base: TempDir,
    source: Unreadable,
}

impl Fixture {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        for name in CHOSEN.iter().chain(&UNREAD).chain(&STORED) {
            write(top.join(name), if *name == "large" { vec![7; 5000] } else { b"x".to_vec() });
        }
        let patterns = write(base.path().join("patterns"), "*.bak\n");
        let options = FilesOptions {
            exclude_files: vec![patterns],
            max_file_size: Some(4096),
            ..FilesOptions::default()
        };
        let source = source_with(&[&top], options);
        Self { source: Unreadable(source, selection(&[], &["*.tmp", "cache"])), base }
    }

    fn top(&self) -> PathBuf {
        self.base.path().join("top")
    }

    /// Changes an entry of the snapshot, and makes others.
    fn change(top: &Path) {
        std::fs::write(top.join("sub/kept"), "scribbled").unwrap();
        for name in LATER {
            write(top.join(name), "later");
        }
    }

    async fn restore(&self, snapshot: &SnapshotReader, request: &RestoreRequest) -> RestoreReport {
        self.source.restore(&Context::silent(), request, snapshot).await.unwrap()
    }
}

/// The existing ones of `names` below `top`.
fn existing<'a>(top: &Path, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| top.join(name).exists()).collect()
}

fn assert_stored(top: &Path) {
    for name in STORED {
        assert_eq!(std::fs::read(top.join(name)).unwrap(), b"x", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replace_and_delete_keep_entries_that_the_backup_left_out() {
    let fixture = Fixture::new();
    let first = snapshot(&fixture.source).await;
    let top = fixture.top();
    Fixture::change(&top);
    let replace = in_place(IfExists::Replace);
    let report = fixture.restore(&first, &replace).await;
    assert_eq!((report.removed, report.failures), (0, 0), "{report:?}");
    assert!(report.kept.present > 0);
    assert_stored(&top);
    assert_eq!(existing(&top, &CHOSEN), CHOSEN);
    assert_eq!(existing(&top, &UNREAD), UNREAD);
    assert_eq!(existing(&top, &LATER), LATER);

    let dry = RestoreRequest { dry_run: true, ..deleting(replace.clone()) };
    let plan = fixture.restore(&first, &dry).await;
    let planned: BTreeSet<&str> = plan.removals.iter().map(|one| &*one.name).collect();
    let expected = ["later", "new", "sub/later"].map(|name| top.join(name));
    assert_eq!(planned, expected.iter().map(|path| path.to_str().unwrap()).collect());
    assert_eq!(existing(&top, &LATER), LATER);
    // Two files, and a directory in a directory with a file.
    assert_eq!(plan.removed, 5);

    let report = fixture.restore(&first, &deleting(replace)).await;
    assert_eq!((report.removed, report.failures), (5, 0));
    assert_eq!((report.kept.excluded, report.kept.unknown), (7, 2), "{:?}", report.kept);
    assert_eq!(existing(&top, &LATER), [""; 0]);
    assert_eq!(existing(&top, &CHOSEN), CHOSEN);
    assert_eq!(existing(&top, &UNREAD), UNREAD);
    assert_stored(&top);
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_and_unread_entries_are_removed_only_on_request() {
    for (excluded, unknown) in [(true, false), (false, true), (true, true)] {
        let fixture = Fixture::new();
        let snapshot = snapshot(&fixture.source).await;
        let top = fixture.top();
        Fixture::change(&top);
        let request = RestoreRequest {
            delete: Delete::Absent(Doubtful { excluded, unknown }),
            ..in_place(IfExists::Replace)
        };
        fixture.restore(&snapshot, &request).await;
        assert_eq!(existing(&top, &CHOSEN).is_empty(), excluded, "{excluded} {unknown}");
        assert_eq!(existing(&top, &UNREAD).is_empty(), unknown, "{excluded} {unknown}");
        assert_eq!(existing(&top, &CHOSEN).len() % CHOSEN.len(), 0);
        assert_eq!(existing(&top, &UNREAD).len() % UNREAD.len(), 0);
        assert_eq!(existing(&top, &LATER), [""; 0]);
        assert_stored(&top);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_keeps_left_out_entries_below_another_target() {
    let fixture = Fixture::new();
    let snapshot = snapshot(&fixture.source).await;
    let to = tempfile::tempdir().unwrap();
    let copy = restored(to.path(), &fixture.top());
    for name in CHOSEN.iter().chain(&UNREAD) {
        write(copy.join(name), if *name == "large" { vec![7; 5000] } else { b"x".to_vec() });
    }
    let request = deleting(request(to.path(), IfExists::Replace));
    fixture.restore(&snapshot, &request).await;
    Fixture::change(&copy);
    let report = fixture.restore(&snapshot, &request).await;
    assert_eq!(report.removed, 5);
    assert_eq!(existing(&copy, &CHOSEN), CHOSEN);
    assert_eq!(existing(&copy, &UNREAD), UNREAD);
    assert_stored(&copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_backup_also_judge_entries_that_are_newer() {
    let fixture = Fixture::new();
    let snapshot = snapshot(&fixture.source).await;
    let top = fixture.top();
    // In a directory that is new itself, only entries that the rules would choose are removed.
    let new = ["new/plain", "new/a.tmp", "new/old.bak", "new/big", "new/in/.nobackup", "new/in/x"];
    for name in new {
        write(top.join(name), if name == "new/big" { vec![1; 5000] } else { b"n".to_vec() });
    }
    let report = fixture.restore(&snapshot, &deleting(in_place(IfExists::Replace))).await;
    assert_eq!(report.removed, 1);
    assert_eq!(existing(&top, &new), &new[1..]);
    // A marker in a directory of the snapshot protects everything else in it.
    write(top.join("sub/.nobackup"), "");
    write(top.join("sub/later"), "");
    let report = fixture.restore(&snapshot, &deleting(in_place(IfExists::Replace))).await;
    assert_eq!(report.removed, 0);
    assert!(top.join("sub/later").exists() && top.join("sub/.nobackup").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_no_include_pattern_matches_are_kept() {
    let fixture = Fixture::new();
    let top = fixture.top();
    for name in ["conf/a.conf", "conf/other", "plain/other", "plain/empty/x"] {
        write(top.join(name), "c");
    }
    let chosen = Unreadable(source(&[&top]), selection(&["*.conf"], &[]));
    let snapshot = snapshot(&chosen).await;
    let later = write(top.join("conf/later.conf"), "l");
    let report = fixture.restore(&snapshot, &deleting(in_place(IfExists::Replace))).await;
    assert_eq!(report.removed, 1);
    assert!(!later.exists());
    let others = ["conf/other", "plain/other", "plain/empty/x", "kept", "sub/kept", "a.tmp"];
    assert_eq!(existing(&top, &others), others);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_other_file_systems_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    write(top.join("kept"), "x");
    let mount = top.join("mount");
    std::fs::create_dir(&mount).unwrap();
    let mounted = Mounted::at(&mount);
    if mounted.is_none() {
        ignored("mounting a file system is not allowed here");
        return;
    }
    let options = FilesOptions { one_file_system: true, ..FilesOptions::default() };
    let source = source_with(&[&top], options);
    let snapshot = snapshot(&source).await;
    drop(mounted);
    // As on another machine: the same data, and nothing is mounted.
    let precious = write(mount.join("precious"), "x");
    let cx = Context::silent();
    let request = deleting(in_place(IfExists::Replace));
    let report = source.restore(&cx, &request, &snapshot).await.unwrap();
    assert_eq!((report.removed, report.kept.excluded), (0, 1));
    assert!(precious.exists());
    let request = RestoreRequest {
        delete: Delete::Absent(Doubtful { excluded: true, unknown: false }),
        ..request
    };
    source.restore(&cx, &request, &snapshot).await.unwrap();
    assert!(!precious.exists() && mount.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_keeps_all_entries_without_a_record() {
    let to = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&ScriptedSource::new().dir("/top").file("/top/kept", "x")).await;
    assert_eq!(snapshot.skipped(|_| panic!("no record")).await.unwrap(), None);
    let kept = write(to.path().join("top/kept"), "x");
    let later = write(to.path().join("top/dir/later"), "l");
    let files = source(&[to.path()]);
    let cx = Context::silent();
    // Not in place: the snapshot is one of all of `/`.
    let request = deleting(request(to.path(), IfExists::Replace));
    let report = files.restore(&cx, &request, &snapshot).await.unwrap();
    assert_eq!((report.removed, report.kept.unknown), (0, 1));
    assert!(later.exists());
    let request = RestoreRequest {
        delete: Delete::Absent(Doubtful { excluded: false, unknown: true }),
        ..request
    };
    let report = files.restore(&cx, &request, &snapshot).await.unwrap();
    assert_eq!(report.removed, 2);
    assert!(!later.exists() && kept.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_is_limited_to_the_entries_of_a_plan() {
    let fixture = Fixture::new();
    let snapshot = snapshot(&fixture.source).await;
    let top = fixture.top();
    Fixture::change(&top);
    // More than a plan names.
    for number in 0..1500 {
        write(top.join(format!("many/{number}")), "m");
    }
    let request = deleting(in_place(IfExists::Replace));
    let dry = RestoreRequest { dry_run: true, ..request.clone() };
    let plan = fixture.restore(&snapshot, &dry).await;
    assert_eq!(plan.removed, 5 + 1501);
    let after = ["sub/after the plan", "many/after the plan", "new after the plan/x"];
    for name in after {
        write(top.join(name), "a");
    }
    let delete = Delete::PlannedFiles(plan.planned, Doubtful::default());
    let report = fixture.restore(&snapshot, &RestoreRequest { delete, ..request }).await;
    // The directory with a later file stays.
    assert_eq!(report.removed, 5 + 1500);
    assert_eq!(existing(&top, &after), after);
    assert_eq!(std::fs::read_dir(top.join("many")).unwrap().count(), 1);
    assert_eq!(existing(&top, &LATER), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_lists_skipped_paths_with_causes() {
    let fixture = Fixture::new();
    let snapshot = snapshot(&fixture.source).await;
    let mut found = Vec::new();
    let rules = snapshot.skipped(|skipped| found.push(skipped)).await.unwrap().unwrap();
    assert_eq!(rules.exclude, ["*.tmp", "cache"]);
    assert_eq!(
        (&rules.exclude_from_files[..], rules.max_file_size),
        (&["*.bak".to_owned()][..], Some(4096))
    );
    let base = entry_path(&fixture.top());
    let name = |skipped: &Skipped| {
        let rest = skipped.path.as_bytes().strip_prefix(base.as_bytes()).unwrap();
        (String::from_utf8_lossy(&rest[1..]).into_owned(), skipped.cause)
    };
    let mut found: Vec<_> = found.iter().map(name).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("a.tmp", SkipCause::Excluded),
        ("cache", SkipCause::Excluded),
        ("large", SkipCause::TooLarge),
        ("listed.bak", SkipCause::Excluded),
        ("marked", SkipCause::Marked),
        ("sub/more.tmp", SkipCause::Excluded),
        ("unlisted", SkipCause::Unreadable),
        ("unreadable", SkipCause::Unreadable),
    ];
    assert_eq!(found, expected.map(|(name, cause)| (name.to_owned(), cause)));
}
