//! Counting the instructions of one process.

use std::path::{Path, PathBuf};
use std::process::Command;

use backup_benches::Result;

/// valgrind as `scripts/tools` unpacks it. Always that one: what counts as an instruction, and
/// which processor a program sees, are the version's.
pub(crate) struct Callgrind {
    program: PathBuf,
    /// Where its own parts lie.
    parts: PathBuf,
}

impl Callgrind {
    pub(crate) fn find() -> Result<Self> {
        let tools = std::env::var_os("BACKUP_TEST_TOOLS").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools"),
            PathBuf::from,
        );
        let link = tools.join("bin/valgrind");
        let program = link
            .canonicalize()
            .map_err(|_| format!("{} is missing: run scripts/tools valgrind", link.display()))?;
        let parts = program.with_file_name("../libexec/valgrind").canonicalize()?;
        Ok(Self { program, parts })
    }

    /// Instructions of one round of a stage.
    pub(crate) fn round(&self, stage: &str, dir: &Path) -> Result<u64> {
        let (one, two) = (self.rounds(stage, 1, dir)?, self.rounds(stage, 2, dir)?);
        Ok(two
            .checked_sub(one)
            .ok_or(format!("{stage}: two rounds took fewer instructions than one"))?)
    }

    fn rounds(&self, stage: &str, rounds: u32, dir: &Path) -> Result<u64> {
        let output = Command::new(&self.program)
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe()?)
            .args(["--round", stage, &rounds.to_string()])
            .arg(dir)
            .env("VALGRIND_LIB", &self.parts)
            // Copies by `rep movsb` count once for each byte, and where they begin to pay depends
            // on the processor's caches.
            .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{stage}: {said}").into());
        }
        let collected = said
            .lines()
            .find_map(|line| line.split_once("Collected :"))
            .map(|(_, count)| count.trim());
        Ok(collected.ok_or(format!("{stage}: callgrind printed no count: {said}"))?.parse()?)
    }
}

/// Of every processor with AVX2 valgrind shows a program the same one, without the instructions for
/// SHA-256.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sees_the_same_everywhere() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn sees_the_same_everywhere() -> bool {
    false
}
