//! The commands of others.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::server::{Server, programs, unprivileged};
use backup_benches::tools::tool;

/// Backups of pgBackRest of which only changed blocks are stored, and what the first of them builds
/// on.
pub(crate) const FULL: &str = "full";
pub(crate) const INCREMENT: &str = "incremental";

/// So many transactions as of TPC-B, on a bank of so many branches.
pub(crate) fn transactions(server: &Server, count: u32) -> Result<Command> {
    let mut command = client("pgbench", server)?;
    // Two clients, which wait for each other where they want the same row.
    command.args(["-n", "-c", "2", "-t", &(count / 2).to_string(), "postgres"]);
    Ok(command)
}

/// That bank.
pub(crate) fn bank(server: &Server, branches: u32) -> Result<Command> {
    let mut command = client("pgbench", server)?;
    command.args(["-i", "-q", "-s", &branches.to_string(), "postgres"]);
    Ok(command)
}

/// A client of the server.
fn client(name: &str, server: &Server) -> Result<Command> {
    let mut command = Command::new(programs()?.join(name));
    command.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "postgres"]);
    Ok(command)
}

/// `pg_dump -Fc`, as it compresses by itself.
pub(crate) fn dump(server: &Server, to: &Path) -> Result<Command> {
    let mut command = client("pg_dump", server)?;
    command.arg("-Fc").arg("-f").arg(to);
    Ok(command)
}

/// `pg_basebackup` as one archive, without the log, compressed as ours is.
pub(crate) fn base_backup(server: &Server, to: &Path) -> Result<Command> {
    let stock = client("pg_basebackup", server)?;
    let mut command = Command::new("bash");
    // The pipe is the shell's, and everything else is handed to it.
    command.args([
        "-o",
        "pipefail",
        "-c",
        "zstd=$1 to=$2; shift 2; \"$@\" -Ft -X none -c fast -D - | \"$zstd\" -q -3 -T2 -o \"$to\"",
    ]);
    command.arg("bash").arg(tool("zstd")?).arg(to).arg(stock.get_program()).args(stock.get_args());
    Ok(command)
}

/// pgBackRest with zstd as we have it, into a repository of its own; it must not be run as root, as
/// little as servers.
pub(crate) fn pgbackrest(
    server: &Server,
    repository: &Path,
    encrypts: bool,
    verb: &str,
) -> Result<Command> {
    let program = tool("pgbackrest")?;
    let mut command = unprivileged(&program);
    command.args(["--stanza=bench", "--log-level-file=off", "--log-level-console=warn"]);
    command.arg(format!("--repo1-path={}", repository.display()));
    command.arg(format!("--lock-path={}", repository.with_extension("locks").display()));
    if encrypts {
        command
            .arg("--repo1-cipher-type=aes-256-cbc")
            .env("PGBACKREST_REPO1_CIPHER_PASS", "of the bench");
    }
    match verb {
        "restore" => {
            command.arg(format!("--pg1-path={}", repository.with_extension("restored").display()));
            command.args(["--process-max=2", "--type=none"]);
        }
        _ => {
            command.arg(format!("--pg1-path={}", server.data().display()));
            command.arg(format!("--pg1-port={}", server.port));
            command.arg(format!("--pg1-socket-path={}", server.sockets().display()));
            command.args(["--pg1-user=postgres", "--pg1-database=postgres"]);
        }
    }
    if let "backup" | FULL | INCREMENT = verb {
        command.arg(if verb == INCREMENT { "--type=incr" } else { "--type=full" });
        if verb != "backup" {
            command.args(["--repo1-bundle", "--repo1-block"]);
        }
        command.args(["--start-fast", "--no-archive-check", "--process-max=2"]);
        command.args(["--compress-type=zst", "--compress-level=3"]);
    }
    // It starts itself, several times.
    if verb != "stanza-create" {
        command.arg(format!("--cmd={}", program.display()));
    }
    command.arg(if let FULL | INCREMENT = verb { "backup" } else { verb });
    Ok(command)
}
