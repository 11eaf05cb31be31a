//! Programs: ours, and those of others that `scripts/tools` has fetched.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// A program of others, if it is there.
#[must_use]
pub fn tool_if_there(name: &str) -> Option<PathBuf> {
    let tools = std::env::var_os("BACKUP_TEST_TOOLS")
        .map_or_else(|| workspace().join(".tools"), PathBuf::from);
    Some(tools.join("bin").join(name)).filter(|path| path.exists())
}

/// A program of others.
///
/// # Errors
/// It is not there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let link = tool_if_there(name).ok_or(format!("{name} is missing: run scripts/tools {name}"))?;
    // Others lie beside the program itself.
    Ok(link.canonicalize()?)
}

/// `backup`, optimised: `BACKUP_BENCH_PROGRAM`, or else it is built here.
///
/// # Errors
/// It cannot be built.
pub fn backup() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("BACKUP_BENCH_PROGRAM") {
        return Ok(PathBuf::from(program));
    }
    let build = ["build", "--release", "--locked", "--package", "backup-cli", "--bin", "backup"];
    // That which runs the bench: another one would build everything anew.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(build).current_dir(workspace());
    // What cargo tells this bench of itself: build scripts that look at it would run again, and
    // everything be built anew.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        command.env_remove(name);
    }
    if !command.status()?.success() {
        return Err("building backup failed".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    Ok(target.join("release/backup"))
}

/// The first number of what a program says of its version.
///
/// # Errors
/// It cannot be run.
pub fn version(program: &Path, ask: &str) -> Result<String> {
    let said = Command::new(program).arg(ask).output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let mut words = said.split_whitespace().map(|word| word.trim_start_matches('v'));
    Ok(words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("?").to_owned())
}
