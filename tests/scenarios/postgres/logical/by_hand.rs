//! Restoring with stock tools: `restic restore`, and then `psql`.

use backup_core::source::Selection;
use std::path::Path;

use super::fill::{fill, looks};
use super::{Version, backed_up, definitions, digests, logical, source, stock};
use crate::support::postgres::Postgres;
use crate::support::repo::Repo;
use crate::support::restic::Restic;

/// As docs/postgres.md says.
pub(crate) async fn restic_and_psql_are_enough(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    fill(&server, version).await;
    let room = tempfile::tempdir().unwrap();
    let repo = Repo::in_dir(&room.path().join("repo")).await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let out = room.path().join("out");
    let restic = Restic::new("restic-new", &room.path().join("repo"), repo.passphrase.reveal());
    restic.restore(&snapshot.id().to_hex(), &out);
    let cluster = std::fs::read_dir(out.join("postgres")).unwrap().next().unwrap().unwrap().path();
    let top = cluster.join("logical");
    let run = |database: &str, file: &Path| {
        stock(
            &copy,
            "psql",
            database,
            &["-q", "-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap()],
        );
    };
    // The administrator is there already.
    let globals = std::fs::read_to_string(top.join("globals.sql")).unwrap();
    let globals: String = globals
        .lines()
        .filter(|line| !line.ends_with("ROLE postgres;"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(top.join("globals.sql"), globals).unwrap();
    run("postgres", &top.join("globals.sql"));
    for database in ["shop", "Other; one"] {
        let dir = top.join(database);
        run("postgres", &dir.join("database.sql"));
        run(database, &dir.join("pre-data.sql"));
        load(&copy, database, &dir);
        run(database, &dir.join("sequences.sql"));
        run(database, &dir.join("large-objects.sql"));
        run(database, &dir.join("post-data.sql"));
    }
    assert_eq!(digests(&server).await, digests(&copy).await);
    assert_eq!(definitions(&server, "shop"), definitions(&copy, "shop"));
    assert_eq!(looks(&server).await, looks(&copy).await);
}

/// The rows of each table, by what the manifest says of its files.
fn load(copy: &Postgres, database: &str, dir: &Path) {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let name = |value: &serde_json::Value| format!("\"{}\"", value.as_str().unwrap());
    for table in manifest["tables"].as_array().unwrap() {
        let columns =
            table["columns"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(", ");
        let columns = if columns.is_empty() { columns } else { format!("({columns})") };
        for file in table["files"].as_array().unwrap() {
            let path = dir.join(file["path"].as_str().unwrap());
            let (schema, table) = (name(&table["schema"]), name(&table["name"]));
            let from = format!(
                "\\copy {schema}.{table}{columns} FROM '{}' WITH (ENCODING 'UTF8')",
                path.display()
            );
            stock(copy, "psql", database, &["-q", "-v", "ON_ERROR_STOP=1", "-c", &from]);
        }
    }
}
