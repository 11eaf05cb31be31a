//! Encryption by the store, beneath our own: it is asked for with every object, and the store
//! really does it.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::sink::{Sink, SinkOps};
use backup_storage::settings::Encryption;
use bytes::Bytes;
use http::Method;

use crate::support::noise::noise;
use crate::support::servers::s3::{Answer, S3};
use crate::support::store::{BUCKET, Store, key};

const HEADER: &str = "x-amz-server-side-encryption";
/// More than one part.
const LARGE: usize = 20_000_000;

/// A raw request for an object, without anything about keys.
fn raw(s3: &S3, method: Method, name: &str) -> Answer {
    s3.send(method, &format!("/{BUCKET}/{name}"), &[], b"")
}

fn head(s3: &S3, name: &str) -> Answer {
    raw(s3, Method::HEAD, name).succeeded()
}

/// A key of SSE-C in a file, of which only this byte is known.
fn key_file(room: &Path, byte: u8) -> PathBuf {
    let path = room.join(format!("{byte}.key"));
    fs::write(&path, [byte; 32]).unwrap();
    path
}

/// What is uploaded in parts comes back.
async fn in_parts(sink: &dyn Sink) {
    let (content, key) = (Bytes::from(noise(2, LARGE)), key("data/large"));
    let mut upload = sink.upload(&key).await.unwrap();
    upload.put_part(content.clone()).await.unwrap();
    upload.complete().await.unwrap();
    assert!(sink.get_bytes(&key).await.unwrap() == content, "it came back otherwise");
}

fn with_key(store: Store, file: &Path) -> Store {
    store.with(|settings| {
        settings.sse = Some(Encryption::Customer);
        settings.customer_key_file = Some(file.to_owned());
    })
}

mod needs_weed {
    use backup_core::sink::{SinkError, SinkErrorKind};
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::support::cli::Cli;
    use crate::support::compare::assert_same;
    use crate::support::repo::restored;
    use crate::support::restic::text;
    use crate::support::servers::weed::SeaweedFs;
    use crate::support::store::told;
    use crate::support::tree::{everything, write};

    fn weed() -> SeaweedFs {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket(BUCKET, false);
        weed
    }

    /// The program, with these settings in its configuration file.
    fn configured(s3: &S3, room: &Path, settings: &str) -> Cli {
        let S3 { endpoint, region, .. } = s3;
        let config = format!(
            "[repositories.sealed]\nurl = \
             \"s3://{BUCKET}/cli\"\n[repositories.sealed.store]\nendpoint = \"{endpoint}\"\nregion \
             = \"{region}\"\nallow_http = true\nretry_deadline = 5\n{settings}\n"
        );
        let mut environment = s3.environment();
        let file =
            tempfile::Builder::new().suffix(".toml").tempfile_in(room).unwrap().keep().unwrap().1;
        fs::write(&file, config).unwrap();
        environment.insert("BACKUP_CONFIG".to_owned(), text(&file).to_owned());
        Cli::remote("sealed", "password", environment)
    }

    fn round_trip(cli: &Cli, room: &Path) {
        let (source, target) = (room.join("source"), room.join("restored"));
        everything(&source);
        write(source.join("large"), noise(1, LARGE));
        cli.run(&["init"]).succeeded();
        cli.run(&["run", "--source", text(&source)]).succeeded();
        cli.run(&["restore", "latest", "--target", text(&target)]).succeeded();
        assert_same(&source, &restored(&target, &source));
        cli.check();
    }

    /// Everything that the program stored.
    fn all(s3: &S3) -> Vec<String> {
        let listing = s3
            .send(Method::GET, &format!("/{BUCKET}?list-type=2&prefix=cli%2F"), &[], b"")
            .succeeded();
        let names: Vec<_> = listing
            .text()
            .split("<Key>")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().to_owned())
            .collect();
        assert!(names.iter().any(|name| name.starts_with("cli/data/")), "{names:?}");
        names
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn with_a_key_of_the_customer() {
        let (weed, room) = (weed(), tempfile::tempdir().unwrap());
        let settings = |byte| {
            let file = key_file(room.path(), byte);
            format!("sse = \"customer\"\ncustomer_key_file = \"{}\"", text(&file))
        };
        let cli = configured(&weed.s3, room.path(), &settings(1));
        round_trip(&cli, room.path());
        for name in all(&weed.s3) {
            let refused = raw(&weed.s3, Method::GET, &name);
            assert!(
                (400..500).contains(&refused.status),
                "{name} is read without the key: {}",
                refused.status
            );
        }
        let target = room.path().join("stolen");
        for (other, words) in
            [(settings(2), "refuses access"), (String::new(), "must provide the customer key")]
        {
            let said = configured(&weed.s3, room.path(), &other).run(&[
                "restore",
                "latest",
                "--target",
                text(&target),
            ]);
            assert!(said.code == 1 && said.stderr.contains(words), "{said}");
        }
        assert!(!target.exists());
        // Nothing was harmed by that.
        cli.check();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_may_be_written_in_base64_and_another_one_opens_nothing() {
        let (weed, room) = (weed(), tempfile::tempdir().unwrap());
        let of = |file: &Path| with_key(Store::s3(&weed.s3, "x"), file);
        let written = room.path().join("base64.key");
        fs::write(&written, format!("{}\n", BASE64_STANDARD.encode([1; 32]))).unwrap();
        of(&written).sink().await.put_bytes(&key("data/a"), "sealed").await.unwrap();
        let same = of(&key_file(room.path(), 1)).sink().await;
        assert_eq!(same.get_bytes(&key("data/a")).await.unwrap(), "sealed");
        in_parts(&*same).await;
        assert_eq!(raw(&weed.s3, Method::GET, "x/data/large").status, 400);
        for error in without_the_key(&weed.s3, room.path()).await {
            let (kind, told) = (error.kind(), told(&error));
            assert!(
                matches!(kind, SinkErrorKind::PermissionDenied | SinkErrorKind::Other),
                "{kind:?}: {told}"
            );
        }
        // What is not there is not taken for what cannot be read.
        let missing = same.get_bytes(&key("data/b")).await.unwrap_err();
        assert_eq!(missing.kind(), SinkErrorKind::NotFound, "{}", told(&missing));
    }

    /// What reading `data/a` comes to with another key, and with none.
    async fn without_the_key(s3: &S3, room: &Path) -> [SinkError; 2] {
        let (other, none) = (with_key(Store::s3(s3, "x"), &key_file(room, 2)), Store::s3(s3, "x"));
        let read =
            async |store: Store| store.sink().await.get_bytes(&key("data/a")).await.unwrap_err();
        [read(other).await, read(none).await]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_hint_names_the_key() {
        let (weed, room) = (weed(), tempfile::tempdir().unwrap());
        let sealed = with_key(Store::s3(&weed.s3, "x"), &key_file(room.path(), 1));
        sealed.sink().await.put_bytes(&key("data/a"), "sealed").await.unwrap();
        for error in without_the_key(&weed.s3, room.path()).await {
            assert!(
                error.hint().is_some_and(|hint| hint.contains("customer_key_file")),
                "{}",
                told(&error)
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn with_keys_of_the_store() {
        let (weed, room) = (weed(), tempfile::tempdir().unwrap());
        round_trip(&configured(&weed.s3, room.path(), "sse = \"AES256\""), room.path());
        for name in all(&weed.s3) {
            assert_eq!(head(&weed.s3, &name).header(HEADER), "AES256", "{name}");
        }
        let sealed =
            Store::s3(&weed.s3, "parts").with(|settings| settings.sse = Some(Encryption::Aes256));
        in_parts(&*sealed.sink().await).await;
        let head_of_parts = head(&weed.s3, "parts/data/large");
        assert_eq!(head_of_parts.header(HEADER), "AES256");
        assert!(head_of_parts.header("etag").contains("-2"), "{:?}", head_of_parts.headers);
        Store::s3(&weed.s3, "plain").sink().await.put_bytes(&key("data/a"), "x").await.unwrap();
        assert_eq!(head(&weed.s3, "plain/data/a").header(HEADER), "", "only if it is asked for");
    }
}

mod needs_moto_server {
    use super::*;
    use crate::support::servers::moto::Moto;

    const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/of-backups";

    #[tokio::test(flavor = "multi_thread")]
    async fn with_a_key_of_the_key_service() {
        let moto = Moto::start();
        moto.s3.create_bucket(BUCKET, false);
        for (prefix, id) in [("named", Some(KEY)), ("default", None)] {
            let store = Store::s3(&moto.s3, prefix).with(|settings| {
                settings.sse = Some(Encryption::Kms);
                settings.kms_key_id = id.map(str::to_owned);
            });
            let sink = store.sink().await;
            sink.put_bytes(&key("data/small"), "sealed").await.unwrap();
            assert_eq!(sink.get_bytes(&key("data/small")).await.unwrap(), "sealed");
            in_parts(&*sink).await;
            for name in ["data/small", "data/large"] {
                let head = head(&moto.s3, &format!("{prefix}/{name}"));
                let told = (
                    head.header(HEADER),
                    head.header("x-amz-server-side-encryption-aws-kms-key-id"),
                );
                assert_eq!(told, ("aws:kms", id.unwrap_or_default()), "{prefix}/{name}");
            }
        }
    }
}
