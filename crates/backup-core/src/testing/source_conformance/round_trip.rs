//! Through a real repository and back.

use std::sync::Arc;

use super::subject::{SourceTarget, Subject};
use crate::context::Context;
use crate::crypto::Passphrase;
use crate::pipeline::{BackupOptions, backup};
use crate::repository::{InitOptions, Repository, SnapshotReader};
use crate::source::{IfExists, RestoreReport, RestoreRequest, SourceErrorKind, SourceResult};
use crate::testing::MemorySink;

async fn new_repository(subject: &Subject) -> Repository {
    let sink = Arc::new(MemorySink::new());
    let options = InitOptions::default();
    let repository =
        Repository::init(sink, &Passphrase::generate(), &options, &Context::silent()).await;
    subject.done(repository, "creating a repository")
}

async fn snapshot(subject: &Subject, repository: &Repository) -> SnapshotReader {
    let cx = Context::silent();
    let report = backup(repository, &*subject.source, &BackupOptions::default(), &cx).await;
    let report = subject.done(report, "backing up");
    subject
        .ensure(report.warnings == 0, format_args!("the backup has {} warnings", report.warnings));
    let Some(id) = report.snapshot else { subject.fail("there is no snapshot") };
    let list = subject.done(repository.snapshots(&cx).await, "listing snapshots");
    let Some(info) = list.snapshots.iter().find(|info| info.id == id) else {
        subject.fail("the snapshot is not listed")
    };
    let indexed = subject.done(repository.load_index(&cx).await, "loading the index");
    let reader = indexed.snapshot(info);
    let manifest = subject.done(reader.manifest().await, "reading the manifest");
    let identity = manifest.map(|manifest| manifest.source);
    subject
        .ensure(identity == Some(subject.source.identity()), "the manifest names another source");
    reader
}

fn request(target: &SourceTarget, if_exists: IfExists) -> RestoreRequest {
    RestoreRequest {
        target: target.address(),
        if_exists,
        verify: true,
        ..RestoreRequest::default()
    }
}

async fn restore(
    subject: &Subject,
    snapshot: &SnapshotReader,
    request: &RestoreRequest,
) -> SourceResult<RestoreReport> {
    subject.source.restore(&Context::silent(), request, snapshot).await
}

/// What was restored must be what the source holds.
async fn same(subject: &Subject, target: &SourceTarget, when: &str) {
    let restored =
        subject.ok(target.digest().await, &format!("computing the digest of the target {when}"));
    let original = subject.digest().await;
    subject.ensure(
        restored == original,
        format_args!("the target differs {when}: {restored:?}, not {original:?}"),
    );
}

pub(super) async fn what_is_restored_is_what_was_there(subject: &Subject, target: SourceTarget) {
    let repository = new_repository(subject).await;
    let snapshot = snapshot(subject, &repository).await;
    let report = restore(subject, &snapshot, &request(&target, IfExists::Fail)).await;
    let report = subject.ok(report, "restoring");
    same(subject, &target, "after a restore").await;
    subject
        .ensure(report.warnings == 0, format_args!("the restore has {} warnings", report.warnings));
    subject.ensure(
        report.entries > 0 && report.total_bytes > 0,
        format_args!("the report is empty: {report:?}"),
    );
    subject.ensure(
        report.verified_bytes > 0,
        format_args!("it was asked to verify what it wrote, and did not: {report:?}"),
    );
}

pub(super) async fn a_second_backup_restores_as_well(subject: &Subject, target: SourceTarget) {
    let repository = new_repository(subject).await;
    snapshot(subject, &repository).await;
    let second = snapshot(subject, &repository).await;
    subject.ok(restore(subject, &second, &request(&target, IfExists::Fail)).await, "restoring");
    same(subject, &target, "after a restore of the second backup").await;
}

pub(super) async fn what_exists_is_not_replaced(subject: &Subject, target: SourceTarget) {
    let repository = new_repository(subject).await;
    let snapshot = snapshot(subject, &repository).await;
    subject.ok(restore(subject, &snapshot, &request(&target, IfExists::Fail)).await, "restoring");
    let again = restore(subject, &snapshot, &request(&target, IfExists::Fail)).await;
    subject.refused(again, SourceErrorKind::TargetExists, "restoring over what exists");
    same(subject, &target, "after a refused restore").await;
    for if_exists in [IfExists::Merge, IfExists::Replace] {
        let report = restore(subject, &snapshot, &request(&target, if_exists)).await;
        let report = subject.ok(report, &format!("restoring with {if_exists:?}"));
        subject.ensure(
            report.removed == 0,
            format_args!("{if_exists:?} removed {} entries", report.removed),
        );
        same(subject, &target, &format!("after a restore with {if_exists:?}")).await;
    }
}

pub(super) async fn a_dry_run_writes_nothing(subject: &Subject, target: SourceTarget) {
    let repository = new_repository(subject).await;
    let snapshot = snapshot(subject, &repository).await;
    let dry = RestoreRequest { dry_run: true, ..request(&target, IfExists::Fail) };
    for _ in 0..2 {
        subject.ok(restore(subject, &snapshot, &dry).await, "a dry run");
    }
    // Had it written anything, this would be refused.
    subject.ok(
        restore(subject, &snapshot, &request(&target, IfExists::Fail)).await,
        "restoring after a dry run",
    );
    same(subject, &target, "after a dry run and a restore").await;
}

pub(super) async fn a_cancelled_restore_ends_soon(subject: &Subject, target: SourceTarget) {
    let repository = new_repository(subject).await;
    let snapshot = snapshot(subject, &repository).await;
    let cx = Context::silent();
    cx.cancel.cancel();
    let wanted = request(&target, IfExists::Replace);
    let restored =
        subject.soon(subject.source.restore(&cx, &wanted, &snapshot), "a cancelled restore").await;
    subject.refused(restored, SourceErrorKind::Cancelled, "a cancelled restore");
    subject.ok(restore(subject, &snapshot, &wanted).await, "restoring after a cancelled restore");
    same(subject, &target, "after a cancelled and a whole restore").await;
}
