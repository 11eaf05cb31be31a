//! Links above the given path: the backup follows them, and so does a restore in place.

use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Delete, Doubtful, IfExists, RestoreRequest, Source, SourceErrorKind};
use backup_sources::files::FilesSource;
use tempfile::TempDir;

use crate::common::*;

/// `link` leads to `real`, and the given path is `link/data`.
struct Fixture {
    base: TempDir,
    source: FilesSource,
    snapshot: SnapshotReader,
}

impl Fixture {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        write(base.path().join("real/data/file"), "stored");
        write(base.path().join("real/beside"), "beside");
        symlink("real", base.path().join("link")).unwrap();
        let source = source(&[&base.path().join("link/data")]);
        let snapshot = snapshot(&source).await;
        Self { base, source, snapshot }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn assert_restored(&self) {
        assert_eq!(std::fs::read_link(self.path("link")).unwrap(), Path::new("real"));
        assert_eq!(std::fs::read(self.path("real/data/file")).unwrap(), b"stored");
        assert_eq!(std::fs::read(self.path("real/beside")).unwrap(), b"beside");
    }
}

fn all_requests() -> [RestoreRequest; 4] {
    [
        in_place(IfExists::Fail),
        in_place(IfExists::Merge),
        in_place(IfExists::Replace),
        RestoreRequest {
            delete: Delete::Absent(Doubtful { excluded: true, unknown: true }),
            ..in_place(IfExists::Replace)
        },
    ]
}

#[tokio::test]
async fn links_above_the_given_path_are_followed_in_place() {
    let fixture = Fixture::new().await;
    let cx = Context::silent();
    for request in all_requests() {
        std::fs::remove_dir_all(fixture.path("real/data")).unwrap();
        let dry = RestoreRequest { dry_run: true, verify: false, ..request.clone() };
        let plan = fixture.source.restore(&cx, &dry, &fixture.snapshot).await.unwrap();
        assert_eq!((plan.files_written, plan.removed), (1, 0), "{request:?}");
        assert!(plan.objects.is_empty() && plan.removals.is_empty(), "{plan:?}");
        fixture.source.restore(&cx, &request, &fixture.snapshot).await.unwrap();
        fixture.assert_restored();
    }
    // Through the link, files are replaced and later entries are removed.
    std::fs::write(fixture.path("real/data/file"), "scribbled").unwrap();
    let later = write(fixture.path("real/data/later"), "later");
    let delete = deleting(in_place(IfExists::Replace));
    let report = fixture.source.restore(&cx, &delete, &fixture.snapshot).await.unwrap();
    assert_eq!((report.removed, later.exists()), (1, false));
    fixture.assert_restored();
}

#[tokio::test]
async fn a_link_above_that_leads_nowhere_is_left_alone() {
    for replacement in ["missing", "file"] {
        for request in all_requests() {
            let fixture = Fixture::new().await;
            std::fs::remove_file(fixture.path("link")).unwrap();
            write(fixture.path("file"), "f");
            symlink(replacement, fixture.path("link")).unwrap();
            let cx = Context::silent();
            let result = fixture.source.restore(&cx, &request, &fixture.snapshot).await;
            let hint = match result {
                Ok(report) => {
                    assert_eq!((report.failures, report.removed), (1, 0), "{report:?}");
                    report.failed[0].hint.clone()
                }
                Err(error) => {
                    assert_eq!(error.kind(), SourceErrorKind::TargetExists, "{}", error.chain());
                    error.hint().map(str::to_owned)
                }
            };
            let hint = hint.unwrap();
            assert!(!hint.contains("--if-exists") && !hint.contains("--delete"), "{hint}");
            let link = std::fs::read_link(fixture.path("link")).unwrap();
            assert_eq!(link, Path::new(replacement));
        }
    }
}

#[tokio::test]
async fn a_link_above_of_another_user_is_not_followed() {
    if !is_root() {
        ignored("only root can make links of other users");
        return;
    }
    let fixture = Fixture::new().await;
    std::fs::remove_file(fixture.path("real/data/file")).unwrap();
    lchown(fixture.path("link"), Some(12_345), None).unwrap();
    let cx = Context::silent();
    let merge = in_place(IfExists::Merge);
    let error = fixture.source.restore(&cx, &merge, &fixture.snapshot).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TargetExists, "{}", error.chain());
    assert!(!fixture.path("real/data/file").exists());
    // A link to a directory of the same user leads nowhere that this user could not write.
    std::os::unix::fs::chown(fixture.path("real"), Some(12_345), None).unwrap();
    fixture.source.restore(&cx, &merge, &fixture.snapshot).await.unwrap();
    fixture.assert_restored();
}

#[tokio::test]
async fn below_another_target_links_above_are_neither_followed_nor_removed() {
    for if_exists in [IfExists::Merge, IfExists::Replace] {
        let fixture = Fixture::new().await;
        let (to, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = restored(to.path(), &fixture.path("link"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        let request = request(to.path(), if_exists);
        let result = fixture.source.restore(&Context::silent(), &request, &fixture.snapshot).await;
        assert!(result.map_or(true, |report| report.failures == 1));
        assert_eq!(std::fs::read_link(&link).unwrap(), outside.path());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
