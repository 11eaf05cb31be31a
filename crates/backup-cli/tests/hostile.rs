//! Crafted snapshots: names that are no names of a directory's entries.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::pipeline::{self, BackupOptions};
use backup_core::repository::Repository;
use backup_core::source::EntryPath;
use backup_core::testing::{ScriptedEntry, ScriptedSource};
use backup_storage::LocalSink;

use crate::common::Env;

/// A snapshot of files below `/data`, whose names are `good.txt` and this one.
fn with_name(name: &[u8]) -> Env {
    let env = Env::with_repository();
    let bad = EntryPath::new("/data").unwrap().join(name);
    let source = ScriptedSource::named("files")
        .dir("/data")
        .file("/data/good.txt", "intact")
        .with(ScriptedEntry::file_at(bad, "crafted"));
    let passphrase = std::fs::read_to_string(env.path("key")).unwrap();
    let sink = LocalSink::open(env.path("repo")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let passphrase = Passphrase::new(passphrase.trim());
        let repository = Repository::open(Arc::new(sink), &passphrase).await.unwrap();
        let options = BackupOptions::default();
        pipeline::backup(&repository, &source, &options, &Context::silent()).await.unwrap();
    });
    env
}

#[test]
fn verbs_agree_on_names_that_are_invalid_in_a_directory() {
    for name in [&b".."[..], b".", b"", b"../../escaped", b"nul\0nul"] {
        let env = with_name(name);
        let shown = String::from_utf8_lossy(name);
        for args in [&["check"][..], &["verify", "latest"]] {
            let run = env.run(args);
            assert_eq!(run.code, 4, "{shown:?} {args:?}: {}", run.text());
            assert!(run.stdout.contains("has a name that is invalid"), "{}", run.text());
        }
        let exported = env.run(&["export", "latest", "-o", "out.tar"]);
        assert_eq!(exported.code, 3, "{shown:?}: {}", exported.text());
        let listed = std::process::Command::new("tar")
            .args(["-tf", env.path("out.tar").to_str().unwrap()])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let names: Vec<&str> = listed.lines().filter(|name| !name.starts_with(".backup")).collect();
        assert_eq!(names, ["data/", "data/good.txt"], "{shown:?}");
    }
}
