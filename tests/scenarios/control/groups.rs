//! A row in PostgreSQL, then an event in MongoDB, then a counter in Redis, again and again: at
//! whatever moment the group is restored, no event is without its row, and no count without its
//! event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::doc;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use tokio::task::JoinHandle;

use super::{Place, now};
use crate::support::long::long;
use crate::support::mongod::{self, Mongod};
use crate::support::noise::rng;
use crate::support::postgres::{self, Postgres, hand_over_all};
use crate::support::redis::{self, Redis};
use crate::support::running::Running;

const POSTGRES: postgres::Version = postgres::Version::V17;
const REDIS: redis::Version = redis::Version::Redis8;

/// Two repositories, as such databases deserve: one failing must not take the other with it.
pub(super) const CONFIG: &str = r#"
    [repositories.first]
    url = "ROOM/first"
    [repositories.second]
    url = "ROOM/second"

    [sources.crm]
    kind = "postgres"
    url = "${CRM}"
    fast_checkpoint = true
    [sources.events]
    kind = "mongodb"
    url = "${EVENTS}"
    [sources.cache]
    kind = "redis"
    url = "${CACHE}"
    [sources.uploads]
    kind = "files"
    paths = ["ROOM/uploads"]

    [jobs.crm]
    source = "crm"
    repository = "first"
    logs.flush_after = "200ms"
    [jobs.events]
    source = "events"
    repository = "second"
    logs.flush_after = "200ms"
    [jobs.cache]
    source = "cache"
    repository = "second"
    logs.flush_after = "200ms"
    [jobs.uploads]
    source = "uploads"
    repository = "first"

    [groups.platform]
    jobs = ["crm", "events", "cache", "uploads"]
    parallel = 3
    [groups.platform.targets]
    uploads = "ROOM/restored/uploads"
"#;

pub(super) struct Servers {
    crm: Postgres,
    events: Mongod,
    cache: Redis,
}

/// What was written, and when it was confirmed.
pub(super) type Written = Vec<(i64, Timestamp)>;

impl Servers {
    pub(super) async fn start() -> Self {
        let crm = Postgres::with(POSTGRES, &[], &["wal_level=replica"]).await;
        crm.run("CREATE TABLE rows (id bigint)").await;
        let events = Mongod::start(mongod::Version::V6_0).await;
        events.run("shop", doc! { "create": "other" }).await;
        Self { crm, events, cache: Redis::start(REDIS) }
    }

    /// The variables by which the configuration knows them.
    pub(super) fn environment(&self) -> [(&'static str, String); 3] {
        let (crm, events, cache) =
            (self.crm.uri(), self.events.uri().to_owned(), self.cache.address());
        [("CRM", crm), ("EVENTS", events), ("CACHE", cache)]
    }

    /// Writes in order until it is told to end.
    pub(super) async fn write(&self, end: Arc<AtomicBool>) -> JoinHandle<Written> {
        let (crm, events) =
            (self.crm.client().await, self.events.client.database("shop").collection("events"));
        let mut cache = self.cache.client();
        tokio::spawn(async move {
            let mut written = Vec::new();
            for number in 1_i64.. {
                crm.execute("INSERT INTO rows VALUES ($1)", &[&number]).await.unwrap();
                events.insert_one(doc! { "_id": number }).await.unwrap();
                cache.ok(&["SET", "counter", &number.to_string()]);
                written.push((number, now()));
                if end.load(Ordering::Relaxed) {
                    break;
                }
                // Now close together, now apart.
                if number % 7 == 0 {
                    tokio::time::sleep(Duration::from_millis(number.unsigned_abs() % 50)).await;
                }
            }
            written
        })
    }
}

/// Restores the group, and returns the numbers that its members have got to.
pub(super) async fn restored(place: &Place, at: &str, number: usize) -> [i64; 3] {
    let target = Mongod::start(mongod::Version::V6_0).await;
    let (crm, cache) =
        (place.path(&format!("crm-{number}")), place.path(&format!("cache-{number}")));
    let to = |job: &str, target: &str| format!("--target={job}={target}");
    let targets = [
        to("crm", crm.to_str().unwrap()),
        to("events", target.uri()),
        to("cache", cache.to_str().unwrap()),
        to("uploads", place.path(&format!("uploads-{number}")).to_str().unwrap()),
    ];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let told = place.done(&[&["restore", "platform", "--at", at], &targets[..]].concat());
    assert!(told.contains("Group platform restored"), "{told}");
    assert!(place.path(&format!("uploads-{number}")).exists());

    hand_over_all(&crm);
    let rows = Postgres::recovered(POSTGRES, &crm, &[]).await;
    let counted =
        rows.value("SELECT count(*)::text || ' ' || coalesce(max(id), 0) FROM rows").await;
    let (count, rows) = counted.split_once(' ').unwrap();
    assert_eq!(count, rows, "nothing is missing between");
    let events = target.client.database("shop").collection::<bson::Document>("events");
    let count = events.count_documents(doc! {}).await.unwrap();
    let last = events.find_one(doc! {}).sort(doc! { "_id": -1 }).await.unwrap();
    let last = last.map_or(0, |event| event.get_i64("_id").unwrap());
    assert_eq!(i64::try_from(count).unwrap(), last, "nothing is missing between");
    // Without commands behind the dump there is no append-only file, and a server that is to have
    // one would begin with nothing.
    let appends = if cache.join("appendonlydir").exists() { "yes" } else { "no" };
    let cache = Redis::on(REDIS, Some(&cache), &["--appendonly", appends]);
    let counter = cache.client().run(&["GET", "counter"]).unwrap();
    let counter = if counter == redis::Answer::Nil { 0 } else { counter.text().parse().unwrap() };
    [rows.parse().unwrap(), last, counter]
}

/// The order holds, and all is there that was confirmed before.
pub(super) fn require_order(at: Timestamp, [rows, events, counter]: [i64; 3], written: &Written) {
    let until = |moment: Timestamp| written.iter().take_while(|(_, time)| *time <= moment).count();
    let (confirmed, begun) =
        (until(at) as i64, until(at + SignedDuration::from_millis(1)) as i64 + 1);
    let found = format!(
        "at {at}: {rows} rows, {events} events, count {counter}, and {confirmed} to {begun} were \
         written; around it: {:?}",
        &written[(confirmed as usize).saturating_sub(3)..written.len().min(confirmed as usize + 5)],
    );
    assert!(counter <= events && events <= rows && rows <= events + 1, "{found}");
    assert!(confirmed <= events && rows <= begun, "{found}");
    // What Redis sent was received a moment later.
    let surely = until(at - SignedDuration::from_secs(5)) as i64;
    assert!(surely <= counter, "{found}; {surely} were received");
}

fn refusals(place: &Place, before: Timestamp) {
    let some = place.path("never");
    let to = |job: &str| format!("--target={job}={}", some.join(job).display());
    let targets = ["crm", "cache"].map(to);
    let [crm, cache] = [&*targets[0], &*targets[1]];
    let (before, events) =
        (before.to_string(), "--target=events=mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500");
    let restore = ["restore", "platform", "--at"];
    let lacks = place.fails(2, &[&restore[..], &["latest", crm, cache]].concat());
    assert!(lacks.contains("job events") && lacks.contains("[groups.platform.targets]"), "{lacks}");
    place.fails(2, &[&restore[..], &["latest", crm, cache, events, "--only", "x"]].concat());
    place.fails(2, &[&restore[..], &["latest", crm, cache, events, "--target=/x"]].concat());
    place.fails(
        2,
        &[&restore[..], &["latest", crm, cache, events, "--defer-ttl", "--no-owner"]].concat(),
    );
    place.fails(2, &[&restore[..], &["7@8", crm, cache, events]].concat());
    // Nobody can be restored to it, and all of them say so.
    let early = place.fails(1, &[&restore[..], &[&before, crm, cache, events]].concat());
    assert!(early.contains("nothing was restored") && early.contains("job cache"), "{early}");
    // The others could be.
    place.fails(1, &[&restore[..], &["latest", crm, cache, events]].concat());
    assert!(!some.exists() && !place.path("restored").exists(), "something was written");
}

fn capture(place: &Place) -> [Running; 3] {
    ["crm", "events", "cache"].map(|job| place.spawn(&["logs", "follow", job]))
}

/// The catalog has the runs of the group with their moments.
fn remembered(place: &Place) {
    let runs = place.done(&["status", "--runs", "--json"]);
    assert!(runs.contains("\"what\":\"group\"") && runs.contains("\"moment\":\"20"), "{runs}");
    let log = place.done(&["status", "--runs"]);
    assert!(log.contains("platform"), "{log}");
}

/// The rate of writes to a member.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Load {
    Idle,
    /// Fifty times a second.
    Busy,
    /// Ten times at once, then not for a second.
    Bursts,
}

/// A pattern for each combination of loads, and the mixed ones a second time.
fn patterns() -> Vec<[Load; 3]> {
    const LOADS: [Load; 3] = [Load::Idle, Load::Busy, Load::Bursts];
    let all = LOADS.into_iter().flat_map(|crm| {
        LOADS.into_iter().flat_map(move |events| LOADS.map(|cache| [crm, events, cache]))
    });
    let [idle, busy, bursts] = LOADS;
    all.chain([[busy, idle, bursts], [bursts, busy, idle], [idle, bursts, busy]]).collect()
}

impl Servers {
    /// Writes numbers from `next` on to one member until `end` is set.
    async fn write_to(
        &self,
        member: usize,
        load: Load,
        next: i64,
        end: Arc<AtomicBool>,
    ) -> JoinHandle<Written> {
        let crm = self.crm.client().await;
        let events = self.events.client.database("shop").collection("events");
        let mut cache = self.cache.client();
        tokio::spawn(async move {
            let mut written = Vec::new();
            for number in next.. {
                if load == Load::Idle || end.load(Ordering::Relaxed) {
                    break;
                }
                match member {
                    0 => _ = crm.execute("INSERT INTO rows VALUES ($1)", &[&number]).await.unwrap(),
                    1 => _ = events.insert_one(doc! { "_id": number }).await.unwrap(),
                    _ => _ = cache.ok(&["SET", "counter", &number.to_string()]),
                }
                written.push((number, now()));
                match load {
                    Load::Bursts if number % 10 == 0 => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Load::Bursts => {}
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            written
        })
    }
}

/// The last number that was confirmed at a moment, after `before` earlier ones.
fn confirmed(written: &Written, before: i64, at: Timestamp) -> i64 {
    written.iter().take_while(|(_, time)| *time <= at).last().map_or(before, |(number, _)| *number)
}

/// The members' files, and both repositories.
fn prepared(servers: &Servers) -> Place {
    let place = Place::new(CONFIG, &servers.environment());
    std::fs::create_dir(place.path("uploads")).unwrap();
    std::fs::write(place.path("uploads/picture"), "a picture").unwrap();
    for repository in ["first", "second"] {
        place.done(&["init", "-r", repository]);
    }
    place
}

mod needs_platform {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_a_group_is_restored_to_one_moment() {
        let servers = Servers::start().await;
        let place = prepared(&servers);
        let before = now();
        let end = Arc::new(AtomicBool::new(false));
        let writing = servers.write(Arc::clone(&end)).await;
        let told = place.done(&["run", "platform"]);
        assert!(
            told.contains("Group platform: 4 of 4 jobs backed up") && told.contains("Moments from"),
            "{told}"
        );
        let capturing = capture(&place);
        let backed_up = now();
        tokio::time::sleep(Duration::from_secs(if long() { 20 } else { 8 })).await;
        // From another base, for some of the moments. That of a part is none.
        place.done(&["run", "events", "--include", "shop.other"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        place.done(&["run", "platform"]);
        remembered(&place);
        tokio::time::sleep(Duration::from_secs(if long() { 10 } else { 4 })).await;
        let last = now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        end.store(true, Ordering::Relaxed);
        let written = writing.await.unwrap();

        let never = place.path("never");
        let to = |job: &str| format!("--target={job}={}", never.join(job).display());
        let targets = [to("crm"), format!("--target=events={}", servers.events.uri()), to("cache")];
        let mut targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        targets.push("--if-exists=merge");
        let (started, last_moment) = (Instant::now(), last.to_string());
        loop {
            let done = place.run(
                &[&["restore", "platform", "--at", &last_moment, "--dry-run"], &targets[..]]
                    .concat(),
            );
            if done.code == 0 {
                break;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the logs do not get there: {done}"
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        // What was rolled up is read in another way.
        capturing.into_iter().for_each(Running::stop);
        place.done(&["logs", "roll-up", "events"]);
        refusals(&place, before);

        let seed = 7;
        let mut random = rng(seed);
        let span = last.duration_since(backed_up).as_micros();
        let moments = if long() { 10 } else { 3 };
        for number in 0..moments {
            let at = backed_up
                + SignedDuration::from_micros(random.random_range(0..i64::try_from(span).unwrap()));
            let found = restored(&place, &at.to_string(), number).await;
            require_order(at, found, &written);
        }
        let [rows, events, counter] = restored(&place, "latest", moments).await;
        assert!(
            counter <= events && events <= rows && events > 0,
            "latest: {rows} rows, {events} events, count {counter}"
        );
    }

    /// Waits until the group can be restored to `moment`.
    async fn reached(place: &Place, targets: &[&str], moment: Timestamp) {
        let (started, moment) = (Instant::now(), moment.to_string());
        loop {
            let done = place
                .run(&[&["restore", "platform", "--at", &moment, "--dry-run"], targets].concat());
            if done.code == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(150), "not at {moment}: {done}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Three patterns: all members idle, one busy, one without a capturer. The latest moment of the
    /// group includes the last change of each idle member.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_latest_moment_includes_the_last_change_of_idle_members() {
        let servers = Servers::start().await;
        let place = prepared(&servers);
        place.done(&["run", "platform"]);
        let [crm, events, cache] = capture(&place);
        let never = place.path("never");
        let to = |job: &str| format!("--target={job}={}", never.join(job).display());
        let targets = [to("crm"), format!("--target=events={}", servers.events.uri()), to("cache")];
        let mut targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        targets.push("--if-exists=merge");

        // All are idle.
        let end = Arc::new(AtomicBool::new(false));
        let writing = servers.write(Arc::clone(&end)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        end.store(true, Ordering::Relaxed);
        let last = writing.await.unwrap().last().unwrap().0;
        reached(&place, &targets, now() + SignedDuration::from_secs(1)).await;
        assert_eq!(restored(&place, "latest", 0).await, [last; 3], "all are idle");

        // PostgreSQL is busy, the others are still idle.
        let (client, end) = (servers.crm.client().await, Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&end);
        let busy = tokio::spawn(async move {
            let mut rows = Vec::new();
            for number in last + 1.. {
                client.execute("INSERT INTO rows VALUES ($1)", &[&number]).await.unwrap();
                rows.push((number, now()));
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            rows
        });
        let moment = now() + SignedDuration::from_secs(3);
        reached(&place, &targets, moment).await;
        let [rows, found_events, counter] = restored(&place, "latest", 1).await;
        assert_eq!([found_events, counter], [last; 2], "the others are idle");

        // Redis has no capturer any more.
        cache.kill();
        tokio::time::sleep(Duration::from_secs(100)).await;
        end.store(true, Ordering::Relaxed);
        let written = busy.await.unwrap();
        let confirmed = written.iter().filter(|(_, time)| *time < moment).count() as i64;
        assert!(rows >= last + confirmed, "{rows} rows, and {confirmed} more than {last} before");
        crm.stop();
        events.stop();
        let latest = [&["restore", "platform"], &targets[..]].concat();
        let plan = place.done(&[&latest[..], &["--dry-run"]].concat());
        assert!(plan.contains("Job cache limits this moment") && plan.contains("crm"), "{plan}");
        // Into empty targets: only the loss has to be confirmed, and there is no terminal.
        let target = Mongod::start(mongod::Version::V6_0).await;
        let into = [to("crm"), format!("--target=events={}", target.uri()), to("cache")];
        let into: Vec<&str> = into.iter().map(String::as_str).collect();
        let latest = [&["restore", "platform"], &into[..]].concat();
        let refused = place.run(&latest);
        let text = format!("{}{}", refused.text(), refused.stderr);
        assert!(refused.code != 0 && text.contains("--yes"), "{text}");
        assert!(!never.exists(), "something was written");
        let done = place.done(&[&latest[..], &["--yes"]].concat());
        assert!(done.contains("Group platform restored"), "{done}");
    }

    /// Thirty patterns of idle, busy and bursting members, each with its latest moment, while it is
    /// written to, and with a random one.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "half an hour: scripts/test --long"]
    async fn heavy_moments_of_thirty_patterns_are_exact() {
        let servers = Servers::start().await;
        let place = prepared(&servers);
        let end = Arc::new(AtomicBool::new(false));
        let writing = servers.write(Arc::clone(&end)).await;
        end.store(true, Ordering::Relaxed);
        let mut last = [writing.await.unwrap().last().unwrap().0; 3];
        place.done(&["run", "platform"]);
        let capturing = capture(&place);
        let never = place.path("never");
        let to = |job: &str| format!("--target={job}={}", never.join(job).display());
        let targets = [to("crm"), format!("--target=events={}", servers.events.uri()), to("cache")];
        let mut targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        targets.push("--if-exists=merge");
        let (seed, patterns) = (11, patterns());
        let mut random = rng(seed);
        assert_eq!(patterns.len(), 30);
        for (number, loads) in patterns.into_iter().enumerate() {
            // The capturer has received the last changes of the pattern before.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let (began, end) = (now(), Arc::new(AtomicBool::new(false)));
            let mut writing = Vec::new();
            for member in 0..3 {
                let end = Arc::clone(&end);
                let next = last[member] + 1;
                writing.push(servers.write_to(member, loads[member], next, end).await);
            }
            tokio::time::sleep(Duration::from_secs(6)).await;
            let moment = now();
            reached(&place, &targets, moment).await;
            let latest = restored(&place, "latest", 2 * number).await;
            let span = moment.duration_since(began).as_micros();
            let at = began
                + SignedDuration::from_micros(random.random_range(0..i64::try_from(span).unwrap()));
            let found = restored(&place, &at.to_string(), 2 * number + 1).await;
            end.store(true, Ordering::Relaxed);
            for (member, writing) in writing.into_iter().enumerate() {
                let (written, before) = (writing.await.unwrap(), last[member]);
                let by = |time: Timestamp| confirmed(&written, before, time);
                last[member] = by(now());
                // Redis receives a change a moment before the capturer does.
                let slack = SignedDuration::from_secs(if member == 2 { 5 } else { 0 });
                let shown = format!(
                    "seed {seed}, pattern {number} {loads:?}, member {member}: {latest:?} at the \
                     latest moment, {found:?} at {at}, {before} to {} written",
                    last[member]
                );
                assert!(by(moment - slack) <= latest[member], "{shown}");
                assert!(latest[member] <= last[member], "{shown}");
                assert!(by(at - slack) <= found[member], "{shown}");
                assert!(found[member] <= by(at + SignedDuration::from_millis(1)) + 1, "{shown}");
                if loads[member] == Load::Idle {
                    assert_eq!([latest[member], found[member]], [before; 2], "{shown}");
                }
            }
            for copy in [2 * number, 2 * number + 1] {
                for member in ["crm", "cache", "uploads"] {
                    std::fs::remove_dir_all(place.path(&format!("{member}-{copy}"))).unwrap();
                }
            }
        }
        capturing.into_iter().for_each(Running::stop);
    }
}
