//! Servers and their data.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backup_benches::tools;
use bson::{Document, doc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use crate::Result;

/// A replica set of one member, which ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) uri: String,
    _data: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `MONGOD`, or what `scripts/tools` has fetched.
fn program() -> Result<PathBuf> {
    std::env::var_os("MONGOD")
        .map_or_else(|| tools::tool("mongod-6.0"), |program| Ok(PathBuf::from(program)))
}

impl Server {
    /// Number of the server's process.
    pub(crate) fn process(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn start() -> Result<Self> {
        let data = tempfile::Builder::new().prefix("backup-bench-mongod-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program()?);
        command.args([
            "--replSet",
            "rs",
            "--oplogSize",
            "4000",
            "--wiredTigerCacheSizeGB",
            "2",
            "--nounixsocket",
        ]);
        command
            .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--dbpath"])
            .arg(data.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let server = Self { child, uri, _data: data };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(initiate(&server.uri, port))?;
        Ok(server)
    }
}

async fn initiate(uri: &str, port: u16) -> Result<()> {
    let client = Client::with_uri_str(uri).await?;
    let admin = client.database("admin");
    let config =
        doc! { "_id": "rs", "members": [{ "_id": 0, "host": format!("127.0.0.1:{port}") }] };
    admin.run_command(doc! { "replSetInitiate": config }).await?;
    let started = Instant::now();
    while !admin
        .run_command(doc! { "hello": 1 })
        .await?
        .get_bool("isWritablePrimary")
        .unwrap_or(false)
    {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("the server does not become a primary".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Half of it small documents (about 280 bytes), half of it large ones (about 3600): words that
/// compress.
pub(crate) async fn fill(uri: &str, megabytes: u32) -> Result<()> {
    let client = Client::with_uri_str(uri).await?;
    let mut random = StdRng::seed_from_u64(7);
    for (name, size, each) in [("small", 280, 1000), ("large", 3600, 500)] {
        let count = u64::from(megabytes) * 500_000 / size;
        for _ in 0..count / each {
            let documents: Vec<Document> = (0..each).map(|_| document(&mut random, size)).collect();
            client
                .database("bench")
                .run_command(doc! { "insert": name, "documents": documents })
                .await?;
        }
    }
    Ok(())
}

fn document(random: &mut StdRng, size: u64) -> Document {
    const WORDS: [&str; 12] = [
        "order", "customer", "street", "status", "paid", "open", "closed", "north", "amount",
        "note", "blue", "item",
    ];
    let mut text = String::new();
    while (text.len() as u64) < size.saturating_sub(120) {
        text.push_str(WORDS[random.random_range(0..WORDS.len())]);
        text.push_str(&random.random_range(0..10_000).to_string());
        text.push(' ');
    }
    doc! {
        "_id": bson::oid::ObjectId::new(), "n": random.random::<f64>(), "group": random.random_range(0..1000),
        "at": bson::DateTime::now(), "text": text,
    }
}

/// Drops what a step has left.
pub(crate) async fn clear(uri: &str) -> Result<()> {
    Client::with_uri_str(uri).await?.database("bench").drop().await?;
    Ok(())
}
