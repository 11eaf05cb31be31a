//! Users with few rights, on a replica set with authentication and a key file.

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{IfExists, RestoreRequest, Selection, Source as _};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::{Bson, doc};

use super::{odd, repository, restored, snapshot_of, source, try_restore, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::tls::Authority;

async fn user(server: &Mongod, name: &str, roles: Vec<Bson>) -> MongoSource {
    server.run("admin", doc! { "createUser": name, "pwd": "secret", "roles": roles }).await;
    let uri = format!("mongodb://{name}@127.0.0.1:{}/?directConnection=true", server.port());
    let options = MongoOptions { password: Some("secret".to_owned()), ..MongoOptions::new(uri) };
    MongoSource::connect(options).await.unwrap()
}

pub(super) async fn the_role_backup_is_enough(version: Version) {
    let (origin, target) = (Mongod::with_users(version).await, Mongod::start(version).await);
    odd::fill(&origin, version).await;
    let reader = user(&origin, "reader", vec!["backup".into()]).await;
    let probe = reader.probe(&Context::silent()).await.unwrap();
    assert_eq!(probe.problems, []);
    assert!(probe.version.unwrap().starts_with("6.0.") && probe.estimated_bytes.unwrap() > 0);
    assert_eq!(reader.identity().id, source(&origin).await.identity().id);
    let snapshot = snapshot_of(&reader, Selection::all()).await;
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

pub(super) async fn what_is_denied_names_the_role(version: Version) {
    let server = Mongod::with_users(version).await;
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    let nobody = user(&server, "nobody", vec![]).await;
    let probe = nobody.probe(&Context::silent()).await.unwrap();
    let problems = format!("{}: {}", probe.problems[0].finding, probe.problems[0].remedy);
    assert!(
        problems.contains("grantRolesToUser(\"nobody\", [{role: \"backup\", db: \"admin\"}])"),
        "{problems}"
    );
    for what in ["reading users", "reading the oplog", "reading transactions"] {
        assert!(problems.contains(what), "{problems}");
    }
    let error = backup(&repository().await, &nobody, &BackupOptions::default(), &Context::silent())
        .await
        .unwrap_err();
    assert!(
        error.hint().unwrap_or_default().contains("role: \"backup\""),
        "{} {:?}",
        error.chain(),
        error.hint()
    );

    // Without the right to read by UUID, by name: as users of hosted servers have it.
    let local = doc! { "role": "read", "db": "local" };
    let hosted = user(&server, "hosted", vec!["readAnyDatabase".into(), local.into()]).await;
    let only = Selection::new(vec!["shop.*".to_owned()], vec![]).unwrap();
    let snapshot = snapshot_of(&hosted, only).await;
    let restorer = user(&server, "restorer", vec!["read".into()]).await;
    let error = try_restore(
        &snapshot,
        &restorer,
        RestoreRequest { if_exists: IfExists::Replace, ..verified() },
    )
    .await;
    let error = error.unwrap_err();
    assert!(
        error.hint().unwrap_or_default().contains("role: \"restore\""),
        "{} {:?}",
        error.chain(),
        error.hint()
    );
    server.run("shop", doc! { "drop": "orders" }).await;
    restored(&snapshot, &source(&server).await, verified()).await;
    assert_eq!(state(&server.client).await["shop.orders"].documents.len(), 1);
}

pub(super) async fn users_come_back(version: Version) {
    let (origin, target) = (Mongod::with_users(version).await, Mongod::start(version).await);
    origin.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    let privilege =
        doc! { "resource": { "db": "shop", "collection": "orders" }, "actions": ["find"] };
    origin
        .run("admin", doc! { "createRole": "looks", "privileges": [privilege], "roles": [] })
        .await;
    origin
        .run("shop", doc! { "createUser": "clerk", "pwd": "secret", "roles": [{ "role": "looks", "db": "admin" }] })
        .await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    restored(&snapshot, &source(&target).await, verified()).await;
    let all = |server: &Mongod, collection: &'static str| {
        let collection =
            server.client.database("admin").collection::<bson::RawDocumentBuf>(collection);
        async move {
            futures::TryStreamExt::try_collect::<Vec<_>>(collection.find(doc! {}).await.unwrap())
                .await
                .unwrap()
        }
    };
    for collection in ["system.users", "system.roles"] {
        let (mut expected, mut found) =
            (all(&origin, collection).await, all(&target, collection).await);
        expected.sort_by_key(|document| document.as_bytes().to_vec());
        found.sort_by_key(|document| document.as_bytes().to_vec());
        assert_eq!(expected, found, "{collection}");
    }
    assert!(
        all(&target, "tempusers").await.is_empty() && all(&target, "temproles").await.is_empty()
    );
    // Others of the same name are not replaced unless that is asked for.
    target.run("shop", doc! { "updateUser": "clerk", "pwd": "another" }).await;
    target.clear().await;
    let error = try_restore(&snapshot, &source(&target).await, verified()).await.unwrap_err();
    assert!(error.chain().contains("different users called shop.clerk"), "{}", error.chain());
    assert!(state(&target.client).await.is_empty(), "nothing was written");
    // Like documents, they are replaced when others are kept.
    let merge = RestoreRequest { if_exists: IfExists::Merge, ..verified() };
    let report = restored(&snapshot, &source(&target).await, merge).await;
    assert_eq!(report.replaced_users, ["user shop.clerk"]);
    assert_eq!(all(&origin, "system.users").await.len(), all(&target, "system.users").await.len());

    // Left out if they are not asked for.
    let fresh = Mongod::start(version).await;
    let options = MongoOptions { restore_users: false, ..MongoOptions::new(fresh.uri()) };
    restored(&snapshot, &MongoSource::connect(options).await.unwrap(), verified()).await;
    assert!(all(&fresh, "system.users").await.is_empty());
}

/// What the hint of a denied restore names is enough, also for time-series data, users and code.
pub(super) async fn the_roles_for_restoring_are_enough(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::with_users(version).await);
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let roles = ["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase"].map(Bson::from).to_vec();
    let restorer = user(&target, "restorer", roles).await;
    restored(&snapshot, &restorer, verified()).await;
    let expected = state(&origin.client).await;
    same(&expected, &state(&target.client).await);
    restored(&snapshot, &restorer, RestoreRequest { if_exists: IfExists::Replace, ..verified() })
        .await;
    same(&expected, &state(&target.client).await);
}

/// Privileges that users of Atlas can have.
pub(super) async fn privileges_of_atlas_restore_data_without_users(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::with_users(version).await);
    let index = doc! { "key": { "n": 1 }, "name": "n_1", "unique": true };
    origin.run("shop", doc! { "create": "recent", "capped": true, "size": 65_536 }).await;
    for name in ["orders", "recent"] {
        let documents: Vec<_> = (0..100).map(|n| doc! { "_id": n, "n": n }).collect();
        origin.run("shop", doc! { "insert": name, "documents": documents }).await;
    }
    origin.run("shop", doc! { "createIndexes": "orders", "indexes": [index] }).await;
    origin.run("shop", doc! { "create": "few", "viewOn": "orders", "pipeline": [] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let roles = ["readWriteAnyDatabase", "dbAdminAnyDatabase"].map(Bson::from).to_vec();
    user(&target, "restorer", roles).await;
    let uri = format!("mongodb://restorer:secret@127.0.0.1:{}/?replicaSet=rs", target.port());
    let options = MongoOptions { restore_users: false, ..MongoOptions::new(uri) };
    let restorer = MongoSource::connect(options).await.unwrap();
    restored(&snapshot, &restorer, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// Authentication, key file and TLS with an authority of one's own.
pub(super) async fn tls_with_an_authority_of_ones_own(version: Version) {
    let room = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(room.path());
    let (certificate, key) = authority.issue(room.path());
    let pem = room.path().join("server.pem");
    let both = [std::fs::read(&certificate).unwrap(), std::fs::read(&key).unwrap()].concat();
    std::fs::write(&pem, both).unwrap();
    let server = Mongod::with_tls(version, &ca, &pem).await;
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    let uri = format!(
        "mongodb://admin@127.0.0.1:{}/?directConnection=true&serverSelectionTimeoutMS=3000",
        server.port()
    );
    let options = MongoOptions { password: Some("pass word".to_owned()), ..MongoOptions::new(uri) };
    let trusting = MongoOptions { tls_ca_file: Some(ca), ..options.clone() };
    let snapshot =
        snapshot_of(&MongoSource::connect(trusting).await.unwrap(), Selection::all()).await;
    let target = Mongod::start(version).await;
    let without_users = MongoOptions { restore_users: false, ..MongoOptions::new(target.uri()) };
    restored(&snapshot, &MongoSource::connect(without_users).await.unwrap(), verified()).await;
    same(&state(&server.client).await, &state(&target.client).await);
    let error = MongoSource::connect(options).await.unwrap_err();
    assert!(
        error.chain().contains("closes the connection at once")
            && error.hint().unwrap_or_default().contains("tls=true")
            && !error.chain().contains("word"),
        "{}",
        error.chain()
    );
}

/// A certificate instead of a password, with the role for backups alone.
pub(super) async fn a_certificate_is_enough(version: Version) {
    let (room, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new();
    let ca = authority.write(room.path());
    let pem = |dir: &std::path::Path| {
        let (certificate, key) = authority.issue(dir);
        let pem = dir.join("both.pem");
        std::fs::write(
            &pem,
            [std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap()].concat(),
        )
        .unwrap();
        pem
    };
    let server = Mongod::with_tls(version, &ca, &pem(room.path())).await;
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    let subject = "CN=rcgen self signed cert";
    let roles = vec![doc! { "role": "backup", "db": "admin" }];
    server.run("$external", doc! { "createUser": subject, "roles": roles }).await;
    let uri = format!(
        "mongodb://127.0.0.1:{}/?directConnection=true&authMechanism=MONGODB-X509&authSource=%24external",
        server.port()
    );
    let certified = MongoOptions {
        tls_ca_file: Some(ca.clone()),
        tls_certificate_key_file: Some(pem(own.path())),
        ..MongoOptions::new(uri.clone())
    };
    let reader = MongoSource::connect(certified).await.unwrap();
    assert_eq!(reader.probe(&Context::silent()).await.unwrap().problems, []);
    let snapshot = snapshot_of(&reader, Selection::all()).await;
    let target = Mongod::start(version).await;
    let without_users = MongoOptions { restore_users: false, ..MongoOptions::new(target.uri()) };
    restored(&snapshot, &MongoSource::connect(without_users).await.unwrap(), verified()).await;
    same(&state(&server.client).await, &state(&target.client).await);
    // Without the certificate nobody gets in.
    let nobody = MongoOptions { tls_ca_file: Some(ca), ..MongoOptions::new(uri) };
    let refused = match MongoSource::connect(nobody).await {
        Ok(source) => source.probe(&Context::silent()).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}
