//! The examples as they are shipped, against real servers and a real object store: their lines for
//! crontab are run as they stand there, and what they made is restored, from the repository and
//! from its copy.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use bson::{Document, doc};

use super::{Place, now};
use crate::support::mongod::{Mongod, Version};
use crate::support::receiver::{Receiver, Reply};
use crate::support::redis::{self, Redis};
use crate::support::servers::moto::Moto;

/// An example on this machine.
struct Example {
    place: Place,
    /// Its lines for crontab, without the times.
    lines: Vec<String>,
    /// Its repositories.
    repositories: Vec<String>,
    moto: Moto,
}

/// Commands that hooks call, each of which notes what it is called with.
const COMMANDS: [&str; 3] = ["logger", "mail", "curl"];

impl Example {
    fn new(name: &str, environment: &[(&str, String)], buckets: &[&str]) -> Self {
        Self::adapted(name, environment, buckets, str::to_owned)
    }

    /// With more changes to its text.
    fn adapted(
        name: &str,
        environment: &[(&str, String)],
        buckets: &[&str],
        adapt: impl FnOnce(&str) -> String,
    ) -> Self {
        let file = crate::support::cli::workspace().join(format!("examples/{name}.toml"));
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let lines = lines
            .filter_map(|line| line.split_once("backup ").map(|(_, line)| line.to_owned()))
            .collect();
        let section =
            |line: &str| line.strip_prefix("[repositories.")?.strip_suffix(']').map(str::to_owned);
        let repositories: Vec<String> =
            text.lines().filter_map(section).filter(|name| !name.contains('.')).collect();
        // Directories of this test, servers of this machine; nothing else is another.
        let config = text
            .replace("\"/etc/backup/", "\"ROOM/keys/")
            .replace("\"/var/backups/", "\"ROOM/backups/")
            .replace("?replicaSet=rs0", "?directConnection=true")
            .replace("&tls=true", "")
            .replace("region = ", "allow_http = true\nregion = ");
        let moto = Moto::start();
        buckets.iter().for_each(|bucket| moto.s3.create_bucket(bucket, false));
        let mut all: Vec<(&str, String)> = environment.to_vec();
        let of_store = moto.s3.environment();
        all.extend(of_store.iter().map(|(name, value)| (name.as_str(), value.clone())));
        all.push(("AWS_ENDPOINT_URL", moto.server.endpoint()));
        all.push(("PATH", format!("ROOM/bin:{}", std::env::var("PATH").unwrap())));
        let place = Place::new(&adapt(&config), &all);
        std::fs::create_dir(place.path("keys")).unwrap();
        std::fs::create_dir(place.path("bin")).unwrap();
        for command in COMMANDS {
            let file = place.path(&format!("bin/{command}"));
            let noted = place.path(&format!("{command}.log"));
            std::fs::write(&file, format!("#!/bin/sh\necho \"$@\" >> {}\n", noted.display()))
                .unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { place, lines, repositories, moto }
    }

    /// Writes a file that the example names below `/etc/backup`.
    fn key(&self, name: &str, content: &str) {
        std::fs::write(self.place.path(&format!("keys/{name}")), content).unwrap();
    }

    /// Makes the repositories; copies cut as the others do.
    fn init(&self) {
        for name in &self.repositories {
            self.place.done(&["init", "-r", name]);
        }
    }

    /// Runs what crontab would, in its order.
    fn run_lines(&self, which: impl Fn(&str) -> bool) {
        let lines: Vec<&String> = self.lines.iter().filter(|line| which(line)).collect();
        assert!(!lines.is_empty());
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            self.place.done(&words);
        }
    }

    fn snapshots(&self, repository: &str, job: &str) -> usize {
        let list = self.place.run(&["list", "-r", repository, "--job", job, "--json"]).succeeded();
        let list: serde_json::Value = serde_json::from_str(&list.text()).unwrap();
        list["snapshots"].as_array().unwrap().len()
    }

    /// Restores what a repository has newest of a job into a new server, and returns that.
    async fn restored(&self, repository: &str, job: &str) -> Mongod {
        let target = Mongod::start(Version::V6_0).await;
        let to = ["--target", target.uri(), "--verify", "--no-users"];
        self.place
            .done(&[&["restore", "latest", "-r", repository, "--job", job], &to[..]].concat());
        target
    }

    fn noted(&self, command: &str) -> String {
        std::fs::read_to_string(self.place.path(&format!("{command}.log"))).unwrap_or_default()
    }
}

async fn fill(server: &Mongod, db: &str, collections: &[&str]) {
    for (at, name) in collections.iter().enumerate() {
        let documents = (0..100 * (at + 1))
            .map(|number| doc! { "_id": number as i64, "text": format!("{name} {number}") });
        let collection = server.client.database(db).collection::<Document>(name);
        collection.insert_many(documents).await.unwrap();
    }
}

async fn counts(server: &Mongod, db: &str, collections: &[&str]) -> Vec<u64> {
    let mut counts = Vec::new();
    for name in collections {
        let collection = server.client.database(db).collection::<Document>(name);
        counts.push(collection.count_documents(doc! {}).await.unwrap());
    }
    counts
}

/// `seeds/000`: development on a disk, staging with a copy in a bucket, production in a bucket with
/// a copy elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn needs_examples_of_lending() {
    let server = Mongod::with_users(Version::V6_0).await;
    let roles = bson::bson!(["backup", "clusterMonitor"]);
    server.run("admin", doc! { "createUser": "backup", "pwd": "hush", "roles": roles }).await;
    fill(&server, "loans", &["loans", "sessions"]).await;
    fill(&server, "other", &["things"]).await;
    // Development knows no users.
    let dev = Mongod::start(Version::V6_0).await;
    fill(&dev, "loans", &["loans", "sessions"]).await;
    let address = format!("127.0.0.1:{}", server.port());
    let environment = [
        ("LOANS_DEV", format!("127.0.0.1:{}", dev.port())),
        ("LOANS_STAGING", address.clone()),
        ("LOANS_PRODUCTION", address),
        ("LOANS_DATA", tempfile::tempdir().unwrap().path().to_str().unwrap().to_owned()),
    ];
    let buckets = ["example-loans-staging", "example-loans", "example-loans-west"];
    let example = Example::new("lending", &environment, &buckets);
    for name in ["dev", "staging", "staging-offsite", "production", "production-west"] {
        example.key(&format!("{name}.key"), name);
    }
    example.key("staging.password", "hush");
    example.key("production.password", "hush");
    example.init();
    example.run_lines(|_| true);
    example.run_lines(|line| line.starts_with("run"));
    for (repository, job) in [
        ("dev", "loans-dev"),
        ("staging", "loans-staging"),
        ("staging-offsite", "loans-staging"),
        ("production-west", "loans"),
    ] {
        let restored = example.restored(repository, job).await;
        let found = counts(&restored, "loans", &["loans", "sessions"]).await;
        assert_eq!(found, [100, 0], "{job} in {repository}: sessions are left out");
        assert_eq!(counts(&restored, "other", &["things"]).await, [0]);
    }
    assert_eq!(
        (example.snapshots("production", "loans"), example.snapshots("production-west", "loans")),
        (2, 1)
    );
    // An emptied collection is no success, and the last good backup stays.
    let loans = server.client.database("loans");
    loans.collection::<Document>("loans").delete_many(doc! {}).await.unwrap();
    let told = example.place.run(&["run", "loans"]);
    assert!(told.code == 1 && told.stderr.contains("loans.loans: 0 found"), "{told}");
    assert!(told.stderr.contains(", is now held"), "{told}");
    let before = example.snapshots("production", "loans");
    loans.drop().await.unwrap();
    let told = example.place.run(&["run", "loans"]);
    assert!(told.code == 1 && told.stderr.contains("nothing in the source matches"), "{told}");
    assert_eq!(example.snapshots("production", "loans"), before, "nothing becomes the latest");
    assert_ne!(example.moto.server.id(), 0);
}

/// `seeds/001`: MongoDB and Redis in a bucket that is encrypted by the store, with a copy in
/// another region and an archive.
#[tokio::test(flavor = "multi_thread")]
async fn needs_examples_of_legal() {
    let (server, cache) =
        (Mongod::start(Version::V6_0).await, Redis::start(redis::Version::Redis7));
    let collections = ["users", "cases", "invoices"];
    fill(&server, "legal", &collections).await;
    cache.run(&["SET", "session:1", "somebody"]);
    let environment = [("MONGODB_URI", server.uri().to_owned()), ("REDIS_URL", cache.address())];
    let buckets = ["example-legal", "example-legal-dr", "example-legal-cold"];
    let example = Example::new("legal", &environment, &buckets);
    for name in ["legal", "legal-dr", "legal-cold"] {
        example.key(&format!("{name}.key"), name);
    }
    example.init();
    example.run_lines(|line| line.starts_with("run"));
    assert_eq!((example.snapshots("main", "cases"), example.snapshots("main", "cache")), (3, 1));
    example.run_lines(|line| !line.starts_with("run"));
    // One a day is what is left of a day; the copy was made before.
    assert_eq!(
        (example.snapshots("main", "cases"), example.snapshots("elsewhere", "cases")),
        (1, 3)
    );
    for repository in ["main", "elsewhere"] {
        let restored = example.restored(repository, "cases").await;
        assert_eq!(counts(&restored, "legal", &collections).await, [100, 200, 300], "{repository}");
    }
    let files = example.place.path("cache");
    let target = files.to_str().unwrap();
    example.place.done(&[
        "restore",
        "latest",
        "-r",
        "elsewhere",
        "--job",
        "cache",
        "--target",
        target,
    ]);
    let copy = Redis::on(redis::Version::Redis7, Some(&files), &["--appendonly", "no"]);
    assert_eq!(copy.run(&["GET", "session:1"]).text(), "somebody");
    assert_eq!(
        example.noted("logger").matches("cases: success").count(),
        3,
        "{}",
        example.noted("logger")
    );
    let head =
        example.moto.s3.send(http::Method::HEAD, "/example-legal/config", &[], b"").succeeded();
    assert_eq!(head.header("x-amz-server-side-encryption"), "aws:kms");
}

/// `seeds/002`: all of MongoDB on a disk, a copy with credentials of its own in a bucket, and any
/// moment of a week.
#[tokio::test(flavor = "multi_thread")]
async fn needs_examples_of_trading() {
    let server = Mongod::start(Version::V6_0).await;
    let collections = ["users", "orders", "products", "cache"];
    fill(&server, "platform", &collections).await;
    let local = tempfile::tempdir().unwrap();
    let environment = [
        ("MONGODB_URI", server.uri().to_owned()),
        ("MONGODB_BACKUP_PATH", local.path().join("backups").to_str().unwrap().to_owned()),
        (
            "AWS_SHARED_CREDENTIALS_FILE",
            local.path().join("credentials").to_str().unwrap().to_owned(),
        ),
        ("ALERT_WEBHOOK_URL", "http://127.0.0.1:1/".to_owned()),
    ];
    let example = Example::new("trading", &environment, &["example-platform"]);
    let s3 = &example.moto.s3;
    let profile = format!(
        "[backup]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        s3.key, s3.secret
    );
    std::fs::write(local.path().join("credentials"), profile).unwrap();
    example.key("platform.key", "local");
    example.key("platform-offsite.key", "offsite");
    example.init();
    example.run_lines(|_| true);
    let capturing = example.place.spawn(&["logs", "follow", "platform"]);
    let orders = server.client.database("platform").collection::<Document>("orders");
    orders.insert_one(doc! { "_id": 1_000_000_i64 }).await.unwrap();
    let moment = super::now().to_string();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    orders.delete_many(doc! {}).await.unwrap();
    let target = Mongod::start(Version::V6_0).await;
    let restore =
        ["restore", "-r", "local", "--job", "platform", "--at", &moment, "--target", target.uri()];
    let started = std::time::Instant::now();
    while example.place.run(&[&restore[..], &["--dry-run"]].concat()).code != 0 {
        assert!(
            started.elapsed() < std::time::Duration::from_secs(60),
            "the log does not get there"
        );
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    example.place.done(&restore);
    assert_eq!(
        counts(&target, "platform", &collections).await,
        [100, 201, 300, 0],
        "before the orders were deleted"
    );
    capturing.stop();
    let restored = example.restored("offsite", "platform").await;
    assert_eq!(counts(&restored, "platform", &collections).await, [100, 200, 300, 0]);
    // The hook reports a failure.
    let told = example.place.run(&["run", "platform"]);
    assert!(told.code == 1 && example.noted("curl").contains("backup platform failed"), "{told}");
}

/// The storage classes of objects.
fn storage_classes(example: &Example, bucket: &str, prefix: &str) -> BTreeSet<String> {
    let s3 = &example.moto.s3;
    let query = format!("/{bucket}?list-type=2&prefix=main%2F{prefix}%2F");
    let listing = s3.send(http::Method::GET, &query, &[], b"").succeeded().text();
    let classes = listing.split("<StorageClass>").skip(1);
    classes.map(|class| class.split('<').next().unwrap().to_owned()).collect()
}

fn classes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `seeds/003`: MongoDB within a window, by tiers into regions and cold storage, with mail and text
/// messages by severity.
#[tokio::test(flavor = "multi_thread")]
async fn needs_examples_of_leads() {
    let server = Mongod::with_users(Version::V6_0).await;
    let roles = bson::bson!(["backup", "clusterMonitor"]);
    server.run("admin", doc! { "createUser": "backup", "pwd": "hush", "roles": roles }).await;
    let collections = ["contacts", "notes"];
    fill(&server, "leads", &collections).await;
    let service = Receiver::start(|got| match got.head.target() {
        "/emails" => Reply::status(200),
        _ => Reply::Status(201, "", "{\"sid\":\"SM1\"}".to_owned()),
    });
    let sent = |path: &str| {
        service.received().iter().filter(|got| got.head.target().starts_with(path)).count()
    };
    let (mails, texts) = (|| sent("/emails"), || sent("/2010-04-01/"));
    let environment = [
        ("LEADS_CLUSTER", format!("127.0.0.1:{}", server.port())),
        ("LEADS_PASSWORD", "hush".to_owned()),
        ("RESEND_API_KEY", "hush".to_owned()),
        ("TWILIO_TOKEN", "hush".to_owned()),
    ];
    let at = |hours: i64| {
        let time = now().to_zoned(jiff::tz::TimeZone::UTC) + jiff::Span::new().hours(hours);
        time.strftime("%H:%M").to_string()
    };
    let (window, url) = (format!("\"{}-{}\"", at(2), at(6)), service.url());
    let buckets = ["example-leads-east", "example-leads-europe", "example-leads-cold"];
    let example = Example::adapted("leads", &environment, &buckets, |text| {
        text.replace("mongodb+srv://", "mongodb://")
            .replace("/?authSource=admin", "/?directConnection=true&authSource=admin")
            .replace("\"02:00-06:00\"", &window)
            .replace("\"resend\"", &format!("\"resend\"\nallow_http = true\nurl = \"{url}\""))
            .replace("\"sms\"", &format!("\"sms\"\nallow_http = true\nurl = \"{url}\""))
    });
    for name in ["leads", "leads-europe", "leads-cold"] {
        example.key(&format!("{name}.key"), name);
    }
    example.init();
    // The window is closed.
    let closed = example.place.fails(5, &["run", "leads", "--type", "full"]);
    assert!(closed.contains("may start only within"), "{closed}");
    for line in example.lines.iter().filter(|line| line.starts_with("run")) {
        let words = line.split_whitespace().filter(|word| *word != "--force");
        let words: Vec<&str> = words.chain(["--force"]).collect();
        example.place.done(&words);
    }
    example.place.done(&["run", "leads-by-hand"]);
    example.run_lines(|line| line.starts_with("cleanup"));
    let found = |job: &str| example.snapshots("east", job);
    assert_eq!((found("leads"), found("leads-by-hand")), (2, 1));
    for (repository, job, expected) in [
        ("east", "leads", [100, 200]),
        ("europe", "leads-weekly", [100, 200]),
        ("east", "leads-by-hand", [100, 0]),
    ] {
        let restored = example.restored(repository, job).await;
        assert_eq!(counts(&restored, "leads", &collections).await, expected, "{job}");
    }
    let head = |bucket: &str| {
        let path = format!("/{bucket}/main/config");
        example.moto.s3.send(http::Method::HEAD, &path, &[], b"").succeeded()
    };
    assert_eq!(head("example-leads-east").header("x-amz-server-side-encryption"), "aws:kms");
    // Packs of directories stay readable.
    let cold = storage_classes(&example, "example-leads-cold", "data");
    assert_eq!(cold, classes(&["DEEP_ARCHIVE", "STANDARD"]));
    assert_eq!(storage_classes(&example, "example-leads-europe", "data"), classes(&["STANDARD"]));
    // Restores are announced by mail, which is no reason for a text message.
    let (before, silent) = (mails(), texts());
    assert!(before >= 2, "each restore is announced");
    assert_eq!(silent, 0);
    // A failure is a reason for both.
    let contacts = server.client.database("leads").collection::<Document>("contacts");
    contacts.delete_many(doc! {}).await.unwrap();
    let failed = example.place.run(&["run", "leads", "--force"]);
    assert_eq!(failed.code, 1, "{failed}");
    assert_eq!((mails(), texts()), (before + 1, 1));
    // Snapshots are verified by day, with a report for others.
    let report = example.place.path("report.json");
    let verify = ["verify", "--date", "today", "-r", "europe", "--report"];
    example.place.done(&[&verify[..], &[report.to_str().unwrap()]].concat());
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["sound"], true);
    let weekly = example.place.run(&["report", "--since", "7d", "--format", "json"]).text();
    let weekly: serde_json::Value = serde_json::from_str(&weekly).unwrap();
    let jobs = weekly["jobs"].as_array().unwrap();
    let leads = jobs.iter().find(|job| job["job"] == "leads").unwrap_or_else(|| panic!("{weekly}"));
    assert_eq!((&leads["succeeded"], &leads["failed"]), (&2.into(), &1.into()), "{leads}");
    assert_eq!(weekly["restores"].as_array().unwrap().len(), 3);
}
