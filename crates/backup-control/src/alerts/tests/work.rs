//! The work of an evaluation: queries of the catalog, counted and not timed.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::audit::Audit;
use crate::catalog::{Catalog, Found, History, Home, RunFilter, SharedCatalog};
use crate::config::{self, Config, LoadedConfig};
use crate::environment::Environment;
use crate::runs::RunId;

/// A catalog that counts queries and the runs that they return.
#[derive(Debug)]
struct Counting {
    inner: SharedCatalog,
    queries: AtomicUsize,
    runs: AtomicUsize,
}

impl Counting {
    async fn open(dir: &Path) -> Self {
        let opened = catalog::open(&Home::Directory(dir.to_path_buf()), now()).await.unwrap();
        Self { inner: opened.catalog, queries: AtomicUsize::new(0), runs: AtomicUsize::new(0) }
    }

    /// Queries and returned runs since the last call.
    fn counts(&self) -> (usize, usize) {
        (self.queries.swap(0, Ordering::Relaxed), self.runs.swap(0, Ordering::Relaxed))
    }
}

#[async_trait]
impl Catalog for Counting {
    async fn add(&self, run: &Run) -> catalog::Result<()> {
        self.inner.add(run).await
    }

    async fn update(&self, run: &Run) -> catalog::Result<()> {
        self.inner.update(run).await
    }

    async fn relocate(&self, run: &RunId, repository: &str) -> catalog::Result<()> {
        self.inner.relocate(run, repository).await
    }

    async fn runs(&self, filter: &RunFilter) -> catalog::Result<Found> {
        let found = self.inner.runs(filter).await?;
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.runs.fetch_add(found.runs.len(), Ordering::Relaxed);
        Ok(found)
    }

    async fn history(&self, of: &History) -> catalog::Result<Found> {
        let found = self.inner.history(of).await?;
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.runs.fetch_add(found.runs.len(), Ordering::Relaxed);
        Ok(found)
    }

    async fn jobs(&self, repository: &str) -> catalog::Result<Vec<String>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.inner.jobs(repository).await
    }

    async fn named(&self, beginning: &str) -> catalog::Result<Vec<Run>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.inner.named(beginning).await
    }
}

/// A configuration with this number of jobs in two repositories.
fn configured(jobs: usize) -> (Config, Scope) {
    let mut text = "[repositories.main]\nurl = \"/repo\"\n[repositories.other]\nurl = \"/other\"\n\
                    [sources.data]\nkind = \"files\"\npaths = [\"/data\"]\n"
        .to_owned();
    for job in 0..jobs {
        let repository = if job % 2 == 0 { "main" } else { "other" };
        text += &format!("[jobs.job{job:03}]\nsource = \"data\"\nrepository = \"{repository}\"\n");
    }
    let file = Path::new("/etc/backup.toml");
    let config = config::parse(&text, file, &Environment::default()).unwrap();
    let scope = Scope::of(&LoadedConfig {
        file: file.to_path_buf(),
        config: config.clone(),
        origins: Default::default(),
        resolved: Default::default(),
        sha256: None,
    });
    (config, scope)
}

/// Adds 40 backups of each job; the oldest one failed.
async fn fill(catalog: &Counting, scope: &Scope) {
    for job in scope.jobs.keys() {
        for hours in 0..40 {
            let state = if hours == 39 { State::Failed } else { State::Verified };
            let mut run = run(hours, 1, state);
            run.job = job.clone();
            run.repository = scope.of_job(job).unwrap().to_owned();
            run.id = RunId::new(run.started);
            catalog.add(&run).await.unwrap();
        }
    }
}

#[tokio::test]
async fn evaluation_of_all_jobs_takes_two_queries() {
    for jobs in [1, 30] {
        let dir = tempfile::tempdir().unwrap();
        let (catalog, (config, scope)) = (Counting::open(dir.path()).await, configured(jobs));
        fill(&catalog, &scope).await;
        let audit = Audit::in_state(dir.path());
        let facts = Facts::remembered(&config, &scope, &catalog, audit, "host").await.unwrap();
        // One for backups, one for restores. 25 backups are the newest, and the newest successes
        // of their type; the other one is the first.
        assert_eq!(catalog.counts(), (2, jobs * 26), "{jobs} jobs");
        assert_eq!((facts.jobs.len(), facts.repositories.len()), (jobs, 2));
        let known = &facts.jobs["job000"];
        assert_eq!(known.runs.len(), 25);
        assert_eq!(known.last_success, Some(now()));
        assert_eq!(known.first_run, Some(now() - SignedDuration::from_hours(39)));
        assert_eq!(facts.repositories["main"].last_success, Some(now()));
    }
}

#[tokio::test]
async fn evaluation_after_a_run_reads_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, (config, scope)) = (Counting::open(dir.path()).await, configured(30));
    fill(&catalog, &scope).await;
    let of = async |affected: &Affected| {
        let audit = Audit::in_state(dir.path());
        Facts::of_affected(affected, &config, &scope, &catalog, audit, "host").await.unwrap()
    };
    let facts = of(&Affected::job("job007")).await;
    assert_eq!(catalog.counts(), (2, 26));
    assert_eq!(facts.jobs.keys().collect::<Vec<_>>(), ["job007"]);
    assert!(facts.repositories.is_empty() && !facts.is_whole);
    let verified = Affected { repositories: ["/other".to_owned()].into(), ..Affected::default() };
    let facts = of(&verified).await;
    assert_eq!(catalog.counts(), (1, 1), "the last success");
    assert_eq!(facts.repositories.keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(facts.repositories["other"].last_success, Some(now()));
    of(&Affected::default()).await;
    assert_eq!(catalog.counts(), (0, 0));
}
