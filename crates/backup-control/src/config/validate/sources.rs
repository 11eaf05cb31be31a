//! Values of `[sources.NAME]`: addresses, passwords, ranges, and keys of one method.

use std::time::Duration;

use super::{Mistake, name};
use crate::address::ServerAddress;
use crate::config::{MethodConfig, ReaderConfig, SourceConfig, SourceKind};

/// How many cursors a collection may be read with.
const CURSORS: std::ops::RangeInclusive<usize> = 1..=64;

/// Shortest time-out: an idle Redis master sends something every 10 seconds.
const MIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Shortest silence after which another member of a replica set is read.
const MIN_MEMBER_TIMEOUT: Duration = Duration::from_secs(1);

/// Shortest time limit of a whole dump of Redis.
const MIN_DUMP_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn source(own: &str, source: &SourceConfig) -> Result<(), Mistake> {
    const SECTION: &str = "sources";
    name(SECTION, "source", own)?;
    if let Some((key, owners)) =
        source.keys_of_kinds().find(|(_, owners)| !owners.contains(&source.kind))
    {
        let message = format!("a source of kind `{}` has no `{key}`", source.kind);
        let owners =
            owners.iter().map(|owner| format!("`{owner}`")).collect::<Vec<_>>().join(" or ");
        return Err(Mistake::new([SECTION, own, key], message).hint(Some(format!(
            "`{key}` is for sources of kind {owners}; leave the key out, or change `kind`"
        ))));
    }
    if source.timeout.as_ref().is_some_and(|timeout| timeout.length() < MIN_TIMEOUT) {
        let text = format!("`timeout` is shorter than {} seconds", MIN_TIMEOUT.as_secs());
        let hint = match source.kind {
            SourceKind::Files => {
                "a disk that sleeps needs some seconds; without the key it is 5min"
            }
            _ => {
                "servers in replication send something every 10 seconds only; without the key it \
                 is 60s"
            }
        };
        return Err(Mistake::new([SECTION, own, "timeout"], text).hint(Some(hint.to_owned())));
    }
    match source.kind {
        SourceKind::Files => files(own, source),
        SourceKind::Mongodb => mongodb(own, source),
        SourceKind::Postgres => postgres(own, source),
        SourceKind::Redis => redis(own, source),
    }
}

fn files(own: &str, source: &SourceConfig) -> Result<(), Mistake> {
    if source.paths.is_empty() || source.paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Mistake::new(["sources", own, "paths"], "a path is missing")
            .hint(Some("name at least one directory or file in `paths`".to_owned())));
    }
    Ok(())
}

/// The address of a server, of which `is_one` says whether it is of the right kind, and its
/// password.
fn server(
    own: &str,
    source: &SourceConfig,
    what: &str,
    is_one: fn(&ServerAddress) -> bool,
    hint: &str,
) -> Result<(), Mistake> {
    let at = ["sources", own, "url"];
    let Some(url) = &source.url else {
        return Err(
            Mistake::new(at, "the address of the server is missing").hint(Some(hint.to_owned()))
        );
    };
    if !is_one(url) {
        return Err(Mistake::new(at, format!("`url` is not an address of a {what} server"))
            .hint(Some(hint.to_owned())));
    }
    let given: Vec<&str> = [
        ("password_file", source.password_file.is_some()),
        ("password_env", source.password_env.is_some()),
        ("password_command", source.password_command.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    if let [_, second, ..] = given[..] {
        return Err(Mistake::new(["sources", own, second], "the password is set by several keys")
            .hint(Some(format!("keep one of `{}`", given.join("`, `")))));
    }
    Ok(())
}

fn mongodb(own: &str, source: &SourceConfig) -> Result<(), Mistake> {
    const HINT: &str = "for instance `url = \"mongodb://USER@HOST/?replicaSet=NAME\"`";
    server(own, source, "MongoDB", ServerAddress::is_mongodb, HINT)?;
    let is_name = |name: &str| {
        !name.is_empty() && (name == "*" || !name.contains(['/', '\\', '.', '"', ' ', '$', '*']))
    };
    if source.database.as_ref().is_some_and(|name| !is_name(name)) {
        let hint = "name one database, or write `*` for all; the job's `include` takes patterns";
        return Err(Mistake::new(["sources", own, "database"], "not a name of a database")
            .hint(Some(hint.to_owned())));
    }
    if let Some(cursors) = source.cursors.filter(|cursors| !CURSORS.contains(cursors)) {
        let message = format!("{cursors} cursors for a collection are out of range");
        return Err(Mistake::new(["sources", own, "cursors"], message).hint(Some(format!(
            "choose from {} to {}; without the key it is 4",
            CURSORS.start(),
            CURSORS.end()
        ))));
    }
    if source.member_timeout.as_ref().is_some_and(|limit| limit.length() < MIN_MEMBER_TIMEOUT) {
        let hint = "a busy server needs some seconds; without the key it is 10s".to_owned();
        return Err(Mistake::new(
            ["sources", own, "member_timeout"],
            "`member_timeout` is shorter than one second",
        )
        .hint(Some(hint)));
    }
    parallel(own, source, 8)
}

/// Checks the range of `parallel`; without the key it is `default`.
fn parallel(own: &str, source: &SourceConfig, default: usize) -> Result<(), Mistake> {
    if source.parallel.is_none_or(|count| CURSORS.contains(&count)) {
        return Ok(());
    }
    let (start, end) = (CURSORS.start(), CURSORS.end());
    let hint = format!("choose from {start} to {end}; without the key it is {default}");
    Err(Mistake::new(["sources", own, "parallel"], "`parallel` is out of range").hint(Some(hint)))
}

fn postgres(own: &str, source: &SourceConfig) -> Result<(), Mistake> {
    const HINT: &str = "for instance `url = \"postgres://USER@HOST,HOST2/\"`";
    server(own, source, "PostgreSQL", ServerAddress::is_postgres, HINT)?;
    if source.system_id.as_ref().is_some_and(|id| id.parse::<u64>().is_err()) {
        let hint = "copy \"Database system identifier\" from the output of `pg_controldata`, or \
                    leave `system_id` out";
        return Err(Mistake::new(
            ["sources", own, "system_id"],
            "not a system identifier of a cluster",
        )
        .hint(Some(hint.to_owned())));
    }
    let is_logical = source.method == Some(MethodConfig::Logical);
    if let Some(key) = keys_of_method(source, !is_logical)
        .into_iter()
        .find_map(|(key, given)| given.then_some(key))
    {
        let (other, word) =
            if is_logical { ("physical", "logical") } else { ("logical", "physical") };
        let hint = format!("leave the key out: it is for `method = \"{other}\"`");
        return Err(Mistake::new(
            ["sources", own, key],
            format!("`{key}` has no effect on {word} backups"),
        )
        .hint(Some(hint)));
    }
    parallel(own, source, 4)?;
    // As the server takes them; so it is no statement either.
    let is_name = |name: &str| {
        name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if source.slot.as_ref().is_some_and(|name| !is_name(name) || name.len() > 63) {
        return Err(Mistake::new(
            ["sources", own, "slot"],
            "not a valid name of a replication slot",
        )
        .hint(Some("use up to 63 lower-case letters, digits and underscores".to_owned())));
    }
    Ok(())
}

fn redis(own: &str, source: &SourceConfig) -> Result<(), Mistake> {
    const HINT: &str = "for instance `url = \"redis://USER@HOST:6379\"`, or rediss:// for TLS";
    server(own, source, "Redis or Valkey", ServerAddress::is_redis, HINT)?;
    let pair = [
        ("tls_certificate_file", &source.tls_key_file),
        ("tls_key_file", &source.tls_certificate_file),
    ];
    if source.tls_certificate_file.is_some() != source.tls_key_file.is_some()
        && let Some((missing, _)) = pair.into_iter().find(|(_, other)| other.is_some())
    {
        let hint = format!("set `{missing}`");
        let text = "a certificate requires its key, and a key its certificate";
        return Err(Mistake::new(["sources", own, missing], text).hint(Some(hint)));
    }
    let mistake = |key: &str, text: &str| Err(Mistake::new(["sources", own, key], text));
    if source.dump_timeout.as_ref().is_some_and(|limit| limit.length() < MIN_DUMP_TIMEOUT) {
        let hint = "a server may wait some seconds before a dump; without the key it is 24h";
        let text = "`dump_timeout` is shorter than one minute";
        return Err(
            Mistake::new(["sources", own, "dump_timeout"], text).hint(Some(hint.to_owned()))
        );
    }
    if source.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        return mistake("name", "the name of the server is empty");
    }
    let has_sentinels = source.url.as_ref().is_some_and(ServerAddress::has_sentinels);
    let logins = [
        ("sentinel_user", source.sentinel_user.is_some()),
        ("sentinel_password_file", source.sentinel_password_file.is_some()),
    ];
    if let Some((key, _)) = logins.into_iter().find(|(_, given)| *given && !has_sentinels) {
        let text = format!("`{key}` requires an address with sentinels");
        let hint = "leave the key out, or write `url = \"redis+sentinel://SENTINEL/GROUP\"`";
        return Err(Mistake::new(["sources", own, key], text).hint(Some(hint.to_owned())));
    }
    if source.scan_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
        return mistake("scan_percent", "`scan_percent` is out of range: choose from 1 to 100");
    }
    if source.scan_percent.is_some() && source.reader == Some(ReaderConfig::Replica) {
        return mistake("scan_percent", "`scan_percent` has no effect with `reader = \"replica\"`");
    }
    let is_command =
        |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if source.psync.as_ref().is_some_and(|name| !is_command(name)) {
        return mistake("psync", "not a valid name of a command");
    }
    Ok(())
}

/// The keys that only logical backups have, or only physical ones, and whether they are given.
fn keys_of_method(source: &SourceConfig, logical: bool) -> Vec<(&'static str, bool)> {
    if logical {
        return vec![
            ("programs", source.programs.is_some()),
            ("parallel", source.parallel.is_some()),
            ("lock_timeout", source.lock_timeout.is_some()),
            ("digests", source.digests.is_some()),
        ];
    }
    vec![("slot", source.slot.is_some()), ("fast_checkpoint", source.fast_checkpoint.is_some())]
}
