//! Pass phrases come and go while everything goes on, and the last one never goes.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::copy::{CopyOptions, copy};
use backup_core::crypto::Passphrase;
use backup_core::error::{Error, ErrorKind};
use backup_core::id::SnapshotId;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::Repository;
use backup_core::retention::Hold;
use backup_core::sink::{Operation, Prefix, Sink, SinkOps};
use backup_core::testing::{FakeClock, MemorySink};
use jiff::Span;

use crate::support::gate::{Gate, Stop};
use crate::support::repo::{Repo, options};
use crate::support::samples::script;
use crate::support::script::assert_holds;

async fn opens(sink: &MemorySink, passphrase: &Passphrase) -> Result<Repo, ErrorKind> {
    let opened = Repo::open(Arc::new(sink.clone()), passphrase.reveal()).await;
    opened.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_pass_phrase_is_rotated_while_a_backup_runs() {
    let sink = MemorySink::new();
    let old = Repo::init(Arc::new(sink.clone())).await;
    let (before, during) = (script("before"), script("during"));
    let first = old.backup(&before, &options()).await.snapshot.unwrap();
    for (top, operation) in
        [("data", Operation::Put), ("index", Operation::Put), ("snapshots", Operation::Put)]
    {
        let gate = Gate::new(Arc::new(sink.clone()));
        let old_phrase = Passphrase::generate();
        old.repository.add_key(&old_phrase, None, &Context::silent()).await.unwrap();
        let writer = Repository::open(Arc::new(gate.clone()), &old_phrase).await.unwrap();
        gate.close(Stop { operation, top, skip: 0, done: false });
        let source = during.clone().file("/during/round", top);
        let (running, backed_up) = (writer.clone(), source.clone());
        let task = tokio::spawn(async move {
            backup(&running, &backed_up, &options(), &Context::silent()).await
        });
        gate.stopped().await;

        let new_phrase = Passphrase::generate();
        let opened = opens(&sink, &old_phrase).await.unwrap();
        let rotation =
            opened.repository.rotate_key(&new_phrase, None, &Context::silent()).await.unwrap();
        assert_eq!(rotation.removed, writer.key_id(), "{top}");
        assert_eq!(
            opens(&sink, &old_phrase).await.unwrap_err(),
            ErrorKind::WrongPassphrase,
            "{top}"
        );

        gate.open();
        let report = task.await.unwrap().unwrap_or_else(|error| panic!("{top}: {}", error.chain()));
        let new = opens(&sink, &new_phrase).await.unwrap();
        assert_eq!(new.repository.key_id(), rotation.added, "{top}");
        assert_holds(&new, report.snapshot.unwrap(), &source).await;
        assert_holds(&new, first, &before).await;
        // A backup that began with the old key notes no key that is gone.
        new.assert_sound().await;
        assert_eq!(
            opens(&sink, &old_phrase).await.unwrap_err(),
            ErrorKind::WrongPassphrase,
            "{top}: it is back"
        );
    }
}

#[tokio::test]
async fn the_last_key_stays() {
    let repo = Repo::in_memory().await;
    let only = repo.repository.key_id();
    let refused = repo.repository.remove_key(&only).await.unwrap_err();
    assert!(
        refused.kind() == ErrorKind::Invalid && refused.hint().is_some(),
        "{}",
        refused.chain()
    );
    let second = repo
        .repository
        .add_key(&Passphrase::new("second"), None, &Context::silent())
        .await
        .unwrap();
    // Nothing has proven that the other one works.
    let refused = repo.repository.remove_key(&only).await.unwrap_err();
    assert!(
        refused.kind() == ErrorKind::Invalid && refused.hint().is_some(),
        "{}",
        refused.chain()
    );
    let sink = Arc::clone(repo.repository.sink());
    let repo = Repo::open(Arc::clone(&sink), "second").await.unwrap();
    repo.repository.remove_key(&only).await.unwrap();
    let refused = repo.repository.remove_key(&second).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{}", refused.chain());
    let gone = repo.repository.remove_key(&only).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{}", gone.chain());
    assert!(Repo::open(sink, "second").await.is_ok(), "the last key opens nothing");
}

#[tokio::test]
async fn a_pass_phrase_has_one_key() {
    let repo = Repo::in_memory().await;
    let cx = Context::silent();
    let keys = repo.repository.keys().await.unwrap().len();
    let refused = repo.repository.add_key(&repo.passphrase, None, &cx).await.unwrap_err();
    assert!(
        refused.kind() == ErrorKind::Invalid && refused.hint().is_some(),
        "{}",
        refused.chain()
    );
    // A rotation to the same pass phrase would revoke nothing.
    let refused = repo.repository.rotate_key(&repo.passphrase, None, &cx).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{}", refused.chain());
    assert_eq!(repo.repository.keys().await.unwrap().len(), keys);
}

#[tokio::test]
async fn what_protects_snapshots_goes_along_to_a_repository_with_another_master_key() {
    let cx = Context::silent();
    let (old, new) = (Repo::in_memory().await, Repo::in_memory().await);
    let job = |name: &str| BackupOptions { job: name.to_owned(), ..options() };
    let promised = old.backup(&script("promised"), &job("promised")).await.snapshot.unwrap();
    let held = old.backup(&script("held"), &job("held")).await.snapshot.unwrap();
    let free = old.backup(&script("free"), &job("free")).await.snapshot.unwrap();
    old.repository.protect_job("promised", Span::new().years(7), &cx).await.unwrap();
    let hold = Hold { reason: "court".to_owned(), until: None, since: cx.clock.now() };
    old.repository.hold(&held, &hold).await.unwrap();
    new.repository.protect_job("promised", Span::new().days(1), &cx).await.unwrap();

    let from = old.repository.load_index(&cx).await.unwrap();
    let copied = copy(&from, &old.snapshots().await, &new.repository, &CopyOptions::default(), &cx)
        .await
        .unwrap();
    let name =
        |id: SnapshotId| copied.copied.iter().find(|copy| copy.from == id).unwrap().to.unwrap();
    assert!(
        new.repository.protected(&new.snapshots().await, &later(&cx)).await.unwrap().is_empty()
    );
    // Twice is as once.
    for _ in 0..2 {
        new.repository.take_over_protection(&old.repository, &copied.copied).await.unwrap();
    }
    let protected = new.repository.protected(&new.snapshots().await, &later(&cx)).await.unwrap();
    let mut ids: Vec<SnapshotId> = protected.iter().map(|(id, _)| *id).collect();
    let mut expected = vec![name(promised), name(held)];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    let refused = new.repository.forget(&[name(held)], &cx).await.unwrap_err();
    assert!(refused.chain().contains("court"), "{}", refused.chain());
    new.repository.forget(&[name(free)], &cx).await.unwrap();
}

/// Three days later.
fn later(cx: &Context) -> Context {
    Context { clock: Arc::new(FakeClock::at(cx.clock.now() + Span::new().hours(72))), ..cx.clone() }
}

#[tokio::test]
async fn an_exported_key_brings_back_what_was_lost() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let source = script("source");
    let id = repo.backup(&source, &options()).await.snapshot.unwrap();
    let exported = repo.repository.export_key(&repo.repository.key_id()).await.unwrap();
    for prefix in ["keys", "config", "x-receipts"] {
        let lost: Vec<_> =
            sink.objects().into_keys().filter(|key| key.as_str().starts_with(prefix)).collect();
        assert!(!lost.is_empty(), "there is nothing of {prefix} to lose");
        lost.iter().for_each(|key| sink.remove(key));
    }
    assert!(opens(&sink, &repo.passphrase).await.is_err(), "it opens without its keys");
    let unasked = async || -> Result<Passphrase, Error> {
        panic!("the config object tells the repository without a pass phrase")
    };
    let imported = Repository::import_key(&sink, &exported, unasked).await.unwrap();
    assert_eq!(imported, repo.repository.key_id());
    let again = opens(&sink, &repo.passphrase).await.unwrap();
    assert_holds(&again, id, &source).await;
    assert_eq!(
        opens(&sink, &Passphrase::new("another")).await.unwrap_err(),
        ErrorKind::WrongPassphrase
    );
    again.backup(&source, &options()).await;
    again.assert_sound().await;
    let keys = sink.list_all(&Prefix::new("x-receipts/keys").unwrap()).await.unwrap();
    assert_eq!(keys.len(), 1, "the next backup notes that the key is there");

    // It belongs to this repository, and only to places that hold something of it.
    let (other, empty) = (Repo::in_memory().await, MemorySink::new());
    let own = async || Ok::<_, Error>(repo.passphrase.clone());
    let there = other.repository.sink();
    let refused: Error = Repository::import_key(&**there, &exported, own).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{}", refused.chain());
    let refused: Error = Repository::import_key(&empty, &exported, own).await.unwrap_err();
    assert!(
        refused.kind() == ErrorKind::NoRepository && empty.objects().is_empty(),
        "{}",
        refused.chain()
    );
    let refused: Error = Repository::import_key(&sink as &dyn Sink, b"{}", own).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{}", refused.chain());
}
