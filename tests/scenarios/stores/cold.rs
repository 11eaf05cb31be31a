//! Archives: data in a cold storage class, everything that is needed to list and browse it in the
//! default one.

use crate::support::cli::Cli;
use crate::support::servers::s3::S3;
use crate::support::store::{BUCKET, Store};

const PASSWORD: &str = "password";

/// Every object below a prefix and its storage class, as the store tells.
fn classes(s3: &S3, prefix: &str) -> Vec<(String, String)> {
    let listing = s3
        .send(http::Method::GET, &format!("/{BUCKET}?list-type=2&prefix={prefix}/"), &[], b"")
        .succeeded();
    let text = listing.text();
    let tag = |part: &str, name: &str| {
        part.split(&format!("<{name}>"))
            .nth(1)
            .and_then(|rest| rest.split('<').next())
            .unwrap_or_default()
            .to_owned()
    };
    text.split("<Contents>")
        .skip(1)
        .map(|part| (tag(part, "Key"), tag(part, "StorageClass")))
        .collect()
}

mod needs_moto_server {
    use std::path::Path;
    use std::time::Duration;

    use backup_core::sink::{Availability, Payload, PutMode, ThawSpeed};
    use bytes::Bytes;
    use jiff::SignedDuration;

    use super::*;
    use crate::support::compare::assert_same;
    use crate::support::noise::noise;
    use crate::support::repo::restored;
    use crate::support::restic::text;
    use crate::support::servers::moto::Moto;
    use crate::support::store::key;
    use crate::support::tree::{everything, write};

    struct Archived {
        moto: Moto,
        room: tempfile::TempDir,
        cli: Cli,
    }

    /// A snapshot that has gone into the archive, of which that share was read back.
    fn archived(verify_sample: &str) -> Archived {
        let (moto, room) = (Moto::start(), tempfile::tempdir().unwrap());
        moto.s3.create_bucket(BUCKET, false);
        let store = Store::s3(&moto.s3, "archive");
        let home = room.path().join("home");
        let config = room.path().join("backup.toml");
        let section = format!("url = \"{}\"\nverify_sample = \"{verify_sample}\"\n", store.address);
        write(&config, format!("[repositories.cold]\n{section}"));
        let mut environment = store.environment.clone();
        environment.insert("BACKUP_CONFIG".to_owned(), text(&config).to_owned());
        let local = Cli::remote(&home, PASSWORD, environment);
        let source = room.path().join("source");
        everything(&source);
        write(source.join("large"), noise(1, 3_000_000));
        local.run(&["init"]).succeeded();
        local.run(&["run", "--source", text(&source)]).succeeded();
        let cli = store.cli(PASSWORD);
        cli.run(&["init", "--like", text(&home)]).succeeded();
        let to = ["archive", "--older-than", "0s", "--storage-class", "GLACIER", "--to", "cold"];
        let archived = local.summary(&to);
        assert_eq!(archived["copied"].as_array().unwrap().len(), 1, "{archived}");
        Archived { moto, room, cli }
    }

    impl Archived {
        fn restore(&self, target: &Path, thaw: &[&str]) -> crate::support::process::Outcome {
            self.cli.run(&[&["restore", "latest", "--target", text(target)], thaw].concat())
        }
    }

    #[test]
    fn what_is_cold_is_not_read_back() {
        archived("100%");
    }

    #[test]
    fn a_restore_names_the_option_that_thaws() {
        let place = archived("0%");
        let refused = place.restore(&place.room.path().join("restored"), &[]);
        assert!(refused.code == 1 && refused.stderr.contains("--thaw"), "{refused}");
    }

    /// What thaws nothing says what does.
    #[test]
    fn what_reads_archived_data_names_the_verb_that_thaws() {
        let place = archived("0%");
        let copy = place.room.path().join("copy");
        place.cli.run(&["init", "-r", text(&copy)]).succeeded();
        for verb in [
            &["verify", "latest"][..],
            &["check", "--read-data"],
            &["copy", "latest", "--to", text(&copy)],
            &["export", "latest", "-o", text(&place.room.path().join("out.tar"))],
        ] {
            let refused = place.cli.run(verb);
            assert!(
                refused.code == 1 && refused.stderr.contains("`backup restore SNAPSHOT --thaw"),
                "{refused}"
            );
        }
    }

    /// Who waits for others may ask once more for what is readable already, so that it stays so.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_thawed_is_kept_for_longer_by_another_thaw() {
        let moto = Moto::start();
        moto.s3.create_bucket(BUCKET, false);
        let store = Store::s3(&moto.s3, "x")
            .with(|settings| settings.storage_class = Some("GLACIER".to_owned()));
        let (sink, pack) = (store.sink().await, key("data/a"));
        sink.put(&pack, Payload::from(Bytes::from("cold")).cold(), PutMode::Create).await.unwrap();
        let custody = sink.custody().unwrap();
        assert_eq!(custody.availability(&pack).await.unwrap(), Availability::Archived);
        let mut ends = Vec::new();
        for days in [1, 9] {
            custody.thaw(&pack, days, ThawSpeed::Standard).await.unwrap();
            // The store's time passes by requests.
            let end = loop {
                match custody.availability(&pack).await.unwrap() {
                    Availability::Thawed { until } => break until,
                    state => assert_eq!(state, Availability::Thawing),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            ends.push(end);
        }
        assert!(ends[1].duration_since(ends[0]) > SignedDuration::from_hours(7 * 24), "{ends:?}");
    }

    #[test]
    fn archive_thaw_and_restore() {
        let place = archived("0%");
        let all = classes(&place.moto.s3, "archive");
        let cold: Vec<_> = all.iter().filter(|(_, class)| class == "GLACIER").collect();
        assert!(
            !cold.is_empty() && cold.iter().all(|(key, _)| key.starts_with("archive/data/")),
            "{all:?}"
        );
        let hot = |prefix: &str| {
            all.iter().any(|(key, class)| key.starts_with(prefix) && class == "STANDARD")
        };
        for prefix in [
            "archive/index/",
            "archive/snapshots/",
            "archive/keys/",
            "archive/config",
            "archive/data/",
        ] {
            assert!(hot(prefix), "nothing below {prefix} is hot: {all:?}");
        }

        // What is hot is enough to look around.
        let listed = place.cli.run(&["ls", "latest", "-R"]).succeeded();
        assert!(listed.text().contains("large"), "{listed}");

        let target = place.room.path().join("restored");
        let refused = place.restore(&target, &[]);
        assert!(refused.code == 1 && refused.stderr.contains("--thaw"), "{refused}");
        let asked_for = || {
            let head = |key: &str| {
                place.moto.s3.send(http::Method::HEAD, &format!("/{BUCKET}/{key}"), &[], b"")
            };
            cold.iter()
                .filter(|(key, _)| !head(key).succeeded().header("x-amz-restore").is_empty())
                .count()
        };
        // Nor for a target that cannot be restored to.
        let full = place.room.path().join("full");
        write(full.join("there"), "x");
        let in_the_way = place.restore(&full, &["--thaw", "--yes"]);
        assert!(in_the_way.code == 5 && asked_for() == 0, "{in_the_way}");
        // It costs money: nothing is asked for by the way. What the first attempt left would be in
        // the way too.
        std::fs::remove_dir_all(&target).unwrap();
        let asking = place.restore(&target, &["--thaw"]);
        assert!(
            asking.code == 5 && asking.stderr.contains("--yes") && asked_for() == 0,
            "{asking}"
        );
        let begun = place.restore(&target, &["--thaw", "--yes", "--no-wait"]);
        assert!(
            begun.code == 3
                && begun.stderr.contains("Thawing")
                && begun.stderr.contains("same command"),
            "{begun}"
        );
        assert_eq!(asked_for(), cold.len());

        // The store's time passes at once.
        let source = place.room.path().join("source");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let done = loop {
            std::fs::remove_dir_all(&target).ok();
            let again = place.restore(&target, &["--thaw", "--yes", "--no-wait"]);
            if again.code == 0 || std::time::Instant::now() > deadline {
                break again;
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        };
        done.succeeded();
        assert_same(&source, &restored(&target, &source));
        place.cli.check();
    }
}
