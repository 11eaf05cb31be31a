//! Values and data of modules.

use std::sync::Arc;

use backup_core::source::IfExists;
use backup_core::testing::MemorySink;
use backup_sources::redis::{RedisOptions, RestoreOptions};

use super::failures::double;
use super::restores::{Backed, replica, verified};
use super::{back_up, file, source, source_with};
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

/// A value of a module that the server has built in is restored with a warning: only the module can
/// compare it. A server without the module refuses the key by name.
pub(super) async fn values_of_modules_are_not_compared(version: Version) {
    let server = Redis::start(version);
    server.run(&["SET", "plain", "x"]);
    server.run(&["VADD", "vectors", "VALUES", "3", "0.1", "1.2", "0.5", "one"]);
    server.run(&["VADD", "vectors", "VALUES", "3", "0.7", "1.1", "0.2", "two"]);
    let backed = Backed::of(server).await;
    let target = Redis::start(version);
    let report = backed
        .restored(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await;
    assert_eq!((report.entries, report.warnings), (2, 1));
    let near = ["VSIM", "vectors", "ELE", "one", "WITHSCORES"];
    assert_eq!(target.run(&near), backed.server.run(&near));
    let report = backed.restored(target.address(), replica(), verified(IfExists::Replace)).await;
    assert!(report.warnings <= 1, "{report:?}");
    assert_eq!(target.run(&near), backed.server.run(&near));
    let without = Redis::start(Version::Valkey8);
    let error = backed
        .restore(without.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await
        .unwrap_err();
    assert!(error.chain().contains("0/vectors"), "{}", error.chain());
    assert_eq!(without.run(&["GET", "plain"]).text(), "x");
}

/// Data of a module that belongs to no key is no key: a restore key by key leaves it out with a
/// warning. As a replica, a server without the module would end at it, at every start: it does not
/// get it.
pub(super) async fn module_data_is_no_key(version: Version) {
    let server = Redis::start(version);
    server.run(&["SET", "a", "x"]);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let taken = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let dump = file(&repo.reader(taken).await, "dump.rdb").await;
    // The name of the format, and its version.
    let head = 9;
    // Whose data it is, when it is loaded, and its end. No checksum.
    let data = [&[247, 0x81][..], &[7; 8], &[2, 1, 0]].concat();
    let dump = [&dump[..head], &data, &dump[head..dump.len() - 8], &[0; 8]].concat();
    let sized = [format!("${}\r\n", dump.len()).as_bytes(), &dump].concat();
    let strange = source_with(RedisOptions::parse(&double(sized)).unwrap()).await;
    let snapshot = back_up(&repo, &strange).await.snapshot.unwrap();
    let backed = Backed { server, repo, snapshot };
    let target = Redis::start(version);
    target.run(&["SET", "old", "x"]);
    let replace = verified(IfExists::Replace);
    let error = backed.restore(target.address(), replica(), replace.clone()).await.unwrap_err();
    assert!(error.chain().contains("modules"), "{}", error.chain());
    assert_eq!(
        (target.run(&["GET", "old"]).text(), target.info("role")),
        ("x".to_owned(), "master".to_owned())
    );
    let dry = backup_core::source::RestoreRequest { dry_run: true, ..replace.clone() };
    for request in [dry, replace] {
        let report = backed.restored(target.address(), RestoreOptions::default(), request).await;
        assert_eq!((report.entries, report.warnings), (1, 1));
    }
    assert_eq!(target.debug_digest(), backed.server.debug_digest());
    let only = backup_core::source::Selection::new(vec!["/0/a".to_owned()], vec![]).unwrap();
    let part = backup_core::source::RestoreRequest { selection: only, ..verified(IfExists::Merge) };
    let report = backed.restored(target.address(), RestoreOptions::default(), part).await;
    assert_eq!((report.entries, report.warnings), (1, 0));
}
