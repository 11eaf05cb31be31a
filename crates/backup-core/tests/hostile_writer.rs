//! A writer whose credentials may only put tries to destroy or hide snapshots. The rules of its
//! store are those of `docs/policies/s3-writer.json`; its maintainer cleans up unattended.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::copy::{CopyOptions, copy};
use backup_core::crypto::{MasterKey, Passphrase};
use backup_core::format::{IndexFile, KeyFile, MarkedPack, Snapshot, open_json, seal_json};
use backup_core::id::SnapshotId;
use backup_core::maintenance::{PruneOptions, plan_cleanup, prune};
use backup_core::pipeline::{BackupOptions, backup, restore};
use backup_core::repository::{InitOptions, Repository, SnapshotFilter, SnapshotInfo};
use backup_core::retention::Policy;
use backup_core::sink::{Key, Operation, Prefix, Sink, SinkErrorKind, SinkOps, SinkResult};
use backup_core::source::{RestoreRequest, Selection, Source as _};
use backup_core::testing::{
    Data, FakeClock, Fault, FaultRule, FaultySink, MemorySink, ScriptedEntry, ScriptedSource,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const POLICY: &str = r#"{"last":3,"daily":7,"monthly":2}"#;
const DAYS: i64 = 11;

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// The source on a day.
fn source(day: i64) -> ScriptedSource {
    // Backups recognise a changed file by its size.
    let size = usize::try_from(day).unwrap() + 1;
    // Incompressible, and larger than the smallest size that is compared.
    let content = Data::generated(1_500_000, 7);
    ScriptedSource::named("a")
        .dir("/a")
        .with(ScriptedEntry::file("/a/large", content))
        .file("/a/day", day.to_string().repeat(size))
}

/// A repository with a snapshot of each of some days, and its clock one hour after the last one.
struct World {
    sink: MemorySink,
    clock: Arc<FakeClock>,
    passphrase: Passphrase,
    cx: Context,
    start: Timestamp,
    snapshots: Vec<SnapshotInfo>,
}

impl World {
    async fn make() -> Self {
        let clock = Arc::new(FakeClock::at("2026-03-01T12:00:00Z".parse().unwrap()));
        let sink = MemorySink::on_clock(clock.clone());
        let cx = Context { clock: clock.clone(), ..Context::silent() };
        let passphrase = Passphrase::generate();
        let (place, options): (Arc<dyn Sink>, _) = (Arc::new(sink.clone()), InitOptions::default());
        let owner = Repository::init(place, &passphrase, &options, &cx).await.unwrap();
        let options = BackupOptions { job: "a".to_owned(), ..BackupOptions::default() };
        for day in 0..DAYS {
            backup(&owner, &source(day), &options, &cx).await.unwrap();
            clock.advance(hours(if day + 1 < DAYS { 24 } else { 1 }));
        }
        let snapshots = owner.snapshots(&cx).await.unwrap().snapshots;
        let start = cx.clock.now();
        Self { sink, clock, passphrase, cx, start, snapshots }
    }

    async fn open(&self, sink: &MemorySink) -> Repository {
        Repository::open(Arc::new(sink.clone()), &self.passphrase).await.unwrap()
    }

    /// The maintainer on four days after an attack: cleans up as the daemon does, and prunes.
    async fn maintain(&self, sink: &MemorySink) {
        let repository = &self.open(sink).await;
        for days in [0, 1, 3, 30] {
            self.clock.set(self.start + hours(24 * days));
            let policy: Policy = serde_json::from_str(POLICY).unwrap();
            let filter = SnapshotFilter { job: Some("a".to_owned()), ..Default::default() };
            let zone = TimeZone::UTC;
            let now = repository.present(&self.cx).await.unwrap();
            let plan =
                plan_cleanup(repository, &filter, &policy, &zone, false, &now, &self.cx).await;
            // Damage stops a cleanup, and so do unusual snapshots.
            let Ok(plan) = plan else { continue };
            if !plan.anomalies.is_empty() {
                continue;
            }
            plan.execute(repository, &self.cx).await.unwrap();
            // A prune that refuses removes nothing.
            _ = prune(repository, &PruneOptions::default(), &self.cx).await;
        }
    }

    /// Names of the snapshots that can be listed.
    async fn listed(&self, sink: &MemorySink) -> BTreeSet<SnapshotId> {
        let list = self.open(sink).await.snapshots(&self.cx).await.unwrap();
        list.snapshots.into_iter().map(|info| info.id).collect()
    }

    /// Fails unless a snapshot can be restored and holds exactly the content of `source`.
    async fn assert_holds(&self, sink: &MemorySink, at: usize, source: &ScriptedSource) {
        let target = ScriptedSource::new();
        let index = self.open(sink).await.load_index(&self.cx).await.unwrap();
        let reader = index.snapshot(&self.snapshots[at]);
        restore(&reader, &target, &RestoreRequest::default(), &self.cx).await.unwrap();
        let original = source.digest(&self.cx, &Selection::all()).await.unwrap();
        assert_eq!(target.restored_digest(&Selection::all()), original);
    }

    /// A thief of the writer's credentials and key at a copy of the repository.
    async fn thief(&self) -> (MemorySink, Thief<'_>) {
        self.clock.set(self.start);
        let sink = self.sink.copy();
        let restricted = FaultySink::new(Arc::new(sink.clone()));
        let denied = |operation, prefix: &str| {
            let fault = Fault::Before(SinkErrorKind::PermissionDenied);
            FaultRule::new(fault).on(operation).under(prefix).forever()
        };
        for prefix in denied_by_policy() {
            restricted.add(denied(Operation::Put, &prefix));
            restricted.add(denied(Operation::Upload, &prefix));
        }
        restricted.add(denied(Operation::Get, "data"));
        let delete = Fault::Before(SinkErrorKind::PermissionDenied);
        restricted.add(FaultRule::new(delete).on(Operation::Delete).forever());
        let keys = sink.list_all(&Prefix::new("keys").unwrap()).await.unwrap();
        let file = KeyFile::from_json(&sink.get_bytes(&keys[0].key).await.unwrap()).unwrap();
        let key = file.unwrap_with(&self.passphrase).unwrap().expect("the pass phrase is right");
        (sink, Thief { world: self, sink: restricted, key })
    }
}

/// Prefixes below which the policy of a writer denies puts.
fn denied_by_policy() -> Vec<String> {
    let file = format!("{}/../../docs/policies/s3-writer.json", env!("CARGO_MANIFEST_DIR"));
    let policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let deny = statements.iter().find(|one| one["Effect"] == "Deny").expect("a denial");
    assert_eq!(deny["Action"], "s3:PutObject");
    let prefix = |resource: &serde_json::Value| {
        let path = resource.as_str().unwrap().strip_prefix("arn:aws:s3:::BUCKET/PREFIX/").unwrap();
        path.trim_end_matches("/*").to_owned()
    };
    deny["Resource"].as_array().unwrap().iter().map(prefix).collect()
}

struct Thief<'a> {
    world: &'a World,
    sink: FaultySink,
    key: MasterKey,
}

impl Thief<'_> {
    fn newest(&self) -> &SnapshotInfo {
        self.world.snapshots.last().unwrap()
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) -> SinkResult<()> {
        self.sink.put_bytes(&Key::new(key).unwrap(), bytes).await.map(drop)
    }

    async fn seal(&self, key: &str, value: serde_json::Value) -> SinkResult<()> {
        self.put(key, seal_json(&self.key, &value).unwrap()).await
    }

    /// Stores a false snapshot with a receipt of its own time.
    async fn fake(&self, change: impl FnOnce(&mut Snapshot)) -> SnapshotId {
        let mut snapshot = Snapshot::clone(&self.newest().snapshot);
        change(&mut snapshot);
        let sealed = seal_json(&self.key, &snapshot).unwrap();
        let id = SnapshotId::digest(&sealed);
        self.put(&format!("snapshots/{id}"), sealed).await.unwrap();
        let receipt = serde_json::json!({ "received": snapshot.time });
        self.seal(&format!("x-receipts/snapshots/{id}"), receipt).await.unwrap();
        id
    }

    /// Stores false snapshots after each real one that is older than the 48 hours within which the
    /// store confirms a date: in the same day, each with the same change.
    async fn shadow(&self, count: i64, change: impl Fn(&mut Snapshot)) {
        let limit = self.world.start - hours(48);
        let is_older = |real: &&SnapshotInfo| real.snapshot.time < limit;
        for real in self.world.snapshots.iter().filter(is_older) {
            for minutes in 1..=count {
                self.fake(|fake| {
                    fake.time = real.snapshot.time + SignedDuration::from_mins(minutes);
                    fake.summary.clone_from(&real.snapshot.summary);
                    change(fake);
                })
                .await;
            }
        }
    }
}

/// Objects of a kind are deleted.
async fn delete(thief: &Thief<'_>, prefix: &str) {
    let mut objects = thief.sink.list_all(&Prefix::root()).await.unwrap();
    objects.retain(|meta| meta.key.as_str().starts_with(prefix));
    assert!(!objects.is_empty(), "{prefix}");
    for meta in objects {
        let error = thief.sink.delete_one(&meta.key).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{}", meta.key);
    }
}

/// Objects that decide about protection are written.
async fn write_protection(thief: &Thief<'_>, prefix: &str) {
    let (newest, oldest) = (thief.newest().id, thief.world.snapshots[0].id);
    let long_ago = "2000-01-01T00:00:00Z";
    let time = thief.world.start - hours(24 * 5);
    let fake = thief.fake(|fake| fake.time = time).await;
    let (name, value) = match prefix {
        "x-adopted" => (fake.to_hex(), serde_json::json!({ "time": time, "adopted": time })),
        "x-holds" => (
            newest.to_hex(),
            serde_json::json!({ "until": long_ago, "reason": "", "since": long_ago }),
        ),
        "x-proofs" => {
            (fake.to_hex(), serde_json::json!({ "verified": thief.world.start, "level": "deep" }))
        }
        "x-forgotten" => (
            newest.to_hex(),
            serde_json::json!({ "forgotten": long_ago, "received": null, "object": "" }),
        ),
        _ => (oldest.to_hex(), serde_json::json!({ "minimum_ages": [] })),
    };
    let is_file = prefix.contains("config");
    let key = if is_file { prefix.to_owned() } else { format!("{prefix}/{name}") };
    let error = thief.seal(&key, value).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{key}");
}

const FAKES: &[&str] = &[
    "dated back, one after each real one",
    "dated back, forty after each real one",
    "dated back, with a run that ends now",
    "dated back, with a run that ends in the future",
    "dated back, of type log",
    "dated back, of another type and tier",
    "dated back, as the parts of the job",
    "dated back, with real parents",
    "dated back, exactly at the times of the real ones",
    "dated in the far future",
    "dated three days ahead",
    "twenty, dated now",
    "twenty, spread over the days that the store confirms",
    "dated now, of small size",
    "dated now, without a size",
    "dated now, one of the usual size",
];

async fn fake(thief: &Thief<'_>, attack: &str) {
    let start = thief.world.start;
    let summary = |fake: &mut Snapshot, end: Timestamp| {
        fake.summary.as_mut().unwrap().backup_end = end;
    };
    match attack {
        "dated back, one after each real one" => thief.shadow(1, |_| {}).await,
        "dated back, forty after each real one" => thief.shadow(40, |_| {}).await,
        "dated back, with a run that ends now" => {
            thief.shadow(1, |fake| summary(fake, start)).await;
        }
        "dated back, with a run that ends in the future" => {
            thief.shadow(1, |fake| summary(fake, start + hours(24 * 400))).await;
        }
        "dated back, of type log" => {
            thief.shadow(1, |fake| fake.tags = vec!["job=a".into(), "type=log".into()]).await;
        }
        "dated back, of another type and tier" => {
            let tags = ["job=a", "source=scripted", "type=differential", "tier=other"];
            thief.shadow(1, |fake| fake.tags = tags.map(str::to_owned).to_vec()).await;
        }
        "dated back, as the parts of the job" => {
            thief.shadow(1, |fake| fake.x_part = Some(Default::default())).await;
        }
        "dated back, with real parents" => {
            let parent = thief.newest().id;
            thief.shadow(1, |fake| fake.parent = Some(parent)).await;
        }
        "dated back, exactly at the times of the real ones" => {
            thief.shadow(1, |fake| fake.time -= SignedDuration::from_mins(1)).await;
        }
        "dated in the far future" => {
            for year in 2090..2099 {
                let time = format!("{year}-01-01T00:00:00Z").parse().unwrap();
                thief.fake(|fake| fake.time = time).await;
            }
        }
        "dated three days ahead" => {
            for at in 0..10 {
                thief.fake(|fake| fake.time = start + hours(73 + at)).await;
            }
        }
        "twenty, dated now" => {
            for at in 0..20 {
                thief.fake(|fake| fake.time = start - SignedDuration::from_secs(at)).await;
            }
        }
        "twenty, spread over the days that the store confirms" => {
            for at in 0..20 {
                thief.fake(|fake| fake.time = start - hours(2 * at)).await;
            }
        }
        "dated now, of small size" => {
            let small = |fake: &mut Snapshot| {
                fake.time = start;
                fake.summary.as_mut().unwrap().total_bytes_processed = 10;
            };
            thief.fake(small).await;
        }
        "dated now, without a size" => {
            let unsized_one = |fake: &mut Snapshot| (fake.time, fake.summary) = (start, None);
            thief.fake(unsized_one).await;
        }
        "dated now, one of the usual size" => {
            thief.fake(|fake| fake.time = start).await;
        }
        other => panic!("{other}"),
    }
}

const OVERWRITES: &[&str] = &[
    "real snapshots are put again, and false ones are dated back",
    "receipts become unreadable",
    "receipts claim another time",
    "a snapshot becomes unreadable",
    "an index object marks all packs",
    "names that differ in case",
    "old locks and sessions",
];

/// Returns the snapshots whose own objects were overwritten: only a store that keeps versions has
/// them still.
async fn overwrite(thief: &Thief<'_>, attack: &str) -> Vec<SnapshotId> {
    let real = &thief.world.snapshots;
    match attack {
        "real snapshots are put again, and false ones are dated back" => {
            for info in real {
                let key = format!("snapshots/{}", info.id);
                let bytes = thief.sink.get_bytes(&Key::new(&*key).unwrap()).await.unwrap();
                thief.put(&key, bytes.to_vec()).await.unwrap();
            }
            thief.shadow(2, |_| {}).await;
        }
        "receipts become unreadable" => {
            for info in real {
                let key = format!("x-receipts/snapshots/{}", info.id);
                thief.put(&key, b"damaged".to_vec()).await.unwrap();
            }
            thief.shadow(1, |_| {}).await;
        }
        "receipts claim another time" => {
            for (info, year) in real.iter().zip(["2000", "2099"].iter().cycle()) {
                let key = format!("x-receipts/snapshots/{}", info.id);
                let received = format!("{year}-01-01T00:00:00Z");
                thief.seal(&key, serde_json::json!({ "received": received })).await.unwrap();
            }
        }
        "a snapshot becomes unreadable" => {
            let id = thief.newest().id;
            thief.put(&format!("snapshots/{id}"), b"damaged".to_vec()).await.unwrap();
            return vec![id];
        }
        "an index object marks all packs" => {
            let mut marks = IndexFile::default();
            for meta in thief.sink.list_all(&Prefix::new("index").unwrap()).await.unwrap() {
                let sealed = thief.sink.get_bytes(&meta.key).await.unwrap();
                let file: IndexFile = open_json(&thief.key, &sealed).unwrap();
                let time = Some(thief.world.start - hours(24 * 90));
                marks.packs_to_delete.extend(file.packs.into_iter().map(|pack| MarkedPack {
                    id: pack.id,
                    blobs: pack.blobs,
                    time,
                    size: None,
                }));
            }
            assert!(!marks.packs_to_delete.is_empty());
            let sealed = seal_json(&thief.key, &marks).unwrap();
            let id = SnapshotId::digest(&sealed);
            thief.put(&format!("index/{id}"), sealed).await.unwrap();
        }
        "names that differ in case" => {
            for info in real {
                let name = info.id.to_hex().to_uppercase();
                thief.put(&format!("snapshots/{name}"), b"damaged".to_vec()).await.unwrap();
            }
        }
        "old locks and sessions" => {
            for name in ["locks/aa", "x-sessions/aa-0000000001", "x-leases/prune/ffffffffffffffff"]
            {
                _ = thief.put(name, b"damaged".to_vec()).await;
            }
        }
        other => panic!("{other}"),
    }
    Vec::new()
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_that_may_only_put_destroys_and_hides_no_snapshot() {
    let world = World::make().await;
    // Without an attack the policy removes snapshots, and keeps these.
    let undisturbed = world.sink.copy();
    world.maintain(&undisturbed).await;
    let expected = world.listed(&undisturbed).await;
    assert_eq!(expected.len(), 7, "a policy removes old snapshots: {expected:?}");

    let deletions =
        ["config", "keys/", "snapshots/", "index/", "data/", "x-receipts/", "x-adopted/"];
    let protections = denied_by_policy();
    let mut attacks: Vec<(&str, &str)> = deletions.map(|prefix| ("delete", prefix)).to_vec();
    attacks.extend(protections.iter().map(|prefix| ("protection", prefix.as_str())));
    attacks.extend(FAKES.iter().map(|attack| ("fake", *attack)));
    attacks.extend(OVERWRITES.iter().map(|attack| ("overwrite", *attack)));
    assert!(attacks.len() >= 30, "{}", attacks.len());
    for (kind, attack) in attacks {
        let (sink, thief) = world.thief().await;
        let mut lost = Vec::new();
        match kind {
            "delete" => delete(&thief, attack).await,
            "protection" => write_protection(&thief, attack).await,
            "fake" => fake(&thief, attack).await,
            _ => lost = overwrite(&thief, attack).await,
        }
        world.maintain(&sink).await;
        let listed = world.listed(&sink).await;
        let missing: Vec<&SnapshotId> =
            expected.iter().filter(|id| !listed.contains(*id) && !lost.contains(id)).collect();
        assert!(missing.is_empty(), "{kind}, {attack}: {missing:?} of {expected:?}");
        // They are not only listed: the oldest one can be restored.
        let oldest = world.snapshots.iter().position(|info| expected.contains(&info.id)).unwrap();
        let day = i64::try_from(oldest).unwrap();
        world.assert_holds(&sink, oldest, &source(day)).await;
    }
}

/// The attacks above succeed where the store's time does not count: the test can fail.
#[tokio::test(flavor = "multi_thread")]
async fn adoption_lets_snapshots_dated_back_replace_real_ones() {
    let world = World::make().await;
    let (sink, thief) = world.thief().await;
    thief.shadow(1, |_| {}).await;
    let repository = world.open(&sink).await;
    let policy: Policy = serde_json::from_str(r#"{"daily":7}"#).unwrap();
    let (filter, zone) = (SnapshotFilter::default(), TimeZone::UTC);
    let now = repository.present(&world.cx).await.unwrap();
    let plan = |adopt| plan_cleanup(&repository, &filter, &policy, &zone, adopt, &now, &world.cx);
    let real = |dropped: Vec<SnapshotId>| {
        world.snapshots.iter().filter(|info| dropped.contains(&info.id)).count()
    };
    assert_eq!(real(plan(false).await.unwrap().dropped()), 4, "as the policy says");
    let adopting = plan(true).await.unwrap();
    assert_eq!(adopting.adopted.len(), 9, "the plan names what it adopts");
    assert_eq!(real(adopting.dropped()), 9, "all that are older than 48 hours");
}

/// Real snapshots that the policy removes, by their position.
fn dropped(world: &World, names: &[SnapshotId], dropped: &[SnapshotId]) -> Vec<usize> {
    let is_dropped = |at: &usize| dropped.contains(&names[*at]);
    (0..world.snapshots.len()).filter(is_dropped).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_and_copied_repositories_lose_old_snapshots_by_policy() {
    let world = World::make().await;
    world.clock.set(world.start + hours(24 * 20));
    let policy: Policy = serde_json::from_str(r#"{"daily":7}"#).unwrap();
    let (filter, zone) = (SnapshotFilter::default(), TimeZone::UTC);
    let names: Vec<SnapshotId> = world.snapshots.iter().map(|info| info.id).collect();

    // Another program moves the objects: the store has new times for all of them.
    let moved = MemorySink::on_clock(world.clock.clone());
    for (key, bytes) in world.sink.objects() {
        moved.put_bytes(&key, bytes).await.unwrap();
    }
    let moved = world.open(&moved).await;
    let now = moved.present(&world.cx).await.unwrap();
    let plan = |repository, adopt| {
        plan_cleanup(repository, &filter, &policy, &zone, adopt, &now, &world.cx)
    };
    let before = plan(&moved, false).await.unwrap();
    assert_eq!((before.dropped().len(), before.disputed().len()), (0, 11));
    let adopting = plan(&moved, true).await.unwrap();
    assert_eq!(dropped(&world, &names, &adopting.dropped()), [0, 1, 2, 3]);
    adopting.execute(&moved, &world.cx).await.unwrap();
    assert_eq!(moved.snapshots(&world.cx).await.unwrap().snapshots.len(), 7);
    let again = plan(&moved, false).await.unwrap();
    assert_eq!((again.dropped().len(), again.disputed().len()), (0, 0));
    // A forgotten snapshot comes back with its time.
    moved.undo_forget(&names[3..4], "test", &world.cx).await.unwrap();
    assert_eq!(plan(&moved, false).await.unwrap().dropped(), names[3..4]);

    // A copy vouches for the times of its source, but for those that are disputed there.
    let (sink, thief) = world.thief().await;
    let time = world.snapshots[2].snapshot.time + hours(1);
    // Its run claims to have begun days ago, and ends now: it does not count for its own time.
    let fake = thief.fake(|fake| fake.time = time).await;
    world.clock.set(world.start + hours(24 * 20));
    let from = world.open(&sink).await;
    let to: Arc<dyn Sink> = Arc::new(MemorySink::on_clock(world.clock.clone()));
    let options = InitOptions::default();
    let to = Repository::init(to, &world.passphrase, &options, &world.cx).await.unwrap();
    let list = from.snapshots(&world.cx).await.unwrap().snapshots;
    let indexed = from.load_index(&world.cx).await.unwrap();
    let report = copy(&indexed, &list, &to, &CopyOptions::default(), &world.cx).await.unwrap();
    let copies: Vec<SnapshotId> = names
        .iter()
        .chain([&fake])
        .map(|id| report.copied.iter().find(|copy| copy.from == *id).unwrap().to.unwrap())
        .collect();
    let copied = plan(&to, false).await.unwrap();
    assert_eq!(copied.disputed(), copies[11..]);
    assert_eq!(dropped(&world, &copies, &copied.dropped()), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_cleanup_adopts_snapshots_of_an_older_repository() {
    let world = World::make().await;
    world.clock.set(world.start + hours(24 * 20));
    // Without the mark, as an earlier version or stock restic leaves it.
    let old = MemorySink::on_clock(world.clock.clone());
    for (key, bytes) in world.sink.objects() {
        if !key.as_str().starts_with("x-adopted/") {
            old.put_bytes(&key, bytes).await.unwrap();
        }
    }
    let repository = world.open(&old).await;
    let policy: Policy = serde_json::from_str(r#"{"daily":7}"#).unwrap();
    let (filter, zone) = (SnapshotFilter::default(), TimeZone::UTC);
    let now = repository.present(&world.cx).await.unwrap();
    let plan = || plan_cleanup(&repository, &filter, &policy, &zone, false, &now, &world.cx);
    let first = plan().await.unwrap();
    assert_eq!((first.is_first, first.adopted.len(), first.dropped().len()), (true, 11, 4));
    first.execute(&repository, &world.cx).await.unwrap();
    // A second time nothing is adopted without a request.
    let newest = world.snapshots.last().unwrap();
    old.remove(&Key::new(format!("x-adopted/{}", newest.id)).unwrap());
    let second = plan().await.unwrap();
    assert_eq!((second.is_first, second.adopted.len(), second.dropped().len()), (false, 0, 0));
    assert_eq!(second.disputed(), [newest.id]);
}
