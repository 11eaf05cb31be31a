//! A store that dies and comes back, and programs that are waited for meanwhile.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use http::Method;

use super::servers::weed::SeaweedFs;

const BUCKET: &str = "bucket";
/// Longest that a program may take to notice.
const PATIENCE: Duration = Duration::from_secs(120);

/// An object store with a bucket for one repository.
pub(crate) struct DyingStore(SeaweedFs);

impl DyingStore {
    pub(crate) fn start() -> Self {
        let store = SeaweedFs::start();
        store.s3.send(Method::PUT, &format!("/{BUCKET}"), &[], b"").succeeded();
        Self(store)
    }

    /// Where the repository is.
    pub(crate) fn address(&self) -> String {
        let (endpoint, region) = (&self.0.s3.endpoint, &self.0.s3.region);
        format!("s3://{BUCKET}/backup?allow_http=true&endpoint={endpoint}&region={region}")
    }

    /// Credentials.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        self.0.s3.environment()
    }

    /// The repository `main` of a configuration: with little patience, so that failures come to
    /// light.
    pub(crate) fn config(&self) -> String {
        format!(
            "[repositories.main]\nurl = {:?}\npassphrase_env = \"BACKUP_PASSWORD\"\n\
             [repositories.main.store]\nretry_deadline = \"6s\"\nconnect_timeout = \"2s\"\n",
            self.address()
        )
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.0.server.kill();
    }

    /// Returns when the bucket can be written to again.
    pub(crate) fn start_again(&mut self) {
        self.0.start_again(BUCKET);
    }
}

/// Whether a program ends with success.
pub(crate) async fn ended(mut child: Child) -> bool {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the program does not end");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
