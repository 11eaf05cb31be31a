//! Running `pg_dump`: limits, output and refusals.

use std::process::Stdio;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::super::options::{Host, PostgresOptions};
use super::super::wire::Sql;
use crate::waits::{Ask, Waits};

/// Characters that a key of `\restrict` has at least.
const KEY: usize = 32;

/// Limits of a program that talks to a server: it may take long while the server answers.
pub(super) struct Limited<'a> {
    waits: &'a Waits,
    server: String,
    ask: Ask,
}

impl<'a> Limited<'a> {
    pub(super) fn of(options: &'a PostgresOptions, host: &Host, database: &str) -> Self {
        let ask = Sql::ask(options, host, database);
        Self { waits: &options.waits, server: host.to_string(), ask }
    }

    /// Runs `command` and returns its standard output.
    pub(super) async fn run(
        &self,
        cx: &Context,
        command: &mut Command,
        input: Option<String>,
        doing: &str,
    ) -> SourceResult<String> {
        let running = async {
            let Some(input) = input else { return command.output().await };
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            let mut stdin = child.stdin.take();
            let writing = async {
                if let Some(stdin) = &mut stdin {
                    // A program that ends before it has read everything reports the reason.
                    _ = stdin.write_all(input.as_bytes()).await;
                }
                drop(stdin);
            };
            tokio::join!(child.wait_with_output(), writing).0
        };
        let output = tokio::select! {
            () = cx.cancel.cancelled() => return Err(SourceError::cancelled()),
            output = self.waits.limit(&self.server, Some(&self.ask), running) => output,
        };
        let output = output.map_err(|stalled| SourceError::from(stalled).context(doing))?;
        let output = output.map_err(|error| {
            SourceError::new(SourceErrorKind::Invalid, doing.to_owned()).with_source(error)
        })?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !output.status.success() {
            return Err(refused(doing, &said));
        }
        if !said.is_empty() {
            cx.events.note(said);
        }
        String::from_utf8(output.stdout).map(settled).map_err(|_| {
            SourceError::new(
                SourceErrorKind::Unsupported,
                format!("{doing}: names of objects are not UTF-8"),
            )
            .with_hint("rename these objects, or back up the cluster physically")
        })
    }
}

/// Replaces the random key of `\restrict` and `\unrestrict`, which newer programs write, by one
/// that depends on the text: the same objects give the same text. psql runs no commands of its own
/// between the two, so the key must be hard to foresee for the text in between.
fn settled(text: String) -> String {
    // Not one of a text in the dump: before its own one there are only comments.
    let head = text
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("--") || line.starts_with('\\'));
    let key = head.filter_map(|line| line.strip_prefix("\\restrict ")).next().map(str::to_owned);
    let is_key =
        |key: &String| key.len() >= KEY && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let Some(key) = key.filter(is_key) else { return text };
    let bare = text.replace(&key, "");
    let settled = hex::encode(Sha256::digest(bare.as_bytes()));
    text.replace(&key, &settled)
}

/// The error of a program that failed; `said` is its standard error.
fn refused(doing: &str, said: &str) -> SourceError {
    let brief: Vec<&str> =
        said.lines().filter(|line| !line.contains("detail: Query was")).take(3).collect();
    let text = format!("{doing}: {}", brief.join("; "));
    let is_lock = ["statement timeout", "lock timeout", "could not obtain lock"]
        .iter()
        .any(|reason| said.contains(reason));
    if is_lock {
        return SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
            "try again later, or wait longer (lock_timeout): another session holds a lock",
        );
    }
    // It looks some things up as they are now, and not as its snapshot shows them.
    let races = [
        "cache lookup failed",
        "could not open relation with OID",
        "could not find tuple",
        "concurrently",
    ];
    if races.iter().any(|reason| said.contains(reason))
        || (said.contains("with OID") && said.contains("not exist"))
    {
        return SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
            "try again later, or exclude these schemas: their definitions change all the time",
        );
    }
    let error = SourceError::new(SourceErrorKind::Invalid, text);
    if said.contains("permission denied") {
        return error.with_hint(
            "GRANT pg_read_all_data to the backup role (before version 14: USAGE on each schema, \
             SELECT on each table)",
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_objects_give_the_same_text() {
        let dump = |key: &str| {
            format!("--\n\n\\restrict {key}\n\nCREATE TABLE t ();\n\n\\unrestrict {key}\n")
        };
        let (one, other) = ("abc123".repeat(10), "xyz".repeat(21));
        let settled_one = settled(dump(&one));
        assert_eq!(settled_one, settled(dump(&other)));
        assert!(!settled_one.contains("abc123") && settled_one.len() > dump("").len() + 100);
        assert_ne!(settled_one, settled(dump(&one).replace("TABLE t", "TABLE u")));
        // Older programs make none; then a line of a function's body is none either.
        let body = format!("--\n\nCREATE FUNCTION f() AS $$\n\\restrict {one}\n$$;\n");
        assert_eq!(settled(body.clone()), body);
        assert_eq!(settled("CREATE TABLE t ();".to_owned()), "CREATE TABLE t ();");
    }
}
