//! What is wrong with an address, the credentials or the way to the store is said, with what to do
//! about it; and nothing half-done stays.

use backup_core::sink::{SinkError, SinkErrorKind};
use backup_storage::StoreSettings;
use backup_storage::settings::Seconds;

use crate::support::fault_proxy::FaultProxy;
use crate::support::fault_proxy::answers::Answer;
use crate::support::fault_proxy::rules::{Fault, When};
use crate::support::process::Outcome;
use crate::support::servers::s3::S3;
use crate::support::store::{Stage, Store, told};

fn hasty(settings: &mut StoreSettings) {
    settings.retry_deadline = Seconds::new(1);
}

/// Opens what cannot be opened.
async fn refused(store: &Store) -> SinkError {
    store.clone().with(hasty).open().await.expect_err("it was opened")
}

#[track_caller]
fn assert_told(error: &SinkError, kind: SinkErrorKind, words: &[&str]) {
    let told = told(error);
    assert_eq!(error.kind(), kind, "{told}");
    let hint = error.hint().unwrap_or_default();
    assert!(words.iter().all(|word| hint.contains(word)), "{words:?} are not in the hint: {told}");
}

/// The same from the program: the exit code, the hint, and no secret.
#[track_caller]
fn assert_says(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, code, "{outcome}");
    assert!(
        words.iter().all(|word| outcome.stderr.contains(word)),
        "{words:?} are not said: {outcome}"
    );
    assert!(!outcome.stderr.contains("testtest"), "a secret: {outcome}");
}

#[tokio::test]
async fn nobody_listens() {
    // Bound and closed again: nobody has it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let s3 = S3::new(&format!("http://127.0.0.1:{port}"));
    let error = refused(&Store::s3(&s3, "x")).await;
    assert_told(&error, SinkErrorKind::Unavailable, &["endpoint", "network"]);
    let mut plain = Store::s3(&s3, "x");
    plain.address = plain.address.replace("allow_http=true&", "");
    assert_told(&refused(&plain).await, SinkErrorKind::Invalid, &["https://", "allow_http"]);
}

/// Who has set nothing for Azure ends at the machine's own service, which is asked for a token.
#[tokio::test]
async fn nobody_gives_a_token() {
    let silent = "http://127.0.0.1:9";
    let refusing = FaultProxy::start(silent);
    refusing.inject(When::any(), Fault::Answer(Answer::expired_token()));
    for (service, kind) in [
        (silent, SinkErrorKind::Unavailable),
        (&*refusing.endpoint(), SinkErrorKind::PermissionDenied),
    ] {
        let mut store = Store::s3(&S3::new(silent), "x");
        store.address = "az://container/x?account=me".to_owned();
        store.environment = [("IDENTITY_ENDPOINT".to_owned(), service.to_owned())].into();
        let error = refused(&store).await;
        assert_told(&error, kind, &["AZURE_STORAGE_ACCOUNT_KEY"]);
        assert!(told(&error).contains("cannot get a token"), "{}", told(&error));
    }
}

mod needs_azurite_blob {
    use super::*;
    use crate::support::servers::azurite::Azurite;
    use crate::support::store::BUCKET;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_the_account_and_the_container() {
        let azurite = Azurite::start();
        azurite.create_bucket(BUCKET);
        let mut store = Store::azure(&azurite, "x");
        store.environment.insert("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), "dGVzdHRlc3Q=".to_owned());
        let key = ["does not accept", "AZURE_STORAGE_ACCOUNT_KEY"];
        assert_told(&refused(&store).await, SinkErrorKind::PermissionDenied, &key);
        let said = store.cli("password").run(&["init"]);
        assert_says(&said, 2, &key);
        assert!(!said.stderr.contains("dGVzdHRlc3Q"), "a secret: {said}");

        let mut store = Store::azure(&azurite, "x");
        store.address = store.address.replace("az://bucket/", "az://no-such-container/");
        assert_says(
            &store.cli("password").run(&["init"]),
            1,
            &["no-such-container", "create the bucket"],
        );
    }
}

mod needs_weed {
    use std::fs;
    use std::path::Path;

    use backup_core::sink::SinkOps;
    use http::Method;

    use super::*;
    use crate::support::noise::noise;
    use crate::support::repo::{Repo, files, options};
    use crate::support::restic::text;
    use crate::support::servers::weed::{SeaweedFs, User};
    use crate::support::store::{BUCKET, key, names, now};
    use crate::support::tree::write;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_the_address_and_the_credentials() {
        let stage = Stage::new();
        let s3 = &stage.weed.s3;
        let cli = |store: &Store| store.cli("password").run(&["init"]);

        let store = Store::s3(&s3.with_key("test", "wrong-one"), "x");
        assert_told(
            &refused(&store).await,
            SinkErrorKind::PermissionDenied,
            &["secret", "access key"],
        );
        assert_says(&cli(&store), 2, &["secret"]);
        let store = Store::s3(&s3.with_key("nobody", "testtest"), "x");
        assert_told(&refused(&store).await, SinkErrorKind::PermissionDenied, &["access key"]);
        assert_says(&cli(&store), 2, &["access key"]);

        let mut store = Store::s3(s3, "x");
        store.address = store.address.replace("s3://bucket/", "s3://no-such-bucket/");
        assert_told(
            &refused(&store).await,
            SinkErrorKind::NotFound,
            &["no-such-bucket", "create the bucket"],
        );
        // It is not told that there is no repository, which is why it is made.
        assert_says(&cli(&store), 1, &["no-such-bucket", "create the bucket"]);
        assert_says(&store.cli("password").run(&["list"]), 10, &["no-such-bucket"]);
        assert_eq!(
            s3.send(Method::GET, "/no-such-bucket", &[], b"").status,
            404,
            "it is not made by the way"
        );

        let mut store = Store::s3(s3, "x");
        store.address = store.address.replace("endpoint=http://", "endpoint=https://");
        assert_told(&refused(&store).await, SinkErrorKind::Other, &["port", "allow_http"]);

        let mut store = Store::s3(s3, "x");
        store.environment.clear();
        store.environment.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        assert_told(
            &refused(&store).await,
            SinkErrorKind::PermissionDenied,
            &["access_key_id", "profile"],
        );
        assert_says(&cli(&store), 2, &["no credentials found"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_what_the_store_answers() {
        let stage = Stage::new();
        for (answer, kind, words) in [
            (Answer::expired_token(), SinkErrorKind::PermissionDenied, "expired"),
            (Answer::expired_token_forbidden(), SinkErrorKind::PermissionDenied, "expired"),
            (Answer::clock_skew(), SinkErrorKind::Other, "clock"),
            (Answer::wrong_region(), SinkErrorKind::Other, "eu-central-1"),
        ] {
            stage.proxy.inject(When::any(), Fault::Answer(answer));
            let store = stage.store("errors");
            assert_told(&refused(&store).await, kind, &[words]);
            let said = store.cli("password").run(&["init"]);
            // The credentials are part of the configuration.
            let code = if kind == SinkErrorKind::PermissionDenied { 2 } else { 1 };
            assert_says(&said, code, &[words]);
            stage.proxy.heal();
            assert_eq!(
                names(&*stage.truth("errors").sink().await, "").await.len(),
                0,
                "nothing half-done stays"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_prefix_that_is_not_ours() {
        let ours = "bucket/ours/*";
        let actions = ["Read", "Write", "List"].map(|action| format!("{action}:{ours}"));
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        let weed = SeaweedFs::with_users(&[User {
            key: "writer",
            secret: "secret-word",
            actions: &actions,
        }]);
        weed.s3.create_bucket(BUCKET, false);
        let writer = weed.s3.with_key("writer", "secret-word");
        let said = Store::s3(&writer, "theirs").cli("password").run(&["init"]);
        assert_says(&said, 1, &["bucket", "prefix", "s3:PutObject"]);
        let truth = Store::s3(&weed.s3, "theirs").sink().await;
        assert_eq!(names(&*truth, "").await.len(), 0, "nothing half-done stays");
        Store::s3(&writer, "ours/repo").cli("password").run(&["init"]).succeeded();
        assert!(truth_has_config(&weed).await);
    }

    async fn truth_has_config(weed: &SeaweedFs) -> bool {
        Store::s3(&weed.s3, "ours/repo").sink().await.exists(&key("config")).await.unwrap()
    }

    /// A profile whose program gives the keys that lie in a file.
    fn profile(home: &Path, id: &str, secret: &str) {
        fs::create_dir_all(home.join(".aws")).unwrap();
        let keys = home.join("keys.json");
        let expires = now() + jiff::SignedDuration::from_hours(1);
        let json = serde_json::json!({
            "Version": 1, "AccessKeyId": id, "SecretAccessKey": secret, "Expiration": expires.to_string()
        });
        // Whole or not at all: it is read at any moment.
        fs::write(home.join("new.json"), json.to_string()).unwrap();
        fs::rename(home.join("new.json"), &keys).unwrap();
        let config = format!(
            "[profile rotating]\nregion = us-east-1\ncredential_process = cat {}\n",
            text(&keys)
        );
        fs::write(home.join(".aws/config"), config).unwrap();
    }

    fn rotating(stage: &Stage, home: &Path) -> Store {
        let mut store = stage.store("rotating");
        store.environment = [("HOME", text(home)), ("PATH", "/usr/bin:/bin")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        store.address.push_str("&profile=rotating");
        store
    }

    /// The old key is refused from some request on; the new one lies where the old one was.
    #[tokio::test(flavor = "multi_thread")]
    async fn credentials_rotate_during_a_backup() {
        let stage = Stage::with_users(&[User {
            key: "second",
            secret: "second-word",
            actions: &["Admin"],
        }]);
        let (home, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for at in 0..8 {
            write(source.path().join(at.to_string()), noise(at, 6_000_000));
        }
        profile(home.path(), "test", "testtest");
        let repo = Repo::init(rotating(&stage, home.path()).sink().await).await;
        profile(home.path(), "second", "second-word");
        let old = || When::any().credential("Credential=test/");
        let hits = stage.proxy.inject(old().after(2), Fault::Answer(Answer::expired_token()));
        let report = repo.backup(&files(&[source.path()]), &options()).await;
        let with_new =
            stage.proxy.requests().iter().filter(|r| r.authorization.contains("second/")).count();
        assert!(
            hits.count() > 0 && with_new > 5,
            "{} refused, {with_new} with the new key",
            hits.count()
        );
        let truth = Repo::open(stage.truth("rotating").sink().await, repo.passphrase.reveal())
            .await
            .unwrap();
        truth.assert_sound().await;
        assert!(truth.verify(report.snapshot.unwrap()).await.problems.is_empty());
    }

    /// Nobody renews them: the run fails, says so, and publishes nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn credentials_expire_during_a_backup() {
        let stage = Stage::new();
        let (home, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for at in 0..4 {
            write(source.path().join(at.to_string()), noise(at, 20_000_000));
        }
        profile(home.path(), "test", "testtest");
        let cli = rotating(&stage, home.path()).cli("password");
        cli.run(&["init"]).succeeded();
        stage
            .proxy
            .inject(When::put().target("/data/").after(1), Fault::Answer(Answer::expired_token()));
        let said = cli.run(&["run", "--source", text(source.path())]);
        assert_says(&said, 2, &["expired", "renew"]);
        stage.proxy.heal();
        let truth = stage.truth("rotating").sink().await;
        assert_eq!(names(&*truth, "snapshots").await.len(), 0);
        cli.run(&["run", "--source", text(source.path())]).succeeded();
        cli.check();
    }
}

mod needs_rclone {
    use std::path::Path;

    use backup_core::sink::SinkOps;

    use super::*;
    use crate::support::servers::rclone::Rclone;
    use crate::support::store::{BUCKET, key};
    use crate::support::tls::Authority;

    /// TLS with a certificate that only our own authority vouches for.
    fn server(authority: &Authority) -> (Rclone, Store) {
        let rclone = Rclone::with_tls(authority);
        rclone.make_bucket(BUCKET);
        let store = Store::s3(&rclone.s3, "x");
        (rclone, store)
    }

    fn trusting(store: &Store, authority: &Authority, room: &Path) -> Store {
        let file = authority.write(room);
        store.clone().with(|settings| settings.ca_file = Some(file))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn our_authority_is_trusted_and_no_other() {
        let (authority, room) = (Authority::new(), tempfile::tempdir().unwrap());
        let (rclone, store) = server(&authority);
        for refusing in [store.clone(), trusting(&store, &Authority::new(), room.path())] {
            let error = refused(&refusing).await;
            assert!(told(&error).contains("certificate is not trusted"), "{}", told(&error));
        }
        assert!(!rclone.server.data().join("bucket/x").exists(), "nothing half-done stays");
        let sink = trusting(&store, &authority, room.path()).sink().await;
        sink.put_bytes(&key("data/a"), "over TLS").await.unwrap();
        assert_eq!(sink.get_bytes(&key("data/a")).await.unwrap(), "over TLS");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unknown_authority_is_named_with_the_fix() {
        let (_rclone, store) = server(&Authority::new());
        assert_told(&refused(&store).await, SinkErrorKind::Other, &["ca_file"]);
        let said = store.cli("password").run(&["init"]);
        assert_says(&said, 1, &["ca_file"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn plain_http_where_tls_is_spoken() {
        let (_rclone, mut store) = server(&Authority::new());
        store.address = store.address.replace("endpoint=https://", "endpoint=http://");
        assert_told(&refused(&store).await, SinkErrorKind::Other, &["https://"]);
    }
}
