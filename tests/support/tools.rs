//! Finding other programs.

use std::path::{Path, PathBuf};

/// The workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// A program that `scripts/tools` fetches.
pub(crate) fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("BACKUP_TEST_TOOLS").map_or_else(|| workspace().join(".tools"), PathBuf::from);
    let path = tools.join("bin").join(name);
    assert!(path.exists(), "{} is not there: run `scripts/tools {name}`", path.display());
    path
}
