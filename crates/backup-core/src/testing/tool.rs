//! Finding other programs.

use std::path::{Path, PathBuf};

/// A program that `scripts/tools` fetches: in `$BACKUP_TEST_TOOLS/bin`, else in `.tools/bin` of the
/// workspace.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tools = std::env::var_os("BACKUP_TEST_TOOLS")
        .map_or_else(|| workspace.join(".tools"), PathBuf::from);
    let path = tools.join("bin").join(name);
    assert!(path.exists(), "{} is not there: run `scripts/tools {name}`", path.display());
    path
}
