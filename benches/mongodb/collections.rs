//! Thousands of small collections: a restore, compared with a client that creates the same
//! collections over one connection.
//!
//! Both write to a server of their own that holds nothing else. The client creates a collection, an
//! index and the documents, one command after another; the restored server must then hold the same.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use backup_benches::{cpu_of, numbers, peak, user_of};
use backup_core::context::Context;
use backup_core::pipeline::restore;
use backup_core::source::RestoreRequest;
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use tokio::runtime::Runtime;

use crate::server::Server;
use crate::{Result, child, steps};

/// Number of collections, unless the command line sets another one.
pub(crate) const COLLECTIONS: u32 = 3000;
/// Collections of one database.
const PER_DATABASE: u32 = 100;
/// Documents of one collection.
const DOCUMENTS: i32 = 5;
/// Most wall seconds of the restore, as a multiple of the client's.
const LIMIT: f64 = 1.2;

/// The cost of one side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// User time of the client, seconds.
    user: f64,
    /// User and system time of the client, seconds.
    cpu: f64,
    wall: f64,
    /// Largest resident set of the client, megabytes.
    peak: f64,
    /// User and system time of the server, seconds.
    server: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {} {}", self.user, self.cpu, self.wall, self.peak, self.server)
    }
}

impl FromStr for Cost {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        let [user, cpu, wall, peak, server] = numbers(text, "a step")?;
        Ok(Self { user, cpu, wall, peak, server })
    }
}

/// The clock of one side.
struct Clock<'a> {
    started: Instant,
    user: f64,
    cpu: f64,
    server: f64,
    /// Process number of the server.
    process: &'a str,
}

impl<'a> Clock<'a> {
    fn start(process: &'a str) -> Result<Self> {
        let (user, cpu, server) = (user_of("self")?, cpu_of("self")?, cpu_of(process)?);
        Ok(Self { started: Instant::now(), user, cpu, server, process })
    }

    fn stop(&self) -> Result<Cost> {
        Ok(Cost {
            wall: self.started.elapsed().as_secs_f64(),
            user: user_of("self")? - self.user,
            cpu: cpu_of("self")? - self.cpu,
            peak: peak()?,
            server: cpu_of(self.process)? - self.server,
        })
    }
}

/// Measures both sides `runs` times and prints the medians; returns the missed limits.
pub(crate) fn judge(runtime: &Runtime, runs: u32, count: u32) -> Result<Vec<String>> {
    println!("\n{count} collections of {DOCUMENTS} documents and one index");
    println!(
        "{:<34}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "user s", "CPU s", "server s", "wall s", "peak MB"
    );
    let mut plain = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..runs {
        let (origin, target) = (Server::start()?, Server::start()?);
        let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
        let number = count.to_string();
        plain.push(child(&["plain", &origin.uri, &origin.process(), &number])?.parse()?);
        let scratch = scratch.path().to_str().ok_or("the scratch directory is not UTF-8")?;
        let args = ["collections", &origin.uri, &target.uri, &target.process(), scratch];
        ours.push(child(&args)?.parse()?);
        let expected = runtime.block_on(facts(&origin.uri))?;
        let restored = runtime.block_on(facts(&target.uri))?;
        if expected != restored {
            return Err("the restored collections differ from the original ones".into());
        }
    }
    let (plain, ours) = (median(plain), median(ours));
    print("client, one connection", plain);
    print("restore", ours);
    let share = ours.wall / plain.wall;
    println!("\nrestore: {share:.2} of the client's wall seconds (at most {LIMIT})");
    Ok(if share <= LIMIT { Vec::new() } else { vec!["restore of small collections".to_owned()] })
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    costs[costs.len() / 2]
}

fn print(title: &str, cost: Cost) {
    let Cost { user, cpu, wall, peak, server } = cost;
    println!("{title:<34}{user:>10.2}{cpu:>10.2}{server:>10.2}{wall:>10.2}{peak:>10.0}");
}

/// The client: creates `count` collections at an empty server.
pub(crate) async fn plain(args: &[String]) -> Result<Cost> {
    let [uri, process, count] = args else {
        return Err("a client requires three arguments".into());
    };
    let mut options = ClientOptions::parse(uri).await?;
    options.max_pool_size = Some(1);
    let client = Client::with_options(options)?;
    let clock = Clock::start(process)?;
    for n in 0..count.parse::<u32>()? {
        let db = client.database(&format!("tenant{:04}", n / PER_DATABASE));
        let name = format!("c{:03}", n % PER_DATABASE);
        db.run_command(doc! { "create": &name }).await?;
        let index = doc! { "key": { "email": 1 }, "name": "email_1", "unique": true };
        db.run_command(doc! { "createIndexes": &name, "indexes": [index] }).await?;
        let documents: Vec<Document> = (0..DOCUMENTS)
            .map(|id| doc! { "_id": id, "email": format!("{id}@{n}.example"), "n": f64::from(id) })
            .collect();
        db.run_command(doc! { "insert": &name, "documents": documents }).await?;
    }
    clock.stop()
}

/// Backs up the origin, and measures the restore into an empty server.
pub(crate) async fn restored(args: &[String]) -> Result<Cost> {
    let [origin, target, process, scratch] = args else {
        return Err("a restore requires four arguments".into());
    };
    let origin = steps::source(origin).await?;
    let (_, snapshot) = steps::backed_up(&origin, Path::new(scratch)).await?;
    let target = steps::source(target).await?;
    let clock = Clock::start(process)?;
    restore(&snapshot, &target, &RestoreRequest::default(), &Context::silent()).await?;
    clock.stop()
}

/// Of each database: digests of all collections, and the numbers of objects and indexes, as the
/// server reports them.
async fn facts(uri: &str) -> Result<Vec<Document>> {
    let client = Client::with_uri_str(uri).await?;
    let mut found = Vec::new();
    for name in client.list_database_names().await? {
        if matches!(name.as_str(), "admin" | "config" | "local") {
            continue;
        }
        let db = client.database(&name);
        let hashes = db.run_command(doc! { "dbHash": 1 }).await?;
        let counts = db.run_command(doc! { "dbStats": 1 }).await?;
        let mut facts = doc! { "db": name, "hashes": hashes.get_document("collections")?.clone() };
        for count in ["collections", "objects", "indexes"] {
            facts.insert(count, counts.get(count).cloned());
        }
        found.push(facts);
    }
    Ok(found)
}
